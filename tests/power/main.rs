//! What a power loss leaves: all nodes at once, in the middle of their work, lose every write that
//! no `fsync` or `fdatasync` covered. Nothing that was acknowledged may be among them.

mod library;
mod nodes;
mod reset;
