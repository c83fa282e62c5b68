//! The programs under test, built when a test asks for them first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `keyrum` program: what `KEYRUM_BIN` names, else built now, with the tests' own profile and
/// next to them. Cargo's own lock keeps test processes from building at the same time.
pub fn keyrum() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("KEYRUM_BIN") {
        Some(path) => PathBuf::from(path),
        None => build("keyrum").join(format!("keyrum{}", std::env::consts::EXE_SUFFIX)),
    })
}

/// The library that takes away what was not synced; see `tests/powerloss`.
pub fn powerloss_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| match std::env::var_os("KEYRUM_POWERLOSS_LIBRARY") {
        Some(path) => PathBuf::from(path),
        None => build("keyrum-powerloss").join("libkeyrum_powerloss.so"),
    })
}

/// Builds a package and returns the folder with what came of it.
fn build(package: &str) -> PathBuf {
    // The test is <target>/[<triple>/]<profile>/deps/<name>.
    let test = std::env::current_exe().expect("a process knows its program");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("a test is in a folder of the target folder");
    let profile = folder
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a profile's folder");
    let profile = if profile == "debug" { "dev" } else { profile };
    let target = folder
        .parent()
        .expect("a profile's folder is in the target folder");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            package,
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "cannot build {package}");
    folder.to_owned()
}
