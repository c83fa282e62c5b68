//! Rights that are taken away and given back while clients at every node use them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use keyrum_tests::sdk::HERE;
use keyrum_tests::{Cluster, Shape, wait};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::people::{At, OWNER, People, Person, known, on_key, own};
use crate::requests::{Bench, blob, root_statement};

/// From when a request was sent until it was answered.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: Instant,
    end: Instant,
}

/// A use that was answered, and whether it was allowed.
struct Use {
    operation: &'static str,
    node: usize,
    span: Span,
    allowed: bool,
}

/// A change of rights, and whether the use is allowed after it.
struct Change {
    span: Span,
    allows: bool,
    how: &'static str,
}

/// One client of one node that asks for one operation again and again.
struct User<'r> {
    at: At,
    node: usize,
    person: &'r Person,
    operation: &'static str,
    body: Value,
    /// How many uses were answered that began while the number of changes was this high or higher.
    seen: AtomicU64,
}

struct Race {
    changes: AtomicU64,
    over: AtomicBool,
}

impl User<'_> {
    /// Uses the key until the race is over.
    async fn run(&self, race: &Race) -> Vec<Use> {
        let mut uses = Vec::new();
        while !race.over.load(Ordering::Acquire) {
            let changes = race.changes.load(Ordering::Acquire);
            let begin = Instant::now();
            let answer = self.at.bytes(self.person, self.operation, &self.body).await;
            let end = Instant::now();
            // A node that is down, or a Region without a leader, says nothing about rights.
            let allowed = match answer.as_ref().map(crate::people::read) {
                Ok(Ok(_)) => true,
                Ok(Err((code, _))) if code == "AccessDeniedException" => false,
                _ => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    continue;
                }
            };
            let span = Span { begin, end };
            let (operation, node) = (self.operation, self.node);
            uses.push(Use {
                operation,
                node,
                span,
                allowed,
            });
            self.seen.store(changes, Ordering::Release);
        }
        uses
    }
}

/// Makes a change until it is known to have happened.
async fn change(bench: &Bench, operation: &'static str, body: &Value) -> (Span, Value) {
    let begin = Instant::now();
    let answer = wait::until(operation, wait::LONG, async || {
        let answer = bench.here.bytes(&bench.keeper, operation, body).await;
        match crate::people::read(answer.as_ref().ok()?) {
            Ok(answer) => Some(answer),
            // An earlier attempt of this change did it.
            Err((code, _)) if operation == "RevokeGrant" && code == "NotFoundException" => {
                Some(Value::Null)
            }
            Err((code, _)) if code.starts_with('5') => None,
            Err(error) => panic!("{operation}: {error:?}"),
        }
    })
    .await;
    let end = Instant::now();
    (Span { begin, end }, answer)
}

/// Whether a use went as the changes before it say; none if a change was under way meanwhile.
fn judge(used: &Use, changes: &[Change]) -> Option<bool> {
    let last = changes
        .iter()
        .rfind(|change| change.span.begin < used.span.end)?;
    (last.span.end < used.span.begin).then_some(last.allows == used.allowed)
}

async fn race(rounds: u32, kill_every: Option<u32>) {
    let mut people = People::default();
    let keeper = people.user(
        OWNER,
        "keeper",
        &[own("Allow", "Action", &["kms:*".to_owned()])],
    );
    let granted = people.user(OWNER, "granted", &[]);
    let by_policy = people.user(
        OWNER,
        "by-policy",
        &[own("Allow", "Action", &["kms:*".to_owned()])],
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("identities.toml");
    std::fs::write(&file, people.text()).expect("a file of identities");
    let cluster = Cluster::up(&Shape {
        credentials: "declared",
        lines: format!("identities = {file:?}"),
        ..Shape::one_region(3)
    })
    .await;
    let here = At::new(cluster.endpoint(), HERE);
    known(&here, &keeper).await;
    let bench = Bench::new(here.clone(), here, keeper);

    // One key whose grants come and go, one whose policy changes.
    let with_grants = bench.key("Encrypt", &[]).await;
    let with_policy = bench.key("Encrypt", &[root_statement()]).await;
    let mut users = Vec::new();
    let nodes = &cluster.ready().regions[HERE].nodes;
    for (key, person) in [(&with_grants, &granted), (&with_policy, &by_policy)] {
        let ciphertext = bench.ciphertext(key).await;
        for (node, url) in nodes.iter().map(|node| &node.api).enumerate() {
            for (operation, body) in [
                ("Encrypt", json!({"KeyId": key, "Plaintext": blob("x")})),
                (
                    "Decrypt",
                    json!({"KeyId": key, "CiphertextBlob": ciphertext}),
                ),
                ("GenerateDataKey", json!({"KeyId": key, "NumberOfBytes": 8})),
            ] {
                users.push(User {
                    at: At::new(url, HERE),
                    node,
                    person,
                    operation,
                    body,
                    seen: AtomicU64::new(0),
                });
            }
        }
    }
    let race = Race {
        changes: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let deny = on_key("Deny", &by_policy.arn, &["kms:*".to_owned()]);
    let put = |statements: &[Value]| {
        let policy = bench.policy(statements);
        json!({"KeyId": with_policy, "Policy": policy})
    };
    let (open, closed) = (put(&[root_statement()]), put(&[root_statement(), deny]));
    let alter = async {
        let (mut of_grant, mut of_policy) = (Vec::new(), Vec::new());
        let mut killed: Option<String> = None;
        for round in 1..=rounds {
            if let Some(node) = killed.take() {
                cluster.command(&["restart", &node]).await;
            }
            if kill_every.is_some_and(|every| round % every == 0) {
                let leader = cluster.leader().await;
                cluster.command(&["kill", &leader]).await;
                killed = Some(leader);
            }
            let grant = json!({
                "KeyId": with_grants,
                "GranteePrincipal": granted.arn,
                "Operations": ["Encrypt", "Decrypt", "GenerateDataKey"],
                // So that asking again does not make another one.
                "Name": format!("round-{round}"),
            });
            let (span, made) = change(&bench, "CreateGrant", &grant).await;
            of_grant.push(Change {
                span,
                allows: true,
                how: "CreateGrant",
            });
            let (span, _) = change(&bench, "PutKeyPolicy", &closed).await;
            of_policy.push(Change {
                span,
                allows: false,
                how: "PutKeyPolicy denies",
            });
            everybody_saw(&race, &users, killed.as_deref()).await;
            let revoke = json!({"KeyId": with_grants, "GrantId": made["GrantId"]});
            let (span, _) = change(&bench, "RevokeGrant", &revoke).await;
            of_grant.push(Change {
                span,
                allows: false,
                how: "RevokeGrant",
            });
            let (span, _) = change(&bench, "PutKeyPolicy", &open).await;
            of_policy.push(Change {
                span,
                allows: true,
                how: "PutKeyPolicy allows",
            });
            everybody_saw(&race, &users, killed.as_deref()).await;
        }
        race.over.store(true, Ordering::Release);
        (of_grant, of_policy)
    };
    let uses = join_all(users.iter().map(|user| user.run(&race)));
    let ((of_grant, of_policy), uses) = tokio::join!(alter, uses);
    let mut judged = [0_u64; 2];
    for (user, uses) in users.iter().zip(&uses) {
        let changes = match std::ptr::eq(user.person, &granted) {
            true => &of_grant,
            false => &of_policy,
        };
        for used in uses {
            match judge(used, changes) {
                Some(true) => judged[usize::from(used.allowed)] += 1,
                Some(false) => {
                    let before = changes.iter().rfind(|c| c.span.end < used.span.begin);
                    let (how, node) = (before.map(|change| change.how), used.node + 1);
                    let (operation, allowed) = (used.operation, used.allowed);
                    panic!("{operation} at node {node}, allowed: {allowed}, after {how:?}");
                }
                None => {}
            }
        }
    }
    let all: usize = uses.iter().map(Vec::len).sum();
    println!(
        "{all} uses; judged: {} denied, {} allowed",
        judged[0], judged[1]
    );
    let least = u64::from(rounds) * 9;
    assert!(judged[0] >= least && judged[1] >= least, "{judged:?}");
}

/// Waits until every client of a running node has had an answer to a use that began after the last
/// change.
async fn everybody_saw(race: &Race, users: &[User<'_>], killed: Option<&str>) {
    let now = race.changes.fetch_add(1, Ordering::AcqRel) + 1;
    let down = killed.and_then(|node| node.rsplit('/').next()?.parse::<usize>().ok());
    wait::until_true("use after the change", wait::LONG, async || {
        let mut users = users.iter().filter(|user| Some(user.node + 1) != down);
        users.all(|user| user.seen.load(Ordering::Acquire) >= now)
    })
    .await;
}

/// Catches a use that succeeds at some node though it began after the answer to the revocation of its
/// grant, or to the policy that denies it; and one refused though it began after the right was back.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_ends_everywhere_at_once() {
    race(30, None).await;
}

/// Catches the same while leaders are killed, whose successors or who themselves, started again, might
/// go by an older state.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_ends_everywhere_at_once_though_leaders_die() {
    race(12, Some(3)).await;
}
