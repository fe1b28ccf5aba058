//! Where the executor reads the time, so that tests can say what time it is.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use foreplan_core::time::Timestamp;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Returns a clock that reads the system's.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().plus(since_epoch)
    })
}
