//! Ctrl-C, termination requests, and a terminal that closes.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the shell shows for a process that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Requests to stop, from the terminal or another process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` under `nohup`.
    hang_up: Option<Signal>,
}

impl Signals {
    /// From now on such requests come here instead of ending the process.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: match ignores_hang_up() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(()) = hang_up(&mut self.hang_up) => {}
        }
    }
}

async fn hang_up(signal: &mut Option<Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// Whether this process was started to outlive its terminal, as `nohup` does. Known on Linux only:
/// elsewhere it ends with its terminal.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_some_and(|signals| signals & 1 == 1)
}
