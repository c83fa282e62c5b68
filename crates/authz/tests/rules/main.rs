//! The rules of authorization: as a table, as properties, and beside another evaluator.

mod compare;
mod generate;
mod pair;
mod properties;
mod table;
