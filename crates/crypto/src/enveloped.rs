//! Secrets for one RSA key: CMS EnvelopedData (RFC 5652, section 6), content with AES-256-CBC, the
//! content's key with RSAES-OAEP and SHA-256 (RFC 3560, RFC 4055).
//!
//! Byte for byte in the real service's form, since clients read nothing else: lengths of the outer
//! structures are left open (BER), the recipient is named by a subject key identifier of 32 bytes,
//! and both versions are 2. Source: aws-nitro-enclaves-sdk-c, source/cms.c and tests/cms_test.c.
//! The encrypted content is one octet string, however long it is.

use aws_lc_rs::cipher::{
    AES_256, AES_256_KEY_LEN, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey};
use der::{Encode, Length};
use keyrum_types::Entropy;
use zeroize::Zeroizing;

use crate::UseError;

/// Bytes in the name of the recipient's key.
///
/// Deviation: what the real service hashes there is not published; here it is the
/// SubjectPublicKeyInfo (RFC 7093, section 2, method 4).
pub(crate) const KEY_ID_BYTES: usize = 32;

/// Bytes in a block of AES, the most that padding adds.
const BLOCK_BYTES: usize = 16;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
/// `[0] IMPLICIT OCTET STRING`: the subject key identifier.
const KEY_ID: u8 = 0x80;

/// ContentInfo, open: id-envelopedData; `[0]`, open; EnvelopedData, open: version 2.
const HEAD: &[u8] =
    b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0\x80\x30\x80\x02\x01\x02";

/// KeyTransRecipientInfo's version 2: it names a key, not a certificate.
const RECIPIENT_VERSION: &[u8] = b"\x02\x01\x02";

/// id-RSAES-OAEP with SHA-256, and MGF1 with SHA-256.
const OAEP: &[u8] = b"\x30\x3c\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07\x30\x2f\
    \xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
    \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\
    \x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00";

/// EncryptedContentInfo, open: id-data; aes256-CBC and the head of its IV.
const CONTENT: &[u8] = b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\
    \x30\x1d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a\x04\x10";

/// `[0]`, open: the encrypted content.
const ENCRYPTED: &[u8] = b"\xa0\x80";

/// The ends of the five structures whose lengths were left open.
const ENDS: &[u8] = &[0; 10];

/// Encrypts a secret of at most some kilobytes to the holder of a key.
pub(crate) fn envelop(
    secret: &[u8],
    key: &OaepPublicEncryptingKey,
    key_id: [u8; KEY_ID_BYTES],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, UseError> {
    let failed = |_| UseError::Library("aws-lc");
    let mut content_key = Zeroizing::new([0; AES_256_KEY_LEN]);
    entropy.fill(&mut *content_key);
    let mut iv = [0; BLOCK_BYTES];
    entropy.fill(&mut iv);

    let aes = UnboundCipherKey::new(&AES_256, &*content_key).map_err(failed)?;
    let aes = PaddedBlockEncryptingKey::cbc_pkcs7(aes).map_err(failed)?;
    // Encrypted where it stands, and never moved for lack of room.
    let mut content = Zeroizing::new(Vec::with_capacity(secret.len() + BLOCK_BYTES));
    content.extend_from_slice(secret);
    let with_iv = EncryptionContext::Iv128(FixedLength::from(iv));
    aes.less_safe_encrypt(&mut *content, with_iv)
        .map_err(failed)?;
    let mut encrypted_key = vec![0; key.ciphertext_size()];
    let oaep = &OAEP_SHA256_MGF1SHA256;
    let sealed = key.encrypt(oaep, &*content_key, &mut encrypted_key, None);
    sealed.map_err(failed)?;

    let recipient = [
        RECIPIENT_VERSION,
        &tagged(KEY_ID, &[&key_id]),
        OAEP,
        &tagged(OCTET_STRING, &[&encrypted_key]),
    ];
    let recipients = tagged(SET, &[&tagged(SEQUENCE, &recipient)]);
    let content = tagged(OCTET_STRING, &[&content]);
    Ok([HEAD, &recipients, CONTENT, &iv, ENCRYPTED, &content, ENDS].concat())
}

/// A value in DER behind its tag and length.
fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut tagged = vec![tag];
    Length::try_from(value.len())
        .and_then(|length| length.encode_to_vec(&mut tagged))
        .expect("a few kilobytes have a length");
    tagged.extend(value);
    tagged
}
