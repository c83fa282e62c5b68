//! Experiments whose faults drop packets.

use std::process::Command;

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
  until nft list chain ip keyrum fault$fault 2>&1 | grep -q 'counter packets [1-9]'; do :; done
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

    let short = "title = \"x\"\nminutes = 0.01\n[topology]\nregions = 1\n";
    let (output, ..) = run(short, &["--packets", "--", "bash", "-c", "exit 3"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// Catches a machine that allows none of this, and a command that does not say what is missing, or has
/// begun something.
#[test]
fn what_is_missing_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let (file, kept) = (folder.path().join("scenario.toml"), folder.path().join("kept"));
    std::fs::write(&file, SCENARIO).unwrap();
    let mut command = Command::new(keyrum());
    command.args(["lab", "run", "--packets", "--keep"]);
    let output = command
        .arg(&kept)
        .arg(&file)
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = words(&output.stderr);
    assert!(said.starts_with("keyrum: --packets: it takes unshare (package util-linux)"), "{said}");
    assert!(said.contains("nothing was started; without --packets"), "{said}");
    assert!(output.stdout.is_empty() && !kept.exists());
}
