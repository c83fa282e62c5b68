//! Multi-Region keys between running Regions, driven by the official SDK: on `keyrum dev` what
//! callers see, on processes what is left when nodes are killed on the way.

mod certs;
mod deletion;
mod distance;
mod errors;
mod faults;
mod frozen;
mod hold;
mod identities;
mod imports;
mod joining;
mod kinds;
mod month;
mod provider;
mod relatives;
mod rotation;
mod storm;
mod walk;
