//! Whom the API obeys: policies, grants and conditions as callers meet them, on running clusters with
//! declared identities.

mod conditions;
mod delayed;
mod grants;
mod matrix;
mod parts;
mod people;
mod race;
mod requests;
mod sessions;
mod table;
