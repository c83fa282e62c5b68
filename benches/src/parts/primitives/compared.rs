//! Keyrum's own crate beside the libraries' bare calls, in turns.

use std::hint::black_box;

use keyrum_crypto::{
    EncryptionContext, KeyName, MadeBy, MaterialSecret, UsableKey, encrypt, generate_material,
};
use keyrum_types::{
    EncryptionAlgorithm, Entropy, KeyId, KeySpec, MacAlgorithm, MessageType, SigningAlgorithm,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::time::{ClockId, clock_gettime};

use super::library::{self, Bare};
use super::openssl;
use crate::report::{Report, Row, Verdict};
use crate::turns::{TURNS, median};
use crate::{Failure, Setting};

/// What is signed, authenticated and encrypted.
pub(super) const MESSAGE: &[u8] = &[7; 1024];

/// The part of a slice that each contestant has in each turn: there are many.
const PART_OF_SLICE: f64 = 0.05;

/// Which share of the bare call's rate is asked for.
const SHARE: f64 = 0.9;

/// The machine's randomness.
pub(super) struct Random(SystemRandom);

impl Random {
    pub(super) fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("the system has randomness");
    }
}

struct Contest<'a> {
    report: &'a mut Report,
    seconds: f64,
}

/// Processor time of this thread so far, in seconds.
fn used() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Calls a second of processor time, so that whatever else the machine does matters little.
fn rate(seconds: f64, work: &mut dyn FnMut()) -> f64 {
    let start = used();
    let mut calls = 0_u32;
    let mut batch = 1_u32;
    loop {
        for _ in 0..batch {
            work();
        }
        calls += batch;
        let took = used() - start;
        if took >= seconds {
            return f64::from(calls) / took;
        }
        // So that looking at the clock costs nothing.
        batch = (batch * 2).min(1 + calls / 8);
    }
}

/// Microseconds of processor time a call while every core makes the same: what it costs in a busy
/// process, whose cores share caches, power and sometimes their units.
pub(super) fn busy_us(seconds: f64, work: &(dyn Fn() + Sync)) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let each = || scope.spawn(|| 1e6 / rate(seconds, &mut || work()));
        let all: Vec<_> = (0..cores).map(|_| each()).collect();
        let all = all
            .into_iter()
            .map(|thread| thread.join().expect("no call fails"));
        all.sum::<f64>() / cores as f64
    })
}

impl Contest<'_> {
    fn take(
        &mut self,
        what: &'static str,
        mut ours: impl FnMut(),
        bare: Vec<Bare>,
        openssl: Option<f64>,
        target: bool,
    ) {
        let mut bare: Vec<_> = bare
            .into_iter()
            .map(|(name, work)| (name, work, Vec::new()))
            .collect();
        let mut rates = Vec::new();
        for _ in 0..TURNS {
            rates.push(rate(self.seconds, &mut ours));
            for (_, work, rates) in &mut bare {
                rates.push(rate(self.seconds, work));
            }
        }
        let best = bare
            .iter()
            .max_by(|one, other| median(one.2.clone()).total_cmp(&median(other.2.clone())));
        let (name, _, theirs) = best.expect("there is a library");
        let shares = rates.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        let share = median(shares.collect());
        let (ours, theirs) = (median(rates), median(theirs.clone()));
        let beside = match openssl {
            Some(figure) => format!("openssl {figure:.0}/s"),
            None => "openssl has none".to_owned(),
        };
        self.report.row(&Row {
            what,
            group: "1 thread",
            target: if target { ">= 90 % of the library" } else { "" },
            figure: format!(
                "{ours:.0}/s ({:.1} us), {name} {theirs:.0}/s, {beside}",
                1e6 / ours
            ),
            ratio: format!("{:.1} %", 100.0 * share),
            verdict: match target {
                true => Verdict::of(share >= SHARE),
                false => Verdict::Reference,
            },
        });
    }
}

pub(super) fn key(spec: KeySpec) -> Result<UsableKey, Failure> {
    let secret = generate_material(spec, "aws", &Random::new())?;
    Ok(UsableKey::new(spec, &secret)?)
}

pub(super) fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let version = openssl::version().unwrap_or_else(|| "there is no openssl".to_owned());
    report.detail(format!(
        "primitives: messages of 1 KiB, keys taken apart before, a second is one of processor time, \
         {TURNS} turns each; {version}, one \
         run of a second each"
    ));
    let mut contest = Contest {
        report,
        seconds: setting.slice_seconds * PART_OF_SLICE,
    };
    ciphers(&mut contest)?;
    macs(&mut contest)?;
    rsa(&mut contest)?;
    curves(&mut contest)?;
    lattices(&mut contest)?;
    Ok(())
}

fn ciphers(contest: &mut Contest<'_>) -> Result<(), Failure> {
    let random = Random::new();
    let name = KeyName {
        account: "000000000000".parse()?,
        key: KeyId::single_region([7; 16]),
    };
    let context = EncryptionContext::default();
    for (what, spec_of, bare, speed) in [
        (
            "AES-256-GCM with a derived key",
            "aws",
            library::aes()?,
            "aes-256-gcm",
        ),
        (
            "SM4-GCM with a derived key",
            "aws-cn",
            library::sm4(),
            "sm4-gcm",
        ),
    ] {
        let secret: MaterialSecret =
            generate_material(KeySpec::SymmetricDefault, spec_of, &random)?;
        let id = secret.id(name.key);
        let speed = openssl::blocks(&["-evp", speed]);
        let ours = || {
            let made_by = MadeBy::Encrypt;
            black_box(encrypt(
                &secret, id, name, &context, MESSAGE, made_by, &random,
            ));
        };
        // Each ciphertext has a key of its own, which no bare call has.
        contest.take(what, ours, bare, speed, false);
    }
    Ok(())
}

fn macs(contest: &mut Contest<'_>) -> Result<(), Failure> {
    for (what, spec, algorithm, bits) in [
        (
            "HMAC_SHA_224",
            KeySpec::Hmac224,
            MacAlgorithm::HmacSha224,
            224,
        ),
        (
            "HMAC_SHA_256",
            KeySpec::Hmac256,
            MacAlgorithm::HmacSha256,
            256,
        ),
        (
            "HMAC_SHA_384",
            KeySpec::Hmac384,
            MacAlgorithm::HmacSha384,
            384,
        ),
        (
            "HMAC_SHA_512",
            KeySpec::Hmac512,
            MacAlgorithm::HmacSha512,
            512,
        ),
    ] {
        let key = key(spec)?;
        let speed = openssl::blocks(&["-hmac", &format!("sha{bits}")]);
        let ours = || {
            drop(black_box(
                key.mac(algorithm, MESSAGE).expect("it is its own"),
            ))
        };
        contest.take(what, ours, library::mac(bits), speed, true);
    }
    Ok(())
}

pub(super) fn sign(key: &UsableKey, algorithm: SigningAlgorithm, random: &Random) {
    let signed = key.sign(algorithm, MessageType::Raw, MESSAGE, random);
    black_box(signed.expect("it signs"));
}

fn rsa(contest: &mut Contest<'_>) -> Result<(), Failure> {
    let random = Random::new();
    for (names, spec, bits) in [
        (
            [
                "RSA_2048 PSS",
                "RSA_2048 PKCS1",
                "RSA_2048 OAEP, decryption",
            ],
            KeySpec::Rsa2048,
            2048,
        ),
        (
            [
                "RSA_3072 PSS",
                "RSA_3072 PKCS1",
                "RSA_3072 OAEP, decryption",
            ],
            KeySpec::Rsa3072,
            3072,
        ),
        (
            [
                "RSA_4096 PSS",
                "RSA_4096 PKCS1",
                "RSA_4096 OAEP, decryption",
            ],
            KeySpec::Rsa4096,
            4096,
        ),
    ] {
        let key = key(spec)?;
        let speed = openssl::signatures(&format!("rsa{bits}"));
        let algorithm = SigningAlgorithm::RsassaPssSha256;
        let bare = library::rsa_sign(bits, true)?;
        contest.take(
            names[0],
            || sign(&key, algorithm, &random),
            bare,
            speed,
            true,
        );
        let algorithm = SigningAlgorithm::RsassaPkcs1V15Sha256;
        let bare = library::rsa_sign(bits, false)?;
        contest.take(
            names[1],
            || sign(&key, algorithm, &random),
            bare,
            speed,
            true,
        );
        let algorithm = EncryptionAlgorithm::RsaesOaepSha256;
        let sealed = key.encrypt(algorithm, &[7; 32], &random)?;
        let ours = || {
            drop(black_box(
                key.decrypt(algorithm, &sealed).expect("it opens"),
            ))
        };
        contest.take(names[2], ours, library::rsa_decrypt(bits)?, None, true);
    }
    Ok(())
}

fn curves(contest: &mut Contest<'_>) -> Result<(), Failure> {
    let random = Random::new();
    for (what, spec, algorithm, bare, speed) in [
        (
            "ECDSA P-256",
            KeySpec::EccNistP256,
            SigningAlgorithm::EcdsaSha256,
            library::curve_sign(KeySpec::EccNistP256)?,
            Some("ecdsap256"),
        ),
        (
            "ECDSA P-384",
            KeySpec::EccNistP384,
            SigningAlgorithm::EcdsaSha384,
            library::curve_sign(KeySpec::EccNistP384)?,
            Some("ecdsap384"),
        ),
        (
            "ECDSA P-521",
            KeySpec::EccNistP521,
            SigningAlgorithm::EcdsaSha512,
            library::curve_sign(KeySpec::EccNistP521)?,
            Some("ecdsap521"),
        ),
        (
            "ECDSA secp256k1",
            KeySpec::EccSecgP256k1,
            SigningAlgorithm::EcdsaSha256,
            library::k256_sign()?,
            None,
        ),
        (
            "Ed25519",
            KeySpec::EccNistEdwards25519,
            SigningAlgorithm::Ed25519Sha512,
            library::ed25519_sign()?,
            Some("ed25519"),
        ),
        (
            "SM2",
            KeySpec::Sm2,
            SigningAlgorithm::Sm2Dsa,
            library::sm2_sign()?,
            Some("sm2"),
        ),
    ] {
        let key = key(spec)?;
        let speed = speed.and_then(openssl::signatures);
        contest.take(what, || sign(&key, algorithm, &random), bare, speed, true);
    }
    for (what, spec, speed) in [
        ("ECDH P-256", KeySpec::EccNistP256, "ecdhp256"),
        ("ECDH P-384", KeySpec::EccNistP384, "ecdhp384"),
        ("ECDH P-521", KeySpec::EccNistP521, "ecdhp521"),
    ] {
        let (own, peer) = (key(spec)?, key(spec)?);
        let peer = peer.public_key_der().ok_or("a key pair has a public key")?;
        let ours = || drop(black_box(own.agree(peer).expect("they agree")));
        let speed = openssl::agreements(speed);
        contest.take(what, ours, library::agree(spec)?, speed, true);
    }
    Ok(())
}

fn lattices(contest: &mut Contest<'_>) -> Result<(), Failure> {
    let random = Random::new();
    for (signs, verifies, spec) in [
        ("ML-DSA-44", "ML-DSA-44, verification", KeySpec::MlDsa44),
        ("ML-DSA-65", "ML-DSA-65, verification", KeySpec::MlDsa65),
        ("ML-DSA-87", "ML-DSA-87, verification", KeySpec::MlDsa87),
    ] {
        let key = key(spec)?;
        let (bare_sign, bare_verify) = library::ml_dsa(spec)?;
        let algorithm = SigningAlgorithm::MlDsaShake256;
        contest.take(
            signs,
            || sign(&key, algorithm, &random),
            bare_sign,
            None,
            true,
        );
        let signed = key.sign(algorithm, MessageType::Raw, MESSAGE, &random)?;
        let ours = || {
            let right = key.verify(algorithm, MessageType::Raw, MESSAGE, &signed);
            assert!(black_box(right.expect("it is its own")));
        };
        contest.take(verifies, ours, bare_verify, None, true);
    }
    for (seals, opens, spec) in [
        ("ML-KEM-512", "ML-KEM-512, decapsulation", KeySpec::MlKem512),
        ("ML-KEM-768", "ML-KEM-768, decapsulation", KeySpec::MlKem768),
        (
            "ML-KEM-1024",
            "ML-KEM-1024, decapsulation",
            KeySpec::MlKem1024,
        ),
    ] {
        let key = key(spec)?;
        let (bare_seal, bare_open) = library::ml_kem(spec)?;
        let sealed = key.encapsulate()?.ciphertext;
        let ours = || drop(black_box(key.encapsulate().expect("it encapsulates")));
        contest.take(seals, ours, bare_seal, None, true);
        let ours = || drop(black_box(key.decapsulate(&sealed).expect("it opens")));
        contest.take(opens, ours, bare_open, None, true);
    }
    Ok(())
}
