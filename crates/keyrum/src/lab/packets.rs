//! Cuts between nodes and loss, made by dropping packets: each node has an address of its own, so a
//! packet's two addresses say which nodes it lies between. Each fault is a chain of rules of nftables,
//! which count what they drop.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use keyrum_consensus::faults::{Direction, Fault, Party, With};
use keyrum_types::{NodeId, Region};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::namespace;
use crate::Failure;
use crate::cli::NodeName;
use crate::run::RunFile;

/// The name of the table that has all rules.
pub(super) const TABLE: &str = "keyrum";

/// Where everybody is who is no node: clients, the cluster's endpoint, this command.
const OTHERS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Of how many packets a share is lost.
const OF: u32 = 1_000_000;

/// Where a node listens; Regions are counted from 0. Each Region has a network of 254 addresses.
pub(super) fn address(region: usize, node: NodeId) -> String {
    format!("127.0.{}.{node}", region + 1)
}

/// Whether a fault is made by dropping packets. Clients have no addresses of their own, and the kernel
/// delays no packets without netem, which few have.
pub(super) fn carry(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Cut { with, .. } | Fault::Lose { with, .. } if *with != With::Clients
    )
}

/// Drops packets in the network of its own that this process is in.
pub(super) struct Packets {
    nft: PathBuf,
}

impl Packets {
    /// Moves this command into a network of its own first, if it is not there: then it does not come back.
    pub(super) fn open() -> Result<Self, Failure> {
        let programs = namespace::enter()?;
        Ok(Self { nft: programs.nft })
    }

    /// Drops what faults between nodes take, under a number that no other fault has.
    pub(super) async fn begin(
        &self,
        number: usize,
        faults: &[(NodeName, Fault)],
        nodes: &Addresses,
    ) -> Result<(), Failure> {
        let mut script = format!(
            "add chain ip {TABLE} fault{number} {{ type filter hook input priority 0; }}\n"
        );
        for (node, fault) in faults {
            for rule in rules(node, fault, nodes)? {
                script += &format!("add rule ip {TABLE} fault{number} {rule}\n");
            }
        }
        self.nft(&script).await.map(drop)
    }

    /// Ends that, and tells how many packets it has taken.
    pub(super) async fn lift(&self, number: usize) -> Result<u64, Failure> {
        let chain = format!("chain ip {TABLE} fault{number}\n");
        let listed = self.nft(&format!("list {chain}")).await?;
        self.nft(&format!("flush {chain}delete {chain}")).await?;
        Ok(dropped(&listed))
    }

    /// Has nft carry out a script, as a whole or not at all, and gives what it prints.
    async fn nft(&self, script: &str) -> Result<String, Failure> {
        let mut child = Command::new(&self.nft)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("no packets are dropped, since nft says: {}", said.trim()).into())
            }
        }
    }
}

/// Where a cluster's nodes are.
pub(super) struct Addresses(BTreeMap<NodeName, Ipv4Addr>);

impl Addresses {
    /// Those of the cluster that runs on a data folder.
    pub(super) fn find(data: &Path) -> Result<Self, Failure> {
        let mut addresses = BTreeMap::new();
        for (region, held) in RunFile::find(data)?.regions {
            for node in held.nodes {
                let name = NodeName {
                    region: region.clone(),
                    id: node.id,
                };
                match node.peer.parse()? {
                    SocketAddr::V4(at) => addresses.insert(name, *at.ip()),
                    SocketAddr::V6(at) => return Err(format!("{name} listens on {at}").into()),
                };
            }
        }
        Ok(Self(addresses))
    }

    fn of(&self, node: &NodeName) -> Result<Ipv4Addr, String> {
        let address = self.0.get(node).copied();
        address.ok_or_else(|| format!("there is no node {node} now"))
    }

    /// The network of a Region, those of its nodes included that are yet to come.
    fn network(&self, region: &Region) -> Result<String, String> {
        let mut nodes = self.0.iter().filter(|(node, _)| node.region == *region);
        let (_, address) = nodes
            .next()
            .ok_or_else(|| format!("{region} has no nodes"))?;
        let [a, b, c, _] = address.octets();
        Ok(format!("{a}.{b}.{c}.0/24"))
    }

    fn party(&self, party: &Party) -> Result<String, String> {
        let region = party.region.clone();
        match party.node {
            None => self.network(&region),
            Some(id) => self.of(&NodeName { region, id }).map(|at| at.to_string()),
        }
    }
}

/// The rules that make a fault of a node: one for each way.
fn rules(node: &NodeName, fault: &Fault, nodes: &Addresses) -> Result<Vec<String>, String> {
    let (with, direction, share) = match fault {
        Fault::Cut { with, direction } => (with, *direction, 1.0),
        Fault::Lose {
            with,
            direction,
            share,
        } => (with, *direction, *share),
        other => return Err(format!("{other:?} is not made by dropping packets")),
    };
    let own = nodes.of(node)?;
    let others = match with {
        With::Nodes => format!("!= {{ {OTHERS}, {own} }}"),
        With::OtherRegions => format!("!= {{ {OTHERS}, {} }}", nodes.network(&node.region)?),
        With::These(parties) => {
            let parties: Result<Vec<_>, _> = parties.iter().map(|p| nodes.party(p)).collect();
            format!("{{ {} }}", parties?.join(", "))
        }
        With::Clients => return Err("clients have no addresses of their own".to_owned()),
    };
    let chance = match share < 1.0 {
        true => format!(
            "numgen random mod {OF} < {} ",
            (share * f64::from(OF)) as u32
        ),
        false => String::new(),
    };
    let outward = format!("ip saddr {own} ip daddr {others} {chance}counter drop");
    let inward = format!("ip saddr {others} ip daddr {own} {chance}counter drop");
    Ok(match direction {
        Direction::Both => vec![outward, inward],
        Direction::Out => vec![outward],
        Direction::In => vec![inward],
    })
}

/// How many packets a chain has dropped, as nft lists it: `... counter packets 12 bytes 720 drop`.
fn dropped(listed: &str) -> u64 {
    let counts = listed.split("counter packets ").skip(1);
    let counts = counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(region: &str, id: NodeId) -> NodeName {
        NodeName {
            region: region.parse().unwrap(),
            id,
        }
    }

    /// Catches a fault that drops packets of others than its two sides, or of clients, or in the wrong
    /// direction, or more than its share.
    #[test]
    fn packets_are_dropped_between_the_sides_of_a_fault() {
        let mut nodes = BTreeMap::new();
        for (number, region) in ["us-east-1", "eu-west-1"].into_iter().enumerate() {
            for id in 1..=3 {
                let at = address(number, id).parse().unwrap();
                nodes.insert(name(region, id), at);
            }
        }
        let nodes = Addresses(nodes);
        let rules = |node, fault: &Fault| rules(&node, fault, &nodes);
        let two = || name("us-east-1", 2);
        let cut = |with, direction| Fault::Cut { with, direction };
        let other = "!= { 127.0.0.1, 127.0.1.2 }";
        let out = format!("ip saddr 127.0.1.2 ip daddr {other} counter drop");
        let inward = format!("ip saddr {other} ip daddr 127.0.1.2 counter drop");
        let all = |direction| rules(two(), &cut(With::Nodes, direction)).unwrap();
        assert_eq!(all(Direction::Both), [out.as_str(), inward.as_str()]);
        assert_eq!(all(Direction::Out), [out]);
        assert_eq!(all(Direction::In), [inward]);

        let far = cut(With::OtherRegions, Direction::Out);
        let expected = "ip saddr 127.0.1.2 ip daddr != { 127.0.0.1, 127.0.1.0/24 } counter drop";
        assert_eq!(rules(two(), &far).unwrap(), [expected]);
        let party = |region: &str, node| Party {
            region: region.parse().unwrap(),
            node,
        };
        let these = BTreeSet::from([party("eu-west-1", None), party("us-east-1", Some(3))]);
        let share = |share| Fault::Lose {
            with: With::These(these.clone()),
            direction: Direction::In,
            share,
        };
        let from = "ip saddr { 127.0.2.0/24, 127.0.1.3 } ip daddr 127.0.1.2";
        let some = format!("{from} numgen random mod 1000000 < 50000 counter drop");
        assert_eq!(rules(two(), &share(0.05)).unwrap(), [some]);
        assert_eq!(
            rules(two(), &share(1.0)).unwrap(),
            [format!("{from} counter drop")]
        );

        let gone = rules(name("us-east-1", 4), &far).unwrap_err();
        assert_eq!(gone, "there is no node us-east-1/4 now");
        let clients = cut(With::Clients, Direction::Both);
        assert!(!carry(&clients) && rules(two(), &clients).is_err());
        assert!(carry(&far) && carry(&share(1.0)) && !carry(&Fault::SlowDisk { by_ms: 1 }));
    }

    /// Catches a fault that took effect and is not counted, whole or in part.
    #[test]
    fn dropped_packets_are_counted() {
        let listed = "table ip keyrum {\n\tchain fault0 {\n\t\ttype filter hook input priority filter; policy accept;\n\
                      \t\tip saddr 127.0.1.1 ip daddr 127.0.1.2 counter packets 12 bytes 720 drop\n\
                      \t\tip saddr 127.0.1.2 ip daddr 127.0.1.1 counter packets 30 bytes 9 drop\n\t}\n}\n";
        assert_eq!(dropped(listed), 42);
        assert_eq!(dropped(&listed.replace("12", "0").replace("30", "0")), 0);
    }
}
