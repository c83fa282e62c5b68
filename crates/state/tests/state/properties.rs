//! Random histories, and what must hold after each of their commands.

use std::collections::{BTreeMap, BTreeSet};

use keyrum_state::codec::{
    StateDecoder, decode_applied, decode_proposal, encode_applied, encode_proposal, encode_state,
};
use keyrum_state::{
    AccessKeyOwner, Applied, Event, IdentityName, Imports, Key, KeyRef, Message, NewMaterial,
    Proposal, Refusal, Rotation, State, apply,
};
use keyrum_types::{AliasName, KeyState, Origin, RotationDays, RotationKind, UnixMillis};
use proptest::prelude::*;

use crate::generate::{Action, KINDS, World};
use crate::script::account;

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let numbers = (0..KINDS, any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>());
    let action = numbers.prop_map(|(kind, a, b, time, node)| Action {
        kind,
        a,
        b,
        time,
        node,
    });
    // A Region's first command confirms its clock; some histories do without.
    let first = (Just(22), any::<u8>(), any::<u8>(), 0..200_u8, any::<u8>()).prop_map(
        |(kind, a, _, time, node)| Action {
            kind,
            a,
            b: 0,
            time,
            node,
        },
    );
    (first, prop::collection::vec(action, 1..120)).prop_map(|(first, mut rest)| {
        rest.insert(0, first);
        rest
    })
}

fn bytes(state: &State) -> Vec<u8> {
    encode_state(state).flatten().collect()
}

fn through_a_snapshot(state: &State) -> State {
    let mut decoder = StateDecoder::new();
    encode_state(state).for_each(|chunk| decoder.push(&chunk).unwrap());
    decoder.finish().unwrap()
}

fn new_state() -> State {
    State::new("us-east-1".parse().unwrap())
}

/// What the contents promise about themselves.
fn check_contents(state: &State) {
    let mut total = 0;
    let mut dues = Vec::new();
    let mut rotations_due = Vec::new();
    for number in 1..=2 {
        let account = account(number);
        let keys: Vec<_> = state.keys(account, None).collect();
        let managed = keys.iter().filter(|key| check_managed(state, key)).count();
        assert_eq!(keys.len() - managed, state.key_count(account) as usize);
        total += keys.len();
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(key.account, account);
            assert_eq!(
                key.deletion.is_some(),
                key.state == KeyState::PendingDeletion
            );
            dues.extend(key.deletion.map(|deletion| deletion.due));
            check_imports(key, state.imports(key.reference()).map(|row| &**row));
            dues.extend(expiries(state, key));
            assert!(key.tags.len() <= 50);
            if let Some(rotation) = state.rotation(key.reference()) {
                check_rotation(key, rotation);
                let automatic = rotation
                    .automatic
                    .filter(|_| key.state == KeyState::Enabled);
                rotations_due.extend(automatic.map(|set| (key.reference(), set.next)));
            }
            assert_eq!(
                state.keys(account, Some(key.id)).count(),
                keys.len() - at - 1
            );
            check_grants(state, key.reference());
            for (name, alias) in state.aliases_of(key.reference(), None) {
                assert_eq!(alias.target, key.reference());
                assert_eq!(state.alias(account, name), Some(alias));
            }
        }
        let aliases: Vec<_> = state.aliases(account, None).collect();
        let by_key: usize = keys
            .iter()
            .map(|key| state.aliases_of(key.reference(), None).count())
            .sum();
        assert_eq!(
            aliases.len(),
            by_key,
            "every alias names a key of its account"
        );
        for (at, (name, _)) in aliases.iter().enumerate() {
            assert_eq!(
                state.aliases(account, Some(name)).count(),
                aliases.len() - at - 1
            );
        }
    }
    assert_eq!(state.total_keys(), total as u64);
    assert_eq!(state.next_due(), dues.into_iter().min());
    rotations_due.sort_by_key(|(key, due)| (*due, *key));
    assert_eq!(
        state.next_rotation_due(),
        rotations_due.first().map(|(_, due)| *due)
    );
    let indexed: Vec<_> = state.rotations_due_by(UnixMillis(u64::MAX)).collect();
    assert_eq!(indexed, rotations_due);
    check_identities(state);
    assert_eq!(state.digest(), state.recompute_digest());
}

/// What identities promise.
fn check_identities(state: &State) {
    let mut ids = BTreeSet::new();
    let mut last = 0;
    for record in state.identities() {
        let name = record.identity.name();
        assert_eq!(state.identity(&name), Some(record));
        assert_eq!(state.identity_deleted(&name), None, "there and deleted");
        last = last.max(record.revision);
        if let IdentityName::User(account, _) | IdentityName::Role(account, _) = &name {
            assert!(
                state.account_is_declared(*account),
                "{name} without its account"
            );
        }
        if let Some(id) = record.identity.unique_id() {
            assert!(ids.insert(id), "a unique id twice");
            assert_eq!(state.identity_with_id(id), Some(&record.identity));
            assert!(state.principal_exists(id));
        }
        for key in record.identity.access_keys() {
            assert!(ids.insert(&key.id), "an access key of two");
            let (found, owner, revision) = state.access_key(&key.id).unwrap();
            assert_eq!((found, revision), (key, record.revision));
            let owner = match owner {
                AccessKeyOwner::Root(account) => IdentityName::Account(account.account),
                AccessKeyOwner::User(user) => {
                    assert!(state.principal_exists(&user.arn("aws")));
                    IdentityName::User(user.account, user.name.clone())
                }
            };
            assert_eq!(owner, name);
        }
    }
    let number = state.identities().count();
    let listed = state.accounts().map(|account| account.account);
    let owned: usize = listed
        .map(|account| 1 + state.users(account).count() + state.roles(account).count())
        .sum();
    assert_eq!(number, owned + state.session_keys().count());
    let changes = state.identity_book().map_or(0, |book| book.revision);
    assert!(last <= changes);
    for to in state
        .identity_book()
        .into_iter()
        .flat_map(|book| &book.told)
    {
        let waiting: Vec<_> = state.outbox(to).collect();
        for record in state.identities() {
            let name = record.identity.name();
            let newest = waiting
                .iter()
                .rev()
                .find_map(|(_, message)| match &***message {
                    Message::Identity(news) if news.name == name => Some(news),
                    _ => None,
                });
            let newest = newest.expect("nothing is carried in these histories");
            assert_eq!(newest.identity.as_ref(), Some(&record.identity));
        }
    }
}

/// What a key's grants promise.
fn check_grants(state: &State, key: KeyRef) {
    let grants: Vec<_> = state.grants_on(key, None).collect();
    assert_eq!(grants.len(), state.grant_count(key) as usize);
    for (at, grant) in grants.iter().enumerate() {
        assert_eq!(grant.key, key);
        assert_eq!(state.grant(key, grant.id), Some(*grant));
        let rest = state.grants_on(key, Some(grant.id));
        assert_eq!(rest.count(), grants.len() - at - 1);
        let same = state.same_grant(key, grant.issuer, &grant.terms);
        match grant.terms.name {
            Some(_) => assert_eq!(same, Some(*grant), "a name and terms given twice"),
            None => assert_eq!(same, None),
        }
        let Some(retiring) = &grant.terms.retiring else {
            continue;
        };
        let all: Vec<_> = state.grants_retirable_by(retiring, None).collect();
        let at = all.iter().position(|retirable| retirable == grant);
        let after = Some((grant.key, grant.id));
        let rest = state.grants_retirable_by(retiring, after).count();
        assert_eq!(rest, all.len() - at.expect("it is listed") - 1);
    }
}

/// What an AWS managed key promises; whether this is one.
fn check_managed(state: &State, key: &Key) -> bool {
    let name = key.reference();
    let reserved = |(alias, _): &(&AliasName, _)| alias.is_aws_reserved();
    let alias = state.aliases_of(name, None).find(reserved);
    let alias = alias.map(|(alias, _)| alias);
    assert_eq!(state.managed_alias(name), alias);
    if alias.is_some() {
        let rotation = state.rotation(name).and_then(|row| row.automatic);
        assert_eq!(rotation.map(|set| set.period), Some(RotationDays::DEFAULT));
        assert_eq!(key.state, KeyState::Enabled);
    }
    alias.is_some()
}

/// When a key's material expires.
fn expiries(state: &State, key: &Key) -> Vec<UnixMillis> {
    let here = key.materials.iter().filter(|version| version.is_here());
    let details = |id| state.imports(key.reference())?.details.get(id);
    here.filter_map(|version| details(&version.id)?.expires)
        .collect()
}

/// What imported material promises about its key.
fn check_imports(key: &Key, imports: Option<&Imports>) {
    if key.origin != Origin::External {
        assert_eq!(imports, None);
        assert!(key.materials.iter().all(NewMaterial::is_here));
        return;
    }
    match key.state {
        KeyState::Enabled | KeyState::Disabled => assert!(key.has_all_material()),
        KeyState::PendingImport => assert!(!key.has_all_material()),
        _ => {}
    }
    let mut known: BTreeSet<_> = key.materials.iter().map(|version| version.id).collect();
    assert_eq!(known.len(), key.materials.len(), "a version twice");
    let Some(imports) = imports else {
        assert!(key.materials.is_empty());
        return;
    };
    if let Some(pending) = &imports.pending {
        assert!(pending.is_here());
        assert!(known.insert(pending.id), "pending and the key's at once");
    }
    assert!(imports.details.keys().eq(&known));
    for version in key.materials.iter().filter(|version| !version.is_here()) {
        assert_eq!(imports.details[&version.id].expires, None);
    }
}

/// What a key's rotation promises about the key.
fn check_rotation(key: &Key, rotation: &Rotation) {
    let made: Vec<_> = rotation
        .rotations
        .iter()
        .map(|done| done.material)
        .collect();
    let versions: Vec<_> = key.materials.iter().map(|version| version.id).collect();
    assert!(versions.ends_with(&made), "{versions:?} and {made:?}");
    assert_eq!(versions.len(), 1 + made.len(), "one came with the key");
    let kinds = rotation.rotations.iter().map(|done| done.kind);
    let on_demand = kinds.filter(|kind| *kind == RotationKind::OnDemand).count();
    assert_eq!(usize::from(rotation.on_demand_count), on_demand);
    assert!(on_demand <= 25);
    assert!(rotation.rotations.is_sorted_by_key(|done| done.at));
    assert_eq!(rotation.pending, None);
}

/// What a command may do to a key's material.
fn check_materials(before: &State, after: &State, applied: &Applied) {
    for number in 1..=2 {
        for key in before.keys(account(number), None) {
            let Some(now) = after.key(key.reference()) else {
                assert_eq!(
                    after.rotation(key.reference()),
                    None,
                    "a row without its key"
                );
                assert_eq!(after.imports(key.reference()), None, "another");
                assert_eq!(after.grants_on(key.reference(), None).count(), 0, "others");
                continue;
            };
            let ids = |key: &Key| -> Vec<_> { key.materials.iter().map(|m| m.id).collect() };
            assert!(
                ids(now).starts_with(&ids(key)),
                "old versions stay, in their order"
            );
            let first = key.origin == Origin::External && key.materials.is_empty();
            let rotated = match first {
                true => 0,
                false => now.materials.len() - key.materials.len(),
            };
            let of_it = |event: &&Event| match event {
                Event::KeyRotated { key: rotated, .. } => *rotated == key.reference(),
                _ => false,
            };
            let events = applied.outcome.iter().flatten().filter(of_it).count();
            assert!(rotated <= 1 && rotated == events * usize::from(!applied.repeated));
            let automatic = |state: &State| state.rotation(key.reference())?.automatic;
            let (was, is) = (automatic(before), automatic(after));
            if let (Some(was), Some(is)) = (was, is)
                && was.period == is.period
                && was.next != is.next
            {
                let period_ms = u64::from(is.period.days()) * UnixMillis::DAY_MS;
                assert_eq!((is.next.0 - was.next.0) % period_ms, 0, "off its grid");
                assert!(is.next > after.clock() && was.next <= after.clock());
                assert_eq!(rotated, 1, "a date passed without a rotation");
            }
        }
    }
}

/// Keys that events deleted and that may not be seen again.
#[derive(Default)]
struct Deleted(BTreeSet<KeyRef>);

impl Deleted {
    fn follow(&mut self, state: &State, applied: &Applied) {
        for event in applied.outcome.as_deref().unwrap_or_default() {
            match event {
                Event::KeyDeleted { key, .. } => _ = self.0.insert(*key),
                // An id drawn a second time names another key.
                Event::KeyCreated { key } => _ = self.0.remove(&key.reference()),
                _ => {}
            }
        }
        for key in &self.0 {
            assert!(state.key(*key).is_none(), "{key:?} is deleted");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Catches a history that does not replay: from the log, from a snapshot taken after any
    /// command, through the encodings; and a running digest, an index or a count that is off.
    #[test]
    fn replay_equals_the_live_state(actions in actions()) {
        let mut world = World::new();
        let mut live = new_state();
        let mut replayed = new_state();
        let mut from_snapshots = new_state();
        let mut deleted = Deleted::default();
        for action in actions {
            if action.node % 4 != 0 {
                world.look(&live);
            }
            let proposal = world.proposal(action);
            let before = live.clone();
            let bytes_before = bytes(&live);
            let applied = apply(&mut live, &proposal);

            let decoded = decode_proposal(&encode_proposal(&proposal)).unwrap();
            prop_assert_eq!(&decoded, &proposal);
            prop_assert_eq!(&apply(&mut replayed, &decoded), &applied);
            from_snapshots = through_a_snapshot(&from_snapshots);
            prop_assert_eq!(&apply(&mut from_snapshots, &proposal), &applied);
            prop_assert_eq!(&decode_applied(&encode_applied(&applied)).unwrap(), &applied);

            let now = bytes(&live);
            prop_assert_eq!(&bytes(&replayed), &now);
            prop_assert_eq!(&bytes(&from_snapshots), &now);
            prop_assert_eq!(bytes(&before), bytes_before, "a view changed under its reader");
            prop_assert!(live.clock() >= before.clock(), "the clock went back");
            if matches!(applied.outcome, Err(Refusal::ClockUnconfirmed { .. })) {
                prop_assert_eq!(live.digest(), before.digest(), "a refused clock left a trace");
            }
            check_contents(&live);
            check_materials(&before, &live, &applied);
            deleted.follow(&live, &applied);
        }
    }

    /// Catches a request id that is applied twice, or whose answer changes.
    #[test]
    fn a_request_is_applied_once(
        actions in actions(),
        again in prop::collection::vec(any::<prop::sample::Index>(), 120),
    ) {
        let mut world = World::new();
        let mut live = new_state();
        let mut history: Vec<(Proposal, Applied)> = Vec::new();
        let mut boots: BTreeMap<u64, u64> = BTreeMap::new();
        for (action, again) in actions.into_iter().zip(again) {
            world.look(&live);
            let proposal = world.proposal(action);
            let applied = apply(&mut live, &proposal);
            prop_assert!(!applied.repeated);
            if !matches!(applied.outcome, Err(Refusal::ClockUnconfirmed { .. })) {
                boots.insert(proposal.request.node, proposal.request.boot);
                history.push((proposal, applied));
            }
            if history.is_empty() {
                continue;
            }
            let (earlier, first) = again.get(&history);
            let digest = live.digest();
            let second = apply(&mut live, earlier);
            prop_assert!(second.repeated);
            prop_assert_eq!(live.digest(), digest, "a repeated request changed something");
            if boots[&earlier.request.node] == earlier.request.boot {
                prop_assert_eq!(&second.outcome, &first.outcome);
            } else {
                prop_assert_eq!(&second.outcome, &Err(Refusal::OutcomeUnknown));
            }
        }
    }
}
