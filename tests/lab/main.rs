//! `keyrum lab`, as it is called.

mod power;
mod run;
mod sim;
