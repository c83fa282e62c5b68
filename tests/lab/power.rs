//! Experiments on processes that lose their power.

use std::process::Command;

use keyrum_tests::{keyrum, powerloss_library};

use crate::run::{run_with, words};

/// All nodes of a Region restart, so that what they did before is on their disks; then they lose power.
const BLACKOUT: &str = r#"
title = "power goes"
minutes = 0.2

[topology]
regions = 1
# So that power goes during snapshots, too.
snapshot_every = 100

[[workload]]
kind = "key-lifecycle"
clients = 4

[[workload]]
kind = "alias-moves"
clients = 2

[[fault]]
kind = "blackout"
at = "1s"
for = "500ms"

[[fault]]
kind = "blackout"
unsynced = "lost"
at = "8s"
for = "500ms"
"#;

fn power_loss() -> [&'static str; 2] {
    let library = powerloss_library();
    ["--power-loss", library.to_str().expect("plain letters")]
}

/// Catches nodes that keep what they had not synced, and ones that lose what they had acknowledged.
#[test]
fn a_blackout_takes_what_was_not_synced() {
    let torn = BLACKOUT.replace("\"lost\"", "\"torn\"");
    for (scenario, at_sync) in [(BLACKOUT.to_owned(), "lost-writes"), (torn, "torn-writes")] {
        let more = format!(
            "[[fault]]\nkind = \"{at_sync}\"\nafter_syncs = 3\nat = \"4s\"\nfor = \"1s\"\n\
             [[expect]]\nchecker = \"durable\"\nverdict = \"true\"\n"
        );
        let (output, experiment, _) = run_with(&[], &(scenario + &more), &power_loss());
        assert!(output.status.success(), "{output:?}");
        let [_, at_sync, blackout] = &experiment.faults[..] else {
            panic!("{:?}", experiment.faults)
        };
        assert!(at_sync.effects > Some(0), "{at_sync:?}");
        assert!(blackout.effects > Some(0), "{blackout:?}");
    }
}

/// Catches a lab that would not notice a disk that says it has synced and has not.
#[test]
fn a_disk_that_lies_is_caught() {
    let lies = [("KEYRUM_POWERLOSS_IGNORE_SYNC", "1")];
    let (output, experiment, page) = run_with(&lies, BLACKOUT, &power_loss());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(experiment.faults[1].effects > Some(100), "{output:?}");
    let told = words(&output.stdout);
    let durable = told.lines().find(|line| line.starts_with("durable"));
    assert!(
        durable.is_some_and(|line| line.contains(" false ")),
        "{told}"
    );
    assert!(page.contains("durable"));
}

/// Catches a run whose power loss would lose nothing, and a refusal that does not say what to do.
#[test]
fn without_the_library_a_power_loss_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    std::fs::write(&file, BLACKOUT).unwrap();
    let lab = |rest: &[&str]| {
        let mut lab = Command::new(keyrum());
        let output = lab.args(["lab", "run"]).arg(&file).args(rest).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = words(&output.stderr);
        assert!(!told.contains("starts 3 nodes"), "{told}");
        assert!(
            told.contains("cargo build --package keyrum-powerloss"),
            "{told}"
        );
        told
    };
    assert!(lab(&[]).contains("--power-loss LIBRARY"));
    assert!(lab(&["--power-loss", "no-such.so"]).contains("no-such.so"));
    assert!(lab(&["--power-loss", keyrum().to_str().unwrap()]).contains("not the library"));

    // Nor does any other cluster lose writes.
    let config = folder.path().join("topology.toml");
    let topology =
        "port = 0\ncredentials = \"any\"\n[[region]]\nname = \"us-east-1\"\nnodes = [{ id = 1 }]\n";
    std::fs::write(&config, topology).unwrap();
    let mut up = Command::new(keyrum());
    up.args(["cluster", "up", "--config"]).arg(&config);
    up.arg("--data").arg(folder.path().join("data"));
    let output = up.args(power_loss()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(words(&output.stderr).contains("test_clock"), "{output:?}");
}
