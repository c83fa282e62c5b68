//! A client of multi-Region keys: makes families that only it changes, and calls their members in
//! all Regions.
//!
//! A call may be refused because of what another Region does, so the session is sure of little: that
//! a member can be used once it was seen so, until the session itself asks for something else. A
//! ciphertext must decrypt in every member that can be used for sure.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyrum_types::NodeId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::ask::{Effect, LEGITIMATE};
use super::place::{self, Place};
use super::session::{Book, Scene};
use crate::checks::Finding;
use crate::checks::decrypts::{self, Decrypted};
use crate::checks::member::Member;
use crate::dice::Dice;
use crate::experiment::Outcome;
use crate::workload::Phase;
use crate::workload::api::{Api, Reads};

/// Families a session works on at a time: the latest. Few, so that much happens to each.
const FAMILIES_IN_USE: usize = 3;

/// How many of a hundred Decrypt calls take what their node has.
const LOCAL_PERCENT: u64 = 25;

/// How long after it ended for its client a call may still be carried out: no node tries longer.
const LATE: Duration = Duration::from_secs(5);

pub(super) const ORDER: &str = "family-order";

/// What a session knows of one family.
pub(super) struct Family {
    pub(super) id: String,
    /// Where the primary was last heard of, by number.
    pub(super) primary: usize,
    /// Whether a member was last heard to be there, by Region.
    pub(super) there: Vec<bool>,
    /// By Region.
    pub(super) members: Vec<Member>,
    /// The period of automatic rotation in days that was acknowledged last, or that there is none;
    /// `None` once a change may come at any time.
    pub(super) period: Option<Option<u64>>,
    /// Whether a rotation on demand was acknowledged.
    pub(super) rotated: bool,
    /// Whether a move of the primary may come at any time.
    pub(super) may_move: bool,
}

pub(super) struct Ciphertext {
    pub(super) family: usize,
    pub(super) made_in: usize,
    pub(super) plaintext: Vec<u8>,
    pub(super) blob: String,
}

/// One client.
pub(super) struct FamilySession {
    pub(super) name: String,
    pub(super) dice: Dice,
    /// Two, so that two calls can race.
    pub(super) apis: [Api; 2],
    /// Which node of each Region is called.
    pub(super) nodes: Vec<NodeId>,
    pub(super) book: Rc<RefCell<Book>>,
    pub(super) scene: Scene,
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
        scene: Scene,
    ) -> (Self, Rc<RefCell<Book>>) {
        let book = Rc::new(RefCell::new(Book::default()));
        let session = Self {
            name,
            dice,
            apis,
            nodes: vec![1; scene.roster.regions()],
            book: book.clone(),
            scene,
            families: Vec::new(),
            ciphertexts: Vec::new(),
            last_unknown: None,
        };
        (session, book)
    }

    /// Works until told to rest, then looks whether everything is there.
    pub(super) async fn run(mut self) {
        while self.scene.phase.get() == Phase::Work {
            self.work().await;
            let pause = self.dice.between(10, 160);
            sleep(Duration::from_millis(pause * self.scene.pace)).await;
            let region = self.region();
            if self.dice.percent(8) {
                self.nodes[region] = self.scene.roster.pick(region, &mut self.dice);
            }
        }
        if let Some(last) = self.last_unknown {
            sleep_until(last + LATE).await;
        }
        self.book.borrow_mut().rests = true;
        while self.scene.phase.get() != Phase::Look {
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

    pub(super) fn region(&mut self) -> usize {
        self.dice.index(self.nodes.len())
    }

    pub(super) fn another(&mut self, than: usize) -> usize {
        (than + 1 + self.dice.index(self.nodes.len() - 1)) % self.nodes.len()
    }

    /// A Region with a member of the family or, now and then, any.
    pub(super) fn place_of_member(&mut self, family: usize) -> usize {
        let there = self.families[family].there.iter().enumerate();
        let there: Vec<usize> = there.filter(|(_, is)| **is).map(|(at, _)| at).collect();
        match there.is_empty() || self.dice.percent(10) {
            true => self.region(),
            false => self.dice.pick(&there),
        }
    }

    /// A Region but the primary's, with a member or without; any if there is none.
    pub(super) fn beside_primary(&mut self, family: usize, with_member: bool) -> usize {
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
        if families == 0 || self.dice.percent(2) {
            return self.create().await;
        }
        let family = families - 1 - self.dice.index(families.min(FAMILIES_IN_USE));
        if !self.families[family].there.contains(&true) {
            return self.create().await;
        }
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
                let ask = self.ask(family, primary, "RotateKeyOnDemand", Effect::Rotation);
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
            73..81 => {
                let ask = self.change_state(family, anywhere);
                self.change(ask).await;
            }
            81..88 => {
                let region = match self.dice.percent(25) {
                    true => primary,
                    false => anywhere,
                };
                let ask = self.change_deletion(family, region);
                self.change(ask).await;
            }
            88..93 => self.race(family).await,
            _ => self.describe(family, anywhere).await,
        }
    }

    /// One call to a Region, with all that is noted about calls. What it reads is fresh.
    pub(super) async fn call(&mut self, region: usize, operation: &str, input: &Value) -> Outcome {
        let reads = match self.dice.percent(self.scene.lease_percent) {
            true => Reads::Lease,
            false => Reads::Linearizable,
        };
        self.call_reading(reads, region, operation, input).await
    }

    async fn call_reading(
        &mut self,
        reads: Reads,
        region: usize,
        operation: &str,
        input: &Value,
    ) -> Outcome {
        let place = self.place(region);
        let number = self.number(place, reads, operation, input);
        let reply = self.apis[0].call(place, operation, input, reads).await;
        self.heard(place, number, &reply);
        reply
    }

    pub(super) fn place(&self, region: usize) -> Place {
        let node = self.nodes[region];
        Place { region, node }
    }

    pub(super) fn number(&self, place: Place, reads: Reads, operation: &str, input: &Value) -> u64 {
        let number = {
            let mut book = self.book.borrow_mut();
            book.calls += 1;
            book.calls
        };
        self.scene.trace.line(
            &self.name,
            format_args!(
                "#{number} to node {place}, {}: {operation} {input}",
                reads.name()
            ),
        );
        number
    }

    pub(super) fn heard(&mut self, place: Place, number: u64, reply: &Outcome) {
        self.scene
            .trace
            .line(&self.name, format_args!("#{number} {reply:?}"));
        let mut book = self.book.borrow_mut();
        match reply {
            Outcome::Done(_) | Outcome::Refused { .. } => return,
            Outcome::NotDone(_) => book.not_done += 1,
            Outcome::Unknown(_) => {
                book.unknown += 1;
                self.last_unknown = Some(Instant::now());
            }
        }
        self.nodes[place.region] = self.scene.roster.after(place).node;
    }

    pub(super) fn find(&self, check: &'static str, what: impl std::fmt::Display) {
        self.found(Finding::new(check, format_args!("{}: {what}", self.name)));
    }

    fn found(&self, finding: Finding) {
        self.scene
            .trace
            .line(&self.name, format_args!("FINDING {finding}"));
        self.book.borrow_mut().findings.push(finding);
    }

    async fn create(&mut self) {
        let region = self.region();
        let description = format!("{}-{}", self.name, self.book.borrow().calls);
        let input = json!({ "MultiRegion": true, "Description": description });
        match self.call(region, "CreateKey", &input).await {
            Outcome::Done(answer) => {
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
                    period: Some(None),
                    rotated: false,
                    may_move: false,
                });
            }
            Outcome::Refused { error, message } => {
                self.find(ORDER, format_args!("CreateKey: {error} {message}"));
            }
            Outcome::NotDone(_) | Outcome::Unknown(_) => {}
        }
    }

    pub(super) async fn describe(&mut self, family: usize, region: usize) {
        // Without an answer nothing is learned.
        drop(self.look_at(family, region).await);
    }

    /// What DescribeKey shows of a member, compared with what the session knows. `Ok(None)`: there
    /// is no member.
    pub(super) async fn look_at(
        &mut self,
        family: usize,
        region: usize,
    ) -> Result<Option<Value>, Outcome> {
        let input = json!({ "KeyId": self.families[family].id });
        let metadata = match self.call(region, "DescribeKey", &input).await {
            Outcome::Done(mut answer) => Some(answer["KeyMetadata"].take()),
            Outcome::Refused { error, .. } if error == "NotFoundException" => None,
            other => {
                if let Outcome::Refused { error, message } = &other {
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
            Outcome::Done(answer) => {
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
            Outcome::Refused { error, message } => {
                self.book.borrow_mut().answered += 1;
                if error == "NotFoundException" {
                    self.families[family].there[region] = false;
                }
                if usable == Some(true) || !LEGITIMATE.contains(&error.as_str()) {
                    self.find(
                        ORDER,
                        format_args!("Encrypt with {id} in {shown}: {error} {message}"),
                    );
                }
            }
            Outcome::NotDone(_) | Outcome::Unknown(_) => {}
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
        let input = json!({ "CiphertextBlob": blob });
        let reads = match self.dice.percent(LOCAL_PERCENT) {
            true => Reads::Local,
            false => Reads::Linearizable,
        };
        // A node that is behind may not know that a member can be used, but it must find material.
        // At rest no node is behind.
        let behind = reads == Reads::Local && self.scene.phase.get() == Phase::Work;
        let usable = self.families[family].members[region].usable();
        let usable = usable.filter(|_| !behind);
        let reply = self.call_reading(reads, region, "Decrypt", &input).await;
        let ended = match reply {
            Outcome::Done(answer) => {
                let text = answer["Plaintext"].as_str().unwrap_or_default();
                Decrypted::Plaintext(BASE64.decode(text).unwrap_or_default())
            }
            Outcome::Refused { error, message } => Decrypted::Refused(format!("{error} {message}")),
            Outcome::NotDone(_) | Outcome::Unknown(_) => Decrypted::Nothing,
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
