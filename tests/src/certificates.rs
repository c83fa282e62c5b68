//! The certificates that nodes know each other by, as seen from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyrum_consensus::certs;
use keyrum_consensus::world::World;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::{Cluster, NodeLine};

impl Cluster {
    /// The id that certificates carry.
    pub fn cluster_id(&self) -> String {
        let record = std::fs::read(self.data().join("cluster.json")).expect("a record");
        let record: Value = serde_json::from_slice(&record).expect("it is JSON");
        record["cluster_id"].as_str().expect("a text").to_owned()
    }

    /// The SHA-256 of the certificate that each node shows whoever connects as a peer.
    pub async fn shown(&self) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        for (region, nodes) in &self.ready().regions {
            for node in &nodes.nodes {
                let fingerprint = self.shown_by(region, node.id, &node.peer).await;
                shown.insert(format!("{region}/{}", node.id), fingerprint);
            }
        }
        shown
    }

    async fn shown_by(&self, region: &str, id: u64, peer: &str) -> String {
        let mut roots = RootCertStore::empty();
        let file = self.data().join("certs").join("authority.pem");
        let authorities = CertificateDer::pem_file_iter(file).expect("a file");
        for authority in authorities {
            roots.add(authority.expect("PEM")).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = format!("node-{id}.{region}.{}.keyrum.internal", self.cluster_id());
        let name = ServerName::try_from(name).expect("a name");
        let stream = World::real().network.connect(peer).await;
        let stream = stream.expect("a node that runs");
        // In TLS 1.3 a client learns only later that it needs a certificate.
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await;
        let stream = stream.unwrap_or_else(|error| panic!("{region}/{id}: {error}"));
        let chain = stream.get_ref().1.peer_certificates().expect("a chain");
        let digest = ring::digest::digest(&ring::digest::SHA256, &chain[0]);
        let digits = digest.as_ref().iter();
        digits.map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same for what lies in the files.
    pub fn filed(&self) -> BTreeMap<String, String> {
        let of = |(region, nodes): (&String, &crate::ready::Nodes)| {
            let of = |node: &crate::Node| {
                let name = region.parse().expect("a Region");
                let file = certs::node_certificate(&self.data().join("certs"), &name, node.id);
                let file = file.expect("a certificate");
                (format!("{region}/{}", node.id), file.fingerprint)
            };
            nodes.nodes.iter().map(of).collect::<Vec<_>>()
        };
        self.ready().regions.iter().flat_map(of).collect()
    }

    /// What `keyrum cluster certs status` says.
    pub async fn certificates(&self) -> Value {
        let output = self.command(&["certs", "status", "--json"]).await;
        serde_json::from_slice(&output.stdout).expect("it is JSON")
    }
}

/// The term and leader that each node is in.
pub fn terms(lines: &[NodeLine]) -> Vec<(String, u64, Value)> {
    let of = |line: &NodeLine| {
        let leader = line.say("leader").clone();
        (line.node.clone(), line.number("term"), leader)
    };
    lines.iter().map(of).collect()
}
