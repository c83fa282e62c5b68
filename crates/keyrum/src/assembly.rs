//! One node, put together: its store, its part in the group, the service on top, its listeners.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::faults::Faults;
use keyrum_consensus::world::{self, World};
use keyrum_consensus::{
    DomainKeyName, Group, GroupConfig, Links, LinksError, ReadMode, StartError, StopReason, is_new,
};
use keyrum_crypto::{
    DomainKeyFile, DomainKeyring, Fingerprint, KeyFileError, Unlock, WrongDomainKey, WrongRegionKey,
};
use keyrum_server::http::{Limits, Options, ProxyToken, Server, Tls, TlsError};
use keyrum_server::{
    AcceptedCredentials, Admin, Audit, AuditError, Audited, Endpoint, EndpointSettings, Regions,
};
use keyrum_service::{AttestationRoots, Found, Neighbourhood, RequestQuotas, Service, Settings};
use keyrum_store::{Disk, FailingDisk, RealDisk, Store, StoreConfig, StoreError};
use keyrum_types::Region;
use rustix::process::{Resource, getrlimit};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::cli::NodeName;
use crate::data::{DataError, DataFolder, NodeRecord};
use crate::files;
use crate::ports;
use crate::run;
use crate::topology::{Credentials, History, Reads, Topology};

/// How long requests under way may hold up a stop; with the handover of leadership the whole
/// stays below two seconds.
const STOP_WAIT: Duration = Duration::from_millis(450);

/// How long a node waits for a former process of its own to end; longer than a stop takes.
const FORMER_WAIT: Duration = Duration::from_secs(5);

/// How often it looks meanwhile.
const FORMER_LOOK_EVERY: Duration = Duration::from_millis(50);

/// The store's record that tells a wrong domain key from damaged material.
pub(crate) const FINGERPRINT: &str = "domain-key";

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
    /// The same, where no command can replace a node.
    #[error("the data of node {node} in {} is gone. It may have voted, so it must not come back empty, and `keyrum dev` cannot replace it: `keyrum cluster up --data {} --config FILE` with a file that has the same Regions and nodes (as cluster-config/two-regions.toml has those of plain `keyrum dev`), then `keyrum cluster remove {node}` and `keyrum cluster add` a node with another id; after that `keyrum dev` runs on the folder again", store.display(), folder.display())]
    DataGoneInDev {
        /// Which node.
        node: NodeName,
        /// Where its data should be.
        store: PathBuf,
        /// The cluster's data folder.
        folder: PathBuf,
    },
    /// So many nodes' data is gone that the rest cannot go on.
    #[error("the data of {} nodes of {region} in {} is gone, and no majority is left to go on: put it back from where it went or from a copy of the whole folder. Without it the keys of {region} are lost: remove the data folder to start afresh, or name another with --data", if gone == nodes { format!("all {nodes}") } else { format!("{gone} of the {nodes}") }, folder.display())]
    MajorityGone {
        /// Which Region.
        region: Region,
        /// How many nodes' data.
        gone: usize,
        /// How many nodes it has.
        nodes: usize,
        /// The Region's folder.
        folder: PathBuf,
    },
    /// Its listener cannot be opened.
    #[error(
        "node {node} cannot listen on {at} ({cause}): free the port, or name another one, or another address, for the node in the topology file"
    )]
    Listen {
        /// Which node.
        node: NodeName,
        /// Where.
        at: SocketAddr,
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
    /// The roots of attested callers cannot be used.
    #[error("{}: {cause}; name a PEM file with the root certificate of attested callers, or name none to believe those of AWS only", file.display())]
    AttestationRoot {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The API's certificate cannot be used.
    #[error(
        "{0}; name PEM files, one with the certificate and those it leads through, one with its private key"
    )]
    Tls(#[from] TlsError),
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
    /// Which one that was is not known.
    #[error("{}: the record of the domain key that the data was sealed under is {problem}; stop using this folder; move it away and add the node again under a new id, so that it catches up from the others", store.display())]
    DomainKeyRecord {
        /// Where the node's data is.
        store: PathBuf,
        /// What is wrong with the record.
        problem: String,
    },
    /// The certificates cannot be used.
    #[error(
        "{0}; `keyrum cluster up` and `keyrum dev` make what is missing, `keyrum cluster certs rotate` makes a node's certificate anew"
    )]
    Links(#[from] LinksError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The group cannot be joined.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Records of calls cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Where certificates of attested callers must lead.
pub(crate) fn attestation_roots(topology: &Topology) -> Result<AttestationRoots, NodeError> {
    let Some(file) = &topology.attestation_root else {
        return Ok(AttestationRoots::default());
    };
    let invalid = |cause: String| NodeError::AttestationRoot {
        file: file.to_owned(),
        cause,
    };
    let pem = std::fs::read(file).map_err(|error| invalid(error.to_string()))?;
    AttestationRoots::from_pem(&pem).map_err(|error| invalid(error.to_string()))
}

/// The certificate that calls of the API are protected with, if they are.
pub(crate) fn api_tls(topology: &Topology) -> Result<Option<Tls>, TlsError> {
    match (&topology.tls_cert, &topology.tls_key) {
        (Some(certificate), Some(key)) => Tls::load(certificate, key).map(Some),
        _ => Ok(None),
    }
}

/// Whether enough of each Region's data is there to start a cluster; all of it, if `whole`.
pub(crate) fn check_data(folder: &DataFolder, whole: bool) -> Result<(), NodeError> {
    for region in &folder.record().regions {
        let name = |node: &NodeRecord| NodeName {
            region: region.name.clone(),
            id: node.id,
        };
        let (nodes, all) = (region.nodes.iter().map(name), region.nodes.len());
        let gone: Vec<NodeName> = nodes.filter(|node| folder.is_gone(node)).collect();
        if gone.is_empty() {
            continue;
        }
        if gone.len() * 2 >= all {
            return Err(NodeError::MajorityGone {
                region: region.name.clone(),
                gone: gone.len(),
                nodes: all,
                folder: folder.root().join(region.name.as_str()),
            });
        }
        if whole {
            return Err(NodeError::DataGoneInDev {
                store: folder.store(&gone[0]),
                folder: folder.root().to_owned(),
                node: gone[0].clone(),
            });
        }
    }
    Ok(())
}

/// A node that runs.
pub(crate) struct Running {
    /// Which one.
    pub(crate) name: NodeName,
    /// Its operations.
    pub(crate) service: Service,
    audit: Option<Audit>,
    api: Server,
    admin: Server,
    /// What goes on beside requests; ended with the node.
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a node of the cluster in `folder`; `unlock` opens its domain key if that is locked.
    pub(crate) async fn start(
        world: &World,
        folder: &DataFolder,
        topology: &Topology,
        name: &NodeName,
        unlock: &Unlock,
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
        let (domain_keys, keyring) = DomainKeyFile::open(&key_file, unlock, world.entropy.clone())?;
        let region_key_file = folder.region_key(&name.region);
        let region_key = domain_keys.load_region_key(&region_key_file)?;
        let pinned = folder.pinned_keys(&name.region)?;
        region_key
            .check(pinned[&name.region])
            .map_err(|cause| NodeError::WrongRegionKey {
                file: region_key_file,
                cause,
            })?;
        // They are for who studies faults; others' nodes have no such thing in the way.
        let faults = topology
            .test_clock
            .then(|| Faults::new(&name.region, world.entropy.clone()));
        let links = Links::mutual_tls(
            &folder.certs(),
            &folder.record().cluster_id,
            &name.region,
            name.id,
            world.clock.clone(),
        )?
        .for_domain_key(DomainKeyName {
            fingerprint: keyring.fingerprint(),
            file: key_file.clone(),
        })
        .over_distances(topology.distances(&name.region), world.entropy.clone());
        let links = match &faults {
            None => links,
            Some(faults) => links.with_faults(faults.clone()),
        };

        let attestation_roots = Arc::new(attestation_roots(topology)?);
        let tls = api_tls(topology)?;

        let store = open_store(
            world,
            disk(faults.as_ref()),
            &path,
            &folder.started_file(name),
        )
        .await?;
        check_domain_key(&store, &path, &keyring, &key_file)?;
        wait_for_ports(&record).await;
        let config = GroupConfig {
            cluster_id: folder.record().cluster_id.clone(),
            region: name.region.clone(),
            node: name.id,
            listen: record.peer_at().to_string(),
            peers: folder.peers(&name.region),
            neighbours: folder.neighbours(&name.region),
            bootstrap: !region.founded && region.founders.contains(&name.id),
            snapshot_every: topology.snapshot_entries,
            history_rows_max: match topology.history {
                History::All => None,
                History::Entries(count) => Some(count),
            },
        };
        let group = Group::start(config, peers_world(world, &record), store, links).await?;
        group.delay_eventual_reads(topology.propagation_delay);
        let settings = Settings {
            test_clock: topology.test_clock,
            hold_transient: topology.hold_transient,
            attestation_roots,
            custom_tags: topology.custom_tags,
            identity_home: folder
                .record()
                .regions
                .first()
                .map(|home| home.name.clone()),
            request_quotas: topology.request_quotas.then(|| {
                let factor = topology.request_quota_factor;
                Arc::new(RequestQuotas::new(&name.region, factor))
            }),
            domain_keys: Some(Arc::new(domain_keys)),
        };
        let (root, own_region) = (folder.root().to_owned(), name.region.clone());
        let neighbourhood = Neighbourhood {
            own: region_key,
            pinned,
            look_up: Box::new(move || {
                let folder = DataFolder::look(&root).ok()?;
                Some(Found {
                    addresses: folder.neighbours(&own_region),
                    pinned: folder.pinned_keys(&own_region).ok()?,
                })
            }),
        };
        let service = Service::among_regions(
            group.clone(),
            keyring,
            neighbourhood,
            world.clone(),
            settings,
        );

        let audit = match &topology.audit {
            None => None,
            Some(plan) => {
                let (settings, cluster) = (plan.settings(), &folder.record().cluster_id);
                match Audit::start(world, &settings, service.clone(), cluster).await {
                    Ok(audit) => Some(audit),
                    Err(error) => {
                        group.shutdown().await;
                        return Err(error.into());
                    }
                }
            }
        };

        let reads = topology.reads_at(&name.region, name.id);
        let regions = Regions::default();
        let served = vec![(service.clone(), audit.clone())];
        regions.set_audited(vec![(name.region.clone(), served)]);
        let endpoint = Endpoint::new(regions, endpoint_settings(topology, reads), None);
        let options = Options {
            proxy: Some(ProxyToken::of_node(&token)),
            ..api_options(tls)
        };
        let outside = clients_world(world, faults.as_ref());
        let api = listen(&outside, name, record.api_at(), endpoint, options).await;
        let admin = Admin::new(service.clone(), token).with_faults(faults);
        let admin = listen(world, name, record.admin_at(), admin, limits().into()).await;
        let (api, admin) = match (api, admin) {
            (Ok(api), Ok(admin)) => (api, admin),
            (Err(error), _) | (_, Err(error)) => {
                group.shutdown().await;
                return Err(error);
            }
        };
        let tasks = &world.tasks;
        let ticking = service.clone();
        let clock = tasks.spawn_background(async move { ticking.run_clock().await });
        let keeping = service.clone();
        let domain_key = tasks.spawn_background(async move { keeping.run_domain_key().await });
        let carrying = service.clone();
        let courier = tasks.spawn_background(async move { carrying.run_courier().await });
        Ok(Self {
            name: name.clone(),
            service,
            audit,
            api,
            admin,
            tasks: vec![clock, courier, domain_key],
        })
    }

    /// What an endpoint of its Region serves.
    pub(crate) fn to_serve(&self) -> Audited {
        (self.service.clone(), self.audit.clone())
    }

    /// Says on standard error if the node stops by itself.
    pub(crate) fn report_failure(&mut self) {
        let (name, service) = (self.name.clone(), self.service.clone());
        self.tasks.push(world::spawn(async move {
            let reason = service.group().stopped().await;
            run::remark(&format!("keyrum: node {name} stopped: {reason}"));
        }));
    }

    /// Waits until the node stopped by itself: a failing disk, a state that differs.
    pub(crate) async fn stopped(&self) -> StopReason {
        self.service.group().stopped().await
    }

    /// Where it takes calls.
    pub(crate) fn api_addr(&self) -> SocketAddr {
        self.api.local_addr()
    }

    /// Stops the node in order: answers what it took, hands leadership over, closes its store.
    pub(crate) async fn stop(self) {
        let quiet = self.finish_calls().await;
        quiet.service.group().shutdown().await;
        quiet.admin.stop().await;
    }

    /// Answers what it took, and takes no more.
    pub(crate) async fn finish_calls(self) -> Quiet {
        self.api.stop().await;
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(audit) = &self.audit {
            audit.stop().await;
        }
        Quiet {
            service: self.service,
            admin: self.admin,
        }
    }
}

/// A node that takes no more calls.
pub(crate) struct Quiet {
    service: Service,
    admin: Server,
}

impl Quiet {
    /// Closes the store, where all nodes of the cluster stop: nobody is left to hand leadership to.
    pub(crate) async fn stop_with_all(self) {
        self.service.group().shutdown_with_all().await;
        self.admin.stop().await;
    }
}

/// What every endpoint of the cluster does, and how reads are made at this one.
pub(crate) fn endpoint_settings(topology: &Topology, reads: Reads) -> EndpointSettings {
    EndpointSettings {
        default_account: topology.account,
        consistency: read_mode(reads),
        credentials: match topology.credentials {
            Credentials::Any => AcceptedCredentials::Any,
            Credentials::Declared => AcceptedCredentials::Declared,
        },
    }
}

/// The topology's word for a mode.
pub(crate) fn read_mode(reads: Reads) -> ReadMode {
    match reads {
        Reads::Linearizable => ReadMode::Linearizable,
        Reads::Lease => ReadMode::Lease,
        Reads::Local => ReadMode::Local,
        Reads::Eventual => ReadMode::Eventual,
    }
}

/// What listeners of the API do.
pub(crate) fn api_options(tls: Option<Tls>) -> Options {
    Options {
        limits: limits(),
        tls,
        proxy: None,
    }
}

/// What clients may cost, and how long they may hold up a stop. Connections leave half of the files
/// that may be open to everything else: a store that cannot open one stops its node.
pub(crate) fn limits() -> Limits {
    let usual = Limits::default();
    let files = getrlimit(Resource::Nofile).current;
    let half = files.map_or(usize::MAX, |files| {
        usize::try_from(files / 2).unwrap_or(usize::MAX)
    });
    Limits {
        stop_wait: STOP_WAIT,
        connections_max: usual.connections_max.min(half),
        ..usual
    }
}

async fn listen<H: keyrum_server::http::Handler>(
    world: &World,
    node: &NodeName,
    at: SocketAddr,
    handler: H,
    options: Options,
) -> Result<Server, NodeError> {
    Server::start(world, &at.to_string(), handler, options)
        .await
        .map_err(|cause| NodeError::Listen {
            node: node.clone(),
            at,
            cause,
        })
}

/// Waits until nobody listens on a node's ports: a former process of the node lets go of its store
/// a little before. Somebody else who has one is found when the node listens.
async fn wait_for_ports(record: &NodeRecord) {
    let deadline = Instant::now() + FORMER_WAIT;
    let ports = [record.api_at(), record.peer_at(), record.admin_at()];
    while !ports.into_iter().all(ports::is_free) && Instant::now() < deadline {
        sleep(FORMER_LOOK_EVERY).await;
    }
}

/// The machine's disk, and what is put in its way.
fn disk(faults: Option<&Arc<Faults>>) -> Arc<dyn Disk> {
    match faults {
        None => RealDisk::shared(),
        Some(faults) => FailingDisk::around(RealDisk::shared(), faults.disk().clone()),
    }
}

/// The world as peers see the node: from its own address.
fn peers_world(world: &World, record: &NodeRecord) -> World {
    match record.address {
        Ipv4Addr::LOCALHOST => world.clone(),
        own => World {
            network: world::network_from(own),
            ..world.clone()
        },
    }
}

/// The world as clients reach the node.
fn clients_world(world: &World, faults: Option<&Arc<Faults>>) -> World {
    let network = world.network.clone();
    let network = match faults {
        None => network,
        Some(faults) => faults.for_clients(network),
    };
    World {
        network,
        ..world.clone()
    }
}

/// Opens a node's store and notes that it has one. Waits for a former process of the node that is
/// just ending, as one does whose supervisor was killed.
async fn open_store(
    world: &World,
    disk: Arc<dyn Disk>,
    path: &Path,
    started: &Path,
) -> Result<Store, NodeError> {
    let deadline = Instant::now() + FORMER_WAIT;
    loop {
        let (disk, path, started) = (disk.clone(), path.to_owned(), started.to_owned());
        let open = move || {
            let store = Store::open(disk, &path, StoreConfig::default())?;
            // Before the node can vote.
            match files::touch(&started) {
                Ok(()) => Ok(store),
                Err(cause) => Err(NodeError::Started {
                    file: started,
                    cause,
                }),
            }
        };
        // Threads that the store starts step back as those of the background do.
        let blocking = world.blocking;
        let open = world
            .tasks
            .in_background(async move { blocking.run(open).await });
        match open.await {
            Err(NodeError::Store(StoreError::Locked { .. })) if Instant::now() < deadline => {
                sleep(FORMER_LOOK_EVERY).await;
            }
            opened => return opened,
        }
    }
}

/// Compares the domain key with the one the node's data was sealed under, and notes it with the
/// first data. Blocks on the disk, once.
fn check_domain_key(
    store: &Store,
    store_folder: &Path,
    keyring: &DomainKeyring,
    key_file: &Path,
) -> Result<(), NodeError> {
    let unusable = |problem: String| NodeError::DomainKeyRecord {
        store: store_folder.to_owned(),
        problem,
    };
    let noted = match store.meta(FINGERPRINT)? {
        None => None,
        Some(bytes) => Some(<[u8; 8]>::try_from(&bytes[..]).map_err(|_| {
            unusable(format!(
                "damaged: it has {} bytes instead of 8",
                bytes.len()
            ))
        })?),
    };
    match noted.map(|expected| keyring.check(Fingerprint(expected))) {
        Some(Ok(())) => Ok(()),
        // Nothing was sealed under what was noted: the node met the Region's domain key, and had
        // another, before it got any data.
        None | Some(Err(_)) if is_new(store) => {
            Ok(store.put_meta(FINGERPRINT, &keyring.fingerprint().0)?)
        }
        Some(Err(cause)) => Err(NodeError::WrongDomainKey {
            file: key_file.to_owned(),
            cause,
        }),
        None => Err(unusable("missing".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use keyrum_store::LogRow;
    use keyrum_types::Entropy;

    use super::*;

    struct Same(u8);

    impl Entropy for Same {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    fn append(store: &Store, index: u64) {
        let (sender, done) = std::sync::mpsc::channel();
        let row = LogRow {
            index,
            bytes: vec![1].into(),
        };
        let appended = Box::new(move |result| sender.send(result).unwrap());
        store.append(vec![row], vec![1], appended);
        done.recv().unwrap().unwrap();
    }

    /// Catches data that is used with another domain key than it was sealed under, a damaged or
    /// lost record of which that was that is put right without a word, and a new node that is
    /// kept from the right domain key because it was first started with a wrong one.
    #[test]
    fn data_keeps_its_domain_key() {
        let folder = tempfile::tempdir().unwrap();
        let [right, wrong] = [1, 2].map(|byte| DomainKeyring::generate(&Same(byte)));
        let store = |name: &str| {
            let path = folder.path().join(name);
            Store::open(RealDisk::shared(), &path, StoreConfig::default()).unwrap()
        };
        let check = |store: &Store, keyring: &DomainKeyring| {
            let checked = check_domain_key(store, folder.path(), keyring, Path::new("file"));
            checked.map_err(|error| error.to_string())
        };
        let data = store("data");
        check(&data, &wrong).unwrap();
        append(&data, 0);
        check(&data, &right).unwrap();
        append(&data, 1);
        check(&data, &right).unwrap();
        let words = check(&data, &wrong).unwrap_err();
        assert!(
            words.starts_with("file: ") && words.contains("wrong one"),
            "{words}"
        );

        for damaged in [&[][..], &[1; 7], &[1; 9]] {
            data.put_meta(FINGERPRINT, damaged).unwrap();
            let words = check(&data, &right).unwrap_err();
            assert!(words.contains("damaged"), "{words}");
            assert_eq!(data.meta(FINGERPRINT).unwrap().unwrap(), damaged);
        }
        let lost = store("lost");
        append(&lost, 0);
        append(&lost, 1);
        let words = check(&lost, &right).unwrap_err();
        assert!(words.contains("missing"), "{words}");
        assert_eq!(lost.meta(FINGERPRINT).unwrap(), None);
    }
}
