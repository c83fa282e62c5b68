//! How long a caller waits: reads and proposals give up in time to say what became of them.

use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static ANSWER_BY: Instant;
}

/// Does work for a caller who waits until `by`: reads and proposals in it, in the same task, give
/// up then, if not earlier by themselves.
///
/// Handed down beside the arguments, since it belongs to the request and no operation looks at it.
pub async fn answer_by<T>(by: Instant, work: impl Future<Output = T>) -> T {
    ANSWER_BY.scope(by, work).await
}

/// When work that may take `limit` by itself gives up.
pub(crate) fn give_up_at(limit: Duration) -> Instant {
    let own = Instant::now() + limit;
    ANSWER_BY.try_with(|by| own.min(*by)).unwrap_or(own)
}
