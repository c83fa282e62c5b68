//! The machine a run is on: a figure without it means nothing.

use std::fmt;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;

/// How often the disk is asked.
const SYNCS: usize = 300;

/// What was found.
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    memory_mib: u64,
    filesystem: String,
    /// Of one appended block of 4 KiB and an fdatasync; sorted.
    appended: Vec<Duration>,
    /// The same, with the block written over an older one: the file does not grow.
    overwritten: Vec<Duration>,
    /// The load average of the last minute before the run: what else the machine does.
    load_before: String,
}

impl Machine {
    /// Looks at the machine, and at the disk that `folder` is on.
    pub(crate) fn look(folder: &Path) -> Result<Self, Failure> {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let (appended, overwritten) = sync_costs(folder)?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: field(&cpu, "model name").unwrap_or_else(|| "unknown CPU".to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: memory_kib >> 10,
            filesystem: filesystem(&read("/proc/mounts"), folder),
            appended,
            overwritten,
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |syncs: &[Duration], percent: usize| {
            syncs[(syncs.len() - 1) * percent / 100].as_secs_f64() * 1e6
        };
        write!(
            f,
            "Machine: {} cores of {}, {} MiB, Linux {}, {}; fdatasync of 4 KiB appended p50 {:.0} \
             us, p99 {:.0} us, of 4 KiB overwritten p50 {:.0} us, p99 {:.0} us; load average before \
             the run {}. Load and servers share the cores.",
            self.cores,
            self.cpu,
            self.memory_mib,
            self.kernel,
            self.filesystem,
            us(&self.appended, 50),
            us(&self.appended, 99),
            us(&self.overwritten, 50),
            us(&self.overwritten, 99),
            self.load_before,
        )
    }
}

/// What it costs to make a block durable at a file's end, and inside it.
fn sync_costs(folder: &Path) -> Result<(Vec<Duration>, Vec<Duration>), Failure> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let block = [7; 4096];
    let mut timed = |rewind: bool| -> Result<Vec<Duration>, Failure> {
        let mut costs = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            if rewind {
                file.rewind()?;
            }
            let start = Instant::now();
            file.write_all(&block)?;
            file.sync_data()?;
            costs.push(start.elapsed());
        }
        costs.sort_unstable();
        Ok(costs)
    };
    let costs = (timed(false)?, timed(true)?);
    std::fs::remove_file(path)?;
    Ok(costs)
}

/// The kind of the file system a path is on, and a warning where nothing is ever durable.
fn filesystem(mounts: &str, path: &Path) -> String {
    let entries = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let kind = entries
        .filter(|(at, _)| path.starts_with(at))
        .max_by_key(|(at, _)| at.len())
        .map_or("an unknown file system", |(_, kind)| kind);
    match kind {
        "tmpfs" | "ramfs" => format!("{kind} (NO DISK: name a folder on one with --data)"),
        kind => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a run in memory that passes for one on a disk.
    #[test]
    fn memory_is_not_taken_for_a_disk() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(filesystem(mounts, Path::new("/data")), "ext4");
        assert!(filesystem(mounts, Path::new("/tmp/x")).contains("NO DISK"));
        assert_eq!(filesystem(mounts, Path::new("/tmpfiles")), "ext4");
    }
}
