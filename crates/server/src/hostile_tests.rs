//! Clients that mean no good, at a server that takes declared access keys only. Whatever they send,
//! nothing is done, and others are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyrum_consensus::world::World;
use keyrum_types::{Clock, UnixMillis};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::http::{Limits, Server};
use crate::signature_tests::Noting;
use crate::sigv4::tests::Client as Signer;
use crate::testing::{exchange, world};

const ADDR: &str = "127.0.0.1:4599";
const NOW: u64 = 1_789_212_697;
const BODY: &str = r#"{"KeyId":"k"}"#;

/// Longer than any limit of a server, and of the paused clock.
const WAIT: Duration = Duration::from_secs(200);

/// A clock that goes when it is told to, in seconds.
struct Moved(AtomicU64);

impl Clock for Moved {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed) * 1000)
    }
}

struct Setting {
    world: World,
    clock: Arc<Moved>,
    node: Arc<Noting>,
    _server: Server,
}

async fn setting() -> Setting {
    let clock = Arc::new(Moved(AtomicU64::new(NOW)));
    let world = World {
        clock: clock.clone(),
        ..world()
    };
    let node = Noting::new();
    let server = Server::start(&world, ADDR, node.endpoint(), Limits::default())
        .await
        .unwrap();
    Setting {
        world,
        clock,
        node,
        _server: server,
    }
}

impl Setting {
    /// Sends bytes on a connection of their own; everything that comes back.
    async fn send(&self, bytes: &[u8]) -> String {
        let answer = exchange(&self.world, ADDR, bytes, WAIT).await;
        String::from_utf8(answer.expect("the server ends the connection")).unwrap()
    }

    /// Asserts that bytes are answered with this code, or not at all if there is none, and that nothing
    /// was done.
    async fn refuses(&self, what: &str, bytes: &[u8], code: &str) {
        let answer = self.send(bytes).await;
        assert!(
            answer.contains(code) && !answer.contains("HTTP/1.1 200"),
            "{what}: {answer}"
        );
        assert_eq!(self.node.take(), [""; 0], "{what}");
    }

    /// Asserts that a right request is still answered.
    async fn serves(&self) {
        let answer = self.send(&whole(&signer(), BODY)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(self.node.take().len(), 1);
    }
}

fn signer() -> Signer {
    let mut signer = Signer::new().now(NOW);
    BODY.clone_into(&mut signer.body);
    signer.set("x-amz-target", "TrentService.DescribeKey");
    signer
}

/// The lines of a signed request up to the body.
fn head(signer: &Signer) -> String {
    let mut head = "POST / HTTP/1.1\r\n".to_owned();
    for (name, value) in &signer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + &format!("authorization: {}\r\n", signer.authorization())
}

fn whole(signer: &Signer, body: &str) -> Vec<u8> {
    let head = head(signer);
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Catches a request that is answered again when it is too old, with another body, or for another
/// Region, service or day; and one that nobody signed.
#[tokio::test(start_paused = true)]
async fn what_is_not_signed_for_now_and_here_is_refused() {
    let setting = setting().await;
    setting.serves().await;
    let recorded = whole(&signer(), BODY);
    let wrong = "InvalidSignatureException";
    setting
        .refuses("another body", &whole(&signer(), r#"{"KeyId":"l"}"#), wrong)
        .await;
    let text = String::from_utf8(recorded.clone()).unwrap();
    let swapped = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to).into_bytes()
    };
    let operation = swapped("TrentService.DescribeKey", "TrentService.DisableKey");
    setting
        .refuses("another operation", &operation, wrong)
        .await;
    for (from, to) in [
        ("/us-east-1/", "/eu-west-1/"),
        ("/kms/", "/sts/"),
        ("/kms/", "/s3/"),
        ("/20260912/", "/20260911/"),
        ("/aws4_request", "/aws5_request"),
    ] {
        setting.refuses(to, &swapped(from, to), wrong).await;
    }
    let key = crate::sigv4::tests::ACCESS_KEY;
    let unknown = "UnrecognizedClientException";
    setting
        .refuses("nobody's key", &swapped(key, "AKIANOBODY"), unknown)
        .await;
    setting
        .refuses(
            "an account's number",
            &swapped(key, "111122223333"),
            unknown,
        )
        .await;
    let unsigned = swapped(
        &format!("authorization: {}\r\n", signer().authorization()),
        "",
    );
    setting
        .refuses(
            "no signature",
            &unsigned,
            "MissingAuthenticationTokenException",
        )
        .await;
    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let sts = format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    setting
        .refuses(
            "no signature, STS",
            sts.as_bytes(),
            "<Code>MissingAuthenticationToken</Code>",
        )
        .await;
    // A service's name is for those who may be anybody.
    let mut via = signer();
    via.set("x-keyrum-via-service", "s3");
    setting
        .refuses(
            "a service's name",
            &whole(&via, BODY),
            "ValidationException",
        )
        .await;

    setting.clock.0.store(NOW + 301, Ordering::Relaxed);
    setting
        .refuses("a replay", &recorded, "Signature expired: ")
        .await;
    setting.clock.0.store(NOW - 301, Ordering::Relaxed);
    setting
        .refuses("from the future", &recorded, "Signature not yet current: ")
        .await;
    setting.clock.0.store(NOW, Ordering::Relaxed);
    setting.serves().await;
}

/// Catches a message that can be read in two ways, of which one gets through; and a broken one that
/// leaves the server unable to answer others.
#[tokio::test(start_paused = true)]
async fn broken_messages_do_nothing() {
    let setting = setting().await;
    let (head, length) = (head(&signer()), BODY.len());
    let smuggled = String::from_utf8(whole(&signer(), BODY)).unwrap();
    for (what, message) in [
        (
            "two lengths",
            format!("{head}content-length: {length}\r\ncontent-length: 0\r\n\r\n{BODY}"),
        ),
        (
            "two lengths in one",
            format!("{head}content-length: {length}, 0\r\n\r\n{BODY}"),
        ),
        (
            "a signed length",
            format!("{head}content-length: +{length}\r\n\r\n{BODY}"),
        ),
        (
            "a length that is none",
            format!("{head}content-length: 0x{length:x}\r\n\r\n{BODY}"),
        ),
        (
            "a huge length",
            format!("{head}content-length: 99999999999999999999999\r\n\r\n{BODY}"),
        ),
        (
            "an unknown coding",
            format!("{head}transfer-encoding: gzip\r\ncontent-length: {length}\r\n\r\n{BODY}"),
        ),
        (
            "chunked twice",
            format!(
                "{head}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "a broken chunk",
            format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n{BODY}\r\n0\r\n\r\n"),
        ),
        (
            "a space before the colon",
            format!("{head}content-length : {length}\r\n\r\n{BODY}"),
        ),
        (
            "a folded header",
            format!("{head}x-folded: a\r\n b\r\ncontent-length: {length}\r\n\r\n{BODY}"),
        ),
        (
            "a bare line end in a value",
            format!("{head}x-a: b\rc\r\ncontent-length: {length}\r\n\r\n{BODY}"),
        ),
        (
            "a zero byte",
            format!("{head}x-a: \0\r\ncontent-length: {length}\r\n\r\n{BODY}"),
        ),
        (
            "a truncated body",
            format!("{head}content-length: {}\r\n\r\n{BODY}", length + 1),
        ),
        ("a truncated head", head.clone()),
        (
            "no host",
            smuggled.replace("host: kms.us-east-1.amazonaws.com\r\n", ""),
        ),
        (
            "an oversized header",
            format!(
                "{head}x-long: {}\r\ncontent-length: {length}\r\n\r\n{BODY}",
                "a".repeat(1 << 17)
            ),
        ),
        (
            "too many headers",
            format!(
                "{head}{}content-length: {length}\r\n\r\n{BODY}",
                "x-a: b\r\n".repeat(1000)
            ),
        ),
        (
            "an oversized body",
            format!(
                "{head}content-length: {}\r\n\r\n{}",
                2 << 20,
                "a".repeat(2 << 20)
            ),
        ),
    ] {
        setting.refuses(what, message.as_bytes(), "").await;
    }
    // Length and chunks: whoever reads one of them only would see another request behind it.
    let both = format!(
        "{head}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
    );
    let answer = setting.send(both.as_bytes()).await;
    let done = setting.node.take();
    assert!(done.len() <= 1, "{done:?}: {answer}");
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Bytes that are no UTF-8, in a header that is signed, in the signature's, and in the body.
    for (place, mend) in [
        ("x-amz-target: ", "x-amz-target: \u{1}"),
        ("authorization: ", "authorization: \u{1}"),
        (BODY, "{\u{1}}"),
    ] {
        let message = smuggled.replacen(place, mend, 1).into_bytes();
        let message: Vec<u8> = message
            .into_iter()
            .map(|byte| if byte == 1 { 0xff } else { byte })
            .collect();
        setting.refuses(place, &message, "").await;
    }
    setting.serves().await;
}

/// Catches a server that waits for slow senders without end, or does not answer others meanwhile.
#[tokio::test(start_paused = true)]
async fn slow_senders_are_cut_off() {
    let setting = setting().await;
    let message = whole(&signer(), &format!("{BODY}{}", " ".repeat(600)));
    let mut slow = Vec::new();
    for connection in 0..40 {
        let mut stream = setting.world.network.connect(ADDR).await.unwrap();
        // Some stop in the head, some in the body.
        let sent = if connection % 2 == 0 {
            100
        } else {
            message.len() - 600
        };
        stream.write_all(&message[..sent]).await.unwrap();
        slow.push((stream, sent));
    }
    let begin = Instant::now();
    // A byte a second is always too slow: what counts is the whole.
    let mut open = slow.len();
    while open > 0 {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "{open} are still open"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        open = 0;
        for (stream, sent) in &mut slow {
            if *sent < message.len() && stream.write_all(&message[*sent..=*sent]).await.is_ok() {
                *sent += 1;
                open += 1;
            }
        }
        setting.serves().await;
    }
    for (mut stream, _) in slow {
        let mut answer = String::new();
        let _ = timeout(WAIT, stream.read_to_string(&mut answer))
            .await
            .unwrap();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{answer}"
        );
    }
}

/// Catches long bodies that fill the memory, and short ones that must wait for them.
#[tokio::test(start_paused = true)]
async fn long_bodies_share_their_room() {
    let (world, node) = (world(), Noting::new());
    let limits = Limits {
        bodies_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let _server = Server::start(&world, ADDR, node.endpoint(), limits)
        .await
        .unwrap();
    let head = "POST / HTTP/1.1\r\nhost: h\r\nx-amz-target: TrentService.DescribeKey\r\n";
    // This one takes all the room there is, and does not come.
    let mut first = world.network.connect(ADDR).await.unwrap();
    first
        .write_all(format!("{head}content-length: {}\r\n\r\n", 1 << 20).as_bytes())
        .await
        .unwrap();
    let ask = async |length: usize, wait: u64| {
        let body = "a".repeat(length);
        let bytes = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let wait = Duration::from_secs(wait);
        exchange(&world, ADDR, bytes.as_bytes(), wait)
            .await
            .is_some()
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ask(16 << 10, 5).await);
    assert!(!ask((16 << 10) + 1, 5).await);
    // It had its time.
    assert!(ask(20 << 10, 60).await);
    let mut answer = [0; 12];
    timeout(WAIT, first.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}
