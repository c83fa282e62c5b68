//! Every planted bug is found by a run, and by the check that is there for it. Each run is a process of
//! its own: only the first run of a process is fixed by its seed.
#![cfg(debug_assertions)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyrum_lab::plant::Plant;
use keyrum_lab::scenario::{Scenario, Stage};
use keyrum_lab::sim::{SimOptions, Verdict, run};
use keyrum_types::planted::Bug;
use tokio::time::Instant;

/// What the child process reads instead of arguments, which belong to the test harness.
const SEED: &str = "KEYRUM_LAB_SEED";
const PLANT: &str = "KEYRUM_LAB_PLANT";
const WITHOUT_BUG: &str = "KEYRUM_LAB_WITHOUT_BUG";
const JSON: &str = "KEYRUM_LAB_JSON";

/// How many seeds may be needed.
const SEEDS_MAX: u64 = 200;

/// A seed that finds each bug, and what says so. As in `docs/planted-bugs.md`, which `sweep` prints.
const FOUND: [(&str, u64, &str); 15] = [
    ("acknowledge-before-sync", 1, "run"),
    ("vote-not-synced", 1, "ballots"),
    ("read-without-read-index", 1, "session-order"),
    ("leader-restored", 2, "session-order"),
    ("requests-forgotten", 1, "run"),
    ("authorize-before-decide", 1, "authorization"),
    ("digest-skipped", 15, "replicas-agree"),
    ("lying-disks", 1, "run"),
    ("forgetful-node", 1, "ballots"),
    ("hash-map-in-state", 1, "replicas-agree"),
    ("message-taken-twice", 1, "channels"),
    ("epoch-ignored", 4, "families"),
    ("step-up-before-step-down", 1, "families"),
    ("rotate-unconfirmed", 1, "families"),
    ("claimed-delivery", 1, "channels"),
];

/// The scenario for a bug that the faults which a seed chooses would seldom meet.
fn scenario(plant: Plant) -> Option<(String, Scenario)> {
    let name = match plant {
        Plant::Inside(Bug::RequestsForgotten) => "repeated-requests.toml",
        _ => return None,
    };
    let text = include_str!("planted/repeated-requests.toml");
    let scenario = Scenario::parse(Path::new(name), text, Stage::Simulation);
    Some((name.to_owned(), scenario.unwrap()))
}

/// Not a test: one run, in the process that the others start.
#[test]
#[ignore = "started by the other tests"]
fn one_run() {
    let variable = |name| std::env::var(name).ok();
    let (Some(seed), Some(file)) = (variable(SEED), variable(JSON)) else {
        return;
    };
    let plant = Plant::named(&variable(PLANT).unwrap()).unwrap();
    let mut options = SimOptions::new(seed.parse().unwrap());
    options.regions = plant.regions();
    options.scenario = scenario(plant);
    options.plant = match variable(WITHOUT_BUG) {
        None => Some(plant),
        Some(_) => plant.without_bug(),
    };
    let verdict = run(options);
    std::fs::write(file, serde_json::to_vec(&verdict).unwrap()).unwrap();
    // Threads of the code under test may still run.
    std::process::exit(0);
}

/// A run under way.
struct Running {
    child: Child,
    file: tempfile::NamedTempFile,
    began: Instant,
}

impl Running {
    /// A run that a bug is planted in or, without it, one that differs in nothing else.
    fn start(plant: Plant, seed: u64, without_bug: bool) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["one_run", "--exact", "--ignored", "--test-threads=1"])
            .env(PLANT, plant.name())
            .env(SEED, seed.to_string())
            .env(JSON, file.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if without_bug {
            command.env(WITHOUT_BUG, "1");
        }
        Self {
            child: command.spawn().unwrap(),
            file,
            began: Instant::now(),
        }
    }

    fn end(self) -> (Verdict, Duration) {
        let output = self.child.wait_with_output().unwrap();
        let bytes = std::fs::read(self.file.path()).unwrap();
        let verdict = serde_json::from_slice(&bytes);
        let verdict = verdict.unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (verdict, self.began.elapsed())
    }
}

/// Catches checks that overlook a bug: each is planted in a run that must find it, by the check that
/// is there for it, and that passes without the bug.
#[test]
fn every_planted_bug_is_found() {
    for plant in Plant::all() {
        let name = plant.name();
        let found = FOUND.iter().find(|(known, ..)| *known == name);
        let &(_, seed, check) = found.unwrap_or_else(|| panic!("no seed for {name}"));
        let with = Running::start(plant, seed, false);
        let without = Running::start(plant, seed, true);
        let (with, without) = (with.end().0, without.end().0);
        let says = with.findings.first().map(|finding| &*finding.check);
        assert_eq!(says, Some(check), "{name}: {with}");
        assert!(without.passed(), "{name}: {without}");
    }
}

/// Catches a bug that no seed of many finds. Prints the table of `docs/planted-bugs.md`; with
/// `KEYRUM_LAB_PLANT` its line for one bug.
#[test]
#[ignore = "up to 3,000 runs: some minutes"]
fn sweep() {
    let only = std::env::var(PLANT).ok();
    let mut missed = Vec::new();
    for plant in Plant::all() {
        let name = plant.name();
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let began = Instant::now();
        let regions = plant.regions();
        let run = |seed| Running::start(plant, seed, false).end();
        let mut runs = (1..=SEEDS_MAX).map(run);
        // A run in which too little happened would fail without the bug too.
        let finds = |verdict: &Verdict| {
            let mut findings = verdict.findings.iter();
            findings.any(|finding| finding.check != "not-exercised")
        };
        match runs.find(|(verdict, _)| finds(verdict)) {
            Some((verdict, wall)) => {
                let first = &verdict.findings[0];
                println!(
                    "| `{name}` | {regions} | {} | {} | {:.1} s | {:.1} s | {:.0} s |",
                    verdict.seed,
                    first.check,
                    verdict.simulated_ms as f64 / 1000.0,
                    wall.as_secs_f64(),
                    began.elapsed().as_secs_f64(),
                );
                eprintln!("{name}: {first}");
            }
            None => missed.push(name),
        }
    }
    assert!(
        missed.is_empty(),
        "not found by {SEEDS_MAX} seeds: {missed:?}"
    );
}
