//! The rules of authorization: as a table, as properties, and beside another evaluator.

mod cast;
mod compare;
mod generate;
mod pair;
mod properties;
mod table_decisions;
mod table_grants;
mod table_language;
