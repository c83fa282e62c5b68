//! The local cluster's certificates: one authority a cluster, one certificate a node.
//!
//! A certificate names the node, its Region and its cluster, so a node proves with it who it is.
//! The authority's key stays in the folder of the cluster, for nodes that are added later.
//!
//! ```text
//! authority.pem             whom nodes trust: the authority, two of them while it is replaced
//! authority.key             signs
//! authority.next.pem, .key  there while the authority is being replaced
//! REGION-node-ID.pem, .key  a node's own
//! REGION-node-ID.next.key   between two renames: the key of the certificate beside it
//! lock                      held by whoever changes any of these
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyrum_types::{NodeId, Region};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};

mod changes;
mod facts;

pub use changes::{Changes, Validity, authorities, is_replacing_authority, node_certificate};
pub use facts::Certificate;

pub(crate) use facts::read_pem;

/// Why certificates could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The authority's files are not what this program wrote.
    #[error(
        "{}: not usable as the cluster's authority ({reason}); remove the folder {} to have all \
         certificates made anew, no key is lost by that", path.display(), folder.display()
    )]
    Authority {
        /// Which file.
        path: PathBuf,
        /// The folder of all certificates.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process is changing certificates.
    #[error(
        "{}: another command is changing certificates; nothing was changed here, try again when \
         it is done", folder.display()
    )]
    Busy {
        /// The folder of certificates.
        folder: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// The name a node's certificate is valid for.
pub(crate) fn server_name(cluster_id: &str, region: &Region, node: NodeId) -> String {
    format!("node-{node}.{region}.{cluster_id}.keyrum.internal")
}

/// Where a node's certificate and private key are, in the folder of certificates.
pub(crate) fn node_paths(folder: &Path, region: &Region, node: NodeId) -> (PathBuf, PathBuf) {
    let stem = format!("{region}-node-{node}");
    (
        folder.join(format!("{stem}.pem")),
        folder.join(format!("{stem}.key")),
    )
}

/// Where the authority's certificate is.
pub(crate) fn authority_path(folder: &Path) -> PathBuf {
    folder.join("authority.pem")
}

/// Where the new key of a certificate is that is being replaced.
pub(crate) fn next_path(path: &Path) -> PathBuf {
    let end = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("next.{end}"))
}

fn authority_key_path(folder: &Path) -> PathBuf {
    folder.join("authority.key")
}

/// Makes what is missing: the cluster's authority, and a certificate for each node.
///
/// `cluster_id` may hold letters, digits and hyphens. Private keys get mode 0600.
pub fn ensure(
    folder: &Path,
    cluster_id: &str,
    nodes: &[(Region, NodeId)],
) -> Result<(), CertsError> {
    fs::create_dir_all(folder).map_err(in_file(folder))?;
    let has_own = |(region, node): &(Region, NodeId)| {
        let (cert, key) = node_paths(folder, region, *node);
        cert.exists() && key.exists()
    };
    let has_authority = || authority_path(folder).exists() && authority_key_path(folder).exists();
    if has_authority() && nodes.iter().all(has_own) {
        return Ok(());
    }
    let _lock = lock(folder)?;
    let made_anew = !has_authority();
    if made_anew {
        // They were to follow one that is gone.
        remove(&next_path(&authority_path(folder)))?;
        remove(&next_path(&authority_key_path(folder)))?;
        make_authority(
            cluster_id,
            &authority_path(folder),
            &authority_key_path(folder),
        )?;
    }
    let issuer = signer(folder, cluster_id)?;
    for name in nodes {
        // What a former authority signed is worth nothing under a new one.
        if made_anew || !has_own(name) {
            make_node(folder, cluster_id, name, &issuer, None)?;
        }
    }
    Ok(())
}

/// Puts a node's key where it belongs if that is all that an interrupted change left to do. Otherwise
/// the next change would begin by writing over the only key that fits.
fn finish_former(cert_path: &Path, key_path: &Path) -> Result<(), CertsError> {
    let next = next_path(key_path);
    let (Ok(shown), Ok(key)) = (Certificate::read_all(cert_path), read_key(&next)) else {
        return Ok(());
    };
    match shown.first() {
        Some(shown) if shown.public_key == key.subject_public_key_info() => rename(&next, key_path),
        Some(_) | None => Ok(()),
    }
}

/// A node's new key and certificate, in place of those it has.
fn make_node(
    folder: &Path,
    cluster_id: &str,
    (region, node): &(Region, NodeId),
    issuer: &Issuer<'static, KeyPair>,
    validity: Option<Validity>,
) -> Result<Certificate, CertsError> {
    let (cert_path, key_path) = node_paths(folder, region, *node);
    finish_former(&cert_path, &key_path)?;
    let name = server_name(cluster_id, region, *node);
    let make = |error: rcgen::Error| CertsError::Make(error.to_string());
    let mut params = CertificateParams::new(vec![name.clone()]).map_err(make)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    if let Some(Validity { from, until }) = validity {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(from);
        params.not_after = epoch + Duration::from_secs(until);
    }
    let key = KeyPair::generate().map_err(make)?;
    let cert = params.signed_by(&key, issuer).map_err(make)?;
    let made = Certificate::of(cert.der()).map_err(CertsError::Make)?;
    // Two files cannot change at once: whoever reads a certificate that its key does not fit finds
    // the one that does beside it.
    let next = next_path(&key_path);
    write_file(&next, &key.serialize_pem(), 0o600)?;
    write_file(&cert_path, &cert.pem(), 0o644)?;
    rename(&next, &key_path)?;
    Ok(made)
}

/// Makes an authority.
fn make_authority(cluster_id: &str, cert_path: &Path, key_path: &Path) -> Result<(), CertsError> {
    let make = |error: rcgen::Error| CertsError::Make(error.to_string());
    let key = KeyPair::generate().map_err(make)?;
    let cert = authority_params(cluster_id)
        .self_signed(&key)
        .map_err(make)?;
    write_file(key_path, &key.serialize_pem(), 0o600)?;
    write_file(cert_path, &cert.pem(), 0o644)
}

/// The authority that signs: the present one, as long as it is trusted. While it is replaced there
/// is a moment when only the next one is.
fn signer(folder: &Path, cluster_id: &str) -> Result<Issuer<'static, KeyPair>, CertsError> {
    let (cert_path, key_path) = (authority_path(folder), authority_key_path(folder));
    let unusable = |path: &Path, reason: String| CertsError::Authority {
        path: path.to_owned(),
        folder: folder.to_owned(),
        reason,
    };
    let trusted = Certificate::read_all(&cert_path).map_err(|error| match error {
        CertsError::Damaged { path, reason } => unusable(&path, reason),
        other => other,
    })?;
    let fits = |key: &KeyPair| {
        let own = key.subject_public_key_info();
        trusted.iter().any(|trusted| trusted.public_key == own)
    };
    let key = read_key(&key_path).map_err(|reason| unusable(&key_path, reason))?;
    if fits(&key) {
        return Ok(Issuer::new(authority_params(cluster_id), key));
    }
    match read_key(&next_path(&key_path)) {
        Ok(next) if fits(&next) => Ok(Issuer::new(authority_params(cluster_id), next)),
        _ => {
            let reason = format!("it is not the key of {}", cert_path.display());
            Err(unusable(&key_path, reason))
        }
    }
}

fn read_key(path: &Path) -> Result<KeyPair, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    KeyPair::from_pem(&text).map_err(|error| error.to_string())
}

/// What the authority's certificate says; with its key this is all that signing needs.
fn authority_params(cluster_id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
        .distinguished_name
        .push(DnType::CommonName, format!("keyrum cluster {cluster_id}"));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// Keeps other processes from changing certificates; whoever dies lets go of it.
fn lock(folder: &Path) -> Result<File, CertsError> {
    let path = folder.join("lock");
    let open = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path);
    let file = open.map_err(in_file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CertsError::Busy {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(in_file(&path)(source)),
    }
}

/// Writes through a temporary file, so that a crash leaves the whole file or none.
fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let written = (|| {
        let temporary = path.with_extension("tmp");
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // So that a power loss cannot keep a certificate and lose the authority that signed it.
        sync_folder_of(path)
    })();
    written.map_err(in_file(path))
}

fn rename(from: &Path, to: &Path) -> Result<(), CertsError> {
    let renamed = fs::rename(from, to).and_then(|()| sync_folder_of(to));
    renamed.map_err(in_file(to))
}

/// Removes a file, which may be gone already.
fn remove(path: &Path) -> Result<(), CertsError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    let removed = removed.and_then(|()| sync_folder_of(path));
    removed.map_err(in_file(path))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> CertsError {
    let path = path.to_owned();
    move |source| CertsError::File { path, source }
}

/// Lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
