//! A cluster as processes: what it survives, what it refuses, how it starts and ends.

mod addresses;
mod altered;
mod certs;
mod domain_key;
mod faults;
mod history;
mod imports;
mod key_files;
mod members;
mod peers;
mod priorities;
mod quorum;
mod ready;
mod recipients;
mod refusals;
mod reset;
mod snapshots;
mod stop;
mod tags;
mod terminal;
