//! The whole API against what the real service's own documents say of it: the service model, and the
//! table of key states.

mod kms;
mod prepared;
mod seen;
mod states;
mod walk;
