//! What `openssl speed` says, where there is one and it knows the algorithm.

use std::process::{Command, Stdio};

/// Operations a second of processor time of one of its algorithms; `None` without the program or the algorithm.
///
/// `column` is the place of the figure in the line of results that begins with `+F` and belongs to the
/// algorithm, as `-mr` prints it.
fn speed(arguments: &[&str], column: usize) -> Option<f64> {
    let output = Command::new("openssl")
        .args(["speed", "-mr", "-seconds", "1"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    read(&String::from_utf8_lossy(&output.stdout), column)
}

fn read(text: &str, column: usize) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("+F"))?;
    line.split(':').nth(column)?.parse().ok()
}

/// A cipher or MAC over blocks of 1 KiB. The program prints bytes a second.
pub(super) fn blocks(arguments: &[&str]) -> Option<f64> {
    let bytes = speed(&[arguments, &["-bytes", "1024"]].concat(), 3)?;
    Some(bytes / 1024.0)
}

/// Signatures a second.
pub(super) fn signatures(algorithm: &str) -> Option<f64> {
    // +F2:0:2048:<signs/s>:<verifies/s>, +F4:3:256:..., but +F6:0:253:Ed25519:..., +F7:0:256:CurveSM2:...
    let named = algorithm == "ed25519" || algorithm == "sm2";
    speed(&[algorithm], if named { 4 } else { 3 })
}

/// Agreements a second.
pub(super) fn agreements(algorithm: &str) -> Option<f64> {
    speed(&[algorithm], 3)
}

/// The program's version.
pub(super) fn version() -> Option<String> {
    let output = Command::new("openssl").arg("version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.split('(').next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a figure that is read from another column.
    #[test]
    fn lines_of_results_are_read() {
        let text = "+H:1024\n+F:23:hmac(sha256):1508352000.00\n";
        assert_eq!(read(text, 3), Some(1_508_352_000.0));
        assert_eq!(read("+F2:0:2048:1600.5:56000.0\n", 3), Some(1600.5));
        assert_eq!(read("nothing", 3), None);
    }
}
