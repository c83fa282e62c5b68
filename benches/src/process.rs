//! Processes: started and ended with their guard, and what the kernel knows of them.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;

/// How long a process may take to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(15);

/// How long a command about a cluster may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// How often something without a notification is looked at. Short against every figure that
/// depends on it.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A child process, ended at the latest when the guard is dropped.
pub(crate) struct Guarded {
    child: Child,
}

impl Guarded {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let child = command.spawn().map_err(|error| {
            format!(
                "{} cannot be started: {error}",
                command.get_program().to_string_lossy()
            )
        })?;
        Ok(Self { child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Fails if it has ended by itself.
    pub(crate) fn still_runs(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("a process of the benchmark ended: {status}").into()),
        }
    }

    /// Waits until it has ended by itself, which must be well.
    pub(crate) async fn succeeded(mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + COMMAND_LIMIT;
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                None => sleep(LOOK_EVERY).await,
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("a command failed: {status}").into()),
            }
        }
        Err("a command does not end".into())
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        signal(self.pid(), Signal::TERM);
        let ended = async {
            while self.child.try_wait()?.is_none() {
                sleep(LOOK_EVERY).await;
            }
            Ok::<_, io::Error>(())
        };
        timeout(END_LIMIT, ended)
            .await
            .map_err(|_| "a process did not stop when asked to")??;
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a process a signal; nothing happens when it is gone.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until none of these processes is left.
pub(crate) async fn gone(pids: &[u32]) -> Result<(), Failure> {
    let deadline = Instant::now() + END_LIMIT;
    while pids
        .iter()
        .any(|pid| Path::new(&format!("/proc/{pid}/stat")).exists() && !is_zombie(*pid))
    {
        if Instant::now() > deadline {
            return Err("a killed process is still there".into());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn is_zombie(pid: u32) -> bool {
    stat(pid).is_ok_and(|fields| fields.first().is_some_and(|state| state == "Z"))
}

/// The fields of `/proc/<pid>/stat` after the name, which may itself contain spaces.
fn stat(pid: u32) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text
        .rsplit_once(") ")
        .ok_or("/proc/<pid>/stat is not as expected")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// The processor time that processes have used, in all their threads.
pub(crate) fn cpu(pids: &[u32]) -> Result<Duration, Failure> {
    // Linux counts in user space's ticks of 10 ms, whatever its own are.
    const TICK_MS: u64 = 10;
    let mut ticks = 0;
    for &pid in pids {
        let fields = stat(pid)?;
        // utime and stime are fields 14 and 15, the state is field 3. Source: proc(5).
        for at in [11, 12] {
            ticks += fields.get(at).ok_or("a field is missing")?.parse::<u64>()?;
        }
    }
    Ok(Duration::from_millis(ticks * TICK_MS))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: u64 = field(&text, "VmRSS:")?
        .trim_end_matches(" kB")
        .trim()
        .parse()?;
    Ok(kib << 10)
}

/// What a process has caused to be written to disks so far, in bytes.
pub(crate) fn written_bytes(pid: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    Ok(field(&text, "\nwrite_bytes:")?.parse()?)
}

fn field<'a>(text: &'a str, name: &str) -> Result<&'a str, Failure> {
    let at = text
        .find(name)
        .ok_or_else(|| format!("the kernel does not tell {name:?}"))?;
    Ok(text[at + name.len()..]
        .lines()
        .next()
        .unwrap_or_default()
        .trim())
}

/// Processor time of this thread: what work took that waits for nothing, whatever else the machine
/// does.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a kernel's report that is read wrongly.
    #[test]
    fn this_process_is_seen() {
        let this = std::process::id();
        assert!(resident_bytes(this).unwrap() > 1 << 20);
        written_bytes(this).unwrap();
        let before = cpu(&[this]).unwrap();
        let mut sum = 0_u64;
        while cpu(&[this]).unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(!is_zombie(this));
    }
}
