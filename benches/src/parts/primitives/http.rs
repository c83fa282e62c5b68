//! The same primitives through the API of a node that is alone, and keys that take long to make beside
//! calls that do not.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_crypto::{EncryptionContext, KeyName, MadeBy, encrypt, generate_material};
use keyrum_types::{KeyId, KeySpec, MacAlgorithm, SigningAlgorithm};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::compared::{self, MESSAGE, Random, sign};
use crate::client::{self, Call, Connection};
use crate::cluster::Cluster;
use crate::load::{self, Caller, Latency};
use crate::parts::encrypt::remove;
use crate::report::{Report, Row, Verdict};
use crate::turns::{Series, TURNS, Watched, median, quantile_ms};
use crate::{Failure, Setting};

const GROUP: &str = "1 node, lease reads";

/// Callers of one operation, as in the other parts.
const CALLERS: usize = 64;

/// Processor time that a call may cost above its primitive, in microseconds.
const ABOVE_US: f64 = 15.0;

/// How many key pairs are made. How long a search takes is chance, by half its length either way: so many
/// make the difference of the medians good to 3 ms.
const PAIRS: u32 = 400;

/// How much longer CreateKey of RSA_2048 may take than finding the primes, in milliseconds.
const LONGER_MS: f64 = 10.0;

/// How long an Encrypt may take beside slow work for others, in milliseconds.
const BESIDE_MS: f64 = 20.0;

async fn key(addr: &str, spec: &str, usage: &str) -> Result<String, Failure> {
    let body = json!({"KeySpec": spec, "KeyUsage": usage}).to_string();
    let made = client::once(addr, &Call::new("CreateKey", &body)).await?;
    let id = made["KeyMetadata"]["KeyId"].as_str();
    Ok(id.ok_or("a key without an id")?.to_owned())
}

fn request(operation: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    Call {
        consistency: Some("lease"),
        ..Call::new(operation, &body)
    }
    .bytes()
}

/// What a call costs the process that answers, above the primitive it is made for.
pub(super) async fn calls(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("primitives");
    let cluster = Cluster::up_alone(setting, &folder).await?;
    let node = cluster.leader().await?.clone();
    let message = STANDARD.encode(MESSAGE);
    let symmetric = client::create_key(&node.api).await?;
    let body = json!({"KeyId": symmetric, "Plaintext": message}).to_string();
    let sealed = client::once(&node.api, &Call::new("Encrypt", &body)).await?;
    let mac = key(&node.api, "HMAC_256", "GENERATE_VERIFY_MAC").await?;
    let curve = key(&node.api, "ECC_NIST_P256", "SIGN_VERIFY").await?;
    let rsa = key(&node.api, "RSA_2048", "SIGN_VERIFY").await?;
    let watched = Watched {
        answering: vec![node.pid],
        all: cluster.pids(),
    };
    let random = Random::new();
    let own = |spec| compared::key(spec);
    let [own_mac, own_curve, own_rsa] = [
        own(KeySpec::Hmac256)?,
        own(KeySpec::EccNistP256)?,
        own(KeySpec::Rsa2048)?,
    ];
    let secret = generate_material(KeySpec::SymmetricDefault, "aws", &random)?;
    let name = KeyName {
        account: "000000000000".parse()?,
        key: KeyId::single_region([7; 16]),
    };
    let (id, context) = (secret.id(name.key), EncryptionContext::default());
    let made_by = MadeBy::Encrypt;
    let own_sealed = encrypt(&secret, id, name, &context, MESSAGE, made_by, &random);
    let works: [&(dyn Fn() + Sync); 4] = [
        &|| drop(black_box(own_mac.mac(MacAlgorithm::HmacSha256, MESSAGE))),
        &|| {
            let parsed = keyrum_crypto::parse(&own_sealed).expect("it is its own");
            drop(black_box(parsed.decrypt(&secret, &context)));
        },
        &|| sign(&own_curve, SigningAlgorithm::EcdsaSha256, &random),
        &|| sign(&own_rsa, SigningAlgorithm::RsassaPssSha256, &random),
    ];
    for (work, (what, operation, body)) in works.into_iter().zip([
        (
            "GenerateMac HMAC_256",
            "GenerateMac",
            json!({"KeyId": mac, "MacAlgorithm": "HMAC_SHA_256", "Message": message}),
        ),
        (
            "Decrypt 1 KiB",
            "Decrypt",
            json!({"CiphertextBlob": sealed["CiphertextBlob"]}),
        ),
        (
            "Sign ECC_NIST_P256",
            "Sign",
            json!({"KeyId": curve, "SigningAlgorithm": "ECDSA_SHA_256", "Message": message}),
        ),
        (
            "Sign RSA_2048",
            "Sign",
            json!({"KeyId": rsa, "SigningAlgorithm": "RSASSA_PSS_SHA_256", "Message": message}),
        ),
    ]) {
        let request = request(operation, &body);
        let mut warm = Series::new("");
        let mut series = Series::new(what);
        let mut dozing = Series::new(what);
        let mut bare = Vec::new();
        for turn_no in 0..=TURNS {
            for is_awake in [true, false] {
                let mut callers = Vec::new();
                for _ in 0..CALLERS {
                    callers.push(Caller::http(&node.api, request.clone()).await?);
                }
                let (series, seconds) = match (turn_no, is_awake) {
                    (0, _) => (&mut warm, 0.25),
                    (_, true) => (&mut series, setting.slice_seconds),
                    (_, false) => (&mut dozing, setting.slice_seconds),
                };
                let turn = series.turn(callers, &watched, seconds);
                match is_awake {
                    true => load::awake(turn).await?,
                    false => turn.await?,
                }
                if turn_no > 0 && is_awake {
                    bare.push(compared::busy_us(seconds / 2.0, work));
                }
            }
        }
        if let Some(failure) = series.failure.as_ref().or(dozing.failure.as_ref()) {
            return Err(format!("{what}: {failure}").into());
        }
        let above = series.cpu_us_above(&bare);
        let bare = median(bare);
        report.row(&Row {
            what,
            group: GROUP,
            target: "<= 15 us of CPU above its primitive",
            figure: format!(
                "{:.0}/s; {:.1} us of CPU a call, the primitive on every core {bare:.1} us",
                series.rate(),
                series.cpu_us()
            ),
            ratio: format!("{above:.1} us above"),
            verdict: Verdict::of(above <= ABOVE_US),
        });
        report.detail(series.line());
        report.detail(format!("by a load that sleeps, {}", dozing.line()));
    }
    cluster.stop().await?;
    remove(&folder);
    Ok(())
}

/// CreateKey of RSA keys: how long it takes, and whether others feel it.
pub(super) async fn new_keys(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("primitives-rsa");
    let cluster = Cluster::up_alone(setting, &folder).await?;
    let node = cluster.leader().await?.clone();
    let body = json!({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}).to_string();
    let create = Call::new("CreateKey", &body).bytes();
    let mut connection = Connection::open(&node.api).await?;
    let (mut made, mut found) = (load::no_latency(), load::no_latency());
    for _ in 0..PAIRS {
        let start = Instant::now();
        connection.exchange(&create).await?.good()?;
        load::note(&mut made, start.elapsed());
        let start = Instant::now();
        std::hint::black_box(generate_material(KeySpec::Rsa2048, "aws", &Random::new())?);
        load::note(&mut found, start.elapsed());
    }
    let (ours, bare) = (quantile_ms(&made, 0.5), quantile_ms(&found, 0.5));
    report.row(&Row {
        what: "CreateKey RSA_2048, 1 caller",
        group: "1 node, fsynced",
        target: "p50 <= the search for its primes + 10 ms",
        figure: format!("p50 {ours:.1} ms, the search alone {bare:.1} ms, of {PAIRS} each"),
        ratio: format!("{:+.1} ms", ours - bare),
        verdict: Verdict::of(ours <= bare + LONGER_MS),
    });

    let id = client::create_key(&node.api).await?;
    let body = json!({"KeyId": id, "Plaintext": STANDARD.encode(MESSAGE)});
    let encrypt = request("Encrypt", &body);
    let calm = latencies(&node.api, &encrypt, setting.slice_seconds).await?;
    let cores = std::thread::available_parallelism()?.get();
    let body = json!({"KeySpec": "RSA_4096", "KeyUsage": "SIGN_VERIFY"}).to_string();
    let create = Arc::new(Call::new("CreateKey", &body).bytes());
    let keys = Arc::new(AtomicU32::new(0));
    let mut searching = JoinSet::new();
    for _ in 0..cores {
        let mut connection = Connection::open(&node.api).await?;
        let (create, keys) = (create.clone(), keys.clone());
        searching.spawn(async move {
            loop {
                // A search may take longer than a call: then the next call gets what it found.
                if connection.exchange(&create).await?.status == 200 {
                    keys.fetch_add(1, Ordering::Relaxed);
                }
            }
            #[expect(unreachable_code, reason = "names the error's type")]
            Ok::<(), Failure>(())
        });
    }
    // Until all cores search.
    sleep(Duration::from_millis(100)).await;
    let busy = latencies(&node.api, &encrypt, 4.0 * setting.slice_seconds).await?;
    searching.shutdown().await;
    let p99 = quantile_ms(&busy, 0.99);
    report.row(&Row {
        what: "Encrypt 1 KiB, 8 callers, beside CreateKey RSA_4096 on every core",
        group: GROUP,
        target: "p99 < 20 ms",
        figure: format!(
            "p99 {p99:.2} ms of {} calls beside {} new keys; otherwise {:.2} ms",
            busy.len(),
            keys.load(Ordering::Relaxed),
            quantile_ms(&calm, 0.99)
        ),
        ratio: format!("{:.2} of the limit", p99 / BESIDE_MS),
        verdict: Verdict::of(p99 < BESIDE_MS && !busy.is_empty()),
    });
    beside_signatures(setting, report, &node.api, &encrypt).await?;
    cluster.stop().await?;
    remove(&folder);
    Ok(())
}

/// Encrypt while many want the slowest signatures.
async fn beside_signatures(
    setting: &Setting,
    report: &mut Report,
    addr: &str,
    encrypt: &[u8],
) -> Result<(), Failure> {
    let seconds = setting.slice_seconds;
    let signer = key(addr, "RSA_4096", "SIGN_VERIFY").await?;
    let sign = request(
        "Sign",
        &json!({
            "KeyId": signer, "SigningAlgorithm": "RSASSA_PSS_SHA_256", "Message": STANDARD.encode(MESSAGE),
        }),
    );
    let calm = latencies(addr, encrypt, seconds).await?;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(Caller::http(addr, sign.clone()).await?);
    }
    let signing = tokio::spawn(load::run(callers, Duration::from_secs_f64(seconds)));
    let busy = latencies(addr, encrypt, seconds).await?;
    let signed = signing.await??;
    if let Some(failure) = signed.failure {
        return Err(failure.into());
    }
    let p99 = quantile_ms(&busy, 0.99);
    report.row(&Row {
        what: "Encrypt 1 KiB, 8 callers, beside Sign RSA_4096 by 64",
        group: GROUP,
        target: "p99 < 20 ms",
        figure: format!(
            "p50 {:.2}, p99 {p99:.2} ms of {} calls beside {} signatures, p50 {:.1} ms; otherwise {:.2} and {:.2} ms",
            quantile_ms(&busy, 0.5),
            busy.len(),
            signed.requests,
            quantile_ms(&signed.latency, 0.5),
            quantile_ms(&calm, 0.5),
            quantile_ms(&calm, 0.99)
        ),
        ratio: format!("{:.2} of the limit", p99 / BESIDE_MS),
        verdict: Verdict::of(p99 < BESIDE_MS && !busy.is_empty()),
    });
    Ok(())
}

/// Latencies of eight callers.
async fn latencies(addr: &str, request: &[u8], seconds: f64) -> Result<Latency, Failure> {
    let mut callers = Vec::new();
    for _ in 0..8 {
        callers.push(Caller::http(addr, request.to_vec()).await?);
    }
    let done = load::run(callers, Duration::from_secs_f64(seconds)).await?;
    match done.failure {
        Some(failure) => Err(failure.into()),
        None => Ok(done.latency),
    }
}
