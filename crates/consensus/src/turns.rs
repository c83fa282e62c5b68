//! Turns of work that computes for a while on the threads that answer.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// How long a thread works in turns before the answers go out and it looks for other work. One RSA_4096
/// signature takes as long, or six of RSA_2048: these and their answers together cost some 5 % less of a
/// processor than one by one, since the code in between is found in the core's caches.
const AT_ONCE: Duration = Duration::from_micros(1_500);

thread_local! {
    /// How long this thread worked since it looked for other work.
    static WORKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Lets only so many work at once, each on its caller's thread, and has the thread look for other work
/// after [`AT_ONCE`], so that what else there is waits for that, not for all who want a turn.
///
/// A caller that others wait behind keeps its answer until then too. Who waits alone never does.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Semaphore,
    /// How many wait for a turn.
    waiting: AtomicUsize,
    /// Answers that are kept may go out.
    go: Notify,
}

impl Turns {
    /// So many at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            free: Semaphore::new(at_once),
            waiting: AtomicUsize::new(0),
            go: Notify::new(),
        }
    }

    /// Runs `work` when its turn comes.
    pub(crate) async fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let waits = Waits::begin(self);
        let turn = self.free.acquire().await.expect("turns never end");
        drop(waits);
        if WORKED.get() >= AT_ONCE {
            // Comes back after the thread has asked its sockets and done all that was ready.
            tokio::task::yield_now().await;
            WORKED.set(Duration::ZERO);
        }
        let start = Instant::now();
        let done = work();
        let worked = WORKED.get() + start.elapsed();
        WORKED.set(worked);
        // From here on it hears of every sign to go, also of one before it waits for it.
        let go = self.go.notified();
        drop(turn);
        if worked < AT_ONCE && self.waiting.load(Ordering::SeqCst) > 0 {
            go.await;
        } else {
            self.go.notify_waiters();
        }
        done
    }
}

/// One that waits for a turn, until it has it or gives up: the last one lets answers go.
struct Waits<'a>(&'a Turns);

impl<'a> Waits<'a> {
    fn begin(turns: &'a Turns) -> Self {
        turns.waiting.fetch_add(1, Ordering::SeqCst);
        Self(turns)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.go.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::task::Poll;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::world::{Blocking, spawn};

    fn work_for(long: Duration) {
        let start = Instant::now();
        while start.elapsed() < long {
            std::hint::spin_loop();
        }
    }

    /// Catches slow work that is done as long as there is any, however many others wait, or that
    /// leaves the thread which answers.
    #[tokio::test]
    async fn slow_work_lets_others_go_first() {
        const CALLS: usize = 50;
        let done = Arc::new(AtomicUsize::new(0));
        let here = std::thread::current().id();
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let done = done.clone();
                spawn(Blocking::Threads.run_slow(move || {
                    work_for(AT_ONCE);
                    done.fetch_add(1, Ordering::Relaxed);
                    std::thread::current().id()
                }))
            })
            .collect();
        // Four times must the thread ask its sockets.
        let (mut one, mut other) = tokio::net::UnixStream::pair().unwrap();
        for _ in 0..4 {
            one.write_all(b"?").await.unwrap();
            let mut byte = [0];
            other.read_exact(&mut byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        let before = done.load(Ordering::Relaxed);
        assert!(before < CALLS / 2, "{before} came first");
        for call in calls {
            assert_eq!(call.await.unwrap(), here);
        }
        assert_eq!(done.load(Ordering::Relaxed), CALLS);
    }

    /// Catches answers that go out one by one between pieces of work, and those that wait for all work.
    #[tokio::test]
    async fn answers_go_out_together() {
        const CALLS: usize = 40;
        let turns = Arc::new(Turns::new(1));
        let [worked, answered] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let (turns, worked, answered) = (turns.clone(), worked.clone(), answered.clone());
                spawn(async move {
                    let work = || {
                        work_for(AT_ONCE / 5);
                        worked.fetch_add(1, Ordering::Relaxed);
                    };
                    turns.run(work).await;
                    let ahead =
                        worked.load(Ordering::Relaxed) - answered.fetch_add(1, Ordering::Relaxed);
                    assert!(ahead <= 6, "{ahead} answers were kept");
                    ahead
                })
            })
            .collect();
        let mut most = 0;
        for call in calls {
            most = most.max(call.await.unwrap());
        }
        // A machine that stands still makes fewer, but not each time.
        assert!(most > 1, "each answer went out by itself");
    }

    async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    /// Catches an answer that is kept for the sake of callers who have gone.
    #[tokio::test]
    async fn callers_who_give_up_hold_up_no_answer() {
        let turns = Turns::new(1);
        let held = turns.free.acquire().await.unwrap();
        let mut first = pin!(turns.run(|| 1));
        let mut second = Box::pin(turns.run(|| 2));
        assert!(is_pending(first.as_mut()).await);
        assert!(is_pending(second.as_mut()).await);
        drop(held);
        assert!(is_pending(first.as_mut()).await, "the second waits for it");
        drop(second);
        let answer = timeout(Duration::from_secs(5), first).await;
        assert_eq!(answer.expect("nobody waits any more"), 1);
    }

    /// Catches an answer that waits although nobody else wants a turn.
    #[tokio::test]
    async fn one_caller_never_waits() {
        let turns = Turns::new(1);
        for _ in 0..3 {
            WORKED.set(Duration::ZERO);
            let mut call = pin!(turns.run(|| ()));
            assert!(!is_pending(call.as_mut()).await);
        }
    }
}
