//! Families between Regions: how soon a change has reached every member, what a rotation of many
//! families at once does to other callers, and how soon a Region that was away is level again. One
//! file each, with its question and its estimate.
//!
//! What has happened in a Region is read on the node that leads it: what that node has applied is
//! in the Region's log for good.

pub(crate) mod changes;
mod family;
pub(crate) mod missed;
pub(crate) mod rotations;

/// Families begin in the first.
const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "us-west-2"];
