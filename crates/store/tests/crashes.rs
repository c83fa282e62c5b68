//! Random requests on the simulated disk, with a power loss in the middle of some of them, against
//! a model that knows what was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;

use keyrum_store::{Fate, LogRow, SimDisk, Store, StoreConfig, StoreError};
use proptest::prelude::*;
use proptest::sample::Index;

const FOLDER: &str = "data";

#[derive(Debug, Clone)]
enum Op {
    Append { count: u64, size: usize },
    Truncate(Index),
    Purge(Index),
    Reset { ahead: u64 },
    Vote,
    Committed,
    Meta,
    History { count: u64, size: usize },
    CutHistory(Index),
    Snapshot,
    Reopen,
    Read(Index, Index),
}

fn ops() -> impl Strategy<Value = Op> {
    let size = prop_oneof![Just(0), 1..400_usize, Just(3600), Just(9000)];
    prop_oneof![
        6 => (1..40_u64, size.clone()).prop_map(|(count, size)| Op::Append { count, size }),
        2 => any::<Index>().prop_map(Op::Truncate),
        2 => any::<Index>().prop_map(Op::Purge),
        1 => (0..30_u64).prop_map(|ahead| Op::Reset { ahead }),
        2 => Just(Op::Vote),
        2 => Just(Op::Committed),
        1 => Just(Op::Meta),
        4 => (1..30_u64, size).prop_map(|(count, size)| Op::History { count, size }),
        1 => any::<Index>().prop_map(Op::CutHistory),
        2 => Just(Op::Snapshot),
        1 => Just(Op::Reopen),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Op::Read(a, b)),
    ]
}

/// What should be in the store.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    rows: BTreeMap<u64, Vec<u8>>,
    purged: Option<u64>,
    last: Option<u64>,
    vote: Option<Vec<u8>>,
    meta: Option<Vec<u8>>,
    history: BTreeMap<u64, Vec<u8>>,
    history_durable: Option<u64>,
    begins: u64,
    snapshot: Option<u64>,
    committed: Option<u64>,
}

/// What happened to one request.
enum Did {
    Nothing,
    Done,
}

fn row(index: u64, stamp: u64, size: usize) -> LogRow {
    let mut bytes = stamp.to_le_bytes().to_vec();
    bytes.resize(8 + size, (index % 251) as u8);
    LogRow {
        index,
        bytes: bytes.into(),
    }
}

/// Names a row by its index and content, so that an id that went with another row shows.
fn id(index: u64, rows: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let mut id = index.to_le_bytes().to_vec();
    id.extend(
        rows.get(&index)
            .map(|bytes| bytes[..8].to_vec())
            .unwrap_or_default(),
    );
    id
}

fn open(disk: &SimDisk) -> Result<Store, StoreError> {
    Store::open(
        disk.shared(),
        Path::new(FOLDER),
        StoreConfig {
            recent_bytes_max: 2000,
            // A few small records, then it is full; a large one never fits.
            journal_bytes: 16 << 10,
            hand_over_bytes: 2 << 10,
            ..StoreConfig::default()
        },
    )
}

fn append(store: &Store, rows: Vec<LogRow>, id: Vec<u8>) -> Result<(), StoreError> {
    let (done, outcome) = mpsc::channel();
    store.append(rows, id, Box::new(move |result| done.send(result).unwrap()));
    outcome
        .try_recv()
        .expect("a simulated append ends inside the call")
}

/// Does one request; `model` becomes what it is if the request succeeds.
fn perform(store: &Store, op: &Op, model: &mut Model, stamp: u64) -> Result<Did, StoreError> {
    let begin = model.purged.map_or(0, |p| p + 1);
    let next = model.last.map_or(0, |l| l + 1);
    let pick = |index: &Index| begin + index.index((next - begin) as usize) as u64;
    match op {
        Op::Append { count, size } => {
            let rows: Vec<LogRow> = (next..next + count).map(|i| row(i, stamp, *size)).collect();
            model
                .rows
                .extend(rows.iter().map(|r| (r.index, r.bytes.to_vec())));
            model.last = Some(next + count - 1);
            append(store, rows, id(next + count - 1, &model.rows))?;
        }
        Op::Truncate(at) if next > begin => {
            let last = pick(at)
                .checked_sub(1)
                .filter(|last| *last + 1 > begin || model.purged.is_some());
            // What is committed is never truncated.
            if last < model.committed {
                return Ok(Did::Nothing);
            }
            let last_id = last.map(|last| match model.purged {
                Some(purged) if purged == last => store.purged_id().unwrap(),
                _ => id(last, &model.rows),
            });
            model.rows.retain(|index, _| Some(*index) <= last);
            model.last = last;
            store.truncate_after(last, last_id)?;
        }
        Op::Purge(at) if next > begin => {
            let through = pick(at);
            let name = id(through, &model.rows);
            model.rows.retain(|index, _| *index > through);
            model.purged = Some(through);
            model.history_durable = model.history.keys().last().copied();
            store.purge_through(through, name)?;
        }
        Op::Reset { ahead } => {
            let index = model.purged.unwrap_or(0).max(next) + ahead;
            model.rows.clear();
            (model.purged, model.last) = (Some(index), Some(index));
            model.history_durable = model.history.keys().last().copied();
            store.reset_log_to_snapshot(index, id(index, &model.rows))?;
        }
        Op::Vote => {
            model.vote = Some(stamp.to_le_bytes().to_vec());
            store.save_vote(stamp.to_le_bytes().to_vec())?;
        }
        Op::Committed => {
            if let Some(last) = model.last {
                model.committed = Some(last);
                store.save_committed(Some(last.to_le_bytes().to_vec()))?;
            }
        }
        Op::Meta => {
            model.meta = Some(stamp.to_le_bytes().to_vec());
            store.put_meta("boots", &stamp.to_le_bytes())?;
        }
        Op::History { count, size } => {
            let from = model
                .history
                .keys()
                .last()
                .map_or(model.begins, |l| l + 2)
                .max(model.begins);
            let rows: Vec<LogRow> = (0..*count).map(|i| row(from + i * 2, 0, *size)).collect();
            model
                .history
                .extend(rows.iter().map(|r| (r.index, r.bytes.to_vec())));
            store.put_history(rows)?;
        }
        Op::CutHistory(at) if !model.history.is_empty() => {
            let nth = at.index(model.history.len());
            let index = *model.history.keys().nth(nth).unwrap() + (stamp % 2);
            if index <= model.begins {
                return Ok(Did::Nothing);
            }
            model.history.retain(|key, _| *key >= index);
            model.begins = model.begins.max(index);
            model.history_durable = model.history.keys().last().copied();
            store.cut_history_before(index)?;
        }
        Op::Snapshot => {
            let index = model.last.unwrap_or(0);
            model.snapshot = model.snapshot.max(Some(index));
            model.history_durable = model.history.keys().last().copied();
            let mut chunks = (0..3).map(|n| vec![n; 100]);
            store.write_snapshot(index, b"meta", &mut chunks)?;
            store.remove_old_snapshots(index)?;
        }
        Op::Read(a, b) if next > begin => {
            let (a, b) = (pick(a), pick(b));
            let rows = store.read_log(a.min(b), a.max(b) + 1, usize::MAX)?;
            let expected: Vec<_> = model.rows.range(a.min(b)..=a.max(b)).collect();
            assert!(
                rows.iter()
                    .map(|r| (r.index, &r.bytes[..]))
                    .eq(expected.into_iter().map(|(i, b)| (*i, &b[..]))),
                "rows {a} and {b}"
            );
            return Ok(Did::Nothing);
        }
        _ => return Ok(Did::Nothing),
    }
    Ok(Did::Done)
}

/// Checks an opened store against what it may be: `before` the last request or `after` it.
/// Returns the model of what it is.
fn check(store: &Store, before: &Model, after: &Model) -> Model {
    let range = store.log_range();
    assert!(
        [before.purged, after.purged].contains(&range.purged),
        "purged {range:?}"
    );
    let last = range.last.max(range.purged);
    // A truncation may be half done; an append is there whole or not at all.
    let low = before.last.min(after.last);
    if before.last <= after.last || range.purged != before.purged {
        assert!(
            [before.last, after.last, range.purged].contains(&last),
            "last {range:?}"
        );
    }
    assert!(
        last >= low || last == range.purged,
        "last {range:?} below {low:?}"
    );
    let rows = store.read_log(0, u64::MAX, usize::MAX).unwrap();
    let known = |index: &u64| after.rows.get(index).or_else(|| before.rows.get(index));
    for row in &rows {
        assert_eq!(
            Some(&row.bytes[..]),
            known(&row.index).map(|b| &b[..]),
            "row {}",
            row.index
        );
    }
    let begin = range.purged.map_or(0, |p| p + 1);
    let end = last.map_or(0, |l| l + 1);
    assert!(
        rows.iter().map(|r| r.index).eq(begin..end),
        "rows {begin} to {end}: {}",
        rows.len()
    );
    if let Some(last) = last.filter(|last| Some(*last) != range.purged) {
        let mut name = last.to_le_bytes().to_vec();
        name.extend(&known(&last).unwrap()[..8]);
        assert_eq!(store.last_id(), Some(name));
    }
    let vote = store.vote().unwrap();
    assert!([&before.vote, &after.vote].contains(&&vote), "vote");
    let meta = store.meta("boots").unwrap();
    assert!([&before.meta, &after.meta].contains(&&meta), "small record");
    let begins = store.history_begins();
    assert!(
        [before.begins, after.begins].contains(&begins),
        "history begins"
    );
    let history: BTreeMap<u64, Vec<u8>> = store
        .read_history(0, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|r| (r.index, r.bytes.to_vec()))
        .collect();
    let full = before
        .history
        .iter()
        .chain(&after.history)
        .filter(|(index, _)| **index >= begins);
    let full: BTreeMap<_, _> = full.collect();
    assert!(
        history.iter().zip(&full).all(|(a, b)| a == (*b.0, *b.1)),
        "history differs"
    );
    let durable = before.history_durable.filter(|index| *index >= begins);
    assert!(
        history.keys().last().copied() >= durable,
        "history ends before {durable:?}"
    );
    let snapshot = store.latest_snapshot().unwrap().map(|mut reader| {
        assert_eq!(reader.meta(), b"meta");
        while reader.next_chunk().unwrap().is_some() {}
        reader.index()
    });
    assert!(
        [before.snapshot, after.snapshot].contains(&snapshot),
        "snapshot {snapshot:?}"
    );
    let committed = store
        .committed()
        .unwrap()
        .map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    assert!(
        committed <= last,
        "committed {committed:?} is ahead of the log {last:?}"
    );
    Model {
        rows: rows
            .into_iter()
            .map(|r| (r.index, r.bytes.to_vec()))
            .collect(),
        purged: range.purged,
        last,
        vote,
        meta,
        history_durable: history.keys().last().copied(),
        history,
        begins,
        snapshot,
        committed,
    }
}

/// Runs requests with a power loss at some of them. With `lying` syncs it must not pass.
fn run(steps: &[(Op, Option<(u64, u64)>)], lying: bool) {
    let disk = SimDisk::new();
    let mut store = open(&disk).unwrap();
    if lying {
        disk.lie_about_syncs();
    }
    let mut model = Model::default();
    for (stamp, (op, crash)) in steps.iter().enumerate() {
        let before = model.clone();
        if let Op::Reopen = op {
            store.close();
            model.history_durable = model.history.keys().last().copied();
            store = open(&disk).unwrap();
            model = check(&store, &model, &model.clone());
            continue;
        }
        if let Some((syncs, _)) = crash {
            disk.fail_sync_after(*syncs);
        }
        let outcome = perform(&store, op, &mut model, stamp as u64);
        // Removing purged rows may have met the planted failure after the answer was given.
        if outcome.is_ok() && store.failure().is_none() {
            let view = check(&store, &model, &model.clone());
            assert_eq!((&view.rows, view.last), (&model.rows, model.last));
        }
        if let Some((_, seed)) = crash {
            let fate = match seed % 5 {
                0 => Fate::DropUnsynced,
                1 => Fate::KeepAll,
                _ => Fate::Seeded(*seed),
            };
            disk.crash(fate);
            let dead = store.clone();
            store = open(&disk).unwrap_or_else(|error| panic!("after {op:?}: {error}"));
            let possible = if outcome.is_ok() { &model } else { &before };
            let mut possible = possible.clone();
            possible.history_durable = possible.history_durable.min(before.history_durable);
            if outcome.is_ok() && !matches!(op, Op::History { .. } | Op::Committed | Op::Read(..)) {
                possible.history_durable = model.history_durable;
            }
            model = check(&store, &possible, &model);
            assert!(append(&dead, vec![], vec![]).is_err() || dead.save_vote(vec![1]).is_err());
            // Opening again changes nothing.
            drop(store);
            store = open(&disk).unwrap();
            model = check(&store, &model, &model);
        } else {
            outcome.unwrap_or_else(|error| panic!("{op:?}: {error}"));
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(Op, Option<(u64, u64)>)>> {
    let crash = prop_oneof![3 => Just(None), 1 => (0..7_u64, any::<u64>()).prop_map(Some)];
    proptest::collection::vec((ops(), crash), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Catches anything acknowledged that a power loss takes away, whatever becomes of unsynced
    /// writes, and a healthy folder that is refused.
    #[test]
    fn what_was_acknowledged_survives(steps in steps()) {
        run(&steps, false);
    }
}

/// Catches a crash test that would pass without syncs: with the syncs taken out it must fail.
#[test]
fn the_crash_test_finds_missing_syncs() {
    let append = Op::Append { count: 3, size: 10 };
    let steps = vec![
        (append.clone(), None),
        (append, None),
        (Op::Vote, Some((100, 0))),
    ];
    run(&steps, false);
    let outcome = std::panic::catch_unwind(|| run(&steps, true));
    assert!(outcome.is_err());
}

/// Catches damage at rest that passes unseen: one flipped bit anywhere is refused, or hit nothing
/// that counts and every row is there.
#[test]
fn a_flipped_bit_at_rest_is_refused() {
    let mut refused = 0;
    for seed in 0..600 {
        let disk = SimDisk::new();
        let store = open(&disk).unwrap();
        let mut model = Model::default();
        let script = [
            Op::Append {
                count: 30,
                size: 200,
            },
            Op::Append {
                count: 2,
                size: 9000,
            },
            Op::Vote,
            Op::Meta,
            Op::History {
                count: 20,
                size: 300,
            },
            Op::Snapshot,
            Op::Append { count: 5, size: 50 },
        ];
        for (stamp, op) in script.iter().enumerate() {
            perform(&store, op, &mut model, stamp as u64).unwrap();
        }
        drop(store);
        let hit = disk.flip_bit(Path::new(FOLDER), seed).unwrap();
        match open(&disk) {
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{hit}: {error}"),
            Ok(store) => {
                // Everything is in the database by then; the journal's records are void.
                let harmless = hit.starts_with("mark") || hit.starts_with("journal");
                assert!(harmless, "{hit} was not found");
                check(&store, &model, &model);
            }
        }
    }
    assert!(refused > 400, "{refused}");
}

/// Catches a recovery that takes a shortened log for a whole one.
#[test]
fn a_log_below_the_mark_is_refused() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let mut model = Model::default();
    for stamp in 0..3 {
        perform(
            &store,
            &Op::Append { count: 4, size: 10 },
            &mut model,
            stamp,
        )
        .unwrap();
        // What is not an append brings the rows to the database.
        perform(&store, &Op::Vote, &mut model, stamp).unwrap();
    }
    drop(store);
    disk.lose_last_rows(Path::new(FOLDER), 1);
    let error = open(&disk).unwrap_err();
    assert!(
        matches!(error, StoreError::BelowHighWaterMark { .. }),
        "{error}"
    );
    let text = error.to_string();
    for part in [
        "data/rows",
        "log",
        "row 11",
        "row 7",
        "stop using this folder",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// Catches a damaged journal that costs acknowledged rows without a word, and a record that was
/// never acknowledged that is held against the folder.
#[test]
fn a_damaged_journal_is_refused_unless_its_last_record_is_torn() {
    const PAGE: u64 = 4096;
    let folder = || {
        let disk = SimDisk::new();
        let store = open(&disk).unwrap();
        let mut model = Model::default();
        for stamp in 0..3 {
            let op = Op::Append { count: 4, size: 10 };
            perform(&store, &op, &mut model, stamp).unwrap();
        }
        disk.crash(Fate::DropUnsynced);
        drop(store);
        (disk, model)
    };
    let damage = |disk: &SimDisk, offset: u64| {
        let folder = disk.shared().open(Path::new(FOLDER), 0).unwrap();
        let file = folder.file("journal", false).unwrap();
        let mut byte = [0];
        file.read_at(offset, &mut byte).unwrap();
        file.write_at(offset, &[byte[0] ^ 4]).unwrap();
        file.sync().unwrap();
    };
    let (disk, model) = folder();
    check(&open(&disk).unwrap(), &model, &model);
    // Every byte that a record uses: its header, and the rows behind it.
    for offset in (0..2).flat_map(|page| (0..160).map(move |byte| page * PAGE + byte)) {
        let (disk, _) = folder();
        damage(&disk, offset);
        let error = open(&disk).unwrap_err();
        let text = error.to_string();
        let number = format!("journal: record {}", offset / PAGE);
        assert!(text.contains(&number), "{offset}: {text}");
        assert!(text.contains("stop using this folder"), "{text}");
    }
    let (disk, _) = folder();
    damage(&disk, 2 * PAGE + 100);
    assert_eq!(open(&disk).unwrap().log_range().last, Some(7));
}

/// Catches a folder whose only rows are in the journal and whose mark is gone: opened as a new one,
/// it would lose them.
#[test]
fn a_journal_without_a_mark_is_refused() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    append(&store, vec![row(0, 0, 10)], vec![1]).unwrap();
    disk.crash(Fate::DropUnsynced);
    drop(store);
    let folder = disk.shared().open(Path::new(FOLDER), 0).unwrap();
    let mut rows = 0;
    folder
        .scan(&[], &mut |_, _| {
            rows += 1;
            true
        })
        .unwrap();
    assert_eq!(rows, 0, "the journal is to be all there is");
    folder.remove("mark").unwrap();
    folder.sync_names().unwrap();
    drop(folder);
    let text = open(&disk).unwrap_err().to_string();
    assert!(text.contains("mark: high-water mark"), "{text}");
    assert!(text.contains("stop using this folder"), "{text}");
}

/// Catches a store that goes on after a failed sync or a full disk, or that gives up what was
/// acknowledged before.
#[test]
fn a_failing_disk_stops_the_store_and_loses_nothing() {
    type Break = fn(&SimDisk);
    let append = Op::Append { count: 4, size: 10 };
    let faults: [(Break, Op, &str); 4] = [
        (
            |disk| disk.fail_sync_after(0),
            append.clone(),
            "data/journal: writing failed",
        ),
        (
            |disk| disk.fail_sync_after(0),
            Op::Vote,
            "syncing the database failed",
        ),
        (
            |disk| disk.fail_sync_after(1),
            Op::Vote,
            "writing the high-water mark failed",
        ),
        (|disk| disk.set_full(true), append, "disk full"),
    ];
    for (fault, op, words) in faults {
        let disk = SimDisk::new();
        let store = open(&disk).unwrap();
        let mut model = Model::default();
        perform(&store, &Op::Append { count: 4, size: 10 }, &mut model, 0).unwrap();
        let before = model.clone();
        fault(&disk);
        let Err(first) = perform(&store, &op, &mut model, 1) else {
            panic!("{op:?} succeeded");
        };
        let text = first.to_string();
        assert!(
            text.contains(words) && text.contains("nothing acknowledged was lost"),
            "{text}"
        );
        disk.set_full(false);
        assert_eq!(store.save_vote(vec![1]).unwrap_err(), first);
        assert_eq!(store.read_log(0, 1, 9).unwrap_err(), first);
        assert_eq!(store.failure(), Some(first));
        disk.crash(Fate::DropUnsynced);
        check(&open(&disk).unwrap(), &before, &model);
    }
}
