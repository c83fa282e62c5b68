//! Key material, the ciphertext format and the sealing of material at rest.
//!
//! What this crate keeps: no secret has `Debug`, `Clone` or `Serialize`, every secret is zeroed
//! when dropped, and every failure of authenticated data is one opaque error. It knows no clock
//! and no other randomness than the [`Entropy`](keyrum_types::Entropy) passed in; its only I/O is
//! the domain key's file (`key_file`).
//!
//! The primitives are ring's: AES-256-GCM, HMAC-SHA-256, SHA-256. The only assembly done here is
//! the counter mode of SP 800-108 over that HMAC (`kdf`).

mod ciphertext;
mod kdf;
mod key_file;
mod keyring;
mod material;
#[cfg(test)]
mod testing;
mod token;

pub use ciphertext::{
    EncryptionContext, InvalidCiphertext, MadeBy, OVERHEAD_BYTES, Parsed, encrypt, parse,
};
pub use key_file::{DomainKeyFileError, create, load, load_or_create, save};
pub use keyring::{DomainKeyring, Fingerprint, InvalidFingerprint, UnsealError, WrongDomainKey};
pub use material::{KeyName, MATERIAL_BYTES, MaterialSecret};
pub use token::TokenKey;

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

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
        assert_eq!(traits!(TokenKey), [false; 3]);
    }
}
