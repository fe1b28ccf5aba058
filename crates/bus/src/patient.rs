//! Publishing with patience: for answers that nobody would ask for again soon.

use std::time::Duration;

use foreplan_protocol::{Message, Subject};

use crate::{Bus, Error};

/// The wait before the second attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// Attempts: with the doubling waits between them, 2.5 s. Who is busy for longer than that is
/// served better by asking again later.
const ATTEMPTS_MAX: u32 = 9;

/// Publishes a message, trying again for a few seconds while nobody can take it.
///
/// # Cancel safety
///
/// Dropped before it returns, the message may be queued or not.
///
/// # Errors
///
/// The last error, once no attempt is left.
pub async fn publish_patiently(bus: &dyn Bus, to: Subject, message: Message) -> Result<(), Error> {
    let mut wait = FIRST_WAIT;
    for _ in 1..ATTEMPTS_MAX {
        match bus.publish(to.clone(), message.clone()).await {
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            done => return done,
        }
    }
    bus.publish(to, message).await
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use foreplan_core::{id::RunId, input::Input};

    use super::*;
    use crate::MemoryBus;

    /// Publishes to a consumer that is busy for its first `refusals` messages.
    async fn publish_to(refusals: u32) -> (Result<(), Error>, u32) {
        let bus = MemoryBus::new();
        let seen = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&seen);
        let consumer = move |_| {
            let busy = count.fetch_add(1, Ordering::SeqCst) < refusals;
            if busy { Err(Error::Busy("planner".to_owned())) } else { Ok(()) }
        };
        bus.serve(Subject::Planner, Box::new(consumer));
        let message = Message::Input { run: RunId(uuid::Uuid::nil()), input: Input::Wake };
        let result = publish_patiently(&bus, Subject::Planner, message).await;
        (result, seen.load(Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_consumer_is_asked_again() {
        assert_eq!(publish_to(3).await, (Ok(()), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let (result, asked) = publish_to(u32::MAX).await;
        assert_eq!(result, Err(Error::Busy("planner".to_owned())));
        assert_eq!(asked, ATTEMPTS_MAX);
    }
}
