//! When a message is dealt with: a bus that keeps messages until then learns it from a receipt.

use std::fmt;

use tokio::sync::oneshot;

/// Goes with a message that a bus keeps until it is dealt with. Dropped without
/// [`Receipt::settle`], the message counts as not dealt with, and comes again.
#[derive(Default)]
#[must_use = "a receipt that is dropped makes the message come again"]
pub struct Receipt(Option<Box<dyn FnOnce() + Send + Sync>>);

/// Where a bus learns that a message was dealt with.
#[derive(Debug)]
pub struct Settled(oneshot::Receiver<()>);

impl Receipt {
    /// Makes the receipt of a message that nobody keeps.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Makes a receipt that does this once it is settled: it must not wait for anything.
    pub fn new(settle: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(settle)))
    }

    /// Makes a receipt, and where it is noticed.
    pub fn pair() -> (Self, Settled) {
        let (sender, receiver) = oneshot::channel();
        let settle = move || {
            // A bus that no longer listens lets the message come again; that is harmless.
            let _ = sender.send(());
        };
        (Self::new(settle), Settled(receiver))
    }

    /// Says that the message is dealt with: its effects are durable.
    pub fn settle(self) {
        if let Some(settle) = self.0 {
            settle();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt").field(&self.0.is_some()).finish()
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
