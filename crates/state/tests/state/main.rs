//! What the crate promises, asked through its public surface.

mod generate;
mod golden_log;
mod limits;
mod names;
mod properties;
mod script;
mod transcripts;
