//! Waiting for a condition instead of for time to pass.

use std::time::Duration;

use tokio::time::Instant;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `look` finds something; panics, naming `what`, when it does not within `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {limit:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The same for a condition without a value.
pub async fn until_true(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> bool) {
    until(what, limit, async || look().await.then_some(())).await;
}

/// A few seconds: what an answer or a change of leader may take on a busy machine.
pub const SHORT: Duration = Duration::from_secs(10);

/// What a start or a catching up may take on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);
