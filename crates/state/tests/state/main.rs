//! What the crate promises, asked through its public surface.

mod domain_key;
mod families;
mod generate;
mod golden_log;
mod identities;
mod limits;
mod properties;
mod script;
mod spreading;
mod transcripts;
mod words;
