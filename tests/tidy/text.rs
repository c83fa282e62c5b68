//! Habits of the text.

use crate::tree;

/// Longest source file, in lines.
const LINES_MAX: usize = 900;

/// Catches a path that only exists on the machine of whoever wrote it.
#[test]
fn no_machine_paths() {
    // Put together here so that this file does not contain them.
    let starts = ["home", "root", "work", "Users"].map(|folder| format!("/{folder}/"));
    for (name, text) in tree::texts() {
        for (number, line) in text.lines().enumerate() {
            for start in &starts {
                // A path, not the middle of another one or of a URL.
                let found = line.match_indices(start.as_str()).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "}.*_-~$:/".contains(c))
                });
                assert!(!found, "{name}:{}: a machine's path: {line}", number + 1);
            }
        }
    }
}

/// Catches work that was left undone.
#[test]
fn nothing_is_left_to_do() {
    let marks = ["to", "unimplemented"].map(|word| match word {
        "to" => format!("{word}do!("),
        _ => format!("{word}!("),
    });
    for (name, text) in rust() {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{name} contains {mark}");
        }
    }
}

/// Catches a file that has grown beyond what one reads in one go.
#[test]
fn files_are_short() {
    for (name, text) in rust() {
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{name} has {lines} lines, more than {LINES_MAX}"
        );
    }
}

/// Catches a test that does not say what it is for.
#[test]
fn every_test_says_what_it_catches() {
    for (name, text) in rust() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            if !(line.starts_with("#[test]") || line.starts_with("#[tokio::test")) {
                continue;
            }
            let above = lines[..at]
                .iter()
                .rev()
                .find(|line| !line.starts_with("#["));
            let said = above.is_some_and(|line| line.starts_with("///"));
            assert!(
                said,
                "{name}:{}: a test without a sentence above it",
                at + 1
            );
        }
    }
}

/// Catches a crate that the description of the architecture has not heard of.
#[test]
fn the_architecture_names_every_crate() {
    let text = std::fs::read_to_string(tree::root().join("ARCHITECTURE.md")).unwrap();
    for entry in std::fs::read_dir(tree::root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let named = text.contains(&format!("crates/{name}")) || text.contains(&format!("`{name}`"));
        assert!(named, "ARCHITECTURE.md does not mention the crate {name}");
    }
}

fn rust() -> impl Iterator<Item = (String, String)> {
    tree::texts()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
}
