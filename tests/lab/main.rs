//! `keyrum lab`, as it is called.

#[cfg(target_os = "linux")]
mod packets;
mod power;
mod run;
mod sim;
