//! The form of an attestation document: a COSE_Sign1 message (RFC 9052, section 4.2) whose payload
//! is a CBOR map. Sources: AWS Nitro Enclaves User Guide, "Verifying the root of trust"; for
//! NitroTPM, Amazon EC2 User Guide, "NitroTPM Attestation Document contents".
//!
//! Read strictly, in place and without recursion: each item must be of the one kind that may stand
//! there, with a length in front, so hostile nesting ends at its first item. Fields that the sources
//! do not name are refused.

use std::collections::BTreeMap;
use std::str;

use ciborium_ll::{Decoder, Header};

use super::{AttestationError, Pcrs};

/// CBOR's tag for COSE_Sign1, which may stand in front. Source: RFC 9052, section 2.
const SIGN1_TAG: u64 = 18;

/// The protected header: a map of one entry, algorithm (1) = ES384 (-35). It is always written like
/// this.
const PROTECTED: &[u8] = b"\xa1\x01\x38\x22";

/// What stands before the payload in the bytes that are signed (RFC 9052, section 4.4): the array's
/// head, the context, the protected header, and no further data.
const SIGNED_BEFORE_PAYLOAD: &[u8] = b"\x84\x6aSignature1\x44\xa1\x01\x38\x22\x40";

/// CBOR's null.
const NULL: u8 = 22;

/// Bytes in an ES384 signature: both numbers, each as long as the curve's order.
const SIGNATURE_BYTES: usize = 96;

/// Bytes in a measurement; the digest is always SHA384.
const PCR_BYTES: usize = 48;

/// Most measurements an enclave has. Those of a TPM are fewer.
const PCRS_MAX: usize = 32;

/// Longest module id. Nitro's have 39 bytes.
const MODULE_ID_BYTES_MAX: usize = 1024;

/// Longest certificate. Nitro's have less than 1 KiB; one's own may have long names.
const CERTIFICATE_BYTES_MAX: usize = 4096;

/// Most certificates beside the signer's. Nitro's documents have four; `webpki` takes six between
/// signer and root.
const BUNDLE_MAX: usize = 8;

/// Longest `public_key`, `user_data` and `nonce`.
const FIELD_BYTES_MAX: usize = 1024;

/// A document taken apart. Nothing of it is verified.
pub(super) struct Document<'a> {
    pub(super) payload: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// What the payload says.
pub(super) struct Payload<'a> {
    /// When it was made: milliseconds since 1970.
    pub(super) timestamp: u64,
    /// Names the enclave and its host.
    pub(super) module_id: &'a str,
    pub(super) pcrs: Pcrs,
    /// The signer's certificate, DER.
    pub(super) certificate: &'a [u8],
    /// The certificates above it, root first.
    pub(super) bundle: Vec<&'a [u8]>,
    pub(super) public_key: Option<&'a [u8]>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, AttestationError> {
        let mut reader = Reader(bytes);
        let mut header = reader.pull()?;
        if header == Header::Tag(SIGN1_TAG) {
            header = reader.pull()?;
        }
        if header != Header::Array(Some(4)) {
            return Err(malformed("it is not a COSE_Sign1 message"));
        }
        if reader.bytes(PROTECTED.len())? != PROTECTED {
            return Err(malformed("its signature's algorithm is not ES384"));
        }
        if reader.pull()? != Header::Map(Some(0)) {
            return Err(malformed("its unprotected header is not empty"));
        }
        let payload = reader.bytes(usize::MAX)?;
        let signature = reader.bytes(SIGNATURE_BYTES)?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(malformed("its signature has the wrong length"));
        }
        reader.end()?;
        Ok(Self { payload, signature })
    }

    /// The bytes that are signed. A payload that was parsed is not so short that its head has no
    /// length of its own.
    pub(super) fn signed(&self) -> Vec<u8> {
        let payload = self.payload;
        let mut signed = SIGNED_BEFORE_PAYLOAD.to_vec();
        match payload.len() {
            bytes @ 0..=0xff => signed.extend([0x58, bytes as u8]),
            bytes @ 0x100..=0xffff => {
                signed.push(0x59);
                signed.extend((bytes as u16).to_be_bytes());
            }
            bytes => {
                signed.push(0x5a);
                signed.extend((bytes as u32).to_be_bytes());
            }
        }
        signed.extend(payload);
        signed
    }
}

impl<'a> Payload<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, AttestationError> {
        let mut reader = Reader(bytes);
        let Header::Map(Some(fields)) = reader.pull()? else {
            return Err(malformed("its payload is not a map"));
        };
        let (mut module_id, mut digest, mut timestamp) = (None, None, None);
        let (mut pcrs, mut certificate, mut bundle) = (None, None, None);
        let (mut public_key, mut user_data, mut nonce) = (None, None, None);
        for _ in 0..fields {
            match reader.text(usize::MAX)? {
                "module_id" => once(&mut module_id, reader.text(MODULE_ID_BYTES_MAX)?)?,
                "digest" => once(&mut digest, reader.text(usize::MAX)?)?,
                "timestamp" => once(&mut timestamp, reader.number()?)?,
                "pcrs" => once(&mut pcrs, Pcrs::Enclave(reader.pcrs()?))?,
                "nitrotpm_pcrs" => once(&mut pcrs, Pcrs::NitroTpm(reader.pcrs()?))?,
                "certificate" => once(&mut certificate, reader.bytes(CERTIFICATE_BYTES_MAX)?)?,
                "cabundle" => once(&mut bundle, reader.bundle()?)?,
                "public_key" => once(&mut public_key, reader.optional_bytes()?)?,
                "user_data" => once(&mut user_data, reader.optional_bytes()?)?,
                "nonce" => once(&mut nonce, reader.optional_bytes()?)?,
                _ => return Err(malformed("its payload has an unknown field")),
            }
        }
        reader.end()?;
        let missing = || malformed("its payload lacks a field");
        let module_id = module_id.ok_or_else(missing)?;
        if module_id.is_empty() {
            return Err(malformed("its module_id is empty"));
        }
        if digest.ok_or_else(missing)? != "SHA384" {
            return Err(malformed("its digest is not SHA384"));
        }
        Ok(Self {
            timestamp: timestamp.ok_or_else(missing)?,
            module_id,
            pcrs: pcrs.ok_or_else(missing)?,
            certificate: certificate.ok_or_else(missing)?,
            bundle: bundle.ok_or_else(missing)?,
            public_key: public_key.flatten(),
        })
    }
}

fn malformed(what: &'static str) -> AttestationError {
    AttestationError::Malformed { what }
}

/// Keeps a field's value; no field may come twice.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), AttestationError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed("its payload has a field twice")),
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next item's head.
    fn pull(&mut self) -> Result<Header, AttestationError> {
        let mut decoder = Decoder::from(self.0);
        let header = decoder.pull();
        let header = header.map_err(|_| malformed("it is not CBOR, or cut off"))?;
        self.0 = &self.0[decoder.offset()..];
        Ok(header)
    }

    /// What a head said is next.
    fn take(&mut self, bytes: usize, bytes_max: usize) -> Result<&'a [u8], AttestationError> {
        if bytes > bytes_max {
            return Err(malformed("a part of it is too long"));
        }
        let parts = self.0.split_at_checked(bytes);
        let (taken, rest) = parts.ok_or_else(|| malformed("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self, bytes_max: usize) -> Result<&'a [u8], AttestationError> {
        match self.pull()? {
            Header::Bytes(Some(bytes)) => self.take(bytes, bytes_max),
            _ => Err(malformed("a part of it is not a byte string")),
        }
    }

    /// A byte string or null.
    fn optional_bytes(&mut self) -> Result<Option<&'a [u8]>, AttestationError> {
        match self.pull()? {
            Header::Bytes(Some(bytes)) => self.take(bytes, FIELD_BYTES_MAX).map(Some),
            Header::Simple(NULL) => Ok(None),
            _ => Err(malformed("a part of it is neither a byte string nor null")),
        }
    }

    fn text(&mut self, bytes_max: usize) -> Result<&'a str, AttestationError> {
        match self.pull()? {
            Header::Text(Some(bytes)) => str::from_utf8(self.take(bytes, bytes_max)?)
                .map_err(|_| malformed("a text in it is not UTF-8")),
            _ => Err(malformed("a part of it is not a text")),
        }
    }

    fn number(&mut self) -> Result<u64, AttestationError> {
        match self.pull()? {
            Header::Positive(number) => Ok(number),
            _ => Err(malformed("a part of it is not a number")),
        }
    }

    fn pcrs(&mut self) -> Result<BTreeMap<u8, [u8; PCR_BYTES]>, AttestationError> {
        let count = match self.pull()? {
            Header::Map(Some(count @ 1..=PCRS_MAX)) => count,
            _ => return Err(malformed("its measurements are not a map of 1 to 32")),
        };
        let mut pcrs = BTreeMap::new();
        for _ in 0..count {
            let index = self.number()?;
            let index = u8::try_from(index).ok();
            let index = index.filter(|&index| usize::from(index) < PCRS_MAX);
            let index = index.ok_or_else(|| malformed("a measurement's index is above 31"))?;
            let value = self.bytes(PCR_BYTES)?.try_into();
            let value = value.map_err(|_| malformed("a measurement has the wrong length"))?;
            if pcrs.insert(index, value).is_some() {
                return Err(malformed("it has a measurement twice"));
            }
        }
        Ok(pcrs)
    }

    fn bundle(&mut self) -> Result<Vec<&'a [u8]>, AttestationError> {
        match self.pull()? {
            Header::Array(Some(count @ 1..=BUNDLE_MAX)) => (0..count)
                .map(|_| self.bytes(CERTIFICATE_BYTES_MAX))
                .collect(),
            _ => Err(malformed("its cabundle is not a list of 1 to 8")),
        }
    }

    fn end(&self) -> Result<(), AttestationError> {
        match self.0 {
            [] => Ok(()),
            _ => Err(malformed("something follows its end")),
        }
    }
}
