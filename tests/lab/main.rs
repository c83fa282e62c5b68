//! `keyrum lab`, as it is called.

mod packets;
mod run;
mod sim;
