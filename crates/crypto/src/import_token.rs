//! The key pair that material to import is wrapped with, which travels to the caller and back inside
//! the import token: no node remembers it, so every node of the Region takes every other's token.
//!
//! A token is: format (1 byte), version of the domain key (4, big-endian), a random value the token's
//! own key is derived from (16), nonce (12), AES-256-GCM ciphertext and tag (16). Associated data are
//! the format, the version and the name of the KMS key. The plaintext is the end of validity (8 bytes,
//! milliseconds, big-endian), the names of algorithm and spec with a length byte each, and the private
//! key.

use keyrum_types::{Entropy, UnixMillis, WrappingAlgorithm, WrappingKeySpec};
use ring::aead::{Aad, NONCE_LEN};
use zeroize::Zeroizing;

use crate::ciphertext::{cipher, nonce_of};
use crate::keyring::DomainSecret;
use crate::{DomainKeyring, KeyName, MaterialSecret, UnusableMaterial, UsableKey};

const FORMAT: u8 = 1;
const SALT_AT: usize = 5;
const NONCE_AT: usize = SALT_AT + 16;
const SECRET_AT: usize = NONCE_AT + NONCE_LEN;

/// A wrapping key pair, bound to one KMS key by its token.
pub struct ImportKeyPair {
    /// When the pair is no longer taken, by the Region's clock.
    pub valid_until: UnixMillis,
    /// What the material is wrapped with.
    pub algorithm: WrappingAlgorithm,
    /// The pair's kind.
    pub spec: WrappingKeySpec,
    secret: MaterialSecret,
}

impl ImportKeyPair {
    /// A pair of new material of the spec [`WrappingKeySpec::key_spec`].
    pub fn new(
        spec: WrappingKeySpec,
        algorithm: WrappingAlgorithm,
        valid_until: UnixMillis,
        secret: MaterialSecret,
    ) -> Self {
        Self {
            valid_until,
            algorithm,
            spec,
            secret,
        }
    }

    /// The public half as a SubjectPublicKeyInfo in DER.
    pub fn public_key_der(&self) -> Result<Vec<u8>, UnusableMaterial> {
        let spec = self.spec.key_spec();
        let usable = UsableKey::new(spec, &self.secret)?;
        let public = usable.public_key_der().map(<[u8]>::to_vec);
        public.ok_or(UnusableMaterial { spec })
    }

    /// Unwraps material. Deliberately says no more than that it cannot.
    pub fn unwrap(&self, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let usable = UsableKey::new(self.spec.key_spec(), &self.secret).ok()?;
        usable.unwrap_import(self.algorithm, wrapped).ok()
    }

    /// The token that brings the pair back for imports into the KMS key `name`.
    pub fn token(&self, keyring: &DomainKeyring, name: KeyName, entropy: &dyn Entropy) -> Vec<u8> {
        let (version, domain) = keyring.sealing();
        let mut token = vec![0; SECRET_AT];
        token[0] = FORMAT;
        token[1..SALT_AT].copy_from_slice(&version.to_be_bytes());
        entropy.fill(&mut token[SALT_AT..]);
        let names = [self.algorithm.name(), self.spec.name()].map(str::as_bytes);
        let lengths = names.map(|name| u8::try_from(name.len()).expect("names are short"));
        let secret = self.secret.expose();
        // The buffer has its final size before the secret enters it, so that no copy stays behind.
        token.reserve_exact(8 + 2 + names[0].len() + names[1].len() + secret.len() + 16);
        token.extend(self.valid_until.0.to_be_bytes());
        for (length, name) in lengths.into_iter().zip(names) {
            token.push(length);
            token.extend(name);
        }
        token.extend(secret);
        let key = token_key(&domain, &token);
        let nonce = nonce_of(&token[NONCE_AT..SECRET_AT]);
        let aad = associated_data(&token, name);
        let tag = cipher(key.as_slice())
            .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut token[SECRET_AT..])
            .expect("AES-GCM takes every plaintext under 64 GiB");
        token.extend_from_slice(tag.as_ref());
        token
    }

    /// The pair in a token for the KMS key `name`, also one that is no longer valid; `None` for
    /// anything else.
    pub fn from_token(keyring: &DomainKeyring, name: KeyName, token: &[u8]) -> Option<Self> {
        let (head, sealed) = token.split_at_checked(SECRET_AT)?;
        let version = head[1..SALT_AT].try_into().map(u32::from_be_bytes);
        let domain = keyring
            .version(version.ok()?)
            .filter(|_| head[0] == FORMAT)?;
        let key = token_key(&domain, head);
        let nonce = nonce_of(&head[NONCE_AT..]);
        let aad = associated_data(head, name);
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let opened = cipher(key.as_slice())
            .open_in_place(nonce, Aad::from(aad), buffer.as_mut_slice())
            .ok()?;
        let (valid_until, rest) = opened.split_first_chunk::<8>()?;
        let (algorithm, rest) = take_name(rest)?;
        let (spec, secret) = take_name(rest)?;
        Some(Self {
            valid_until: UnixMillis(u64::from_be_bytes(*valid_until)),
            algorithm: WrappingAlgorithm::from_name(algorithm)?,
            spec: WrappingKeySpec::from_name(spec)?,
            secret: MaterialSecret::from_slice(secret)?,
        })
    }
}

fn token_key(domain: &DomainSecret, head: &[u8]) -> Zeroizing<[u8; 32]> {
    domain.derive("keyrum import tokens 1", &[&head[SALT_AT..NONCE_AT]])
}

fn associated_data(head: &[u8], name: KeyName) -> Vec<u8> {
    [&head[..SALT_AT], &name.to_bytes()].concat()
}

fn take_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use keyrum_types::{EncryptionAlgorithm, KeyId, KeySpec};

    use super::*;
    use crate::testing::CountingEntropy;

    fn name(byte: u8) -> KeyName {
        KeyName {
            account: "111122223333".parse().unwrap(),
            key: KeyId::single_region([byte; 16]),
        }
    }

    /// Catches a token that brings another pair back, or opens for another key, under another domain
    /// key, or with any byte changed.
    #[test]
    fn a_token_brings_its_pair_back_for_its_key_alone() {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let secret = crate::generate_material(KeySpec::Rsa2048, "aws", &entropy);
        let pair = ImportKeyPair::new(
            WrappingKeySpec::Rsa2048,
            WrappingAlgorithm::RsaesOaepSha256,
            UnixMillis(1_700_000_000_001),
            secret.ok().unwrap(),
        );
        let token = pair.token(&keyring, name(1), &entropy);
        assert!(token.len() <= 6144, "the API's limit: {}", token.len());
        assert_ne!(pair.token(&keyring, name(1), &entropy), token);

        let back = ImportKeyPair::from_token(&keyring, name(1), &token).unwrap();
        assert_eq!(back.valid_until, pair.valid_until);
        assert_eq!((back.algorithm, back.spec), (pair.algorithm, pair.spec));
        let public = back.public_key_der().unwrap();
        assert_eq!(public, pair.public_key_der().unwrap());
        let usable = UsableKey::new(pair.spec.key_spec(), &pair.secret);
        let wrapped = usable.ok().unwrap().encrypt(
            EncryptionAlgorithm::RsaesOaepSha256,
            b"material",
            &entropy,
        );
        assert_eq!(*back.unwrap(&wrapped.unwrap()).unwrap(), b"material");
        assert!(back.unwrap(b"something else").is_none());

        let opens = |keyring: &DomainKeyring, key, token: &[u8]| {
            ImportKeyPair::from_token(keyring, name(key), token).is_some()
        };
        assert!(!opens(&keyring, 2, &token));
        assert!(!opens(&DomainKeyring::generate(&entropy), 1, &token));
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] ^= 1;
            assert!(!opens(&keyring, 1, &changed), "byte {at}");
            assert!(!opens(&keyring, 1, &token[..at]), "cut to {at}");
        }
        assert!(!opens(&keyring, 1, &[&token[..], &[0]].concat()));
        let sealed = keyring.seal(name(1), pair.secret.id(name(1).key), &pair.secret, &entropy);
        assert!(!opens(&keyring, 1, &sealed.0));
    }
}
