//! Replacing certificates, and the authority.
//!
//! Each step leaves files under which every node can start, and can be repeated: whoever was
//! stopped on the way begins again from the first step.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use keyrum_types::{NodeId, Region, UnixMillis};
use rcgen::{Issuer, PublicKeyData};

use super::facts::Certificate;
use super::{
    CertsError, authority_key_path, authority_params, authority_path, finish_former, in_file, lock,
    make_authority, make_node, next_path, node_paths, read_key, remove, rename, server_name,
    signer, write_file,
};
use crate::tls_credentials;

/// How long a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: u64,
    /// Until then.
    pub until: u64,
}

/// The folder of certificates, taken by one process that changes what is in it.
#[derive(Debug)]
pub struct Changes {
    folder: PathBuf,
    cluster_id: String,
    _lock: File,
}

impl Changes {
    /// Takes the folder, unless another process has it.
    pub fn begin(folder: &Path, cluster_id: &str) -> Result<Self, CertsError> {
        Ok(Self {
            folder: folder.to_owned(),
            cluster_id: cluster_id.to_owned(),
            _lock: lock(folder)?,
        })
    }

    /// Gives a node a new key and a certificate that the present authority signs.
    pub fn renew(
        &self,
        region: &Region,
        node: NodeId,
        validity: Option<Validity>,
    ) -> Result<Certificate, CertsError> {
        let issuer = signer(&self.folder, &self.cluster_id)?;
        let name = (region.clone(), node);
        make_node(&self.folder, &self.cluster_id, &name, &issuer, validity)
    }

    /// The authority that follows the present one. Made here, unless that was begun before.
    pub fn next_authority(&self) -> Result<Certificate, CertsError> {
        let path = next_path(&authority_path(&self.folder));
        if !path.exists() {
            let key = next_path(&authority_key_path(&self.folder));
            make_authority(&self.cluster_id, &path, &key)?;
        }
        let mut found = Certificate::read_all(&path)?;
        Ok(found.remove(0))
    }

    /// Has nodes trust the next authority beside those they trust.
    pub fn trust_next_too(&self) -> Result<(), CertsError> {
        let next = self.next_authority()?;
        let path = authority_path(&self.folder);
        let trusted = Certificate::read_all(&path)?;
        if trusted.iter().any(|t| t.fingerprint == next.fingerprint) {
            return Ok(());
        }
        let mut text = fs::read_to_string(&path).map_err(in_file(&path))?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&self.next_text()?);
        write_file(&path, &text, 0o644)
    }

    /// Gives a node a new key and a certificate that the next authority signs, unless it has one
    /// that is good at that time.
    pub fn renew_by_next(
        &self,
        region: &Region,
        node: NodeId,
        validity: Option<Validity>,
        now: UnixMillis,
    ) -> Result<Certificate, CertsError> {
        let (cert, key) = node_paths(&self.folder, region, node);
        let name = server_name(&self.cluster_id, region, node);
        let next = next_path(&authority_path(&self.folder));
        if tls_credentials::are_good(&cert, &key, &next, &name, now) {
            finish_former(&cert, &key)?;
            let mut found = Certificate::read_all(&cert)?;
            return Ok(found.remove(0));
        }
        let name = (region.clone(), node);
        let issuer = self.next_issuer()?;
        make_node(&self.folder, &self.cluster_id, &name, &issuer, validity)
    }

    /// Has nodes trust the next authority alone.
    pub fn trust_next_only(&self) -> Result<(), CertsError> {
        let path = authority_path(&self.folder);
        write_file(&path, &self.next_text()?, 0o644)
    }

    /// Makes the next authority the present one.
    pub fn settle(&self) -> Result<(), CertsError> {
        let key = authority_key_path(&self.folder);
        let next = next_path(&key);
        if next.exists() {
            rename(&next, &key)?;
        }
        remove(&next_path(&authority_path(&self.folder)))
    }

    fn next_text(&self) -> Result<String, CertsError> {
        let path = next_path(&authority_path(&self.folder));
        fs::read_to_string(&path).map_err(in_file(&path))
    }

    /// Its key is the present one already if only the last of all steps is missing.
    fn next_issuer(&self) -> Result<Issuer<'static, rcgen::KeyPair>, CertsError> {
        let own = self.next_authority()?.public_key;
        let key_path = authority_key_path(&self.folder);
        for path in [next_path(&key_path), key_path.clone()] {
            match read_key(&path) {
                Ok(key) if key.subject_public_key_info() == own => {
                    return Ok(Issuer::new(authority_params(&self.cluster_id), key));
                }
                _ => {}
            }
        }
        let path = next_path(&authority_path(&self.folder));
        let reason = "its key is missing; remove this file to begin again".to_owned();
        Err(CertsError::Damaged { path, reason })
    }
}

/// The certificate that lies there for a node.
pub fn node_certificate(
    folder: &Path,
    region: &Region,
    node: NodeId,
) -> Result<Certificate, CertsError> {
    let (cert, _) = node_paths(folder, region, node);
    let mut found = Certificate::read_all(&cert)?;
    Ok(found.remove(0))
}

/// The authorities whom nodes are to trust, as they lie there.
pub fn authorities(folder: &Path) -> Result<Vec<Certificate>, CertsError> {
    Certificate::read_all(&authority_path(folder))
}

/// Whether the replacement of the authority was begun and is not finished.
pub fn is_replacing_authority(folder: &Path) -> bool {
    next_path(&authority_path(folder)).exists()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::certs::ensure;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn node(id: NodeId) -> (Region, NodeId) {
        ("us-east-1".parse().unwrap(), id)
    }

    /// Whether what lies in one folder for a node is good to whom trusts the authorities of another.
    fn is_good(folder: &Path, id: NodeId, to: &Path) -> bool {
        let (region, id) = node(id);
        let (cert, key) = node_paths(folder, &region, id);
        let name = server_name("c", &region, id);
        tls_credentials::are_good(&cert, &key, &authority_path(to), &name, NOW)
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    /// Catches a change that was stopped between its two renames and stays so: whoever reads the
    /// certificate with the key beside it has two that do not fit, and the next change begins by
    /// writing over the key that does.
    #[test]
    fn a_key_that_was_left_beside_is_put_in_its_place() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("now");
        ensure(&folder, "c", &[node(1)]).unwrap();
        let (region, id) = node(1);
        let (cert, key) = node_paths(&folder, &region, id);
        let fits = || {
            let shown = Certificate::read_all(&cert).unwrap().remove(0);
            read_key(&key).unwrap().subject_public_key_info() == shown.public_key
        };
        let former = fs::read(&key).unwrap();
        let changes = Changes::begin(&folder, "c").unwrap();
        changes.next_authority().unwrap();
        let made = changes.renew_by_next(&region, id, None, NOW).unwrap();
        rename(&key, &next_path(&key)).unwrap();
        fs::write(&key, &former).unwrap();
        assert!(!fits());
        let again = changes.renew_by_next(&region, id, None, NOW).unwrap();
        assert_eq!(again, made, "it was good, and is kept");
        assert!(fits());
        assert!(!next_path(&key).exists());
    }

    /// Catches a replacement of the authority that, stopped after any of its steps, leaves a node
    /// that cannot start or that others refuse, one that cannot be finished, one after which the
    /// former authority still counts, and a node added meanwhile that nobody believes.
    #[test]
    fn a_replacement_can_stop_after_every_step() {
        let (region, _) = node(1);
        let step = |changes: &Changes, at: usize| match at {
            0 => drop(changes.next_authority().unwrap()),
            1 => changes.trust_next_too().unwrap(),
            2 | 3 => {
                let id = at as NodeId - 1;
                drop(changes.renew_by_next(&region, id, None, NOW).unwrap());
            }
            4 => changes.trust_next_only().unwrap(),
            // In two halves.
            5 => {
                let key = authority_key_path(&changes.folder);
                rename(&next_path(&key), &key).unwrap();
            }
            _ => changes.settle().unwrap(),
        };
        for stop_after in 0..7 {
            let parent = tempfile::tempdir().unwrap();
            let (folder, before) = (parent.path().join("now"), parent.path().join("before"));
            ensure(&folder, "c", &[node(1), node(2)]).unwrap();
            copy(&folder, &before);
            {
                let changes = Changes::begin(&folder, "c").unwrap();
                (0..=stop_after).for_each(|at| step(&changes, at));
                let busy = ensure(&folder, "c", &[node(3)]);
                assert!(matches!(busy, Err(CertsError::Busy { .. })));
            }
            assert_eq!(
                is_replacing_authority(&folder),
                stop_after < 6,
                "{stop_after}"
            );
            ensure(&folder, "c", &[node(1), node(2), node(3)]).unwrap();
            for id in 1..=3 {
                assert!(is_good(&folder, id, &folder), "{stop_after}, node {id}");
            }
            let changes = Changes::begin(&folder, "c").unwrap();
            let next = changes.next_authority().unwrap();
            changes.trust_next_too().unwrap();
            for id in 1..=3 {
                changes.renew_by_next(&region, id, None, NOW).unwrap();
            }
            changes.trust_next_only().unwrap();
            changes.settle().unwrap();
            assert_eq!(authorities(&folder).unwrap(), [next], "{stop_after}");
            assert!(!is_replacing_authority(&folder));
            for id in 1..=2 {
                assert!(is_good(&folder, id, &folder), "{stop_after}, node {id}");
                assert!(!is_good(&before, id, &folder), "{stop_after}, node {id}");
            }
            drop(changes);
            ensure(&folder, "c", &[node(4)]).unwrap();
            assert!(is_good(&folder, 4, &folder), "the new key signs");
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                let is_key = path.extension().is_some_and(|end| end == "key");
                assert!(!is_key || mode == 0o600, "{}", path.display());
                let is_left = path.to_string_lossy().contains(".next.");
                assert!(!is_left, "{}", path.display());
            }
        }
    }
}
