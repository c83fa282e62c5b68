//! What a Region's replicas agree on, as rows.
//!
//! Every fact is one [`Row`]. Rows are what a snapshot holds and what the digest sums, and
//! [`State::put`] and [`State::remove`] are the only ways to change them, so no mutation can
//! forget an index or the digest. Counts and indexes are derived from rows and never stored.
//!
//! The maps are persistent: a clone shares everything with its origin and costs O(1).

mod kept;
mod row;

use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, LazyLock};

use keyrum_types::{AccountId, AliasName, KeyId, MaterialId, NodeId, Origin, Region, UnixMillis};
use rpds::RedBlackTreeMapSync as Map;

use self::kept::{ByDate, Kept, move_date};
pub(crate) use self::row::{Registers, Row, RowName, Window};
use crate::channel::Channel;
use crate::digest::Share;
use crate::domain_key::{DOMAIN_KEY_LEVEL, DomainKeyVersion};
use crate::family::{Awaited, Family, Message, Stamp, Subject};
use crate::grant::Grants;
use crate::identity::Identities;
use crate::rotation::{self, Rotation};
use crate::{Alias, Digest, Imports, Key, KeyRef, LastUse, NewMaterial, import};

/// The newest rules this build knows. A group whose feature level is higher must not be applied
/// by this build: the node stops.
pub const FEATURE_LEVEL_SUPPORTED: u32 = DOMAIN_KEY_LEVEL;

/// The state of one Region: keys, aliases, clock and the memory of recent requests.
///
/// A clone costs O(1) and is a consistent view that later commands leave alone.
#[derive(Clone)]
pub struct State {
    registers: Registers,
    keys: Map<KeyRef, Kept<Arc<Key>>>,
    key_counts: Map<AccountId, u32>,
    due: ByDate,
    aliases: Map<(AccountId, AliasName), Alias>,
    aliases_by_key: Map<(KeyRef, AliasName), ()>,
    /// AWS managed keys and the aliases that make them such.
    managed: Map<KeyRef, AliasName>,
    windows: Map<NodeId, Window>,
    answers: Map<(NodeId, u64), Kept<Arc<[u8]>>>,
    rotations: Map<KeyRef, Kept<Arc<Rotation>>>,
    /// Keys that are to be rotated, by date; of two kinds of rows: the key's and its rotation's.
    rotations_due: ByDate,
    families: Map<KeyRef, Kept<Arc<Family>>>,
    /// For each key, the greatest incarnation that was deleted here.
    buried: Map<KeyRef, Stamp>,
    channels: Map<Region, Channel>,
    outbox: Map<(Region, u64), Kept<Arc<Message>>>,
    /// Where in the outbox the message on a subject waits.
    waiting: Map<(Region, Subject), u64>,
    last_uses: Map<KeyRef, LastUse>,
    imports: Map<KeyRef, Arc<Imports>>,
    awaited: Map<KeyRef, Arc<Awaited>>,
    /// Keys with material that expires, by the first date; of two kinds of rows: the key's
    /// and its imports'.
    expiring: ByDate,
    grants: Grants,
    identities: Identities,
    domain_key: Map<u32, DomainKeyVersion>,
    digest: Digest,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("registers", &self.registers)
            .field("keys", &self.keys.size())
            .field("aliases", &self.aliases.size())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The least alias name there is: `-` is the least character a name may have.
static LEAST_ALIAS: LazyLock<AliasName> =
    LazyLock::new(|| AliasName::new("alias/-").expect("it has the form of an alias name"));

/// The least key id there is.
fn least_key_id() -> KeyId {
    KeyId::from_bytes([0; 17]).expect("zero is the tag of a single-Region id")
}

impl State {
    /// The state of a Region before its first command.
    pub fn new(region: Region) -> Self {
        let registers = Registers {
            region,
            clock_base: UnixMillis(0),
            clock_offset_ms: 0,
            feature_level: 1,
        };
        let mut digest = Digest::default();
        digest.add(Share::of(&Row::Registers(registers.clone())));
        Self {
            registers,
            keys: Map::new_sync(),
            key_counts: Map::new_sync(),
            due: Map::new_sync(),
            aliases: Map::new_sync(),
            aliases_by_key: Map::new_sync(),
            managed: Map::new_sync(),
            windows: Map::new_sync(),
            answers: Map::new_sync(),
            rotations: Map::new_sync(),
            rotations_due: Map::new_sync(),
            families: Map::new_sync(),
            buried: Map::new_sync(),
            channels: Map::new_sync(),
            outbox: Map::new_sync(),
            waiting: Map::new_sync(),
            last_uses: Map::new_sync(),
            imports: Map::new_sync(),
            awaited: Map::new_sync(),
            expiring: Map::new_sync(),
            grants: Grants::new(),
            identities: Identities::new(),
            domain_key: Map::new_sync(),
            digest,
        }
    }

    /// The Region's name.
    pub fn region(&self) -> &Region {
        &self.registers.region
    }

    /// Which rules hold. A node whose build supports less ([`FEATURE_LEVEL_SUPPORTED`]) stops.
    pub fn feature_level(&self) -> u32 {
        self.registers.feature_level
    }

    /// The Region's clock as of the last command. Never goes back.
    pub fn clock(&self) -> UnixMillis {
        self.registers
            .clock_base
            .plus_ms(self.registers.clock_offset_ms)
    }

    /// How far the Region's clock was moved ahead by hand, in milliseconds. Never shrinks.
    pub fn clock_offset_ms(&self) -> u64 {
        self.registers.clock_offset_ms
    }

    /// The Region's clock for a reader or proposer whose own clock says `machine`.
    pub fn region_time(&self, machine: UnixMillis) -> UnixMillis {
        self.registers
            .clock_base
            .max(machine)
            .plus_ms(self.registers.clock_offset_ms)
    }

    /// The earliest date, by the Region's clock, at which a `Tick` has something to do.
    pub fn next_due(&self) -> Option<UnixMillis> {
        let first = [self.due.first(), self.expiring.first()];
        let dates = first.into_iter().flatten();
        dates.map(|((due, _), ())| *due).min()
    }

    /// The earliest date, by the Region's clock, at which a key is to be rotated.
    pub fn next_rotation_due(&self) -> Option<UnixMillis> {
        self.rotations_due.first().map(|((due, _), ())| *due)
    }

    /// Keys that are to be rotated by `time` and the dates they are due, by date and then by name.
    pub fn rotations_due_by(&self, time: UnixMillis) -> impl Iterator<Item = (KeyRef, UnixMillis)> {
        self.rotations_due
            .keys()
            .take_while(move |(due, _)| *due <= time)
            .map(|(due, key)| (*key, *due))
    }

    /// What a key's rotation is set to and has done; `None` if nobody has done anything about it.
    pub fn rotation(&self, key: KeyRef) -> Option<&Arc<Rotation>> {
        self.rotations.get(&key).map(|kept| &kept.value)
    }

    /// A key, in whatever state it is.
    pub fn key(&self, key: KeyRef) -> Option<&Arc<Key>> {
        self.keys.get(&key).map(|kept| &kept.value)
    }

    /// An account's keys after `after`, in the order of their ids.
    pub fn keys(
        &self,
        account: AccountId,
        after: Option<KeyId>,
    ) -> impl Iterator<Item = &Arc<Key>> {
        let start = match after {
            Some(id) => Bound::Excluded(KeyRef { account, id }),
            None => Bound::Included(KeyRef {
                account,
                id: least_key_id(),
            }),
        };
        let range = self.keys.range((start, Bound::Unbounded));
        range
            .map(|(_, key)| &key.value)
            .take_while(move |key| key.account == account)
    }

    /// How many keys an account has, in all states; AWS managed ones are not counted.
    pub fn key_count(&self, account: AccountId) -> u32 {
        let all = self.key_counts.get(&account).copied().unwrap_or(0);
        let id = least_key_id();
        let managed = self.managed.range(KeyRef { account, id }..);
        let managed = managed.take_while(|(key, _)| key.account == account);
        let managed = u32::try_from(managed.count()).expect("services are few");
        all - managed
    }

    /// The alias under `alias/aws/` whose key this is; `None` for a customer's key.
    pub fn managed_alias(&self, key: KeyRef) -> Option<&AliasName> {
        self.managed.get(&key)
    }

    /// How many keys the Region has, in all accounts and states.
    pub fn total_keys(&self) -> u64 {
        self.keys.size() as u64
    }

    /// What an account's alias names.
    pub fn alias(&self, account: AccountId, name: &AliasName) -> Option<&Alias> {
        self.aliases.get(&(account, name.clone()))
    }

    /// An account's aliases after `after`, in the order of their names.
    pub fn aliases(
        &self,
        account: AccountId,
        after: Option<&AliasName>,
    ) -> impl Iterator<Item = (&AliasName, &Alias)> {
        let start = match after {
            Some(name) => Bound::Excluded((account, name.clone())),
            None => Bound::Included((account, LEAST_ALIAS.clone())),
        };
        let range = self.aliases.range((start, Bound::Unbounded));
        range
            .take_while(move |((owner, _), _)| *owner == account)
            .map(|((_, name), alias)| (name, alias))
    }

    /// A key's aliases after `after`, in the order of their names.
    pub fn aliases_of(
        &self,
        key: KeyRef,
        after: Option<&AliasName>,
    ) -> impl Iterator<Item = (&AliasName, &Alias)> {
        let start = match after {
            Some(name) => Bound::Excluded((key, name.clone())),
            None => Bound::Included((key, LEAST_ALIAS.clone())),
        };
        let range = self.aliases_by_key.range((start, Bound::Unbounded));
        range
            .take_while(move |((target, _), ())| *target == key)
            .map(move |((_, name), ())| {
                let alias = self.alias(key.account, name);
                (
                    name,
                    alias.expect("the index lists only aliases that exist"),
                )
            })
    }

    /// The last use of a key that the Region knows of.
    pub fn last_use(&self, key: KeyRef) -> Option<LastUse> {
        self.last_uses.get(&key).copied()
    }

    /// What is known of a key's imported material beside its bytes; `None` before the first import.
    pub fn imports(&self, key: KeyRef) -> Option<&Arc<Imports>> {
        self.imports.get(&key)
    }

    /// The imported version that a key's family will be rotated to, and who has it; `None` also while
    /// that is under way. A family that has told nobody of it has it in the primary alone.
    pub fn awaited(&self, key: KeyRef) -> Option<Awaited> {
        if let Some(awaited) = self.awaited.get(&key) {
            return Some(Awaited::clone(awaited));
        }
        let pending = self.imports(key)?.pending.as_ref()?;
        if self.rotating_to(key) == Some(pending.id) {
            return None;
        }
        let family = self.family(key);
        let own = (
            self.region().clone(),
            family.map_or_else(Stamp::default, |family| family.incarnation),
        );
        Some(Awaited {
            material: pending.id,
            since: Stamp::default(),
            held_by: pending.is_here().then_some(own).into_iter().collect(),
        })
    }

    /// The version that the rotation under way will make current.
    pub(crate) fn rotating_to(&self, key: KeyRef) -> Option<MaterialId> {
        let pending = self.rotation(key)?.pending.as_ref()?;
        Some(pending.material.id)
    }

    /// A version of a key's material to decrypt with: one of the key's, or the one that a rotation
    /// under way will make current, which other members may use already.
    pub fn material<'s>(&'s self, key: &'s Key, id: &MaterialId) -> Option<&'s NewMaterial> {
        key.material(id).or_else(|| {
            let name = key.reference();
            let pending = self.rotation(name)?.pending.as_ref()?;
            let pending = match key.origin {
                Origin::External => self.imports(name)?.pending.as_ref(),
                Origin::AwsKms | Origin::AwsCloudhsm | Origin::ExternalKeyStore => None,
            }
            .filter(|imported| imported.id == pending.material.id)
            .unwrap_or(&pending.material);
            (pending.id == *id).then_some(pending)
        })
    }

    /// When the first of a key's imported material expires, of what is the key's and there.
    pub fn expiry(&self, key: KeyRef) -> Option<UnixMillis> {
        import::due_date(self.key(key)?, self.imports.get(&key)?)
    }

    /// A multi-Region key's family, as this Region's log knows it; `None` for a primary that never
    /// had a replica.
    pub fn family(&self, key: KeyRef) -> Option<&Arc<Family>> {
        self.families.get(&key).map(|kept| &kept.value)
    }

    /// The greatest incarnation of a key that was really deleted here.
    pub fn buried(&self, key: KeyRef) -> Option<Stamp> {
        self.buried.get(&key).copied()
    }

    /// How far this Region has come with another.
    pub fn channel(&self, with: &Region) -> Channel {
        self.channels.get(with).copied().unwrap_or_default()
    }

    /// What waits for another Region, by ascending number.
    pub fn outbox<'s>(
        &'s self,
        to: &Region,
    ) -> impl Iterator<Item = (u64, &'s Arc<Message>)> + use<'s> {
        self.outbox_after(to, 0)
    }

    /// The same, of what has a greater number than `after`.
    pub fn outbox_after<'s>(
        &'s self,
        to: &Region,
        after: u64,
    ) -> impl Iterator<Item = (u64, &'s Arc<Message>)> + use<'s> {
        let (start, end) = ((to.clone(), after), (to.clone(), u64::MAX));
        let range = self
            .outbox
            .range((Bound::Excluded(start), Bound::Included(end)));
        range.map(|((_, number), message)| (*number, &message.value))
    }

    /// The number of the message on a subject that waits for a Region.
    pub(crate) fn waiting_on(&self, to: &Region, subject: Subject) -> Option<u64> {
        self.waiting.get(&(to.clone(), subject)).copied()
    }

    /// What waits for a Region under a number.
    pub(crate) fn waiting_message(&self, to: &Region, number: u64) -> Option<&Message> {
        let message = self.outbox.get(&(to.clone(), number))?;
        Some(&message.value)
    }

    /// Every Region that was ever sent something or heard.
    pub fn regions_spoken_to(&self) -> impl Iterator<Item = &Region> {
        self.channels.keys()
    }

    /// The sum over all contents, kept up to date by every change. Two replicas that applied
    /// the same log have the same.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The same sum, made anew from the contents.
    pub fn recompute_digest(&self) -> Digest {
        let mut digest = Digest::default();
        self.rows().for_each(|row| digest.add(Share::of(&row)));
        digest
    }

    /// Every fact; the registers first, then in an order that the contents alone fix.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        let registers = std::iter::once(Row::Registers(self.registers.clone()));
        let keys = self.keys.values();
        let keys = keys.map(|key| Row::Key(Arc::clone(&key.value)));
        let aliases = self
            .aliases
            .iter()
            .map(|((account, name), alias)| Row::Alias {
                account: *account,
                name: name.clone(),
                alias: *alias,
            });
        let windows = self
            .windows
            .iter()
            .map(|(&node, &window)| Row::Window { node, window });
        let answers = self
            .answers
            .iter()
            .map(|(&(node, sequence), outcome)| Row::Answer {
                node,
                sequence,
                outcome: Arc::clone(&outcome.value),
            });
        let rotations = self.rotations.iter().map(|(&key, rotation)| Row::Rotation {
            key,
            rotation: Arc::clone(&rotation.value),
        });
        let families = self.families.iter().map(|(&key, family)| Row::Family {
            key,
            family: Arc::clone(&family.value),
        });
        let buried = self
            .buried
            .iter()
            .map(|(&key, &incarnation)| Row::Buried { key, incarnation });
        let channels = self.channels.iter().map(|(with, &channel)| Row::Channel {
            with: with.clone(),
            channel,
        });
        let outbox = self.outbox.iter().map(|((to, number), message)| Row::Sent {
            to: to.clone(),
            number: *number,
            message: Arc::clone(&message.value),
        });
        let last_uses = self
            .last_uses
            .iter()
            .map(|(&key, &last)| Row::LastUse { key, last });
        let imports = self.imports.iter().map(|(&key, imports)| Row::Imports {
            key,
            imports: Arc::clone(imports),
        });
        let awaited = self.awaited.iter().map(|(&key, awaited)| Row::Awaited {
            key,
            awaited: Arc::clone(awaited),
        });
        let grants = self.grants.iter();
        let grants = grants.map(|grant| Row::Grant(Arc::clone(grant)));
        let identities = self.identities.iter();
        let identities = identities.map(|record| Row::Identity(Arc::clone(record)));
        let book = self.identities.book().cloned();
        let book = book.map(Row::IdentityBook).into_iter();
        let deleted = self.identities.deleted();
        let deleted = deleted.map(|(name, revision)| Row::DeletedIdentity {
            name: name.clone(),
            revision,
        });
        let domain_key = self.domain_key.iter();
        let domain_key = domain_key.map(|(&version, known)| Row::DomainKey {
            version,
            known: known.clone(),
        });
        registers
            .chain(keys)
            .chain(aliases)
            .chain(windows)
            .chain(answers)
            .chain(rotations)
            .chain(families)
            .chain(buried)
            .chain(channels)
            .chain(outbox)
            .chain(last_uses)
            .chain(imports)
            .chain(awaited)
            .chain(grants)
            .chain(identities)
            .chain(book)
            .chain(deleted)
            .chain(domain_key)
    }

    /// The versions of the domain key, oldest first; none before it is first rotated.
    pub fn domain_key_versions(&self) -> impl Iterator<Item = (u32, &DomainKeyVersion)> {
        self.domain_key
            .iter()
            .map(|(version, known)| (*version, known))
    }

    /// One of them.
    pub fn domain_key_version(&self, version: u32) -> Option<&DomainKeyVersion> {
        self.domain_key.get(&version)
    }

    /// All keys after `after`, of all accounts, in the order of their names.
    pub(crate) fn keys_after(&self, after: Option<KeyRef>) -> impl Iterator<Item = &Arc<Key>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.keys.range((start, Bound::Unbounded));
        range.map(|(_, key)| &key.value)
    }

    /// All that waits for other Regions.
    pub(crate) fn all_sent(&self) -> impl Iterator<Item = (&Region, u64, &Arc<Message>)> {
        let sent = self.outbox.iter();
        sent.map(|((to, number), message)| (to, *number, &message.value))
    }

    pub(crate) fn all_grants(&self) -> &Grants {
        &self.grants
    }

    pub(crate) fn all_identities(&self) -> &Identities {
        &self.identities
    }

    pub(crate) fn registers(&self) -> &Registers {
        &self.registers
    }

    pub(crate) fn windows(&self) -> &Map<NodeId, Window> {
        &self.windows
    }

    /// One node's remembered answers, by ascending sequence.
    pub(crate) fn answers(
        &self,
        node: NodeId,
    ) -> impl DoubleEndedIterator<Item = (u64, &Arc<[u8]>)> {
        let range = self.answers.range((node, 0)..=(node, u64::MAX));
        range.map(|(&(_, sequence), outcome)| (sequence, &outcome.value))
    }

    pub(crate) fn answer(&self, node: NodeId, sequence: u64) -> Option<&Arc<[u8]>> {
        let outcome = self.answers.get(&(node, sequence))?;
        Some(&outcome.value)
    }

    /// Keys to be deleted by `time`, by due date and then by name.
    pub fn due_by(&self, time: UnixMillis) -> impl Iterator<Item = KeyRef> {
        self.due
            .keys()
            .take_while(move |(due, _)| *due <= time)
            .map(|(_, key)| *key)
    }

    /// Keys with material that expires by `time`, by the first date and then by name.
    pub(crate) fn expiring_by(&self, time: UnixMillis) -> impl Iterator<Item = KeyRef> {
        self.expiring
            .keys()
            .take_while(move |(due, _)| *due <= time)
            .map(|(_, key)| *key)
    }

    /// Writes a fact, in place of the former one of its name.
    pub(crate) fn put(&mut self, row: Row) {
        let share = Share::of(&row);
        let former = match &row {
            Row::Registers(registers) => {
                let former = std::mem::replace(&mut self.registers, registers.clone());
                Some(Share::of(&Row::Registers(former)))
            }
            Row::Key(key) => {
                let name = key.reference();
                let former = self.keys.get(&name).cloned();
                self.index_key(name, former.as_ref().map(Kept::fact), Some(key));
                if former.is_none() {
                    let count = self.key_counts.get(&key.account).copied().unwrap_or(0);
                    self.key_counts.insert_mut(key.account, count + 1);
                }
                let value = Arc::clone(key);
                self.keys.insert_mut(name, Kept { value, share });
                former.map(|former| former.share)
            }
            Row::Alias {
                account,
                name,
                alias,
            } => {
                let former = self.take_alias_from_indexes(*account, name);
                self.aliases_by_key
                    .insert_mut((alias.target, name.clone()), ());
                if name.is_aws_reserved() {
                    self.managed.insert_mut(alias.target, name.clone());
                }
                self.aliases.insert_mut((*account, name.clone()), *alias);
                former.as_ref().map(Share::of)
            }
            Row::Window { node, window } => {
                let former = self.windows.get(node).copied();
                self.windows.insert_mut(*node, *window);
                former.map(|window| {
                    Share::of(&Row::Window {
                        node: *node,
                        window,
                    })
                })
            }
            Row::Answer {
                node,
                sequence,
                outcome,
            } => {
                let name = (*node, *sequence);
                let former = self.answers.get(&name).map(|former| former.share);
                let value = Arc::clone(outcome);
                self.answers.insert_mut(name, Kept { value, share });
                former
            }
            Row::Rotation { key, rotation } => {
                let former = self.rotations.get(key).cloned();
                let before = former.as_ref().map(Kept::fact);
                self.index_rotation(*key, before, Some(rotation));
                let value = Arc::clone(rotation);
                self.rotations.insert_mut(*key, Kept { value, share });
                former.map(|former| former.share)
            }
            Row::Family { key, family } => {
                let former = self.families.get(key).map(|former| former.share);
                let value = Arc::clone(family);
                self.families.insert_mut(*key, Kept { value, share });
                former
            }
            Row::Buried { key, incarnation } => {
                let former = self.buried.get(key).copied();
                self.buried.insert_mut(*key, *incarnation);
                former.map(|incarnation| {
                    Share::of(&Row::Buried {
                        key: *key,
                        incarnation,
                    })
                })
            }
            Row::Channel { with, channel } => {
                let former = self.channels.get(with).copied();
                self.channels.insert_mut(with.clone(), *channel);
                former.map(|channel| {
                    Share::of(&Row::Channel {
                        with: with.clone(),
                        channel,
                    })
                })
            }
            Row::Sent {
                to,
                number,
                message,
            } => {
                let former = self.take_message(to, *number);
                if let Some(subject) = message.subject() {
                    self.waiting.insert_mut((to.clone(), subject), *number);
                }
                let value = Arc::clone(message);
                self.outbox
                    .insert_mut((to.clone(), *number), Kept { value, share });
                former
            }
            Row::LastUse { key, last } => {
                let former = self.last_use(*key);
                self.last_uses.insert_mut(*key, *last);
                former.map(|last| Share::of(&Row::LastUse { key: *key, last }))
            }
            Row::Imports { key, imports } => {
                let former = self.imports.get(key).map(Arc::clone);
                self.index_imports(*key, former.as_deref(), Some(imports));
                self.imports.insert_mut(*key, Arc::clone(imports));
                former.map(|imports| Share::of(&Row::Imports { key: *key, imports }))
            }
            Row::Awaited { key, awaited } => {
                let former = self.awaited.get(key).map(Arc::clone);
                self.awaited.insert_mut(*key, Arc::clone(awaited));
                former.map(|awaited| Share::of(&Row::Awaited { key: *key, awaited }))
            }
            Row::Grant(grant) => {
                let former = self.grants.put(grant);
                former.map(|former| Share::of(&Row::Grant(former)))
            }
            Row::Identity(record) => {
                let former = self.identities.put(record);
                former.map(|former| Share::of(&Row::Identity(former)))
            }
            Row::IdentityBook(book) => {
                let former = self.identities.set_book(book);
                former.map(|former| Share::of(&Row::IdentityBook(former)))
            }
            Row::DeletedIdentity { name, revision } => {
                let former = self.identities.put_deleted(name, *revision);
                former.map(|revision| {
                    Share::of(&Row::DeletedIdentity {
                        name: name.clone(),
                        revision,
                    })
                })
            }
            Row::DomainKey { version, known } => {
                let former = self.domain_key.get(version).cloned();
                self.domain_key.insert_mut(*version, known.clone());
                former.map(|known| {
                    Share::of(&Row::DomainKey {
                        version: *version,
                        known,
                    })
                })
            }
        };
        if let Some(former) = former {
            self.digest.subtract(former);
        }
        self.digest.add(share);
    }

    /// Forgets a fact; nothing happens if there is none of that name.
    pub(crate) fn remove(&mut self, name: RowName<'_>) {
        let former = match name {
            RowName::Key(key) => {
                let former = self.keys.get(&key).cloned();
                self.index_key(key, former.as_ref().map(Kept::fact), None);
                if former.is_some() {
                    match self.key_counts.get(&key.account).copied().unwrap_or(0) {
                        0 | 1 => _ = self.key_counts.remove_mut(&key.account),
                        count => self.key_counts.insert_mut(key.account, count - 1),
                    }
                }
                self.keys.remove_mut(&key);
                former.map(|former| former.share)
            }
            RowName::Alias(account, name) => {
                let former = self.take_alias_from_indexes(account, name);
                self.aliases.remove_mut(&(account, name.clone()));
                former.as_ref().map(Share::of)
            }
            RowName::Window(node) => {
                let former = self.windows.get(&node).copied();
                self.windows.remove_mut(&node);
                former.map(|window| Share::of(&Row::Window { node, window }))
            }
            RowName::Answer(node, sequence) => {
                let former = self.answers.get(&(node, sequence));
                let former = former.map(|former| former.share);
                self.answers.remove_mut(&(node, sequence));
                former
            }
            RowName::Rotation(key) => {
                let former = self.rotations.get(&key).cloned();
                self.index_rotation(key, former.as_ref().map(Kept::fact), None);
                self.rotations.remove_mut(&key);
                former.map(|former| former.share)
            }
            RowName::Family(key) => {
                let former = self.families.get(&key).map(|former| former.share);
                self.families.remove_mut(&key);
                former
            }
            RowName::Sent(to, number) => self.take_message(to, number),
            RowName::LastUse(key) => {
                let former = self.last_use(key);
                self.last_uses.remove_mut(&key);
                former.map(|last| Share::of(&Row::LastUse { key, last }))
            }
            RowName::Imports(key) => {
                let former = self.imports.get(&key).map(Arc::clone);
                self.index_imports(key, former.as_deref(), None);
                self.imports.remove_mut(&key);
                former.map(|imports| Share::of(&Row::Imports { key, imports }))
            }
            RowName::Awaited(key) => {
                let former = self.awaited.get(&key).map(Arc::clone);
                self.awaited.remove_mut(&key);
                former.map(|awaited| Share::of(&Row::Awaited { key, awaited }))
            }
            RowName::Grant(key, id) => {
                let former = self.grants.remove(key, id);
                former.map(|former| Share::of(&Row::Grant(former)))
            }
            RowName::Identity(name) => {
                let former = self.identities.remove(name);
                former.map(|former| Share::of(&Row::Identity(former)))
            }
            RowName::DeletedIdentity(name) => {
                let former = self.identities.remove_deleted(name);
                former.map(|revision| {
                    Share::of(&Row::DeletedIdentity {
                        name: name.clone(),
                        revision,
                    })
                })
            }
            RowName::DomainKey(version) => {
                let former = self.domain_key.get(&version).cloned();
                self.domain_key.remove_mut(&version);
                former.map(|known| Share::of(&Row::DomainKey { version, known }))
            }
        };
        if let Some(former) = former {
            self.digest.subtract(former);
        }
    }

    fn take_message(&mut self, to: &Region, number: u64) -> Option<Share> {
        let name = (to.clone(), number);
        let message = self.outbox.get(&name)?.clone();
        self.outbox.remove_mut(&name);
        if let Some(subject) = message.value.subject()
            && self.waiting_on(to, subject.clone()) == Some(number)
        {
            self.waiting.remove_mut(&(to.clone(), subject));
        }
        Some(message.share)
    }

    /// Enters what a key's row says by date, in place of what the former one said.
    fn index_key(&mut self, name: KeyRef, former: Option<&Key>, row: Option<&Key>) {
        let date = |key: Option<&Key>| Some(key?.deletion?.due);
        move_date(&mut self.due, name, date(former), date(row));
        let rotation = self.rotations.get(&name).map(Kept::fact);
        let date = |key: Option<&Key>| rotation::due_date(key?, rotation?);
        move_date(&mut self.rotations_due, name, date(former), date(row));
        let imports = self.imports.get(&name);
        let date = |key: Option<&Key>| import::due_date(key?, imports?);
        move_date(&mut self.expiring, name, date(former), date(row));
    }

    fn index_rotation(&mut self, name: KeyRef, former: Option<&Rotation>, row: Option<&Rotation>) {
        let key = self.keys.get(&name).map(Kept::fact);
        let date = |rotation: Option<&Rotation>| rotation::due_date(key?, rotation?);
        move_date(&mut self.rotations_due, name, date(former), date(row));
    }

    fn index_imports(&mut self, name: KeyRef, former: Option<&Imports>, row: Option<&Imports>) {
        let key = self.keys.get(&name).map(Kept::fact);
        let date = |imports: Option<&Imports>| import::due_date(key?, imports?);
        move_date(&mut self.expiring, name, date(former), date(row));
    }

    fn take_alias_from_indexes(&mut self, account: AccountId, name: &AliasName) -> Option<Row> {
        let alias = *self.alias(account, name)?;
        self.aliases_by_key
            .remove_mut(&(alias.target, name.clone()));
        if name.is_aws_reserved() {
            self.managed.remove_mut(&alias.target);
        }
        Some(Row::Alias {
            account,
            name: name.clone(),
            alias,
        })
    }

    /// Changes a key that `decide` saw in this same state.
    pub(crate) fn edit_key(&mut self, key: KeyRef, edit: impl FnOnce(&mut Key)) {
        let present = self.key(key).expect("an event names a key that decide saw");
        let mut changed = Key::clone(present);
        edit(&mut changed);
        assert_eq!(changed.reference(), key, "a key never changes its name");
        self.put(Row::Key(Arc::new(changed)));
    }

    /// Changes the registers; costs nothing when nothing changes.
    pub(crate) fn edit_registers(&mut self, edit: impl FnOnce(&mut Registers)) {
        let mut changed = self.registers.clone();
        edit(&mut changed);
        if changed != self.registers {
            self.put(Row::Registers(changed));
        }
    }
}
