//! The cluster of an experiment on processes: `keyrum cluster up` in a process of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use keyrum_lab::workload::api::{Directory, Place};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::run::RunFile;

/// How long a cluster may take until each Region has a leader.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why an experiment's cluster does not run.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the experiment's cluster ended before it was up ({status}); {} says why", output.display())]
    Ended {
        status: std::process::ExitStatus,
        output: PathBuf,
    },
    #[error("the experiment's cluster is not up after {} s; {} says more", START_LIMIT.as_secs(), output.display())]
    Late { output: PathBuf },
}

/// A running cluster. Dropped, it is killed.
pub(super) struct Cluster {
    child: Child,
    /// Its data folder.
    pub(super) data: PathBuf,
    running: RunFile,
}

impl Cluster {
    /// Starts a cluster of this topology in an empty folder, and waits until each Region has a leader.
    /// With the library, its nodes can lose their power.
    pub(super) async fn up(
        folder: &Path,
        topology: &str,
        power_loss: Option<&Path>,
    ) -> Result<Self, Failure> {
        let config = folder.join("topology.toml");
        std::fs::write(&config, topology)?;
        let (data, ready) = (folder.join("data"), folder.join("ready.json"));
        let output = folder.join("output");
        let told = std::fs::File::create(&output)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["cluster", "up"]);
        if let Some(library) = power_loss {
            command.arg("--power-loss").arg(library);
        }
        let mut child = command
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&data)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(told.try_clone()?)
            .stderr(told)
            // Ctrl-C is for the experiment, which stops its cluster itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        while !ready.exists() {
            if let Some(status) = child.try_wait()? {
                return Err(Trouble::Ended { status, output }.into());
            }
            if Instant::now() > deadline {
                return Err(Trouble::Late { output }.into());
            }
            sleep(LOOK_EVERY).await;
        }
        let running = RunFile::find(&data)?;
        Ok(Self {
            child,
            data,
            running,
        })
    }

    /// Where its nodes take calls, with Regions in the order given.
    pub(super) fn directory(&self, regions: &[String]) -> Rc<Directory> {
        let mut directory = Directory {
            regions: regions.to_vec(),
            ..Directory::default()
        };
        for (name, nodes) in &self.running.regions {
            let Some(region) = regions.iter().position(|known| *known == name.as_str()) else {
                continue;
            };
            for node in &nodes.nodes {
                let addr = node.api.trim_start_matches("http://").to_owned();
                let place = Place {
                    region,
                    node: node.id,
                };
                directory.nodes.insert(place, addr);
            }
        }
        Rc::new(directory)
    }

    /// Stops it in order.
    pub(super) async fn stop(mut self) -> io::Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        if tokio::time::timeout(STOP_LIMIT, self.child.wait())
            .await
            .is_err()
        {
            self.child.kill().await?;
        }
        Ok(())
    }
}
