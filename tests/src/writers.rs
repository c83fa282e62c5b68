//! Writers that note what they were told, and the check that it is true afterwards.
//!
//! Each writer changes only keys and aliases of its own, so what it was told fixes what must be
//! there. A call without an answer, or whose answer leaves the outcome open, may or may not have
//! taken effect, also later: what it was about is left alone from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_kms::Client;
use aws_sdk_kms::types::AliasListEntry;
use tokio::task::JoinSet;

use crate::sdk::{Failed, failed};

/// What a writer knows about one key that it asked for.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// Unique among all keys that were ever asked for.
    pub description: String,
    /// `None` if the outcome of its creation is unknown.
    pub id: Option<String>,
    /// Whether it is enabled; both if that is unknown.
    pub enabled: BTreeSet<bool>,
    /// Names of aliases asked for it, and whether each is there; both if that is unknown.
    pub aliases: BTreeMap<String, BTreeSet<bool>>,
}

/// What one writer did.
#[derive(Debug, Default)]
pub struct History {
    /// In order of creation.
    pub keys: Vec<KeyRecord>,
    /// Answers that no correct cluster gives.
    pub wrong: Vec<String>,
    /// Calls whose outcome is unknown.
    pub unknown: u64,
}

/// Writers at work.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: JoinSet<History>,
}

impl Writers {
    /// Starts `count` writers, each of which begins with another of the clients and goes on to
    /// the next when a call fails. `name` makes descriptions unique between runs.
    pub fn start(name: &str, count: usize, clients: &[Client]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let mut clients = clients.to_vec();
            let first = number % clients.len();
            clients.rotate_left(first);
            let writer = Writer {
                name: format!("{name}-{number}"),
                clients,
                acknowledged: acknowledged.clone(),
                history: History::default(),
            };
            tasks.spawn(writer.run(stop.clone()));
        }
        Self {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Changes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets every writer finish its call and returns what they did.
    pub async fn stop(self) -> Vec<History> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await
    }
}

struct Writer {
    name: String,
    /// The first is asked.
    clients: Vec<Client>,
    acknowledged: Arc<AtomicU64>,
    history: History,
}

/// What a call came to.
enum Outcome<T> {
    Done(T),
    /// It changed nothing.
    Nothing,
    Unknown,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> History {
        let mut step = 0_u64;
        let mut current = None;
        while !stop.load(Ordering::Relaxed) {
            step += 1;
            // A new key whenever the last one may not be touched any more, and at times anyway.
            current = match current {
                Some(key) if !step.is_multiple_of(7) => self.change(key, step).await,
                _ => self.create(step).await,
            };
        }
        self.history
    }

    async fn create(&mut self, step: u64) -> Option<usize> {
        let description = format!("{} {step}", self.name);
        let answer = self.clients[0]
            .create_key()
            .description(&description)
            .send()
            .await;
        let answer = self.judge("CreateKey", answer.map_err(failed));
        let id = match answer {
            Outcome::Done(output) => Some(
                output
                    .key_metadata()
                    .expect("an answer describes the key")
                    .key_id()
                    .to_owned(),
            ),
            Outcome::Nothing => return None,
            Outcome::Unknown => None,
        };
        let usable = id.is_some();
        let enabled = BTreeSet::from([true]);
        let record = KeyRecord {
            description,
            id,
            enabled,
            aliases: BTreeMap::new(),
        };
        self.history.keys.push(record);
        usable.then(|| self.history.keys.len() - 1)
    }

    /// Changes a key; `None` when it must be left alone from now on.
    async fn change(&mut self, at: usize, step: u64) -> Option<usize> {
        let id = self.history.keys[at].id.clone()?;
        match step % 3 {
            0 => {
                let name = format!("alias/{}/{step}", self.name);
                let call = self.clients[0]
                    .create_alias()
                    .alias_name(&name)
                    .target_key_id(id);
                let answer = call.send().await.map_err(failed);
                let there = match self.judge("CreateAlias", answer) {
                    Outcome::Done(_) => BTreeSet::from([true]),
                    Outcome::Nothing => return Some(at),
                    Outcome::Unknown => BTreeSet::from([false, true]),
                };
                let known = there.len() == 1;
                self.history.keys[at].aliases.insert(name, there);
                known.then_some(at)
            }
            1 if self.history.keys[at].enabled.contains(&false) => {
                let answer = self.clients[0]
                    .enable_key()
                    .key_id(id)
                    .send()
                    .await
                    .map_err(failed);
                let outcome = self.judge("EnableKey", answer);
                self.note_enabled(at, true, &outcome)
            }
            1 => {
                let answer = self.clients[0]
                    .disable_key()
                    .key_id(id)
                    .send()
                    .await
                    .map_err(failed);
                let outcome = self.judge("DisableKey", answer);
                self.note_enabled(at, false, &outcome)
            }
            _ => {
                let known = |(_, there): &(&String, &BTreeSet<bool>)| {
                    there.len() == 1 && there.contains(&true)
                };
                let aliases = &self.history.keys[at].aliases;
                let Some(name) = aliases.iter().find(known).map(|(name, _)| name.clone()) else {
                    return Some(at);
                };
                let call = self.clients[0].delete_alias().alias_name(&name);
                let answer = call.send().await.map_err(failed);
                let there = match self.judge("DeleteAlias", answer) {
                    Outcome::Done(_) => BTreeSet::from([false]),
                    Outcome::Nothing => return Some(at),
                    Outcome::Unknown => BTreeSet::from([false, true]),
                };
                let known = there.len() == 1;
                self.history.keys[at].aliases.insert(name, there);
                known.then_some(at)
            }
        }
    }

    fn note_enabled<T>(&mut self, at: usize, enabled: bool, outcome: &Outcome<T>) -> Option<usize> {
        let states = &mut self.history.keys[at].enabled;
        match outcome {
            Outcome::Done(_) => *states = BTreeSet::from([enabled]),
            Outcome::Nothing => {}
            Outcome::Unknown => {
                states.insert(enabled);
                return None;
            }
        }
        Some(at)
    }

    fn judge<T>(&mut self, operation: &str, answer: Result<T, Failed>) -> Outcome<T> {
        match answer {
            Ok(output) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Outcome::Done(output)
            }
            Err(Failed::Unsent(_)) => {
                self.clients.rotate_left(1);
                Outcome::Nothing
            }
            Err(Failed::Silence(_)) => {
                self.clients.rotate_left(1);
                self.history.unknown += 1;
                Outcome::Unknown
            }
            Err(Failed::Answer(code, message)) => match code.as_str() {
                "DependencyTimeoutException" => Outcome::Nothing,
                "KMSInternalException" => {
                    self.history.unknown += 1;
                    Outcome::Unknown
                }
                // Every name is new and every key is the writer's own: a refusal means that a
                // call was applied twice, or that one acknowledged was not applied.
                _ => {
                    let wrong = format!("{} {operation}: {code} {message:?}", self.name);
                    self.history.wrong.push(wrong);
                    Outcome::Unknown
                }
            },
        }
    }
}

/// How many keys are described at once.
const DESCRIBE_AT_ONCE: usize = 16;

/// A key as it is: its description and whether it is enabled.
type Found = (String, bool);

/// Compares all that a Region holds with what writers were told, in one run or several; each line
/// is one contradiction. A key that nobody asked for is one too.
pub async fn check(client: &Client, histories: &[History]) -> Vec<String> {
    let keys = describe(client, all_keys(client).await).await;
    let mut wrong = compare(&keys, &all_aliases(client).await, histories);
    let asked: BTreeSet<&str> = records(histories)
        .map(|key| key.description.as_str())
        .collect();
    let mut found = BTreeSet::new();
    for (id, (description, _)) in &keys {
        if !found.insert(description) {
            wrong.push(format!(
                "{description} was applied more than once, also as {id}"
            ));
        }
        if !asked.contains(description.as_str()) {
            wrong.push(format!("nobody asked for {id}, {description:?}"));
        }
    }
    wrong
}

/// Asserts that there are no contradictions; shows a few if there are.
#[track_caller]
pub fn none(when: &str, contradictions: &[String]) {
    let some: Vec<_> = contradictions.iter().take(10).collect();
    let count = contradictions.len();
    assert!(
        count == 0,
        "{count} contradictions {when}, such as {some:#?}"
    );
}

/// Compares only the keys whose creation these writers saw acknowledged.
pub async fn check_only(client: &Client, histories: &[History]) -> Vec<String> {
    let there: BTreeSet<String> = all_keys(client).await.into_iter().collect();
    let ids = records(histories).filter_map(|record| record.id.clone());
    let keys = describe(client, ids.filter(|id| there.contains(id)).collect()).await;
    compare(&keys, &all_aliases(client).await, histories)
}

fn records(histories: &[History]) -> impl Iterator<Item = &KeyRecord> {
    histories.iter().flat_map(|history| &history.keys)
}

fn compare(
    keys: &BTreeMap<String, Found>,
    aliases: &BTreeMap<String, String>,
    histories: &[History],
) -> Vec<String> {
    let mut wrong: Vec<String> = histories.iter().flat_map(|h| h.wrong.clone()).collect();
    for record in records(histories) {
        let Some(id) = &record.id else { continue };
        let Some((description, enabled)) = keys.get(id) else {
            wrong.push(format!("{record:?} is gone"));
            continue;
        };
        if *description != record.description || !record.enabled.contains(enabled) {
            wrong.push(format!("{record:?} is {description:?}, enabled: {enabled}"));
        }
        for (name, there) in &record.aliases {
            let target = aliases.get(name);
            if !there.contains(&target.is_some()) || target.is_some_and(|target| target != id) {
                wrong.push(format!("{record:?}: {name} leads to {target:?}"));
            }
        }
    }
    wrong
}

async fn all_keys(client: &Client) -> Vec<String> {
    let mut ids = Vec::new();
    let mut marker = None;
    loop {
        let page = client
            .list_keys()
            .limit(1000)
            .set_marker(marker)
            .send()
            .await;
        let page = page.expect("keys can be listed");
        ids.extend(
            page.keys()
                .iter()
                .filter_map(|key| key.key_id())
                .map(str::to_owned),
        );
        marker = page.next_marker().map(str::to_owned);
        if marker.is_none() {
            return ids;
        }
    }
}

async fn describe(client: &Client, ids: Vec<String>) -> BTreeMap<String, Found> {
    let ids = Arc::new(ids);
    let mut tasks = JoinSet::new();
    for first in 0..DESCRIBE_AT_ONCE {
        let (client, ids) = (client.clone(), ids.clone());
        tasks.spawn(async move {
            let mut found = Vec::new();
            for id in ids.iter().skip(first).step_by(DESCRIBE_AT_ONCE) {
                let answer = client.describe_key().key_id(id).send().await;
                let answer = answer.expect("a listed key can be described");
                let data = answer.key_metadata().expect("an answer describes the key");
                let description = data.description().unwrap_or_default().to_owned();
                found.push((id.clone(), (description, data.enabled())));
            }
            found
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Every alias and the key it leads to.
async fn all_aliases(client: &Client) -> BTreeMap<String, String> {
    let mut aliases = BTreeMap::new();
    let mut marker = None;
    loop {
        let page = client
            .list_aliases()
            .limit(100)
            .set_marker(marker)
            .send()
            .await;
        let page = page.expect("aliases can be listed");
        let with_key = |alias: &&AliasListEntry| alias.target_key_id().is_some();
        for alias in page.aliases().iter().filter(with_key) {
            let name = alias.alias_name().unwrap_or_default().to_owned();
            aliases.insert(name, alias.target_key_id().unwrap_or_default().to_owned());
        }
        marker = page.next_marker().map(str::to_owned);
        if marker.is_none() {
            return aliases;
        }
    }
}
