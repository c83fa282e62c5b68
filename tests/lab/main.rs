//! `keyrum lab`, as it is called.

mod sim;
