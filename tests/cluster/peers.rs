//! Who may speak to a node as its peer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::certs;
use keyrum_consensus::world::{BoxStream, World};
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Shape};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// The first record of a connection between nodes, as `consensus::links` has it.
#[derive(Serialize)]
struct Greeting<'a> {
    cluster_id: &'a str,
    region: &'a str,
    node: u64,
    purpose: Purpose,
    /// Fingerprint, and whether the sender has data.
    domain_key: Option<([u8; 8], bool)>,
}

#[derive(Serialize)]
enum Purpose {
    Replication,
}

fn greeting(cluster_id: &str, node: u64) -> Vec<u8> {
    let greeting = Greeting {
        cluster_id,
        region: HERE,
        node,
        purpose: Purpose::Replication,
        domain_key: None,
    };
    let config = bincode::config::standard();
    let body = bincode::serde::encode_to_vec(greeting, config).unwrap();
    let length = u32::try_from(body.len() + 1).unwrap();
    // Length, format version, record.
    [&length.to_be_bytes()[..], &[1], &body].concat()
}

/// Whom a stranger pretends to be.
pub(crate) struct Stranger<'a> {
    /// Whose certificates it has.
    pub(crate) certs: &'a Path,
    /// The node whose certificate it shows; none if it has none.
    pub(crate) shows: Option<u64>,
    /// The node it says to be.
    pub(crate) says: u64,
}

impl Stranger<'_> {
    fn connector(&self, authority: &Path) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(authority).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(node) => {
                let file = |end: &str| self.certs.join(format!("{HERE}-node-{node}.{end}"));
                let cert = CertificateDer::from_pem_file(file("pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn tcp(address: &str) -> BoxStream {
    World::real().network.connect(address).await.unwrap()
}

/// What comes back before the other end closes; panics if it does not close.
async fn answer(mut stream: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An error closes it too.
    let read = stream.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("an end");
    bytes
}

/// Greets a node as a stranger does and returns what it says to that: nothing if it refuses.
pub(crate) async fn greet(cluster: &Cluster, cluster_id: &str, stranger: &Stranger<'_>) -> Vec<u8> {
    let node = &cluster.ready().regions[HERE].nodes[0];
    let authority = cluster.data().join("certs").join("authority.pem");
    let connector = stranger.connector(&authority);
    let name = format!("node-{}.{HERE}.{cluster_id}.keyrum.internal", node.id);
    let name = ServerName::try_from(name).unwrap();
    // In TLS 1.3 a client learns only later that its certificate was refused.
    let Ok(mut stream) = connector.connect(name, tcp(&node.peer).await).await else {
        return Vec::new();
    };
    let _ = stream.write_all(&greeting(cluster_id, stranger.says)).await;
    let _ = stream.flush().await;
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes));
    let count = read.await.expect("an answer or an end").unwrap_or(0);
    bytes.truncate(count);
    bytes
}

/// Catches a node that takes messages from whoever connects: without TLS, without a certificate,
/// with one of another cluster, or with another node's.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_before_they_can_speak() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let cluster_id = &*cluster.cluster_id();
    let ours = cluster.data().join("certs");

    // Not TLS at all, or not what a peer says.
    for words in [
        greeting(cluster_id, 2),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        let mut stream = tcp(&cluster.ready().regions[HERE].nodes[0].peer).await;
        stream.write_all(&words).await.unwrap();
        let answer = answer(stream).await;
        // At most a TLS alert.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }

    // A cluster of the same name, made by somebody else.
    let folder = tempfile::tempdir().unwrap();
    let nodes: Vec<_> = (1..=3).map(|id| (HERE.parse().unwrap(), id)).collect();
    certs::ensure(folder.path(), cluster_id, &nodes).unwrap();
    for (stranger, what) in [
        (
            Stranger {
                certs: &ours,
                shows: None,
                says: 2,
            },
            "no certificate",
        ),
        (
            Stranger {
                certs: folder.path(),
                shows: Some(2),
                says: 2,
            },
            "another authority's",
        ),
        (
            Stranger {
                certs: &ours,
                shows: Some(2),
                says: 3,
            },
            "another node's",
        ),
    ] {
        let answer = greet(&cluster, cluster_id, &stranger).await;
        assert!(answer.is_empty(), "{what}: {answer:?}");
    }
    // The same way, with the right certificate: so it was not for another reason.
    let friend = Stranger {
        certs: &ours,
        shows: Some(2),
        says: 2,
    };
    let answer = greet(&cluster, cluster_id, &friend).await;
    assert!(
        String::from_utf8_lossy(&answer).contains(cluster_id),
        "{answer:?}"
    );

    // Nothing of it harmed the group.
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    kms.create_key().send().await.unwrap();
    cluster.agree().await;
}
