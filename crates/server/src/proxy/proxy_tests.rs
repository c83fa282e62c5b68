use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use hyper::header::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::http::{Limits, Server, plain_answer};
use crate::testing::{Answer, Client, SILENT, request, world};

const FRONT: &str = "127.0.0.1:4599";
const NODES: [&str; 3] = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];

/// What a node of these tests does with requests.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Answers,
    /// With a 500.
    Fails,
    /// Takes the request and never answers.
    Hangs,
    /// Takes the request and closes the connection.
    Breaks,
}

/// A node: counts requests for operations and answers with its number and the headers it got.
#[derive(Clone)]
struct FakeNode {
    number: usize,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicU64>,
    /// How long it was told to have, in milliseconds.
    left: Arc<AtomicU64>,
}

impl FakeNode {
    async fn start(world: &World, number: usize) -> (Self, Server) {
        let node = Self {
            number,
            manner: Arc::new(Mutex::new(Manner::Answers)),
            asked: Arc::default(),
            left: Arc::default(),
        };
        let server = Server::start(world, NODES[number], node.clone(), Limits::default()).await;
        (node, server.unwrap())
    }

    fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn asked(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl Handler for FakeNode {
    async fn handle(&self, request: Incoming) -> Response<Full<Bytes>> {
        let manner = *self.manner.lock().unwrap();
        if matches!(Route::of(&request.parts), Ok(Route::Kms(_) | Route::Sts)) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let left = time_left(&request.parts.headers).unwrap().unwrap();
            let left = u64::try_from(left.as_millis()).unwrap();
            self.left.store(left, Ordering::Relaxed);
        }
        let status = match manner {
            Manner::Answers => 200,
            Manner::Fails => 500,
            Manner::Hangs => std::future::pending().await,
            // Nothing that a handler may do closes a connection but this.
            Manner::Breaks => panic!("a node that ends in the middle of a request"),
        };
        let host = request
            .parts
            .headers
            .get("host")
            .map(|host| host.to_str().unwrap());
        let body = format!(
            "{} {} {}",
            self.number,
            host.unwrap_or("-"),
            request.body.len()
        );
        plain_answer(
            status,
            HeaderValue::from_static("x/node"),
            body.into_bytes(),
        )
    }
}

struct Setting {
    world: World,
    nodes: Vec<FakeNode>,
    servers: Vec<Server>,
    client: Client,
    addresses: Nodes,
    _front: Server,
}

/// Two nodes in us-east-1, one in eu-west-1, none in eu-west-2.
async fn setting() -> Setting {
    let world = world();
    let (mut nodes, mut servers) = (Vec::new(), Vec::new());
    for number in 0..NODES.len() {
        let (node, server) = FakeNode::start(&world, number).await;
        nodes.push(node);
        servers.push(server);
    }
    let addresses = Nodes::new(&world);
    addresses.set(regions());
    let proxy = Proxy::new(addresses.clone(), ProxyWaits::default(), None);
    let front = Server::start(&world, FRONT, proxy, Limits::default())
        .await
        .unwrap();
    let client = Client::http1(&world, FRONT).await;
    Setting {
        world,
        nodes,
        servers,
        client,
        addresses,
        _front: front,
    }
}

fn at(addr: &str) -> NodeAt {
    NodeAt {
        addr: addr.to_owned(),
        token: Some(ProxyToken::of_node(addr)),
    }
}

fn regions() -> Vec<(Region, Vec<NodeAt>)> {
    vec![
        (
            "us-east-1".parse().unwrap(),
            NODES[..2].iter().map(|addr| at(addr)).collect(),
        ),
        ("eu-west-1".parse().unwrap(), vec![at(NODES[2])]),
        ("eu-west-2".parse().unwrap(), vec![at("127.0.0.1:9")]),
    ]
}

impl Setting {
    async fn ask(&mut self, operation: &str, region: &str) -> Answer {
        let scope = format!("test/{region}");
        self.client
            .send(request(operation, Some(&scope), r#"{"KeyId":"k"}"#))
            .await
    }

    /// Takes a node's connections and its address away.
    fn end(&mut self, number: usize) {
        drop(self.servers.remove(number));
    }
}

/// Catches a request that reaches another Region's node, or loses its host, body or ids on the way.
#[tokio::test(start_paused = true)]
async fn requests_reach_their_region() {
    let mut setting = setting().await;
    let answer = setting.ask("EnableKey", "eu-west-1").await;
    assert_eq!((answer.status, &*answer.body), (200, "2 kms.example 13"));
    assert_eq!(answer.header("content-type"), "x/node");
    assert_eq!(answer.header("x-amzn-requestid").len(), 36);
    let unsigned = request("ListKeys", None, "{}");
    assert!(
        ["0 kms.example 2", "1 kms.example 2"]
            .contains(&&*setting.client.send(unsigned).await.body)
    );
    let mut http2 = Client::http2(&setting.world, FRONT).await;
    let answer = http2
        .send(request("ListKeys", Some("test/eu-west-1"), "{}"))
        .await;
    assert_eq!(answer.body, "2 kms.example 2");
    let answer = setting.ask("EnableKey", "us-west-1").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .body
            .contains("Credential should be scoped to a valid region. \"")
    );
    let answer = setting.ask("EnableKey", "eu-west-2").await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.body,
        r#"{"__type":"DependencyTimeoutException","message":"No node of the Region eu-west-2 answered in time. Nothing was changed."}"#
    );
    setting
        .addresses
        .set(vec![("us-west-1".parse().unwrap(), vec![at(NODES[2])])]);
    assert_eq!(
        setting.ask("EnableKey", "us-west-1").await.body,
        "2 kms.example 13"
    );
}

/// Catches a request that fails although a live node could have taken them.
#[tokio::test(start_paused = true)]
async fn dead_nodes_are_passed_over() {
    let mut setting = setting().await;
    for _ in 0..4 {
        assert_eq!(setting.ask("EnableKey", "us-east-1").await.status, 200);
    }
    assert_eq!([setting.nodes[0].asked(), setting.nodes[1].asked()], [2, 2]);
    setting.end(0);
    for _ in 0..4 {
        assert_eq!(
            setting.ask("EnableKey", "us-east-1").await.body,
            "1 kms.example 13"
        );
        assert_eq!(
            setting.ask("ListKeys", "us-east-1").await.body,
            "1 kms.example 13"
        );
    }
    // It comes back and is noticed without a request having to try it.
    let (node, server) = FakeNode::start(&setting.world, 0).await;
    setting.servers.insert(0, server);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..4 {
        assert_eq!(setting.ask("EnableKey", "us-east-1").await.status, 200);
    }
    assert_eq!(node.asked(), 2);
}

/// Catches a change that is sent twice, or whose unknown outcome is passed off as a failure.
#[tokio::test(start_paused = true)]
async fn changes_are_sent_once() {
    let mut setting = setting().await;
    for manner in [Manner::Hangs, Manner::Breaks] {
        setting.nodes[..2].iter().for_each(|node| node.set(manner));
        let answer = setting.ask("EnableKey", "us-east-1").await;
        assert_eq!(
            (answer.status, answer.header("x-keyrum-outcome")),
            (500, "unknown")
        );
        assert!(
            answer
                .body
                .starts_with(r#"{"__type":"KMSInternalException""#),
            "{}",
            answer.body
        );
        assert!(answer.body.contains("us-east-1"));
        assert_eq!(setting.nodes[0].asked() + setting.nodes[1].asked(), 1);
    }
    // A node's own no is an answer.
    setting.nodes[..2]
        .iter()
        .for_each(|node| node.set(Manner::Fails));
    let answer = setting.ask("EnableKey", "us-east-1").await;
    assert_eq!(
        (answer.status, answer.header("x-keyrum-outcome")),
        (500, "")
    );
    assert_eq!(setting.nodes[0].asked() + setting.nodes[1].asked(), 1);
}

/// Catches a read that fails although another node would have answered it, and one that waits for
/// ever if none does.
#[tokio::test(start_paused = true)]
async fn reads_find_a_node_that_answers() {
    let mut setting = setting().await;
    for manner in [Manner::Hangs, Manner::Breaks, Manner::Fails] {
        setting.nodes[0].set(manner);
        let begin = Instant::now();
        for _ in 0..3 {
            assert_eq!(
                setting.ask("Encrypt", "us-east-1").await.body,
                "1 kms.example 13"
            );
        }
        // One of them may have waited for the silent node, for the hedge's time.
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{:?}",
            begin.elapsed()
        );
        setting.nodes[0].set(Manner::Answers);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    setting.nodes[..2]
        .iter()
        .for_each(|node| node.set(Manner::Hangs));
    let begin = Instant::now();
    let answer = setting.ask("Encrypt", "us-east-1").await;
    assert_eq!(
        (answer.status, answer.header("x-keyrum-outcome")),
        (500, "")
    );
    assert!(
        answer
            .body
            .starts_with(r#"{"__type":"DependencyTimeoutException""#)
    );
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    setting.nodes[..2]
        .iter()
        .for_each(|node| node.set(Manner::Fails));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        setting
            .ask("Encrypt", "us-east-1")
            .await
            .header("content-type"),
        "x/node"
    );
}

/// Catches a request that takes longer the more nodes it was tried at, one that is sent when there
/// is no time for an answer, and a node that works on for a caller who has gone.
#[tokio::test(start_paused = true)]
async fn all_nodes_share_one_limit() {
    const LIMIT: Duration = Duration::from_millis(4900);
    let mut setting = setting().await;
    let silent = |count: usize| vec![at(SILENT); count];
    let here = |addrs| vec![("us-east-1".parse().unwrap(), addrs)];
    let timed_out = "DependencyTimeoutException";

    for operation in ["EnableKey", "ListKeys"] {
        // A whole second each.
        setting.addresses.set(here(silent(9)));
        let begin = Instant::now();
        let answer = setting.ask(operation, "us-east-1").await;
        assert!(answer.body.contains(timed_out), "{}", answer.body);
        assert!(
            begin.elapsed() <= LIMIT,
            "{operation}: {:?}",
            begin.elapsed()
        );

        // Those that are down come last, so the one that is up has it all.
        let mut addrs = silent(3);
        addrs.push(at(NODES[0]));
        setting.addresses.set(here(addrs));
        let begin = Instant::now();
        let answer = setting.ask(operation, "us-east-1").await;
        assert_eq!(answer.body, "0 kms.example 13");
        let left = Duration::from_millis(setting.nodes[0].left.load(Ordering::Relaxed));
        let used = begin.elapsed();
        assert!(
            left + used < LIMIT,
            "{operation}: {left:?} left after {used:?}"
        );
        assert!(
            left + used > Duration::from_secs(4),
            "{left:?} after {used:?}"
        );
    }
    assert_eq!(setting.nodes[0].asked(), 2);

    // The second is asked when the first is silent, and told how much of the time is gone.
    setting.addresses.set(regions());
    setting.nodes[..2]
        .iter()
        .for_each(|node| node.set(Manner::Hangs));
    let begin = Instant::now();
    let answer = setting.ask("ListKeys", "us-east-1").await;
    assert!(answer.body.contains(timed_out), "{}", answer.body);
    assert!(begin.elapsed() <= LIMIT, "{:?}", begin.elapsed());
    let mut left = [0, 1].map(|node: usize| setting.nodes[node].left.load(Ordering::Relaxed));
    left.sort_unstable();
    assert_eq!(left, [3000, 4500]);

    // A caller may have less time.
    let mut hurried = request("ListKeys", Some("test/us-east-1"), "{}");
    let headers = hurried.headers_mut();
    headers.insert("x-keyrum-time-left-ms", HeaderValue::from_static("700"));
    let begin = Instant::now();
    let answer = setting.client.send(hurried).await;
    assert!(answer.body.contains(timed_out), "{}", answer.body);
    assert_eq!(begin.elapsed(), Duration::from_millis(700));
}

/// Catches a node that hangs half-way through its answer and holds the request for ever.
#[tokio::test(start_paused = true)]
async fn half_answers_are_no_answers() {
    let mut setting = setting().await;
    let mut listener = setting.world.network.listen("127.0.0.1:8").await.unwrap();
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
                    .await;
                std::future::pending::<()>().await;
            });
        }
    });
    setting.addresses.set(vec![(
        "us-east-1".parse().unwrap(),
        vec![at("127.0.0.1:8")],
    )]);
    let answer = setting.ask("EnableKey", "us-east-1").await;
    assert_eq!(
        (answer.status, answer.header("x-keyrum-outcome")),
        (500, "unknown")
    );
    let answer = setting.ask("ListKeys", "us-east-1").await;
    assert!(
        answer
            .body
            .starts_with(r#"{"__type":"DependencyTimeoutException""#)
    );
}
