//! Who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree;

/// Each crate and those right below it. A crate may use everything below it.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("authz", &["types"]),
    ("crypto", &["types"]),
    ("store", &["types"]),
    ("state", &["types", "authz"]),
    ("consensus", &["state", "store"]),
    ("service", &["state", "crypto", "consensus"]),
    ("server", &["service"]),
    ("lab", &["server"]),
    ("keyrum", &["lab"]),
    ("tests", &["keyrum"]),
    ("benches", &["keyrum"]),
    // What the tests preload into a node's process: it knows files, and nothing of Keyrum.
    ("powerloss", &[]),
];

/// Outside crates that only some of ours may know, and why.
const KNOWN_BY: &[(&str, &[&str])] = &[
    // One crate speaks Raft. The simulation seeds openraft's runtime.
    ("openraft", &["consensus", "lab"]),
    ("openraft-rt", &["consensus"]),
    // One crate speaks to the disk's rows.
    ("sled", &["store"]),
    // One module of each of these encodes what is kept or sent between nodes.
    ("bincode", &["state", "store", "consensus", "lab", "tests"]),
    // HTTP: the server; clients in the rest.
    ("hyper", &["server", "lab", "keyrum", "tests", "benches"]),
    (
        "hyper-util",
        &["server", "lab", "keyrum", "tests", "benches"],
    ),
    (
        "http-body-util",
        &["server", "lab", "keyrum", "tests", "benches"],
    ),
    // JSON: the wire's in the server, policy documents in authz; reports and files in the rest.
    (
        "serde_json",
        &["server", "authz", "lab", "keyrum", "tests", "benches"],
    ),
    // Randomness comes from one seam; the simulation's is its own.
    ("rand_chacha", &["lab"]),
];

/// Crates without any asynchronous dependency: what they do is a function.
const SYNCHRONOUS: &[&str] = &["types", "state", "authz", "crypto", "store"];

/// What makes a crate asynchronous.
const ASYNCHRONOUS: &[&str] = &[
    "tokio",
    "tokio-rustls",
    "futures",
    "futures-util",
    "async-trait",
    "hyper",
    "openraft",
    "turmoil",
];

/// Each of our crates with what its manifest names, development dependencies left out.
fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = tree::metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().unwrap().iter();
    let short = |name: &str| name.strip_prefix("keyrum-").unwrap_or(name).to_owned();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let shipped = dependencies.filter(|dependency| dependency["kind"] != "dev");
            let names = shipped.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (short(package["name"].as_str().unwrap()), names.collect())
        })
        .collect()
}

fn ours(dependencies: &BTreeSet<String>) -> BTreeSet<&str> {
    dependencies
        .iter()
        .filter_map(|name| name.strip_prefix("keyrum-"))
        .collect()
}

fn below(name: &str) -> BTreeSet<&'static str> {
    let arrows = ARROWS.iter().find(|(upper, _)| *upper == name);
    let (_, lower) = arrows.unwrap_or_else(|| panic!("the crate {name} has no arrows here"));
    lower
        .iter()
        .flat_map(|lower| below(lower).into_iter().chain([*lower]))
        .collect()
}

/// Catches a dependency that the design forbids, such as state on crypto, and a crate that
/// nobody gave a place.
#[test]
fn crates_depend_downwards_only() {
    for (name, dependencies) in manifests() {
        let allowed = below(&name);
        for dependency in ours(&dependencies) {
            assert!(
                allowed.contains(dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

/// Catches a crate that learns what only another should know.
#[test]
fn outside_crates_are_known_where_they_belong() {
    let manifests = manifests();
    for (outside, knowing) in KNOWN_BY {
        for (name, dependencies) in &manifests {
            assert!(
                !dependencies.contains(*outside) || knowing.contains(&name.as_str()),
                "{name} must not know {outside}",
            );
        }
    }
}

/// Catches an asynchronous runtime in a crate that must stay a function.
#[test]
fn the_lower_crates_are_synchronous() {
    let manifests = manifests();
    for name in SYNCHRONOUS {
        for dependency in ASYNCHRONOUS {
            assert!(
                !manifests[*name].contains(*dependency),
                "{name} must not know {dependency}"
            );
        }
    }
}
