//! Key material, the ciphertext format and the sealing of material at rest.
//!
//! What this crate keeps: no secret has `Debug`, `Clone` or `Serialize`, every secret is zeroed
//! when dropped, and every failure of authenticated data is one opaque error. It knows no clock
//! and no other randomness than the [`Entropy`](keyrum_types::Entropy) passed in; its only I/O is
//! the files of the Region's two secrets (`key_file`).
//!
//! No primitive is written here. `keys` says which library does what for asymmetric and HMAC keys.
//! Sealing, ciphertexts and tokens are ring's AES-256-GCM, HMAC-SHA-256 and SHA-256; SM4-GCM is
//! RustCrypto's. The only assembly done here is the counter mode of SP 800-108 over that HMAC
//! (`kdf`). What crosses Regions is wrapped by the crate `hpke` (`wrap`). Attested callers' certificates
//! are verified by `webpki`, and what they get is encrypted by aws-lc (`attestation`, `enveloped`).

mod attestation;
mod ciphertext;
mod draw;
mod enveloped;
mod import_token;
mod kdf;
mod key_file;
mod keyring;
mod keys;
mod material;
mod session_token;
#[cfg(test)]
mod testing;
mod token;
mod wrap;

pub use attestation::{
    AttestationError, AttestationRoots, Attested, InvalidAttestationRoots, Pcrs,
};
pub use ciphertext::{
    EncryptionContext, InvalidCiphertext, MadeBy, OVERHEAD_BYTES, Parsed, encrypt, parse,
};
pub use import_token::ImportKeyPair;
pub use key_file::{
    Backup, DomainKeyFile, DomainKeys, DomainKeysError, FileLock, InvalidLock, InvalidShare,
    InvalidUnlock, KeyFileError, MemoryDomainKeys, OpenedBy, PASSPHRASE_CHARS_MIN, Restored,
    SecretKind, Share, StaysLocked, Unlock, create, create_region_key, load_region_key,
};
pub use keyring::{
    DomainKeyring, DomainSecret, FIRST_DOMAIN_KEY_VERSION, Fingerprint, InvalidFingerprint,
    UnsealError, WrongDomainKey,
};
pub use keys::{
    Encapsulated, InvalidMaterial, PeerKeyError, UnusableMaterial, UsableKey, UseError,
    generate_material, given_material, import_material,
};
pub use material::{KeyName, MATERIAL_BYTES, MATERIAL_BYTES_MAX, MaterialSecret};
pub use session_token::{SESSION_KEY_BYTES, SessionTokenKey, session_key_version};
pub use token::TokenKey;
pub use wrap::{
    Crossing, InvalidRegionPublicKey, RegionKey, RegionPublicKey, UnwrapError, Unwrapping,
    WrapError, Wrapping, WrongRegionKey,
};

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Whether `T` has traits that could show or copy a secret: an inherent constant, which exists
    /// only with the trait, wins over the trait's default.
    struct Probe<T>(PhantomData<T>);

    trait Without {
        const SHOWN: bool = false;
        const COPIED: bool = false;
        const WRITTEN: bool = false;
    }

    impl<T> Without for Probe<T> {}

    impl<T: std::fmt::Debug> Probe<T> {
        const SHOWN: bool = true;
    }

    impl<T: Clone> Probe<T> {
        const COPIED: bool = true;
    }

    impl<T: serde::Serialize> Probe<T> {
        const WRITTEN: bool = true;
    }

    /// Catches a change of either format, after which nothing written before opens any more.
    #[test]
    fn released_formats_still_open() {
        let entropy = testing::CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        let key = keyrum_types::KeyId::multi_region([3; 16]);
        let name = KeyName {
            account: "111122223333".parse().unwrap(),
            key,
        };
        let secret = MaterialSecret::generate(&entropy);
        let material = secret.id(key);
        let context = EncryptionContext::from([("purpose".to_owned(), "test".to_owned())]);
        let sealed = STANDARD
            .decode(include_str!("../golden/sealed-1.b64").trim())
            .unwrap();
        let blob = STANDARD
            .decode(include_str!("../golden/ciphertext-1.b64").trim())
            .unwrap();

        let sealed = keyrum_types::SealedMaterial(sealed.into());
        let opened = keyring.unseal(name, material, &sealed).ok().unwrap();
        assert_eq!(opened.expose(), secret.expose());
        let parsed = parse(&blob).unwrap();
        assert_eq!((parsed.name(), parsed.material()), (name, material));
        assert_eq!(
            **parsed.decrypt(&opened, &context).unwrap(),
            *b"a plaintext"
        );
    }

    /// Catches a key that cannot be kept in a cache which threads share.
    #[test]
    fn usable_keys_are_shared_between_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<UsableKey>();
        shared::<MaterialSecret>();
    }

    /// Catches a derive that would let a secret into a trace, an error or a message.
    #[test]
    fn secrets_cannot_be_shown_copied_or_serialized() {
        macro_rules! traits {
            ($type:ty) => {
                [
                    Probe::<$type>::SHOWN,
                    Probe::<$type>::COPIED,
                    Probe::<$type>::WRITTEN,
                ]
            };
        }
        assert_eq!(
            traits!(keyrum_types::MaterialId),
            [true; 3],
            "the probe itself"
        );
        assert_eq!(traits!(MaterialSecret), [false; 3]);
        assert_eq!(traits!(DomainKeyring), [false; 3]);
        assert_eq!(traits!(DomainSecret), [false; 3]);
        assert_eq!(traits!(MemoryDomainKeys), [false; 3]);
        assert_eq!(traits!(Unlock), [false; 3]);
        assert_eq!(traits!(Share), [false; 3]);
        assert_eq!(traits!(FileLock), [false; 3]);
        assert_eq!(traits!(Backup), [false; 3]);
        assert_eq!(traits!(TokenKey), [false; 3]);
        assert_eq!(traits!(SessionTokenKey), [false; 3]);
        assert_eq!(traits!(RegionKey), [false; 3]);
        assert_eq!(traits!(Wrapping), [false; 3]);
        assert_eq!(traits!(Unwrapping<'static>), [false; 3]);
        assert_eq!(traits!(ImportKeyPair), [false; 3]);
        assert_eq!(traits!(UsableKey), [false; 3]);
        assert_eq!(traits!(Encapsulated), [false; 3]);
    }
}
