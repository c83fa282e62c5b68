//! The files that nodes write their records to.

use std::path::Path;

use serde_json::Value;

/// All records in a folder, a file's in their order. Each line but a last one that is being written
/// must be one.
pub(crate) fn read(folder: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .collect();
    files.sort();
    let mut records = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("records are text");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let record = serde_json::from_str(line);
            records.push(record.unwrap_or_else(|error| panic!("{error} in {file:?}: {line}")));
        }
    }
    records
}

/// A member of a record that is text; empty if it is not there.
pub(crate) fn text<'r>(record: &'r Value, member: &str) -> &'r str {
    record[member].as_str().unwrap_or_default()
}
