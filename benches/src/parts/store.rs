//! **Question.** How often a second does a node's store make rows durable, and how many?
//!
//! **Estimate.** One append costs two syncs, of the rows and of the high-water mark, and sled's
//! own 50 us: with a disk that syncs in 60 us, 6k/s of one row. 64 rows a sync are 20 KB more to
//! write and to copy: 3k/s, or 200k rows a second.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use keyrum_store::{LogRow, RealDisk, Store, StoreConfig};

use crate::report::{Report, Row, Verdict};
use crate::{Failure, Setting};

/// Length of a row, about that of a CreateKey.
const ROW_BYTES: usize = 300;

const LASTING: Duration = Duration::from_secs(2);

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    for (what, rows) in [
        ("store: appends of 1 row, each synced", 1),
        ("store: appends of 64 rows, each synced", 64),
    ] {
        let folder = setting.folder.join(format!("store-{rows}"));
        let rate = appends(&folder, rows)?;
        report.row(&Row {
            what,
            group: "1 store, fsynced",
            target: "",
            figure: format!("{rate:.0} appends/s, {:.0} rows/s", rate * rows as f64),
            ratio: String::new(),
            verdict: Verdict::Reference,
        });
        super::encrypt::remove(&folder);
    }
    Ok(())
}

fn appends(folder: &Path, rows: u64) -> Result<f64, Failure> {
    let store = Store::open(RealDisk::shared(), folder, StoreConfig::default())?;
    let (sender, durable) = mpsc::channel();
    let (mut next, mut appends) = (1, 0_u64);
    let start = Instant::now();
    while start.elapsed() < LASTING {
        let batch = (next..next + rows).map(|index| LogRow {
            index,
            bytes: vec![7; ROW_BYTES].into(),
        });
        let sender = sender.clone();
        let done = move |outcome| drop(sender.send(outcome));
        store.append(batch.collect(), next.to_be_bytes().to_vec(), Box::new(done));
        durable.recv()??;
        next += rows;
        appends += 1;
    }
    let rate = appends as f64 / start.elapsed().as_secs_f64();
    store.close();
    Ok(rate)
}
