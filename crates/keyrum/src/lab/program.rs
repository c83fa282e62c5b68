//! The user's own program as the workload of an experiment: its calls go through an endpoint that
//! notes them.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use keyrum_consensus::world::World;
use keyrum_lab::workload::recorder::Recorder;
use keyrum_server::http::{Options, Server};
use keyrum_server::{NodeAt, Nodes, Proxy, ProxyWaits};
use keyrum_types::Region;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::endpoint::Noting;
use super::namespace;
use super::processes::Cluster;
use crate::Failure;
use crate::run;

/// How long a program that is told to end may take.
const GRACE: Duration = Duration::from_secs(5);

/// A running program, and the endpoint it calls.
pub(super) struct Program {
    child: Child,
    _server: Server,
}

impl Program {
    /// Starts it with the endpoint in its environment, and credentials where it has none.
    pub(super) async fn start(
        command: &[OsString],
        world: &World,
        cluster: &Cluster,
        recorder: &Recorder,
        regions: &[String],
    ) -> Result<Self, Failure> {
        let nodes = Nodes::new(world);
        let directory = cluster.directory(regions);
        let region = |(number, name): (usize, &String)| -> Result<_, Failure> {
            let here = directory
                .nodes
                .iter()
                .filter(|(place, _)| place.region == number);
            let nodes = here.map(|(_, addr)| NodeAt {
                addr: addr.clone(),
                token: None,
            });
            Ok((name.parse::<Region>()?, nodes.collect()))
        };
        nodes.set(
            regions
                .iter()
                .enumerate()
                .map(region)
                .collect::<Result<_, _>>()?,
        );
        let proxy = Proxy::new(nodes, ProxyWaits::default(), None);
        let noting = Noting::new(proxy, recorder.clone(), regions[0].clone());
        let server = Server::start(world, "127.0.0.1:0", noting, Options::default()).await?;
        let url = format!("http://{}", server.local_addr());
        run::remark(&format!("the program finds the endpoint at {url}"));
        let mut child = Command::new(&command[0]);
        child
            .args(&command[1..])
            .env_remove(namespace::OUTSIDE)
            .env("AWS_ENDPOINT_URL", &url)
            .env("AWS_ENDPOINT_URL_KMS", &url)
            .env("KEYRUM_ENDPOINT", &url)
            .process_group(0)
            .kill_on_drop(true);
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", regions[0].as_str()),
        ] {
            if std::env::var_os(name).is_none() {
                child.env(name, value);
            }
        }
        let child = child.spawn().map_err(|error| {
            let name = command[0].to_string_lossy();
            io::Error::new(error.kind(), format!("{name} cannot be started: {error}"))
        })?;
        Ok(Self {
            child,
            _server: server,
        })
    }

    /// Waits for its end, and ends it if that takes too long: `None`.
    pub(super) async fn end_within(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        if let Ok(ended) = timeout(limit, self.child.wait()).await {
            return ended.map(Some);
        }
        run::remark(&format!(
            "the program still runs {} s after the last fault: it is ended",
            limit.as_secs()
        ));
        self.signal(Signal::TERM)?;
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL)?;
            self.child.wait().await?;
        }
        Ok(None)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        match pid.and_then(Pid::from_raw) {
            Some(pid) => Ok(kill_process_group(pid, signal)?),
            None => Ok(()),
        }
    }
}
