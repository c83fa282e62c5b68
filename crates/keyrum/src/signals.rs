//! Ctrl-C and termination requests.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the shell shows for a process that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Requests to stop, from the terminal or another process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on such requests come here instead of ending the process.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
