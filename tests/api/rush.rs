//! Many callers of something slow, and how many of them come before somebody else.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyrum_tests::wait::{LONG, until_true};
use tokio::task::JoinSet;

/// Callers of the same thing, who call again and again until this is dropped.
pub(crate) struct Rush {
    answered: Arc<AtomicUsize>,
    _callers: JoinSet<()>,
}

impl Rush {
    /// Returns once there were more good answers than there are callers. A call says whether its answer is
    /// good.
    pub(crate) async fn start<F, C>(callers: usize, call: F) -> Self
    where
        F: Fn() -> C + Clone + Send + 'static,
        C: Future<Output = bool> + Send,
    {
        let answered = Arc::new(AtomicUsize::new(0));
        let mut all = JoinSet::new();
        for _ in 0..callers {
            let (call, answered) = (call.clone(), answered.clone());
            all.spawn(async move {
                loop {
                    let good = call().await;
                    answered.fetch_add(usize::from(good), Ordering::Relaxed);
                }
            });
        }
        let at_work = async || answered.load(Ordering::Relaxed) > callers;
        until_true("answers for all callers", LONG, at_work).await;
        Self {
            answered,
            _callers: all,
        }
    }

    /// How many good answers came during another call: the median of 21.
    pub(crate) async fn before(&self, mut other: impl AsyncFnMut()) -> usize {
        let mut came = [0; 21];
        for came in &mut came {
            let before = self.answered.load(Ordering::Relaxed);
            other().await;
            *came = self.answered.load(Ordering::Relaxed) - before;
        }
        came.sort_unstable();
        came[came.len() / 2]
    }
}
