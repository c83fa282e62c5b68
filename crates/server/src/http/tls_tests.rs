//! A server with TLS, over connections in memory.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use keyrum_consensus::world::World;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{
    Handler, Incoming, Limits, Options, Origin, ProxyToken, RequestFacts, Server, Tls, TlsError,
    json_answer,
};
use crate::testing::world;

const ADDR: &str = "127.0.0.1:4599";

/// A certificate of its own making for `localhost`, in files.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.renew();
        files
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.folder.path().join(name))
    }

    /// Puts a new certificate and key in place, and gives the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let [cert, key] = self.paths();
        fs::write(cert, made.cert.pem()).unwrap();
        fs::write(key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn tls(&self) -> Result<Tls, TlsError> {
        let [cert, key] = self.paths();
        Tls::load(&cert, &key)
    }
}

struct Telling;

impl Handler for Telling {
    async fn handle(&self, request: Incoming) -> Response<Full<Bytes>> {
        let facts = RequestFacts::of(&request, None);
        json_answer(format!("{:?} {}", facts.tls, request.body.len()).into_bytes())
    }
}

async fn start(world: &World, tls: Tls) -> Server {
    let options = Options {
        limits: Limits::default(),
        tls: Some(tls),
        proxy: Some(ProxyToken::of_node("admin")),
    };
    Server::start(world, ADDR, Telling, options).await.unwrap()
}

/// Asks for `/` over TLS, trusting one certificate; what was agreed on, and the answer.
async fn ask(
    world: &World,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> Result<(Option<Vec<u8>>, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = world
        .network
        .connect(ADDR)
        .await
        .map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    if agreed.as_deref() == Some(b"h2") {
        return Ok((agreed, String::new()));
    }
    let request =
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .map_err(|error| error.to_string())?;
    Ok((agreed, answer))
}

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Catches a version of TLS or HTTP that is not spoken, and facts about it that are not those of the
/// connection.
#[tokio::test]
async fn both_versions_and_protocols_are_spoken() {
    let (world, files) = (world(), Files::new());
    let cert = files.renew();
    let _server = start(&world, files.tls().unwrap()).await;
    let (agreed, answer) = ask(&world, &cert, &BOTH, &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    assert_eq!((agreed.as_deref(), &*answer), (Some(&b"h2"[..]), ""));
    for (versions, facts) in [
        (
            &BOTH[..1],
            r#"Some(TlsFacts { version: "TLSv1.3", cipher_suite: "TLS_AES_256_GCM_SHA384", key_exchange: "x25519" }) 3"#,
        ),
        (
            &BOTH[1..],
            r#"Some(TlsFacts { version: "TLSv1.2", cipher_suite: "ECDHE-ECDSA-AES256-GCM-SHA384", key_exchange: "x25519" }) 3"#,
        ),
    ] {
        for protocols in [&[&b"http/1.1"[..]][..], &[]] {
            let (_, answer) = ask(&world, &cert, versions, protocols).await.unwrap();
            assert!(answer.ends_with(facts), "{answer}");
        }
    }
    // A protocol that nobody here speaks.
    assert!(ask(&world, &cert, &BOTH, &[b"spdy/1"]).await.is_err());
}

/// Catches a request that is served unprotected, or whose sender learns nothing; and a proxy that is
/// not let in.
#[tokio::test]
async fn plain_requests_are_told_so() {
    let (world, files) = (world(), Files::new());
    let _server = start(&world, files.tls().unwrap()).await;
    let exchange = async |head: &str| {
        let bytes =
            format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n{head}\r\nabc");
        let wait = Duration::from_secs(200);
        let answer = crate::testing::exchange(&world, ADDR, bytes.as_bytes(), wait).await;
        String::from_utf8(answer.unwrap()).unwrap()
    };
    for head in ["", "x-keyrum-forwarded: abc - - - -\r\n"] {
        let answer = exchange(head).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.contains("This port speaks HTTPS"), "{answer}");
    }
    let mut headers = hyper::HeaderMap::new();
    ProxyToken::of_node("admin").tell(&Origin::default(), &mut headers);
    let shown = headers["x-keyrum-forwarded"].to_str().unwrap().to_owned();
    let answer = exchange(&format!("x-keyrum-forwarded: {shown}\r\n")).await;
    assert!(answer.ends_with("None 3"), "{answer}");
    // Neither TLS nor HTTP.
    let wait = Duration::from_secs(200);
    let answer = crate::testing::exchange(&world, ADDR, b"\0\0\0\0\r\n\r\n", wait).await;
    assert!(answer.unwrap().starts_with(b"HTTP/1.1 400 "));
}

/// Catches a new certificate that needs a restart, one that does not fit its key and stops the
/// service, and files that are looked at for every connection.
#[tokio::test(start_paused = true)]
async fn new_certificates_are_used_and_broken_ones_are_not() {
    let (world, files) = (world(), Files::new());
    let first = files.renew();
    let tls = files.tls().unwrap();
    let _server = start(&world, tls.clone()).await;
    let serves = async |cert: &CertificateDer<'static>| ask(&world, cert, &BOTH, &[]).await.is_ok();
    let second = tokio::time::sleep(Duration::from_millis(1001));
    assert!(serves(&first).await);
    // At most once a second.
    let renewed = files.renew();
    assert!(serves(&first).await && !serves(&renewed).await);
    second.await;
    assert!(serves(&renewed).await && !serves(&first).await);
    assert_eq!(tls.failed(), None);
    // The certificate is there before its key, and then its key as well.
    let [cert, key] = files.paths();
    let [old_cert, old_key] = [fs::read(&cert).unwrap(), fs::read(&key).unwrap()];
    let third = files.renew();
    let new_key = fs::read(&key).unwrap();
    for broken in [
        &old_key[..],
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        fs::write(&key, broken).unwrap();
        tokio::time::sleep(Duration::from_millis(1001)).await;
        assert!(serves(&renewed).await && !serves(&third).await);
        assert!(tls.failed().is_some());
    }
    fs::remove_file(&key).unwrap();
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert!(serves(&renewed).await);
    let said = tls.failed().unwrap().to_string();
    assert!(said.contains("key.pem: No such file"), "{said}");
    fs::write(&key, new_key).unwrap();
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert!(serves(&third).await);
    assert_eq!(tls.failed(), None);
    // Back to what was there before.
    fs::write(&cert, old_cert).unwrap();
    fs::write(&key, old_key).unwrap();
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert!(serves(&renewed).await);
}

/// Catches files that cannot be used and are found out only when a client comes.
#[test]
fn unusable_files_are_named() {
    let files = Files::new();
    let [cert, key] = files.paths();
    let said = |certificate: &PathBuf, key: &PathBuf| match Tls::load(certificate, key) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    };
    assert!(said(&key, &key).contains("key.pem: there is no certificate in it"));
    assert!(said(&cert, &cert).contains("cert.pem: there is no private key in it"));
    let other = Files::new();
    let [_, other_key] = other.paths();
    let text = said(&cert, &other_key);
    assert!(text.contains("cannot be used together"), "{text}");
    assert!(said(&cert.with_extension("x"), &key).contains("cert.x: No such file"));
}

/// Catches a client that keeps a connection without ever finishing its handshake.
#[tokio::test(start_paused = true)]
async fn handshakes_end() {
    let (world, files) = (world(), Files::new());
    let _server = start(&world, files.tls().unwrap()).await;
    // Nothing; and the beginning of a handshake that does not go on.
    for begin in [&b""[..], &[22, 3, 1, 2, 0, 1, 0]] {
        let mut stream = world.network.connect(ADDR).await.unwrap();
        stream.write_all(begin).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(11), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{begin:?}");
    }
}
