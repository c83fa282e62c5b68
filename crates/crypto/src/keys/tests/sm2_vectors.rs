//! The examples of GM/T 0003.5-2012 (GB/T 32918.5), appendices A and C, on the recommended curve.

use keyrum_types::{EncryptionAlgorithm, KeySpec, MessageType, SigningAlgorithm};

use super::super::{PeerKeyError, UseError};
use super::{key, unhex};

const PRIVATE: &str = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8";
const PUBLIC: &str = concat!(
    "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020",
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13",
);

/// A DER integer from 32 bytes without zeros in front.
fn integer(hex: &str) -> Vec<u8> {
    let mut digits = unhex(hex);
    if digits[0] >= 0x80 {
        digits.insert(0, 0);
    }
    [&[2, digits.len() as u8][..], &digits].concat()
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    let parts = parts.concat();
    let length = match u8::try_from(parts.len()).unwrap() {
        short @ ..0x80 => vec![short],
        long => vec![0x81, long],
    };
    [vec![0x30], length, parts].concat()
}

/// Catches another curve, identity or hash than the standard's: the message must be hashed with
/// the identity in front, its digest must not be hashed again.
#[test]
fn the_signature_of_the_standard_verifies() {
    let key = key(KeySpec::Sm2, &unhex(PRIVATE));
    assert!(key.public_key_der().unwrap().ends_with(&unhex(PUBLIC)));
    let signature = sequence(&[
        integer("F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"),
        integer("B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"),
    ]);
    let digest = unhex("F0B43E94BA45ACCAACE692ED534382EB17E6AB5A19CE7B31F4486FDFC0D28640");
    let verify = |message_type, message: &[u8]| {
        key.verify(SigningAlgorithm::Sm2Dsa, message_type, message, &signature)
    };
    assert_eq!(verify(MessageType::Raw, b"message digest"), Ok(true));
    assert_eq!(verify(MessageType::Digest, &digest), Ok(true));
    assert_eq!(verify(MessageType::Raw, &digest), Ok(false));
}

/// Catches another order of the ciphertext's parts, or another encoding.
#[test]
fn the_ciphertext_of_the_standard_decrypts() {
    let key = key(KeySpec::Sm2, &unhex(PRIVATE));
    let hash = unhex("59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766");
    let text = unhex("21886CA989CA9C7D58087307CA93092D651EFA");
    let octets = |bytes: &[u8]| [&[4, bytes.len() as u8][..], bytes].concat();
    let ciphertext = sequence(&[
        integer("04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73"),
        integer("E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"),
        octets(&hash),
        octets(&text),
    ]);
    let decrypt = |ciphertext: &[u8]| key.decrypt(EncryptionAlgorithm::Sm2Pke, ciphertext);
    assert_eq!(**decrypt(&ciphertext).unwrap(), *b"encryption standard");
    for at in 0..ciphertext.len() {
        let mut damaged = ciphertext.clone();
        damaged[at] ^= 1;
        let refused = decrypt(&damaged).err();
        assert_eq!(refused, Some(UseError::InvalidCiphertext), "byte {at}");
    }
}

/// Catches a shared secret that is not the x-coordinate of the product: with the private scalar 1
/// it is the peer's own.
#[test]
fn the_shared_secret_is_an_x_coordinate() {
    let owner = key(KeySpec::Sm2, &unhex(PRIVATE));
    let mut one = [0; 32];
    one[31] = 1;
    let base = key(KeySpec::Sm2, &one);
    let x = unhex(&PUBLIC[..64]);
    assert_eq!(*base.agree(owner.public_key_der().unwrap()).unwrap(), x);
    assert_eq!(*owner.agree(base.public_key_der().unwrap()).unwrap(), x);
    let other_curve = key(KeySpec::EccNistP256, &one);
    let refused = owner.agree(other_curve.public_key_der().unwrap()).err();
    assert_eq!(refused, Some(UseError::Peer(PeerKeyError::OtherCurve)));
}

/// Catches a scalar that the standard forbids: zero, and the order less one, which cannot sign.
#[test]
fn scalars_have_their_range() {
    use super::super::sm2::Sm2Key;
    let order = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D541";
    for (last, usable) in [("21", true), ("22", false), ("23", false)] {
        let scalar = unhex(&format!("{order}{last}"));
        assert_eq!(Sm2Key::new(&scalar).is_some(), usable, "{last}");
    }
    assert!(Sm2Key::new(&[0; 32]).is_none());
    assert!(Sm2Key::new(&[1; 31]).is_none());
}
