//! Two kinds of tasks: those that somebody waits for, and those that go on beside them.
//!
//! What a caller is told without a change to the log (a read, a cryptographic operation) needs this node's
//! memory and a question to others. It would wait for a processor behind what the Region does anyway:
//! entries appended and applied, messages carried to other Regions. So that goes on on threads of its own,
//! which step back. Changes to the log are made there; where many come, their callers wait for the log, not
//! for a processor.

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, JoinSet};

use crate::world::{BoxFuture, spawn, step_back};

/// How far background threads step back behind those that answer callers. Unit: the system's nice value;
/// with 3, one gets half of what one of those gets when both want all. More would help callers little, and
/// make changes wait behind other programs' load.
const BACKGROUND_NICE: i32 = 3;

/// Where tasks run.
#[derive(Clone)]
pub struct Tasks(Option<Apart>);

#[derive(Clone)]
struct Apart {
    serving: Handle,
    background: Handle,
}

impl Tasks {
    /// All on the threads of whoever starts them: for a simulation, which has one.
    pub fn together() -> Self {
        Self(None)
    }

    /// Each kind on threads of its own.
    pub fn apart(serving: &Runtime, background: &Runtime) -> Self {
        Self(Some(Apart {
            serving: serving.handle().clone(),
            background: background.handle().clone(),
        }))
    }

    fn serving(&self) -> Option<&Handle> {
        self.0.as_ref().map(|apart| &apart.serving)
    }

    fn background(&self) -> Option<&Handle> {
        self.0.as_ref().map(|apart| &apart.background)
    }

    /// Starts a task that callers wait for.
    pub fn spawn_serving<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        spawn_on(self.serving(), future)
    }

    /// Starts a task that goes on beside callers.
    pub fn spawn_background<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        spawn_on(self.background(), future)
    }

    /// Does something right here that callers wait for, also others than who begins it: when whoever awaits it
    /// gives up, or has what it wants, it goes on as a task. A task from the start would be woken, and perhaps
    /// wait for a processor, at each step in between.
    pub(crate) fn begin_here(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> BegunHere {
        BegunHere {
            rest: Some(Box::pin(future)),
            tasks: self.clone(),
        }
    }

    /// Whether this is where callers are served.
    pub(crate) fn is_serving(&self) -> bool {
        let here = Handle::try_current().map(|here| here.id());
        self.serving()
            .is_none_or(|serving| here.is_ok_and(|here| here == serving.id()))
    }

    /// Does something among what callers wait for, with all tasks that it starts.
    pub(crate) async fn in_serving<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        on(self.serving(), future).await
    }

    /// Does something in the background, with all tasks that it starts.
    pub async fn in_background<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        on(self.background(), future).await
    }
}

/// See [`Tasks::begin_here`].
pub(crate) struct BegunHere {
    rest: Option<BoxFuture<'static, ()>>,
    tasks: Tasks,
}

impl Future for BegunHere {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(());
        };
        let done = rest.as_mut().poll(cx);
        if done.is_ready() {
            self.rest = None;
        }
        done
    }
}

impl Drop for BegunHere {
    fn drop(&mut self) {
        // Without a runtime all tasks of this one are over.
        if let Some(rest) = self.rest.take()
            && Handle::try_current().is_ok()
        {
            self.tasks.spawn_serving(rest);
        }
    }
}

fn spawn_on<T: Send + 'static>(
    runtime: Option<&Handle>,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the seam for tasks of each kind"
    )]
    match runtime {
        Some(runtime) => runtime.spawn(future),
        None => spawn(future),
    }
}

/// Does something on other threads; it ends when nobody waits for it any more, as it would here.
async fn on<T: Send + 'static>(
    runtime: Option<&Handle>,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let Some(runtime) = runtime else {
        return future.await;
    };
    let mut task = JoinSet::new();
    task.spawn_on(future, runtime);
    match task.join_next().await {
        Some(Ok(value)) => value,
        Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // Those threads are gone: the process ends.
        Some(Err(_)) | None => std::future::pending().await,
    }
}

/// Threads for background tasks: half as many as the machine has cores. One that finds nothing to do is
/// woken for the next thing that may be: on two cores, a node's work on two threads takes longer than on one.
pub fn background_threads() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(2))
        .enable_all()
        .thread_name("keyrum-back")
        .on_thread_start(|| step_back(BACKGROUND_NICE))
        .build()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    fn here() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    fn serving_threads() -> Runtime {
        Builder::new_multi_thread()
            .enable_all()
            .thread_name("serving")
            .build()
            .unwrap()
    }

    /// Catches tasks that run among the others, whoever starts them, and one that a waiter who is gone
    /// leaves behind.
    #[test]
    fn each_kind_has_its_threads() {
        let serving = serving_threads();
        let background = background_threads().unwrap();
        let ended = serving.block_on(async {
            let tasks = Tasks::apart(&serving, &background);
            assert_eq!(tasks.in_background(async { here() }).await, "keyrum-back");
            assert_eq!(
                tasks.spawn_background(async { here() }).await.unwrap(),
                "keyrum-back"
            );
            let again = tasks.clone();
            let back_and_forth = async move { again.in_serving(async { here() }).await };
            assert_eq!(tasks.in_background(back_and_forth).await, "serving");
            let again = tasks.clone();
            let started = async move { again.spawn_serving(async { here() }).await.unwrap() };
            assert_eq!(tasks.in_background(started).await, "serving");

            let (held, ended) = oneshot::channel::<()>();
            let waits = tasks.in_background(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            let waited = tokio::time::timeout(Duration::from_millis(20), waits).await;
            assert!(waited.is_err());
            tokio::time::timeout(Duration::from_secs(20), ended).await
        });
        assert!(ended.expect("nobody waits: it ends").is_err());
        background.shutdown_background();
    }

    /// Catches work that ends with whoever began it, though others wait for it, or that goes on elsewhere
    /// although somebody is here for it.
    #[test]
    fn what_is_begun_here_goes_on_elsewhere() {
        let serving = serving_threads();
        let background = background_threads().unwrap();
        let tasks = Tasks::apart(&serving, &background);
        let again = tasks.clone();
        background
            .block_on(spawn_on(Some(background.handle()), async move {
                let tasks = again;
                assert!(!tasks.is_serving());
                assert!(tasks.in_serving(is_serving(tasks.clone())).await);
                assert!(Tasks::together().is_serving());

                let (say, said) = oneshot::channel();
                let work = async move { say.send(here()).unwrap() };
                tasks.begin_here(work).await;
                assert_eq!(said.await.unwrap(), "keyrum-back");

                let (go, gone) = oneshot::channel::<()>();
                let (say, said) = oneshot::channel();
                let begun = tasks.begin_here(async move {
                    gone.await.unwrap();
                    say.send(here()).unwrap();
                });
                let waited = tokio::time::timeout(Duration::from_millis(20), begun).await;
                assert!(waited.is_err());
                go.send(()).unwrap();
                let said = tokio::time::timeout(Duration::from_secs(20), said).await;
                assert_eq!(said.expect("it goes on").unwrap(), "serving");
            }))
            .unwrap();
        background.shutdown_background();
    }

    async fn is_serving(tasks: Tasks) -> bool {
        tasks.is_serving()
    }

    /// Catches background threads that do not step back.
    #[cfg(target_os = "linux")]
    #[test]
    fn background_threads_step_back() {
        let background = background_threads().unwrap();
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let there = background.block_on(spawn_on(Some(background.handle()), async move { nice() }));
        assert_eq!(there.unwrap(), before.max(BACKGROUND_NICE));
        assert_eq!(nice(), before, "the others stay");
        background.shutdown_background();
    }
}
