//! Links between nodes: mutual TLS, then a greeting, before any other byte is taken.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyrum_types::{Clock, Entropy, NodeId, Region};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::certs;
use crate::codec;
use crate::distance::{Distances, SimulatedLink};
use crate::domain::{Compared, DomainKeyName, Held};
use crate::faults::Faults;
use crate::tls_credentials::{MadeWith, TlsCredentials};
use crate::world::{BoxStream, Network};

/// How long TLS and the greeting may take, on either side.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest greeting taken, in bytes.
const GREETING_BYTES_MAX: usize = 1024;

/// How a node's links are protected.
#[derive(Clone)]
pub struct Links {
    cluster_id: Arc<str>,
    region: Region,
    node: NodeId,
    /// The domain key that peers must hold too; `None` compares nothing.
    domain_key: Option<Compared>,
    /// What it shows and whom it trusts; `None` if links are not protected.
    credentials: Option<Arc<TlsCredentials>>,
    /// How far other Regions are; `None` if all are near.
    distances: Option<Arc<Distances>>,
    /// What is put between it and others; `None` if nothing ever is.
    faults: Option<Arc<Faults>>,
}

/// Why a node's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// A file is missing or not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The files do not fit together.
    #[error(
        "the certificate in {} and the key in {} cannot be used together: {reason}",
        cert.display(), key.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        reason: String,
    },
}

/// What a connection is for: each purpose has its own connection, so that a long transfer
/// never holds up a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    Replication,
    Heartbeat,
    Snapshot,
    Requests,
    /// The only one between Regions, and only there.
    Courier,
}

/// A node, of any Region of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerName {
    pub(crate) region: Region,
    pub(crate) node: NodeId,
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.node)
    }
}

/// The first record on a link, in both directions.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    cluster_id: String,
    region: String,
    node: NodeId,
    purpose: Purpose,
    /// The sender's domain key, by name.
    domain_key: Option<Held>,
}

impl Links {
    /// Links protected by the certificates that [`certs::ensure`] made in `folder`. A running
    /// group looks at the files again; `clock` tells whether a certificate is valid.
    pub fn mutual_tls(
        folder: &Path,
        cluster_id: &str,
        region: &Region,
        node: NodeId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LinksError> {
        let credentials = TlsCredentials::read(folder, cluster_id, region, node, clock)?;
        Ok(Self {
            cluster_id: cluster_id.into(),
            region: region.clone(),
            node,
            domain_key: None,
            credentials: Some(Arc::new(credentials)),
            distances: None,
            faults: None,
        })
    }

    /// Unprotected links, for the simulated network only: TLS draws randomness that no seed
    /// fixes. The greeting is the same.
    pub fn simulated(cluster_id: &str, region: &Region, node: NodeId) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            region: region.clone(),
            node,
            domain_key: None,
            credentials: None,
            distances: None,
            faults: None,
        }
    }

    /// The same links, but only with nodes that hold this domain key.
    pub fn for_domain_key(mut self, name: DomainKeyName) -> Self {
        self.domain_key = Some(Compared::new(name));
        self
    }

    /// The same links, but with other Regions as far as this says.
    pub fn over_distances(
        mut self,
        links: BTreeMap<Region, SimulatedLink>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        self.distances = Some(Arc::new(Distances::new(links, entropy)));
        self
    }

    /// The same links, but with whatever faults are in force on them.
    pub fn with_faults(mut self, faults: Arc<Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// What is compared with the peers' domain keys.
    pub(crate) fn compared(&self) -> Option<&Compared> {
        self.domain_key.as_ref()
    }

    /// The node's TLS credentials, if its links are protected.
    pub(crate) fn credentials(&self) -> Option<&Arc<TlsCredentials>> {
        self.credentials.as_ref()
    }

    /// Makes a link to `target` at an address, or says why not.
    pub(crate) async fn dial(
        &self,
        network: &dyn Network,
        addr: &str,
        target: &PeerName,
        purpose: Purpose,
    ) -> io::Result<BoxStream> {
        let stream = match &self.faults {
            None => network.connect(addr).await?,
            Some(faults) => faults.connect(network, addr, target).await?,
        };
        self.connect(stream, target, purpose).await
    }

    /// Turns a fresh connection to `target` into a link, or says why not.
    async fn connect(
        &self,
        stream: BoxStream,
        target: &PeerName,
        purpose: Purpose,
    ) -> io::Result<BoxStream> {
        let greet = async {
            let stream = match &self.distances {
                Some(distances) if purpose == Purpose::Courier => {
                    distances.cross(&target.region, stream).await
                }
                Some(_) | None => stream,
            };
            let mut stream = match &self.credentials {
                None => stream,
                Some(credentials) => {
                    let name = certs::server_name(&self.cluster_id, &target.region, target.node);
                    let name = ServerName::try_from(name).map_err(io::Error::other)?;
                    let set = credentials.current();
                    let stream = set.connector.connect(name, stream).await?;
                    Box::new(MadeWith::new(stream, set)) as BoxStream
                }
            };
            self.send_greeting(&mut stream, purpose).await?;
            let answer = receive_greeting(&mut stream).await?;
            let answers = self.check(&answer)?;
            if answers != *target {
                return Err(refused(format!("node {answers} answers for node {target}")));
            }
            self.compare(&answer)?;
            Ok(stream)
        };
        tokio::time::timeout(GREETING_TIMEOUT, greet)
            .await
            .map_err(io::Error::other)?
    }

    /// Turns a connection that came in into a link, with the node and purpose it is for. A peer
    /// without a certificate of this cluster, or with one of another node or Region than it says,
    /// gets no further; nor does a node of another Region that is no courier.
    pub(crate) async fn accept(
        &self,
        stream: BoxStream,
    ) -> io::Result<(BoxStream, PeerName, Purpose)> {
        let (stream, gate) = match &self.faults {
            None => (stream, None),
            Some(faults) => {
                let (stream, gate) = faults.incoming(stream);
                (stream, Some((faults, gate)))
            }
        };
        let greet = async {
            let (mut stream, presented) = match &self.credentials {
                None => (stream, None),
                Some(credentials) => {
                    let set = credentials.current();
                    let stream = set.acceptor.accept(stream).await?;
                    let chain = stream.get_ref().1.peer_certificates();
                    let presented = chain.and_then(|chain| chain.first()).cloned();
                    let presented = presented.ok_or_else(|| refused("no certificate".into()))?;
                    let stream = MadeWith::new(stream, set);
                    (Box::new(stream) as BoxStream, Some(presented))
                }
            };
            let greeting = receive_greeting(&mut stream).await?;
            let peer = self.check(&greeting)?;
            if let Some(presented) = presented {
                let name = certs::server_name(&self.cluster_id, &peer.region, peer.node);
                let valid = webpki::EndEntityCert::try_from(&presented).is_ok_and(|cert| {
                    ServerName::try_from(name.as_str())
                        .is_ok_and(|name| cert.verify_is_valid_for_subject_name(&name).is_ok())
                });
                if !valid {
                    return Err(refused(format!("the certificate is not that of {name}")));
                }
            }
            if let Some((faults, gate)) = &gate {
                faults.admit(gate, &peer).await?;
            }
            self.send_greeting(&mut stream, greeting.purpose).await?;
            // After the answer: one with the wrong domain key is to learn of it.
            self.compare(&greeting)?;
            Ok((stream, peer, greeting.purpose))
        };
        tokio::time::timeout(GREETING_TIMEOUT, greet)
            .await
            .map_err(io::Error::other)?
    }

    /// Who greets, if it may for its purpose.
    fn check(&self, greeting: &Greeting) -> io::Result<PeerName> {
        let foreign = greeting.region != self.region.as_str();
        let courier = greeting.purpose == Purpose::Courier;
        if *greeting.cluster_id != *self.cluster_id || foreign != courier {
            return Err(refused(format!(
                "the peer is of cluster {}, Region {}, and comes for {:?}; this node of cluster \
                 {}, Region {}",
                greeting.cluster_id,
                greeting.region,
                greeting.purpose,
                self.cluster_id,
                self.region
            )));
        }
        let region = greeting.region.parse().map_err(io::Error::other)?;
        let node = greeting.node;
        Ok(PeerName { region, node })
    }

    /// Couriers of other Regions hold other domain keys.
    fn compare(&self, greeting: &Greeting) -> io::Result<()> {
        if greeting.purpose == Purpose::Courier {
            return Ok(());
        }
        let compare = |own: &Compared| own.compare(greeting.node, greeting.domain_key);
        let compared = self.domain_key.as_ref().map_or(Ok(()), compare);
        compared.map_err(|other| io::Error::new(io::ErrorKind::ConnectionRefused, other))
    }

    async fn send_greeting(&self, stream: &mut BoxStream, purpose: Purpose) -> io::Result<()> {
        let body = codec::encode(&Greeting {
            cluster_id: self.cluster_id.to_string(),
            region: self.region.to_string(),
            node: self.node,
            purpose,
            domain_key: self.domain_key.as_ref().map(Compared::held),
        });
        let length = u32::try_from(body.len()).expect("a greeting is short");
        // One write: one TLS record and one packet.
        let greeting = [&length.to_be_bytes(), &body[..]].concat();
        stream.write_all(&greeting).await?;
        stream.flush().await
    }
}

async fn receive_greeting(stream: &mut BoxStream) -> io::Result<Greeting> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > GREETING_BYTES_MAX {
        return Err(refused(format!("a greeting of {length} bytes")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(codec::decode(&body)?)
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Region {
        "us-east-1".parse().unwrap()
    }

    fn links(folder: &Path, cluster_id: &str, node: NodeId) -> Links {
        let nodes = [(region(), 1), (region(), 2), (region(), 3)];
        certs::ensure(folder, cluster_id, &nodes).unwrap();
        let clock = crate::world::World::real().clock;
        Links::mutual_tls(folder, cluster_id, &region(), node, clock).unwrap()
    }

    fn name(node: NodeId) -> PeerName {
        let region = region();
        PeerName { region, node }
    }

    async fn greet_for(
        client: &Links,
        server: &Links,
        target: PeerName,
        purpose: Purpose,
    ) -> (io::Result<()>, io::Result<PeerName>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (connected, accepted) = tokio::join!(
            client.connect(Box::new(near), &target, purpose),
            server.accept(Box::new(far)),
        );
        (connected.map(drop), accepted.map(|(_, peer, _)| peer))
    }

    async fn greet(
        client: &Links,
        server: &Links,
        target: NodeId,
    ) -> (io::Result<()>, io::Result<PeerName>) {
        greet_for(client, server, name(target), Purpose::Requests).await
    }

    /// Catches couriers that cannot meet, a node of another Region that gets in for anything else,
    /// one that calls itself of this Region or of a third, and a courier inside a Region.
    #[tokio::test]
    async fn another_region_sends_couriers_only() {
        let folder = tempfile::tempdir().unwrap();
        let other: Region = "eu-west-1".parse().unwrap();
        let server = links(folder.path(), "c", 2);
        certs::ensure(folder.path(), "c", &[(other.clone(), 1)]).unwrap();
        let foreign = Links::mutual_tls(
            folder.path(),
            "c",
            &other,
            1,
            crate::world::World::real().clock,
        )
        .unwrap();
        let (connected, accepted) = greet_for(&foreign, &server, name(2), Purpose::Courier).await;
        connected.unwrap();
        let courier = PeerName {
            region: other.clone(),
            node: 1,
        };
        assert_eq!(accepted.unwrap(), courier);

        for purpose in [
            Purpose::Replication,
            Purpose::Heartbeat,
            Purpose::Snapshot,
            Purpose::Requests,
        ] {
            let (_, accepted) = greet_for(&foreign, &server, name(2), purpose).await;
            let refusal = accepted.unwrap_err().to_string();
            assert!(
                refusal.contains("Region eu-west-1, and comes for"),
                "{refusal}"
            );
        }
        for (claimed, purpose) in [
            ("us-east-1", Purpose::Requests),
            ("us-west-2", Purpose::Courier),
        ] {
            let mut impostor = foreign.clone();
            impostor.region = claimed.parse().unwrap();
            let (_, accepted) = greet_for(&impostor, &server, name(2), purpose).await;
            let refusal = accepted.unwrap_err().to_string();
            assert!(refusal.contains("not that of node-1"), "{refusal}");
        }
        let insider = links(folder.path(), "c", 1);
        let (_, accepted) = greet_for(&insider, &server, name(2), Purpose::Courier).await;
        assert!(accepted.is_err());
    }

    /// Catches a refusal between nodes that belong together.
    #[tokio::test]
    async fn nodes_of_one_cluster_meet() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (links(folder.path(), "c", 1), links(folder.path(), "c", 2));
        let (connected, accepted) = greet(&one, &two, 2).await;
        connected.unwrap();
        assert_eq!(accepted.unwrap(), name(1));
    }

    /// Catches a peer of another cluster, one that names another cluster over a good
    /// certificate, one with another node's certificate, and one without any being let in.
    #[tokio::test]
    async fn strangers_are_refused() {
        let (home, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let server = links(home.path(), "c", 2);

        let stranger = links(away.path(), "c", 1);
        let (connected, accepted) = greet(&stranger, &server, 2).await;
        assert!(connected.is_err() && accepted.is_err(), "another authority");

        let mut renamed = links(home.path(), "c", 1);
        renamed.cluster_id = "d".into();
        let (_, accepted) = greet(&renamed, &server, 2).await;
        assert!(accepted.is_err(), "another cluster's name");

        let mut impostor = links(home.path(), "c", 3);
        impostor.node = 1;
        let (_, accepted) = greet(&impostor, &server, 2).await;
        assert!(
            accepted
                .unwrap_err()
                .to_string()
                .contains("not that of node-1")
        );

        let plain = Links::simulated("c", &region(), 1);
        let (connected, accepted) = greet(&plain, &server, 2).await;
        assert!(connected.is_err() && accepted.is_err(), "no certificate");
    }

    /// Catches nodes of different domain keys that work together, and one that is refused for it
    /// without being told.
    #[tokio::test]
    async fn nodes_of_other_domain_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let holding = |node: NodeId, byte: u8| {
            links(folder.path(), "c", node).for_domain_key(DomainKeyName {
                fingerprint: keyrum_types::Fingerprint([byte; 8]),
                file: format!("file-{node}").into(),
            })
        };
        let (one, two) = (holding(1, 7), holding(2, 7));
        let (connected, accepted) = greet(&one, &two, 2).await;
        assert_eq!((connected.ok(), accepted.ok()), (Some(()), Some(name(1))));

        let other = holding(3, 8);
        for (client, server, target) in [(&other, &two, 2), (&two, &other, 3)] {
            let (connected, accepted) = greet(client, server, target).await;
            for refusal in [connected.unwrap_err(), accepted.unwrap_err()] {
                let words = refusal.to_string();
                for part in ["0707070707070707", "0808080808080808", "file-"] {
                    assert!(words.contains(part), "{part} is not in: {words}");
                }
            }
        }
        let (connected, accepted) = greet(&links(folder.path(), "c", 1), &two, 2).await;
        assert!(
            connected.is_ok() && accepted.is_err(),
            "it does not say which it holds"
        );
    }

    /// Catches a node that takes another for the one it meant to reach.
    #[tokio::test]
    async fn the_wrong_node_at_an_address_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (links(folder.path(), "c", 1), links(folder.path(), "c", 2));
        let (connected, _) = greet(&one, &two, 3).await;
        assert!(connected.is_err());
    }
}
