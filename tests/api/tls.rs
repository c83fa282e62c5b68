//! The API over TLS, as clients that trust an authority of their own see it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::world::{Blocking, BoxStream, World};
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{HERE, THERE};
use keyrum_tests::{Cluster, Dev, Shape, wait};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// An authority, and a certificate that it made for this machine's own address, in files.
pub(crate) struct Authority {
    folder: TempDir,
    cert: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than that of what it makes, or OpenSSL takes that for self-made.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "authority of a test");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("authority.pem"), cert.pem()).unwrap();
        let made = Self {
            cert: cert.der().clone(),
            issuer: Issuer::new(params, key),
            folder,
        };
        made.renew();
        made
    }

    /// The files of certificate and key.
    pub(crate) fn files(&self) -> [String; 2] {
        ["cert.pem", "key.pem"].map(|name| self.path(name))
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Puts a new certificate and key in place; the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        // What Python's TLS asks for.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let [cert_file, key_file] = self.files();
        std::fs::write(cert_file, cert.pem()).unwrap();
        std::fs::write(key_file, key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    /// A connection to an endpoint whose certificate this authority made.
    pub(crate) async fn connect(&self, url: &str) -> Result<BoxStream, String> {
        self.shake_hands(url).await.map(|(stream, _)| stream)
    }

    /// The same, with the certificate that was shown.
    async fn shake_hands(&self, url: &str) -> Result<(BoxStream, CertificateDer<'static>), String> {
        let host = url.strip_prefix("https://").ok_or("not an https URL")?;
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let work = async {
            let stream = World::real().network.connect(host).await?;
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
        };
        let stream = tokio::time::timeout(wait::LONG, work)
            .await
            .map_err(|_| "no TLS in time")?;
        let stream = stream.map_err(|error| error.to_string())?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned();
        Ok((Box::new(stream), shown))
    }

    /// Sends a request on a connection of its own; the whole answer.
    pub(crate) async fn send(&self, url: &str, request: &Raw) -> Result<String, String> {
        let mut stream = self.connect(url).await?;
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: localhost\r\n",
            request.method, request.path
        );
        for (name, value) in &request.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!(
            "connection: close\r\ncontent-length: {}\r\n\r\n",
            request.body.len()
        ));
        let bytes = [text.as_bytes(), &request.body].concat();
        stream
            .write_all(&bytes)
            .await
            .map_err(|error| error.to_string())?;
        let mut answer = String::new();
        let read =
            tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer));
        read.await
            .map_err(|_| "no answer in time")?
            .map_err(|error| error.to_string())?;
        Ok(answer)
    }
}

fn list_keys(region: &str) -> Raw {
    Raw::kms("ListKeys", "{}").signed("000000000000", region)
}

/// Catches a cluster that does not speak TLS somewhere, a proxy that finds no way to its nodes then,
/// and a renewed certificate that needs a restart.
#[tokio::test]
async fn clusters_speak_tls() {
    let authority = Authority::new();
    let [cert, key] = authority.files();
    let mut shape = Shape::one_region(2);
    shape.regions = vec![(HERE, 2), (THERE, 1)];
    shape.lines = format!("tls_cert = \"{cert}\"\ntls_key = \"{key}\"");
    let cluster = Cluster::up(&shape).await;
    let ready = cluster.ready().clone();
    let urls: Vec<_> = ready.nodes().map(|node| node.api.clone()).collect();
    for region in [HERE, THERE] {
        let answer = authority
            .send(&ready.endpoint, &list_keys(region))
            .await
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for (url, node_region) in ready
        .regions
        .iter()
        .flat_map(|(region, nodes)| nodes.nodes.iter().map(move |node| (&node.api, region)))
    {
        let answer = authority.send(url, &list_keys(node_region)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for url in urls.iter().chain([&ready.endpoint]) {
        let plain = url.replace("https://", "http://");
        let answer = list_keys(HERE).send(&plain).await.unwrap();
        let message = "This port speaks HTTPS: use an endpoint URL that begins with https://.";
        answer.is_error(400, "HttpsRequired", message);
        // The proxy's word is the proxy's alone.
        let forged = list_keys(HERE).header("x-keyrum-forwarded", "x 192.0.2.1 - - -");
        forged
            .send(&plain)
            .await
            .unwrap()
            .is_error(400, "HttpsRequired", message);
    }
    let renewed = authority.renew();
    for url in urls.iter().chain([&ready.endpoint]) {
        let shows = async || authority.shake_hands(url).await.unwrap().1 == renewed;
        wait::until_true("renewed certificate", wait::LONG, shows).await;
    }
}

/// Catches files that cannot be used and are not named, or one that is named alone.
#[tokio::test]
async fn unusable_files_are_told() {
    let authority = Authority::new();
    let [cert, _] = authority.files();
    let mut shape = Shape::one_region(1);
    for (lines, said) in [
        (
            format!("tls_cert = \"{cert}\""),
            "tls_cert and tls_key belong together",
        ),
        (
            format!("tls_cert = \"{cert}\"\ntls_key = \"{cert}\""),
            "there is no private key in it",
        ),
        (
            format!("tls_cert = \"{cert}.x\"\ntls_key = \"{cert}\""),
            "cert.pem.x: No such file",
        ),
    ] {
        shape.lines = lines;
        let mut cluster = Cluster::prepare(&shape);
        let error = cluster.try_start().await.unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

/// What the AWS CLI and boto3 do with an authority of one's own.
const SCRIPT: &str = r#"
import os, subprocess, sys
import boto3
url, authority = sys.argv[1:]
os.environ.update(AWS_ACCESS_KEY_ID='test', AWS_SECRET_ACCESS_KEY='test', AWS_DEFAULT_REGION='us-east-1', AWS_PAGER='')
kms = boto3.client('kms', endpoint_url=url, verify=authority)
key = kms.create_key()['KeyMetadata']['KeyId']
blob = kms.encrypt(KeyId=key, Plaintext=b'text')['CiphertextBlob']
assert kms.decrypt(CiphertextBlob=blob)['Plaintext'] == b'text'
aws = ['aws', '--endpoint-url', url, 'kms', 'describe-key', '--key-id', key]
subprocess.run([*aws, '--ca-bundle', authority], check=True, stdout=subprocess.DEVNULL)
refused = subprocess.run(aws, capture_output=True, text=True)
assert refused.returncode and 'SSL validation failed' in refused.stderr, refused
"#;

/// Catches TLS that boto3 and the AWS CLI do not get along with.
#[tokio::test]
#[ignore = "needs python3 with boto3, and the AWS CLI"]
async fn boto3_and_the_cli_get_along() {
    let authority = Authority::new();
    let [cert, key] = authority.files();
    let args = [
        "--ephemeral",
        "--nodes",
        "1",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let dev = Dev::start(&args).await;
    let url = dev.ready.endpoint.clone();
    assert!(
        Path::new(&cert).exists() && url.starts_with("https://"),
        "{url}"
    );
    let trusted = authority.path("authority.pem");
    let run = move || {
        Command::new("python3")
            .args(["-c", SCRIPT, &url, &trusted])
            .output()
    };
    let output = Blocking::Threads.run(run).await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
