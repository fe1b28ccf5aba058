//! When a message is dealt with: a bus that keeps messages until then learns it from a receipt.

use tokio::sync::oneshot;

/// Goes with a message that a bus keeps until it is dealt with. Dropped without
/// [`Receipt::settle`], the message counts as not dealt with, and comes again.
#[derive(Debug, Default)]
#[must_use = "a receipt that is dropped makes the message come again"]
pub struct Receipt(Option<oneshot::Sender<()>>);

/// Where a bus learns that a message was dealt with.
#[derive(Debug)]
pub struct Settled(oneshot::Receiver<()>);

impl Receipt {
    /// Makes the receipt of a message that nobody keeps.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Makes a receipt, and where it is noticed.
    pub fn pair() -> (Self, Settled) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), Settled(receiver))
    }

    /// Says that the message is dealt with: its effects are durable.
    pub fn settle(self) {
        if let Some(sender) = self.0 {
            // A bus that no longer listens lets the message come again; that is harmless.
            let _ = sender.send(());
        }
    }
}

impl Settled {
    /// Waits until the message is dealt with; `false` if it never will be.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn wait(&mut self) -> bool {
        (&mut self.0).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_receipt_that_is_dropped_is_not_settled() {
        let (receipt, mut settled) = Receipt::pair();
        drop(receipt);
        assert!(!settled.wait().await);
        let (receipt, mut settled) = Receipt::pair();
        receipt.settle();
        assert!(settled.wait().await);
    }
}
