//! Material on its way from one Region to another: HPKE (RFC 9180), base mode, with
//! DHKEM(X25519, HKDF-SHA256) and HKDF-SHA256; the key that it exports is AES-256-GCM's.
//!
//! A Region has one static key pair. The sender unseals a version of the material and wraps it to
//! the receiver's public key, which the cluster's record pins; the receiver unwraps it and seals it
//! under its own domain key. A wrapping is bound to the sender, the receiver, the key and the
//! material: one that is sent on, or put beside another key, does not open. HPKE's base mode does
//! not say who wrapped; the link between the Regions does (mutual TLS).
//!
//! Two nodes agree on a secret once for all material of a delivery, since that costs more than all
//! the rest. Each wrapping names the agreement, so that any part of a delivery opens without the
//! others.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use keyrum_types::{Entropy, MaterialId, Region, SealedMaterial};
use ring::aead::{Aad, LessSafeKey, NONCE_LEN};
use zeroize::Zeroizing;

use crate::ciphertext::{cipher, nonce_of};
use crate::draw::Draw;
use crate::keyring::{DOMAIN_KEY_BYTES, DomainSecret};
use crate::material::{KeyName, MATERIAL_BYTES_MAX, MaterialSecret};

type Aead = hpke::aead::ExportOnlyAead;
type Kdf = hpke::kdf::HkdfSha256;

/// Not one of the formats of sealings under a domain key, so that one is never taken for the other.
const WRAPPING_FORMAT: u8 = 0x82;
/// The same of what belongs to an identity, so that neither is taken for material.
const IDENTITY_FORMAT: u8 = 0x83;
/// The same of versions of the domain key.
const DOMAIN_KEY_FORMAT: u8 = 0x84;
const NONCE_AT: usize = 1 + REGION_KEY_BYTES;
const SECRET_AT: usize = NONCE_AT + NONCE_LEN;
/// What HPKE is asked for a key under.
const KEY_CONTEXT: &[u8] = b"keyrum material wrapping key 2";
const TAG_BYTES: usize = 16;
/// How much longer a wrapping is than its secret.
const OVERHEAD_BYTES: usize = SECRET_AT + TAG_BYTES;

/// Bytes in either half of a Region's key pair.
pub(crate) const REGION_KEY_BYTES: usize = 32;

/// Where material comes from and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing<'r> {
    /// The Region that wraps.
    pub from: &'r Region,
    /// The Region that unwraps.
    pub to: &'r Region,
}

/// The secret half of a Region's key pair: unwraps what other Regions wrap for this one.
pub struct RegionKey(<X25519HkdfSha256 as Kem>::PrivateKey);

/// The public half, 44 characters of base64 in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionPublicKey([u8; REGION_KEY_BYTES]);

/// The text is not a Region's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Region's public key: 32 bytes in base64")]
pub struct InvalidRegionPublicKey;

/// A Region's key is not the one that the others wrap to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the Region's key is the wrong one: the cluster's record pins {pinned}, this is {found}. \
     Nothing is lost and nothing was changed; put the Region's own key file in place (any other \
     node of the Region has it) and start again"
)]
pub struct WrongRegionKey {
    /// The public key in the cluster's record.
    pub pinned: RegionPublicKey,
    /// The public half of the key found.
    pub found: RegionPublicKey,
}

/// The pinned public key is no point to wrap to, such as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pinned public key {0} cannot be wrapped to: the cluster's record is damaged")]
pub struct WrapError(pub RegionPublicKey);

/// Why wrapped material does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// Written by a version of Keyrum that this one does not know.
    #[error("wrapped material has format {format}, which this version of Keyrum does not read")]
    OtherFormat {
        /// The format found.
        format: u8,
    },
    /// Damaged, of another key or material, or from or for another Region.
    #[error(
        "wrapped material does not open: it is damaged, of another key, or from or for another \
         Region"
    )]
    Damaged,
}

impl RegionKey {
    /// A new key pair.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let (secret, _) = X25519HkdfSha256::gen_keypair_with_rng(&mut Draw(entropy));
        Self(secret)
    }

    /// A key pair from its secret half; `None` if that is none.
    pub(crate) fn from_bytes(bytes: &[u8; REGION_KEY_BYTES]) -> Option<Self> {
        Deserializable::from_bytes(bytes).ok().map(Self)
    }

    pub(crate) fn expose(&self) -> Zeroizing<[u8; REGION_KEY_BYTES]> {
        let mut bytes = Zeroizing::new([0; REGION_KEY_BYTES]);
        self.0.write_exact(bytes.as_mut_slice());
        bytes
    }

    /// The public half.
    pub fn public(&self) -> RegionPublicKey {
        let mut bytes = [0; REGION_KEY_BYTES];
        X25519HkdfSha256::sk_to_pk(&self.0).write_exact(&mut bytes);
        RegionPublicKey(bytes)
    }

    /// Whether this is the key that the cluster's record pins.
    pub fn check(&self, pinned: RegionPublicKey) -> Result<(), WrongRegionKey> {
        let found = self.public();
        if found == pinned {
            Ok(())
        } else {
            Err(WrongRegionKey { pinned, found })
        }
    }

    /// To open what crosses to this Region.
    pub fn unwrapping<'k>(&'k self, crossing: Crossing<'k>) -> Unwrapping<'k> {
        Unwrapping {
            own: self,
            crossing,
            agreed: None,
        }
    }
}

impl RegionPublicKey {
    /// Agrees on a secret with the Region that this key is pinned for, to wrap one delivery's
    /// material: each wrapping has a random nonce, so it is not for more than 2^32.
    pub fn wrapping(
        &self,
        crossing: Crossing<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Wrapping, WrapError> {
        let failed = |_| WrapError(*self);
        let to = Deserializable::from_bytes(&self.0).map_err(failed)?;
        let (shared, context) = hpke::setup_sender_with_rng::<Aead, Kdf, X25519HkdfSha256>(
            &OpModeS::Base,
            &to,
            &crossing.info(),
            &mut Draw(entropy),
        )
        .map_err(failed)?;
        let cipher = exported(|key| context.export(KEY_CONTEXT, key));
        let mut bytes = [0; REGION_KEY_BYTES];
        shared.write_exact(&mut bytes);
        Ok(Wrapping {
            shared: bytes,
            cipher,
        })
    }
}

fn exported(export: impl FnOnce(&mut [u8]) -> Result<(), hpke::HpkeError>) -> LessSafeKey {
    let mut key = Zeroizing::new([0; 32]);
    export(key.as_mut_slice()).expect("HKDF-SHA256 gives 32 bytes");
    cipher(key.as_slice())
}

/// Wraps material for one other Region; see [`RegionPublicKey::wrapping`].
pub struct Wrapping {
    /// What the receiver agrees on the secret with; not secret.
    shared: [u8; REGION_KEY_BYTES],
    cipher: LessSafeKey,
}

impl Wrapping {
    /// Wraps one version of a key's material: format (1 byte), what the receiver agrees on the
    /// secret with (32), nonce (12), ciphertext (as long as the material) and tag (16).
    pub fn wrap(
        &self,
        name: KeyName,
        material: MaterialId,
        secret: &MaterialSecret,
        entropy: &dyn Entropy,
    ) -> SealedMaterial {
        let name = associated_data(name, material);
        self.wrap_as(WRAPPING_FORMAT, &name, secret.expose(), entropy)
    }

    /// Wraps what belongs to an identity, as material is. `name` says what it is of.
    pub fn wrap_identity(
        &self,
        name: &str,
        secret: &[u8],
        entropy: &dyn Entropy,
    ) -> SealedMaterial {
        let name = identity_data(name);
        self.wrap_as(IDENTITY_FORMAT, &name, secret, entropy)
    }

    /// Wraps a version of the Region's own domain key, for another node of the same Region.
    pub fn wrap_domain_key(
        &self,
        version: u32,
        secret: &DomainSecret,
        entropy: &dyn Entropy,
    ) -> SealedMaterial {
        let name = domain_key_data(version);
        self.wrap_as(DOMAIN_KEY_FORMAT, &name, secret.expose(), entropy)
    }

    fn wrap_as(
        &self,
        format: u8,
        name: &[u8],
        secret: &[u8],
        entropy: &dyn Entropy,
    ) -> SealedMaterial {
        // Its final size before the secret enters it, so that no copy stays behind.
        let mut wrapped = Vec::with_capacity(OVERHEAD_BYTES + secret.len());
        wrapped.push(format);
        wrapped.extend_from_slice(&self.shared);
        wrapped.resize(SECRET_AT, 0);
        entropy.fill(&mut wrapped[NONCE_AT..]);
        let nonce = nonce_of(&wrapped[NONCE_AT..]);
        wrapped.extend_from_slice(secret);
        let aad = Aad::from(name);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce, aad, &mut wrapped[SECRET_AT..])
            .expect("AES-GCM takes every plaintext under 64 GiB");
        wrapped.extend_from_slice(tag.as_ref());
        SealedMaterial(wrapped.into())
    }
}

/// Opens what other Regions' nodes wrapped; see [`RegionKey::unwrapping`].
pub struct Unwrapping<'k> {
    own: &'k RegionKey,
    crossing: Crossing<'k>,
    /// The last secret agreed on, and with what.
    agreed: Option<([u8; REGION_KEY_BYTES], LessSafeKey)>,
}

impl Unwrapping<'_> {
    /// Opens what [`Wrapping::wrap`] made for this Region, of the same key and material.
    pub fn unwrap(
        &mut self,
        name: KeyName,
        material: MaterialId,
        wrapped: &SealedMaterial,
    ) -> Result<MaterialSecret, UnwrapError> {
        let opened = self.unwrap_as(WRAPPING_FORMAT, &associated_data(name, material), wrapped)?;
        let secret = MaterialSecret::from_slice(&opened).ok_or(UnwrapError::Damaged)?;
        // The name is a hash of the bytes, so even the sender cannot give one version for another.
        if secret.id(name.key) == material {
            Ok(secret)
        } else {
            Err(UnwrapError::Damaged)
        }
    }

    /// Opens what [`Wrapping::wrap_identity`] made for this Region under the same name.
    pub fn unwrap_identity(
        &mut self,
        name: &str,
        wrapped: &SealedMaterial,
    ) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        self.unwrap_as(IDENTITY_FORMAT, &identity_data(name), wrapped)
    }

    /// Opens what [`Wrapping::wrap_domain_key`] made for this Region, of the same version.
    pub fn unwrap_domain_key(
        &mut self,
        version: u32,
        wrapped: &SealedMaterial,
    ) -> Result<DomainSecret, UnwrapError> {
        let opened = self.unwrap_as(DOMAIN_KEY_FORMAT, &domain_key_data(version), wrapped)?;
        let secret = <[u8; DOMAIN_KEY_BYTES]>::try_from(opened.as_slice());
        let secret = secret.map_err(|_| UnwrapError::Damaged)?;
        Ok(DomainSecret::from_bytes(Zeroizing::new(secret)))
    }

    fn unwrap_as(
        &mut self,
        expected: u8,
        name: &[u8],
        wrapped: &SealedMaterial,
    ) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        let wrapped = &wrapped.0;
        match wrapped.first() {
            Some(&format)
                if format == expected
                    && (OVERHEAD_BYTES + 1..=OVERHEAD_BYTES + MATERIAL_BYTES_MAX)
                        .contains(&wrapped.len()) => {}
            Some(&format) if format != expected => {
                return Err(UnwrapError::OtherFormat { format });
            }
            _ => return Err(UnwrapError::Damaged),
        }
        let mut shared = [0; REGION_KEY_BYTES];
        shared.copy_from_slice(&wrapped[1..NONCE_AT]);
        let cipher = self.agree(shared)?;
        let nonce = nonce_of(&wrapped[NONCE_AT..SECRET_AT]);
        let mut opened = Zeroizing::new(wrapped[SECRET_AT..].to_vec());
        let length = cipher
            .open_in_place(nonce, Aad::from(name), opened.as_mut_slice())
            .map_err(|_| UnwrapError::Damaged)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }

    fn agree(&mut self, shared: [u8; REGION_KEY_BYTES]) -> Result<&LessSafeKey, UnwrapError> {
        let known = self.agreed.take_if(|(last, _)| *last == shared);
        let agreed = match known {
            Some(known) => known,
            None => {
                let damaged = |_| UnwrapError::Damaged;
                let from = Deserializable::from_bytes(&shared).map_err(damaged)?;
                let context = hpke::setup_receiver::<Aead, Kdf, X25519HkdfSha256>(
                    &OpModeR::Base,
                    &self.own.0,
                    &from,
                    &self.crossing.info(),
                )
                .map_err(damaged)?;
                (shared, exported(|key| context.export(KEY_CONTEXT, key)))
            }
        };
        let (_, cipher) = self.agreed.insert(agreed);
        Ok(cipher)
    }
}

impl Crossing<'_> {
    /// HPKE's `info`: what this is, from where, to where. No two crossings share it.
    fn info(self) -> Vec<u8> {
        let [from, to] = [self.from, self.to].map(|region| region.as_str().as_bytes());
        // A Region's name holds no zero byte.
        [b"keyrum material wrapping 2", from, to].join(&0)
    }
}

fn associated_data(name: KeyName, material: MaterialId) -> Vec<u8> {
    [&name.to_bytes()[..], &material.0].concat()
}

/// What material is bound to begins with 12 digits, so the two never look alike.
fn identity_data(name: &str) -> Vec<u8> {
    [b"identity ", name.as_bytes()].concat()
}

fn domain_key_data(version: u32) -> Vec<u8> {
    [b"domain key ", &version.to_be_bytes()[..]].concat()
}

impl fmt::Display for RegionPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for RegionPublicKey {
    type Err = InvalidRegionPublicKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidRegionPublicKey)?;
        let bytes = bytes.try_into().map_err(|_| InvalidRegionPublicKey)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyrum_types::KeyId;

    use super::*;
    use crate::testing::CountingEntropy;

    struct Scene {
        key: RegionKey,
        name: KeyName,
        material: MaterialId,
        secret: MaterialSecret,
        wrapped: SealedMaterial,
    }

    fn regions() -> [Region; 3] {
        ["us-east-1", "eu-west-1", "us-west-2"].map(|name| name.parse().unwrap())
    }

    fn scene(entropy: &CountingEntropy) -> Scene {
        let [from, to, _] = &regions();
        let key = RegionKey::generate(entropy);
        let name = KeyName {
            account: "111122223333".parse().unwrap(),
            key: KeyId::multi_region([3; 16]),
        };
        let secret = MaterialSecret::generate(entropy);
        let material = secret.id(name.key);
        let crossing = Crossing { from, to };
        let wrapping = key.public().wrapping(crossing, entropy).unwrap();
        let wrapped = wrapping.wrap(name, material, &secret, entropy);
        Scene {
            key,
            name,
            material,
            secret,
            wrapped,
        }
    }

    /// Catches a version of the domain key that a node of another Region could open, one taken for
    /// another, and one that is changed on its way.
    #[test]
    fn versions_of_the_domain_key_go_to_the_own_region() {
        let entropy = CountingEntropy(1.into());
        let [own, other, _] = regions();
        let key = RegionKey::generate(&entropy);
        let at_home = Crossing {
            from: &own,
            to: &own,
        };
        let secret = DomainSecret::generate(&entropy);
        let wrapping = key.public().wrapping(at_home, &entropy).unwrap();
        let wrapped = wrapping.wrap_domain_key(2, &secret, &entropy);
        let open = |key: &RegionKey, crossing, version, wrapped: &SealedMaterial| {
            let opened = key.unwrapping(crossing).unwrap_domain_key(version, wrapped);
            opened.map(|secret| secret.fingerprint()).ok()
        };
        let there = Some(secret.fingerprint());
        assert_eq!(open(&key, at_home, 2, &wrapped), there);
        assert_eq!(open(&key, at_home, 3, &wrapped), None);
        let from_abroad = Crossing {
            from: &other,
            to: &own,
        };
        assert_eq!(open(&key, from_abroad, 2, &wrapped), None);
        let foreign = RegionKey::generate(&entropy);
        assert_eq!(open(&foreign, at_home, 2, &wrapped), None);
        for at in 0..wrapped.0.len() {
            let mut changed = wrapped.clone();
            Arc::make_mut(&mut changed.0)[at] ^= 1;
            assert_eq!(open(&key, at_home, 2, &changed), None, "byte {at}");
        }
        assert!(
            key.unwrapping(at_home)
                .unwrap_identity("", &wrapped)
                .is_err()
        );
    }

    /// Catches material that arrives as something else, and two wrappings that look alike.
    #[test]
    fn material_crosses_regions() {
        let entropy = CountingEntropy(1.into());
        let [from, to, _] = &regions();
        let crossing = Crossing { from, to };
        let scene = scene(&entropy);
        let mut unwrapping = scene.key.unwrapping(crossing);
        let opened = unwrapping.unwrap(scene.name, scene.material, &scene.wrapped);
        let opened = opened.ok().unwrap();
        assert_eq!(opened.expose(), scene.secret.expose());
        let wrapping = scene.key.public().wrapping(crossing, &entropy).unwrap();
        let [one, two] =
            [(); 2].map(|()| wrapping.wrap(scene.name, scene.material, &opened, &entropy));
        assert!(one != scene.wrapped && one != two);
        let shows = |bytes: &[u8]| bytes.windows(8).any(|part| part == &opened.expose()[..8]);
        assert!(!shows(&one.0) && !shows(&two.0));
        // Of two agreements in turn, and in no order.
        for wrapped in [&two, &scene.wrapped, &one, &two, &scene.wrapped] {
            let opened = unwrapping.unwrap(scene.name, scene.material, wrapped);
            assert_eq!(opened.ok().unwrap().expose(), scene.secret.expose());
        }
    }

    /// Catches a wrapping that opens in another Region, as if from another, for another key or
    /// account, or as another version of the material.
    #[test]
    fn a_wrapping_is_bound_to_where_it_belongs() {
        let entropy = CountingEntropy(1.into());
        let [from, to, other] = &regions();
        let scene = scene(&entropy);
        let stranger = RegionKey::generate(&entropy);
        let here = Crossing { from, to };
        let other_key = KeyName {
            key: KeyId::multi_region([4; 16]),
            ..scene.name
        };
        let other_account = KeyName {
            account: "444455556666".parse().unwrap(),
            ..scene.name
        };
        let (own, material) = (scene.name, scene.material);
        for (what, key, crossing, name, material) in [
            ("key pair", &stranger, here, own, material),
            (
                "sender",
                &scene.key,
                Crossing { from: other, to },
                own,
                material,
            ),
            (
                "receiver",
                &scene.key,
                Crossing { from, to: other },
                own,
                material,
            ),
            (
                "direction",
                &scene.key,
                Crossing { from: to, to: from },
                own,
                material,
            ),
            ("key", &scene.key, here, other_key, material),
            ("account", &scene.key, here, other_account, material),
            ("material", &scene.key, here, own, MaterialId([9; 32])),
        ] {
            let opened = key
                .unwrapping(crossing)
                .unwrap(name, material, &scene.wrapped);
            assert_eq!(opened.err(), Some(UnwrapError::Damaged), "another {what}");
        }
    }

    /// Catches a damaged or truncated wrapping that opens, a sealing taken for a wrapping, and the
    /// reverse.
    #[test]
    fn tampering_is_refused() {
        let entropy = CountingEntropy(1.into());
        let [from, to, _] = &regions();
        let crossing = Crossing { from, to };
        let scene = scene(&entropy);
        let open = |bytes: &[u8]| {
            let wrapped = SealedMaterial(bytes.into());
            let mut unwrapping = scene.key.unwrapping(crossing);
            let opened = unwrapping.unwrap(scene.name, scene.material, &wrapped);
            opened.err()
        };
        let good = &scene.wrapped.0;
        assert_eq!(open(good), None);
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            // X25519 ignores the top bit of a public key, which HPKE's key schedule still covers.
            assert!(open(&bad).is_some(), "byte {at}");
            bad[at] ^= 0x81;
            assert!(open(&bad).is_some(), "top bit of byte {at}");
            assert!(open(&good[..at]).is_some(), "{at} bytes");
        }
        assert!(open(&[good, &[0][..]].concat()).is_some());
        let zeros = [&[WRAPPING_FORMAT], &[0; OVERHEAD_BYTES + 31][..]].concat();
        assert_eq!(open(&zeros), Some(UnwrapError::Damaged));

        let domain = crate::DomainKeyring::generate(&entropy);
        let sealed = domain.seal(scene.name, scene.material, &scene.secret, &entropy);
        assert_eq!(
            open(&sealed.0),
            Some(UnwrapError::OtherFormat { format: 1 })
        );
        let unsealed = domain.unseal(scene.name, scene.material, &scene.wrapped);
        assert!(unsealed.is_err());
    }

    /// Catches a secret of an identity that opens under another name or in another Region, or that is
    /// taken for material.
    #[test]
    fn secrets_of_identities_cross_regions() {
        let entropy = CountingEntropy(1.into());
        let [from, to, other] = &regions();
        let crossing = Crossing { from, to };
        let scene = scene(&entropy);
        let wrapping = scene.key.public().wrapping(crossing, &entropy).unwrap();
        let wrapped = wrapping.wrap_identity("access key A", b"a secret", &entropy);
        assert!(!wrapped.0.windows(8).any(|part| part == b"a secret"));
        let open = |crossing, name| {
            let opened = scene
                .key
                .unwrapping(crossing)
                .unwrap_identity(name, &wrapped);
            opened.map(|opened| opened.to_vec())
        };
        assert_eq!(open(crossing, "access key A"), Ok(b"a secret".to_vec()));
        let damaged = Err(UnwrapError::Damaged);
        assert_eq!(open(crossing, "access key B"), damaged);
        assert_eq!(open(Crossing { from, to: other }, "access key A"), damaged);
        let mut unwrapping = scene.key.unwrapping(crossing);
        let taken = unwrapping.unwrap(scene.name, scene.material, &wrapped);
        assert!(matches!(
            taken.err(),
            Some(UnwrapError::OtherFormat { format: 0x83 })
        ));
        let taken = unwrapping.unwrap_identity("access key A", &scene.wrapped);
        assert!(matches!(
            taken.err(),
            Some(UnwrapError::OtherFormat { format: 0x82 })
        ));
    }

    /// Catches material of another length than 32 bytes that does not cross, or is not refused out
    /// of bounds.
    #[test]
    fn material_of_any_length_crosses() {
        let entropy = CountingEntropy(1.into());
        let [from, to, _] = &regions();
        let crossing = Crossing { from, to };
        let scene = scene(&entropy);
        for length in [1, 16, 2400, MATERIAL_BYTES_MAX] {
            let secret = MaterialSecret::random(length, &entropy);
            let id = secret.id(scene.name.key);
            let wrapping = scene.key.public().wrapping(crossing, &entropy).unwrap();
            let wrapped = wrapping.wrap(scene.name, id, &secret, &entropy);
            let mut unwrapping = scene.key.unwrapping(crossing);
            let opened = unwrapping.unwrap(scene.name, id, &wrapped);
            assert_eq!(opened.ok().unwrap().expose(), secret.expose());
            let longer = SealedMaterial([&wrapped.0[..], &[0; MATERIAL_BYTES_MAX]].concat().into());
            let refused = unwrapping.unwrap(scene.name, id, &longer).err();
            assert_eq!(refused, Some(UnwrapError::Damaged));
        }
    }

    /// Catches a sender that gives another version's bytes under a name they do not have.
    #[test]
    fn bytes_must_have_their_name() {
        let entropy = CountingEntropy(1.into());
        let [from, to, _] = &regions();
        let crossing = Crossing { from, to };
        let scene = scene(&entropy);
        let misnamed = MaterialId([9; 32]);
        let wrapping = scene.key.public().wrapping(crossing, &entropy).unwrap();
        let wrapped = wrapping.wrap(scene.name, misnamed, &scene.secret, &entropy);
        let mut unwrapping = scene.key.unwrapping(crossing);
        let opened = unwrapping.unwrap(scene.name, misnamed, &wrapped);
        assert_eq!(opened.err(), Some(UnwrapError::Damaged));
    }

    /// Catches a pinned key that reads back as another, and one that stands for no point.
    #[test]
    fn public_keys_survive_text() {
        let entropy = CountingEntropy(1.into());
        let [from, to, _] = &regions();
        let scene = scene(&entropy);
        let public = scene.key.public();
        assert_eq!(public.to_string().parse(), Ok(public));
        for bad in ["", "AAAA", "no base64!", &public.to_string()[..43]] {
            assert_eq!(bad.parse::<RegionPublicKey>(), Err(InvalidRegionPublicKey));
        }
        let other = RegionKey::generate(&entropy);
        assert_eq!(scene.key.check(public), Ok(()));
        let wrong = other.check(public).unwrap_err().to_string();
        assert!(wrong.contains(&public.to_string()), "{wrong}");

        let zeros = RegionPublicKey([0; REGION_KEY_BYTES]);
        let crossing = Crossing { from, to };
        let wrapped = zeros.wrapping(crossing, &entropy);
        assert_eq!(wrapped.err(), Some(WrapError(zeros)));
    }
}
