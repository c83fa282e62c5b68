//! The Region's domain key and what it seals.
//!
//! Every node of a Region holds the same domain key; it never enters the log. It is used only to
//! derive other keys: one per sealing, from a fresh random value, so that no nonce limit is
//! reached; one for tokens; and one for the fingerprint that names it.
//!
//! A domain key has versions. One seals; the older ones open what they sealed until they are
//! destroyed. The first version's fingerprint names the domain key for good.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use keyrum_types::{Entropy, MaterialId, SEALING_FORMAT, SealedMaterial};
pub use keyrum_types::{Fingerprint, InvalidFingerprint};
use ring::aead::{Aad, NONCE_LEN};
use zeroize::Zeroizing;

use crate::ciphertext::{cipher, nonce_of};
use crate::kdf::{derive, prf_key};
use crate::material::{KeyName, MATERIAL_BYTES_MAX, MaterialSecret};
use crate::token::TokenKey;

/// Bytes in a domain key.
pub(crate) const DOMAIN_KEY_BYTES: usize = 32;

/// The number of a domain key's first version. Each sealing carries the version it was made under.
pub const FIRST_DOMAIN_KEY_VERSION: u32 = 1;

const VERSION_AT: usize = 1;
const SALT_AT: usize = VERSION_AT + 4;
const SALT_BYTES: usize = 16;
const NONCE_AT: usize = SALT_AT + SALT_BYTES;
const SECRET_AT: usize = NONCE_AT + NONCE_LEN;
const TAG_BYTES: usize = 16;
/// How much longer a sealing is than its secret.
const OVERHEAD_BYTES: usize = SECRET_AT + TAG_BYTES;

/// A Region's domain key, in memory.
///
/// Sealed material is: format (1 byte), version of the domain key (4, big-endian), a random value
/// the sealing's own key is derived from (16), nonce (12), AES-256-GCM ciphertext (as long as the
/// material) and tag (16). Associated data are the format, the version, and the names of the key and the material:
/// a sealing moved to another key does not open.
pub struct DomainKeyring {
    name: Fingerprint,
    /// Derived from the first version, and kept when that is destroyed: it opens nothing.
    tokens: Zeroizing<[u8; DOMAIN_KEY_BYTES]>,
    held: RwLock<Held>,
}

/// The versions that are here.
struct Held {
    versions: BTreeMap<u32, Arc<DomainSecret>>,
    /// The version that seals, if it is here.
    seals: u32,
}

/// One version of a domain key: the secret.
pub struct DomainSecret(Zeroizing<[u8; DOMAIN_KEY_BYTES]>);

impl DomainSecret {
    /// A new one.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = Zeroizing::new([0; DOMAIN_KEY_BYTES]);
        entropy.fill(secret.as_mut_slice());
        Self(secret)
    }

    /// One from its bytes.
    pub fn from_bytes(secret: Zeroizing<[u8; DOMAIN_KEY_BYTES]>) -> Self {
        Self(secret)
    }

    pub(crate) fn expose(&self) -> &[u8; DOMAIN_KEY_BYTES] {
        &self.0
    }

    /// Names it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(*self.derive("keyrum domain key fingerprint 1", &[]))
    }

    /// What tokens are authenticated with.
    pub(crate) fn tokens(&self) -> Zeroizing<[u8; DOMAIN_KEY_BYTES]> {
        self.derive("keyrum tokens 1", &[])
    }

    pub(crate) fn derive<const N: usize>(
        &self,
        label: &str,
        context: &[&[u8]],
    ) -> Zeroizing<[u8; N]> {
        derive(&prf_key(self.expose()), label, context)
    }
}

/// The domain key is not the one the data was sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the domain key is the wrong one: the data was sealed under {expected}, this is {found}. \
     Nothing is lost and nothing was changed; put the Region's domain key file in place (any \
     other node of the Region has it) and start again"
)]
pub struct WrongDomainKey {
    /// The fingerprint stored with the data.
    pub expected: Fingerprint,
    /// This key's fingerprint.
    pub found: Fingerprint,
}

/// Why sealed material does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Written by a version of Keyrum that this one does not know.
    #[error("sealed material has format {format}; this version of Keyrum reads format 1")]
    OtherFormat {
        /// The format found.
        format: u8,
    },
    /// Sealed under another version of the domain key.
    #[error("material is sealed under version {version} of the domain key, which is not here")]
    OtherDomainKey {
        /// The version found.
        version: u32,
    },
    /// Damaged, or of another key, or under another domain key.
    #[error("sealed material does not open: it is damaged, or belongs to another key or Region")]
    Damaged,
}

impl DomainKeyring {
    /// A new domain key, of one version.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::first(DomainSecret::generate(entropy))
    }

    /// The domain key whose first and only version has these bytes.
    pub fn from_bytes(secret: Zeroizing<[u8; DOMAIN_KEY_BYTES]>) -> Self {
        Self::first(DomainSecret(secret))
    }

    /// The domain key that has this first version and no other.
    pub fn first(secret: DomainSecret) -> Self {
        let (name, tokens) = (secret.fingerprint(), secret.tokens());
        let versions = [(FIRST_DOMAIN_KEY_VERSION, secret)];
        Self::from_parts(name, tokens, versions).expect("there is a version")
    }

    /// A domain key from what a file has of it: its name, its key for tokens, and the versions that
    /// are left. The oldest seals until [`DomainKeyring::seal_under`] says more: a newer one may be
    /// one that not every node has. `None` if there is no version, or the first is not the one that
    /// the domain key is named after.
    pub fn from_parts(
        name: Fingerprint,
        tokens: Zeroizing<[u8; DOMAIN_KEY_BYTES]>,
        versions: impl IntoIterator<Item = (u32, DomainSecret)>,
    ) -> Option<Self> {
        let versions: BTreeMap<_, _> = versions
            .into_iter()
            .map(|(version, secret)| (version, Arc::new(secret)))
            .collect();
        let (&seals, _) = versions.first_key_value()?;
        if let Some(first) = versions.get(&FIRST_DOMAIN_KEY_VERSION)
            && (first.fingerprint() != name || first.tokens() != tokens)
        {
            return None;
        }
        Some(Self {
            name,
            tokens,
            held: RwLock::new(Held { versions, seals }),
        })
    }

    /// Names this domain key, through all its versions: the first one's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.name
    }

    /// Whether this is the key that data with the fingerprint `expected` was sealed under.
    pub fn check(&self, expected: Fingerprint) -> Result<(), WrongDomainKey> {
        let found = self.fingerprint();
        if found == expected {
            Ok(())
        } else {
            Err(WrongDomainKey { expected, found })
        }
    }

    /// The versions that are here, with what names each.
    pub fn versions(&self) -> BTreeMap<u32, Fingerprint> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let names = held.versions.iter();
        names
            .map(|(&version, s)| (version, s.fingerprint()))
            .collect()
    }

    /// The version `version`, if it is here.
    pub fn version(&self, version: u32) -> Option<Arc<DomainSecret>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.versions.get(&version).cloned()
    }

    /// The version that seals.
    pub fn seals_under(&self) -> u32 {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.seals
    }

    /// Takes a version in, to open what it sealed. It does not seal yet.
    pub fn add(&self, version: u32, secret: Arc<DomainSecret>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.versions.insert(version, secret);
    }

    /// Forgets a version. The one that seals stays.
    pub fn forget(&self, version: u32) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.seals != version {
            held.versions.remove(&version);
        }
    }

    /// Seals under `version` from now on; gives whether it is here.
    pub fn seal_under(&self, version: u32) -> bool {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let here = held.versions.contains_key(&version);
        if here {
            held.seals = version;
        }
        here
    }

    /// The version that seals, with its number.
    pub(crate) fn sealing(&self) -> (u32, Arc<DomainSecret>) {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let secret = held.versions.get(&held.seals);
        (
            held.seals,
            Arc::clone(secret.expect("what seals is never forgotten")),
        )
    }

    /// The Region's key for tokens that callers bring back. The same under every version.
    pub fn token_key(&self) -> TokenKey {
        TokenKey(prf_key(self.tokens.as_slice()))
    }

    /// Seals material for the log and the disk.
    pub fn seal(
        &self,
        name: KeyName,
        material: MaterialId,
        secret: &MaterialSecret,
        entropy: &dyn Entropy,
    ) -> SealedMaterial {
        self.seal_as(
            MATERIAL,
            &material_name(name, material),
            secret.expose(),
            entropy,
        )
    }

    /// Seals what belongs to an identity, such as an access key's secret. `name` says what it is of: it
    /// opens under the same name only, and never as material.
    pub fn seal_identity(
        &self,
        name: &str,
        secret: &[u8],
        entropy: &dyn Entropy,
    ) -> SealedMaterial {
        self.seal_as(IDENTITY, name.as_bytes(), secret, entropy)
    }

    fn seal_as(
        &self,
        purpose: &'static str,
        name: &[u8],
        secret: &[u8],
        entropy: &dyn Entropy,
    ) -> SealedMaterial {
        let (version, domain) = self.sealing();
        let mut sealed = vec![0; SECRET_AT];
        sealed[0] = SEALING_FORMAT;
        sealed[VERSION_AT..SALT_AT].copy_from_slice(&version.to_be_bytes());
        entropy.fill(&mut sealed[SALT_AT..]);
        let key: Zeroizing<[u8; 32]> = domain.derive(purpose, &[&sealed[SALT_AT..NONCE_AT]]);
        let nonce = nonce_of(&sealed[NONCE_AT..SECRET_AT]);
        let aad = [&sealed[..SALT_AT], name].concat();
        // The buffer has its final size before the secret enters it, so that no copy stays behind.
        sealed.reserve_exact(secret.len() + TAG_BYTES);
        sealed.extend_from_slice(secret);
        let tag = cipher(key.as_slice())
            .seal_in_place_separate_tag(nonce, Aad::from(&aad), &mut sealed[SECRET_AT..])
            .expect("AES-GCM takes every plaintext under 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        SealedMaterial(sealed.into())
    }

    /// Opens what [`DomainKeyring::seal`] made for the same key and material.
    pub fn unseal(
        &self,
        name: KeyName,
        material: MaterialId,
        sealed: &SealedMaterial,
    ) -> Result<MaterialSecret, UnsealError> {
        let opened = self.unseal_as(MATERIAL, &material_name(name, material), sealed)?;
        MaterialSecret::from_slice(&opened).ok_or(UnsealError::Damaged)
    }

    /// Opens what [`DomainKeyring::seal_identity`] made under the same name.
    pub fn unseal_identity(
        &self,
        name: &str,
        sealed: &SealedMaterial,
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        self.unseal_as(IDENTITY, name.as_bytes(), sealed)
    }

    fn unseal_as(
        &self,
        purpose: &'static str,
        name: &[u8],
        sealed: &SealedMaterial,
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let sealed = &sealed.0;
        match sealed.first() {
            Some(&SEALING_FORMAT) if sealed.len() > OVERHEAD_BYTES => {}
            Some(&format) if format != SEALING_FORMAT => {
                return Err(UnsealError::OtherFormat { format });
            }
            _ => return Err(UnsealError::Damaged),
        }
        let mut version = [0; 4];
        version.copy_from_slice(&sealed[VERSION_AT..SALT_AT]);
        let version = u32::from_be_bytes(version);
        let domain = self.version(version);
        let domain = domain.ok_or(UnsealError::OtherDomainKey { version })?;
        let key: Zeroizing<[u8; 32]> = domain.derive(purpose, &[&sealed[SALT_AT..NONCE_AT]]);
        let nonce = nonce_of(&sealed[NONCE_AT..SECRET_AT]);
        let aad = [&sealed[..SALT_AT], name].concat();
        if sealed.len() > OVERHEAD_BYTES + MATERIAL_BYTES_MAX {
            return Err(UnsealError::Damaged);
        }
        let mut buffer = Zeroizing::new(sealed[SECRET_AT..].to_vec());
        let length = cipher(key.as_slice())
            .open_in_place(nonce, Aad::from(&aad), buffer.as_mut_slice())
            .map_err(|_| UnsealError::Damaged)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// What sealings are for; each purpose has keys of its own.
const MATERIAL: &str = "keyrum material sealing 1";
const IDENTITY: &str = "keyrum identity sealing 1";

fn material_name(name: KeyName, material: MaterialId) -> Vec<u8> {
    [&name.to_bytes()[..], &material.0].concat()
}

#[cfg(test)]
mod tests {
    use keyrum_types::KeyId;

    use super::*;
    use crate::testing::CountingEntropy;

    fn name(byte: u8) -> KeyName {
        let account = "111122223333".parse().unwrap();
        KeyName {
            account,
            key: KeyId::single_region([byte; 16]),
        }
    }

    /// Catches a sealing that does not open, opens under other circumstances, or repeats itself.
    #[test]
    fn sealings_open_only_where_they_were_made() {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let secret = MaterialSecret::generate(&entropy);
        let id = secret.id(name(1).key);
        let sealed = keyring.seal(name(1), id, &secret, &entropy);
        assert_eq!(sealed.0.len(), OVERHEAD_BYTES + 32);
        let opened = keyring.unseal(name(1), id, &sealed).ok().unwrap();
        assert_eq!(opened.expose(), secret.expose());
        assert_ne!(keyring.seal(name(1), id, &secret, &entropy), sealed);

        let other_account = KeyName {
            account: "444455556666".parse().unwrap(),
            ..name(1)
        };
        let refused = |keyring: &DomainKeyring, name, id, sealed: &SealedMaterial| {
            keyring.unseal(name, id, sealed).err()
        };
        let damaged = Some(UnsealError::Damaged);
        assert_eq!(refused(&keyring, name(2), id, &sealed), damaged);
        assert_eq!(refused(&keyring, other_account, id, &sealed), damaged);
        assert_eq!(
            refused(&keyring, name(1), MaterialId([0; 32]), &sealed),
            damaged
        );
        let other_key = DomainKeyring::generate(&entropy);
        assert_eq!(refused(&other_key, name(1), id, &sealed), damaged);
    }

    /// Catches a byte of a sealing that nothing covers, and a panic on cut or empty sealings.
    #[test]
    fn damaged_sealings_are_refused() {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let secret = MaterialSecret::generate(&entropy);
        let id = secret.id(name(1).key);
        let sealed = keyring.seal(name(1), id, &secret, &entropy);
        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            Arc::make_mut(&mut changed.0)[at] ^= 4;
            assert!(keyring.unseal(name(1), id, &changed).is_err(), "byte {at}");
            let cut = SealedMaterial(sealed.0[..at].into());
            assert!(keyring.unseal(name(1), id, &cut).is_err(), "cut to {at}");
        }
        let mut newer = sealed.clone();
        Arc::make_mut(&mut newer.0)[0] = 9;
        let error = keyring.unseal(name(1), id, &newer).err();
        assert_eq!(error, Some(UnsealError::OtherFormat { format: 9 }));
        let mut rotated = sealed.clone();
        Arc::make_mut(&mut rotated.0)[4] = 2;
        let error = keyring.unseal(name(1), id, &rotated).err();
        assert_eq!(error, Some(UnsealError::OtherDomainKey { version: 2 }));
    }

    /// Catches a wrong domain key that goes unnoticed, and a fingerprint with two spellings.
    #[test]
    fn the_fingerprint_tells_domain_keys_apart() {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let fingerprint = keyring.fingerprint();
        assert_eq!(keyring.check(fingerprint), Ok(()));
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        let other = DomainKeyring::generate(&entropy);
        let error = other.check(fingerprint).unwrap_err();
        assert_eq!(
            (error.expected, error.found),
            (fingerprint, other.fingerprint())
        );
        for bad in ["", "+000000000000001", "ABCDEF0123456789", "1"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    /// Catches a secret of an identity that opens under another name, in another Region, or as
    /// material, and the reverse.
    #[test]
    fn secrets_of_identities_are_kept_apart() {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let sealed = keyring.seal_identity("access key A", b"a secret", &entropy);
        let opened = |keyring: &DomainKeyring, name| {
            let opened = keyring.unseal_identity(name, &sealed);
            opened.map(|opened| opened.to_vec())
        };
        assert_eq!(opened(&keyring, "access key A"), Ok(b"a secret".to_vec()));
        let damaged = Err(UnsealError::Damaged);
        assert_eq!(opened(&keyring, "access key B"), damaged);
        let other = DomainKeyring::generate(&entropy);
        assert_eq!(opened(&other, "access key A"), damaged);
        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            Arc::make_mut(&mut changed.0)[at] ^= 4;
            let refused = keyring.unseal_identity("access key A", &changed);
            assert!(refused.is_err(), "byte {at}");
        }

        let secret = MaterialSecret::generate(&entropy);
        let id = secret.id(name(1).key);
        let material = keyring.seal(name(1), id, &secret, &entropy);
        // Even under the very bytes that material is bound to.
        let same = material_name(name(1), id);
        let crossed = keyring.unseal_as(IDENTITY, &same, &material);
        assert_eq!(crossed.err(), Some(UnsealError::Damaged));
    }

    /// Catches a version that cannot open what it sealed once another seals, one that seals before it
    /// is told to, and one that is forgotten and opens still.
    #[test]
    fn versions_open_what_they_sealed() {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let (domain, token) = (keyring.fingerprint(), keyring.token_key());
        let secret = MaterialSecret::generate(&entropy);
        let id = secret.id(name(1).key);
        let seal = |keyring: &DomainKeyring| keyring.seal(name(1), id, &secret, &entropy);
        let first = seal(&keyring);
        assert!(!keyring.seal_under(2), "it is not here");
        let second = Arc::new(DomainSecret::generate(&entropy));
        keyring.add(2, Arc::clone(&second));
        assert_eq!(seal(&keyring).domain_key_version(), Some(1));
        assert!(keyring.seal_under(2));
        let sealed = seal(&keyring);
        assert_eq!(sealed.domain_key_version(), Some(2));
        for sealed in [&first, &sealed] {
            let opened = keyring.unseal(name(1), id, sealed).ok().unwrap();
            assert_eq!(opened.expose(), secret.expose());
        }
        // The versions have keys of their own.
        let mut moved = first.clone();
        Arc::make_mut(&mut moved.0)[4] = 2;
        let refused = keyring.unseal(name(1), id, &moved).err();
        assert_eq!(refused, Some(UnsealError::Damaged));

        keyring.forget(2);
        keyring.forget(1);
        let gone = keyring.unseal(name(1), id, &first).err();
        assert_eq!(gone, Some(UnsealError::OtherDomainKey { version: 1 }));
        assert!(keyring.unseal(name(1), id, &sealed).is_ok(), "it seals");
        assert_eq!(keyring.versions(), [(2, second.fingerprint())].into());
        assert_eq!(keyring.fingerprint(), domain, "the name stays");
        let text = token.issue(&[b"x"], b"payload");
        assert!(keyring.token_key().open(&[b"x"], &text).is_some());
    }

    /// Catches parts of two domain keys that are taken for one, and a version that seals before the
    /// Region's log says so.
    #[test]
    fn a_domain_key_is_put_together_from_its_own_parts() {
        let entropy = CountingEntropy(1.into());
        let [first, second] = [1, 2].map(|_| DomainSecret::generate(&entropy));
        let (domain, tokens) = (first.fingerprint(), first.tokens());
        let again = |secret: &DomainSecret| DomainSecret(secret.0.clone());
        let make = |name, tokens: &Zeroizing<[u8; 32]>, versions: Vec<(u32, DomainSecret)>| {
            DomainKeyring::from_parts(name, tokens.clone(), versions)
        };
        let both = make(
            domain,
            &tokens,
            vec![(2, again(&second)), (1, again(&first))],
        );
        assert_eq!(both.unwrap().seals_under(), 1);
        let left = make(domain, &tokens, vec![(2, again(&second))]).unwrap();
        assert_eq!((left.fingerprint(), left.seals_under()), (domain, 2));
        assert!(make(domain, &tokens, Vec::new()).is_none());
        assert!(make(domain, &tokens, vec![(1, again(&second))]).is_none());
        let others = second.tokens();
        assert!(make(domain, &others, vec![(1, first)]).is_none());
    }

    /// Catches tokens of one Region that another takes.
    #[test]
    fn tokens_belong_to_the_domain_key() {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let token = keyring.token_key().issue(&[b"x"], b"payload");
        assert!(keyring.token_key().open(&[b"x"], &token).is_some());
        let other = DomainKeyring::generate(&entropy);
        assert!(other.token_key().open(&[b"x"], &token).is_none());
    }
}
