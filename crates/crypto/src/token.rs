//! Opaque tokens that a caller brings back, such as pagination markers: text, authenticated, and
//! good only for what they were issued for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// Bytes of the authentication tag in front of the payload: half of HMAC-SHA-256's output.
const TAG_BYTES: usize = 16;

/// Issues and opens tokens. Made by [`DomainKeyring::token_key`](crate::DomainKeyring::token_key),
/// so every node of a Region takes every other's tokens.
pub struct TokenKey(pub(crate) hmac::Key);

impl TokenKey {
    /// A token that carries `payload`, readable by anyone, for `purpose` only: the operation and
    /// everything else that must be the same when it comes back.
    pub fn issue(&self, purpose: &[&[u8]], payload: &[u8]) -> String {
        let tag = self.tag(purpose, payload);
        URL_SAFE_NO_PAD.encode([&tag.as_ref()[..TAG_BYTES], payload].concat())
    }

    /// The payload of a token issued for the same purpose; `None` for any other text.
    pub fn open(&self, purpose: &[&[u8]], token: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, payload) = bytes.split_at_checked(TAG_BYTES)?;
        let expected = self.tag(purpose, payload);
        crate::ciphertext::same_secret(tag, &expected.as_ref()[..TAG_BYTES])
            .then(|| payload.to_vec())
    }

    fn tag(&self, purpose: &[&[u8]], payload: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.0);
        for part in purpose.iter().chain([&payload]) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kdf::prf_key;

    /// Catches a token that is taken for another purpose, by another key, changed, or cut.
    #[test]
    fn tokens_open_only_for_their_purpose() {
        let key = TokenKey(prf_key(b"one"));
        let token = key.issue(&[b"ListKeys", b"account"], b"payload");
        let open = |purpose: &[&[u8]], token: &str| key.open(purpose, token);
        assert_eq!(
            open(&[b"ListKeys", b"account"], &token),
            Some(b"payload".to_vec())
        );
        assert_eq!(open(&[b"ListKeysa", b"ccount"], &token), None);
        assert_eq!(open(&[b"ListAliases", b"account"], &token), None);
        assert_eq!(open(&[b"ListKeys"], &token), None);
        assert_eq!(
            TokenKey(prf_key(b"two")).open(&[b"ListKeys", b"account"], &token),
            None
        );
        for bad in ["", "AAAA", "é", &token[1..], &token[..token.len() - 1]] {
            assert_eq!(open(&[b"ListKeys", b"account"], bad), None, "{bad}");
        }
    }
}
