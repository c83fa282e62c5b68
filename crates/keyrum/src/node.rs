//! `keyrum node`: one node in a process of its own.

use std::process::ExitCode;

use keyrum_consensus::tasks::Tasks;
use keyrum_consensus::world::World;
use tokio::io::AsyncReadExt;

use crate::Failure;
use crate::assembly::Running;
use crate::cli::{self, NodeName};
use crate::data::DataFolder;
use crate::run;
use crate::signals::{INTERRUPTED, Signals};
use crate::supervisor::data_folder;
use crate::topology::Topology;
use crate::unlock;

/// Runs the node until it is told to stop, or stops by itself.
pub(crate) async fn run(args: cli::Node, tasks: Tasks) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    if args.supervised {
        wake_when_orphaned();
    }
    let world = World {
        tasks,
        ..World::real()
    };
    let handed_over = match args.supervised {
        true => Some(unlock::handed_over()?),
        false => None,
    };
    let topology = Topology::load(&args.config)?;
    let name = NodeName {
        region: args.region,
        id: args.node,
    };
    let folder = DataFolder::of_node(&data_folder(args.data.as_deref(), &topology), &name)?;
    let unlock = match handed_over {
        Some(unlock) => unlock,
        None => unlock::obtain(&world, &folder, &args.opener, &mut signals).await?,
    };
    let node = Running::start(&world, &folder, &topology, &name, &unlock).await?;
    if !args.supervised {
        let api = format!("{}://{}", topology.scheme(), node.api_addr());
        run::say(&format!(
            "keyrum: node {name} takes calls at {api}; Ctrl-C stops it\n"
        ));
    }

    let mut failed = None;
    tokio::select! {
        () = signals.next() => {}
        () = orphaned(), if args.supervised => {}
        reason = node.stopped() => failed = Some(reason),
    }
    tokio::select! {
        () = node.stop() => {}
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    match failed {
        Some(reason) => Err(format!("node {name} stopped: {reason}").into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Waits until the supervisor is gone: it holds the other end of standard input.
async fn orphaned() {
    let mut input = tokio::io::stdin();
    let mut byte = [0];
    // Nothing more is ever sent; an end or an error both mean that nobody is there any more.
    while matches!(input.read(&mut byte).await, Ok(1)) {}
}

/// Asks for a signal when the supervisor dies, so that a frozen node goes on and notices.
fn wake_when_orphaned() {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT))
    {
        tracing::warn!(%error, "a frozen node would not notice the end of its supervisor");
    }
}
