//! What a cluster is asked to be: the Regions, their nodes and the settings all of them share.
//!
//! `cluster up` and `node` read it from a file of `cluster-config/`; `dev` builds it from flags.
//! What the cluster became (chosen ports, added nodes) is the data folder's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyrum_consensus::SimulatedLink;
use keyrum_server::{AuditSettings, Rotation};
use keyrum_types::{AccountId, NodeId, Region};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use toml::Spanned;

mod link;

use link::LinkPlan;

/// The endpoint's port unless one is named.
pub(crate) const DEFAULT_PORT: u16 = 4599;

/// Log entries between two snapshots unless the file says otherwise.
pub(crate) const DEFAULT_SNAPSHOT_ENTRIES: u64 = 10_000;

/// The Regions, their nodes and the settings all of them share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topology {
    /// Port of the endpoint that serves every Region; 0 takes a free one.
    #[serde(default = "default_port")]
    pub(crate) port: u16,
    /// Address that endpoint listens on.
    #[serde(default = "default_bind")]
    pub(crate) bind: IpAddr,
    /// Account of a caller whose access key id names none.
    #[serde(default = "default_account", deserialize_with = "from_text")]
    pub(crate) account: AccountId,
    /// Who may call.
    #[serde(default)]
    pub(crate) credentials: Credentials,
    /// Accounts, users and roles that are declared when the cluster starts; relative to the working
    /// folder.
    #[serde(default)]
    pub(crate) identities: Option<PathBuf>,
    /// The API's certificate and those it leads through, in PEM; relative to the working folder.
    /// Without it, calls are not protected.
    #[serde(default)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, in PEM; relative to the working folder.
    #[serde(default)]
    pub(crate) tls_key: Option<PathBuf>,
    /// Whether the Regions' clocks may be moved ahead.
    #[serde(default)]
    pub(crate) test_clock: bool,
    /// How reads see the state when a request does not say, as far as the file tells.
    #[serde(default)]
    pub(crate) reads: Option<Reads>,
    /// How long eventual reads may miss a change; 0 to 5 minutes.
    #[serde(default, deserialize_with = "wait")]
    pub(crate) propagation_delay: Duration,
    /// How long Creating and Updating are kept at least; 0 to 5 minutes.
    #[serde(default, deserialize_with = "wait")]
    pub(crate) hold_transient: Duration,
    /// The roots of attested callers, in PEM; relative to the working folder. Without it, that of
    /// the real enclaves.
    #[serde(default)]
    pub(crate) attestation_root: Option<PathBuf>,
    /// Whether tags of CreateKey choose a key's id and material; `dev` only.
    #[serde(skip)]
    pub(crate) custom_tags: bool,
    /// Whether accounts may make only so many calls in a second.
    #[serde(default)]
    pub(crate) request_quotas: bool,
    /// What the real service's request quotas are multiplied with; greater than 0.
    #[serde(default = "one")]
    pub(crate) request_quota_factor: f64,
    /// Where and how records of calls are kept; none are without it.
    #[serde(default)]
    pub(crate) audit: Option<AuditPlan>,
    /// How far back the history reaches.
    #[serde(default)]
    pub(crate) history: History,
    /// Log entries between two snapshots of a node; 1 or more.
    #[serde(default = "default_snapshot_entries")]
    pub(crate) snapshot_entries: u64,
    /// The data folder when the command line names none; relative to the working folder.
    #[serde(default)]
    pub(crate) data: Option<PathBuf>,
    /// In the file's order; the first takes unsigned requests.
    #[serde(rename = "region")]
    pub(crate) regions: Vec<RegionPlan>,
    /// How far apart they are; without a link they are as near as this machine makes them.
    #[serde(default, rename = "link")]
    links: Vec<Spanned<LinkPlan>>,
}

/// One Region as asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegionPlan {
    /// Its name.
    #[serde(deserialize_with = "spanned_from_text")]
    pub(crate) name: Spanned<Region>,
    /// Its first members.
    pub(crate) nodes: Vec<Spanned<NodePlan>>,
}

/// One node as asked for. A port of 0 is chosen at the first start and remembered.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodePlan {
    /// Its id, 1 or greater.
    pub(crate) id: NodeId,
    /// Where it listens, and where its connections to its peers come from; of 127.0.0.0/8.
    #[serde(default = "localhost", deserialize_with = "loopback")]
    pub(crate) address: Ipv4Addr,
    /// Where it answers KMS calls.
    #[serde(default)]
    pub(crate) api: u16,
    /// Where it hears its peers.
    #[serde(default)]
    pub(crate) peer: u16,
    /// Where it answers operators.
    #[serde(default)]
    pub(crate) admin: u16,
    /// How requests that come to it directly read; as everywhere if absent.
    #[serde(default)]
    pub(crate) reads: Option<Reads>,
}

/// Where and how records of calls are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditPlan {
    /// One file for each node goes there; relative to the working folder.
    pub(crate) folder: PathBuf,
    /// Whether calls are refused while their records cannot be written.
    #[serde(default)]
    pub(crate) required: bool,
    /// Whether each write waits for the disk.
    #[serde(default)]
    pub(crate) sync: bool,
    /// A file that has this many MiB is followed by a new one; 1 or more.
    #[serde(default)]
    pub(crate) file_mib: Option<NonZeroU32>,
    /// How many older files are kept.
    #[serde(default)]
    pub(crate) files: Option<u32>,
}

impl AuditPlan {
    /// In the words of whoever keeps the records.
    pub(crate) fn settings(&self) -> AuditSettings {
        let usual = Rotation::default();
        AuditSettings {
            folder: self.folder.clone(),
            required: self.required,
            sync: self.sync,
            rotation: Rotation {
                file_bytes_max: self
                    .file_mib
                    .map_or(usual.file_bytes_max, |mib| u64::from(mib.get()) << 20),
                files_max: self.files.map_or(usual.files_max, u64::from),
            },
        }
    }
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Credentials {
    /// Everybody, as the root of the account the access key id names.
    Any,
    /// Declared identities only.
    #[default]
    Declared,
}

/// How reads see the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reads {
    /// After a read index, on any node.
    Linearizable,
    /// Under the leader's lease.
    Lease,
    /// What this node has applied.
    Local,
    /// Like the real service: with a delay, if there is one.
    Eventual,
}

/// How far back the history reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum History {
    /// To the first entry.
    #[default]
    All,
    /// This many log entries.
    Entries(u64),
}

/// Why there is no topology.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopologyError {
    /// The file cannot be read.
    #[error("cannot read the topology file {}: {cause}; name an existing one with --config, such as cluster-config/two-regions.toml", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file says something it must not.
    #[error("{}{}: {what}; correct the file (cluster-config/two-regions.toml explains every field)", file.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// Counted from 1; `None` where something is missing.
        line: Option<usize>,
        /// What is wrong there.
        what: String,
    },
    /// The flags of `dev` contradict each other.
    #[error("{0}")]
    Flags(String),
}

impl Topology {
    /// Reads and checks a topology file.
    pub(crate) fn load(file: &Path) -> Result<Self, TopologyError> {
        Self::load_with_text(file).map(|(topology, _)| topology)
    }

    /// The same, with the file's text.
    pub(crate) fn load_with_text(file: &Path) -> Result<(Self, String), TopologyError> {
        let text = std::fs::read_to_string(file).map_err(|cause| TopologyError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
        Ok((Self::parse(file, &text)?, text))
    }

    fn parse(file: &Path, text: &str) -> Result<Self, TopologyError> {
        let invalid = |place: Place, what: String| TopologyError::Invalid {
            file: file.to_owned(),
            line: place.line(text),
            what,
        };
        let topology: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            invalid(Place::Offset(offset), error.message().replace('\n', ", "))
        })?;
        topology
            .check()
            .map_err(|(place, what)| invalid(place, what))?;
        Ok(topology)
    }

    /// The topology `dev` runs: every Region with nodes 1 to `nodes`, all ports but one free.
    pub(crate) fn uniform(
        regions: &[Region],
        nodes: u64,
        port: u16,
        bind: IpAddr,
        account: AccountId,
    ) -> Result<Self, TopologyError> {
        let plan = |region: &Region| RegionPlan {
            name: Spanned::new(0..0, region.clone()),
            nodes: (1..=nodes)
                .map(|id| {
                    Spanned::new(
                        0..0,
                        NodePlan {
                            id,
                            address: localhost(),
                            api: 0,
                            peer: 0,
                            admin: 0,
                            reads: None,
                        },
                    )
                })
                .collect(),
        };
        let topology = Self {
            port,
            bind,
            account,
            credentials: Credentials::Any,
            identities: None,
            tls_cert: None,
            tls_key: None,
            test_clock: true,
            reads: None,
            propagation_delay: Duration::ZERO,
            hold_transient: Duration::ZERO,
            attestation_root: None,
            custom_tags: false,
            request_quotas: false,
            request_quota_factor: one(),
            audit: None,
            history: History::default(),
            snapshot_entries: DEFAULT_SNAPSHOT_ENTRIES,
            data: None,
            regions: regions.iter().map(plan).collect(),
            links: Vec::new(),
        };
        topology
            .check()
            .map_err(|(_, what)| TopologyError::Flags(what))?;
        Ok(topology)
    }

    /// How reads see the state when a request does not say. Who asks for a delay wants to see it.
    pub(crate) fn reads(&self) -> Reads {
        self.reads.unwrap_or(match self.propagation_delay {
            Duration::ZERO => Reads::Linearizable,
            _ => Reads::Eventual,
        })
    }

    /// The same for requests that come directly to this node, which may have been added later.
    pub(crate) fn reads_at(&self, region: &Region, node: NodeId) -> Reads {
        let regions = self.regions.iter();
        let ours = regions.filter(|plan| plan.name.get_ref() == region);
        let mut plans = ours.flat_map(|plan| &plan.nodes).map(Spanned::get_ref);
        let plan = plans.find(|plan| plan.id == node);
        plan.and_then(|plan| plan.reads).unwrap_or(self.reads())
    }

    /// What URLs of the API begin with.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls_cert {
            Some(_) => "https",
            None => "http",
        }
    }

    /// How far other Regions are made to be from this one.
    pub(crate) fn distances(&self, from: &Region) -> BTreeMap<Region, SimulatedLink> {
        link::distances(&self.links, from)
    }

    /// What the types cannot say, and where.
    fn check(&self) -> Result<(), (Place, String)> {
        if self.regions.is_empty() {
            return Err((
                Place::Field("region"),
                "a cluster has at least one Region".to_owned(),
            ));
        }
        let factor = self.request_quota_factor;
        if !factor.is_finite() || factor <= 0.0 {
            return Err((
                Place::Field("request_quota_factor"),
                "request_quota_factor is greater than 0".to_owned(),
            ));
        }
        if self.snapshot_entries == 0 {
            return Err((
                Place::Field("snapshot_entries"),
                "snapshot_entries is 1 or more".to_owned(),
            ));
        }
        if self.credentials == Credentials::Declared && self.identities.is_none() {
            return Err((
                Place::Field("credentials"),
                "without declared identities nobody could call this cluster: name a file of them \
                 with identities = \"FILE\", or say credentials = \"any\""
                    .to_owned(),
            ));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let there = if self.tls_cert.is_some() {
                "tls_cert"
            } else {
                "tls_key"
            };
            return Err((
                Place::Field(there),
                "tls_cert and tls_key belong together: name both files, or none".to_owned(),
            ));
        }
        let mut regions = BTreeSet::new();
        let mut ports = BTreeSet::from([self.port]);
        for region in &self.regions {
            let (name, offset) = (
                region.name.get_ref(),
                Place::Offset(region.name.span().start),
            );
            if !regions.insert(name) {
                return Err((offset, format!("the Region {name} is named twice")));
            }
            if region.nodes.is_empty() {
                return Err((offset, format!("the Region {name} has no nodes")));
            }
            let mut ids = BTreeSet::new();
            for node in &region.nodes {
                let (plan, offset) = (node.get_ref(), Place::Offset(node.span().start));
                if plan.id == 0 {
                    return Err((offset, "a node's id is 1 or greater".to_owned()));
                }
                if !ids.insert(plan.id) {
                    return Err((
                        offset,
                        format!("the node {name}/{} is named twice", plan.id),
                    ));
                }
                for port in [plan.api, plan.peer, plan.admin] {
                    if port != 0 && !ports.insert(port) {
                        return Err((offset, format!("port {port} is used twice")));
                    }
                }
            }
        }
        link::check(&self.links, &regions).map_err(|(offset, what)| (Place::Offset(offset), what))
    }
}

/// On which line so many bytes from a text's beginning are; counted from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|&&b| b == b'\n').count()
}

/// What an error is about.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes from the text's beginning.
    Offset(usize),
    /// A field of the whole cluster, which may be missing.
    Field(&'static str),
}

impl Place {
    fn line(self, text: &str) -> Option<usize> {
        match self {
            Self::Offset(offset) => Some(line_of(text, offset)),
            Self::Field(name) => {
                let says = |line: &str| {
                    let rest = line.trim_start().strip_prefix(name);
                    rest.is_some_and(|rest| rest.trim_start().starts_with('='))
                };
                text.lines().position(says).map(|line| line + 1)
            }
        }
    }
}

fn one() -> f64 {
    1.0
}

fn default_port() -> u16 {
    DEFAULT_PORT
}

fn default_bind() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// Where nodes listen that nothing else is said of.
pub(crate) fn localhost() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

fn loopback<'de, D: Deserializer<'de>>(from: D) -> Result<Ipv4Addr, D::Error> {
    let text = String::deserialize(from)?;
    match text.parse::<Ipv4Addr>() {
        Ok(address) if address.is_loopback() => Ok(address),
        _ => Err(de::Error::custom(format!(
            "a node's address is one of 127.0.0.0/8, such as \"127.0.0.2\", not \"{text}\": all nodes are on this machine"
        ))),
    }
}

fn default_account() -> AccountId {
    "000000000000".parse().expect("twelve digits")
}

fn default_snapshot_entries() -> u64 {
    DEFAULT_SNAPSHOT_ENTRIES
}

/// Longest propagation delay, and longest hold of a transient state.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A time from 0 to 5 minutes, as people write it.
pub(crate) fn short_wait(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if wait > WAIT_MAX {
        return Err(format!("{text} is too long: at most 5m"));
    }
    Ok(wait)
}

fn wait<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    short_wait(&String::deserialize(from)?).map_err(de::Error::custom)
}

fn from_text<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: fmt::Display>,
{
    String::deserialize(from)?
        .parse()
        .map_err(de::Error::custom)
}

fn spanned_from_text<'de, D, T>(from: D) -> Result<Spanned<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: fmt::Display>,
{
    let text = Spanned::<String>::deserialize(from)?;
    let value = text.get_ref().parse().map_err(de::Error::custom)?;
    Ok(Spanned::new(text.span(), value))
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = History;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\" or a number of log entries")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<History, E> {
                match text {
                    "all" => Ok(History::All),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<History, E> {
                u64::try_from(number)
                    .map(History::Entries)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
        }
        from.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        Topology::parse(Path::new("x.toml"), text)
            .unwrap_err()
            .to_string()
    }

    /// Catches a shipped topology that cannot be used, or is not what its name says.
    #[test]
    fn the_shipped_files_are_topologies() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster-config");
        for (file, shape) in [
            ("one-node", &[1][..]),
            ("two-regions", &[3, 3]),
            ("three-regions", &[3, 3, 3]),
            ("six-regions", &[1, 1, 1, 1, 1, 1]),
        ] {
            let topology = Topology::load(&folder.join(file).with_extension("toml")).unwrap();
            let sizes: Vec<_> = topology.regions.iter().map(|r| r.nodes.len()).collect();
            assert_eq!(sizes, shape, "{file}");
            assert_eq!(topology.port, DEFAULT_PORT);
            assert!(topology.test_clock);
            if file == "six-regions" {
                for region in &topology.regions {
                    let distances = topology.distances(region.name.get_ref());
                    assert_eq!(distances.len(), 5, "{}", region.name.get_ref());
                }
            }
        }
    }

    /// Catches a delay that nobody would see, one that overrules what the file says, and a node
    /// that does not read as its own line says.
    #[test]
    fn reads_are_chosen_for_all_and_for_each() {
        let region = "[[region]]\nname = \"us-east-1\"\n";
        let nodes = "nodes = [{ id = 1 }, { id = 2, reads = \"local\" }]\n";
        let parse = |lines: &str| {
            let text = format!("credentials = \"any\"\n{lines}\n{region}{nodes}");
            Topology::parse(Path::new("x.toml"), &text).unwrap()
        };
        let delay = "propagation_delay = \"30s\"";
        for (lines, all) in [
            ("", Reads::Linearizable),
            ("reads = \"lease\"", Reads::Lease),
            ("propagation_delay = \"0s\"", Reads::Linearizable),
            (delay, Reads::Eventual),
            (
                &format!("{delay}\nreads = \"linearizable\""),
                Reads::Linearizable,
            ),
        ] {
            let topology = parse(lines);
            let region = "us-east-1".parse().unwrap();
            let at = |node| topology.reads_at(&region, node);
            assert_eq!(topology.reads(), all, "{lines}");
            assert_eq!((at(1), at(2), at(3)), (all, Reads::Local, all), "{lines}");
        }
        assert_eq!(parse(delay).propagation_delay, Duration::from_secs(30));
        for field in ["propagation_delay", "hold_transient"] {
            for (value, words) in [
                ("\"301s\"", "301s is too long: at most 5m"),
                ("\"soon\"", "expected number"),
                ("30", "invalid type: integer `30`"),
            ] {
                let text = complaint(&format!("port = 1\n{field} = {value}\n{region}{nodes}"));
                assert!(
                    text.starts_with(&format!("x.toml, line 2: {words}")),
                    "{text}"
                );
            }
        }
    }

    /// Catches an error that does not lead to the line that has to change.
    #[test]
    fn errors_name_file_and_line() {
        let head = "credentials = \"any\"\n[[region]]\nname = \"us-east-1\"\n";
        let text = complaint(&format!("{head}nodes = [{{ id = 1 }}]\nprot = 1\n"));
        assert!(
            text.starts_with("x.toml, line 5: unknown field `prot`"),
            "{text}"
        );
        let text = complaint(&format!(
            "{head}nodes = [\n {{ id = 1 }},\n {{ id = 1 }}]\n"
        ));
        assert!(
            text.starts_with("x.toml, line 6: the node us-east-1/1 is named twice"),
            "{text}"
        );
        let text = complaint("credentials = \"any\"\n[[region]]\nname = \"x\"\nnodes = []\n");
        assert!(
            text.starts_with("x.toml, line 3: \"x\" is not a Region name"),
            "{text}"
        );
        let text = complaint("history = \"some\"\nregion = []\n");
        assert!(
            text.starts_with("x.toml, line 1: invalid value: string \"some\""),
            "{text}"
        );
        let rest = format!("{head}nodes = [{{ id = 1 }}]\n");
        let text = complaint(&format!("port = 1\n snapshot_entries = 0\n{rest}"));
        assert!(
            text.starts_with("x.toml, line 2: snapshot_entries"),
            "{text}"
        );
        let declared = rest.replace("any", "declared");
        let text = complaint(&format!("port = 1\n\n{declared}"));
        assert!(
            text.starts_with("x.toml, line 3: without declared"),
            "{text}"
        );
        let text = complaint(&format!("{head}nodes = [{{ id = 1, api = 9, peer = 9 }}]"));
        assert!(text.contains("line 4: port 9 is used twice"), "{text}");
    }

    /// Catches a node's address that is passed over, and one that leads off this machine or nowhere.
    #[test]
    fn nodes_have_addresses_of_this_machine() {
        let file = |nodes: &str| {
            format!("credentials = \"any\"\n[[region]]\nname = \"us-east-1\"\nnodes = [{nodes}]\n")
        };
        let nodes = "{ id = 1 }, { id = 2, address = \"127.0.0.2\" }";
        let topology = Topology::parse(Path::new("x.toml"), &file(nodes)).unwrap();
        let plans = topology.regions[0].nodes.iter().map(Spanned::get_ref);
        let addresses: Vec<_> = plans.map(|plan| plan.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1", "127.0.0.2"]);
        for wrong in [
            "10.0.0.1",
            "0.0.0.0",
            "::1",
            "localhost",
            "127.0.0.2:80",
            "",
        ] {
            let text = complaint(&file(&format!("{{ id = 1, address = \"{wrong}\" }}")));
            let words = format!("such as \"127.0.0.2\", not \"{wrong}\"");
            assert!(
                text.starts_with("x.toml, line 4: a node's address is"),
                "{text}"
            );
            assert!(text.contains(&words), "{text}");
        }
    }

    /// Catches a local cluster that silently lets nobody, or everybody, in.
    #[test]
    fn credentials_must_be_said() {
        let text = complaint("[[region]]\nname = \"us-east-1\"\nnodes = [{ id = 1 }]\n");
        assert!(text.starts_with("x.toml: without declared"), "{text}");
        assert!(text.contains("say credentials = \"any\""), "{text}");
        let named =
            "identities = \"i.toml\"\n[[region]]\nname = \"us-east-1\"\nnodes = [{ id = 1 }]\n";
        let topology = Topology::parse(Path::new("x.toml"), named).unwrap();
        assert_eq!(topology.credentials, Credentials::Declared);
    }
}
