//! What the compiler does not check about this repository: which crate may know which, licences,
//! and habits of the text.

mod arrows;
mod experiments;
mod licences;
mod planted;
mod text;
mod tree;
