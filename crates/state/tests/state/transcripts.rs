//! Conversations with the real `apply`, kept as text and reviewed as text.
//!
//! A file is blocks parted by empty lines: comments, commands, `---`, and what came of them. A
//! command that must be refused begins with `!`. KEYRUM_UPDATE_GOLDEN=1 rewrites what stands
//! below each `---`; read the diff and keep it only if every line can be explained.

use std::fs;
use std::path::{Path, PathBuf};

use crate::script::Script;
use crate::words::{EVENTS, REFUSALS};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn run(text: &str, file: &Path) -> String {
    let mut script = Script::new();
    let mut blocks = Vec::new();
    for block in text.split("\n\n") {
        let said = block.split("\n---").next().unwrap().trim_matches('\n');
        if said.is_empty() {
            continue;
        }
        let mut heard = Vec::new();
        for line in said.lines().filter(|line| !line.starts_with('#')) {
            let (line, must_refuse) = line
                .strip_prefix('!')
                .map_or((line, false), |line| (line, true));
            let (lines, refused) = script.run(line);
            assert_eq!(
                refused,
                must_refuse,
                "{}: {line}: {lines:?}",
                file.display()
            );
            heard.extend(lines);
        }
        for state in script.states() {
            let digest = state.digest();
            assert_eq!(
                digest,
                state.recompute_digest(),
                "{}: {said}",
                file.display()
            );
        }
        let only_comments = heard.is_empty();
        blocks.push(if only_comments {
            said.to_owned()
        } else {
            format!("{said}\n---\n{}", heard.join("\n"))
        });
    }
    blocks.join("\n\n") + "\n"
}

/// Catches any change of what a command does, what it is refused for, or how that reads.
#[test]
fn transcripts_hold() {
    let update = std::env::var_os("KEYRUM_UPDATE_GOLDEN").is_some_and(|value| value == "1");
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let found = run(&text, &file);
        if update {
            fs::write(&file, &found).unwrap();
        } else {
            assert_eq!(
                found,
                text,
                "{}: see this module's documentation",
                file.display()
            );
        }
    }
}

/// Catches an event or a refusal that no transcript meets.
#[test]
fn every_event_and_refusal_is_met() {
    let all: String = files()
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for name in EVENTS {
        assert!(
            all.contains(&format!("\n{name} ")) || all.contains(&format!(": {name} ")),
            "no transcript has the event {name}"
        );
    }
    for name in REFUSALS {
        assert!(
            all.contains(&format!("\nError: {name}: ")),
            "no transcript is refused {name}"
        );
    }
}
