//! Simulations, one and many.

use std::fs::read_link;
use std::io;
use std::process::{Child, Command, Output, Stdio};

use keyrum_tests::{keyrum, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn sim(args: &str) -> Command {
    let mut command = Command::new(keyrum());
    command.args(["lab", "sim"]).args(args.split(' '));
    command
}

fn words(of: &[u8]) -> String {
    String::from_utf8_lossy(of).into_owned()
}

/// Catches a sweep that leaves a seed out, runs one otherwise than it would run alone, or sums up
/// wrongly.
#[test]
fn a_sweep_is_what_its_seeds_are() {
    let one = sim("--seed 4 --regions 1 --minutes 0.25 --json")
        .output()
        .unwrap();
    let many = sim("--seed 3 --seeds 3 --regions 1 --minutes 0.25 --json")
        .output()
        .unwrap();
    let verdicts = |output: &Output| -> Vec<Value> {
        let lines = words(&output.stdout);
        let lines = lines.lines().map(serde_json::from_str::<Value>);
        lines.map(Result::unwrap).collect()
    };
    assert!(many.status.success(), "{many:?}");
    let mut found = verdicts(&many);
    let all = found.pop().unwrap();
    assert_eq!((&all["seeds"], &all["passed"]), (&3.into(), &3.into()));
    found.sort_by_key(|verdict| verdict["seed"].as_u64());
    let seeds: Vec<_> = found
        .iter()
        .map(|found| found["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds, [3, 4, 5]);
    assert_eq!(verdicts(&one), [found[1].clone()]);
    let calls: u64 = (found.iter())
        .map(|found| found["figures"]["calls"].as_u64().unwrap())
        .sum();
    assert_eq!(all["figures"]["calls"], calls);
    let sum = words(&many.stderr);
    assert!(sum.starts_with("3 seeds: 3 passed, none failed\n"), "{sum}");
    assert!(sum.contains(&format!("calls: {calls},")), "{sum}");
}

/// A sweep over long runs, and the first of those.
async fn begun(seeds: &str) -> (Child, Vec<Pid>) {
    let mut command = sim(&format!("--seeds {seeds} --regions 1 --minutes 600"));
    let sweep = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", sweep.id());
    let mut runs = Vec::new();
    wait::until_true("runs", wait::SHORT, async || {
        let text = std::fs::read_to_string(&children).unwrap();
        let pids = text.split_whitespace().map(|pid| pid.parse().unwrap());
        runs = pids.map(|pid| Pid::from_raw(pid).unwrap()).collect();
        !runs.is_empty()
    })
    .await;
    (sweep, runs)
}

/// Catches a run that ends without a verdict and is taken for one that passed.
#[tokio::test]
async fn a_run_that_breaks_off_is_told() {
    let (sweep, runs) = begun("1").await;
    kill_process(runs[0], Signal::KILL).unwrap();
    let output = sweep.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let sum = "1 seeds: 0 passed, none failed, 1 ended without a verdict (1)\n";
    assert!(words(&output.stdout).starts_with(sum), "{output:?}");
    let told = words(&output.stderr);
    assert!(
        told.starts_with("seed 1 gave no verdict (signal: 9"),
        "{told}"
    );
    let again = "again: keyrum lab sim --seed 1 --regions 1 --minutes 600\n";
    assert!(told.contains(again), "{told}");
}

/// Catches a sweep that does not stop when it is told to, or leaves runs behind.
#[tokio::test]
async fn a_sweep_can_be_interrupted() {
    let (sweep, runs) = begun("1000").await;
    kill_process(Pid::from_child(&sweep), Signal::INT).unwrap();
    let output = sweep.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let text = words(&output.stdout);
    assert!(
        text.starts_with("interrupted after 0 of 1000 seeds\n"),
        "{text}"
    );
    wait::until_true("no runs", wait::SHORT, async || {
        // One that has ended and that nobody asked for has no program any more.
        runs.iter()
            .all(|run| read_link(format!("/proc/{run}/exe")).is_err())
    })
    .await;
}

/// Catches faults that come although they were left out, a run with a part of its plan that is asked to
/// go through all of it, and options that cannot be.
#[test]
fn faults_can_be_chosen() {
    const SEED: &str = "--seed 4 --regions 1 --minutes 0.25";
    for (chosen, count) in [("none", 0), ("0", 1), ("0,2", 2)] {
        let output = sim(&format!("{SEED} --json --faults {chosen}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{chosen}: {output:?}");
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        let kinds = verdict["figures"]["faults"].as_object().unwrap();
        let came: u64 = kinds.values().map(|came| came.as_u64().unwrap()).sum();
        assert_eq!(came, count, "{chosen}");
    }
    // Nothing to shorten.
    let output = sim(&format!("{SEED} --shorten")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        words(&output.stdout).starts_with("seed 4: passed\n"),
        "{output:?}"
    );
    for (options, part) in [
        ("--faults 1;2", "such as 0,3,7; or none"),
        ("--faults 1 --seeds 2", "--seeds"),
        ("--shorten --trace -", "--trace"),
        ("--seeds 0", "--seeds"),
    ] {
        let output = sim(&format!("{SEED} {options}")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options}");
        assert!(
            words(&output.stderr).contains(part),
            "{options}: {output:?}"
        );
    }
}

/// Catches a simulation that fails because nobody reads its trace to the end.
#[test]
fn a_simulation_outlives_the_reader_of_its_trace() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = sim("--seed 1 --minutes 0.25 --trace -")
        .stdout(writer)
        .output()
        .unwrap();
    let words = words(&output.stderr);
    assert!(output.status.success(), "{words}");
    assert!(words.starts_with("seed 1: passed"), "{words}");
}
