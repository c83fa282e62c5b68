//! One node's process, as the supervisor owns it.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use keyrum_crypto::Unlock;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::cli::NodeName;
use crate::files;

/// How long a process may take to end by itself; with the rest of the way this stays below the
/// two seconds that `up` may take to stop.
pub(crate) const GRACE: Duration = Duration::from_millis(1250);

/// How long a frozen process may take to stop.
const STOPPED_LIMIT: Duration = Duration::from_secs(2);

/// How a node's process fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// There is none because `kill` ended it.
    Killed,
    /// There is none because it was stopped in order.
    Stopped,
    /// It ended by itself.
    Ended(ExitStatus),
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Paused => f.write_str("paused"),
            Self::Killed => f.write_str("killed"),
            Self::Stopped => f.write_str("stopped"),
            Self::Ended(status) => write!(f, "ended ({status})"),
        }
    }
}

/// What it takes to start a node's process.
pub(crate) struct Launch {
    /// This program.
    pub(crate) program: PathBuf,
    /// The topology file.
    pub(crate) config: PathBuf,
    /// The cluster's data folder.
    pub(crate) data: PathBuf,
    /// Which node.
    pub(crate) node: NodeName,
    /// Where what it prints goes.
    pub(crate) output: PathBuf,
    /// What opens its Region's domain key.
    pub(crate) unlock: Arc<Unlock>,
}

/// A node's process, or what became of it.
pub(crate) struct NodeProcess {
    launch: Launch,
    condition: Condition,
    child: Option<Child>,
    /// The other end of its standard input. Closes when this process ends, however it ends: the node
    /// then stops.
    tether: Option<PipeWriter>,
    /// How often it was killed, and frozen.
    kills: u64,
    pauses: u64,
    /// Goes up whenever somebody does something to it.
    turn: u64,
}

impl NodeProcess {
    /// Starts the process.
    pub(crate) fn start(launch: Launch) -> io::Result<Self> {
        let (child, tether) = spawn(&launch)?;
        Ok(Self {
            launch,
            condition: Condition::Running,
            child: Some(child),
            tether: Some(tether),
            kills: 0,
            pauses: 0,
            turn: 0,
        })
    }

    /// How often it was killed, and frozen.
    pub(crate) fn faults(&self) -> (u64, u64) {
        (self.kills, self.pauses)
    }

    /// Another number whenever somebody has done something to it.
    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// How it fares.
    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Its id, while there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// What it said before it ended by itself: a process that a signal ended said nothing of it.
    pub(crate) fn last_words(&self) -> String {
        match self.condition {
            Condition::Ended(status) if status.code().is_some() => {
                let line = last_line(&self.launch.output).unwrap_or_default();
                let said = line.strip_prefix("keyrum: ").unwrap_or(&line);
                format!(": {said}")
            }
            _ => String::new(),
        }
    }

    /// Notices that it ended by itself; the first call after that says so.
    pub(crate) fn check(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.condition = Condition::Ended(status);
        Some(status)
    }

    /// Ends it at once.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.turn += 1;
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
            self.kills += 1;
        }
        self.condition = Condition::Killed;
        Ok(())
    }

    /// Freezes it. A thread that waits for the disk stops when it is back.
    pub(crate) async fn pause(&mut self) -> io::Result<()> {
        self.turn += 1;
        let pid = self.signal(Signal::STOP)?;
        self.condition = Condition::Paused;
        self.pauses += 1;
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let deadline = Instant::now() + STOPPED_LIMIT;
        while waitid(WaitId::Pid(pid), stopped)?.is_none() {
            if Instant::now() > deadline {
                let limit = STOPPED_LIMIT.as_secs();
                return Err(io::Error::other(format!(
                    "it was told to stop and had not stopped after {limit} s"
                )));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.turn += 1;
        self.signal(Signal::CONT)?;
        self.condition = Condition::Running;
        Ok(())
    }

    /// Lets it stop in order; ends it when that takes too long.
    pub(crate) async fn stop(&mut self) -> io::Result<()> {
        self.turn += 1;
        if self.child.is_some() {
            // A frozen process sees the request only when it goes on. Both fail only when the
            // process is gone already.
            let _ = self.signal(Signal::TERM);
            let _ = self.signal(Signal::CONT);
        }
        self.tether = None;
        if let Some(mut child) = self.child.take() {
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                child.kill().await?;
            }
            self.condition = Condition::Stopped;
        }
        Ok(())
    }

    /// Stops what runs, then starts a new process.
    pub(crate) async fn restart(&mut self) -> io::Result<()> {
        self.stop().await?;
        let (child, tether) = spawn(&self.launch)?;
        (self.child, self.tether) = (Some(child), Some(tether));
        self.condition = Condition::Running;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> io::Result<Pid> {
        let no_process = || io::Error::other("it has no process");
        // tokio gives an id only until the process has been waited for: it cannot be another's.
        let pid = self
            .pid()
            .and_then(|pid| i32::try_from(pid).ok())
            .ok_or_else(no_process)?;
        let pid = Pid::from_raw(pid).ok_or_else(no_process)?;
        kill_process(pid, signal)?;
        Ok(pid)
    }
}

fn spawn(launch: &Launch) -> io::Result<(Child, PipeWriter)> {
    let (input, mut tether) = io::pipe()?;
    // It fits in the pipe, so nobody need read yet. Others cannot see what is in a pipe.
    let keys = launch.unlock.keys_text();
    tether.write_all(keys.as_bytes())?;
    tether.write_all(b"\n")?;
    let output = open_output(&launch.output).map_err(at(&launch.output))?;
    let child = Command::new(&launch.program)
        .arg("node")
        .arg("--config")
        .arg(&launch.config)
        .arg("--data")
        .arg(&launch.data)
        .args(["--region", launch.node.region.as_str()])
        .args(["--node", &launch.node.id.to_string()])
        .arg("--supervised")
        .stdin(input)
        .stdout(output.try_clone()?)
        .stderr(output)
        // A Ctrl-C in the terminal is for this process alone, which then stops its nodes.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    Ok((child.map_err(at(&launch.program))?, tether))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

fn open_output(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        files::private_folder(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last line of a file that has anything in it; looks at its last 4 KiB only.
fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))
        .ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .map(str::to_owned)
}
