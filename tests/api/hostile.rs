//! What clients that mean no good cost a server: many of them at once, idle or slow. What they may say
//! is tested next to the code that reads it (`keyrum-server`, `hostile_tests`).

use std::future::Future;
use std::time::Duration;

use keyrum_consensus::world::{BoxStream, World, spawn};
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::HERE;
use keyrum_tests::{Dev, sdk, wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tls::Authority;

const IDLE: usize = 2_000;
const SLOW: usize = 200;

/// How much more memory a server may use for these connections. Unit: bytes.
///
/// 64 MiB for all long bodies together, and 32 KiB for each connection.
const GROWTH_MAX: u64 = (64 << 20) + ((IDLE + SLOW) as u64) * (32 << 10);

/// What a process has in memory, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// Lets this process, and those it starts, have enough connections open.
fn allow_connections() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

const HEALTH: &[u8] = b"GET /_keyrum/health HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Reads the beginning of an answer, which is enough to know that there is one.
async fn answered(stream: &mut BoxStream) {
    let mut begin = [0; 12];
    let read = stream.read_exact(&mut begin);
    let read = tokio::time::timeout(wait::LONG, read).await;
    read.expect("in time").expect("an answer");
    assert_eq!(&begin, b"HTTP/1.1 200");
}

/// Sends part of a request and then next to nothing.
async fn dawdle(mut stream: BoxStream, number: usize) {
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: TrentService.ListKeys\r\n";
    let mut sent = head.as_bytes().to_vec();
    if number.is_multiple_of(2) {
        // A head as long as it may be, all but its end.
        sent.extend_from_slice(format!("x-long: {}", "a".repeat(32 << 10)).as_bytes());
    } else {
        // A body as long as it may be, all but its end.
        sent.extend_from_slice(format!("content-length: {}\r\n\r\n", 1 << 20).as_bytes());
        sent.resize(sent.len() + (1 << 20) - 1000, b' ');
    }
    // The server need not take all of it, and may hang up.
    let _ = stream.write_all(&sent).await;
    while stream.write_all(b" ").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Opens all these connections and holds them while others ask; gives how much memory they took.
async fn besiege<F>(dev: &Dev, connect: impl Fn() -> F, ask: impl AsyncFn()) -> u64
where
    F: Future<Output = BoxStream>,
{
    let pid = dev.pid();
    for _ in 0..50 {
        ask().await;
    }
    let before = resident(pid);
    let mut idle = Vec::new();
    for number in 0..IDLE {
        let mut stream = connect().await;
        // Half of them have been of use.
        if number.is_multiple_of(2) {
            stream.write_all(HEALTH).await.unwrap();
            answered(&mut stream).await;
        }
        idle.push(stream);
    }
    let mut slow = Vec::new();
    for number in 0..SLOW {
        slow.push(spawn(dawdle(connect().await, number)));
    }
    let mut most = resident(pid);
    for _ in 0..100 {
        ask().await;
        most = most.max(resident(pid));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The used connections are still there.
    for stream in idle.iter_mut().step_by(2).take(20) {
        stream.write_all(HEALTH).await.unwrap();
    }
    slow.iter().for_each(|task| task.abort());
    drop(idle);
    ask().await;
    most.saturating_sub(before)
}

/// Catches a server that idle and slow clients fill, or keep from answering others.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn idle_and_slow_clients_cost_little() {
    allow_connections();
    let dev = Dev::start(&["--ephemeral", "--nodes", "1", "--regions", HERE]).await;
    let world = World::real();
    let host = dev.ready.endpoint.strip_prefix("http://").unwrap();
    let connect = || async { world.network.connect(host).await.unwrap() };
    let kms = sdk::client(&dev.ready.endpoint, HERE, "000000000000");
    let ask = async || {
        kms.list_keys().send().await.unwrap();
    };
    let growth = besiege(&dev, connect, ask).await;
    eprintln!(
        "{IDLE} idle and {SLOW} slow connections took {} KiB",
        growth >> 10
    );
    assert!(growth < GROWTH_MAX, "{growth}");
}

/// Catches the same with TLS, where each connection costs more.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn idle_and_slow_clients_cost_little_with_tls() {
    allow_connections();
    let authority = Authority::new();
    let [cert, key] = authority.files();
    let args = ["--ephemeral", "--nodes", "1", "--regions", HERE];
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let dev = Dev::start(&[&args[..], &tls].concat()).await;
    let connect = || async { authority.connect(&dev.ready.endpoint).await.unwrap() };
    let ask = async || {
        let asked = Raw::kms("ListKeys", "{}").signed("000000000000", HERE);
        let answer = authority.send(&dev.ready.endpoint, &asked).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    let growth = besiege(&dev, connect, ask).await;
    eprintln!(
        "{IDLE} idle and {SLOW} slow connections with TLS took {} KiB",
        growth >> 10
    );
    // A TLS connection has buffers and keys of its own.
    assert!(
        growth < GROWTH_MAX + ((IDLE + SLOW) as u64) * (32 << 10),
        "{growth}"
    );
}
