//! Where time and randomness enter. Production passes the machine's own, the simulation passes
//! ones that a seed fixes; nothing else in the workspace may ask the machine (see `clippy.toml`).

use crate::UnixMillis;

/// The machine's own wall clock. Never the Region's clock, which lives in the replicated state.
pub trait Clock: Send + Sync + 'static {
    /// Now, by this machine.
    fn now(&self) -> UnixMillis;
}

/// A source of cryptographically secure random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills all of `bytes`. A source that cannot answer ends the process: there is no safe
    /// way to go on without randomness.
    fn fill(&self, bytes: &mut [u8]);
}
