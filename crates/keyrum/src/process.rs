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
use crate::power::{Loss, Power};

/// How long a process may take to end by itself; with the rest of the way this stays below the
/// two seconds that `up` may take to stop.
pub(crate) const GRACE: Duration = Duration::from_millis(1250);

/// How long a frozen process may take to stop.
const STOPPED_LIMIT: Duration = Duration::from_secs(2);

/// How long a process may take to end that lost its power.
const DARK_LIMIT: Duration = Duration::from_secs(10);

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
    /// In experiments that take it away.
    pub(crate) power: Option<Power>,
}

/// A node's process, or what became of it.
pub(crate) struct NodeProcess {
    launch: Launch,
    condition: Condition,
    child: Option<Child>,
    /// The id of its process, or of the last one.
    last_pid: Option<u32>,
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
            last_pid: child.id(),
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

    /// Has it lose its power; whether now or later, [`Self::without_power`] waits until it has ended.
    pub(crate) fn lose_power(&mut self, loss: Loss) -> io::Result<()> {
        self.turn += 1;
        let power = self.launch.power.as_ref().ok_or_else(no_power)?;
        if self.child.is_none() {
            return Ok(());
        }
        power.off(loss)?;
        if self.condition == Condition::Paused {
            // Only what runs can undo anything, and this one ends at once.
            self.resume()?;
        }
        Ok(())
    }

    /// Whether there is a process whose power is gone.
    pub(crate) fn lost_power(&self) -> bool {
        let power = self.launch.power.as_ref();
        self.child.is_some() && power.is_some_and(Power::is_gone)
    }

    /// Waits until it has ended for want of power. How many of its changes were undone.
    pub(crate) async fn without_power(&mut self) -> io::Result<u64> {
        let Some(power) = self.launch.power.clone() else {
            return Err(no_power());
        };
        self.check();
        if self.child.is_none() && !matches!(self.condition, Condition::Ended(_)) {
            // It had ended before.
            return Ok(0);
        }
        if let Some(mut child) = self.child.take()
            && tokio::time::timeout(DARK_LIMIT, child.wait())
                .await
                .is_err()
        {
            child.kill().await?;
            self.condition = Condition::Killed;
            let limit = DARK_LIMIT.as_secs();
            return Err(io::Error::other(format!(
                "it had no power and went on for {limit} s, so it was killed and nothing was lost: is the library that of `cargo build --package keyrum-powerloss`?"
            )));
        }
        self.kills += 1;
        self.condition = Condition::Killed;
        Ok(self.last_pid.and_then(|pid| power.undone(pid)).unwrap_or(0))
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
        self.last_pid = child.id();
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
    let mut command = Command::new(&launch.program);
    if let Some(power) = &launch.power {
        command.envs(power.on()?);
    }
    let child = command
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

fn no_power() -> io::Error {
    io::Error::other(
        "the cluster's nodes do not run on power that can be taken away: `keyrum lab run --power-loss` starts some that do",
    )
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
