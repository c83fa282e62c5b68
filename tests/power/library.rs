//! The simulated power loss itself.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use keyrum_tests::switch::Switch;
use keyrum_tests::wait;

/// The length of a file that is wide enough to be torn.
const WIDE_BYTES: usize = 32 * 512;

/// Tells the test below that it is to be the victim, and where.
const VICTIM: &str = "KEYRUM_TESTS_VICTIM";

/// No test by itself: what the victim of the next test's power loss does. Would catch nothing.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(VICTIM) else {
        return;
    };
    let folder = Path::new(&folder);
    let sync_names = || File::open(folder).unwrap().sync_all().unwrap();
    let file = |name: &str| {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(name))
            .unwrap()
    };

    let kept = file("kept");
    kept.write_all_at(b"synced", 0).unwrap();
    kept.sync_data().unwrap();
    let mut emptied = file("emptied");
    emptied.write_all(b"precious").unwrap();
    emptied.sync_all().unwrap();
    file("removed").write_all(b"also precious").unwrap();
    File::open(folder.join("removed"))
        .unwrap()
        .sync_all()
        .unwrap();
    file("old").write_all(b"old").unwrap();
    file("old").sync_all().unwrap();
    fs::create_dir(folder.join("kept-folder")).unwrap();
    let wide = file("wide");
    wide.write_all_at(&[b'a'; WIDE_BYTES], 0).unwrap();
    wide.sync_all().unwrap();
    sync_names();

    // From here on nothing is synced but `new` (its bytes, not its name) and `moved`'s name.
    kept.write_all_at(b"UNSYNCED and longer", 0).unwrap();
    fs::write(folder.join("emptied"), b"x").unwrap();
    fs::remove_file(folder.join("removed")).unwrap();
    file("new").write_all(b"new").unwrap();
    file("new").sync_all().unwrap();
    fs::rename(folder.join("old"), folder.join("renamed")).unwrap();
    fs::create_dir(folder.join("lost-folder")).unwrap();
    fs::write(folder.join("lost-folder").join("file"), b"lost").unwrap();
    wide.write_all_at(&[b'b'; 2 * WIDE_BYTES], 0).unwrap();
    kept.set_len(3).unwrap();
    File::create(folder.with_extension("done")).unwrap();
    // Until the power goes, or whoever started it does.
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Has a victim lose its power when it is done, or before as `set` sets the switch.
async fn lose_power(lying: bool, set: impl FnOnce(&Switch)) -> (tempfile::TempDir, Switch) {
    let folder = tempfile::tempdir().unwrap();
    let machine = folder.path().join("machine");
    fs::create_dir(&machine).unwrap();
    let switch = Switch::new(folder.path());
    set(&switch);
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "library::victim", "--nocapture"])
        .env(VICTIM, &machine)
        .envs(switch.environment(&machine, lying))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let done = machine.with_extension("done");
    let mut over = || done.exists() || victim.try_wait().unwrap().is_some();
    wait::until_true("end of the work", wait::SHORT, async || over()).await;
    switch.cut();
    let status = wait::until("end of the victim", wait::SHORT, async || {
        victim.try_wait().unwrap()
    })
    .await;
    assert_eq!(status.code(), Some(137));
    (folder, switch)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Catches a simulation that forgets some kind of change, or takes away what was synced.
#[tokio::test]
async fn what_was_not_synced_is_undone() {
    let (folder, switch) = lose_power(false, |_| {}).await;
    let machine = folder.path().join("machine");
    assert_eq!(
        names(&machine),
        ["emptied", "kept", "kept-folder", "old", "removed", "wide"]
    );
    let read = |name: &str| String::from_utf8(fs::read(machine.join(name)).unwrap()).unwrap();
    assert_eq!(read("kept"), "synced");
    assert_eq!(read("emptied"), "precious");
    assert_eq!(read("removed"), "also precious");
    assert_eq!(read("old"), "old");
    assert_eq!(read("wide"), "a".repeat(WIDE_BYTES));
    let reports = switch.reports();
    assert_eq!(reports.len(), 1);
    assert!(
        reports[0].writes >= 4 && reports[0].names >= 4,
        "{reports:?}"
    );
    assert_eq!(reports[0].torn, 0);
}

/// Catches torn writes that are whole or gone, that tear a sector, or that take what was synced.
#[tokio::test]
async fn what_was_not_synced_is_torn() {
    let (folder, switch) = lose_power(false, |switch| switch.tear_by(7)).await;
    let machine = folder.path().join("machine");
    let wide = fs::read(machine.join("wide")).unwrap();
    assert!((WIDE_BYTES..=2 * WIDE_BYTES).contains(&wide.len()));
    let mut sectors = Vec::new();
    for (nth, sector) in wide.chunks(512).enumerate() {
        let before = if nth * 512 < WIDE_BYTES { b'a' } else { 0 };
        let holds = |byte| sector.iter().all(|other| *other == byte);
        assert!(holds(b'b') || holds(before), "sector {nth}: {sector:?}");
        sectors.push(holds(b'b'));
    }
    let (old, grown) = sectors.split_at(WIDE_BYTES / 512);
    for part in [old, grown] {
        assert!(part.contains(&true) && part.contains(&false), "{part:?}");
    }
    let reports = switch.reports();
    assert!(reports[0].torn >= 1, "{reports:?}");
    // Names go from some point on.
    let names = names(&machine);
    let has = |name: &str| names.iter().any(|other| other == name);
    let there = [
        !has("removed"),
        has("new"),
        has("renamed"),
        has("lost-folder"),
    ];
    assert!(there.is_sorted_by(|a, b| a >= b), "{names:?}");
}

/// Catches a power loss that waits for a sync and comes after it, or at one that covers nothing.
#[tokio::test]
async fn a_sync_that_power_goes_at_covers_nothing() {
    // The victim syncs `kept`, then `emptied`.
    let (folder, switch) = lose_power(false, |switch| switch.cut_at_sync(2)).await;
    assert!(!folder.path().join("machine.done").exists());
    assert_eq!(names(&folder.path().join("machine")), [""; 0]);
    let reports = switch.reports();
    // The names of both and the bytes of the second one.
    assert_eq!((reports[0].writes, reports[0].names), (1, 2), "{reports:?}");
}

/// Catches a switch that does not take the syncs out: then the test that must fail without them
/// would prove nothing.
#[tokio::test]
async fn a_lying_disk_keeps_nothing() {
    let (folder, _) = lose_power(true, |_| {}).await;
    assert_eq!(names(&folder.path().join("machine")), [""; 0]);
}
