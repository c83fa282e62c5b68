//! The symmetric ciphertext blob: Keyrum's own format, with the outside of the real service's.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 5 | `01 02 02 00 78` from Encrypt and ReEncrypt, `01 02 03 00 78` from GenerateDataKey* |
//! | 5 | 32 | material id |
//! | 37 | 1 | `01` |
//! | 38 | 16 | random value that the blob's own key is derived from |
//! | 54 | 4 | how many bytes follow, big-endian |
//! | 58 | 1 | version of what follows: 1 with AES-256-GCM, 2 with SM4-GCM |
//! | 59 | 12 | account, decimal digits |
//! | 71 | 17 | key id: 0 or 1 (multi-Region), then the number |
//! | 88 | 4 | CRC-32C of everything before it, big-endian |
//! | 92 | 32 | commitment to the derived key |
//! | 124 | 12 | nonce |
//! | 136 | n + 16 | ciphertext and tag |
//!
//! Material of 16 bytes makes a blob of version 2, any other one of version 1.
//!
//! Two secrets come from the material and the random value by SP 800-108 (`kdf`): a key used once, so the number of encryptions under one KMS key has no practical limit, and the
//! commitment, so that no blob decrypts under two keys. Everything before the ciphertext, and the
//! encryption context, are associated data.
//!
//! The checksum needs no secret and proves nothing. It lets a damaged blob be told from one whose
//! key is not here, so that damage gets the same answer whichever byte it hits.

use std::collections::BTreeMap;

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use aes_gcm::{AesGcm, KeyInit};
use keyrum_types::{Entropy, MaterialId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::kdf::{derive, prf_key};
use crate::material::{KeyName, MaterialSecret};

/// What the caller binds a ciphertext to: a set of pairs, compared exactly.
pub type EncryptionContext = BTreeMap<String, String>;

const MATERIAL_AT: usize = 5;
const SALT_AT: usize = MATERIAL_AT + 32 + 1;
const SALT_BYTES: usize = 16;
const LENGTH_AT: usize = SALT_AT + SALT_BYTES;
const VERSION_AT: usize = LENGTH_AT + 4;
const NAME_AT: usize = VERSION_AT + 1;
const CHECKSUM_AT: usize = NAME_AT + KeyName::BYTES;
const COMMITMENT_AT: usize = CHECKSUM_AT + 4;
const COMMITMENT_BYTES: usize = 32;
const NONCE_AT: usize = COMMITMENT_AT + COMMITMENT_BYTES;
const SEALED_AT: usize = NONCE_AT + NONCE_LEN;
const TAG_BYTES: usize = 16;

/// How much longer a blob is than its plaintext.
pub const OVERHEAD_BYTES: usize = SEALED_AT + TAG_BYTES;

const VERSION_AES: u8 = 1;
const VERSION_SM4: u8 = 2;

/// With the random value it fits one block of SHA-256, so that a derived block costs two
/// compressions and no more.
const LABEL_AES: &str = "keyrum symmetric encryption 1";
const LABEL_SM4: &str = "keyrum symmetric encryption 2";

/// Bytes in material for SM4, the symmetric cipher of Regions in China.
const SM4_BYTES: usize = 16;

type Sm4Gcm = AesGcm<sm4::Sm4, U12>;

/// Which operations made a blob; the third byte tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeBy {
    /// Encrypt or ReEncrypt.
    Encrypt,
    /// GenerateDataKey or GenerateDataKeyWithoutPlaintext.
    GenerateDataKey,
}

impl MadeBy {
    fn header(self) -> [u8; MATERIAL_AT] {
        match self {
            Self::Encrypt => [1, 2, 2, 0, 0x78],
            Self::GenerateDataKey => [1, 2, 3, 0, 0x78],
        }
    }
}

/// The blob, its context, or the key it was tried with is not the right one. Deliberately says
/// no more: one answer for every tampering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext is invalid")]
pub struct InvalidCiphertext;

/// Encrypts `plaintext` under one version of a key's material.
pub fn encrypt(
    secret: &MaterialSecret,
    material: MaterialId,
    name: KeyName,
    context: &EncryptionContext,
    plaintext: &[u8],
    made_by: MadeBy,
    entropy: &dyn Entropy,
) -> Vec<u8> {
    // One request for both: asking the system for randomness costs more than hashing does.
    let mut random = [0; SALT_BYTES + NONCE_LEN];
    entropy.fill(&mut random);
    let (salt, nonce) = random.split_at(SALT_BYTES);
    let name = name.to_bytes();
    let derived = DerivedKey::new(secret, salt);
    let after_length = SEALED_AT - VERSION_AT + plaintext.len() + TAG_BYTES;
    let after_length = u32::try_from(after_length).expect("plaintexts are shorter than 4 GiB");

    let mut blob = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
    blob.extend_from_slice(&made_by.header());
    blob.extend_from_slice(&material.0);
    blob.push(1);
    blob.extend_from_slice(salt);
    blob.extend_from_slice(&after_length.to_be_bytes());
    blob.push(derived.version());
    blob.extend_from_slice(&name);
    blob.extend_from_slice(&checksum(&blob));
    blob.extend_from_slice(derived.commitment());
    blob.extend_from_slice(nonce);
    debug_assert_eq!(blob.len(), SEALED_AT);

    let aad = associated_data(&blob, context);
    blob.extend_from_slice(plaintext);
    let tag = derived.seal(nonce, &aad, &mut blob[SEALED_AT..]);
    blob.extend_from_slice(&tag);
    blob
}

/// A blob of the right form: what it names, not yet proven.
#[derive(Debug, Clone, Copy)]
pub struct Parsed<'a> {
    blob: &'a [u8],
    name: KeyName,
    material: MaterialId,
}

/// Takes a blob apart as far as that goes without a key.
pub fn parse(blob: &[u8]) -> Result<Parsed<'_>, InvalidCiphertext> {
    if blob.len() < OVERHEAD_BYTES {
        return Err(InvalidCiphertext);
    }
    let header = [MadeBy::Encrypt, MadeBy::GenerateDataKey].map(MadeBy::header);
    let known = header.iter().any(|header| blob.starts_with(header));
    let length = u32::try_from(blob.len() - VERSION_AT).map_err(|_| InvalidCiphertext)?;
    if !known
        || blob[SALT_AT - 1] != 1
        || blob[LENGTH_AT..VERSION_AT] != length.to_be_bytes()
        || ![VERSION_AES, VERSION_SM4].contains(&blob[VERSION_AT])
        || blob[CHECKSUM_AT..COMMITMENT_AT] != checksum(&blob[..CHECKSUM_AT])
    {
        return Err(InvalidCiphertext);
    }
    let name = blob[NAME_AT..CHECKSUM_AT]
        .try_into()
        .map_err(|_| InvalidCiphertext)?;
    let name = KeyName::from_bytes(name).ok_or(InvalidCiphertext)?;
    let mut material = [0; 32];
    material.copy_from_slice(&blob[MATERIAL_AT..MATERIAL_AT + 32]);
    Ok(Parsed {
        blob,
        name,
        material: MaterialId(material),
    })
}

impl Parsed<'_> {
    /// The key the blob says it was made with.
    pub fn name(&self) -> KeyName {
        self.name
    }

    /// The version of that key's material the blob says it was made with.
    pub fn material(&self) -> MaterialId {
        self.material
    }

    /// Decrypts with that material. The plaintext comes only if the whole blob and the context
    /// are what `encrypt` was given and made.
    pub fn decrypt(
        &self,
        secret: &MaterialSecret,
        context: &EncryptionContext,
    ) -> Result<Zeroizing<Vec<u8>>, InvalidCiphertext> {
        let salt = &self.blob[SALT_AT..LENGTH_AT];
        let derived = DerivedKey::new(secret, salt);
        if derived.version() != self.blob[VERSION_AT]
            || !same_secret(derived.commitment(), &self.blob[COMMITMENT_AT..NONCE_AT])
        {
            return Err(InvalidCiphertext);
        }
        let aad = associated_data(&self.blob[..SEALED_AT], context);
        let nonce = &self.blob[NONCE_AT..SEALED_AT];
        let mut buffer = Zeroizing::new(self.blob[SEALED_AT..].to_vec());
        derived.open(nonce, &aad, &mut buffer)?;
        let length = buffer.len() - TAG_BYTES;
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// The key of one blob and the commitment to it.
enum DerivedKey {
    Aes(Zeroizing<[u8; 32 + COMMITMENT_BYTES]>),
    Sm4(Zeroizing<[u8; SM4_BYTES + COMMITMENT_BYTES]>),
}

impl DerivedKey {
    fn new(secret: &MaterialSecret, salt: &[u8]) -> Self {
        let secret = secret.expose();
        if secret.len() == SM4_BYTES {
            Self::Sm4(derive(&prf_key(secret), LABEL_SM4, &[salt]))
        } else {
            Self::Aes(derive(&prf_key(secret), LABEL_AES, &[salt]))
        }
    }

    fn version(&self) -> u8 {
        match self {
            Self::Aes(_) => VERSION_AES,
            Self::Sm4(_) => VERSION_SM4,
        }
    }

    fn commitment(&self) -> &[u8] {
        match self {
            Self::Aes(bytes) => &bytes[32..],
            Self::Sm4(bytes) => &bytes[SM4_BYTES..],
        }
    }

    /// Encrypts in place and gives the tag.
    fn seal(&self, nonce: &[u8], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        const FITS: &str = "GCM takes every plaintext under 64 GiB";
        match self {
            Self::Aes(bytes) => cipher(&bytes[..32])
                .seal_in_place_separate_tag(nonce_of(nonce), Aad::from(aad), text)
                .expect(FITS)
                .as_ref()
                .try_into()
                .expect("a GCM tag has 16 bytes"),
            Self::Sm4(bytes) => sm4_gcm(&bytes[..SM4_BYTES])
                .encrypt_inout_detached(sm4_nonce(nonce), aad, text.into())
                .expect(FITS)
                .into(),
        }
    }

    /// Decrypts in place what is followed by its tag.
    fn open(&self, nonce: &[u8], aad: &[u8], text: &mut [u8]) -> Result<(), InvalidCiphertext> {
        match self {
            Self::Aes(bytes) => cipher(&bytes[..32])
                .open_in_place(nonce_of(nonce), Aad::from(aad), text)
                .map(|_| ())
                .map_err(|_| InvalidCiphertext),
            Self::Sm4(bytes) => {
                let (text, tag) = text
                    .split_last_chunk_mut::<TAG_BYTES>()
                    .ok_or(InvalidCiphertext)?;
                sm4_gcm(&bytes[..SM4_BYTES])
                    .decrypt_inout_detached(sm4_nonce(nonce), aad, text.into(), (&*tag).into())
                    .map_err(|_| InvalidCiphertext)
            }
        }
    }
}

/// SM4-GCM under 16 bytes (RFC 8998, section 2.1, names the combination).
fn sm4_gcm(key: &[u8]) -> Sm4Gcm {
    Sm4Gcm::new_from_slice(key).expect("an SM4 key has 16 bytes")
}

/// Opens bare SM4-GCM, to be run against vectors.
#[cfg(test)]
pub(crate) fn open_sm4(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, InvalidCiphertext> {
    let mut bytes = Zeroizing::new([0; SM4_BYTES + COMMITMENT_BYTES]);
    bytes[..SM4_BYTES].copy_from_slice(key);
    let mut text = sealed.to_vec();
    DerivedKey::Sm4(bytes).open(nonce, aad, &mut text)?;
    text.truncate(sealed.len() - TAG_BYTES);
    Ok(text)
}

fn sm4_nonce(bytes: &[u8]) -> &aes_gcm::Nonce<U12> {
    bytes.try_into().expect("a GCM nonce has 12 bytes")
}

/// AES-256-GCM under 32 bytes.
pub(crate) fn cipher(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes"))
}

/// A nonce from its 12 bytes.
pub(crate) fn nonce_of(bytes: &[u8]) -> Nonce {
    Nonce::try_assume_unique_for_key(bytes).expect("an AES-GCM nonce has 12 bytes")
}

/// Compares without telling where the difference is.
pub(crate) fn same_secret(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |bits, (l, r)| bits | (l ^ r));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

fn checksum(named: &[u8]) -> [u8; 4] {
    crc32c::crc32c(named).to_be_bytes()
}

/// The blob's beginning, then the context: how many pairs, then each key and value in the order
/// of keys, each behind its length. No two contexts give the same bytes.
fn associated_data(beginning: &[u8], context: &EncryptionContext) -> Vec<u8> {
    let texts = || context.iter().flat_map(|(key, value)| [key, value]);
    let total: usize = texts().map(|text| 4 + text.len()).sum();
    let length = |n: usize| {
        u32::try_from(n)
            .expect("requests are shorter than 4 GiB")
            .to_be_bytes()
    };
    let mut aad = Vec::with_capacity(beginning.len() + 4 + total);
    aad.extend_from_slice(beginning);
    aad.extend_from_slice(&length(context.len()));
    for text in texts() {
        aad.extend_from_slice(&length(text.len()));
        aad.extend_from_slice(text.as_bytes());
    }
    aad
}

#[cfg(test)]
mod tests {
    use keyrum_types::KeyId;

    use super::*;
    use crate::testing::CountingEntropy;

    struct Fixture {
        entropy: CountingEntropy,
        secret: MaterialSecret,
        name: KeyName,
        material: MaterialId,
        context: EncryptionContext,
    }

    impl Fixture {
        fn new() -> Self {
            let entropy = CountingEntropy(1.into());
            let secret = MaterialSecret::generate(&entropy);
            let key = KeyId::multi_region([3; 16]);
            let account = "111122223333".parse().unwrap();
            let pairs = [("purpose", "test"), ("a", "b")];
            Self {
                material: secret.id(key),
                name: KeyName { account, key },
                context: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                entropy,
                secret,
            }
        }

        fn encrypt(&self, plaintext: &[u8], made_by: MadeBy) -> Vec<u8> {
            let Self {
                entropy,
                secret,
                name,
                material,
                context,
            } = self;
            encrypt(
                secret, *material, *name, context, plaintext, made_by, entropy,
            )
        }
    }

    /// Catches a blob that does not come back, names another key, or has another outside than the
    /// real service's: header, material id, sizes.
    #[test]
    fn blobs_come_back() {
        let fixture = Fixture::new();
        for (made_by, third) in [(MadeBy::Encrypt, 2), (MadeBy::GenerateDataKey, 3)] {
            for size in [1, 7, 32, 4096] {
                let plaintext: Vec<u8> = (0..size).map(|at| at as u8).collect();
                let blob = fixture.encrypt(&plaintext, made_by);
                assert_eq!(blob.len(), size + 152);
                assert_eq!(blob[..5], [1, 2, third, 0, 0x78]);
                assert_eq!(blob[5..37], fixture.material.0);
                let parsed = parse(&blob).unwrap();
                assert_eq!(
                    (parsed.name(), parsed.material()),
                    (fixture.name, fixture.material)
                );
                let back = parsed.decrypt(&fixture.secret, &fixture.context).unwrap();
                assert_eq!(*back, plaintext);
            }
        }
    }

    /// Catches equal inputs giving equal blobs, which would show that two secrets are the same.
    #[test]
    fn equal_inputs_give_different_blobs() {
        let fixture = Fixture::new();
        let blobs = [(); 2].map(|()| fixture.encrypt(b"same", MadeBy::Encrypt));
        assert_ne!(blobs[0][SALT_AT..LENGTH_AT], blobs[1][SALT_AT..LENGTH_AT]);
        assert_ne!(blobs[0][SEALED_AT..], blobs[1][SEALED_AT..]);
    }

    /// Catches any byte that is not covered: each is changed in each bit, and each length tried.
    #[test]
    fn every_tampering_is_refused() {
        let fixture = Fixture::new();
        let blob = fixture.encrypt(b"a secret", MadeBy::Encrypt);
        let open = |blob: &[u8]| parse(blob)?.decrypt(&fixture.secret, &fixture.context);
        assert!(open(&blob).is_ok());
        for at in 0..blob.len() {
            for bit in 0..8 {
                let mut changed = blob.clone();
                changed[at] ^= 1 << bit;
                assert!(open(&changed).is_err(), "byte {at}, bit {bit}");
            }
            assert!(open(&blob[..at]).is_err(), "cut to {at}");
        }
        assert!(open(&[&blob[..], &[0]].concat()).is_err(), "a byte more");
        assert!(open(&[0x5a; 300]).is_err(), "garbage");
    }

    /// Catches damage that would be answered as "no such key": what names the key must be damaged
    /// beyond parsing, whichever byte it is.
    #[test]
    fn damaged_names_do_not_parse() {
        let blob = Fixture::new().encrypt(b"x", MadeBy::Encrypt);
        for at in 0..COMMITMENT_AT {
            let mut changed = blob.clone();
            changed[at] ^= 0x10;
            assert!(parse(&changed).is_err(), "byte {at}");
        }
    }

    /// Catches a header whose key, account, material id or origin is only checked by the checksum,
    /// which anyone can recompute.
    #[test]
    fn a_forged_name_does_not_decrypt() {
        let fixture = Fixture::new();
        let blob = fixture.encrypt(b"x", MadeBy::Encrypt);
        let forge = |at: usize, change: &dyn Fn(u8) -> u8| {
            let mut forged = blob.clone();
            forged[at] = change(forged[at]);
            let sum = checksum(&forged[..CHECKSUM_AT]);
            forged[CHECKSUM_AT..COMMITMENT_AT].copy_from_slice(&sum);
            forged
        };
        let forgeries = [
            forge(2, &|_| 3),
            forge(MATERIAL_AT, &|byte| byte ^ 1),
            forge(NAME_AT, &|_| b'2'),
            forge(NAME_AT + 12, &|_| 0),
            forge(NAME_AT + 13, &|byte| byte ^ 1),
            forge(SALT_AT, &|byte| byte ^ 1),
        ];
        for (which, forged) in forgeries.iter().enumerate() {
            let parsed = parse(forged).expect("the forgery has a right checksum");
            let result = parsed.decrypt(&fixture.secret, &fixture.context);
            assert_eq!(result.err(), Some(InvalidCiphertext), "forgery {which}");
        }
    }

    /// Catches a context that is not compared exactly, and pairs that can be glued differently.
    #[test]
    fn the_context_must_be_the_same() {
        let fixture = Fixture::new();
        let blob = fixture.encrypt(b"x", MadeBy::Encrypt);
        let parsed = parse(&blob).unwrap();
        let of = |pairs: &[(&str, &str)]| -> EncryptionContext {
            pairs
                .iter()
                .map(|&(k, v)| (k.to_owned(), v.to_owned()))
                .collect()
        };
        for other in [
            of(&[]),
            of(&[("a", "b")]),
            of(&[("A", "b"), ("purpose", "test")]),
            of(&[("a", "b"), ("purpose", "Test")]),
            of(&[("ab", ""), ("purpose", "test")]),
            of(&[("a", "b"), ("purpose", "test"), ("c", "")]),
        ] {
            assert!(
                parsed.decrypt(&fixture.secret, &other).is_err(),
                "{other:?}"
            );
        }
        let reordered = of(&[("purpose", "test"), ("a", "b")]);
        assert!(parsed.decrypt(&fixture.secret, &reordered).is_ok());
    }

    /// Catches a blob that decrypts under another key's material, even imported bytes that are
    /// equal but belong to another key.
    #[test]
    fn other_keys_do_not_decrypt() {
        let fixture = Fixture::new();
        let blob = fixture.encrypt(b"x", MadeBy::Encrypt);
        let other = MaterialSecret::generate(&fixture.entropy);
        assert!(
            parse(&blob)
                .unwrap()
                .decrypt(&other, &fixture.context)
                .is_err()
        );
    }
}
