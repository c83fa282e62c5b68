//! Session tokens: what a caller with temporary credentials brings along, sealed, so that no node
//! remembers sessions and every node of every Region knows them.
//!
//! A token is base64 of: format (1 byte), version of the session key (4, big-endian), a random value
//! the token's own key is derived from (16), nonce (12), AES-256-GCM ciphertext and tag (16).
//! Associated data are the format and the version. What is inside is the caller's business.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_types::Entropy;
use ring::aead::{Aad, NONCE_LEN};
use zeroize::Zeroizing;

use crate::ciphertext::{cipher, nonce_of};
use crate::kdf::{derive, prf_key};

const FORMAT: u8 = 1;
const SALT_AT: usize = 5;
const NONCE_AT: usize = SALT_AT + 16;
const SECRET_AT: usize = NONCE_AT + NONCE_LEN;

/// The longest token that is opened, in characters: far more than one with all that STS allows.
const TOKEN_CHARS_MAX: usize = 64 << 10;

/// Bytes of a session key.
pub const SESSION_KEY_BYTES: usize = 32;

/// A version of the key that session tokens are sealed with; all Regions have the same.
pub struct SessionTokenKey {
    version: u32,
    secret: Zeroizing<[u8; SESSION_KEY_BYTES]>,
}

impl SessionTokenKey {
    /// A new key's bytes.
    pub fn generate(entropy: &dyn Entropy) -> Zeroizing<[u8; SESSION_KEY_BYTES]> {
        let mut secret = Zeroizing::new([0; SESSION_KEY_BYTES]);
        entropy.fill(secret.as_mut_slice());
        secret
    }

    /// The key of that version; `None` if it has not as many bytes as a key.
    pub fn new(version: u32, secret: &[u8]) -> Option<Self> {
        let secret = Zeroizing::new(secret.try_into().ok()?);
        Some(Self { version, secret })
    }

    /// Its version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// A token that says `content`.
    pub fn seal(&self, content: &[u8], entropy: &dyn Entropy) -> String {
        let mut token = vec![0; SECRET_AT];
        token[0] = FORMAT;
        token[1..SALT_AT].copy_from_slice(&self.version.to_be_bytes());
        entropy.fill(&mut token[SALT_AT..]);
        let key = self.token_key(&token[SALT_AT..NONCE_AT]);
        let nonce = nonce_of(&token[NONCE_AT..SECRET_AT]);
        let aad = Aad::from(token[..SALT_AT].to_vec());
        // The buffer has its final size before the secret enters it, so that no copy stays behind.
        token.reserve_exact(content.len() + 16);
        token.extend_from_slice(content);
        let tag = cipher(key.as_slice())
            .seal_in_place_separate_tag(nonce, aad, &mut token[SECRET_AT..])
            .expect("AES-GCM takes every plaintext under 64 GiB");
        token.extend_from_slice(tag.as_ref());
        STANDARD.encode(token)
    }

    /// What a token of this key says; `None` for anything else.
    pub fn open(&self, token: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = decode(token)?;
        let (head, sealed) = bytes.split_at_checked(SECRET_AT)?;
        if version_of(head) != Some(self.version) {
            return None;
        }
        let key = self.token_key(&head[SALT_AT..NONCE_AT]);
        let nonce = nonce_of(&head[NONCE_AT..]);
        let aad = Aad::from(&head[..SALT_AT]);
        let mut opened = Zeroizing::new(sealed.to_vec());
        let length = cipher(key.as_slice())
            .open_in_place(nonce, aad, opened.as_mut_slice())
            .ok()?
            .len();
        opened.truncate(length);
        Some(opened)
    }

    fn token_key(&self, salt: &[u8]) -> Zeroizing<[u8; 32]> {
        let secret = prf_key(self.secret.as_slice());
        derive(&secret, "keyrum session tokens 1", &[salt])
    }
}

/// The version of the key that a token says it is sealed with; `None` for what is no token.
pub fn session_key_version(token: &str) -> Option<u32> {
    version_of(&decode(token)?)
}

fn decode(token: &str) -> Option<Vec<u8>> {
    if token.len() > TOKEN_CHARS_MAX {
        return None;
    }
    STANDARD.decode(token).ok()
}

fn version_of(head: &[u8]) -> Option<u32> {
    let (format, rest) = head.split_first()?;
    let (version, _) = rest.split_first_chunk::<4>()?;
    (*format == FORMAT).then(|| u32::from_be_bytes(*version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CountingEntropy;

    /// Catches a token that opens under another key or version, changed, cut or lengthened, one that
    /// shows what it says, and two alike.
    #[test]
    fn tokens_open_under_their_key_alone() {
        let entropy = CountingEntropy(1.into());
        let secret = SessionTokenKey::generate(&entropy);
        let key = SessionTokenKey::new(2, secret.as_slice()).unwrap();
        let token = key.seal(b"a session", &entropy);
        assert_eq!(session_key_version(&token), Some(2));
        assert_eq!(**key.open(&token).unwrap(), *b"a session");
        assert_ne!(key.seal(b"a session", &entropy), token);
        let bytes = STANDARD.decode(&token).unwrap();
        assert!(!bytes.windows(9).any(|part| part == b"a session"));

        let other = SessionTokenKey::generate(&entropy);
        let other = SessionTokenKey::new(2, other.as_slice()).unwrap();
        let later = SessionTokenKey::new(3, secret.as_slice()).unwrap();
        assert!(other.open(&token).is_none() && later.open(&token).is_none());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(key.open(&STANDARD.encode(changed)).is_none(), "byte {at}");
            assert!(key.open(&STANDARD.encode(&bytes[..at])).is_none());
        }
        for bad in ["", "é", "AAAA", &"A".repeat(TOKEN_CHARS_MAX + 4)] {
            assert!(key.open(bad).is_none() && session_key_version(bad).is_none());
        }
        assert!(SessionTokenKey::new(1, &[0; 31]).is_none());
    }
}
