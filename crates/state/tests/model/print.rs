//! Which worlds are the same: everything that can still matter, without clocks, request ids and
//! the absolute values of stamps and message numbers.

use std::collections::BTreeSet;
use std::fmt::Write;

use keyrum_state::{Awaited, FamilyRecord, Message, NewMaterial, Stamp, Transit};

use crate::world::{Delivery, REGIONS, World, key_ref, region};

/// Stamps are only compared and counted on: what matters is their order.
struct Ranks(Vec<Stamp>);

impl Ranks {
    fn of(&self, stamp: Stamp) -> usize {
        self.0
            .binary_search(&stamp)
            .expect("every stamp was gathered")
    }
}

fn stamps_of_record(record: &FamilyRecord, stamps: &mut BTreeSet<Stamp>) {
    stamps.insert(record.stamp);
    stamps.extend(record.roster.values().map(|entry| entry.incarnation));
}

fn stamps_of_awaited(awaited: Option<&Awaited>, stamps: &mut BTreeSet<Stamp>) {
    if let Some(awaited) = awaited {
        stamps.insert(awaited.since);
        stamps.extend(awaited.held_by.values());
    }
}

fn stamps_of_message(message: &Message, stamps: &mut BTreeSet<Stamp>) {
    match message {
        Message::Record { record, .. } | Message::MoveRequest { record, .. } => {
            stamps_of_record(record, stamps);
        }
        Message::Confirmation { incarnation, .. } | Message::Tombstone { incarnation, .. } => {
            stamps.insert(*incarnation);
        }
        Message::MoveAnswer { at, .. } => _ = stamps.insert(*at),
        Message::ImportedRecord {
            record, imports, ..
        } => {
            stamps_of_record(record, stamps);
            stamps_of_awaited(imports.awaited.as_ref(), stamps);
        }
        Message::ImportReport {
            incarnation, since, ..
        } => stamps.extend([*incarnation, *since]),
        Message::Identity(_) => {}
    }
}

fn gather(world: &World) -> Ranks {
    let mut stamps = BTreeSet::new();
    for state in &world.regions {
        stamps.extend(state.buried(key_ref()));
        stamps_of_awaited(state.awaited(key_ref()).as_ref(), &mut stamps);
        if let Some(family) = state.family(key_ref()) {
            stamps.insert(family.stamp);
            stamps.insert(family.incarnation);
            stamps.extend(family.roster.values().map(|entry| entry.incarnation));
            if let Transit::Requested { at, .. } = &family.transit {
                stamps.insert(*at);
            }
        }
        for to in 0..REGIONS.len() {
            for (_, message) in state.outbox(&region(to)) {
                stamps_of_message(message, &mut stamps);
            }
        }
    }
    for delivery in world.links.values().filter_map(|link| link.late.as_ref()) {
        for (_, message) in &delivery.messages {
            stamps_of_message(message, &mut stamps);
        }
    }
    Ranks(stamps.into_iter().collect())
}

fn write_materials(text: &mut String, materials: &[NewMaterial]) {
    for material in materials {
        let here = if material.is_here() { "" } else { "-" };
        write!(text, "m{}{here}", material.id.0[0]).unwrap();
    }
}

fn write_awaited(text: &mut String, ranks: &Ranks, awaited: Option<&Awaited>) {
    if let Some(awaited) = awaited {
        let since = ranks.of(awaited.since);
        write!(text, "W{}s{since}", awaited.material.0[0]).unwrap();
        for (region, incarnation) in &awaited.held_by {
            write!(text, "h{region}{}", ranks.of(*incarnation)).unwrap();
        }
    }
}

fn write_roster<'a>(
    text: &mut String,
    ranks: &Ranks,
    roster: impl Iterator<Item = (&'a keyrum_types::Region, &'a keyrum_state::Entry)>,
) {
    for (region, entry) in roster {
        let incarnation = ranks.of(entry.incarnation);
        write!(text, "[{region}{incarnation}").unwrap();
        for id in &entry.confirmed {
            write!(text, "c{}", id.0[0]).unwrap();
        }
        text.push(if entry.initial.is_some() { 'i' } else { ']' });
    }
}

fn write_record(text: &mut String, ranks: &Ranks, record: &FamilyRecord) {
    write!(text, "{}p{}", ranks.of(record.stamp), record.primary).unwrap();
    write_roster(text, ranks, record.roster.iter());
    for id in &record.materials {
        write!(text, "m{}", id.0[0]).unwrap();
    }
    if let Some((id, ..)) = record.rotation.pending {
        write!(text, "P{}", id.0[0]).unwrap();
    }
}

fn write_message(text: &mut String, ranks: &Ranks, message: &Message) {
    match message {
        Message::Record { record, materials } => {
            text.push('R');
            write_record(text, ranks, record);
            write_materials(text, materials);
        }
        Message::MoveRequest {
            record, materials, ..
        } => {
            text.push('M');
            write_record(text, ranks, record);
            write_materials(text, materials);
        }
        Message::Confirmation {
            incarnation,
            materials,
            ..
        } => {
            write!(text, "C{}", ranks.of(*incarnation)).unwrap();
            for id in materials {
                write!(text, "c{}", id.0[0]).unwrap();
            }
        }
        Message::Tombstone { incarnation, .. } => {
            write!(text, "T{}", ranks.of(*incarnation)).unwrap();
        }
        Message::ImportedRecord {
            record,
            imports,
            request,
        } => {
            text.push(if request.is_some() { 'M' } else { 'R' });
            write_record(text, ranks, record);
            write_awaited(text, ranks, imports.awaited.as_ref());
        }
        Message::ImportReport {
            incarnation,
            epoch,
            since,
            here,
            ..
        } => {
            let (incarnation, since) = (ranks.of(*incarnation), ranks.of(*since));
            write!(text, "I{incarnation}e{epoch}s{since}{here}").unwrap();
        }
        Message::Identity(_) => unreachable!("the model has families alone"),
        Message::MoveAnswer { at, refusal, .. } => {
            write!(text, "A{}{}", ranks.of(*at), refusal.is_some()).unwrap();
        }
    }
}

fn write_delivery(text: &mut String, ranks: &Ranks, cursor: u64, delivery: &Delivery) {
    let fits = delivery.after <= cursor;
    write!(text, "L{fits}").unwrap();
    for (number, message) in delivery.messages.iter().filter(|(n, _)| *n > cursor) {
        write!(text, "+{}", number - cursor).unwrap();
        write_message(text, ranks, message);
    }
}

/// The fingerprint of what matters.
pub(crate) fn of(world: &World) -> u128 {
    let ranks = gather(world);
    let mut text = String::with_capacity(512);
    write!(text, "{:?}", world.asks).unwrap();
    for (at, state) in world.regions.iter().enumerate() {
        write!(text, "/{at}").unwrap();
        if let Some(buried) = state.buried(key_ref()) {
            write!(text, "b{}", ranks.of(buried)).unwrap();
        }
        if let Some(key) = world.key(at) {
            let due = key.deletion.is_some();
            let policy = key.policy.is_some();
            write!(text, "k{:?}{:?}{due}{policy}", key.state, key.multi_region).unwrap();
            write_materials(&mut text, &key.materials);
            if let Some(pending) = state.rotation(key_ref()).and_then(|r| r.pending.as_ref()) {
                write!(text, "P{}", pending.material.id.0[0]).unwrap();
            }
            if let Some(pending) = state.imports(key_ref()).and_then(|i| i.pending.as_ref()) {
                write_materials(&mut text, std::slice::from_ref(pending));
            }
            write_awaited(&mut text, &ranks, state.awaited(key_ref()).as_ref());
        }
        if let Some(family) = state.family(key_ref()) {
            let (stamp, own) = (ranks.of(family.stamp), ranks.of(family.incarnation));
            write!(text, "f{stamp}p{}o{own}", family.primary).unwrap();
            write_roster(&mut text, &ranks, family.roster.iter());
            match &family.transit {
                Transit::Settled => text.push('s'),
                Transit::Requested { to, at } => {
                    write!(text, "q{to}{}", ranks.of(*at)).unwrap();
                }
                Transit::Reserved { from } => write!(text, "r{from}").unwrap(),
                Transit::SteppedDown => text.push('d'),
            }
            write!(text, "w{}", family.wait_days.is_some()).unwrap();
        }
        for to in (0..REGIONS.len()).filter(|to| *to != at) {
            let cursor = world.regions[to].channel(&region(at)).cursor;
            write!(text, ">{to}").unwrap();
            for (number, message) in state.outbox(&region(to)) {
                write_message(&mut text, &ranks, message);
                text.push(if number <= cursor { 't' } else { 'n' });
            }
            let link = &world.links[&(at, to)];
            write!(text, "u{}", link.unheard_left).unwrap();
            if let Some(late) = &link.late {
                write_delivery(&mut text, &ranks, cursor, late);
            }
        }
    }
    twox_hash::XxHash3_128::oneshot(text.as_bytes())
}
