//! `keyrum lab`: experiments.

mod endpoint;
mod inflict;
mod judged;
mod logs;
mod namespace;
mod packets;
mod play;
mod processes;
mod program;
pub(crate) mod report;
mod shorten;
mod sim;
mod sweep;
mod watch;

pub(crate) use play::play;
pub(crate) use sim::{runs, sim};
