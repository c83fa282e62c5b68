//! Puts faults in force and lifts them.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use keyrum_consensus::Role;
use keyrum_store::{Fate, SimDisk};
use keyrum_types::UnixMillis;

use super::faults::{Cut, Fault, Loss, Over, Who};
use super::links::Trouble;
use super::members::Wanted;
use super::node::{Machine, Order};
use super::place::Place;
use super::run::Run;
use super::{CLIENT_HOSTS, client_host};
use crate::plant::Plant;

/// A clock that jumps.
pub(super) struct Jumping {
    node: Place,
    /// By how much it is off now, or after the next jump.
    by_ms: i64,
    next_ms: u64,
}

/// Who leads a Region; of two that think so, the one with the later term is right.
pub(super) fn leading(machines: &[Rc<Machine>], region: usize) -> Option<Place> {
    let leads = |machine: &&Rc<Machine>| {
        let life = machine.life.borrow();
        life.running
            .as_ref()
            .is_some_and(|live| live.group.status().role == Role::Leader)
    };
    let term = |machine: &&Rc<Machine>| {
        let life = machine.life.borrow();
        life.running.as_ref().map(|live| live.group.status().term)
    };
    machines
        .iter()
        .filter(|machine| machine.place.region == region)
        .filter(leads)
        .max_by_key(term)
        .map(|machine| machine.place)
}

impl Run {
    pub(super) fn machine(&self, place: Place) -> &Rc<Machine> {
        self.machines
            .iter()
            .find(|machine| machine.place == place)
            .expect("every place has a machine")
    }

    /// Who leads a Region.
    pub(super) fn leader_of(&self, region: usize) -> Option<Place> {
        leading(&self.machines, region)
    }

    pub(super) fn who(&self, region: usize, who: Who) -> Place {
        let there = self.roster.of(region);
        let leader = || self.leader_of(region).unwrap_or(there[0]);
        match who {
            Who::Node(node) => {
                let place = Place { region, node };
                // One that is gone has a successor.
                match there.contains(&place) {
                    true => place,
                    false => self.roster.after(place),
                }
            }
            Who::Leader => leader(),
            Who::Follower => self.roster.after(leader()),
        }
    }

    /// Has a Region's leader do something; nothing if it has none.
    pub(super) fn order(&self, region: usize, fault: Option<usize>, order: Order) {
        if let Some(leader) = self.leader_of(region) {
            self.order_node(leader, fault, order);
        }
    }

    /// Has a node do something; nothing if it does not run.
    fn order_node(&self, place: Place, fault: Option<usize>, order: Order) {
        self.trace
            .line(&place.host(), format_args!("is to carry out {order:?}"));
        let life = self.machine(place).life.borrow();
        if let Some(live) = &life.running {
            // Nobody listens in a node that is about to stop.
            drop(live.orders.send((fault, order)));
        }
    }

    pub(super) fn begin(&mut self, number: usize) {
        let planned = self.plan[number];
        self.trace
            .line("fault", format_args!("#{number} {planned}"));
        self.record_fault(number, &planned);
        let kind = planned.fault.kind().into();
        *self.figures.faults.entry(kind).or_default() += 1;
        self.begun.insert(number);
        let mut troubles = Vec::new();
        let mut trouble = |a: String, b: String, what| troubles.push((a, b, what));
        let cuts = |cut| match cut {
            Cut::Both => vec![Trouble::CutForth, Trouble::CutBack],
            Cut::Outward => vec![Trouble::CutForth],
            Cut::Inward => vec![Trouble::CutBack],
        };
        let region = planned.region;
        match planned.fault {
            Fault::Crash {
                node,
                loss,
                quietly,
            } => {
                let node = self.who(region, node);
                self.crash(node, number, loss, quietly);
            }
            Fault::Blackout { loss } => {
                for node in self.roster.of(region) {
                    self.crash(node, number, loss, true);
                }
            }
            Fault::SyncFails { node, after_syncs } => {
                self.disk_fails(region, node, number, Some(after_syncs));
            }
            Fault::LostWrites { node, after_syncs } | Fault::TornWrites { node, after_syncs } => {
                self.disk_fails(region, node, number, Some(after_syncs));
            }
            Fault::DiskFull { node } => {
                self.disk_fails(region, node, number, None);
            }
            Fault::BitFlip { node } => {
                let node = self.who(region, node);
                self.crash(node, number, Loss::None, true);
                self.flip_bit(node, number);
            }
            Fault::SlowDisk { node, ms } => {
                let node = self.who(region, node);
                self.slow.insert(number, node);
                let slowness = self.machine(node).slowness;
                slowness.ms.store(ms, Ordering::Relaxed);
            }
            Fault::Halves => {
                let (one, other) = self.halves(region, None);
                for here in &one {
                    for there in &other {
                        trouble(here.host(), there.host(), Trouble::CutForth);
                        trouble(here.host(), there.host(), Trouble::CutBack);
                    }
                }
                for client in 0..CLIENT_HOSTS {
                    let unseen = if client % 2 == 0 { &other } else { &one };
                    for node in unseen {
                        trouble(client_host(client), node.host(), Trouble::CutForth);
                        trouble(client_host(client), node.host(), Trouble::CutBack);
                    }
                }
            }
            Fault::Minority { node, with_clients } => {
                let node = self.who(region, node);
                let mut few = vec![node];
                let there = self.roster.of(region);
                while few.len() < (there.len() - 1) / 2 {
                    few.push(self.roster.after(few[few.len() - 1]));
                }
                for here in &few {
                    for there in there.iter().filter(|there| !few.contains(there)) {
                        trouble(here.host(), there.host(), Trouble::CutForth);
                        trouble(here.host(), there.host(), Trouble::CutBack);
                    }
                    for client in (0..CLIENT_HOSTS).filter(|client| with_clients && client % 2 == 0)
                    {
                        trouble(here.host(), client_host(client), Trouble::CutForth);
                        trouble(here.host(), client_host(client), Trouble::CutBack);
                    }
                }
            }
            Fault::Bridge { node } => {
                let bridge = self.who(region, node);
                let (one, other) = self.halves(region, Some(bridge));
                for here in &one {
                    for there in &other {
                        trouble(here.host(), there.host(), Trouble::CutForth);
                        trouble(here.host(), there.host(), Trouble::CutBack);
                    }
                }
            }
            Fault::Ring => {
                for here in self.roster.of(region) {
                    for there in self.roster.of(region) {
                        let near =
                            self.roster.after(here) == there || self.roster.after(there) == here;
                        if here < there && !near {
                            trouble(here.host(), there.host(), Trouble::CutForth);
                            trouble(here.host(), there.host(), Trouble::CutBack);
                        }
                    }
                }
            }
            Fault::Lose { over, percent } => {
                for (here, there) in self.links_over(region, over) {
                    trouble(here, there, Trouble::Lose(percent));
                }
            }
            Fault::Repeat { over, percent } => {
                for (here, there) in self.links_over(region, over) {
                    trouble(here, there, Trouble::Repeat(percent));
                }
            }
            Fault::Reorder { over, percent } => {
                for (here, there) in self.links_over(region, over) {
                    trouble(here, there, Trouble::Reorder(percent));
                }
            }
            Fault::ClockJump { node, by_ms } => {
                let node = self.who(region, node);
                self.jumping.insert(
                    number,
                    Jumping {
                        node,
                        by_ms,
                        next_ms: self.time.ms(),
                    },
                );
            }
            Fault::MemberAdded => self.want(region, Some(number), Wanted::Added),
            Fault::MemberRemoved { node } => {
                let node = self.who(region, node);
                self.want(region, Some(number), Wanted::Removed(node));
            }
            Fault::SnapshotNow { node } => {
                let node = self.who(region, node);
                self.order_node(node, Some(number), Order::Snapshot);
            }
            Fault::PurgeNow { node } => {
                let node = self.who(region, node);
                self.order_node(node, Some(number), Order::ForgetPast);
            }
            Fault::Isolate {
                node,
                cut,
                with_clients,
            } => {
                let node = self.who(region, node);
                for what in cuts(cut) {
                    for other in self.roster.beside(node) {
                        trouble(node.host(), other.host(), what);
                    }
                    for client in (0..CLIENT_HOSTS).filter(|client| with_clients && client % 2 == 0)
                    {
                        trouble(node.host(), client_host(client), what);
                    }
                }
            }
            Fault::CutPair { node, cut } => {
                let node = self.who(region, node);
                let next = self.roster.after(node);
                for what in cuts(cut).into_iter().filter(|_| next != node) {
                    trouble(node.host(), next.host(), what);
                }
            }
            Fault::Stall { node } => {
                let node = self.who(region, node);
                for other in self.roster.beside(node) {
                    trouble(node.host(), other.host(), Trouble::Hold);
                }
                for client in 0..CLIENT_HOSTS {
                    trouble(node.host(), client_host(client), Trouble::Hold);
                }
            }
            Fault::Slow { node, latency_ms } => {
                let node = self.who(region, node);
                for other in self.roster.beside(node) {
                    trouble(node.host(), other.host(), Trouble::Slow(latency_ms));
                }
            }
            Fault::CutClient { client, node } => {
                let node = self.who(region, node);
                for what in cuts(Cut::Both) {
                    trouble(client_host(client), node.host(), what);
                }
            }
            Fault::ClockOff { node, by_ms } => {
                let node = self.who(region, node);
                self.trace.line(
                    "fault",
                    format_args!("#{number} hits the clock of node {node}"),
                );
                self.machine(node).clock.set_off_by_ms(by_ms);
            }
            Fault::Sever { from, cut } => {
                for what in cuts(cut) {
                    for (here, there) in self.links_between(region, from) {
                        trouble(here, there, what);
                    }
                }
                self.note_held(number, region, from);
            }
            Fault::CutCourier { node, to, cut } => {
                let node = self.who(region, node);
                for what in cuts(cut) {
                    for other in self.roster.of(to) {
                        trouble(node.host(), other.host(), what);
                    }
                }
            }
            Fault::Delay => {
                for (here, there) in self.links_between(region, None) {
                    trouble(here, there, Trouble::Hold);
                }
            }
            Fault::Distant { latency_ms } => {
                for (here, there) in self.links_between(region, None) {
                    trouble(here, there, Trouble::Slow(latency_ms));
                }
            }
            Fault::TimePasses { days } => {
                let by_ms = days * UnixMillis::DAY_MS;
                self.order(region, Some(number), Order::AdvanceClock { by_ms });
            }
            Fault::DomainKeyTurns => self.order(region, Some(number), Order::TurnDomainKey),
        }
        if !troubles.is_empty() {
            let hit = &troubles[0].0;
            self.trace
                .line("fault", format_args!("#{number} hits the links of {hit}"));
            self.links.begin(number, troubles, &self.sim, &self.wires);
        }
    }

    /// The links between the nodes of a Region and those of another, or of all others.
    fn links_between(&self, region: usize, other: Option<usize>) -> Vec<(String, String)> {
        let there = move |place: &Place| match other {
            Some(other) => place.region == other,
            None => place.region != region,
        };
        let here = self.roster.of(region).into_iter();
        here.flat_map(|here| {
            let all = self.roster.all().into_iter().filter(there);
            all.map(move |there| (here.host(), there.host()))
        })
        .collect()
    }

    fn links_over(&self, region: usize, over: Over) -> Vec<(String, String)> {
        match over {
            Over::Regions => self.links_between(region, None),
            Over::Node(who) => {
                let node = self.who(region, who);
                let others = self.roster.beside(node);
                others.map(|other| (node.host(), other.host())).collect()
            }
        }
    }

    /// A Region's nodes but one in two halves, the larger one second.
    fn halves(&self, region: usize, without: Option<Place>) -> (Vec<Place>, Vec<Place>) {
        let mut one = self.roster.of(region);
        one.retain(|place| Some(*place) != without);
        let other = one.split_off(one.len() / 2);
        (one, other)
    }

    /// A node's disk is full, or fails from some sync on.
    fn disk_fails(&mut self, region: usize, who: Who, fault: usize, after_syncs: Option<u64>) {
        let node = self.who(region, who);
        if !self.machine(node).runs() {
            return;
        }
        self.failing.insert(node, fault);
        let disk = self.machine(node).disk.borrow();
        disk.take_failures();
        match after_syncs {
            Some(after) => disk.fail_sync_after(after),
            None => disk.set_full(true),
        }
    }

    /// What the power loss takes that ends a failing disk's machine.
    pub(super) fn loss_of(&self, fault: usize) -> Loss {
        match self.plan[fault].fault {
            Fault::LostWrites { .. } => Loss::All,
            Fault::TornWrites { .. } => Loss::Torn,
            _ => Loss::Some,
        }
    }

    /// Has clocks jump whose time has come.
    pub(super) fn jump(&mut self) {
        let now_ms = self.time.ms();
        for jumping in self.jumping.values_mut() {
            if jumping.next_ms > now_ms {
                continue;
            }
            jumping.next_ms = now_ms + self.dice.between(100, 900);
            jumping.by_ms = -jumping.by_ms;
            let machine = self.machines.iter();
            let machine = machine
                .into_iter()
                .find(|machine| machine.place == jumping.node);
            if let Some(machine) = machine {
                let ms = jumping.by_ms;
                self.trace.line(
                    &jumping.node.host(),
                    format_args!("its clock jumps to {ms} ms"),
                );
                machine.clock.set_off_by_ms(ms);
            }
        }
    }

    pub(super) fn end(&mut self, number: usize) {
        self.trace.line("fault", format_args!("#{number} is over"));
        self.note_released(number);
        self.recording.is_over(number);
        self.links.end(number, &self.sim, &self.wires);
        self.jumping.remove(&number);
        if let Fault::ClockOff { .. } | Fault::ClockJump { .. } = self.plan[number].fault {
            // Clocks that are off overlap seldom; the first one's end rights them all.
            let region = self.plan[number].region;
            let here = |machine: &&Rc<Machine>| machine.place.region == region;
            for machine in self.machines.iter().filter(here) {
                machine.clock.set_off_by_ms(0);
                self.effects.add(number, machine.clock.take_reads_off());
            }
        }
        if let Some(node) = self.slow.remove(&number)
            && self.roster.of(node.region).contains(&node)
        {
            let slowness = self.machine(node).slowness;
            slowness.ms.store(0, Ordering::Relaxed);
            let waits = slowness.waits.swap(0, Ordering::Relaxed);
            self.effects.add(number, waits);
        }
        // A disk that failed without the node noticing is replaced by a power loss all the same.
        let failing: Vec<_> = self
            .failing
            .iter()
            .filter(|(_, fault)| **fault == number)
            .map(|(n, _)| *n)
            .collect();
        for node in failing {
            self.crash(node, number, self.loss_of(number), true);
        }
        let down: Vec<_> = self
            .down
            .iter()
            .filter(|(_, fault)| **fault == number)
            .map(|(n, _)| *n)
            .collect();
        for node in down {
            self.down.remove(&node);
            self.trace.line(&node.host(), "starts again");
            self.figures.restarts += 1;
            self.sim.bounce(node.host());
        }
    }

    /// Ends a node without warning, and starts it again when the fault is over. A machine that is
    /// down stays down for the fault that brought it there.
    pub(super) fn crash(&mut self, node: Place, fault: usize, loss: Loss, quietly: bool) {
        if self.down.contains_key(&node) {
            return;
        }
        // The machine may be about to fail otherwise; that is over now.
        let failed = self.failing.remove(&node);
        self.down.insert(node, fault);
        self.figures.crashes += 1;
        let host = node.host();
        self.trace.line(
            &host,
            format_args!("crashes, unsynced writes lost: {loss:?}"),
        );
        let machine = self.machine(node).clone();
        {
            let mut life = machine.life.borrow_mut();
            (life.running, life.ended) = (None, None);
        }
        self.recording.falls(node);
        // The disk first: nothing that the ending node does may reach it.
        let fate = match loss {
            Loss::All => Fate::DropUnsynced,
            Loss::Some => Fate::Seeded(self.dice.number()),
            Loss::Torn => Fate::Torn(self.dice.number()),
            Loss::None => Fate::KeepAll,
        };
        let failures = machine.disk.borrow().take_failures();
        let damage = machine.disk.borrow().crash(fate);
        self.figures.writes_lost += damage.lost;
        self.figures.writes_torn += damage.torn;
        if let Some(failed) = failed
            && failures > 0
        {
            let effects = match self.plan[failed].fault {
                Fault::LostWrites { .. } if failed == fault => damage.lost,
                Fault::TornWrites { .. } if failed == fault => damage.torn,
                Fault::LostWrites { .. } | Fault::TornWrites { .. } => 0,
                _ => failures,
            };
            self.effects.add(failed, effects);
        }
        if let Fault::Crash { .. } | Fault::Blackout { .. } = self.plan[fault].fault {
            self.effects.add(fault, 1);
        }
        if self.plant == Some(Plant::ForgetfulNode) && (node.region, node.node) == (0, 1) {
            *machine.disk.borrow_mut() = SimDisk::new();
        }
        // A machine without power says no goodbye: what its sockets send when they are dropped
        // must not arrive.
        let all = self
            .roster
            .all()
            .into_iter()
            .map(Place::host)
            .chain((0..CLIENT_HOSTS).map(client_host));
        let silence: Vec<_> = all
            .filter(|other| *other != host && quietly)
            .map(|other| (host.clone(), other, Trouble::CutForth))
            .collect();
        self.links
            .begin(usize::MAX, silence, &self.sim, &self.wires);
        self.sim.crash(host);
        self.links.end(usize::MAX, &self.sim, &self.wires);
    }
}
