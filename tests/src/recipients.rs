//! Recipients of answers that only an enclave can read. The enclave, its hypervisor and the root above
//! are made up (`attestation`); a Keyrum that believes them was told to.

use std::io::Write as _;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use keyrum_consensus::world::World;
use tempfile::NamedTempFile;

use crate::attestation::{Enclave, Hypervisor};

/// What a hypervisor says of an enclave at this moment. Nodes take the machine's time, whatever their
/// Region's clock says.
pub fn attested_now(hypervisor: &Hypervisor, enclave: &Enclave) -> Vec<u8> {
    hypervisor.attest(World::real().clock.now().0, enclave)
}

/// A request's recipient, by its document.
pub fn recipient(document: &[u8]) -> RecipientInfo {
    RecipientInfo::builder()
        .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
        .attestation_document(Blob::new(document))
        .build()
}

/// A hypervisor's root as the file that `--attestation-root` names.
pub fn root_file(hypervisor: &Hypervisor) -> NamedTempFile {
    let mut root = NamedTempFile::new().expect("a temporary file");
    let pem = hypervisor.root_pem.as_bytes();
    root.write_all(pem)
        .expect("a temporary file can be written");
    root
}
