//! Faults in words.

use std::time::Duration;

use keyrum_consensus::faults::{Direction, Effects, Fault, InForce, With};

use super::together;
use crate::cli::NodeName;

fn with(with: &With) -> String {
    match with {
        With::Nodes => "every other node".to_owned(),
        With::OtherRegions => "all other Regions".to_owned(),
        With::Clients => "its clients".to_owned(),
        With::These(parties) => {
            let parties: Vec<_> = parties.iter().map(ToString::to_string).collect();
            parties.join(", ")
        }
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "",
        Direction::In => ", inward only",
        Direction::Out => ", outward only",
    }
}

fn time(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

fn after(after: u64, what: &str) -> String {
    match after {
        0 => String::new(),
        _ => format!(" after {after} more {what}"),
    }
}

/// What a fault is, as of its node.
pub(super) fn what(fault: &Fault) -> String {
    match fault {
        Fault::Cut {
            with: other,
            direction,
        } => format!("cut from {}{}", with(other), way(*direction)),
        Fault::Delay {
            with: other,
            direction,
            by_ms,
            jitter_ms,
        } => {
            let jitter = match jitter_ms {
                0 => String::new(),
                jitter => format!(" and up to {} more", time(*jitter)),
            };
            let (by, way) = (time(*by_ms), way(*direction));
            format!("{by}{jitter} later with {}{way}", with(other))
        }
        Fault::Lose {
            with: other,
            direction,
            share,
        } => format!(
            "loses {}% of segments with {}{}",
            share * 100.0,
            with(other),
            way(*direction)
        ),
        Fault::SyncFails { after: n } => format!("syncs fail{}", after(*n, "syncs")),
        Fault::DiskFull { after: n } => format!("the disk is full{}", after(*n, "writes")),
        Fault::SlowDisk { by_ms } => format!("each sync takes {} longer", time(*by_ms)),
        Fault::ReadFails { after: n } => format!("reads fail{}", after(*n, "reads")),
    }
}

/// What it means, and what it does not.
fn consequence(fault: &Fault) -> &'static str {
    match fault {
        Fault::Cut { .. } => {
            "nothing is lost: what is sent waits, calls that need the other side end as timeouts, and a majority that is left goes on"
        }
        Fault::Delay { .. } | Fault::Lose { .. } => {
            "nothing is lost: it comes later, and whoever is too late is taken for gone"
        }
        Fault::SyncFails { .. } | Fault::DiskFull { .. } | Fault::ReadFails { .. } => {
            "the node stops by itself once it meets it; nothing acknowledged is lost, and `keyrum fault heal` starts it again (under `keyrum dev`, a new start does)"
        }
        Fault::SlowDisk { .. } => "nothing is lost: what is acknowledged is acknowledged later",
    }
}

/// What was put in force.
pub(super) fn put(number: u64, faults: &[(NodeName, Fault)], lasts: Option<Duration>) -> String {
    let mut text = String::new();
    for (node, fault) in faults {
        text.push_str(&format!("fault {number}: {node}: {}\n", what(fault)));
    }
    if let Some((_, fault)) = faults.first() {
        text.push_str(&format!("{}\n", consequence(fault)));
    }
    let heal = format!("`keyrum fault heal {number}` lifts it");
    match lasts {
        None => text.push_str(&format!("{heal}\n")),
        Some(lasts) => {
            let lasts = humantime::format_duration(lasts);
            text.push_str(&format!("it lifts itself in {lasts}; {heal} before\n"));
        }
    }
    text
}

/// What a fault has done.
pub(super) fn effects(effects: &Effects) -> String {
    let parts = [
        (effects.connects_held, "connections held"),
        (effects.bytes_held, "bytes held"),
        (effects.bytes_delayed, "bytes delayed"),
        (effects.segments_lost, "segments lost"),
        (effects.disk_operations, "operations of the disk met it"),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    match parts.is_empty() {
        true => "nothing yet".to_owned(),
        false => parts.join(", "),
    }
}

/// A fault that was lifted.
pub(super) fn lifted(number: u64, faults: &[(NodeName, InForce)]) -> String {
    let sum = together(faults.iter().map(|(_, fault)| &fault.effects));
    let nodes: Vec<_> = faults.iter().map(|(node, _)| node.to_string()).collect();
    let nodes = nodes.join(", ");
    match sum.took_effect() {
        true => format!("fault {number} on {nodes} is lifted: {}", effects(&sum)),
        false => format!("fault {number} on {nodes} is lifted: it never took effect"),
    }
}
