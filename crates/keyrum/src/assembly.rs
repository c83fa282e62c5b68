//! One node, put together: its store, its part in the group, the service on top, its listeners.

use std::path::PathBuf;
use std::time::Duration;

use keyrum_consensus::world::{self, World};
use keyrum_consensus::{Group, GroupConfig, Links, LinksError, ReadMode, StartError, StopReason};
use keyrum_crypto::{DomainKeyring, Fingerprint, KeyFileError, WrongDomainKey, WrongRegionKey};
use keyrum_server::http::{Limits, Server};
use keyrum_server::{Admin, Endpoint, EndpointSettings, Regions};
use keyrum_service::{Neighbourhood, Service, Settings};
use keyrum_store::{RealDisk, Store, StoreConfig, StoreError};
use tokio::task::JoinHandle;

use crate::cli::NodeName;
use crate::data::{DataError, DataFolder, loopback};
use crate::files;
use crate::topology::{History, Reads, Topology};

/// How long requests under way may hold up a stop; with the handover of leadership the whole
/// stays below two seconds.
const STOP_WAIT: Duration = Duration::from_millis(450);

/// The store's record that tells a wrong domain key from damaged material.
const FINGERPRINT: &str = "domain-key";

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Its data is gone, and it may have voted.
    #[error("the data of node {node} in {} is gone. It may have voted, so it must not come back empty: `keyrum cluster remove {node}`, then `keyrum cluster add` a node with another id", store.display())]
    DataGone {
        /// Which node.
        node: NodeName,
        /// Where its data should be.
        store: PathBuf,
    },
    /// Its listener cannot be opened.
    #[error(
        "node {node} cannot listen on 127.0.0.1:{port} ({cause}): free the port, or name another one for the node in the topology file"
    )]
    Listen {
        /// Which node.
        node: NodeName,
        /// Which port.
        port: u16,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Its admin token cannot be read.
    #[error("{}: {cause}; `keyrum cluster up` makes this file", file.display())]
    Token {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It cannot note that it has data.
    #[error("{}: {cause}; a node notes there that it has data", file.display())]
    Started {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A secret of the Region cannot be read.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The Region's key is not the one that other Regions wrap to.
    #[error("{}: {cause}", file.display())]
    WrongRegionKey {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        cause: WrongRegionKey,
    },
    /// The cluster's record cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It is not the one the data was sealed under.
    #[error("{}: {cause}", file.display())]
    WrongDomainKey {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        cause: WrongDomainKey,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The group cannot be joined.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A node that runs.
pub(crate) struct Running {
    /// Which one.
    pub(crate) name: NodeName,
    /// Its operations.
    pub(crate) service: Service,
    api: Server,
    admin: Server,
    /// What goes on beside requests; ended with the node.
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a node of the cluster in `folder`.
    pub(crate) async fn start(
        world: &World,
        folder: &DataFolder,
        topology: &Topology,
        name: &NodeName,
    ) -> Result<Self, NodeError> {
        let record = folder
            .node(name)
            .expect("the caller took the name from the folder");
        let region = folder.region(&name.region).expect("the node has a Region");
        let path = folder.store(name);
        if folder.is_gone(name) {
            return Err(NodeError::DataGone {
                node: name.clone(),
                store: path,
            });
        }
        let token_file = folder.admin_token(name);
        let token = std::fs::read_to_string(&token_file).map_err(|cause| NodeError::Token {
            file: token_file,
            cause,
        })?;
        let key_file = folder.domain_key(&name.region);
        let keyring = keyrum_crypto::load(&key_file)?;
        let region_key_file = folder.region_key(&name.region);
        let region_key = keyrum_crypto::load_region_key(&region_key_file)?;
        let pinned = folder.pinned_keys()?;
        region_key
            .check(pinned[&name.region])
            .map_err(|cause| NodeError::WrongRegionKey {
                file: region_key_file,
                cause,
            })?;
        let links = Links::mutual_tls(
            &folder.certs(),
            &folder.record().cluster_id,
            &name.region,
            name.id,
        )?;

        let started = folder.started_file(name);
        let open = move || {
            let store = Store::open(RealDisk::shared(), &path, StoreConfig::default())?;
            // Before the node can vote.
            match files::touch(&started) {
                Ok(()) => Ok(store),
                Err(cause) => Err(NodeError::Started {
                    file: started,
                    cause,
                }),
            }
        };
        let store = world.blocking.run(open).await?;
        check_domain_key(&store, &keyring)?.map_err(|cause| NodeError::WrongDomainKey {
            file: key_file,
            cause,
        })?;
        let config = GroupConfig {
            cluster_id: folder.record().cluster_id.clone(),
            region: name.region.clone(),
            node: name.id,
            listen: loopback(record.peer).to_string(),
            peers: folder.peers(&name.region),
            neighbours: folder.neighbours(&name.region),
            bootstrap: !region.founded && region.founders.contains(&name.id),
            snapshot_every: topology.snapshot_entries,
            history_rows_max: match topology.history {
                History::All => None,
                History::Entries(count) => Some(count),
            },
        };
        let group = Group::start(config, world.clone(), store, links).await?;
        let settings = Settings {
            test_clock: topology.test_clock,
        };
        let (root, own_region) = (folder.root().to_owned(), name.region.clone());
        let neighbourhood = Neighbourhood {
            own: region_key,
            pinned,
            look_up: Box::new(move || {
                let folder = DataFolder::look(&root).ok()?;
                Some(folder.neighbours(&own_region))
            }),
        };
        let service = Service::among_regions(
            group.clone(),
            keyring,
            neighbourhood,
            world.clone(),
            settings,
        );

        let regions = Regions::default();
        regions.set(vec![(name.region.clone(), vec![service.clone()])]);
        let endpoint = Endpoint::new(regions, endpoint_settings(topology), None);
        let api = listen(world, name, record.api, endpoint).await;
        let admin = Admin::new(service.clone(), token);
        let admin = listen(world, name, record.admin, admin).await;
        let (api, admin) = match (api, admin) {
            (Ok(api), Ok(admin)) => (api, admin),
            (Err(error), _) | (_, Err(error)) => {
                group.shutdown().await;
                return Err(error);
            }
        };
        let ticking = service.clone();
        let clock = world::spawn(async move { ticking.run_clock().await });
        let carrying = service.clone();
        let courier = world::spawn(async move { carrying.run_courier().await });
        Ok(Self {
            name: name.clone(),
            service,
            api,
            admin,
            tasks: vec![clock, courier],
        })
    }

    /// Says on standard error if the node stops by itself.
    pub(crate) fn report_failure(&mut self) {
        let (name, service) = (self.name.clone(), self.service.clone());
        self.tasks.push(world::spawn(async move {
            let reason = service.group().stopped().await;
            eprintln!("keyrum: node {name} stopped: {reason}");
        }));
    }

    /// Waits until the node stopped by itself: a failing disk, a state that differs.
    pub(crate) async fn stopped(&self) -> StopReason {
        self.service.group().stopped().await
    }

    /// Stops the node in order: answers what it took, hands leadership over, closes its store.
    pub(crate) async fn stop(self) {
        self.api.stop().await;
        self.tasks.iter().for_each(JoinHandle::abort);
        self.service.group().shutdown().await;
        self.admin.stop().await;
    }
}

/// What every endpoint of the cluster does.
pub(crate) fn endpoint_settings(topology: &Topology) -> EndpointSettings {
    let consistency = match topology.reads {
        Reads::Linearizable => ReadMode::Linearizable,
        Reads::Lease => ReadMode::Lease,
        Reads::Local => ReadMode::Local,
        Reads::Eventual => ReadMode::Eventual,
    };
    EndpointSettings {
        default_account: topology.account,
        consistency,
    }
}

/// What clients may cost, and how long they may hold up a stop.
pub(crate) fn limits() -> Limits {
    Limits {
        stop_wait: STOP_WAIT,
        ..Limits::default()
    }
}

async fn listen<H: keyrum_server::http::Handler>(
    world: &World,
    node: &NodeName,
    port: u16,
    handler: H,
) -> Result<Server, NodeError> {
    Server::start(world, &loopback(port).to_string(), handler, limits())
        .await
        .map_err(|cause| NodeError::Listen {
            node: node.clone(),
            port,
            cause,
        })
}

/// Compares the domain key with the one the node's data was first used with. Blocks on the disk,
/// once.
fn check_domain_key(
    store: &Store,
    keyring: &DomainKeyring,
) -> Result<Result<(), WrongDomainKey>, StoreError> {
    let noted = store.meta(FINGERPRINT)?;
    let noted = noted.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    if let Some(expected) = noted {
        return Ok(keyring.check(Fingerprint(expected)));
    }
    store.put_meta(FINGERPRINT, &keyring.fingerprint().0)?;
    Ok(Ok(()))
}
