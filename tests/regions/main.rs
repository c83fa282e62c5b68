//! Multi-Region keys between running Regions, driven by the official SDK: on `keyrum dev` what
//! callers see, on processes what is left when nodes are killed on the way.

mod deletion;
mod errors;
mod faults;
mod imports;
mod kinds;
mod relatives;
mod rotation;
mod walk;
