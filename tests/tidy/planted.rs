//! Planted bugs stay where they belong.

use crate::tree;

const SWITCHES: &str = "crates/types/src/planted.rs";
const RUNS: &str = "crates/lab/src/sim/run.rs";
const TABLE: &str = "docs/planted-bugs.md";

/// Catches a bug that can be switched on from anywhere but a run of the lab.
#[test]
fn only_the_lab_plants_bugs() {
    // Put together here so that this file does not contain it.
    let call = format!("{}::plant(", "planted");
    for (name, text) in tree::texts() {
        let may = name == RUNS || !name.ends_with(".rs");
        assert!(may || !text.contains(&call), "{name} plants bugs");
    }
}

/// Catches a bug that is at no place in the code, and one that the documentation does not tell.
#[test]
fn every_bug_has_a_place_and_a_line() {
    let read = |name: &str| std::fs::read_to_string(tree::root().join(name)).unwrap();
    let (switches, table) = (read(SWITCHES), read(TABLE));
    let (_, bugs) = switches.split_once("pub enum Bug {").unwrap();
    let (bugs, _) = bugs.split_once("\n}").unwrap();
    let bugs = bugs.lines().map(str::trim);
    let bugs: Vec<&str> = bugs.filter_map(|line| line.strip_suffix(',')).collect();
    let bugs = bugs
        .iter()
        .filter(|bug| bug.chars().all(char::is_alphabetic));
    let mut count = 0;
    for bug in bugs {
        count += 1;
        let asked = format!("planted::is(Bug::{bug})");
        let mut places = tree::texts().into_iter();
        let found = places.any(|(name, text)| name != SWITCHES && text.contains(&asked));
        assert!(found, "nothing asks for {bug}");
        let named = bug.char_indices().map(|(at, letter)| match letter {
            letter if letter.is_uppercase() && at > 0 => format!("-{}", letter.to_lowercase()),
            letter => letter.to_lowercase().to_string(),
        });
        let named = named.collect::<String>();
        assert!(
            table.contains(&format!("`{named}`")),
            "{TABLE} lacks {named}"
        );
    }
    assert!(count >= 10, "{count} bugs");
}

/// Catches a profile for what is shipped that has debug assertions, and so the switches.
#[test]
fn what_is_shipped_has_no_bugs_to_plant() {
    for (name, text) in tree::texts() {
        let settings = name.ends_with("Cargo.toml") || name.ends_with("config.toml");
        let sets = settings && text.contains("debug-assertions");
        assert!(!sets, "{name} sets debug-assertions");
    }
}
