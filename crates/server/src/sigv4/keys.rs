//! Signing keys: derived from a secret for a day, a Region and a service, and kept.

use std::sync::{Mutex, OnceLock, PoisonError};

use ring::hmac;
use zeroize::Zeroizing;

/// Most signing keys kept; a power of two. Unit: keys of about 300 bytes.
const KEPT_MAX: usize = 1024;

/// What signs and verifies one access key's requests of one day, in one Region, for one service.
pub(super) type SigningKey = Zeroizing<[u8; 32]>;

/// The signing keys that were used last. Each has one place it may be in, so room and work are
/// bounded; where two want one place, each is derived again when its turn comes.
#[derive(Default)]
pub(super) struct SigningKeys(OnceLock<Box<[Mutex<Option<Kept>>]>>);

struct Kept {
    access_key: Box<str>,
    scope: Box<str>,
    /// So that a key is not used for another secret of the same name.
    secret: Zeroizing<Vec<u8>>,
    key: SigningKey,
}

impl SigningKeys {
    /// The signing key of an access key for a scope (`DATE/REGION/SERVICE/aws4_request`).
    pub(super) fn of(&self, access_key: &str, scope: &str, secret: &[u8]) -> SigningKey {
        let places = self
            .0
            .get_or_init(|| (0..KEPT_MAX).map(|_| Mutex::default()).collect());
        let place = &places[place_of(access_key, scope)];
        // A panic elsewhere cannot leave half a key behind.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*place
            && *kept.access_key == *access_key
            && *kept.scope == *scope
            && *kept.secret == secret
        {
            return kept.key.clone();
        }
        let key = derive(secret, scope);
        *place = Some(Kept {
            access_key: access_key.into(),
            scope: scope.into(),
            secret: Zeroizing::new(secret.to_vec()),
            key: key.clone(),
        });
        key
    }
}

/// Source: AWS IAM User Guide, "Create a signed AWS API request", step 3.
fn derive(secret: &[u8], scope: &str) -> SigningKey {
    let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret);
    let mut key = sign(&first, b"");
    for (number, part) in scope.split('/').enumerate() {
        key = if number == 0 {
            sign(&first, part.as_bytes())
        } else {
            sign(&*key, part.as_bytes())
        };
    }
    key
}

fn sign(key: &[u8], text: &[u8]) -> SigningKey {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(tag.as_ref());
    out
}

/// Eight bytes at a step, turned and multiplied, of which the upper bits are the mixed ones. Who chooses
/// names so that they meet only has own keys derived again.
fn place_of(access_key: &str, scope: &str) -> usize {
    let mut hash = 0_u64;
    for text in [access_key, scope] {
        for part in text.as_bytes().chunks(8) {
            let mut eight = [0; 8];
            eight[..part.len()].copy_from_slice(part);
            let mixed = hash.rotate_left(5) ^ u64::from_le_bytes(eight);
            hash = mixed.wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
    (hash >> (u64::BITS - KEPT_MAX.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a key of another secret, scope or access key that is taken for the one asked for.
    #[test]
    fn kept_keys_are_the_ones_asked_for() {
        let keys = SigningKeys::default();
        let scope = |day: usize| format!("201508{:02}/us-east-1/iam/aws4_request", day % 30 + 1);
        for round in 0..2 {
            for number in 0..3 * KEPT_MAX {
                let (name, secret) = (format!("AK{}", number / 2), format!("s{}", number % 7));
                let kept = keys.of(&name, &scope(number), secret.as_bytes());
                let derived = derive(secret.as_bytes(), &scope(number));
                assert_eq!(*kept, *derived, "{round} {number}");
            }
        }
    }

    /// Catches keys that all want the same few places.
    #[test]
    fn keys_have_places_of_their_own() {
        let place = |number: usize| {
            let name = format!("AKIA{number:016}");
            place_of(&name, "20150830/us-east-1/kms/aws4_request")
        };
        let places: std::collections::BTreeSet<_> = (0..KEPT_MAX).map(place).collect();
        // Of as many thrown at random, 63 in 100 places are hit.
        assert!(places.len() > KEPT_MAX / 2, "{}", places.len());
        assert!(places.last() < Some(&KEPT_MAX));
        let days = (1..=31).map(|day| {
            let scope = format!("201508{day:02}/us-east-1/kms/aws4_request");
            place_of("AKIDEXAMPLE", &scope)
        });
        assert!(days.collect::<std::collections::BTreeSet<_>>().len() > 20);
    }

    /// Catches a derivation that is not the real one. Source: AWS General Reference, "Examples of how
    /// to derive a signing key".
    #[test]
    fn keys_are_derived_as_published() {
        let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let key = derive(secret, "20150830/us-east-1/iam/aws4_request");
        assert_eq!(
            String::from_utf8(super::super::hex(&key).to_vec()).unwrap(),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }
}
