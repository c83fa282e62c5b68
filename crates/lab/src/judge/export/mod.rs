//! Histories for other tools: JSON, which is the whole experiment, and EDN for Knossos and Elle.

mod edn;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

pub use edn::{elle, knossos};

use crate::experiment::Experiment;

/// Writes an experiment as JSON. [`read_json`] reads it again.
pub fn write_json(experiment: &Experiment, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, experiment)?;
    writeln!(out)
}

/// Reads an experiment that [`write_json`] wrote.
pub fn read_json(from: impl Read) -> io::Result<Experiment> {
    Ok(serde_json::from_reader(from)?)
}
