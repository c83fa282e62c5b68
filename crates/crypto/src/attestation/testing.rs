//! An enclave and its certificates, made up: for this crate's tests, and for those of the API.

// Two crates have this file: one sees it from outside.
#![allow(unreachable_pub)]

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

/// A document's fields in their order: a name, and the value in CBOR.
pub type Fields = Vec<(&'static str, Vec<u8>)>;

/// First and last day of a certificate; year, month, day.
pub type Days = [(i32, u8, u8); 2];

/// Days that hold for as long as these tests do.
pub const ALWAYS: Days = [(2020, 1, 1), (2090, 1, 1)];

/// A root, an authority below it, and a signer of documents.
pub struct Hypervisor {
    /// The root, in PEM.
    pub root_pem: String,
    /// The certificates above the signer's, root first, in DER.
    pub bundle: Vec<Vec<u8>>,
    /// The signer's certificate, in DER.
    pub certificate: Vec<u8>,
    signing: EcdsaKeyPair,
}

/// The key that an enclave makes for its answers.
pub struct Enclave {
    decrypting: OaepPrivateDecryptingKey,
    /// The public half, a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// The private half, PKCS#8 in DER.
    pub private_key: Vec<u8>,
}

fn params(name: &str, authority: bool, [from, to]: Days) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(to.0, to.1, to.2);
    (params.is_ca, params.key_usages) = match authority {
        true => (
            IsCa::Ca(BasicConstraints::Unconstrained),
            vec![KeyUsagePurpose::KeyCertSign],
        ),
        false => (IsCa::ExplicitNoCa, vec![KeyUsagePurpose::DigitalSignature]),
    };
    params
}

impl Hypervisor {
    /// With certificates that are always valid.
    pub fn make() -> Self {
        Self::valid(ALWAYS, ALWAYS)
    }

    /// The authority's and the signer's certificates are valid on these days.
    pub fn valid(authority: Days, signer: Days) -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let [root_key, authority_key, signer_key] = [key(), key(), key()];
        let root = params("test root", true, ALWAYS);
        let root_certificate = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);
        let authority = params("test authority", true, authority);
        let authority_certificate = authority.signed_by(&authority_key, &root).unwrap();
        let authority = Issuer::new(authority, authority_key);
        let signer = params("test signer", false, signer);
        let certificate = signer.signed_by(&signer_key, &authority).unwrap();
        let pkcs8 = signer_key.serialize_der();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &pkcs8);
        Self {
            root_pem: root_certificate.pem(),
            bundle: [root_certificate.der(), authority_certificate.der()]
                .map(|der| der.to_vec())
                .to_vec(),
            certificate: certificate.der().to_vec(),
            signing: signing.unwrap(),
        }
    }

    /// What a document of this time (milliseconds since 1970) for this key says.
    pub fn fields(&self, now_ms: u64, public_key: &[u8]) -> Fields {
        let mut pcrs = head(5, 16);
        for index in 0..16 {
            pcrs.extend([head(0, u64::from(index)), bytes(&[index; 48])].concat());
        }
        let mut bundle = head(4, self.bundle.len());
        bundle.extend(self.bundle.iter().flat_map(|der| bytes(der)));
        vec![
            ("module_id", text("i-0123456789abcdef0-enc0123456789abcdef")),
            ("digest", text("SHA384")),
            ("timestamp", head(0, now_ms)),
            ("pcrs", pcrs),
            ("certificate", bytes(&self.certificate)),
            ("cabundle", bundle),
            ("public_key", bytes(public_key)),
            ("user_data", vec![0xf6]),
            ("nonce", bytes(b"nonce")),
        ]
    }

    /// A document that says this.
    pub fn document(&self, fields: &Fields) -> Vec<u8> {
        let mut payload = head(5, fields.len());
        for (name, value) in fields {
            payload.extend([text(name), value.clone()].concat());
        }
        self.signed(&payload)
    }

    /// A document with this payload.
    pub fn signed(&self, payload: &[u8]) -> Vec<u8> {
        let protected = bytes(b"\xa1\x01\x38\x22");
        let signed = [
            &b"\x84"[..],
            &text("Signature1"),
            &protected,
            &bytes(b""),
            &bytes(payload),
        ]
        .concat();
        let signature = self.signing.sign(&SystemRandom::new(), &signed).unwrap();
        let parts = [
            b"\x84",
            &protected[..],
            b"\xa0",
            &bytes(payload),
            &bytes(signature.as_ref()),
        ];
        parts.concat()
    }

    /// A document that an enclave with this key gets now.
    pub fn attest(&self, now_ms: u64, enclave: &Enclave) -> Vec<u8> {
        self.document(&self.fields(now_ms, &enclave.public_key))
    }
}

impl Enclave {
    /// One with a new key.
    pub fn new(size: KeySize) -> Self {
        let key = PrivateDecryptingKey::generate(size).unwrap();
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        Self {
            public_key: public.as_ref().to_vec(),
            private_key: private.as_ref().to_vec(),
            decrypting: OaepPrivateDecryptingKey::new(key).unwrap(),
        }
    }

    /// Reads an answer. Takes it apart as aws-nitro-enclaves-sdk-c does, which looks for these very
    /// versions and algorithms, but the place of each byte has to be right as well.
    pub fn open(&self, answer: &[u8]) -> Vec<u8> {
        self.try_open(answer).expect("it is for this enclave")
    }

    /// The same, and nothing if it is for another.
    pub fn try_open(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let mut rest = answer;
        expect(&mut rest, "308006092a864886f70d010703a0803080020102");
        let mut set = value(&mut rest, 0x31);
        let mut recipient = value(&mut set, 0x30);
        expect(&mut recipient, "0201028020");
        let (_key_id, mut recipient) = recipient.split_at(32);
        expect(
            &mut recipient,
            "303c06092a864886f70d010107302fa00f300d06096086480165030402010500a11c301a06092a\
             864886f70d010108300d06096086480165030402010500",
        );
        let key = value(&mut recipient, 0x04);
        assert!(set.is_empty() && recipient.is_empty());
        expect(
            &mut rest,
            "308006092a864886f70d010701301d060960864801650304012a0410",
        );
        let (iv, mut rest) = rest.split_at(16);
        expect(&mut rest, "a080");
        let mut content = value(&mut rest, 0x04).to_vec();
        assert_eq!(rest, [0; 10]);

        let mut opened = vec![0; self.decrypting.min_output_size()];
        let oaep = &OAEP_SHA256_MGF1SHA256;
        let opened = self.decrypting.decrypt(oaep, key, &mut opened, None);
        let aes = UnboundCipherKey::new(&AES_256, opened.ok()?).unwrap();
        let aes = PaddedBlockDecryptingKey::cbc_pkcs7(aes).unwrap();
        let iv = FixedLength::from(<[u8; 16]>::try_from(iv).unwrap());
        let context = DecryptionContext::Iv128(iv);
        Some(aes.decrypt(&mut content, context).unwrap().to_vec())
    }
}

fn expect(rest: &mut &[u8], hex: &str) {
    let (head, tail) = rest.split_at(hex.len() / 2);
    let found: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, hex);
    *rest = tail;
}

/// The value behind a tag and a length in DER.
fn value<'a>(rest: &mut &'a [u8], tag: u8) -> &'a [u8] {
    assert_eq!(rest[0], tag);
    let (start, bytes) = match rest[1] {
        short @ ..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(rest[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
        other => panic!("{other:#x}"),
    };
    let (value, tail) = rest[start..].split_at(bytes);
    *rest = tail;
    value
}

/// A head in CBOR: a kind of item, 0 to 7, and its number.
pub fn head(kind: u8, number: impl TryInto<u64>) -> Vec<u8> {
    let number = number.try_into().ok().unwrap();
    let bytes = number.to_be_bytes();
    let (more, from) = match number {
        0..24 => return vec![kind << 5 | bytes[7]],
        24..0x100 => (24, 7),
        0x100..0x1_0000 => (25, 6),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 0),
    };
    [&[kind << 5 | more], &bytes[from..]].concat()
}

/// A byte string in CBOR.
pub fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&head(2, bytes.len())[..], bytes].concat()
}

/// A text in CBOR.
pub fn text(text: &str) -> Vec<u8> {
    [&head(3, text.len())[..], text.as_bytes()].concat()
}
