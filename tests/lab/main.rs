//! `keyrum lab`, as it is called.

mod run;
mod sim;
