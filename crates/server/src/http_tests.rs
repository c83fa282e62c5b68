//! The endpoint behind its server, over connections in memory.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use keyrum_consensus::ReadMode;
use keyrum_consensus::world::{BoxFuture, World, spawn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::http::{Limits, Server};
use crate::regions::Backend;
use crate::testing::{Client, Fake, authorization, exchange, request, world};
use crate::{AcceptedCredentials, Endpoint, EndpointSettings, HookAnswer, Hooks, Regions};

const ADDR: &str = "127.0.0.1:4599";

async fn start(world: &World, limits: Limits) -> (Server, Vec<Arc<Fake>>) {
    let nodes = vec![
        Fake::new("east-1"),
        Fake::new("east-2"),
        Fake::new("west-1"),
    ];
    let backend = |node: &Arc<Fake>| -> Arc<dyn Backend> { node.clone() };
    let regions = Regions::default();
    regions.set_backends(vec![
        (
            "us-east-1".parse().unwrap(),
            nodes[..2].iter().map(backend).collect(),
        ),
        (
            "eu-west-1".parse().unwrap(),
            nodes[2..].iter().map(backend).collect(),
        ),
        ("eu-west-9".parse().unwrap(), Vec::new()),
    ]);
    let settings = EndpointSettings {
        default_account: "000000000000".parse().unwrap(),
        consistency: ReadMode::Linearizable,
        credentials: AcceptedCredentials::Any,
    };
    let endpoint = Endpoint::new(regions, settings, Some(Arc::new(Well)));
    (
        Server::start(world, ADDR, endpoint, limits).await.unwrap(),
        nodes,
    )
}

struct Well;

impl Hooks for Well {
    fn health(&self) -> BoxFuture<'_, HookAnswer> {
        Box::pin(async {
            HookAnswer {
                status: 200,
                json: "{\"status\":\"ok\"}".to_owned(),
            }
        })
    }

    fn reset(&self) -> BoxFuture<'_, HookAnswer> {
        Box::pin(async {
            HookAnswer {
                status: 409,
                json: "{}".to_owned(),
            }
        })
    }
}

/// A test must not wait for ever for what does not come.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(200), future)
        .await
        .expect("in time")
}

/// Catches an answer without the headers that the real service sends with every one.
#[tokio::test]
async fn every_answer_has_the_usual_headers() {
    let world = world();
    let (_server, _) = start(&world, Limits::default()).await;
    let mut ids = Vec::new();
    for mut client in [
        Client::http1(&world, ADDR).await,
        Client::http2(&world, ADDR).await,
    ] {
        for (operation, body, status) in [
            ("ListKeys", "{}", 200),
            ("NoSuchThing", "{}", 400),
            ("Encrypt", "{}", 400),
        ] {
            let answer = client.send(request(operation, None, body)).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.header("content-type"), "application/x-amz-json-1.1");
            assert_eq!(
                answer.header("cache-control"),
                "no-cache, no-store, must-revalidate, private"
            );
            assert_eq!(
                (answer.header("expires"), answer.header("pragma")),
                ("0", "no-cache")
            );
            assert_eq!(answer.header("date"), "Sat, 12 Sep 2026 11:31:37 GMT");
            assert_eq!(answer.header("x-amzn-requestid").len(), 36);
            ids.push(answer.header("x-amzn-requestid").to_owned());
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

/// Catches a request that reaches the wrong Region, as the wrong caller, or read in another way
/// than asked.
#[tokio::test]
async fn scope_and_headers_choose_region_account_and_mode() {
    let world = world();
    let (_server, nodes) = start(&world, Limits::default()).await;
    nodes[1].leads.store(true, Ordering::Relaxed);
    let mut client = Client::http1(&world, ADDR).await;
    for (scope, mode, expected) in [
        (
            None,
            None,
            "east-2 ListKeys arn:aws:iam::000000000000:root Linearizable",
        ),
        (
            Some("test/us-east-1"),
            Some("lease"),
            "east-2 ListKeys arn:aws:iam::000000000000:root Lease",
        ),
        (
            Some("111122223333/eu-west-1"),
            None,
            "west-1 ListKeys arn:aws:iam::111122223333:root Linearizable",
        ),
        (
            Some("test/eu-central-1"),
            None,
            r#"{"__type":"InvalidSignatureException","message":"Credential should be scoped to a valid region. "}"#,
        ),
        (
            Some("test/eu-west-9"),
            None,
            r#"{"__type":"DependencyTimeoutException","message":"No node of the Region eu-west-9 is running."}"#,
        ),
        (
            Some("test/us-east-1"),
            Some("strong"),
            r#"{"__type":"ValidationException","message":"The header x-keyrum-consistency must be linearizable, lease, local or eventual."}"#,
        ),
    ] {
        let mut asked = request("ListKeys", scope, "{}");
        if let Some(mode) = mode {
            asked
                .headers_mut()
                .insert("x-keyrum-consistency", mode.parse().unwrap());
        }
        let answer = client.send(asked).await;
        assert_eq!(answer.body, expected, "{scope:?} {mode:?}");
    }
    for (left, status) in [("5000", 200), ("", 400), ("-1", 400), ("soon", 400)] {
        let mut asked = request("ListKeys", None, "{}");
        let headers = asked.headers_mut();
        headers.insert("x-keyrum-time-left-ms", left.parse().unwrap());
        assert_eq!(client.send(asked).await.status, status, "{left:?}");
    }
    let mut asked = request("ListKeys", None, "{}");
    asked.headers_mut().insert(
        "authorization",
        authorization("a/us-east-1", "sts").parse().unwrap(),
    );
    let answer = client.send(asked).await;
    assert!(
        answer
            .body
            .contains("Credential should be scoped to correct service: 'kms'. ")
    );
}

/// Catches stale reads that all go to one node, and a stopped node that is still asked.
#[tokio::test]
async fn nodes_take_turns_unless_one_leads() {
    let world = world();
    let (_server, nodes) = start(&world, Limits::default()).await;
    nodes[0].leads.store(true, Ordering::Relaxed);
    let mut client = Client::http1(&world, ADDR).await;
    let mut ask = async |operation: &str, mode: &'static str| {
        let mut asked = request(operation, None, r#"{"KeyId":"a"}"#);
        asked
            .headers_mut()
            .insert("x-keyrum-consistency", mode.parse().unwrap());
        client
            .send(asked)
            .await
            .body
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let stale = [
        ask("DescribeKey", "local").await,
        ask("DescribeKey", "eventual").await,
    ];
    assert_ne!(stale[0], stale[1]);
    for mode in ["linearizable", "lease"] {
        assert_eq!(
            [ask("DescribeKey", mode).await, ask("EnableKey", mode).await],
            ["east-1"; 2]
        );
    }
    assert_eq!(ask("EnableKey", "local").await, "east-1");
    nodes[0].runs.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(ask("EnableKey", "linearizable").await, "east-2");
        assert_eq!(ask("DescribeKey", "local").await, "east-2");
    }
}

/// Catches checks in another order than the real service's.
#[tokio::test]
async fn checks_come_in_order() {
    let world = world();
    let (_server, _) = start(&world, Limits::default()).await;
    let mut client = Client::http1(&world, ADDR).await;
    for (operation, scope, body, code) in [
        ("Nothing", "test/nowhere", "{", "UnknownOperationException"),
        ("Encrypt", "test/nowhere", "{", "InvalidSignatureException"),
        ("Encrypt", "test/us-east-1", "{", "SerializationException"),
        (
            "Encrypt",
            "test/us-east-1",
            r#"{"KeyId":1}"#,
            "SerializationException",
        ),
        ("Encrypt", "test/us-east-1", "{}", "ValidationException"),
    ] {
        let answer = client.send(request(operation, Some(scope), body)).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.body.starts_with(&format!(r#"{{"__type":"{code}""#)),
            "{}",
            answer.body
        );
    }
}

/// Catches STS answers that SDKs cannot read, and KMS answers to STS requests.
#[tokio::test]
async fn sts_tells_who_calls() {
    let world = world();
    let (_server, _) = start(&world, Limits::default()).await;
    let mut client = Client::http1(&world, ADDR).await;
    let mut ask = async |action: &str, service: &str| {
        let request = Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .header(
                "authorization",
                authorization("111122223333/eu-west-1", service),
            );
        let body = format!("Action={action}&Version=2011-06-15");
        client
            .send(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
    };
    let answer = ask("GetCallerIdentity", "sts").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/xml")
    );
    for part in [
        "<Account>111122223333</Account>",
        "<Arn>arn:aws:iam::111122223333:root</Arn>",
        "<UserId>111122223333</UserId>",
        answer.header("x-amzn-requestid"),
    ] {
        assert!(answer.body.contains(part), "{}", answer.body);
    }
    let answer = ask("AssumeRoleWithSAML", "sts").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("<Code>InvalidAction</Code>"),
        "{}",
        answer.body
    );
    let answer = ask("GetCallerIdentity", "kms").await;
    assert!(
        answer.body.contains("<Code>SignatureDoesNotMatch</Code>"),
        "{}",
        answer.body
    );
}

/// Catches hooks that cannot be reached or lose their status.
#[tokio::test]
async fn hooks_answer() {
    let world = world();
    let (_server, _) = start(&world, Limits::default()).await;
    let mut client = Client::http1(&world, ADDR).await;
    let mut ask = async |method: &str, path: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::default())
            .unwrap();
        client.send(request).await
    };
    let answer = ask("GET", "/_keyrum/health").await;
    assert_eq!((answer.status, &*answer.body), (200, "{\"status\":\"ok\"}"));
    assert_eq!(ask("POST", "/_keyrum/reset").await.status, 409);
    assert_eq!(ask("GET", "/nothing").await.status, 404);
    assert_eq!(ask("PUT", "/").await.status, 405);
}

/// Catches a large body that gets a closed connection instead of the API's error, in each of the
/// ways a body can be sent.
#[tokio::test]
async fn large_bodies_get_an_error() {
    let world = world();
    let (_server, _) = start(&world, Limits::default()).await;
    let body = "x".repeat(3 << 20);
    for mut client in [
        Client::http1(&world, ADDR).await,
        Client::http2(&world, ADDR).await,
    ] {
        let answer = soon(client.send(request("Encrypt", None, &body))).await;
        assert_eq!(answer.status, 413);
        assert!(
            answer
                .body
                .starts_with(r#"{"__type":"RequestEntityTooLargeException""#)
        );
    }
    let mut chunked =
        String::from("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..48 {
        chunked.push_str("10000\r\n");
        chunked.push_str(&body[..0x10000]);
        chunked.push_str("\r\n");
    }
    chunked.push_str("0\r\n\r\n");
    let answer = soon(exchange(
        &world,
        ADDR,
        chunked.as_bytes(),
        Duration::from_secs(20),
    ))
    .await;
    let answer = String::from_utf8(answer.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // A client that waits to be told to go on is told not to.
    let waiting =
        "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n";
    let answer = soon(exchange(
        &world,
        ADDR,
        waiting.as_bytes(),
        Duration::from_secs(20),
    ))
    .await;
    let answer = String::from_utf8(answer.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// Catches a connection that a client can hold for ever: with half a head, half a body, or nothing.
#[tokio::test(start_paused = true)]
async fn slow_clients_are_let_go() {
    let world = world();
    let (_server, _) = start(&world, Limits::default()).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: TrentService.ListKeys\r\n";
    for (sent, first_line, seconds) in [
        (head.to_owned(), "", 9..16),
        (
            format!("{head}content-length: 5\r\n\r\n{{"),
            "HTTP/1.1 408 Request Timeout",
            29..120,
        ),
        (String::new(), "", 70..90),
        (
            format!("{head}content-length: 2\r\n\r\n{{}}"),
            "HTTP/1.1 200 OK",
            70..90,
        ),
        (
            format!("{head}content-length: 2\r\n\r\n{{}}{head}"),
            "HTTP/1.1 200 OK",
            9..90,
        ),
    ] {
        let mut stream = world.network.connect(ADDR).await.unwrap();
        let begin = Instant::now();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(
            answer.lines().next().unwrap_or_default(),
            first_line,
            "{sent}"
        );
        let waited = begin.elapsed().as_secs();
        assert!(seconds.contains(&waited), "{waited} s for {sent}");
    }
}

/// Catches an idle HTTP/2 connection that is taken for a slow head because of its control frames.
#[tokio::test(start_paused = true)]
async fn quiet_http2_connections_stay() {
    let world = world();
    let (_server, _) = start(&world, Limits::default()).await;
    let mut client = Client::http2(&world, ADDR).await;
    for _ in 0..3 {
        assert_eq!(
            client.send(request("ListKeys", None, "{}")).await.status,
            200
        );
        tokio::time::advance(Duration::from_secs(40)).await;
    }
    let mut client = Client::http1(&world, ADDR).await;
    for _ in 0..3 {
        assert_eq!(
            client.send(request("ListKeys", None, "{}")).await.status,
            200
        );
        tokio::time::advance(Duration::from_secs(60)).await;
    }
}

/// Catches a stop that cuts off a request it has taken, or takes another one.
#[tokio::test]
async fn a_stop_finishes_what_was_taken() {
    let world = world();
    let (server, _) = start(&world, Limits::default()).await;
    let mut idle = Client::http1(&world, ADDR).await;
    assert_eq!(idle.send(request("ListKeys", None, "{}")).await.status, 200);
    // The head is there, the body is not: the request was taken.
    let mut stream = world.network.connect(ADDR).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: TrentService.ListKeys\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let stopped = spawn(server.stop());
    while world.network.connect(ADDR).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"{}").await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200 OK"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    soon(stopped).await.unwrap();
    assert!(
        idle.try_send(request("ListKeys", None, "{}"))
            .await
            .is_err()
    );
}

/// Catches a stop that one hanging request holds up for ever.
#[tokio::test(start_paused = true)]
async fn a_stop_is_bounded() {
    let world = world();
    let (server, _) = start(&world, Limits::default()).await;
    let mut client = Client::http1(&world, ADDR).await;
    let hanging = spawn(async move {
        client
            .try_send(request("DescribeKey", None, r#"{"KeyId":"hang"}"#))
            .await
            .is_err()
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begin = Instant::now();
    soon(server.stop()).await;
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(soon(hanging).await.unwrap());
}
