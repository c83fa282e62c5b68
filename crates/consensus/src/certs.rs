//! The local cluster's certificates: one authority a cluster, one certificate a node.
//!
//! A certificate names the node, its Region and its cluster, so a node proves with it who it is.
//! The authority's key stays in the folder of the cluster, for nodes that are added later.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use keyrum_types::{NodeId, Region};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

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

/// Makes what is missing: the cluster's authority, and a certificate for each node.
///
/// `cluster_id` may hold letters, digits and hyphens. Private keys get mode 0600.
pub fn ensure(
    folder: &Path,
    cluster_id: &str,
    nodes: &[(Region, NodeId)],
) -> Result<(), CertsError> {
    fs::create_dir_all(folder).map_err(|source| CertsError::File {
        path: folder.to_owned(),
        source,
    })?;
    let (issuer, made_anew) = authority(folder, cluster_id)?;
    for (region, node) in nodes {
        let (cert_path, key_path) = node_paths(folder, region, *node);
        // What a former authority signed is worth nothing under a new one.
        if !made_anew && cert_path.exists() && key_path.exists() {
            continue;
        }
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
        let key = KeyPair::generate().map_err(make)?;
        let cert = params.signed_by(&key, &issuer).map_err(make)?;
        write_file(&key_path, &key.serialize_pem(), 0o600)?;
        write_file(&cert_path, &cert.pem(), 0o644)?;
    }
    Ok(())
}

/// The cluster's authority, and whether it had to be made anew.
fn authority(
    folder: &Path,
    cluster_id: &str,
) -> Result<(Issuer<'static, KeyPair>, bool), CertsError> {
    let cert_path = authority_path(folder);
    let key_path = folder.join("authority.key");
    let made_anew = !(cert_path.exists() && key_path.exists());
    if made_anew {
        let make = |error: rcgen::Error| CertsError::Make(error.to_string());
        let key = KeyPair::generate().map_err(make)?;
        let cert = authority_params(cluster_id)
            .self_signed(&key)
            .map_err(make)?;
        write_file(&key_path, &key.serialize_pem(), 0o600)?;
        write_file(&cert_path, &cert.pem(), 0o644)?;
    }
    let text = fs::read_to_string(&key_path).map_err(|source| CertsError::File {
        path: key_path.clone(),
        source,
    })?;
    let key = KeyPair::from_pem(&text).map_err(|error| CertsError::Authority {
        path: key_path,
        folder: folder.to_owned(),
        reason: error.to_string(),
    })?;
    Ok((Issuer::new(authority_params(cluster_id), key), made_anew))
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
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|source| CertsError::File {
        path: path.to_owned(),
        source,
    })
}
