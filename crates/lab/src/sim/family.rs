//! A client of multi-Region keys: makes families that only it changes, and calls their members in
//! all Regions.
//!
//! A call may be refused because of what another Region does, so the session is sure of little: that
//! a member can be used once it was seen so, until the session itself asks for something else. A
//! ciphertext must decrypt in every member that can be used for sure.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyrum_types::NodeId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::NODES;
use super::api::{Api, Reply};
use super::place::{self, Place};
use super::seed::Dice;
use super::session::{Book, Phase};
use super::trace::Trace;
use crate::checks::Finding;
use crate::checks::decrypts::{self, Decrypted};
use crate::checks::member::Member;

/// Families a session works on at a time: the latest. Few, so that much happens to each.
const FAMILIES_IN_USE: usize = 3;

/// How long after it ended for its client a call may still be carried out: no node tries longer.
const LATE: Duration = Duration::from_secs(5);

const ORDER: &str = "family-order";

/// Why a family's call may be refused, whatever the session knows: another Region may have a say.
const LEGITIMATE: [&str; 8] = [
    "AccessDeniedException",
    "AlreadyExistsException",
    "ConflictException",
    "DisabledException",
    "KMSInvalidStateException",
    "LimitExceededException",
    "NotFoundException",
    "UnsupportedOperationException",
];

/// What a session knows of one family.
pub(super) struct Family {
    pub(super) id: String,
    /// Where the primary was last heard of, by number.
    primary: usize,
    /// Whether a member was last heard to be there, by Region.
    there: Vec<bool>,
    /// By Region.
    pub(super) members: Vec<Member>,
}

pub(super) struct Ciphertext {
    pub(super) family: usize,
    pub(super) made_in: usize,
    pub(super) plaintext: Vec<u8>,
    pub(super) blob: String,
}

/// A change that the session asks for.
struct Ask {
    family: usize,
    region: usize,
    operation: &'static str,
    input: Value,
    effect: Effect,
}

/// What the session knows once a change was acknowledged.
#[derive(Clone, Copy)]
enum Effect {
    Nothing,
    /// The member can be used, or cannot.
    Usable(bool),
    /// A member comes to be in this Region.
    Replica(usize),
    /// The primary goes to this Region.
    Primary(usize),
}

/// One client.
pub(super) struct FamilySession {
    pub(super) name: String,
    pub(super) dice: Dice,
    /// Two, so that two calls can race.
    apis: [Api; 2],
    /// Which node of each Region is called.
    nodes: Vec<NodeId>,
    pub(super) book: Rc<RefCell<Book>>,
    phase: Rc<Cell<Phase>>,
    pub(super) trace: Trace,
    pace: u64,
    pub(super) families: Vec<Family>,
    pub(super) ciphertexts: Vec<Ciphertext>,
    /// When the last call ended whose outcome is unknown.
    last_unknown: Option<Instant>,
}

impl FamilySession {
    pub(super) fn new(
        name: String,
        dice: Dice,
        apis: [Api; 2],
        regions: usize,
        phase: Rc<Cell<Phase>>,
        trace: Trace,
        pace: u64,
    ) -> (Self, Rc<RefCell<Book>>) {
        let book = Rc::new(RefCell::new(Book::default()));
        let session = Self {
            name,
            dice,
            apis,
            nodes: vec![1; regions],
            book: book.clone(),
            phase,
            trace,
            pace,
            families: Vec::new(),
            ciphertexts: Vec::new(),
            last_unknown: None,
        };
        (session, book)
    }

    /// Works until told to rest, then looks whether everything is there.
    pub(super) async fn run(mut self) {
        while self.phase.get() == Phase::Work {
            self.work().await;
            let pause = self.dice.between(10, 160);
            sleep(Duration::from_millis(pause * self.pace)).await;
            let region = self.region();
            if self.dice.percent(8) {
                self.nodes[region] = self.dice.between(1, NODES);
            }
        }
        if let Some(last) = self.last_unknown {
            sleep_until(last + LATE).await;
        }
        self.book.borrow_mut().rests = true;
        while self.phase.get() != Phase::Look {
            sleep(Duration::from_millis(20)).await;
        }
        let members = self
            .families
            .iter_mut()
            .flat_map(|family| &mut family.members);
        members.for_each(Member::certain);
        self.look().await;
        self.book.borrow_mut().looked = true;
    }

    /// How many Regions there are.
    pub(super) fn regions(&self) -> usize {
        self.nodes.len()
    }

    fn region(&mut self) -> usize {
        self.dice.index(self.nodes.len())
    }

    fn another(&mut self, than: usize) -> usize {
        (than + 1 + self.dice.index(self.nodes.len() - 1)) % self.nodes.len()
    }

    /// A Region with a member of the family or, now and then, any.
    fn place_of_member(&mut self, family: usize) -> usize {
        let there = self.families[family].there.iter().enumerate();
        let there: Vec<usize> = there.filter(|(_, is)| **is).map(|(at, _)| at).collect();
        match there.is_empty() || self.dice.percent(10) {
            true => self.region(),
            false => self.dice.pick(&there),
        }
    }

    /// A Region but the primary's, with a member or without; any if there is none.
    fn beside_primary(&mut self, family: usize, with_member: bool) -> usize {
        let Family { primary, there, .. } = &self.families[family];
        let fits = |at: &usize| at != primary && there[*at] == with_member;
        let fitting: Vec<usize> = (0..there.len()).filter(fits).collect();
        let primary = *primary;
        match fitting.is_empty() {
            true => self.another(primary),
            false => self.dice.pick(&fitting),
        }
    }

    async fn work(&mut self) {
        let families = self.families.len();
        if families == 0 || self.dice.percent(4) {
            return self.create().await;
        }
        let family = families - 1 - self.dice.index(families.min(FAMILIES_IN_USE));
        let primary = self.families[family].primary;
        let anywhere = self.place_of_member(family);
        let members = self.families[family].there.iter().filter(|there| **there);
        // Until the family is whole, mostly that.
        let kinds = match members.count() == self.regions() {
            true => 100,
            false => 130,
        };
        match self.dice.below(kinds) {
            0..3 | 100.. => {
                let to = self.beside_primary(family, false);
                let ask = self.replicate(family, to);
                self.change(ask).await;
            }
            3..22 => {
                let to = self.beside_primary(family, true);
                let ask = self.move_to(family, to);
                self.change(ask).await;
            }
            22..31 => {
                let ask = self.ask(family, primary, "RotateKeyOnDemand", Effect::Nothing);
                self.change(ask).await;
            }
            31..37 => {
                let ask = self.set_rotation(family);
                self.change(ask).await;
            }
            37..54 => self.encrypt(family, anywhere).await,
            54..73 if !self.ciphertexts.is_empty() => {
                let which = self.dice.index(self.ciphertexts.len());
                let region = self.place_of_member(self.ciphertexts[which].family);
                self.decrypt(which, region).await;
            }
            73..82 => {
                let ask = self.change_state(family, anywhere);
                self.change(ask).await;
            }
            82..87 => {
                let region = match self.dice.percent(25) {
                    true => primary,
                    false => anywhere,
                };
                let ask = self.change_deletion(family, region);
                self.change(ask).await;
            }
            87..92 => self.race(family).await,
            _ => self.describe(family, anywhere).await,
        }
    }

    /// One call to a Region, with all that is noted about calls.
    pub(super) async fn call(&mut self, region: usize, operation: &str, input: &Value) -> Reply {
        let place = self.place(region);
        let number = self.number(place, operation, input);
        let reply = self.apis[0].call(place, operation, input, false).await;
        self.heard(place, number, &reply);
        reply
    }

    fn place(&self, region: usize) -> Place {
        let node = self.nodes[region];
        Place { region, node }
    }

    fn number(&self, place: Place, operation: &str, input: &Value) -> u64 {
        let number = {
            let mut book = self.book.borrow_mut();
            book.calls += 1;
            book.calls
        };
        self.trace.line(
            &self.name,
            format_args!("#{number} to node {place}: {operation} {input}"),
        );
        number
    }

    fn heard(&mut self, place: Place, number: u64, reply: &Reply) {
        self.trace
            .line(&self.name, format_args!("#{number} {reply:?}"));
        let mut book = self.book.borrow_mut();
        match reply {
            Reply::Done(_) | Reply::Refused(..) => return,
            Reply::NotDone(_) => book.not_done += 1,
            Reply::Unknown(_) => {
                book.unknown += 1;
                self.last_unknown = Some(Instant::now());
            }
        }
        self.nodes[place.region] = place.node % NODES + 1;
    }

    pub(super) fn find(&self, check: &'static str, what: impl std::fmt::Display) {
        self.found(Finding::new(check, format_args!("{}: {what}", self.name)));
    }

    fn found(&self, finding: Finding) {
        self.trace
            .line(&self.name, format_args!("FINDING {finding}"));
        self.book.borrow_mut().findings.push(finding);
    }

    async fn create(&mut self) {
        let region = self.region();
        let description = format!("{}-{}", self.name, self.book.borrow().calls);
        let input = json!({ "MultiRegion": true, "Description": description });
        match self.call(region, "CreateKey", &input).await {
            Reply::Done(answer) => {
                self.book.borrow_mut().acknowledged += 1;
                let id = answer["KeyMetadata"]["KeyId"].as_str().unwrap_or_default();
                let mut members = vec![Member::default(); self.regions()];
                members[region].acknowledged(true);
                let there = (0..self.regions()).map(|here| here == region).collect();
                self.families.push(Family {
                    id: id.to_owned(),
                    primary: region,
                    there,
                    members,
                });
            }
            Reply::Refused(error, message) => {
                self.find(ORDER, format_args!("CreateKey: {error} {message}"));
            }
            Reply::NotDone(_) | Reply::Unknown(_) => {}
        }
    }

    fn ask(&self, family: usize, region: usize, operation: &'static str, effect: Effect) -> Ask {
        Ask {
            family,
            region,
            operation,
            input: json!({ "KeyId": self.families[family].id }),
            effect,
        }
    }

    fn replicate(&self, family: usize, to: usize) -> Ask {
        let primary = self.families[family].primary;
        let mut ask = self.ask(family, primary, "ReplicateKey", Effect::Replica(to));
        ask.input["ReplicaRegion"] = json!(place::region(to).as_str());
        ask
    }

    fn move_to(&self, family: usize, to: usize) -> Ask {
        let primary = self.families[family].primary;
        let mut ask = self.ask(family, primary, "UpdatePrimaryRegion", Effect::Primary(to));
        ask.input["PrimaryRegion"] = json!(place::region(to).as_str());
        ask
    }

    fn set_rotation(&mut self, family: usize) -> Ask {
        let primary = self.families[family].primary;
        if self.dice.percent(25) {
            return self.ask(family, primary, "DisableKeyRotation", Effect::Nothing);
        }
        let mut ask = self.ask(family, primary, "EnableKeyRotation", Effect::Nothing);
        ask.input["RotationPeriodInDays"] = json!(self.dice.pick(&[90, 90, 91, 365]));
        ask
    }

    fn change_state(&mut self, family: usize, region: usize) -> Ask {
        // Mostly back, so that most members can be used.
        let enable = match self.families[family].members[region].usable() {
            Some(true) => self.dice.percent(10),
            Some(false) => self.dice.percent(90),
            None => self.dice.percent(80),
        };
        let operation = if enable { "EnableKey" } else { "DisableKey" };
        self.ask(family, region, operation, Effect::Usable(enable))
    }

    fn change_deletion(&mut self, family: usize, region: usize) -> Ask {
        // Either leaves the member unusable.
        let effect = Effect::Usable(false);
        if self.dice.percent(35) {
            return self.ask(family, region, "CancelKeyDeletion", effect);
        }
        let mut ask = self.ask(family, region, "ScheduleKeyDeletion", effect);
        ask.input["PendingWindowInDays"] = json!(self.dice.pick(&[7, 7, 30]));
        ask
    }

    /// A policy that forbids moves of the primary to this member, or one that allows them again.
    fn put_policy(&mut self, family: usize, region: usize) -> Ask {
        let mut ask = self.ask(family, region, "PutKeyPolicy", Effect::Nothing);
        let allow = json!({
            "Effect": "Allow", "Principal": { "AWS": "*" }, "Action": "kms:*", "Resource": "*",
        });
        let deny = json!({
            "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": "kms:UpdatePrimaryRegion",
            "Resource": "*",
        });
        let statements = match self.dice.percent(40) {
            true => json!([allow, deny]),
            false => json!([allow]),
        };
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        ask.input["Policy"] = json!(policy.to_string());
        ask
    }

    async fn change(&mut self, ask: Ask) {
        let reply = self.call(ask.region, ask.operation, &ask.input).await;
        self.settle(&ask, reply);
        if self.dice.percent(30) {
            let anywhere = self.place_of_member(ask.family);
            self.describe(ask.family, anywhere).await;
        }
    }

    /// A move, and at the same time something that may get in its way.
    async fn race(&mut self, family: usize) {
        let primary = self.families[family].primary;
        let to = self.beside_primary(family, true);
        let elsewhere = self.another(primary);
        let one = self.move_to(family, to);
        let two = match self.dice.below(6) {
            0 | 1 => self.put_policy(family, to),
            2 => self.ask(family, to, "DisableKey", Effect::Usable(false)),
            3 => self.change_deletion(family, to),
            4 => self.ask(family, primary, "RotateKeyOnDemand", Effect::Nothing),
            _ => self.move_to(family, elsewhere),
        };
        let places = [self.place(one.region), self.place(two.region)];
        let numbers = [
            self.number(places[0], one.operation, &one.input),
            self.number(places[1], two.operation, &two.input),
        ];
        let [first, second] = &mut self.apis;
        let (a, b) = tokio::join!(
            first.call(places[0], one.operation, &one.input, false),
            second.call(places[1], two.operation, &two.input, false),
        );
        for (nth, (ask, reply)) in [(one, a), (two, b)].into_iter().enumerate() {
            self.heard(places[nth], numbers[nth], &reply);
            self.settle(&ask, reply);
        }
    }

    /// Notes what became of a change.
    fn settle(&mut self, ask: &Ask, reply: Reply) {
        let Ask { family, region, .. } = *ask;
        let key = &mut self.families[family];
        match reply {
            Reply::Done(_) => {
                self.book.borrow_mut().acknowledged += 1;
                match ask.effect {
                    Effect::Nothing => {}
                    Effect::Usable(usable) => key.members[region].acknowledged(usable),
                    Effect::Replica(to) => {
                        key.members[to].appears();
                        key.there[to] = true;
                    }
                    Effect::Primary(to) => key.primary = to,
                }
            }
            Reply::Unknown(_) => match ask.effect {
                Effect::Nothing | Effect::Primary(_) => {}
                Effect::Usable(_) => key.members[region].unknown(),
                Effect::Replica(to) => {
                    key.members[to].unknown();
                    key.there[to] = true;
                }
            },
            Reply::NotDone(_) => {}
            Reply::Refused(error, _) if error == "AlreadyExistsException" => {
                if let Effect::Replica(to) = ask.effect {
                    key.there[to] = true;
                }
            }
            // No replica there.
            Reply::Refused(error, _)
                if matches!(ask.effect, Effect::Primary(_)) && error == "ValidationException" =>
            {
                if let Effect::Primary(to) = ask.effect {
                    key.there[to] = false;
                }
            }
            Reply::Refused(error, _) if LEGITIMATE.contains(&error.as_str()) => {
                // Perhaps the primary is elsewhere by now.
                let primary_only = error == "UnsupportedOperationException";
                if primary_only || error == "NotFoundException" && region == key.primary {
                    key.primary = self.dice.index(self.nodes.len());
                }
            }
            Reply::Refused(error, message) => {
                let (operation, id) = (ask.operation, key.id.clone());
                self.find(ORDER, format_args!("{operation} {id}: {error} {message}"));
            }
        }
    }

    async fn describe(&mut self, family: usize, region: usize) {
        // Without an answer nothing is learned.
        drop(self.look_at(family, region).await);
    }

    /// What DescribeKey shows of a member, compared with what the session knows. `Ok(None)`: there
    /// is no member.
    pub(super) async fn look_at(
        &mut self,
        family: usize,
        region: usize,
    ) -> Result<Option<Value>, Reply> {
        let input = json!({ "KeyId": self.families[family].id });
        let metadata = match self.call(region, "DescribeKey", &input).await {
            Reply::Done(mut answer) => Some(answer["KeyMetadata"].take()),
            Reply::Refused(error, _) if error == "NotFoundException" => None,
            other => {
                if let Reply::Refused(error, message) = &other {
                    self.find(ORDER, format_args!("DescribeKey: {error} {message}"));
                }
                return Err(other);
            }
        };
        self.book.borrow_mut().answered += 1;
        let state = metadata.as_ref().map(|shown| shown["KeyState"].as_str());
        let state = state.map(Option::unwrap_or_default);
        let seen = self.families[family].members[region].sees(state);
        if let Err(impossible) = seen {
            let (id, region) = (&self.families[family].id, place::region(region));
            self.find(ORDER, format_args!("{id} in {region} {impossible}"));
        }
        let shown = metadata.as_ref();
        self.families[family].there[region] = shown.is_some();
        let primary = shown
            .and_then(|shown| shown["MultiRegionConfiguration"]["PrimaryKey"]["Region"].as_str());
        if let Some(primary) = primary.and_then(place::number_of) {
            self.families[family].primary = primary;
        }
        Ok(metadata)
    }

    async fn encrypt(&mut self, family: usize, region: usize) {
        let length = usize::try_from(self.dice.between(1, 64)).expect("a short text");
        let plaintext = self.dice.bytes(length);
        let id = self.families[family].id.clone();
        let input = json!({ "KeyId": id, "Plaintext": BASE64.encode(&plaintext) });
        let usable = self.families[family].members[region].usable();
        let shown = place::region(region);
        match self.call(region, "Encrypt", &input).await {
            Reply::Done(answer) => {
                self.book.borrow_mut().answered += 1;
                if usable == Some(false) {
                    self.find(ORDER, format_args!("Encrypt works with {id} in {shown}"));
                }
                let blob = answer["CiphertextBlob"].as_str().unwrap_or_default();
                self.ciphertexts.push(Ciphertext {
                    family,
                    made_in: region,
                    plaintext,
                    blob: blob.to_owned(),
                });
            }
            Reply::Refused(error, message) => {
                self.book.borrow_mut().answered += 1;
                if usable == Some(true) || !LEGITIMATE.contains(&error.as_str()) {
                    self.find(
                        ORDER,
                        format_args!("Encrypt with {id} in {shown}: {error} {message}"),
                    );
                }
            }
            Reply::NotDone(_) | Reply::Unknown(_) => {}
        }
    }

    /// Gives whether there was an answer.
    pub(super) async fn decrypt(&mut self, which: usize, region: usize) -> bool {
        let Ciphertext {
            family,
            made_in,
            blob,
            ..
        } = &self.ciphertexts[which];
        let (family, made_in) = (*family, *made_in);
        let usable = self.families[family].members[region].usable();
        let input = json!({ "CiphertextBlob": blob });
        let ended = match self.call(region, "Decrypt", &input).await {
            Reply::Done(answer) => {
                let text = answer["Plaintext"].as_str().unwrap_or_default();
                Decrypted::Plaintext(BASE64.decode(text).unwrap_or_default())
            }
            Reply::Refused(error, message) => Decrypted::Refused(format!("{error} {message}")),
            Reply::NotDone(_) | Reply::Unknown(_) => Decrypted::Nothing,
        };
        let name = format!(
            "{}: ciphertext {which} of key {}, made in {}, in {}",
            self.name,
            self.families[family].id,
            place::region(made_in),
            place::region(region),
        );
        let plaintext = &self.ciphertexts[which].plaintext;
        let judged = decrypts::check(&name, plaintext, usable, &ended);
        let judged = judged.and_then(|()| decrypts::never_lacks_material(&name, &ended));
        if let Err(finding) = judged {
            self.found(finding);
        }
        let mut book = self.book.borrow_mut();
        let opened = matches!(ended, Decrypted::Plaintext(_));
        book.answered += u64::from(ended != Decrypted::Nothing);
        book.decrypted += u64::from(opened);
        book.crossed += u64::from(opened && made_in != region);
        ended != Decrypted::Nothing
    }
}
