//! Experiments whose faults drop packets.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use keyrum_tests::keyrum;

use crate::run::{run, words};

const SCENARIO: &str = r#"
title = "packets"
minutes = 0.2
[topology]
regions = 1

[[fault]]
kind = "isolate"
node = "leader"
at = "2s"
for = "3s"

[[fault]]
kind = "lose"
node = "follower"
percent = 30
at = "6s"
for = "3s"

[[fault]]
kind = "stall"
node = "follower"
at = "10s"
for = "1s"

[[expect]]
checker = "exercised"
verdict = "true"
"#;

/// Looks from within: sees the rules of the first two faults count packets, and no other network.
/// Makes a key meanwhile, and ends with another code at each failure.
const WITHIN: &str = r#"
PATH=$PATH:/usr/sbin:/sbin
for fault in 0 1; do
  until nft list chain ip keyrum fault$fault 2>&1 | grep -q 'counter packets [1-9]'; do
    sleep 0.1
  done
done
[ "$(ip -o link | wc -l)" = 1 ] || exit 8
port=${AWS_ENDPOINT_URL##*:}
exec 3<>/dev/tcp/127.0.0.1/$port
printf '%s\r\n' 'POST / HTTP/1.1' 'Host: 127.0.0.1' 'X-Amz-Target: TrentService.CreateKey' \
  'Content-Type: application/x-amz-json-1.1' 'Content-Length: 2' 'Connection: close' '' >&3
printf '{}' >&3
grep -q '"KeyState":"Enabled"' <&3 || exit 9
"#;

/// Whether this machine gives a network in which packets may be dropped, as the tools themselves say.
fn allowed() -> bool {
    let script = "PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && nft add table ip probe";
    let ways = [&["--net"][..], &["--user", "--map-root-user", "--net"]];
    let allowed = ways.iter().any(|way| {
        let mut probe = Command::new("unshare");
        let probe = probe.args(*way).args(["--", "sh", "-c", script]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    if !allowed {
        println!("left out: this machine has no network namespaces with nftables, or gives none");
    }
    allowed
}

/// Catches faults that drop no packets, or more than theirs for good; that are not counted; and a
/// program that runs outside, or whose failure is overlooked.
#[test]
fn packets_are_dropped_in_a_network_of_its_own() {
    if !allowed() {
        return;
    }
    let (output, experiment, page) = run(SCENARIO, &["--packets", "--", "bash", "-c", WITHIN]);
    assert!(output.status.success(), "{output:?}");
    assert!(experiment.healed_at_us.is_some());
    let kinds: Vec<_> = experiment.faults.iter().map(|f| f.kind.as_ref()).collect();
    assert_eq!(kinds, ["isolate", "lose", "stall"]);
    for fault in &experiment.faults {
        assert!(fault.effects > Some(0), "{fault:?}");
    }
    let followed = experiment.leaders.iter().filter_map(|seen| seen.leader);
    let leaders: std::collections::BTreeSet<_> = followed.collect();
    assert!(leaders.len() > 1, "nobody was cut off: {leaders:?}");
    assert!(experiment.replay.ends_with(" --packets") && page.contains("--packets"));
    assert_eq!(experiment.calls.len(), 1);

    let short = "title = \"x\"\nminutes = 0.05\n[topology]\nregions = 1\n";
    let (output, ..) = run(short, &["--packets", "--", "bash", "-c", "exit 3"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// Runs the scenario with programs of this folder before all others, and nothing else if it is alone.
fn refused(folder: &Path, alone: bool) -> String {
    let (file, kept) = (folder.join("scenario.toml"), folder.join("kept"));
    std::fs::write(&file, SCENARIO).unwrap();
    let others = std::env::var("PATH").unwrap();
    let path = match alone {
        true => folder.display().to_string(),
        false => format!("{}:{others}", folder.display()),
    };
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(keyrum())
        .args(["lab", "run", "--packets", "--keep"])
        .arg(&kept)
        .arg(&file)
        .env("PATH", path)
        .output()
        .unwrap();
    let said = words(&stderr);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.starts_with("keyrum: --packets: "), "{said}");
    let instead = "nothing was started; without --packets the nodes";
    assert!(said.contains(instead), "{said}");
    assert!(stdout.is_empty() && !kept.exists(), "{said}");
    said
}

/// Catches a refusal that does not say what is missing or what the system said, one that comes after
/// something was begun, and a command that starts itself again for ever.
#[test]
fn what_is_missing_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let said = refused(folder.path(), true);
    assert!(
        said.contains("it takes unshare (package util-linux)"),
        "{said}"
    );

    program("nft", "echo 'no such protocol' >&2; exit 1");
    if allowed() {
        let said = refused(folder.path(), false);
        assert!(
            said.contains("nft add table ip keyrum` says: no such protocol."),
            "{said}"
        );
    }
    program("ip", "exit 0");
    program("unshare", "echo 'unshare: not permitted' >&2; exit 1");
    let said = refused(folder.path(), true);
    assert!(
        said.contains("of one's own (unshare: not permitted)"),
        "{said}"
    );
    program(
        "unshare",
        "while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"",
    );
    let said = refused(folder.path(), true);
    assert!(said.contains("unshare led to no other network"), "{said}");
}
