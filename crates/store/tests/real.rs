//! The store on the machine's own disk, with sled and a thread.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use keyrum_store::{
    Disk, DiskFile, Folder, KeyValue, LogRow, RealDisk, RowChange, SimDisk, Store, StoreConfig,
    StoreError,
};

const DEADLINE: Duration = Duration::from_secs(30);

fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(RealDisk::shared(), folder, StoreConfig::default())
}

fn rows(from: u64, count: u64, size: usize) -> Vec<LogRow> {
    (from..from + count)
        .map(|index| LogRow {
            index,
            bytes: vec![(index % 251) as u8; size].into(),
        })
        .collect()
}

fn append(store: &Store, rows: Vec<LogRow>) -> Result<(), StoreError> {
    let id = rows
        .last()
        .map(|row| row.index.to_le_bytes().to_vec())
        .unwrap_or_default();
    let (done, outcome) = mpsc::channel();
    store.append(rows, id, Box::new(move |result| done.send(result).unwrap()));
    outcome
        .recv_timeout(DEADLINE)
        .expect("an append is answered")
}

/// Fills a folder with everything a store keeps.
fn fill(folder: &Path) {
    let store = open(folder).unwrap();
    append(&store, rows(0, 40, 200)).unwrap();
    append(&store, rows(40, 2, 9000)).unwrap();
    store.save_vote(b"vote".to_vec()).unwrap();
    store.put_meta("identity", b"node 1").unwrap();
    store.put_history(rows(0, 40, 100)).unwrap();
    store
        .write_snapshot(20, b"meta", &mut (0..5).map(|n| vec![n; 1000]))
        .unwrap();
    for index in 42..60 {
        append(&store, rows(index, 1, 300)).unwrap();
    }
    store.save_committed(Some(b"committed".to_vec())).unwrap();
    append(&store, rows(60, 1, 300)).unwrap();
    store.purge_through(10, b"ten".to_vec()).unwrap();
}

/// Panics unless all that `fill` stored is there.
fn check(store: &Store) {
    let range = store.log_range();
    assert_eq!((range.purged, range.last), (Some(10), Some(60)));
    assert_eq!(store.purged_id(), Some(b"ten".to_vec()));
    assert_eq!(store.last_id(), Some(60_u64.to_le_bytes().to_vec()));
    let mut expected = rows(11, 29, 200);
    expected.extend(rows(40, 2, 9000));
    expected.extend(rows(42, 19, 300));
    assert_eq!(store.read_log(0, u64::MAX, usize::MAX).unwrap(), expected);
    assert_eq!(store.read_log(30, 60, 500).unwrap(), rows(30, 2, 200));
    assert_eq!(store.read_log(40, 60, 500).unwrap(), rows(40, 1, 9000));
    assert_eq!(store.vote().unwrap(), Some(b"vote".to_vec()));
    assert_eq!(store.meta("identity").unwrap(), Some(b"node 1".to_vec()));
    assert_eq!(store.meta("other").unwrap(), None);
    assert_eq!(store.committed().unwrap(), Some(b"committed".to_vec()));
    assert_eq!(store.read_history(0, 1000).unwrap(), rows(0, 40, 100));
    assert_eq!(store.read_history(7, 3).unwrap(), rows(7, 3, 100));
    let mut snapshot = store.latest_snapshot().unwrap().unwrap();
    assert_eq!((snapshot.index(), snapshot.meta()), (20, &b"meta"[..]));
    for n in 0..5 {
        assert_eq!(snapshot.next_chunk().unwrap(), Some(vec![n; 1000]));
    }
    assert_eq!(snapshot.next_chunk().unwrap(), None);
}

/// Catches anything that does not come back as it was stored, before and after opening again.
#[test]
fn everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("node");
    fill(&data);
    for _ in 0..3 {
        let store = open(&data).unwrap();
        check(&store);
        store.close();
        assert!(matches!(store.vote(), Err(StoreError::Closed { .. })));
    }
    let blobs = data.join("rows/blobs");
    assert_eq!(
        fs::read_dir(blobs).unwrap().count(),
        0,
        "sled never syncs these files"
    );
}

/// Catches two stores that write to one folder.
#[test]
fn a_folder_has_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(StoreError::Locked { .. })
    ));
    drop(store);
    open(folder.path()).unwrap();
}

/// Catches a log that accepts a gap, or a request that contradicts it.
#[test]
fn misuse_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    append(&store, rows(0, 5, 10)).unwrap();
    assert!(matches!(
        append(&store, rows(6, 1, 1)),
        Err(StoreError::Misuse { .. })
    ));
    assert!(matches!(
        append(&store, rows(4, 1, 1)),
        Err(StoreError::Misuse { .. })
    ));
    assert!(store.purge_through(5, vec![]).is_err());
    assert!(store.save_vote(vec![0; 5000]).is_err());
    assert!(store.put_meta("large", &[0; 5000]).is_err());
    append(&store, rows(5, 1, 10)).unwrap();
    assert_eq!(store.read_log(0, 9, usize::MAX).unwrap(), rows(0, 6, 10));
    // A snapshot in the middle of a log that goes another way.
    store.reset_log_to_snapshot(3, b"three".to_vec()).unwrap();
    assert_eq!(store.read_log(0, 9, usize::MAX).unwrap(), []);
    append(&store, rows(4, 1, 7)).unwrap();
    drop(store);
    let store = open(folder.path()).unwrap();
    assert_eq!(store.read_log(0, 9, usize::MAX).unwrap(), rows(4, 1, 7));
    assert_eq!(store.log_range().purged, Some(3));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Damages copies of one folder, each in its own way; each must be refused or be whole.
fn damage_each(file: &str, ways: &[(u64, Option<u8>)]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    fill(&original);
    let mut refused = 0;
    for (number, (offset, flip)) in ways.iter().enumerate() {
        let data = folder.path().join(number.to_string());
        copy(&original, &data);
        let path = data.join(file);
        let target = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let length = target.metadata().unwrap().len();
        let offset = offset % length;
        match flip {
            None => target.set_len(offset).unwrap(),
            Some(bits) => {
                let mut byte = [0];
                target.read_exact_at(&mut byte, offset).unwrap();
                target.write_all_at(&[byte[0] ^ bits], offset).unwrap();
            }
        }
        match open(&data) {
            Ok(store) => check(&store),
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                let named =
                    text.contains("rows/db") || text.contains("mark") || text.contains("snap");
                assert!(named, "{text}");
            }
        }
        fs::remove_dir_all(&data).unwrap();
    }
    refused
}

/// Catches a flipped byte of the database that costs rows without a word.
#[test]
fn a_damaged_database_is_refused_or_whole() {
    // Dense over what `fill` wrote, then over the rest.
    let used = (0..160_u64).map(|n| (n * 397, Some(0x40)));
    let rest = (0..40_u64).map(|n| (64_000 + n * 11_003, Some(0x01)));
    let ways: Vec<_> = used.chain(rest).collect();
    let refused = damage_each("rows/db", &ways);
    assert!(refused > 40, "{refused}");
}

/// Catches a shortened database that is taken for a whole one.
#[test]
fn a_shortened_database_is_refused_or_whole() {
    let ways: Vec<_> = (0..40_u64).map(|n| (n * 2_003, None)).collect();
    let refused = damage_each("rows/db", &ways);
    assert!(refused > 30, "{refused}");
}

/// Catches a damaged mark that turns the checks off, and a damaged snapshot that is used.
#[test]
fn damaged_marks_and_snapshots_are_refused_or_harmless() {
    let mark: Vec<_> = (0..60_u64).map(|n| (n * 137, Some(4))).collect();
    damage_each("mark", &mark);
    let short: Vec<_> = (0..8_u64).map(|n| (n * 1000, None)).collect();
    assert_eq!(damage_each("mark", &short), short.len());
    let snapshot: Vec<_> = (0..60_u64).map(|n| (n * 83, Some(2))).collect();
    let file = format!("snapshots/{:020}.snap", 20);
    assert_eq!(damage_each(&file, &snapshot), snapshot.len());
    let short: Vec<_> = (0..20_u64).map(|n| (n * 251, None)).collect();
    assert_eq!(damage_each(&file, &short), short.len());
}

/// Catches a folder that lost a whole file and is opened as if it were new or older.
#[test]
fn missing_files_are_refused() {
    for file in [
        "mark",
        "journal",
        "rows/db",
        "snapshots/00000000000000000020.snap",
    ] {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        fs::remove_file(folder.path().join(file)).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("stop using this folder"),
            "{file}: {error}"
        );
    }
}

/// Catches leftovers of an interrupted snapshot that stay, or are read.
#[test]
fn an_interrupted_snapshot_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let leftover = folder
        .path()
        .join("snapshots/00000000000000000030.snap.tmp");
    fs::write(&leftover, b"KYRMSNAP torn").unwrap();
    let store = open(folder.path()).unwrap();
    check(&store);
    assert!(!leftover.exists());
    store
        .write_snapshot(40, b"newer", &mut std::iter::empty())
        .unwrap();
    store.remove_old_snapshots(u64::MAX).unwrap();
    assert_eq!(
        fs::read_dir(folder.path().join("snapshots"))
            .unwrap()
            .count(),
        1
    );
    assert_eq!(store.latest_snapshot().unwrap().unwrap().meta(), b"newer");
}

/// Catches a folder of the version before the journal that is refused, or that could lose its
/// journal later without notice.
#[test]
fn a_folder_without_a_journal_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let mark = folder.path().join("mark");
    let mut slots = fs::read(&mark).unwrap();
    for slot in slots.chunks_mut(4096) {
        // CRC32C, length, then the body with its format version first.
        let end = 8 + u32::from_le_bytes(slot[4..8].try_into().unwrap()) as usize;
        slot[8] = 1;
        let crc = crc32c::crc32c(&slot[4..end]);
        slot[..4].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&mark, slots).unwrap();
    fs::remove_file(folder.path().join("journal")).unwrap();
    for _ in 0..2 {
        check(&open(folder.path()).unwrap());
    }
    fs::remove_file(folder.path().join("journal")).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("journal"), "{error}");
}

/// Catches rows that stay in the journal for good once the writing ends: damage at rest would
/// find them with one copy only.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the deadline of a test on a real disk"
)]
fn the_database_gets_the_rows_when_it_is_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let sequence = || {
        let slots = fs::read(folder.path().join("mark")).unwrap();
        let of = |slot: &[u8]| u64::from_le_bytes(slot[9..17].try_into().unwrap());
        slots.chunks(4096).map(of).max().unwrap()
    };
    let before = sequence();
    append(&store, rows(0, 5, 100)).unwrap();
    assert_eq!(sequence(), before, "an append alone writes no mark");
    let since = Instant::now();
    while sequence() == before {
        assert!(since.elapsed() < DEADLINE, "the journal was never emptied");
        thread::yield_now();
    }
    assert_eq!(store.read_log(0, 9, usize::MAX).unwrap(), rows(0, 5, 100));
}

/// Counts syncs, and holds them up while its gate is locked. Its store has a thread.
struct Gated {
    inner: SimDisk,
    gate: Arc<Mutex<()>>,
    syncs: Arc<AtomicU64>,
}

struct GatedFolder {
    inner: Box<dyn Folder>,
    gate: Arc<Mutex<()>>,
    syncs: Arc<AtomicU64>,
}

impl Disk for Gated {
    fn inline(&self) -> bool {
        false
    }

    fn open(&self, folder: &Path, cache_bytes_max: u64) -> Result<Box<dyn Folder>, StoreError> {
        let inner = self.inner.open(folder, cache_bytes_max)?;
        Ok(Box::new(GatedFolder {
            inner,
            gate: self.gate.clone(),
            syncs: self.syncs.clone(),
        }))
    }
}

impl Folder for GatedFolder {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn rows_file(&self) -> &'static str {
        self.inner.rows_file()
    }
    fn apply(&self, changes: &[RowChange]) -> io::Result<()> {
        self.inner.apply(changes)
    }
    fn row_at_or_before(&self, key: &[u8]) -> io::Result<Option<KeyValue>> {
        self.inner.row_at_or_before(key)
    }
    fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        self.inner.scan(from, visit)
    }
    fn sync_rows(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        self.inner.sync_rows()
    }
    fn file(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile {
            inner: self.inner.file(name, create)?,
            gate: self.gate.clone(),
            syncs: self.syncs.clone(),
        }))
    }
    fn names(&self, subfolder: &str) -> io::Result<Vec<String>> {
        self.inner.names(subfolder)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        self.inner.sync_names()
    }
}

struct GatedFile {
    inner: Box<dyn DiskFile>,
    gate: Arc<Mutex<()>>,
    syncs: Arc<AtomicU64>,
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        self.inner.sync()
    }
    fn forget(&self) {
        self.inner.forget();
    }
}

/// Catches appends that each pay for a sync of their own, answers that come before their sync or
/// out of order, and rows that cannot be read while they wait.
#[test]
fn waiting_appends_share_a_sync() {
    let (gate, syncs) = (Arc::new(Mutex::new(())), Arc::new(AtomicU64::new(0)));
    let sim = SimDisk::new();
    let disk = Gated {
        inner: sim.clone(),
        gate: gate.clone(),
        syncs: syncs.clone(),
    };
    let store = Store::open(Arc::new(disk), Path::new("data"), StoreConfig::default()).unwrap();
    let before = syncs.load(Ordering::SeqCst);
    let of_the_database = sim.syncs().0;
    let closed = gate.lock().unwrap();
    let (done, answers) = mpsc::channel();
    for index in 0..100_u64 {
        let done = done.clone();
        let answer =
            Box::new(move |result: Result<(), StoreError>| done.send((index, result)).unwrap());
        store.append(rows(index, 1, 100), index.to_le_bytes().to_vec(), answer);
        if index == 0 {
            // The first sync has begun; the others come while it runs.
            while syncs.load(Ordering::SeqCst) == before {
                thread::yield_now();
            }
        }
    }
    assert!(answers.try_recv().is_err(), "answered before the sync");
    assert_eq!(
        store.read_log(0, 100, usize::MAX).unwrap(),
        rows(0, 100, 100)
    );
    drop(closed);
    for index in 0..100 {
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap(), (index, Ok(())));
    }
    assert_eq!(syncs.load(Ordering::SeqCst) - before, 2);
    assert_eq!(
        sim.syncs().0,
        of_the_database,
        "the database is not on the way"
    );
}

/// Catches a purge that keeps its caller or an append waiting for all its rows.
#[test]
fn a_large_purge_is_swept_behind_the_appends() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for group in 0..20 {
        append(&store, rows(group * 1000, 1000, 300)).unwrap();
    }
    store.purge_through(19_989, b"id".to_vec()).unwrap();
    append(&store, rows(20_000, 5, 300)).unwrap();
    assert_eq!(
        store.read_log(0, u64::MAX, usize::MAX).unwrap(),
        rows(19_990, 15, 300)
    );
    drop(store);
    let store = open(folder.path()).unwrap();
    assert_eq!(
        store.read_log(0, u64::MAX, usize::MAX).unwrap(),
        rows(19_990, 15, 300)
    );
}
