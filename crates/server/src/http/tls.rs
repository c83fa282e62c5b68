//! TLS of a listener: a certificate and a key in files, read again when they change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;

/// How often, at most, the files are looked at. Only a new connection makes anybody look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Versions of HTTP that clients may choose from, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a certificate and its key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// They do not fit together, or are of a kind that cannot be used.
    #[error("the certificate in {} and the key in {} cannot be used together: {reason}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A certificate with its chain and its private key, both in PEM files. Cheap to clone; all clones
/// change together.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    look: Mutex<Look>,
}

/// The last look at the files.
struct Look {
    next: Instant,
    seen: Seen,
    /// Why what was seen could not be used, if it could not.
    failed: Option<TlsError>,
}

/// What tells one content of the two files from the next, without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen([Option<(u64, u64, Option<SystemTime>)>; 2]);

impl Tls {
    /// Reads both files. TLS 1.2 and 1.3 are spoken.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let seen = Seen::of(certificate, key);
        let config = read(certificate, key)?;
        Ok(Self(Arc::new(Shared {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            config: ArcSwap::from_pointee(config),
            look: Mutex::new(Look {
                next: Instant::now() + LOOK_EVERY,
                seen,
                failed: None,
            }),
        })))
    }

    /// What the next connection is served with. Looks at the files first, at most once a second; as
    /// long as what they hold cannot be used, the former pair serves on.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let shared = &*self.0;
        // Whoever looks, looks for all; nobody waits for a disk because of it.
        if let Ok(mut look) = shared.look.try_lock()
            && Instant::now() >= look.next
        {
            look.next = Instant::now() + LOOK_EVERY;
            shared.look_again(&mut look);
        }
        shared.config.load_full()
    }

    /// Why the files that are there now are not the ones in use.
    pub fn failed(&self) -> Option<TlsError> {
        let look = self.0.look.lock().unwrap_or_else(PoisonError::into_inner);
        look.failed.clone()
    }
}

impl Shared {
    fn look_again(&self, look: &mut Look) {
        let seen = Seen::of(&self.certificate, &self.key);
        // A pair that did not fit is read again: files may change within one tick of their times.
        if seen == look.seen && look.failed.is_none() {
            return;
        }
        look.seen = seen;
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                look.failed = None;
                tracing::info!(certificate = %self.certificate.display(), "the new certificate is in use");
            }
            Err(error) => {
                if look.failed.as_ref() != Some(&error) {
                    tracing::warn!(
                        "the new certificate cannot be used, the former one stays in use: {error}; \
                         put a certificate and its key in place, no restart is needed"
                    );
                }
                look.failed = Some(error);
            }
        }
    }
}

impl Seen {
    fn of(certificate: &Path, key: &Path) -> Self {
        let of = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.ino(), meta.len(), meta.modified().ok()))
        };
        Self([of(certificate), of(key)])
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let file = |path: &Path, reason: String| TlsError::File {
        path: path.to_owned(),
        reason,
    };
    let pair = |error: rustls::Error| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    };
    let text = |path: &Path| {
        fs::read(path)
            .map(zeroize::Zeroizing::new)
            .map_err(|error: io::Error| file(path, error.to_string()))
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| file(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(file(
            certificate,
            "there is no certificate in it".to_owned(),
        ));
    }
    let private = PrivateKeyDer::from_pem_slice(&text(key)?)
        .map_err(|error| file(key, format!("there is no private key in it ({error})")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(pair)?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}
