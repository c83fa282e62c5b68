//! One client: makes calls, one at a time, on keys and aliases that only it writes, and notes what
//! it was told. Every read is compared with that at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyrum_types::{KeyId, KeyState, NodeId};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::place::{Place, Roster};
use super::trace::Trace;
use crate::checks::acknowledged::{Creation, Expected};
use crate::checks::decrypts::{self, Decrypted};
use crate::checks::register::Register;
use crate::checks::{Ending, Finding};
use crate::dice::Dice;
use crate::experiment::Outcome;
use crate::workload::Phase;
use crate::workload::api::{Api, Reads};

/// Names the tag that sessions write.
pub(crate) const TAG: &str = "lab";

/// Aliases a session has.
const ALIASES: usize = 4;

/// Keys a session works on at a time: the latest.
const KEYS_IN_USE: usize = 10;

/// How many of a hundred calls read by the leader's lease unless the workload says.
pub(crate) const LEASE_PERCENT: u64 = 30;

/// How long a session tries a call once the group has healed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How many keys and ciphertexts a session looks at when all is over.
const LOOKS: usize = 12;

/// What a session notes, for the checks at the end.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) creations: Vec<Creation>,
    pub(crate) keys: Vec<Expected>,
    pub(crate) aliases: BTreeMap<String, Register<Option<KeyId>>>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) calls: u64,
    pub(crate) acknowledged: u64,
    pub(crate) answered: u64,
    pub(crate) not_done: u64,
    pub(crate) unknown: u64,
    pub(crate) decrypted: u64,
    /// Calls that were refused because a policy forbids them.
    pub(crate) forbidden: u64,
    /// Ciphertexts that were decrypted in another Region than the one that made them.
    pub(crate) crossed: u64,
    /// Whether the session has finished its calls, and then its looks.
    pub(crate) rests: bool,
    pub(crate) looked: bool,
}

/// What a client finds around it.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) phase: Rc<Cell<Phase>>,
    pub(crate) trace: Trace,
    pub(crate) roster: Roster,
    /// How many of a hundred calls read by the leader's lease, and not linearizably.
    pub(crate) lease_percent: u64,
    /// How many times longer than usual it pauses between calls.
    pub(crate) pace: u64,
}

struct Ciphertext {
    /// Index of its key.
    key: usize,
    plaintext: Vec<u8>,
    blob: String,
}

/// One client.
pub(crate) struct Session {
    name: String,
    dice: Dice,
    api: Api,
    node: NodeId,
    book: Rc<RefCell<Book>>,
    scene: Scene,
    /// Whether it schedules deletions, which come true if the Region's clock is moved ahead.
    deletes: bool,
    ciphertexts: Vec<Ciphertext>,
    /// Makes descriptions and tag values unlike any other.
    count: u64,
}

impl Session {
    pub(crate) fn new(
        name: String,
        dice: Dice,
        api: Api,
        scene: Scene,
        deletes: bool,
    ) -> (Self, Rc<RefCell<Book>>) {
        let mut book = Book::default();
        for alias in 0..ALIASES {
            book.aliases
                .insert(format!("alias/{name}-{alias}"), Register::new(None));
        }
        let book = Rc::new(RefCell::new(book));
        let session = Self {
            name,
            dice,
            api,
            node: 1,
            book: book.clone(),
            scene,
            deletes,
            ciphertexts: Vec::new(),
            count: 0,
        };
        (session, book)
    }

    /// Works until told to rest, then looks whether everything is there.
    pub(crate) async fn run(mut self) {
        self.node = self.scene.roster.pick(0, &mut self.dice);
        while self.scene.phase.get() == Phase::Work {
            self.work().await;
            let pause = self.dice.between(10, 160);
            sleep(Duration::from_millis(pause * self.scene.pace)).await;
            if self.dice.percent(8) {
                self.node = self.scene.roster.pick(0, &mut self.dice);
            }
        }
        self.book.borrow_mut().rests = true;
        while self.scene.phase.get() != Phase::Look {
            sleep(Duration::from_millis(20)).await;
        }
        self.look().await;
        self.book.borrow_mut().looked = true;
    }

    async fn work(&mut self) {
        let keys = self.book.borrow().keys.len();
        if keys == 0 || self.dice.percent(14) {
            return self.create().await;
        }
        let key = keys - 1 - self.dice.index(keys.min(KEYS_IN_USE));
        match self.dice.below(100) {
            0..18 => {
                self.change_state(key).await;
                if self.looks_elsewhere() {
                    self.describe(key).await;
                }
            }
            18..32 => {
                self.tag(key).await;
                if self.looks_elsewhere() {
                    self.list_tags(key).await;
                }
            }
            32..48 => {
                let alias = self.alias();
                self.change_alias(&alias, key).await;
                if self.looks_elsewhere() {
                    self.describe_alias(&alias).await;
                }
            }
            48..60 => self.encrypt(key).await,
            60..74 if !self.ciphertexts.is_empty() => {
                let which = self.dice.index(self.ciphertexts.len());
                self.decrypt(which).await;
            }
            74..82 => {
                let alias = self.alias();
                self.describe_alias(&alias).await;
            }
            82..90 => self.list_tags(key).await,
            _ => self.describe(key).await,
        };
    }

    async fn call(&mut self, operation: &str, input: Value) -> Outcome {
        let number = {
            let mut book = self.book.borrow_mut();
            book.calls += 1;
            book.calls
        };
        let node = self.node;
        let who = self.name.clone();
        let reads = match self.dice.percent(self.scene.lease_percent) {
            true => Reads::Lease,
            false => Reads::Linearizable,
        };
        let how = reads.name();
        self.scene.trace.line(
            &who,
            format_args!("#{number} to node {node}, {how}: {operation} {input}"),
        );
        let place = Place { region: 0, node };
        let reply = self.api.call(place, operation, &input, reads).await;
        self.scene
            .trace
            .line(&who, format_args!("#{number} {reply:?}"));
        match &reply {
            Outcome::Done(_) | Outcome::Refused { .. } => {}
            Outcome::NotDone(_) => {
                self.book.borrow_mut().not_done += 1;
                self.node = self.scene.roster.after(place).node;
            }
            Outcome::Unknown(_) => {
                self.book.borrow_mut().unknown += 1;
                self.node = self.scene.roster.after(place).node;
            }
        }
        reply
    }

    fn find(&self, check: &'static str, what: impl std::fmt::Display) {
        let finding = Finding::new(check, format_args!("{}: {what}", self.name));
        self.scene
            .trace
            .line(&self.name, format_args!("FINDING {finding}"));
        self.book.borrow_mut().findings.push(finding);
    }

    /// A mutation that must succeed if anything is decided at all.
    async fn mutate(&mut self, operation: &str, input: Value) -> Ending<Value> {
        match self.call(operation, input).await {
            Outcome::Done(answer) => {
                self.book.borrow_mut().acknowledged += 1;
                Ending::Acknowledged(answer)
            }
            Outcome::Refused { error, message } => {
                let why = format!(
                    "{operation} #{} is refused: {error} {message}",
                    self.calls()
                );
                self.find("session-order", why);
                Ending::NotDone
            }
            Outcome::NotDone(_) => Ending::NotDone,
            Outcome::Unknown(_) => Ending::Unknown,
        }
    }

    fn calls(&self) -> u64 {
        self.book.borrow().calls
    }

    fn id(&self, key: usize) -> KeyId {
        self.book.borrow().keys[key].id
    }

    fn state(&self, key: usize) -> Option<KeyState> {
        self.book.borrow().keys[key].state.sure().copied()
    }

    /// Whether the key certainly does not wait to be deleted.
    fn stays(&self, key: usize) -> bool {
        self.state(key)
            .is_some_and(|state| state != KeyState::PendingDeletion)
    }

    fn unlike_any_other(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.name, self.count)
    }

    /// Chooses whether to look at once what a mutation did, and from any node: a node that is
    /// behind, or a leader that came back, must not show what was before.
    fn looks_elsewhere(&mut self) -> bool {
        let looks = self.dice.percent(40);
        if looks {
            self.node = self.scene.roster.pick(0, &mut self.dice);
        }
        looks
    }

    fn alias(&mut self) -> String {
        format!("alias/{}-{}", self.name, self.dice.index(ALIASES))
    }

    async fn create(&mut self) {
        let description = self.unlike_any_other();
        let ended = self
            .mutate("CreateKey", json!({ "Description": description }))
            .await;
        let ending = match ended {
            Ending::Acknowledged(answer) => match key_id(&answer) {
                Some(id) => Ending::Acknowledged(id),
                None => {
                    self.find("session-order", format_args!("CreateKey answers {answer}"));
                    return;
                }
            },
            Ending::NotDone => Ending::NotDone,
            Ending::Unknown => Ending::Unknown,
        };
        let mut book = self.book.borrow_mut();
        if let Ending::Acknowledged(id) = ending {
            book.keys.push(Expected {
                id,
                state: Register::new(KeyState::Enabled),
                tag: Register::new(None),
            });
        }
        book.creations.push(Creation {
            description,
            ending,
        });
    }

    async fn change_state(&mut self, key: usize) {
        use KeyState::{Disabled, Enabled, PendingDeletion};
        let deletes = self.dice.percent(20) && self.deletes;
        let (operation, becomes) = match self.state(key) {
            None => return self.describe(key).await,
            Some(PendingDeletion) => ("CancelKeyDeletion", Disabled),
            Some(_) if deletes => ("ScheduleKeyDeletion", PendingDeletion),
            Some(Enabled) => ("DisableKey", Disabled),
            Some(_) => ("EnableKey", Enabled),
        };
        let mut input = json!({ "KeyId": self.id(key).to_string() });
        if becomes == PendingDeletion {
            input["PendingWindowInDays"] = json!(self.dice.between(7, 30));
        }
        let ended = self.mutate(operation, input).await;
        note(&mut self.book.borrow_mut().keys[key].state, &ended, becomes);
    }

    async fn tag(&mut self, key: usize) {
        let sure = self.book.borrow().keys[key].tag.sure().is_some();
        if !sure || !self.stays(key) {
            return self.list_tags(key).await;
        }
        let value = self.unlike_any_other();
        let tags = json!([{ "TagKey": TAG, "TagValue": value }]);
        let input = json!({ "KeyId": self.id(key).to_string(), "Tags": tags });
        let ended = self.mutate("TagResource", input).await;
        note(
            &mut self.book.borrow_mut().keys[key].tag,
            &ended,
            Some(value),
        );
    }

    async fn change_alias(&mut self, alias: &str, key: usize) {
        let target = self.book.borrow().aliases[alias].sure().copied();
        let id = self.id(key);
        let (operation, becomes) = match target {
            None => return self.describe_alias(alias).await,
            Some(None) if !self.stays(key) => return self.describe(key).await,
            Some(None) => ("CreateAlias", Some(id)),
            Some(Some(named)) if named == id || !self.stays(key) => ("DeleteAlias", None),
            Some(Some(_)) => ("UpdateAlias", Some(id)),
        };
        let mut input = json!({ "AliasName": alias });
        if let Some(id) = becomes {
            input["TargetKeyId"] = json!(id.to_string());
        }
        let ended = self.mutate(operation, input).await;
        let mut book = self.book.borrow_mut();
        note(
            book.aliases.get_mut(alias).expect("all of them are there"),
            &ended,
            becomes,
        );
    }

    async fn describe(&mut self, key: usize) {
        let id = self.id(key);
        let reply = self
            .call("DescribeKey", json!({ "KeyId": id.to_string() }))
            .await;
        let seen = match reply {
            Outcome::Done(answer) => {
                let state = answer["KeyMetadata"]["KeyState"]
                    .as_str()
                    .map(str::to_owned);
                match state.as_deref().and_then(KeyState::from_name) {
                    Some(state) => state,
                    None => return self.find("session-order", format_args!("{id}: {answer}")),
                }
            }
            Outcome::Refused { error, message } => {
                return self.find("session-order", format_args!("{id}: {error} {message}"));
            }
            Outcome::NotDone(_) | Outcome::Unknown(_) => return,
        };
        let read = {
            let mut book = self.book.borrow_mut();
            book.answered += 1;
            book.keys[key].state.read(&seen)
        };
        if let Err(impossible) = read {
            self.find(
                "session-order",
                format_args!("the state of key {id} {impossible}"),
            );
        }
    }

    async fn describe_alias(&mut self, alias: &str) {
        let seen = match self.call("DescribeKey", json!({ "KeyId": alias })).await {
            Outcome::Done(answer) => match key_id(&answer) {
                Some(id) => Some(id),
                None => return self.find("session-order", format_args!("{alias}: {answer}")),
            },
            Outcome::Refused { error, .. } if error == "NotFoundException" => None,
            Outcome::Refused { error, message } => {
                return self.find("session-order", format_args!("{alias}: {error} {message}"));
            }
            Outcome::NotDone(_) | Outcome::Unknown(_) => return,
        };
        let read = {
            let mut book = self.book.borrow_mut();
            book.answered += 1;
            book.aliases
                .get_mut(alias)
                .expect("all of them are there")
                .read(&seen)
        };
        if let Err(impossible) = read {
            self.find("session-order", format_args!("{alias} {impossible}"));
        }
    }

    async fn list_tags(&mut self, key: usize) {
        let id = self.id(key);
        let seen = match self
            .call("ListResourceTags", json!({ "KeyId": id.to_string() }))
            .await
        {
            Outcome::Done(answer) => {
                let tags = answer["Tags"].as_array().cloned().unwrap_or_default();
                let ours = tags.iter().find(|tag| tag["TagKey"] == TAG);
                ours.and_then(|tag| tag["TagValue"].as_str())
                    .map(str::to_owned)
            }
            Outcome::Refused { error, message } => {
                return self.find("session-order", format_args!("{id}: {error} {message}"));
            }
            Outcome::NotDone(_) | Outcome::Unknown(_) => return,
        };
        let read = {
            let mut book = self.book.borrow_mut();
            book.answered += 1;
            book.keys[key].tag.read(&seen)
        };
        if let Err(impossible) = read {
            self.find(
                "session-order",
                format_args!("the tag of key {id} {impossible}"),
            );
        }
    }

    async fn encrypt(&mut self, key: usize) {
        let length = self.dice.between(1, 64);
        let plaintext = self
            .dice
            .bytes(usize::try_from(length).expect("a short text"));
        let input =
            json!({ "KeyId": self.id(key).to_string(), "Plaintext": BASE64.encode(&plaintext) });
        let enabled = self.state(key).map(|state| state == KeyState::Enabled);
        match self.call("Encrypt", input).await {
            Outcome::Done(answer) => {
                self.book.borrow_mut().answered += 1;
                if enabled == Some(false) {
                    self.find(
                        "session-order",
                        "Encrypt works though the key is not enabled",
                    );
                }
                let blob = answer["CiphertextBlob"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                self.ciphertexts.push(Ciphertext {
                    key,
                    plaintext,
                    blob,
                });
            }
            Outcome::Refused { error, message } if enabled == Some(true) => {
                self.find(
                    "session-order",
                    format_args!("Encrypt is refused: {error} {message}"),
                );
            }
            Outcome::Refused { .. } => self.book.borrow_mut().answered += 1,
            Outcome::NotDone(_) | Outcome::Unknown(_) => {}
        }
    }

    /// Gives whether there was an answer.
    async fn decrypt(&mut self, which: usize) -> bool {
        let Ciphertext {
            key,
            plaintext,
            blob,
        } = &self.ciphertexts[which];
        let (key, plaintext) = (*key, plaintext.clone());
        let input = json!({ "CiphertextBlob": blob });
        let enabled = self.state(key).map(|state| state == KeyState::Enabled);
        let ended = match self.call("Decrypt", input).await {
            Outcome::Done(answer) => {
                let text = answer["Plaintext"].as_str().unwrap_or_default();
                Decrypted::Plaintext(BASE64.decode(text).unwrap_or_default())
            }
            Outcome::Refused { error, message } => Decrypted::Refused(format!("{error} {message}")),
            Outcome::NotDone(_) | Outcome::Unknown(_) => Decrypted::Nothing,
        };
        let name = format!("{}: ciphertext {which} of key {}", self.name, self.id(key));
        if let Err(finding) = decrypts::check(&name, &plaintext, enabled, &ended) {
            self.scene
                .trace
                .line(&self.name, format_args!("FINDING {finding}"));
            self.book.borrow_mut().findings.push(finding);
        }
        let mut book = self.book.borrow_mut();
        book.answered += u64::from(ended != Decrypted::Nothing);
        book.decrypted += u64::from(matches!(ended, Decrypted::Plaintext(_)));
        ended != Decrypted::Nothing
    }

    /// When all is over: every key, alias and ciphertext can be used through the API, on any node.
    async fn look(&mut self) {
        let keys = self.book.borrow().keys.len();
        for nth in 0..keys.min(LOOKS) {
            self.node = self.scene.roster.pick(0, &mut self.dice);
            let key = if nth < LOOKS / 2 {
                keys - 1 - nth
            } else {
                self.dice.index(keys)
            };
            if !self
                .persist(async |session| session.describe_once(key).await)
                .await
            {
                return;
            }
        }
        for _ in 0..self.ciphertexts.len().min(LOOKS) {
            self.node = self.scene.roster.pick(0, &mut self.dice);
            let which = self.dice.index(self.ciphertexts.len());
            if !self
                .persist(async |session| session.decrypt(which).await)
                .await
            {
                return;
            }
        }
    }

    async fn describe_once(&mut self, key: usize) -> bool {
        let before = self.book.borrow().answered;
        self.describe(key).await;
        let book = self.book.borrow();
        book.answered > before || !book.findings.is_empty()
    }

    /// Repeats a call until it is answered. Gives whether it was, in time.
    async fn persist(&mut self, mut call: impl AsyncFnMut(&mut Self) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !call(self).await {
            if Instant::now() > deadline {
                self.find(
                    "healed",
                    format_args!("call #{} has no answer", self.calls()),
                );
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

fn note<V: Clone + PartialEq + std::fmt::Debug>(
    register: &mut Register<V>,
    ended: &Ending<Value>,
    becomes: V,
) {
    match ended {
        Ending::Acknowledged(_) => register.written(becomes),
        Ending::Unknown => register.maybe_written(becomes),
        Ending::NotDone => {}
    }
}

fn key_id(answer: &Value) -> Option<KeyId> {
    answer["KeyMetadata"]["KeyId"].as_str()?.parse().ok()
}
