//! A node's TLS credentials: the certificate it shows to peers, and the authorities it trusts. They lie in
//! files and are read again when these change; links made with former TLS credentials are made anew.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use arc_swap::ArcSwap;
use keyrum_types::{Clock, NodeId, Region, UnixMillis};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certs::{self, Certificate};
use crate::links::LinksError;
use crate::peers::lock;
use crate::world::Blocking;

/// How often a node looks whether its files have changed, unless it is asked to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a node tells of its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsStatus {
    /// What it shows to its peers.
    pub shown: Certificate,
    /// The fingerprints of the authorities it trusts.
    pub trusted: Vec<String>,
    /// How many of its links were made with a former certificate, or with former trust.
    pub former_links: u64,
    /// What is wrong with the files that are there now: they are not in use, or no peer believes
    /// them.
    pub problem: Option<String>,
}

/// A node's TLS credentials, all clones of its links share them.
pub(crate) struct TlsCredentials {
    files: Files,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Set>,
    /// Counts the sets, so that links know that theirs is a former one.
    changes: watch::Sender<u64>,
    look: Mutex<Look>,
}

/// Where they lie, and whose they are.
struct Files {
    cert: PathBuf,
    key: PathBuf,
    authority: PathBuf,
    name: String,
}

/// One certificate, and what was trusted with it.
pub(crate) struct Set {
    pub(crate) connector: TlsConnector,
    pub(crate) acceptor: TlsAcceptor,
    content: Content,
    shown: Certificate,
    trusted: Vec<String>,
}

/// What the files hold, without the key: that is fixed by the certificate.
#[derive(PartialEq, Eq)]
struct Content {
    chain: Vec<CertificateDer<'static>>,
    authorities: Vec<CertificateDer<'static>>,
}

/// The last look at the files.
struct Look {
    seen: Seen,
    problem: Option<String>,
    /// Sets that links may still hold.
    former: Vec<Weak<Set>>,
}

/// What tells one content of the files from the next, without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen([Option<(u64, u64, Option<SystemTime>)>; 3]);

impl TlsCredentials {
    /// Reads a node's TLS credentials in the folder of certificates. What fits together is taken even if no
    /// peer will believe it, and said to be wrong.
    pub(crate) fn read(
        folder: &Path,
        cluster_id: &str,
        region: &Region,
        node: NodeId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LinksError> {
        let (cert, key) = certs::node_paths(folder, region, node);
        let files = Files {
            cert,
            key,
            authority: certs::authority_path(folder),
            name: certs::server_name(cluster_id, region, node),
        };
        let seen = files.seen();
        let set = files.read()?;
        let problem = set.check(&files.name, clock.now()).err();
        if let Some(problem) = &problem {
            tracing::warn!(certificate = %files.cert.display(),
                "no peer will believe this node's certificate: {problem}; {ADVICE}");
        }
        Ok(Self {
            files,
            clock,
            current: ArcSwap::from_pointee(set),
            changes: watch::Sender::new(0),
            look: Mutex::new(Look {
                seen,
                problem,
                former: Vec::new(),
            }),
        })
    }

    /// What the next link is made with.
    pub(crate) fn current(&self) -> Arc<Set> {
        self.current.load_full()
    }

    /// Changes whenever there are others.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Reads the files again if they have changed. As long as what they hold cannot be used, the
    /// former TLS credentials stay in use.
    fn look(&self) {
        let mut look = lock(&self.look);
        let seen = self.files.seen();
        // What was wrong is read again: files may change within one tick of their times, and a
        // certificate's date may come.
        if seen == look.seen && look.problem.is_none() {
            return;
        }
        look.seen = seen;
        let read = self.files.read().map_err(|error| error.to_string());
        let read = read.and_then(|set| {
            set.check(&self.files.name, self.clock.now())?;
            Ok(set)
        });
        match read {
            Ok(set) => {
                look.problem = None;
                if set.content == self.current.load().content {
                    return;
                }
                tracing::info!(certificate = %self.files.cert.display(),
                    fingerprint = set.shown.fingerprint, "new TLS credentials are in use");
                look.former.retain(|former| former.strong_count() > 0);
                look.former
                    .push(Arc::downgrade(&self.current.swap(Arc::new(set))));
                // After the swap: whoever hears of it takes the new ones.
                self.changes.send_modify(|count| *count += 1);
            }
            Err(problem) => {
                if look.problem.as_ref() != Some(&problem) {
                    tracing::warn!(certificate = %self.files.cert.display(),
                        "the new certificate cannot be used, the former one stays in use: \
                         {problem}; {ADVICE}");
                }
                look.problem = Some(problem);
            }
        }
    }

    /// What the node tells of them.
    pub(crate) fn status(&self) -> TlsStatus {
        let look = lock(&self.look);
        let current = self.current();
        let held = look.former.iter().map(Weak::strong_count).sum::<usize>();
        TlsStatus {
            shown: current.shown.clone(),
            trusted: current.trusted.clone(),
            former_links: held as u64,
            problem: look.problem.clone(),
        }
    }

    /// The same after a look at the files.
    pub(crate) async fn look_and_tell(self: &Arc<Self>, blocking: Blocking) -> TlsStatus {
        let this = self.clone();
        blocking.run(move || this.look()).await;
        self.status()
    }
}

/// What helps where TLS credentials cannot be used.
const ADVICE: &str = "`keyrum cluster certs rotate` makes a new one, no restart is needed";

/// Looks at the files for as long as the node runs.
pub(crate) async fn watch(
    credentials: Arc<TlsCredentials>,
    blocking: Blocking,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        credentials.look_and_tell(blocking).await;
    }
}

/// Whether a certificate and its key fit together, and peers that trust only this authority would
/// believe them.
pub(crate) fn are_good(
    cert: &Path,
    key: &Path,
    authority: &Path,
    name: &str,
    now: UnixMillis,
) -> bool {
    let files = Files {
        cert: cert.to_owned(),
        key: key.to_owned(),
        authority: authority.to_owned(),
        name: name.to_owned(),
    };
    let read = files.read();
    read.is_ok_and(|set| set.check(name, now).is_ok())
}

impl Files {
    fn seen(&self) -> Seen {
        let of = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.ino(), meta.len(), meta.modified().ok()))
        };
        Seen([of(&self.cert), of(&self.key), of(&self.authority)])
    }

    fn read(&self) -> Result<Set, LinksError> {
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |reason: String| LinksError::File { path, reason }
        };
        let pem = |path: &Path| certs::read_pem(path).map_err(wrong(path));
        let authorities = pem(&self.authority)?;
        let chain = pem(&self.cert)?;
        let key = self.key_of(&chain)?;

        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        for authority in &authorities {
            let added = roots.add(authority.clone());
            added.map_err(|error| wrong(&self.authority)(error.to_string()))?;
            let facts = Certificate::of(authority).map_err(wrong(&self.authority))?;
            trusted.push(facts.fingerprint);
        }
        let shown = Certificate::of(&chain[0]).map_err(wrong(&self.cert))?;
        let mismatch = |error: &dyn fmt::Display| LinksError::Mismatch {
            cert: self.cert.clone(),
            key: self.key.clone(),
            reason: error.to_string(),
        };
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| mismatch(&error))?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| mismatch(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| mismatch(&error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| mismatch(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key)
            .map_err(|error| mismatch(&error))?;
        Ok(Set {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            content: Content { chain, authorities },
            shown,
            trusted,
        })
    }

    /// The key of the certificate. Whoever replaces both was perhaps stopped between them: then it
    /// lies beside the former one.
    fn key_of(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<PrivateKeyDer<'static>, LinksError> {
        let provider = rustls::crypto::ring::default_provider();
        let fitting = |path: &Path| {
            let key = PrivateKeyDer::from_pem_file(path).map_err(|error| LinksError::File {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
            match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider) {
                Ok(_) => Ok(key),
                Err(error) => Err(LinksError::Mismatch {
                    cert: self.cert.clone(),
                    key: path.to_owned(),
                    reason: error.to_string(),
                }),
            }
        };
        fitting(&self.key).or_else(|error| fitting(&certs::next_path(&self.key)).map_err(|_| error))
    }
}

impl Set {
    /// Whether peers with the same trust would believe that this is the node of that name.
    fn check(&self, name: &str, now: UnixMillis) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        for authority in &self.content.authorities {
            let added = roots.add(authority.clone());
            added.map_err(|error| error.to_string())?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        let server = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        let (cert, others) = self.content.chain.split_first().ok_or("it is empty")?;
        let checked = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| error.to_string())
            .and_then(|verifier| {
                use rustls::client::danger::ServerCertVerifier as _;
                let valid = verifier.verify_server_cert(cert, others, &server, &[], now);
                valid.map(drop).map_err(|error| error.to_string())
            })
            .and_then(|()| {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let verifier = verifier.map_err(|error| error.to_string())?;
                let valid = verifier.verify_client_cert(cert, others, now);
                valid.map(drop).map_err(|error| error.to_string())
            });
        checked.map_err(|reason| {
            format!("the authorities here do not vouch for it as that of {name} ({reason})")
        })
    }
}

/// A link's stream, which keeps the TLS credentials it was made with.
pub(crate) struct MadeWith<S> {
    stream: S,
    _set: Arc<Set>,
}

impl<S> MadeWith<S> {
    pub(crate) fn new(stream: S, set: Arc<Set>) -> Self {
        Self { stream, _set: set }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MadeWith<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MadeWith<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use crate::world::World;

    use super::*;

    fn region() -> Region {
        "us-east-1".parse().unwrap()
    }

    /// Catches TLS credentials that are not taken up, a damaged or foreign certificate that puts a good one
    /// out of use or is not reported, one whose dates are over, a file that is only touched and has
    /// links made anew, and a certificate whose key was not yet put in place that ends a node.
    #[test]
    fn what_cannot_be_used_leaves_the_former_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = [(region(), 1), (region(), 2)];
        certs::ensure(folder.path(), "c", &nodes).unwrap();
        let clock = World::real().clock;
        let read = || TlsCredentials::read(folder.path(), "c", &region(), 1, clock.clone());
        let credentials = read().unwrap();
        let changes = certs::Changes::begin(folder.path(), "c").unwrap();
        let (cert, key) = certs::node_paths(folder.path(), &region(), 1);
        let in_use = || {
            credentials.look();
            let status = credentials.status();
            (
                status.shown.fingerprint,
                status.problem,
                *credentials.changes().borrow(),
            )
        };
        let first = credentials.status().shown.fingerprint;
        assert_eq!(in_use(), (first, None, 0));

        let second = changes.renew(&region(), 1, None).unwrap().fingerprint;
        assert_eq!(in_use(), (second.clone(), None, 1));
        let same = fs::read(&cert).unwrap();
        fs::write(&cert, &same).unwrap();
        assert_eq!(in_use(), (second.clone(), None, 1));

        let (other, _) = certs::node_paths(folder.path(), &region(), 2);
        let ended = certs::Validity {
            from: 1,
            until: 1_000_000,
        };
        for (what, part) in [
            ("garbage", "no certificate"),
            ("another node's", "cannot be used together"),
            ("ended", "do not vouch"),
        ] {
            match what {
                "garbage" => fs::write(&cert, "garbage").unwrap(),
                "ended" => drop(changes.renew(&region(), 1, Some(ended)).unwrap()),
                _ => drop(fs::copy(&other, &cert).unwrap()),
            }
            let (shown, problem, count) = in_use();
            assert_eq!((shown, count), (second.clone(), 1), "{what}");
            let problem = problem.unwrap();
            assert!(problem.contains(part), "{what}: {problem}");
        }

        // Stopped after the certificate was replaced, before its key was.
        let former_key = fs::read(&key).unwrap();
        let third = changes.renew(&region(), 1, None).unwrap().fingerprint;
        fs::rename(&key, certs::next_path(&key)).unwrap();
        fs::write(&key, former_key).unwrap();
        assert_eq!(in_use(), (third.clone(), None, 2));
        assert_eq!(read().unwrap().status().shown.fingerprint, third);
    }
}
