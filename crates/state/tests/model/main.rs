//! Model checking of multi-Region families: the production `apply` in every interleaving of
//! commands, deliveries, repeated and late deliveries, ends of waits, and installed snapshots, in three
//! Regions.

mod print;
mod world;

use std::sync::Arc;

use keyrum_state::{Message, Stamp, State};
use stateright::{Checker, Model, Property};
use world::{Ask, Asks, CHANNELS, Flaw, Step, World};

struct Families {
    starts: Vec<World>,
    flaw: Option<Flaw>,
}

impl Model for Families {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        self.starts.clone()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        world.after(step, self.flaw)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_PRIMARY, |_, world: &World| world.primaries() <= 1),
            Property::always(DECRYPTS, |_, world: &World| world.all_decrypt()),
            Property::always(AGREES, |_, world: &World| world.rests_in_agreement()),
        ]
    }
}

const ONE_PRIMARY: &str = "no cut has two primaries";
const DECRYPTS: &str = "what one usable member encrypts, every other decrypts";
const AGREES: &str = "when all messages have arrived, all members agree";

/// Changes a message on its way, as a protocol with that flaw would have it.
fn forge(flaw: Flaw, receiver: &State, message: &mut Message) {
    let own = receiver.region().clone();
    match (flaw, message) {
        (Flaw::StepUpFirst, message @ Message::MoveRequest { .. }) => {
            let Message::MoveRequest {
                record, materials, ..
            } = message.clone()
            else {
                unreachable!("it was matched");
            };
            let mut record = (*record).clone();
            record.primary = own;
            record.stamp.epoch += 1;
            *message = Message::Record {
                record: record.into(),
                materials,
            };
        }
        (Flaw::NoStamp, Message::Record { record, .. }) => {
            let mut forged = (**record).clone();
            if let Some(family) = receiver.family(record.key) {
                forged.stamp = forged.stamp.max(Stamp {
                    version: family.stamp.version + 1,
                    ..family.stamp
                });
            }
            *record = forged.into();
        }
        (Flaw::Revive, Message::Record { record, .. }) => {
            let mut forged = (**record).clone();
            if let Some(entry) = Arc::make_mut(&mut forged.roster).get_mut(receiver.region())
                && let Some(buried) = receiver.buried(record.key)
                && entry.incarnation <= buried
            {
                entry.incarnation.version = buried.version + 1;
            }
            *record = forged.into();
        }
        (Flaw::ActivateEarly, Message::Record { record, .. }) => {
            let mut forged = (**record).clone();
            let pending = forged.rotation.pending.take();
            forged.materials.extend(pending.map(|(id, ..)| id));
            *record = forged.into();
        }
        (
            Flaw::AnyReport,
            Message::ImportReport {
                key, epoch, since, ..
            },
        ) => {
            if let (Some(family), Some(awaited)) = (receiver.family(*key), receiver.awaited(*key)) {
                *epoch = family.stamp.epoch;
                *since = awaited.since;
            }
        }
        _ => {}
    }
}

/// Explores all of it; gives how many different states there are, and the property that fails with
/// the way there.
fn explore(starts: Vec<World>, flaw: Option<Flaw>) -> (usize, Option<(&'static str, String)>) {
    let model = Families { starts, flaw };
    let checker = model.checker().threads(2).spawn_bfs().join();
    let failure = [ONE_PRIMARY, DECRYPTS, AGREES]
        .into_iter()
        .find_map(|name| {
            let path = checker.discovery(name)?;
            let steps = path.clone().into_actions();
            Some((name, format!("{steps:?} leads to {:?}", path.last_state())))
        });
    (checker.unique_state_count(), failure)
}

/// Panics if any property fails; gives how many different states there are.
fn all_hold(what: &str, starts: Vec<World>, at_least: usize) -> usize {
    let (states, failure) = explore(starts, None);
    println!("{what}: {states} distinct states");
    if let Some((property, way)) = failure {
        panic!("{what}: {property}: {way}");
    }
    assert!(states >= at_least, "{what}: only {states} states");
    states
}

/// Every interleaving of five commands each, in three Regions, with one lost acknowledgement, repeated
/// and late delivery on the channels between the Regions that matter most.
fn scenarios() -> Vec<(&'static str, World)> {
    let these = |asks: &[(usize, Ask)]| Asks::These(asks.to_vec());
    let (first, second, third) = (0, 1, 2);
    vec![
        (
            "two replicas, a move, and a move back",
            World::new(
                &[],
                these(&[
                    (first, Ask::Replicate(second)),
                    (first, Ask::Replicate(third)),
                    (first, Ask::Move(second)),
                    (second, Ask::Move(first)),
                    (second, Ask::Disable),
                ]),
                &[(first, second), (second, first)],
            ),
        ),
        (
            "moves that race with each other, a new policy and a disabled member",
            World::new(
                &[second, third],
                these(&[
                    (first, Ask::Move(second)),
                    (first, Ask::Move(third)),
                    (second, Ask::Move(third)),
                    (second, Ask::Policy),
                    (third, Ask::Disable),
                ]),
                &CHANNELS,
            ),
        ),
        (
            "a replica is deleted and replicated again while the primary moves",
            World::new(
                &[second],
                these(&[
                    (second, Ask::Schedule),
                    (first, Ask::Replicate(third)),
                    (first, Ask::Move(third)),
                    (third, Ask::Replicate(second)),
                    (first, Ask::Replicate(second)),
                ]),
                &[(first, second), (second, first), (third, second)],
            ),
        ),
        (
            "a primary is deleted after its replicas, and thinks better of it",
            World::new(
                &[second, third],
                these(&[
                    (first, Ask::Schedule),
                    (second, Ask::Schedule),
                    (third, Ask::Schedule),
                    (first, Ask::Cancel),
                    (second, Ask::Cancel),
                ]),
                &CHANNELS,
            ),
        ),
        (
            "rotations that race with a move, a new replica and a deletion",
            World::new(
                &[second],
                these(&[
                    (first, Ask::Rotate),
                    (first, Ask::Replicate(third)),
                    (first, Ask::Move(second)),
                    (second, Ask::Rotate),
                    (third, Ask::Schedule),
                ]),
                &[(first, second), (second, first), (second, third)],
            ),
        ),
        (
            "a replica is deleted, replicated and deleted again",
            World::new(
                &[],
                these(&[
                    (first, Ask::Replicate(second)),
                    (second, Ask::Schedule),
                    (first, Ask::Replicate(second)),
                    (second, Ask::Schedule),
                    (first, Ask::Schedule),
                ]),
                &[(first, second), (second, first)],
            ),
        ),
    ]
}

/// What may happen between the import into the primary and the rotation.
fn imports() -> Vec<(&'static str, World)> {
    let these = |asks: &[(usize, Ask)]| Asks::These(asks.to_vec());
    let (first, second, third) = (0, 1, 2);
    vec![
        (
            "a rotation races with members that import, lose and import again",
            World::imported(
                &[second, third],
                &[first, second],
                these(&[
                    (third, Ask::Import(2)),
                    (third, Ask::DeleteImport(2)),
                    (second, Ask::DeleteImport(2)),
                    (first, Ask::Rotate),
                    (third, Ask::Import(2)),
                ]),
                &[(first, third), (third, first)],
            ),
        ),
        (
            "the primary takes its import back, and brings it again",
            World::imported(
                &[second, third],
                &[first, third],
                these(&[
                    (first, Ask::DeleteImport(2)),
                    (first, Ask::ImportNew(2)),
                    (second, Ask::Import(2)),
                    (first, Ask::Rotate),
                    (first, Ask::DeleteImport(2)),
                ]),
                &[(first, second)],
            ),
        ),
        (
            "the primary moves and the new one carries on",
            World::imported(
                &[second],
                &[first],
                these(&[
                    (first, Ask::Move(second)),
                    (second, Ask::Import(2)),
                    (second, Ask::Rotate),
                    (first, Ask::DeleteImport(2)),
                    (second, Ask::DeleteImport(2)),
                ]),
                &[(first, second), (second, first)],
            ),
        ),
        (
            "a report stays on its way while the primary moves there and back",
            World::imported(
                &[second, third],
                &[first],
                these(&[
                    (third, Ask::Import(2)),
                    (first, Ask::Move(second)),
                    (third, Ask::DeleteImport(2)),
                    (second, Ask::Move(first)),
                ]),
                &[],
            ),
        ),
        (
            "one more replica comes and goes while others import",
            World::imported(
                &[second],
                &[first],
                these(&[
                    (first, Ask::Replicate(third)),
                    (second, Ask::Import(2)),
                    (third, Ask::Schedule),
                    (first, Ask::Rotate),
                ]),
                &[(first, third), (third, first)],
            ),
        ),
    ]
}

/// The same with more that may happen. Minutes.
fn long_imports() -> Vec<(&'static str, World)> {
    let these = |asks: &[(usize, Ask)]| Asks::These(asks.to_vec());
    let (first, second, third) = (0, 1, 2);
    vec![
        (
            "imports, a move there and back, and a rotation by whoever leads",
            World::imported(
                &[second, third],
                &[first, third],
                these(&[
                    (first, Ask::Move(second)),
                    (second, Ask::Import(2)),
                    (second, Ask::Rotate),
                    (second, Ask::Move(first)),
                    (third, Ask::DeleteImport(2)),
                    (first, Ask::Rotate),
                ]),
                &[(first, third), (third, first)],
            ),
        ),
        (
            "a replica imports, is deleted and made again while the primary moves",
            World::imported(
                &[second],
                &[first, second],
                these(&[
                    (first, Ask::Replicate(third)),
                    (third, Ask::Import(1)),
                    (third, Ask::Import(2)),
                    (third, Ask::Schedule),
                    (first, Ask::Move(second)),
                    (first, Ask::Rotate),
                    (second, Ask::Rotate),
                ]),
                &[(first, second)],
            ),
        ),
        (
            "the import is taken back and brought again on either side of a move",
            World::imported(
                &[second, third],
                &[first],
                these(&[
                    (first, Ask::DeleteImport(2)),
                    (first, Ask::ImportNew(2)),
                    (second, Ask::Import(2)),
                    (third, Ask::Import(2)),
                    (first, Ask::Move(third)),
                    (third, Ask::DeleteImport(2)),
                    (third, Ask::Rotate),
                ]),
                &[(first, second), (second, first)],
            ),
        ),
    ]
}

/// Catches a protocol that ends with two primaries, a member that cannot decrypt, or Regions that
/// disagree, in some interleaving of any two commands.
#[test]
fn families_hold_in_every_interleaving() {
    let near = World::new(&[], Asks::Any(2), &CHANNELS);
    let far = World::new(&[1, 2], Asks::Any(2), &[]);
    all_hold("any two commands", vec![near, far], 10_000);
}

/// Catches a family that rotates to imported material which a member lacks, a primary that does not
/// know who has it, and a version that comes back after it was deleted.
#[test]
fn families_rotate_to_imported_material() {
    for (what, start) in imports() {
        all_hold(what, vec![start], 300);
    }
}

/// Catches the same with more commands. Minutes: `make verify-model`.
#[test]
#[ignore = "minutes; make verify-model runs it"]
fn long_families_rotate_to_imported_material() {
    for (what, start) in long_imports() {
        all_hold(what, vec![start], 1_000);
    }
}

/// Catches the same in every interleaving of five commands. Minutes: `make verify-model`.
#[test]
#[ignore = "minutes; make verify-model runs it"]
fn long_families_hold_in_every_interleaving_of_five_commands() {
    let mut total = 0;
    for (what, start) in scenarios() {
        total += all_hold(what, vec![start], 1_000);
    }
    let start = World::new(&[], Asks::Any(3), &CHANNELS);
    total += all_hold("any three commands", vec![start], 1_000);
    println!("{total} distinct states in all");
    assert!(total > 1_000_000, "{total}");
}

/// Catches a model that never gets to what it is to check.
#[test]
fn the_model_gets_everywhere() {
    let start = World::new(&[1, 2], Asks::Any(3), &[]);
    let first = start.regions[0].family(world::key_ref()).unwrap().clone();
    let model = Families {
        starts: vec![start],
        flaw: None,
    };
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let seen = std::sync::Arc::new(seen);
    let noted = seen.clone();
    let visitor = move |path: stateright::Path<World, Step>| {
        let world = path.last_state();
        let mut seen = noted.lock().unwrap();
        seen.extend(world.keys().map(|key| format!("{:?}", key.state)));
        for state in &world.regions {
            let refusals = state.outbox(&world::region(0)).filter(|(_, message)| {
                matches!(
                    &***message,
                    Message::MoveAnswer {
                        refusal: Some(_),
                        ..
                    }
                )
            });
            if refusals.count() > 0 {
                seen.insert("move refused".into());
            }
            if let Some(family) = state.family(world::key_ref()) {
                if family.primary != first.primary && world.rests() {
                    seen.insert("moved".into());
                }
                if family.roster.values().any(|entry| {
                    first
                        .roster
                        .values()
                        .all(|e| e.incarnation != entry.incarnation)
                }) {
                    seen.insert("replicated again".into());
                }
            }
        }
    };
    model
        .checker()
        .target_state_count(60_000)
        .visitor(visitor)
        .spawn_bfs()
        .join();
    let seen = seen.lock().unwrap();
    for wanted in [
        "Enabled",
        "Disabled",
        "PendingDeletion",
        "PendingReplicaDeletion",
        "Creating",
        "Updating",
        "moved",
        "replicated again",
        "move refused",
    ] {
        assert!(seen.contains(wanted), "{wanted} is not among {seen:?}");
    }
}

/// Catches a model that would not notice these flaws.
#[test]
fn broken_protocols_are_caught() {
    for (flaw, start) in [
        (Flaw::StepUpFirst, World::new(&[1], Asks::Any(1), &[])),
        (Flaw::NoStamp, World::new(&[1], Asks::Any(2), &[(0, 2)])),
        (
            Flaw::ActivateEarly,
            World::new(&[1, 2], Asks::These(vec![(0, Ask::Rotate)]), &[]),
        ),
        (
            Flaw::ActivateEarly,
            World::imported(
                &[1, 2],
                &[0, 1, 2],
                Asks::These(vec![(0, Ask::Rotate), (2, Ask::DeleteImport(2))]),
                &[],
            ),
        ),
        (
            Flaw::AnyReport,
            World::imported(
                &[1, 2],
                &[0],
                Asks::These(vec![
                    (1, Ask::Import(2)),
                    (0, Ask::DeleteImport(2)),
                    (0, Ask::ImportNew(2)),
                ]),
                &[],
            ),
        ),
        (
            Flaw::Revive,
            World::new(
                &[1],
                Asks::These(vec![(0, Ask::Replicate(2)), (1, Ask::Schedule)]),
                &[(0, 1)],
            ),
        ),
    ] {
        let (states, failure) = explore(vec![start], Some(flaw));
        let (property, way) = failure.unwrap_or_else(|| panic!("{flaw:?} passes, {states} states"));
        println!("{flaw:?}: not so: {property}: {way}");
    }
}
