//! The way of records to their file: a bounded buffer, and one task that writes what is in it.
//!
//! Who has a record appends it to the buffer and goes on; the task writes all that has come together
//! in one call, a moment later. While records are required, who answers waits until the record is
//! in the file instead. With the buffer full, whoever has a record waits for room; while the file
//! cannot be written and records are not required, they are dropped and counted.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyrum_consensus::world::{Blocking, spawn};
use keyrum_types::LogIndex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::file::{Mark, TrailFile};

/// Most bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// How much room for lines each thread keeps.
const LINES_BYTES_KEPT: usize = 64 << 10;

/// How long records gather before they are written together, unless they are required.
const GATHERED_FOR: Duration = Duration::from_millis(10);

/// How long until the file is tried again that could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Records are required, and one cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit record cannot be written: {reason}")]
pub(super) struct Unwritable {
    pub(super) reason: Arc<str>,
}

/// How far the task has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// So many bytes of all that were ever buffered are in files.
    written: u64,
    /// Why nothing can be written at the moment.
    failing: Option<Arc<str>>,
    ended: bool,
}

impl Progress {
    fn unwritable(&self) -> Unwritable {
        let reason = self.failing.clone();
        Unwritable {
            reason: reason.unwrap_or_else(|| closed().to_string().into()),
        }
    }
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// So many bytes were ever buffered.
    total: u64,
    dropped: u64,
    closing: bool,
}

struct Shared {
    buffer: Mutex<Buffer>,
    wake: Notify,
    progress: watch::Sender<Progress>,
    required: bool,
    /// Given up when the trail is closed, so that another may open it.
    file: Arc<Mutex<Option<TrailFile>>>,
    blocking: Blocking,
}

/// Whole lines on their way into a trail.
#[must_use = "what waits is not written yet"]
pub(super) enum Lines {
    /// They are buffered, and end here among all that were ever buffered.
    Taken(u64),
    /// There is no room for them.
    Wait(Vec<u8>),
}

/// A trail of records. Dropping it ends the task; [`Trail::close`] writes what waits before.
pub(super) struct Trail {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Trail {
    pub(super) fn start(file: TrailFile, required: bool, blocking: Blocking) -> Self {
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            wake: Notify::new(),
            progress: watch::Sender::default(),
            required,
            file: Arc::new(Mutex::new(Some(file))),
            blocking,
        });
        let task = spawn(write_forever(shared.clone()));
        Self {
            shared,
            task: Mutex::new(Some(task)),
        }
    }

    /// Whether a call may be made: not while records are required and cannot be written.
    pub(super) fn check(&self) -> Result<(), Unwritable> {
        if !self.shared.required {
            return Ok(());
        }
        let now = self.shared.progress.borrow();
        match now.failing.is_some() || now.ended {
            true => Err(now.unwritable()),
            false => Ok(()),
        }
    }

    /// Takes whole lines. If records are required, returns once they are in the file.
    pub(super) async fn put(&self, lines: Lines) -> Result<(), Unwritable> {
        let end = match lines {
            Lines::Taken(end) => Ok(end),
            Lines::Wait(lines) => self.append(&lines).await,
        };
        match (self.shared.required, end) {
            (true, Ok(end)) => self.written(end).await,
            (true, Err(unwritable)) => Err(unwritable),
            (false, _) => Ok(()),
        }
    }

    /// Takes the whole lines that `write` writes, if there is room for them, for [`Trail::put`]. They are
    /// written where this thread wrote others before.
    pub(super) fn take(&self, write: impl FnOnce(&mut Vec<u8>)) -> Lines {
        thread_local! {
            static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        LINES.with_borrow_mut(|lines| {
            lines.clear();
            write(lines);
            let taken = match self.offer(lines) {
                Some(end) => Lines::Taken(end),
                None => Lines::Wait(lines.clone()),
            };
            // One that names a long policy, or many keys.
            lines.shrink_to(LINES_BYTES_KEPT);
            taken
        })
    }

    /// Where the lines end among all that were ever buffered; `None` if too much waits already.
    fn offer(&self, lines: &[u8]) -> Option<u64> {
        let mut buffer = lock(&self.shared.buffer);
        if buffer.bytes.len() >= WAITING_BYTES_MAX {
            return None;
        }
        let was_empty = buffer.bytes.is_empty();
        let end = add(&mut buffer, lines);
        drop(buffer);
        if was_empty {
            self.shared.wake.notify_one();
        }
        Some(end)
    }

    /// The same, and returns once they are in the file in any case, however long that takes. `false`
    /// if the trail was closed before.
    pub(super) async fn put_for_sure(&self, lines: &[u8]) -> bool {
        let mut progress = self.shared.progress.subscribe();
        let end = {
            let mut buffer = lock(&self.shared.buffer);
            add(&mut buffer, lines)
        };
        self.shared.wake.notify_one();
        let done = progress
            .wait_for(|now| now.written >= end || now.ended)
            .await;
        done.is_ok_and(|now| now.written >= end)
    }

    /// Waits for room, and gives where the lines end among all that were ever buffered, unless they are
    /// dropped.
    async fn append(&self, lines: &[u8]) -> Result<u64, Unwritable> {
        // Before the first look, so that no change goes unseen.
        let mut progress = self.shared.progress.subscribe();
        loop {
            if let Some(end) = self.offer(lines) {
                return Ok(end);
            }
            let over = {
                let now = progress.borrow_and_update();
                (now.ended || now.failing.is_some()).then(|| now.unwritable())
            };
            if let Some(unwritable) = over {
                lock(&self.shared.buffer).dropped += 1;
                return Err(unwritable);
            }
            // The sender is this trail's: it is there.
            let _ = progress.changed().await;
        }
    }

    async fn written(&self, end: u64) -> Result<(), Unwritable> {
        let mut progress = self.shared.progress.subscribe();
        let over = |now: &Progress| now.written >= end || now.failing.is_some() || now.ended;
        let now = progress.wait_for(over).await;
        let now = now.expect("the sender is this trail's");
        match now.written >= end {
            true => Ok(()),
            false => Err(now.unwritable()),
        }
    }

    /// Waits until the file cannot be written, or the trail was closed.
    pub(super) async fn fails(&self) -> Unwritable {
        let mut progress = self.shared.progress.subscribe();
        let over = progress.wait_for(|now| now.failing.is_some() || now.ended);
        over.await.expect("the sender is this trail's").unwritable()
    }

    /// Notes how far the history is told in what was written.
    pub(super) async fn set_mark(&self, cluster: &str, through: LogIndex) {
        let (file, cluster) = (self.shared.file.clone(), cluster.to_owned());
        let set = move || match &*lock(&file) {
            Some(file) => file.set_mark(&cluster, through),
            None => Ok(()),
        };
        if let Err(error) = self.shared.blocking.run(set).await {
            // Then the next start reads more than it must.
            tracing::warn!(%error, "the audit trail's mark cannot be written");
        }
    }

    /// Where the history was told to, and the records behind that place.
    pub(super) async fn resume(&self) -> io::Result<Option<(Mark, BTreeSet<[u8; 16]>)>> {
        let file = self.shared.file.clone();
        let read = move || {
            let file = lock(&file);
            let file = file.as_ref().ok_or_else(closed)?;
            let Some(mark) = file.mark() else {
                return Ok(None);
            };
            let ids = file.ids_behind(mark.place)?;
            Ok(Some((mark, ids)))
        };
        self.shared.blocking.run(read).await
    }

    /// Writes what waits, as far as that is possible, and ends.
    pub(super) async fn close(&self) {
        lock(&self.shared.buffer).closing = true;
        self.shared.wake.notify_one();
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // A panic there has been reported.
            let _ = task.await;
        }
        *lock(&self.shared.file) = None;
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

fn closed() -> io::Error {
    io::Error::other("the audit trail was closed")
}

fn add(buffer: &mut Buffer, lines: &[u8]) -> u64 {
    buffer.bytes.extend_from_slice(lines);
    buffer.total += lines.len() as u64;
    buffer.total
}

async fn write_forever(shared: Arc<Shared>) {
    let mut spare = Vec::new();
    loop {
        let (waits, closing) = {
            let buffer = lock(&shared.buffer);
            (!buffer.bytes.is_empty(), buffer.closing)
        };
        if !waits {
            if closing {
                break;
            }
            shared.wake.notified().await;
            continue;
        }
        if !shared.required && !closing {
            sleep(GATHERED_FOR).await;
        }
        let lines = mem::replace(&mut lock(&shared.buffer).bytes, mem::take(&mut spare));
        let file = shared.file.clone();
        let write = move || {
            let done = match &mut *lock(&file) {
                Some(file) => file.append(&lines),
                None => Err(closed()),
            };
            (done, lines)
        };
        let (done, lines) = shared.blocking.run(write).await;
        match done {
            Ok(()) => {
                let dropped = mem::take(&mut lock(&shared.buffer).dropped);
                shared.progress.send_modify(|progress| {
                    if progress.failing.take().is_some() {
                        tracing::warn!(dropped, "audit records can be written again");
                    }
                    progress.written += lines.len() as u64;
                });
                spare = lines;
                spare.clear();
            }
            Err(error) => {
                {
                    let mut buffer = lock(&shared.buffer);
                    let newer = mem::replace(&mut buffer.bytes, lines);
                    buffer.bytes.extend_from_slice(&newer);
                }
                let reason: Arc<str> = error.to_string().into();
                shared.progress.send_modify(|progress| {
                    if progress.failing.is_none() {
                        tracing::error!(%reason, "audit records cannot be written");
                    }
                    progress.failing = Some(reason);
                });
                if closing {
                    let lost = lock(&shared.buffer).bytes.len();
                    tracing::error!(bytes = lost, "audit records are lost");
                    break;
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
    shared
        .progress
        .send_modify(|progress| progress.ended = true);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves whole lines behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::file::Rotation;
    use super::*;

    const ONE_LINE: Rotation = Rotation {
        file_bytes_max: 1,
        files_max: 9,
    };

    async fn put(trail: &Trail, lines: &[u8]) -> Result<(), Unwritable> {
        let lines = trail.take(|to| to.extend_from_slice(lines));
        trail.put(lines).await
    }

    fn start(folder: &std::path::Path, required: bool) -> Trail {
        let file = TrailFile::open(folder, "n", ONE_LINE, false).unwrap();
        Trail::start(file, required, Blocking::Threads)
    }

    /// Catches an answer that is given before its record is in the file, although records are
    /// required, a call that is let through while none can be written, and a trail that does not go
    /// on once they can.
    #[tokio::test]
    async fn required_records_are_written_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("trail");
        let trail = start(&place, true);
        let current = place.join("n.jsonl");
        put(&trail, b"1\n").await.unwrap();
        assert_eq!(fs::read(&current).unwrap(), b"1\n");

        // The next line goes to a new file, for which there is no place.
        fs::remove_dir_all(&place).unwrap();
        let refused = put(&trail, b"2\n").await.unwrap_err();
        assert!(refused.to_string().contains("os error"), "{refused}");
        assert_eq!(trail.check(), Err(refused));

        fs::create_dir(&place).unwrap();
        fs::write(&current, "1\n").unwrap();
        assert!(trail.put_for_sure(b"3\n").await);
        trail.check().unwrap();
        trail.close().await;
        let all =
            ["n.1.jsonl", "n.jsonl"].map(|name| fs::read_to_string(place.join(name)).unwrap());
        assert_eq!(all, ["1\n", "2\n3\n"], "what was refused is written, too");
        assert!(trail.check().is_err());
    }

    /// Catches records that hold callers up for ever, or memory that grows without bound, while
    /// nothing can be written and records are not required.
    #[tokio::test]
    async fn records_that_are_not_required_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("trail");
        let trail = start(&place, false);
        put(&trail, b"1\n").await.unwrap();
        assert!(trail.put_for_sure(b"").await);
        fs::remove_dir_all(&place).unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            put(&trail, &line).await.unwrap();
        }
        let buffer = lock(&trail.shared.buffer);
        assert!(buffer.bytes.len() <= WAITING_BYTES_MAX + line.len());
        assert!(buffer.dropped > 0);
    }
}
