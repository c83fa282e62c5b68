//! The model's states: one real `State` a Region, and what the couriers between them may do.

use std::collections::BTreeMap;
use std::fmt;

use keyrum_state::codec::{StateDecoder, encode_state};
use keyrum_state::{
    Awaited, Caller, Command, ImportTerms, Key, KeyRef, Message, NewMaterial, Proposal, RequestId,
    State, apply,
};
use keyrum_types::{
    AccountId, ImportType, KeyId, KeySpec, KeyState, KeyUsage, MaterialId, MultiRegionRole, NodeId,
    Origin, Region, SealedMaterial, UnixMillis, WaitingDays,
};

use crate::print;

/// The Regions of every model.
pub(crate) const REGIONS: [&str; 3] = ["eu-west-1", "us-east-1", "us-west-2"];

const DAY_MS: u64 = UnixMillis::DAY_MS;

/// A policy that lets the account do everything, as the default one does.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:*","Resource":"*"}]}"#;

/// Every channel between two Regions.
pub(crate) const CHANNELS: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];

/// One of so many states goes on as a node does that installed its snapshot: with all that is not
/// stored, such as indexes, made anew.
const INSTALLED_EVERY: u128 = 8;

/// The state that comes of a snapshot of this one.
fn installed(state: &State) -> State {
    let mut decoder = StateDecoder::new();
    for chunk in encode_state(state) {
        decoder.push(&chunk).expect("it was just written");
    }
    let installed = decoder.finish().expect("it is whole");
    assert_eq!(installed.digest(), state.digest(), "another state");
    installed
}

/// What a client asks of a Region, for the one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ask {
    Replicate(usize),
    Move(usize),
    Schedule,
    Cancel,
    Disable,
    Enable,
    /// Another policy.
    Policy,
    /// New material on demand.
    Rotate,
    /// That version, as new material.
    ImportNew(u8),
    /// That version, which the family knows.
    Import(u8),
    /// Deletion of that version here.
    DeleteImport(u8),
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A client's command, in a Region.
    Client(usize, Ask),
    /// A wait ends in a Region: what is due is deleted.
    Expire(usize),
    /// The next message from one Region to another is taken, and that it was is known.
    Deliver(usize, usize),
    /// The same, but nobody learns of it: it will be sent again.
    DeliverUnheard(usize, usize),
    /// A courier that was thought dead delivers what it took when the channel was last unheard.
    DeliverLate(usize, usize),
}

/// Which commands clients may still give.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asks {
    /// So many, whatever they are.
    Any(u8),
    /// These, in any order.
    These(Vec<(usize, Ask)>),
}

/// What a courier carries.
#[derive(Clone, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) after: u64,
    pub(crate) messages: Vec<(u64, Message)>,
}

/// How a channel may still misbehave, and what an old courier carries.
#[derive(Clone, PartialEq)]
pub(crate) struct Link {
    pub(crate) unheard_left: u8,
    pub(crate) late: Option<Delivery>,
}

/// A deliberate fault of the protocol, made by forging messages on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The reserved member steps up at once.
    StepUpFirst,
    /// A record is taken whatever its stamp.
    NoStamp,
    /// A deleted member comes back with an old record.
    Revive,
    /// New material is used as soon as it arrives.
    ActivateEarly,
    /// A report about an import is believed whenever it was made.
    AnyReport,
}

/// One state of the model.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) regions: Vec<State>,
    pub(crate) links: BTreeMap<(usize, usize), Link>,
    /// Commands that clients may still give, in any order.
    pub(crate) asks: Asks,
    /// Versions of the material made so far.
    materials: u8,
    /// Proposals so far: names the next one.
    proposals: u64,
    /// Of the projection that says which worlds are the same.
    pub(crate) print: u128,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl std::hash::Hash for World {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.print.hash(hasher);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in REGIONS.iter().enumerate() {
            let family = self.regions[at].family(key_ref());
            let key = self.key(at).map(|key| (key.state, key.multi_region));
            writeln!(f, "{name}: {key:?} {family:?}")?;
        }
        Ok(())
    }
}

pub(crate) fn region(at: usize) -> Region {
    REGIONS[at].parse().unwrap()
}

fn account() -> AccountId {
    "000000000001".parse().unwrap()
}

pub(crate) fn key_ref() -> KeyRef {
    KeyRef {
        account: account(),
        id: KeyId::multi_region([1; 16]),
    }
}

fn caller() -> Caller {
    Caller::root(&"us-east-1".parse().unwrap(), account())
}

fn material(number: u8) -> NewMaterial {
    NewMaterial {
        id: MaterialId([number; 32]),
        sealed: SealedMaterial(vec![number].into()),
    }
}

impl World {
    /// A primary in the first Region, with replicas in some of the others.
    ///
    /// Each of the channels `unheard` once fails to say that a message was taken, and delivers it
    /// again late.
    pub(crate) fn new(replicas: &[usize], asks: Asks, unheard: &[(usize, usize)]) -> Self {
        Self::of_origin(Origin::AwsKms, replicas, asks, unheard)
    }

    /// The same of a key whose first version was imported everywhere. In the Regions `having` a second
    /// one was too; it waits to be rotated to.
    pub(crate) fn imported(
        replicas: &[usize],
        having: &[usize],
        asks: Asks,
        unheard: &[(usize, usize)],
    ) -> Self {
        let mut world = Self::of_origin(Origin::External, replicas, asks, unheard);
        for &at in having {
            let ask = match at {
                0 => Ask::ImportNew(2),
                _ => Ask::Import(2),
            };
            assert!(world.ask(at, ask));
            world.settle();
        }
        world.print = print::of(&world);
        world
    }

    fn of_origin(
        origin: Origin,
        replicas: &[usize],
        asks: Asks,
        unheard: &[(usize, usize)],
    ) -> Self {
        let mut links = BTreeMap::new();
        for from in 0..REGIONS.len() {
            for to in (0..REGIONS.len()).filter(|to| *to != from) {
                let link = Link {
                    unheard_left: unheard.contains(&(from, to)).into(),
                    late: None,
                };
                links.insert((from, to), link);
            }
        }
        let mut world = Self {
            regions: (0..REGIONS.len())
                .map(|at| State::new(region(at)))
                .collect(),
            links,
            asks,
            materials: 1,
            proposals: 0,
            print: 0,
        };
        let created = world.propose(
            0,
            Some(caller()),
            Command::CreateKey {
                key: key_ref().id,
                spec: KeySpec::SymmetricDefault,
                usage: KeyUsage::EncryptDecrypt,
                origin,
                description: String::new(),
                policy: None,
                bypass_lockout_check: false,
                tags: vec![],
                material: (origin != Origin::External).then(|| material(1)),
            },
        );
        assert!(created);
        let imported = origin == Origin::External;
        assert!(!imported || world.ask(0, Ask::Import(1)));
        for &to in replicas {
            assert!(world.ask(0, Ask::Replicate(to)));
            world.settle();
            assert!(!imported || world.ask(to, Ask::Import(1)));
            world.settle();
        }
        world.print = print::of(&world);
        world
    }

    /// Lets every message through until none is left.
    pub(crate) fn settle(&mut self) {
        loop {
            let next = self.talking().next();
            let Some((from, to)) = next else { return };
            self.carry(from, to, true, None);
        }
    }

    /// Channels on which something waits.
    pub(crate) fn talking(&self) -> impl Iterator<Item = (usize, usize)> {
        let waits =
            |&(from, to): &(usize, usize)| self.regions[from].outbox(&region(to)).next().is_some();
        self.links.keys().copied().filter(waits)
    }

    pub(crate) fn key(&self, at: usize) -> Option<&Key> {
        self.regions[at].key(key_ref()).map(|key| &**key)
    }

    /// Whether the command did anything.
    fn propose(&mut self, at: usize, caller: Option<Caller>, command: Command) -> bool {
        self.proposals += 1;
        let proposal = Proposal {
            // A boot of its own, so that the memory of requests stays small.
            request: RequestId {
                node: NodeId::from(1_u8),
                boot: self.proposals,
                sequence: 0,
            },
            caller,
            now: UnixMillis(0),
            command,
        };
        let applied = apply(&mut self.regions[at], &proposal);
        let state = &mut self.regions[at];
        // By chance, but in every run at the same places.
        if state.digest().0.is_multiple_of(INSTALLED_EVERY) {
            *state = installed(state);
        }
        applied.outcome.is_ok_and(|events| !events.is_empty())
    }

    fn ask(&mut self, at: usize, ask: Ask) -> bool {
        let key = key_ref();
        let command = match ask {
            Ask::Replicate(to) => Command::ReplicateKey {
                key,
                region: region(to),
                description: String::new(),
                policy: None,
                bypass_lockout_check: false,
                tags: vec![],
            },
            Ask::Move(to) => Command::UpdatePrimaryRegion {
                key,
                to: region(to),
            },
            Ask::Schedule => Command::ScheduleKeyDeletion {
                key,
                wait: WaitingDays::new(7).unwrap(),
            },
            Ask::Cancel => Command::CancelKeyDeletion { key },
            Ask::Disable => Command::DisableKey { key },
            Ask::Enable => Command::EnableKey { key },
            Ask::Rotate => {
                self.materials += 1;
                Command::RotateKeyOnDemand {
                    key,
                    material: material(self.materials),
                }
            }
            Ask::ImportNew(version) | Ask::Import(version) => Command::ImportKeyMaterial {
                key,
                material: material(version),
                terms: ImportTerms {
                    import_type: matches!(ask, Ask::ImportNew(_)).then_some(ImportType::New),
                    ..ImportTerms::default()
                },
            },
            Ask::DeleteImport(version) => Command::DeleteImportedKeyMaterial {
                key,
                material: Some(material(version).id),
            },
            Ask::Policy => Command::PutKeyPolicy {
                key,
                policy: POLICY.to_owned(),
                bypass_lockout_check: false,
            },
        };
        self.propose(at, Some(caller()), command)
    }

    /// Has the next message of a channel taken.
    fn carry(&mut self, from: usize, to: usize, heard: bool, flaw: Option<Flaw>) {
        let delivery = self.next_delivery(from, to);
        let through = delivery.messages[0].0;
        self.take(from, to, delivery, flaw);
        if heard {
            let to = region(to);
            self.propose(from, None, Command::Delivered { to, through });
        }
    }

    fn next_delivery(&self, from: usize, to: usize) -> Delivery {
        let (sender, receiver) = (&self.regions[from], region(to));
        let first = sender.outbox(&receiver).next();
        let (number, message) = first.expect("something waits");
        Delivery {
            after: sender.channel(&receiver).delivered,
            messages: vec![(number, Message::clone(message))],
        }
    }

    fn take(&mut self, from: usize, to: usize, delivery: Delivery, flaw: Option<Flaw>) -> bool {
        let Delivery {
            after,
            mut messages,
        } = delivery;
        if let Some(flaw) = flaw {
            let receiver = &self.regions[to];
            messages
                .iter_mut()
                .for_each(|(_, message)| crate::forge(flaw, receiver, message));
        }
        let from = region(from);
        self.propose(
            to,
            None,
            Command::Deliver {
                from,
                after,
                messages,
            },
        )
    }

    /// The world after a step; `None` if it changes nothing.
    pub(crate) fn after(&self, step: Step, flaw: Option<Flaw>) -> Option<Self> {
        let mut next = self.clone();
        match step {
            Step::Client(at, ask) => {
                match &mut next.asks {
                    Asks::Any(left) => *left -= 1,
                    Asks::These(asks) => {
                        let given = asks.iter().position(|asked| *asked == (at, ask));
                        asks.remove(given.expect("it was offered"));
                    }
                }
                if !next.ask(at, ask) {
                    return None;
                }
            }
            Step::Expire(at) => {
                next.propose(at, None, Command::AdvanceClock { by_ms: 8 * DAY_MS });
                next.propose(at, None, Command::Tick);
            }
            Step::Deliver(from, to) => next.carry(from, to, true, flaw),
            Step::DeliverUnheard(from, to) => {
                let delivery = next.next_delivery(from, to);
                let link = next.links.get_mut(&(from, to)).expect("it is a channel");
                link.unheard_left -= 1;
                link.late = Some(delivery);
                next.carry(from, to, false, flaw);
            }
            Step::DeliverLate(from, to) => {
                let link = next.links.get_mut(&(from, to)).expect("it is a channel");
                let delivery = link.late.take().expect("it was unheard");
                next.take(from, to, delivery, flaw);
            }
        }
        next.print = print::of(&next);
        (next.print != self.print).then_some(next)
    }

    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        for (from, to) in self.talking() {
            steps.push(Step::Deliver(from, to));
            if self.links[&(from, to)].unheard_left > 0 {
                steps.push(Step::DeliverUnheard(from, to));
            }
        }
        for (&(from, to), link) in &self.links {
            if link.late.is_some() {
                steps.push(Step::DeliverLate(from, to));
            }
        }
        for at in 0..REGIONS.len() {
            if self.regions[at].next_due().is_some() {
                steps.push(Step::Expire(at));
            }
            match &self.asks {
                Asks::Any(1..) if self.key(at).is_some() => {
                    for to in (0..REGIONS.len()).filter(|to| *to != at) {
                        steps.push(Step::Client(at, Ask::Replicate(to)));
                        steps.push(Step::Client(at, Ask::Move(to)));
                    }
                    for ask in [
                        Ask::Schedule,
                        Ask::Cancel,
                        Ask::Disable,
                        Ask::Enable,
                        Ask::Rotate,
                    ] {
                        steps.push(Step::Client(at, ask));
                    }
                }
                Asks::Any(_) => {}
                Asks::These(asks) => {
                    let mut here: Vec<_> =
                        asks.iter().filter(|(region, _)| *region == at).collect();
                    here.sort();
                    here.dedup();
                    steps.extend(here.into_iter().map(|(at, ask)| Step::Client(*at, *ask)));
                }
            }
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.members().map(|(_, key)| key)
    }

    /// Whether no message is on its way.
    pub(crate) fn rests(&self) -> bool {
        self.talking().next().is_none()
    }

    fn members(&self) -> impl Iterator<Item = (usize, &Key)> {
        (0..REGIONS.len()).filter_map(|at| Some((at, self.key(at)?)))
    }

    pub(crate) fn primaries(&self) -> usize {
        self.members()
            .filter(|(_, key)| key.multi_region == Some(MultiRegionRole::Primary))
            .count()
    }

    /// Whether one member has all material of another: a ciphertext names its version, and a
    /// pending one is there already.
    fn has_all(&self, (at, key): (usize, &Key), other: &Key) -> bool {
        other.materials.iter().all(|material| {
            let version = self.regions[at].material(key, &material.id);
            version.is_some_and(NewMaterial::is_here)
        })
    }

    /// Whether every member that can be used has all material that another uses or has used.
    pub(crate) fn all_decrypt(&self) -> bool {
        let usable =
            |(_, key): &(usize, &Key)| matches!(key.state, KeyState::Enabled | KeyState::Updating);
        let members: Vec<_> = self.members().filter(usable).collect();
        members.iter().all(|(_, one)| {
            !one.materials.is_empty() && members.iter().all(|other| self.has_all(*other, one))
        })
    }

    /// Whether the primary knows which members have the version that waits, and the others whether all
    /// do.
    fn imports_are_known(&self, members: &[(usize, &Key)]) -> bool {
        let awaited = |at: usize| self.regions[at].awaited(key_ref());
        let family = |at: usize| self.regions[at].family(key_ref()).expect("it was there");
        let primary =
            |(_, key): &&(usize, &Key)| key.multi_region == Some(MultiRegionRole::Primary);
        let (primary, _) = members.iter().find(primary).expect("there is one");
        let told = awaited(*primary);
        let everywhere = |at: usize| awaited(at).map(|it| it.is_everywhere(family(at)));
        members.iter().all(|(at, _)| {
            let imports = self.regions[*at].imports(key_ref());
            let pending = imports.and_then(|imports| imports.pending.as_ref());
            let has = pending.is_some_and(NewMaterial::is_here);
            let member = (&region(*at), &family(*at).incarnation);
            let said = told.as_ref().is_some_and(|told| {
                let mut held_by = told.held_by.iter();
                held_by.any(|holder| holder == member)
            });
            let same = |(mine, told): (&Awaited, &Awaited)| {
                (mine.material, mine.since) == (told.material, told.since)
            };
            let named = match (&awaited(*at), &told) {
                (Some(mine), Some(told)) => same((mine, told)),
                (mine, told) => mine.is_none() && told.is_none(),
            };
            has == said && named && everywhere(*at) == everywhere(*primary)
        })
    }

    /// Whether all members agree, if no message is on its way.
    pub(crate) fn rests_in_agreement(&self) -> bool {
        if !self.rests() {
            return true;
        }
        let members: Vec<(usize, &Key)> = self.members().collect();
        let transient = |key: &Key| matches!(key.state, KeyState::Creating | KeyState::Updating);
        if members.is_empty() {
            return true;
        }
        if members.iter().any(|(_, key)| transient(key)) || self.primaries() != 1 {
            return false;
        }
        if members.len() == 1 && self.regions[members[0].0].family(key_ref()).is_none() {
            return true;
        }
        let mut rosters = members.iter().map(|(at, _)| {
            let family = self.regions[*at].family(key_ref());
            family.map(|family| {
                let roster = family.roster.iter();
                let roster: Vec<_> = roster.map(|(r, e)| (r.clone(), e.incarnation)).collect();
                let key = self.key(*at).expect("it is a member");
                let materials: Vec<_> = key.materials.iter().map(|m| m.id).collect();
                let rotation = self.regions[*at].rotation(key_ref());
                let pending = rotation.is_some_and(|rotation| rotation.pending.is_some());
                (family.primary.clone(), roster, materials, pending)
            })
        });
        let first = rosters.next().flatten();
        let Some((_, roster, _, pending)) = &first else {
            return false;
        };
        !pending
            && roster.len() == members.len()
            && rosters.all(|other| other == first)
            && self.imports_are_known(&members)
    }
}
