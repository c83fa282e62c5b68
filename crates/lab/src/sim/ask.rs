//! What a family session asks for, and what it knows from the answer.

use serde_json::{Value, json};

use super::family::{FamilySession, ORDER};
use super::place;
use crate::experiment::Outcome;
use crate::workload::api::Reads;

/// Why a family's call may be refused, whatever the session knows: another Region may have a say.
pub(super) const LEGITIMATE: [&str; 8] = [
    "AccessDeniedException",
    "AlreadyExistsException",
    "ConflictException",
    "DisabledException",
    "KMSInvalidStateException",
    "LimitExceededException",
    "NotFoundException",
    "UnsupportedOperationException",
];

/// A change that the session asks for.
pub(super) struct Ask {
    family: usize,
    region: usize,
    operation: &'static str,
    input: Value,
    effect: Effect,
}

/// What the session knows once a change was acknowledged.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Nothing,
    /// The member can be used, or cannot.
    Usable(bool),
    /// A member comes to be in this Region.
    Replica(usize),
    /// The primary goes to this Region.
    Primary(usize),
    /// Automatic rotation has this period in days, or is off.
    Period(Option<u64>),
    /// The material is rotated.
    Rotation,
}

impl FamilySession {
    pub(super) fn ask(
        &self,
        family: usize,
        region: usize,
        operation: &'static str,
        effect: Effect,
    ) -> Ask {
        Ask {
            family,
            region,
            operation,
            input: json!({ "KeyId": self.families[family].id }),
            effect,
        }
    }

    pub(super) fn replicate(&self, family: usize, to: usize) -> Ask {
        let primary = self.families[family].primary;
        let mut ask = self.ask(family, primary, "ReplicateKey", Effect::Replica(to));
        ask.input["ReplicaRegion"] = json!(place::region(to).as_str());
        ask
    }

    pub(super) fn move_to(&self, family: usize, to: usize) -> Ask {
        let primary = self.families[family].primary;
        let mut ask = self.ask(family, primary, "UpdatePrimaryRegion", Effect::Primary(to));
        ask.input["PrimaryRegion"] = json!(place::region(to).as_str());
        ask
    }

    pub(super) fn set_rotation(&mut self, family: usize) -> Ask {
        let primary = self.families[family].primary;
        if self.dice.percent(25) {
            return self.ask(family, primary, "DisableKeyRotation", Effect::Period(None));
        }
        let days = self.dice.pick(&[90, 90, 91, 365]);
        let effect = Effect::Period(Some(days));
        let mut ask = self.ask(family, primary, "EnableKeyRotation", effect);
        ask.input["RotationPeriodInDays"] = json!(days);
        ask
    }

    pub(super) fn change_state(&mut self, family: usize, region: usize) -> Ask {
        // Mostly back, so that most members can be used.
        let enable = match self.families[family].members[region].usable() {
            Some(true) => self.dice.percent(10),
            Some(false) => self.dice.percent(90),
            None => self.dice.percent(80),
        };
        let operation = if enable { "EnableKey" } else { "DisableKey" };
        self.ask(family, region, operation, Effect::Usable(enable))
    }

    pub(super) fn change_deletion(&mut self, family: usize, region: usize) -> Ask {
        // Either leaves the member unusable.
        let effect = Effect::Usable(false);
        let usable = self.families[family].members[region].usable();
        if usable == Some(false) && self.dice.percent(35) {
            return self.ask(family, region, "CancelKeyDeletion", effect);
        }
        let mut ask = self.ask(family, region, "ScheduleKeyDeletion", effect);
        ask.input["PendingWindowInDays"] = json!(self.dice.pick(&[7, 7, 30]));
        ask
    }

    /// A policy that forbids moves of the primary to this member, or one that allows them again.
    pub(super) fn put_policy(&mut self, family: usize, region: usize) -> Ask {
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

    pub(super) async fn change(&mut self, ask: Ask) {
        let reply = self.call(ask.region, ask.operation, &ask.input).await;
        let moved = matches!((&reply, ask.effect), (Outcome::Done(_), Effect::Primary(_)));
        self.settle(&ask, reply);
        if moved && self.dice.percent(40) {
            return self.former_primary(ask.family, ask.region).await;
        }
        if self.dice.percent(30) {
            let anywhere = self.place_of_member(ask.family);
            self.describe(ask.family, anywhere).await;
        }
    }

    /// A move was acknowledged: the member that was primary no longer is.
    async fn former_primary(&mut self, family: usize, region: usize) {
        self.nodes[region] = self.scene.roster.pick(region, &mut self.dice);
        let Ok(Some(metadata)) = self.look_at(family, region).await else {
            return;
        };
        let id = &self.families[family].id;
        let role = &metadata["MultiRegionConfiguration"]["MultiRegionKeyType"];
        // Asked to move to where it is, it stays.
        if role == "PRIMARY" && !self.families[family].may_move {
            let region = place::region(region);
            self.find(
                ORDER,
                format_args!("{id} moved, and is primary in {region} still"),
            );
        }
    }

    /// A move, and at the same time something that may get in its way.
    pub(super) async fn race(&mut self, family: usize) {
        let primary = self.families[family].primary;
        let to = self.beside_primary(family, true);
        let elsewhere = self.another(primary);
        let one = self.move_to(family, to);
        let two = match self.dice.below(6) {
            0 | 1 => self.put_policy(family, to),
            2 => self.ask(family, to, "DisableKey", Effect::Usable(false)),
            3 => self.change_deletion(family, to),
            4 => self.ask(family, primary, "RotateKeyOnDemand", Effect::Rotation),
            _ => self.move_to(family, elsewhere),
        };
        let places = [self.place(one.region), self.place(two.region)];
        let reads = Reads::Linearizable;
        let numbers = [
            self.number(places[0], reads, one.operation, &one.input),
            self.number(places[1], reads, two.operation, &two.input),
        ];
        let [first, second] = &mut self.apis;
        let (a, b) = tokio::join!(
            first.call(places[0], one.operation, &one.input, reads),
            second.call(places[1], two.operation, &two.input, reads),
        );
        for (nth, (ask, reply)) in [(one, a), (two, b)].into_iter().enumerate() {
            self.heard(places[nth], numbers[nth], &reply);
            self.settle(&ask, reply);
        }
    }

    /// Notes what became of a change.
    fn settle(&mut self, ask: &Ask, reply: Outcome) {
        let Ask { family, region, .. } = *ask;
        let key = &mut self.families[family];
        match reply {
            Outcome::Done(_) => {
                self.book.borrow_mut().acknowledged += 1;
                match ask.effect {
                    Effect::Nothing => {}
                    Effect::Usable(usable) => key.members[region].acknowledged(usable),
                    Effect::Replica(to) => {
                        key.members[to].appears();
                        key.there[to] = true;
                    }
                    Effect::Primary(to) => key.primary = to,
                    Effect::Period(period) => key.period = key.period.map(|_| period),
                    Effect::Rotation => key.rotated = true,
                }
            }
            Outcome::Unknown(_) => match ask.effect {
                Effect::Nothing | Effect::Rotation => {}
                Effect::Primary(_) => key.may_move = true,
                Effect::Period(_) => key.period = None,
                Effect::Usable(_) => key.members[region].unknown(),
                Effect::Replica(to) => {
                    key.members[to].unknown();
                    key.there[to] = true;
                }
            },
            Outcome::NotDone(_) => {}
            Outcome::Refused { error, .. } if error == "AlreadyExistsException" => {
                if let Effect::Replica(to) = ask.effect {
                    key.there[to] = true;
                }
            }
            // No replica there.
            Outcome::Refused { error, .. }
                if matches!(ask.effect, Effect::Primary(_)) && error == "ValidationException" =>
            {
                if let Effect::Primary(to) = ask.effect {
                    key.there[to] = false;
                }
            }
            Outcome::Refused { error, .. } if LEGITIMATE.contains(&error.as_str()) => {
                if error == "NotFoundException" {
                    key.there[region] = false;
                }
                // Perhaps the primary is elsewhere by now.
                let primary_only = error == "UnsupportedOperationException";
                if primary_only || error == "NotFoundException" && region == key.primary {
                    key.primary = self.dice.index(self.nodes.len());
                }
            }
            Outcome::Refused { error, message } => {
                let (operation, id) = (ask.operation, key.id.clone());
                self.find(ORDER, format_args!("{operation} {id}: {error} {message}"));
            }
        }
    }
}
