//! What a certificate says of itself.

use std::fs;
use std::path::Path;

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::{CertsError, hex};

/// The attribute type `commonName`. Source: RFC 5280, appendix A.1, `id-at-commonName` (2.5.4.3).
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The common name of its subject; empty if it has none.
    pub subject: String,
    /// Its serial number, in hex.
    pub serial: String,
    /// The SHA-256 of the whole, in hex.
    pub fingerprint: String,
    /// It is valid from then on, in seconds since 1970.
    pub not_before: u64,
    /// It is valid until then, in seconds since 1970.
    pub not_after: u64,
    /// The subject's public key, encoded.
    #[serde(skip)]
    pub(super) public_key: Vec<u8>,
}

impl Certificate {
    /// Reads what a certificate in DER says; what is wrong with it, if it says nothing.
    pub(crate) fn of(der: &[u8]) -> Result<Self, String> {
        parse(der).map_err(|error| format!("it is no certificate ({error})"))
    }

    /// What the certificates in a PEM file say, in order; at least one.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, CertsError> {
        let of = |der: &CertificateDer<'_>| Self::of(der);
        let found = read_pem(path).and_then(|ders| ders.iter().map(of).collect());
        found.map_err(|reason| CertsError::Damaged {
            path: path.to_owned(),
            reason,
        })
    }
}

/// The certificates in a PEM file, in order; at least one.
pub(crate) fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    match found.is_empty() {
        true => Err("there is no certificate in it".to_owned()),
        false => Ok(found),
    }
}

/// Source: RFC 5280, section 4.1.
fn parse(whole: &[u8]) -> der::Result<Certificate> {
    let mut outer = SliceReader::new(whole)?;
    let certificate = AnyRef::decode(&mut outer)?;
    let mut certificate = SliceReader::new(certificate.value())?;
    let signed = AnyRef::decode(&mut certificate)?;
    let mut fields = SliceReader::new(signed.value())?;
    let version = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(0),
    };
    if Tag::peek(&fields)? == version {
        AnyRef::decode(&mut fields)?;
    }
    let serial = AnyRef::decode(&mut fields)?;
    let _algorithm = AnyRef::decode(&mut fields)?;
    let _issuer = AnyRef::decode(&mut fields)?;
    let validity = AnyRef::decode(&mut fields)?;
    let mut dates = SliceReader::new(validity.value())?;
    let (not_before, not_after) = (date(&mut dates)?, date(&mut dates)?);
    let subject = AnyRef::decode(&mut fields)?;
    let public_key = fields.tlv_bytes()?.to_vec();
    let digest = ring::digest::digest(&ring::digest::SHA256, whole);
    // The sign's own byte says nothing.
    let digits = hex(serial.value());
    Ok(Certificate {
        subject: common_name(subject.value())?,
        serial: digits.strip_prefix("00").unwrap_or(&digits).to_owned(),
        fingerprint: hex(digest.as_ref()),
        not_before,
        not_after,
        public_key,
    })
}

fn date<'a>(reader: &mut impl Reader<'a>) -> der::Result<u64> {
    let since = match Tag::peek(reader)? {
        Tag::UtcTime => UtcTime::decode(reader)?.to_unix_duration(),
        _ => GeneralizedTime::decode(reader)?.to_unix_duration(),
    };
    Ok(since.as_secs())
}

fn common_name(subject: &[u8]) -> der::Result<String> {
    let mut parts = SliceReader::new(subject)?;
    while !parts.is_finished() {
        let part = AnyRef::decode(&mut parts)?;
        let mut attributes = SliceReader::new(part.value())?;
        while !attributes.is_finished() {
            let attribute = AnyRef::decode(&mut attributes)?;
            let mut fields = SliceReader::new(attribute.value())?;
            let name = AnyRef::decode(&mut fields)?;
            if name.tag() == Tag::ObjectIdentifier && name.value() == COMMON_NAME {
                let value = AnyRef::decode(&mut fields)?;
                return Ok(String::from_utf8_lossy(value.value()).into_owned());
            }
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    use super::*;

    /// Catches a date, a name or a serial number that is read wrongly, and a panic on what is no
    /// certificate.
    #[test]
    fn a_certificate_is_read_as_it_was_made() {
        let key = KeyPair::generate().unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        // Before and after 2050 dates have different forms.
        for (from, until) in [
            (0, 1_700_000_000),
            (1_700_000_000, 2_524_608_000),
            (2_524_608_001, 67_090_000_000),
        ] {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, "näme");
            params.serial_number = Some(SerialNumber::from_slice(&[0xf1, 2]));
            params.not_before = epoch + Duration::from_secs(from);
            params.not_after = epoch + Duration::from_secs(until);
            let made = params.self_signed(&key).unwrap();
            let read = Certificate::of(made.der()).unwrap();
            assert_eq!((read.not_before, read.not_after), (from, until));
            assert_eq!((&*read.subject, &*read.serial), ("näme", "f102"));
            assert_eq!(read.fingerprint.len(), 64);
            assert_eq!(
                read.public_key,
                rcgen::PublicKeyData::subject_public_key_info(&key)
            );
            for length in 0..made.der().len() {
                assert!(Certificate::of(&made.der()[..length]).is_err(), "{length}");
            }
        }
    }
}
