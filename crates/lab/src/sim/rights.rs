//! A client whose right to rotate its key comes and goes: it changes the key's policy, and right then
//! uses the right, often through another node. What was acknowledged last decides. A rotation can be
//! repeated and counts each time, so each must have been done once.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use keyrum_state::ON_DEMAND_ROTATIONS_MAX;
use keyrum_types::NodeId;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::place::Place;
use super::session::{Book, Scene};
use crate::checks::acknowledged::Creation;
use crate::checks::{Ending, Finding};
use crate::dice::Dice;
use crate::experiment::Outcome;
use crate::workload::Phase;
use crate::workload::api::{Api, Reads};

const AUTHORIZATION: &str = "authorization";
const ONCE: &str = "exactly-once";

/// How long after it ended for its client a call may still be carried out: no node tries longer.
const LATE: Duration = Duration::from_secs(5);

/// The key that a session works on.
#[derive(Clone)]
struct Owned {
    id: String,
    /// Whether its policy lets it be rotated; `None` if the last change may come at any time.
    allowed: Option<bool>,
    /// How many rotations were acknowledged, and how many more may have been done.
    rotated: usize,
    unknown: usize,
}

/// One client.
pub(super) struct RightsSession {
    name: String,
    dice: Dice,
    api: Api,
    node: NodeId,
    book: Rc<RefCell<Book>>,
    scene: Scene,
    key: Option<Owned>,
    /// Whether the Region has obeyed a policy. A new one does once all its nodes have said that they
    /// know how.
    obeys: bool,
}

impl RightsSession {
    pub(super) fn new(
        name: String,
        dice: Dice,
        api: Api,
        scene: Scene,
    ) -> (Self, Rc<RefCell<Book>>) {
        let book = Rc::new(RefCell::new(Book::default()));
        let session = Self {
            name,
            dice,
            api,
            node: 1,
            book: book.clone(),
            scene,
            key: None,
            obeys: false,
        };
        (session, book)
    }

    /// Works until told to rest. At the end the session has nothing to look at.
    pub(super) async fn run(mut self) {
        while self.scene.phase.get() == Phase::Work {
            self.work().await;
            let pause = self.dice.between(10, 160);
            sleep(Duration::from_millis(pause * self.scene.pace)).await;
        }
        let mut book = self.book.borrow_mut();
        (book.rests, book.looked) = (true, true);
    }

    async fn work(&mut self) {
        let most = usize::from(ON_DEMAND_ROTATIONS_MAX);
        let owned = self.key.clone();
        let Some(mut key) = owned.filter(|key| key.rotated + key.unknown < most) else {
            return self.create().await;
        };
        match key.allowed {
            Some(allowed) if self.dice.percent(35) => self.put_policy(&mut key, !allowed).await,
            Some(_) => {}
            None => {
                sleep(LATE).await;
                let allow = self.dice.percent(70);
                self.put_policy(&mut key, allow).await;
            }
        }
        if self.dice.percent(60) {
            self.node = self.scene.roster.pick(0, &mut self.dice);
        }
        if let Some(allowed) = key.allowed {
            self.rotate(&mut key, allowed).await;
        }
        if self.dice.percent(25) {
            self.count(&mut key).await;
        }
        self.key = Some(key);
    }

    async fn call(&mut self, operation: &str, input: Value) -> Outcome {
        let number = {
            let mut book = self.book.borrow_mut();
            book.calls += 1;
            book.calls
        };
        let node = self.node;
        let said = format_args!("#{number} to node {node}: {operation} {input}");
        self.scene.trace.line(&self.name, said);
        let place = Place { region: 0, node };
        let reads = Reads::Linearizable;
        let reply = self.api.call(place, operation, &input, reads).await;
        self.scene
            .trace
            .line(&self.name, format_args!("#{number} {reply:?}"));
        let mut book = self.book.borrow_mut();
        match &reply {
            Outcome::Done(_) if operation != "ListKeyRotations" => book.acknowledged += 1,
            Outcome::Done(_) => {}
            Outcome::Refused { .. } => {}
            Outcome::NotDone(_) => book.not_done += 1,
            Outcome::Unknown(_) => book.unknown += 1,
        }
        if matches!(reply, Outcome::NotDone(_) | Outcome::Unknown(_)) {
            self.node = self.scene.roster.after(place).node;
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

    async fn create(&mut self) {
        let description = format!("{}-{}", self.name, self.book.borrow().calls);
        let reply = self
            .call("CreateKey", json!({ "Description": description }))
            .await;
        let ending = match reply {
            Outcome::Done(answer) => {
                let id = answer["KeyMetadata"]["KeyId"].as_str().unwrap_or_default();
                self.key = Some(Owned {
                    id: id.to_owned(),
                    allowed: Some(true),
                    rotated: 0,
                    unknown: 0,
                });
                match id.parse() {
                    Ok(id) => Ending::Acknowledged(id),
                    Err(_) => return self.find(ONCE, format_args!("CreateKey answers {answer}")),
                }
            }
            Outcome::Unknown(_) => Ending::Unknown,
            Outcome::NotDone(_) => Ending::NotDone,
            Outcome::Refused { error, message } => {
                return self.find(ONCE, format_args!("CreateKey: {error} {message}"));
            }
        };
        let creation = Creation {
            description,
            ending,
        };
        self.book.borrow_mut().creations.push(creation);
    }

    async fn put_policy(&mut self, key: &mut Owned, allow: bool) {
        let everybody = json!({ "AWS": "*" });
        let statement = |effect, action| {
            json!({
                "Effect": effect, "Principal": everybody, "Action": action, "Resource": "*",
            })
        };
        let mut statements = vec![statement("Allow", "kms:*")];
        if !allow {
            statements.push(statement("Deny", "kms:RotateKeyOnDemand"));
        }
        let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let input = json!({ "KeyId": key.id, "Policy": policy });
        match self.call("PutKeyPolicy", input).await {
            Outcome::Done(_) => key.allowed = Some(allow),
            Outcome::Unknown(_) => key.allowed = None,
            Outcome::NotDone(_) => {}
            Outcome::Refused { error, message } => {
                let what = format_args!("PutKeyPolicy {}: {error} {message}", key.id);
                self.find(AUTHORIZATION, what);
            }
        }
    }

    async fn rotate(&mut self, key: &mut Owned, allowed: bool) {
        let id = key.id.clone();
        match self.call("RotateKeyOnDemand", json!({ "KeyId": id })).await {
            Outcome::Done(_) => {
                key.rotated += 1;
                if !allowed && self.obeys {
                    let what = format_args!("{id} was rotated, and that is forbidden");
                    self.find(AUTHORIZATION, what);
                }
            }
            Outcome::Refused { error, .. } if error == "AccessDeniedException" && !allowed => {
                self.obeys = true;
                self.book.borrow_mut().forbidden += 1;
            }
            Outcome::Refused { error, message } => {
                let what = format_args!("{id} cannot be rotated: {error} {message}");
                match error == "LimitExceededException" {
                    true => self.find(ONCE, what),
                    false => self.find(AUTHORIZATION, what),
                }
            }
            Outcome::Unknown(_) => key.unknown += 1,
            Outcome::NotDone(_) => {}
        }
    }

    /// Looks how often the key was rotated.
    async fn count(&mut self, key: &mut Owned) {
        let input = json!({ "KeyId": key.id, "Limit": 1000 });
        let Outcome::Done(answer) = self.call("ListKeyRotations", input).await else {
            return;
        };
        self.book.borrow_mut().answered += 1;
        let seen = answer["Rotations"].as_array().map_or(0, Vec::len);
        let most = key.rotated + key.unknown;
        if !(key.rotated..=most).contains(&seen) {
            let (id, least) = (&key.id, key.rotated);
            let what = format_args!("{id} was rotated {seen} times, must be {least} to {most}");
            self.find(ONCE, what);
        }
    }
}
