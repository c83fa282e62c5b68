//! Experiments on processes.

use std::path::Path;
use std::process::{Command, Output};

use keyrum_lab::experiment::{Experiment, Outcome};
use keyrum_tests::keyrum;

/// A call of CreateKey over a bare socket, so that no client is needed.
const CREATE_KEY: &str = r#"
port=${AWS_ENDPOINT_URL##*:}
exec 3<>/dev/tcp/127.0.0.1/$port
printf '%s\r\n' 'POST / HTTP/1.1' 'Host: 127.0.0.1' 'X-Amz-Target: TrentService.CreateKey' \
  'Content-Type: application/x-amz-json-1.1' 'Content-Length: 2' 'Connection: close' '' >&3
printf '{}' >&3
grep -q '"KeyState":"Enabled"' <&3 || exit 9
"#;

pub(crate) fn run(scenario: &str, rest: &[&str]) -> (Output, Experiment, String) {
    let folder = tempfile::tempdir().unwrap();
    let [file, history, report] =
        ["scenario.toml", "history.json", "report.html"].map(|name| folder.path().join(name));
    std::fs::write(&file, scenario).unwrap();
    let output = Command::new(keyrum())
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

/// Catches a program whose calls are not noted, that does not find the endpoint, or whose failure is
/// overlooked.
#[test]
fn a_program_is_the_workload() {
    let scenario = "title = \"a program\"\nminutes = 0.1\n[topology]\nregions = 1\n\
                    [[fault]]\nkind = \"pause\"\nnode = \"follower\"\nat = \"1s\"\nfor = \"2s\"\n";
    let (output, experiment, _) = run(scenario, &["--", "bash", "-c", CREATE_KEY]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(experiment.clients, ["program-1"]);
    let [call] = &experiment.calls[..] else {
        panic!("{:?}", experiment.calls)
    };
    assert_eq!(call.operation, "CreateKey");
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
