//! Experiments on processes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use keyrum_lab::experiment::{Experiment, Logged, Outcome};
use keyrum_tests::{keyrum, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A call of CreateKey over a bare socket, so that no client is needed.
const CREATE_KEY: &str = r#"
port=${AWS_ENDPOINT_URL##*:}
exec 3<>/dev/tcp/127.0.0.1/$port
printf '%s\r\n' 'POST / HTTP/1.1' 'Host: 127.0.0.1' 'X-Amz-Target: TrentService.CreateKey' \
  'Content-Type: application/x-amz-json-1.1' 'Content-Length: 2' 'Connection: close' \
  'X-Amz-Date: 20260101T000000Z' \
  'Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=0000000000000000000000000000000000000000000000000000000000000000' \
  '' >&3
printf '{}' >&3
grep -q '"KeyState":"Enabled"' <&3 || exit 9
"#;

pub(crate) fn run(scenario: &str, rest: &[&str]) -> (Output, Experiment, String) {
    run_with(&[], scenario, rest)
}

/// Plays a scenario; the experiment that came of it, and its page.
pub(crate) fn run_with(
    envs: &[(&str, &str)],
    scenario: &str,
    rest: &[&str],
) -> (Output, Experiment, String) {
    let folder = tempfile::tempdir().unwrap();
    let [file, history, report] =
        ["scenario.toml", "history.json", "report.html"].map(|name| folder.path().join(name));
    std::fs::write(&file, scenario).unwrap();
    let output = Command::new(keyrum())
        .envs(envs.iter().copied())
        .args(["lab", "run"])
        .arg(&file)
        .arg("--history")
        .arg(&history)
        .arg("--report")
        .arg(&report)
        .args(rest)
        .output()
        .unwrap();
    let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_else(|_| panic!("{output:?}"));
    let experiment = serde_json::from_str(&read(&history)).unwrap();
    let page = read(&report);
    (output, experiment, page)
}

pub(crate) fn words(of: &[u8]) -> String {
    String::from_utf8_lossy(of).into_owned()
}

/// Catches an experiment on processes whose fault does nothing, whose clients are not judged, or
/// that does not say whether what it expected came.
#[test]
fn a_deposed_leader_gives_stale_reads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../cluster-config/experiments/stale-read-local.toml");
    let scenario = std::fs::read_to_string(file).unwrap();
    let (output, experiment, page) = run(&scenario, &[]);
    let told = words(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let line = |checker: &str| {
        let found = told.lines().find(|line| line.starts_with(checker));
        found.unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    assert!(line("linearizable ").contains(" true "), "{told}");
    assert!(line("linearizable-all ").contains(" false "), "{told}");
    assert!(line("linearizable-all ").ends_with("as expected"), "{told}");
    assert_eq!(experiment.faults.len(), 1);
    assert!(experiment.faults[0].effects > Some(0));
    assert!(experiment.healed_at_us.is_some());
    let led: Vec<_> = experiment
        .leaders
        .iter()
        .filter_map(|seen| seen.leader)
        .collect();
    assert!(led.windows(2).any(|two| two[0] != two[1]), "{led:?}");
    assert!(page.contains("linearizable-all"));

    // The same with another expectation is a failure.
    let wrong = scenario.replace("verdict = \"false\"", "verdict = \"true\"");
    let (output, ..) = run(&wrong, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = words(&output.stdout);
    assert!(told.contains("expected true, is false"), "{told}");
}

/// Catches a program whose calls are not noted, that does not find the endpoint, whose credentials are
/// taken for an account, that is judged by what others do, or whose failure is overlooked.
#[test]
fn a_program_is_the_workload() {
    let scenario = "title = \"a program\"\nminutes = 0.1\n[topology]\nregions = 1\n\
                    [[workload]]\nkind = \"key-lifecycle\"\n\
                    [[fault]]\nkind = \"pause\"\nnode = \"follower\"\nat = \"1s\"\nfor = \"2s\"\n\
                    [[expect]]\nchecker = \"linearizable\"\nverdict = \"false\"\n";
    let (output, experiment, _) = run(scenario, &["--", "bash", "-c", CREATE_KEY]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(experiment.clients, ["program-1"]);
    let [call] = &experiment.calls[..] else {
        panic!("{:?}", experiment.calls)
    };
    assert_eq!((&*call.operation, &call.caller), ("CreateKey", &None));
    assert!(
        matches!(&call.outcome, Outcome::Done(answer) if answer["KeyMetadata"]["Enabled"] == true)
    );

    let (output, ..) = run(scenario, &["--", "bash", "-c", "exit 3"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = words(&output.stdout);
    assert!(
        told.contains("the program ended with exit status: 3"),
        "{told}"
    );
}

/// Catches a run that fails since a node which stopped for one fault was taken out of its group by another.
#[test]
fn a_node_that_left_meanwhile_is_not_started_again() {
    let scenario = "title = \"gone\"\nminutes = 0.15\n[topology]\nregions = 1\nnodes = 3\n\
                    [[workload]]\nkind = \"key-lifecycle\"\nclients = 1\n\
                    [[fault]]\nkind = \"crash\"\nnode = 3\nat = \"1s\"\nfor = \"4s\"\n\
                    [[fault]]\nkind = \"member-removed\"\nnode = 3\nat = \"2s\"\n";
    let (output, experiment, _) = run(scenario, &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(experiment.faults.len(), 2);
    assert!(
        experiment
            .calls
            .iter()
            .any(|call| matches!(call.outcome, Outcome::Done(_)))
    );
}

/// Catches families of processes that nobody judges, or whose logs are not read.
#[test]
fn logs_tell_how_many_primaries_there_were() {
    let scenario = "title = \"moves\"\nminutes = 0.15\n[topology]\nregions = 2\nnodes = 1\n\
                    [[workload]]\nkind = \"primary-moves\"\nclients = 2\nobjects = 1\n\
                    [[fault]]\nkind = \"delay\"\nat = \"2s\"\nfor = \"4s\"\n\
                    [[expect]]\nchecker = \"one-primary\"\nverdict = \"true\"\n";
    let (output, experiment, _) = run(scenario, &[]);
    assert!(output.status.success(), "{output:?}");
    let regions: Vec<_> = experiment.logs.iter().map(|log| &*log.region).collect();
    assert_eq!(regions, ["eu-west-1", "us-east-1"]);
    let steps = experiment.logs.iter().flat_map(|log| &log.steps);
    let reigns = steps.filter(|step| matches!(step.what, Logged::Primary(_)));
    assert!(reigns.count() > 2, "no primary moved");
    let told = words(&output.stdout);
    assert!(told.contains("by the logs of 2 Regions"), "{told}");
}

/// Catches an interrupt that leaves nodes behind, or is taken for a verdict.
#[tokio::test]
async fn an_interrupt_ends_it_all() {
    let folder = tempfile::tempdir().unwrap();
    let (file, kept) = (
        folder.path().join("scenario.toml"),
        folder.path().join("kept"),
    );
    std::fs::write(&file, "title = \"long\"\nminutes = 5\n").unwrap();
    let mut lab = tokio::process::Command::new(keyrum())
        .args(["lab", "run"])
        .arg(&file)
        .arg("--keep")
        .arg(&kept)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = kept.join("ready.json");
    wait::until_true("a cluster", wait::LONG, async || ready.exists()).await;
    let ready: Value = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
    let nodes = ready["regions"].as_object().unwrap().values();
    let nodes = nodes.flat_map(|region| region["nodes"].as_array().unwrap());
    let pids: Vec<_> = nodes.map(|node| node["pid"].as_u64().unwrap()).collect();
    assert!(!pids.is_empty());
    let pid = lab.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    kill_process(pid.unwrap(), Signal::INT).unwrap();
    let output = tokio::time::timeout(wait::LONG, lab.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.code(), Some(130));
    for pid in pids {
        let left = Path::new("/proc").join(pid.to_string());
        wait::until_true("its end", wait::LONG, async || !left.exists()).await;
    }
}
