//! `keyrum dev`: every Region and node in one process, and one endpoint for all of them.
//!
//! Each node is what it is under `cluster up` too: its own store, its own listeners, mutual TLS
//! to its peers over loopback. Only the processes are missing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use keyrum_consensus::tasks::Tasks;
use keyrum_consensus::world::{self, BoxFuture, World};
use keyrum_crypto::Unlock;
use keyrum_server::http::Server;
use keyrum_server::{Audited, Endpoint, HookAnswer, Hooks, Regions};
use keyrum_types::Region;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use crate::Failure;
use crate::admin::Admin;
use crate::assembly::{
    NodeError, Quiet, Running, api_options, api_tls, attestation_roots, check_data,
    endpoint_settings,
};
use crate::cli::{self, NodeName};
use crate::data::{DataError, DataFolder, NodeRecord, Unnamed};
use crate::identities::IdentitiesFile;
use crate::run::{self, Whereabouts};
use crate::seed::{Place, Seeds};
use crate::signals::{INTERRUPTED, Signals};
use crate::topology::{AuditPlan, Topology};
use crate::unlock;

/// Without a word about it: what there is, or these in an empty folder.
const DEFAULT_REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];

fn regions(args: &cli::Dev) -> Result<Vec<Region>, Failure> {
    if !args.regions.is_empty() {
        return Ok(args.regions.clone());
    }
    if !args.ephemeral
        && let Ok(folder) = DataFolder::look(&args.data)
    {
        let held = folder.record().regions.iter();
        return Ok(held.map(|region| region.name.clone()).collect());
    }
    let names = DEFAULT_REGIONS.map(|name| name.parse());
    Ok(names.into_iter().collect::<Result<_, _>>()?)
}

/// Runs the cluster until it is told to stop.
pub(crate) async fn run(args: cli::Dev, tasks: Tasks) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    let world = World {
        tasks,
        ..World::real()
    };
    let regions = regions(&args)?;
    let mut topology = Topology::uniform(&regions, args.nodes, args.port, args.bind, args.account)?;
    topology.propagation_delay = args.propagation_delay;
    topology.hold_transient = args.hold_transient;
    topology.attestation_root = args.attestation_root;
    // Each node reads it, and would fail by itself.
    let _ = attestation_roots(&topology)?;
    topology.custom_tags = true;
    (topology.tls_cert, topology.tls_key) = (args.tls_cert, args.tls_key);
    let tls = api_tls(&topology).map_err(NodeError::from)?;
    if let Some(factor) = args.request_quotas {
        topology.request_quotas = true;
        topology.request_quota_factor = factor;
    }
    topology.audit = args.audit.map(|folder| AuditPlan {
        folder,
        required: args.audit_required,
        sync: false,
        file_mib: None,
        files: None,
    });
    let place = Place {
        regions: &regions,
        account: args.account,
    };
    let seeds = args
        .seed
        .map(|file| Seeds::read(&file, &place))
        .transpose()?;
    let identities = args.identities.as_deref().map(IdentitiesFile::read);
    let identities = identities.transpose()?;
    let temporary = if args.ephemeral {
        Some(tempfile::tempdir().map_err(|error| {
            format!(
                "--ephemeral finds no room ({error}): name a folder that can be written in the environment variable TMPDIR, or use --data"
            )
        })?)
    } else {
        None
    };
    let data: PathBuf = temporary
        .as_ref()
        .map_or(args.data, |folder| folder.path().to_owned());
    let folder = DataFolder::claim(&data, &topology, Unnamed::Refuse, &*world.entropy);
    if !matches!(folder, Err(DataError::InUse { .. })) {
        run::remove_ready_file(args.ready_file.as_deref())?;
    }
    let folder = folder?;
    let unlock = unlock::obtain(&world, &folder, &args.opener, &mut signals).await?;

    let cluster = Cluster::new(
        world.clone(),
        topology.clone(),
        folder,
        unlock,
        seeds,
        identities,
    );
    let addr = SocketAddr::new(args.bind, args.port);
    let settings = endpoint_settings(&topology, topology.reads());
    let hooks = Arc::new(Asked(cluster.clone()));
    let endpoint = Endpoint::new(cluster.regions.clone(), settings, Some(hooks));
    let endpoint = match topology.request_quotas {
        true => endpoint.counting(),
        false => endpoint,
    };
    let front = match Server::start(&world, &addr.to_string(), endpoint, api_options(tls)).await {
        Ok(front) => front,
        Err(cause) => {
            cluster.state.lock().await.folder.discard();
            return Err(CannotListen { addr, cause }.into());
        }
    };

    let outcome = tokio::select! {
        outcome = cluster.announce(&args.ready_file, &front, args.ephemeral) => outcome,
        () = signals.next() => Ok(()),
    };
    tokio::select! {
        () = async {
            cluster.closing.send_replace(true);
            // As long as it is there, somebody may rely on it.
            let _ = run::remove_ready_file(args.ready_file.as_deref());
            front.stop().await;
            cluster.stop().await;
        } => {}
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    outcome?;
    let farewell = match temporary {
        None => format!("the data is in {}", std::path::absolute(data)?.display()),
        Some(folder) => {
            let path = folder.path().to_owned();
            folder.close()?;
            format!("the data in {} is removed", path.display())
        }
    };
    run::say(&format!("keyrum: stopped; {farewell}\n"));
    Ok(ExitCode::SUCCESS)
}

/// The endpoint's port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {addr} ({cause}): choose another port with --port (0 takes a free one), or another address with --bind"
)]
struct CannotListen {
    addr: SocketAddr,
    cause: std::io::Error,
}

struct Cluster {
    world: World,
    topology: Topology,
    /// Opens domain keys that are locked.
    unlock: Unlock,
    /// What is there from the start, also after a reset.
    seeds: Option<Seeds>,
    /// Who is declared from the start, also after a reset.
    identities: Option<IdentitiesFile>,
    /// What the endpoint serves; empty Regions while nodes start or stop.
    regions: Regions,
    state: Mutex<State>,
    /// Whether the cluster is being stopped.
    closing: watch::Sender<bool>,
}

struct State {
    folder: DataFolder,
    nodes: Vec<Running>,
}

impl Cluster {
    fn new(
        world: World,
        topology: Topology,
        folder: DataFolder,
        unlock: Unlock,
        seeds: Option<Seeds>,
        identities: Option<IdentitiesFile>,
    ) -> Arc<Self> {
        let state = Mutex::new(State {
            folder,
            nodes: Vec::new(),
        });
        let cluster = Arc::new(Self {
            world,
            topology,
            unlock,
            seeds,
            identities,
            regions: Regions::default(),
            state,
            closing: watch::Sender::new(false),
        });
        cluster.serve(&[]);
        cluster
    }

    /// Starts the nodes, waits for leaders and says so; then only an error ends it.
    async fn announce(
        &self,
        ready_file: &Option<PathBuf>,
        front: &Server,
        ephemeral: bool,
    ) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        self.start(&mut state).await?;
        let process = std::process::id();
        let scheme = self.topology.scheme();
        let endpoint = format!("{scheme}://{}", front.local_addr());
        let whereabouts = Whereabouts::of(&state.folder, endpoint, scheme, |_| Some(process));
        whereabouts.write_run_file(&state.folder.run_file(), None)?;
        if let Some(file) = ready_file {
            whereabouts.write_ready_file(file)?;
        }
        run::say(&whereabouts.greeting(&state.folder, ephemeral));
        drop(state);
        std::future::pending().await
    }

    /// Starts every node and waits until each can answer, or the cluster is being stopped.
    async fn start(&self, state: &mut State) -> Result<(), Failure> {
        check_data(&state.folder, true)?;
        let names = state.folder.nodes();
        let starts = names.iter().map(|name| {
            Running::start(
                &self.world,
                &state.folder,
                &self.topology,
                name,
                &self.unlock,
            )
        });
        let mut failed = None;
        for started in join_all(starts).await {
            match started {
                Ok(node) => state.nodes.push(node),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            // What runs on would be in the way of the next start.
            stop_nodes(state).await;
            return Err(error.into());
        }
        state.nodes.iter_mut().for_each(Running::report_failure);
        let ready = state.nodes.iter().map(|node| node.service.group().ready());
        let mut closing = self.closing.subscribe();
        tokio::select! {
            ready = try_join_all(ready) => drop(ready?),
            _ = closing.wait_for(|closing| *closing) => {
                return Err("the cluster is being stopped".into());
            }
        }
        self.level_newcomers(state).await?;
        state.folder.note_founded()?;
        // Now the others may know those that joined.
        join_all(
            state
                .nodes
                .iter()
                .map(|node| node.service.look_up_neighbours()),
        )
        .await;
        if let Some(identities) = &self.identities {
            let declared = identities.declare(&self.home(&state.folder)).await?;
            run::say(&declared);
        }
        if let Some(seeds) = &self.seeds {
            let node_of = |region: &Region| {
                let mut nodes = state.nodes.iter();
                let node = nodes.find(|node| node.name.region == *region);
                node.map(|node| &node.service)
            };
            run::say(&seeds.plant(node_of).await?);
        }
        self.serve(&state.nodes);
        Ok(())
    }

    /// Where identities are changed.
    fn home(&self, folder: &DataFolder) -> Vec<Admin> {
        let home = folder.record().regions.first();
        let nodes = home.into_iter().flat_map(|home| {
            let nodes = home.nodes.iter();
            nodes.map(|node| (node, home.name.clone()))
        });
        let admin = |(node, region): (&NodeRecord, Region)| {
            let name = NodeName {
                region,
                id: node.id,
            };
            Admin::new(&self.world, node.admin_at(), folder.admin_token(&name))
        };
        nodes.map(admin).collect()
    }

    /// Moves the clocks of Regions that join to where the others' were moved by hand.
    async fn level_newcomers(&self, state: &State) -> Result<(), Failure> {
        let offset = |node: &Running| node.service.status().clock_offset_ms;
        let furthest = state.nodes.iter().map(offset).max().unwrap_or(0);
        for region in &state.folder.record().regions {
            let node = state
                .nodes
                .iter()
                .find(|node| node.name.region == region.name);
            if let Some(node) = node.filter(|_| state.folder.is_joining(&region.name)) {
                let behind = furthest.saturating_sub(offset(node));
                if behind > 0 {
                    node.service.advance_clock(behind).await?;
                }
            }
        }
        Ok(())
    }

    /// Lets the endpoint serve these nodes and no others.
    fn serve(&self, nodes: &[Running]) {
        let of = |region: &Region| -> Vec<Audited> {
            let ours = nodes.iter().filter(|node| node.name.region == *region);
            ours.map(Running::to_serve).collect()
        };
        let names = self.topology.regions.iter().map(|plan| plan.name.get_ref());
        self.regions
            .set_audited(names.map(|name| (name.clone(), of(name))).collect());
    }

    async fn stop(&self) {
        let mut state = self.state.lock().await;
        let _ = std::fs::remove_file(state.folder.run_file());
        stop_nodes(&mut state).await;
    }

    async fn health_now(&self) -> HookAnswer {
        let Ok(state) = self.state.try_lock() else {
            return answer(503, &json!({ "status": "starting" }));
        };
        let mut regions = serde_json::Map::new();
        let mut well = true;
        for region in &state.folder.record().regions {
            let ours = state
                .nodes
                .iter()
                .filter(|node| node.name.region == region.name);
            let statuses: Vec<_> = ours.map(|node| node.service.group().status()).collect();
            let leader = statuses
                .iter()
                .filter(|s| s.leader == Some(s.node))
                .max_by_key(|s| s.term)
                .map(|s| s.node);
            let stopped: Vec<_> = statuses
                .iter()
                .filter(|s| s.stopped.is_some())
                .map(|s| s.node)
                .collect();
            well &= leader.is_some() && stopped.is_empty();
            let report = json!({ "leader": leader, "nodes": statuses.len(), "stopped": stopped });
            regions.insert(region.name.to_string(), report);
        }
        let (status, word) = if well { (200, "ok") } else { (503, "degraded") };
        answer(status, &json!({ "status": word, "regions": regions }))
    }

    async fn reset_now(&self) -> HookAnswer {
        let Ok(mut state) = self.state.try_lock() else {
            return answer(
                409,
                &json!({ "error": "the cluster is starting or being reset" }),
            );
        };
        self.serve(&[]);
        stop_nodes(&mut state).await;
        let again = match state.folder.reset(&*self.world.entropy) {
            Ok(()) => self.start(&mut state).await,
            Err(error) => Err(error.into()),
        };
        match again {
            Ok(()) => answer(200, &json!({ "status": "ok" })),
            Err(error) => answer(500, &json!({ "error": error.to_string() })),
        }
    }
}

async fn stop_nodes(state: &mut State) {
    // None goes before all have answered: a call may need the others.
    let quiet = join_all(state.nodes.drain(..).map(Running::finish_calls)).await;
    join_all(quiet.into_iter().map(Quiet::stop_with_all)).await;
}

fn answer(status: u16, body: &Value) -> HookAnswer {
    HookAnswer {
        status,
        json: format!("{body}\n"),
    }
}

/// What clients ask of the cluster beside the APIs.
struct Asked(Arc<Cluster>);

impl Hooks for Asked {
    fn health(&self) -> BoxFuture<'_, HookAnswer> {
        Box::pin(self.0.health_now())
    }

    fn reset(&self) -> BoxFuture<'_, HookAnswer> {
        // In a task of its own: a client that hangs up must not leave the cluster half reset.
        let cluster = self.0.clone();
        let resetting = world::spawn(async move { cluster.reset_now().await });
        Box::pin(async move {
            let broken = |error| answer(500, &json!({ "error": format!("the reset: {error}") }));
            resetting.await.unwrap_or_else(broken)
        })
    }
}
