//! Under which licences the dependencies come.

use std::process::Command;

use crate::tree;

/// Licences that ask for nothing but their notice.
const TAKEN: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
];

/// Exceptions: a package, the licence it is taken under, and why that is fine.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "unicode-ident",
    "Unicode-3.0",
    "data tables of Unicode; asks for its notice only",
)];

/// Parses an SPDX expression and says whether it can be met with licences that `taken` accepts.
/// The slash is an older way to write OR.
fn acceptable(expression: &str, taken: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let accepted = any_of(&mut words, taken);
    assert!(
        words.is_empty(),
        "{expression:?} is not a licence expression"
    );
    accepted
}

fn any_of(words: &mut Vec<&str>, taken: &dyn Fn(&str) -> bool) -> bool {
    let mut accepted = all_of(words, taken);
    while words.last() == Some(&"OR") {
        words.pop();
        accepted |= all_of(words, taken);
    }
    accepted
}

fn all_of(words: &mut Vec<&str>, taken: &dyn Fn(&str) -> bool) -> bool {
    let mut accepted = one(words, taken);
    while words.last() == Some(&"AND") {
        words.pop();
        accepted &= one(words, taken);
    }
    accepted
}

fn one(words: &mut Vec<&str>, taken: &dyn Fn(&str) -> bool) -> bool {
    let word = words
        .pop()
        .expect("an expression does not end in an operator");
    if word == "(" {
        let accepted = any_of(words, taken);
        assert_eq!(words.pop(), Some(")"));
        return accepted;
    }
    if words.last() == Some(&"WITH") {
        words.pop();
        let exception = words.pop().expect("WITH is followed by an exception");
        return taken(&format!("{word} WITH {exception}"));
    }
    taken(word)
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap()
        .to_owned()
}

/// Catches a dependency whose licence nobody agreed to, and an exception that is out of date.
#[test]
fn every_dependency_has_an_agreed_licence() {
    let metadata = tree::metadata(&["--filter-platform", &host()]);
    let mut used = Vec::new();
    let mut refused = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let expression = package["license"].as_str().unwrap_or("none");
        let plain = |licence: &str| TAKEN.contains(&licence);
        if acceptable(expression, &plain) {
            continue;
        }
        let exception = EXCEPTIONS.iter().find(|(package, ..)| *package == name);
        match exception {
            Some((_, licence, _))
                if acceptable(expression, &|one| plain(one) || one == *licence) =>
            {
                used.push(name);
            }
            _ => refused.push(format!("{name}: {expression}")),
        }
    }
    assert!(refused.is_empty(), "licences to agree to: {refused:#?}");
    for (package, ..) in EXCEPTIONS {
        assert!(
            used.contains(package),
            "the exception for {package} is needed no more"
        );
    }
}

/// Catches a reader of licence expressions that takes OR for AND.
#[test]
fn expressions_mean_what_they_say() {
    let taken = |licence: &str| ["MIT", "ISC", "A WITH B"].contains(&licence);
    for (expression, meaning) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("A WITH B OR GPL-3.0", true),
    ] {
        assert_eq!(acceptable(expression, &taken), meaning, "{expression}");
    }
}
