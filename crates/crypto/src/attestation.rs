//! Attested callers: whether a document is one of a Nitro enclave, and how to answer that enclave
//! alone.
//!
//! Chains are verified by `webpki` and signatures by aws-lc, with ECDSA on P-384 and SHA-384 only:
//! nothing else is in Nitro's documents. A root's own dates are not looked at, since whoever
//! configures it trusts it (RFC 5280, section 6.1.1), nor are extended key usages: a root for
//! documents should sign nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use der::Decode;
use keyrum_types::{Entropy, UnixMillis};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use ring::digest::{SHA256, digest};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, alg_id};
use webpki::aws_lc_rs::ECDSA_P384_SHA384;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};

use crate::UseError;
use crate::enveloped::{KEY_ID_BYTES, envelop};

mod document;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use document::{Document, Payload};

/// The root of all Nitro enclaves of the partition aws. Its SHA-256 fingerprint, which a test
/// checks, is in AWS Nitro Enclaves User Guide, "Verifying the root of trust".
const AWS_NITRO_ROOT_G1: &[u8] = include_bytes!("attestation/aws-nitro-root-g1.pem");

/// How far a document's time may be from this machine's, before or after it: 5 minutes.
///
/// Deviation: how old a document the real service takes is not published.
const FRESH_MS: u64 = 5 * 60 * 1000;

/// Where chains of certificates may end.
pub struct AttestationRoots {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a file's certificates cannot be roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAttestationRoots {
    /// Not PEM.
    #[error("it is not in PEM: {cause}")]
    NotPem {
        /// What the parser said.
        cause: String,
    },
    /// PEM without any certificate.
    #[error("it holds no certificate")]
    Empty,
    /// A certificate cannot be parsed.
    #[error("certificate {number} in it cannot be a root: {cause}")]
    NotARoot {
        /// Which, counted from 1.
        number: usize,
        /// What the parser said.
        cause: String,
    },
    /// A certificate's key cannot have signed what a document's chain needs.
    #[error("the key of certificate {number} in it is not on the curve P-384")]
    OtherCurve {
        /// Which, counted from 1.
        number: usize,
    },
}

/// Why a document's sender is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// Not an attestation document.
    #[error("it is not one: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Its certificates lead to no root that is configured.
    #[error("its certificates do not lead to a root that is trusted here")]
    Untrusted,
    /// A certificate's time is over.
    #[error("a certificate in it has expired")]
    Expired,
    /// A certificate's time has not begun.
    #[error("a certificate in it is not valid yet")]
    NotYetValid,
    /// The signer did not sign this.
    #[error("its signature does not verify")]
    WrongSignature,
    /// Made too long ago, or in the future.
    #[error("its timestamp is more than 5 minutes from this server's time")]
    NotFresh,
    /// Nothing to encrypt to.
    #[error("it has no public_key")]
    NoPublicKey,
    /// Not a key of the one kind that answers are encrypted to.
    #[error("its public_key is no RSA key of 2048 to 4096 bits in DER")]
    InvalidPublicKey,
}

/// What a verified document says of its sender.
pub struct Attested {
    /// What the sender's hypervisor calls it.
    pub module_id: String,
    /// The sender's measurements.
    pub pcrs: Pcrs,
    key: OaepPublicEncryptingKey,
    key_id: [u8; KEY_ID_BYTES],
}

/// Measurements by index: SHA-384 digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pcrs {
    /// Of a Nitro enclave; number 0 is that of its image.
    Enclave(BTreeMap<u8, [u8; 48]>),
    /// Of an instance with a NitroTPM.
    NitroTpm(BTreeMap<u8, [u8; 48]>),
}

/// Nitro's certificates say nothing of their purpose.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

impl Default for AttestationRoots {
    /// The real enclaves' root.
    fn default() -> Self {
        Self::from_pem(AWS_NITRO_ROOT_G1).expect("a test reads it")
    }
}

impl AttestationRoots {
    /// The certificates in a PEM file; each is a root.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidAttestationRoots> {
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|error| InvalidAttestationRoots::NotPem {
            cause: error.to_string(),
        })?;
        if certificates.is_empty() {
            return Err(InvalidAttestationRoots::Empty);
        }
        let anchors = certificates.iter().zip(1..).map(|(certificate, number)| {
            let anchor = anchor_from_trusted_cert(certificate);
            let anchor = anchor.map_err(|error| InvalidAttestationRoots::NotARoot {
                number,
                cause: error.to_string(),
            })?;
            let algorithm = alg_id::ECDSA_P384.as_ref();
            // Behind the head of the AlgorithmIdentifier.
            let key = anchor.subject_public_key_info.get(2..);
            match key.is_some_and(|key| key.starts_with(algorithm)) {
                true => Ok(anchor.to_owned()),
                false => Err(InvalidAttestationRoots::OtherCurve { number }),
            }
        });
        Ok(Self {
            anchors: anchors.collect::<Result<_, _>>()?,
            certificates,
        })
    }

    /// Verifies a document as of `now`, by this machine's clock.
    pub fn verify(&self, document: &[u8], now: UnixMillis) -> Result<Attested, AttestationError> {
        let document = Document::parse(document)?;
        let payload = Payload::parse(document.payload)?;

        let certificate = CertificateDer::from(payload.certificate);
        let malformed = |_| AttestationError::Malformed {
            what: "its certificate is not one of a signer",
        };
        let signer = EndEntityCert::try_from(&certificate).map_err(malformed)?;
        let above = payload.bundle.iter().map(|&der| CertificateDer::from(der));
        let between: Vec<_> = above
            .filter(|der| !self.certificates.contains(der))
            .collect();
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        let path = signer.verify_for_usage(
            &[ECDSA_P384_SHA384],
            &self.anchors,
            &between,
            time,
            AnyPurpose,
            None,
            None,
        );
        path.map_err(|error| match error {
            webpki::Error::CertExpired { .. } => AttestationError::Expired,
            webpki::Error::CertNotValidYet { .. } => AttestationError::NotYetValid,
            _ => AttestationError::Untrusted,
        })?;

        let spki = signer.subject_public_key_info();
        let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, spki.as_ref());
        key.verify(&document.signed(), document.signature)
            .map_err(|_| AttestationError::WrongSignature)?;
        if now.0.abs_diff(payload.timestamp) > FRESH_MS {
            return Err(AttestationError::NotFresh);
        }

        let spki = payload.public_key.ok_or(AttestationError::NoPublicKey)?;
        // aws-lc does not mind what follows a key.
        let whole = SubjectPublicKeyInfoRef::from_der(spki).is_ok();
        let key = PublicEncryptingKey::from_der(spki).ok();
        let key = key.filter(|key| whole && (2048..=4096).contains(&key.key_size_bits()));
        let key = key.and_then(|key| OaepPublicEncryptingKey::new(key).ok());
        let mut key_id = [0; KEY_ID_BYTES];
        key_id.copy_from_slice(digest(&SHA256, spki).as_ref());
        Ok(Attested {
            module_id: payload.module_id.to_owned(),
            pcrs: payload.pcrs,
            key: key.ok_or(AttestationError::InvalidPublicKey)?,
            key_id,
        })
    }
}

impl Attested {
    /// Encrypts a secret so that only the sender can read it.
    pub fn envelop(&self, secret: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, UseError> {
        envelop(secret, &self.key, self.key_id, entropy)
    }
}
