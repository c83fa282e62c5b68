//! Puts faults in force and lifts them.

use std::rc::Rc;

use keyrum_consensus::Role;
use keyrum_store::{Fate, SimDisk};
use keyrum_types::UnixMillis;

use super::faults::{Cut, Fault, Loss, Who};
use super::links::Trouble;
use super::node::{Machine, Order};
use super::place::{self, Place};
use super::run::Run;
use super::{CLIENT_HOSTS, NODES, Plant, client_host};

impl Run {
    pub(super) fn machine(&self, place: Place) -> &Rc<Machine> {
        self.machines
            .iter()
            .find(|machine| machine.place == place)
            .expect("every place has a machine")
    }

    /// Who leads a Region; of two that think so, the one with the later term is right.
    pub(super) fn leader_of(&self, region: usize) -> Option<Place> {
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
        self.machines
            .iter()
            .filter(|machine| machine.place.region == region)
            .filter(leads)
            .max_by_key(term)
            .map(|machine| machine.place)
    }

    fn who(&self, region: usize, who: Who) -> Place {
        let leader = || self.leader_of(region).map_or(1, |leader| leader.node);
        let node = match who {
            Who::Node(node) => node,
            Who::Leader => leader(),
            Who::Follower => leader() % NODES + 1,
        };
        Place { region, node }
    }

    fn others(place: Place) -> impl Iterator<Item = Place> {
        place::nodes_of(place.region).filter(move |other| *other != place)
    }

    /// Has a Region's leader do something; nothing if it has none.
    pub(super) fn order(&self, region: usize, order: Order) {
        let Some(leader) = self.leader_of(region) else {
            return;
        };
        self.trace
            .line(&leader.host(), format_args!("is to carry out {order:?}"));
        let life = self.machine(leader).life.borrow();
        if let Some(live) = &life.running {
            // Nobody listens in a node that is about to stop.
            drop(live.orders.send(order));
        }
    }

    pub(super) fn begin(&mut self, number: usize) {
        let planned = self.plan[number];
        self.trace
            .line("fault", format_args!("#{number} {planned}"));
        let kind = planned.fault.kind().into();
        *self.figures.faults.entry(kind).or_default() += 1;
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
                for node in place::nodes_of(region) {
                    self.crash(node, number, loss, true);
                }
            }
            Fault::SyncFails { node, after_syncs } => {
                let node = self.who(region, node);
                if self.machine(node).runs() {
                    self.failing.insert(node, number);
                    self.machine(node)
                        .disk
                        .borrow()
                        .fail_sync_after(after_syncs);
                }
            }
            Fault::DiskFull { node } => {
                let node = self.who(region, node);
                if self.machine(node).runs() {
                    self.failing.insert(node, number);
                    self.machine(node).disk.borrow().set_full(true);
                }
            }
            Fault::Isolate {
                node,
                cut,
                with_clients,
            } => {
                let node = self.who(region, node);
                for what in cuts(cut) {
                    for other in Self::others(node) {
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
                let next = Place {
                    region,
                    node: node.node % NODES + 1,
                };
                for what in cuts(cut) {
                    trouble(node.host(), next.host(), what);
                }
            }
            Fault::Stall { node } => {
                let node = self.who(region, node);
                for other in Self::others(node) {
                    trouble(node.host(), other.host(), Trouble::Hold);
                }
                for client in 0..CLIENT_HOSTS {
                    trouble(node.host(), client_host(client), Trouble::Hold);
                }
            }
            Fault::Slow { node, latency_ms } => {
                let node = self.who(region, node);
                for other in Self::others(node) {
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
                    for other in place::nodes_of(to) {
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
                self.order(region, Order::AdvanceClock { by_ms });
            }
            Fault::DomainKeyTurns => self.order(region, Order::TurnDomainKey),
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
        place::nodes_of(region)
            .flat_map(|here| {
                let all = place::all_nodes(self.watched.len()).filter(there);
                all.map(move |there| (here.host(), there.host()))
            })
            .collect()
    }

    pub(super) fn end(&mut self, number: usize) {
        self.trace.line("fault", format_args!("#{number} is over"));
        self.note_released(number);
        self.links.end(number, &self.sim, &self.wires);
        if let Fault::ClockOff { .. } = self.plan[number].fault {
            // Clocks that are off overlap seldom; the first one's end rights them all.
            let region = self.plan[number].region;
            self.machines
                .iter()
                .filter(|machine| machine.place.region == region)
                .for_each(|machine| machine.clock.set_off_by_ms(0));
        }
        // A disk that failed without the node noticing is replaced by a power loss all the same.
        let failing: Vec<_> = self
            .failing
            .iter()
            .filter(|(_, fault)| **fault == number)
            .map(|(n, _)| *n)
            .collect();
        for node in failing {
            self.failing.remove(&node);
            self.crash(node, number, Loss::Some, true);
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
        self.failing.remove(&node);
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
        // The disk first: nothing that the ending node does may reach it.
        let fate = match loss {
            Loss::All => Fate::DropUnsynced,
            Loss::Some => Fate::Seeded(self.dice.number()),
            Loss::None => Fate::KeepAll,
        };
        machine.disk.borrow().crash(fate);
        if self.plant == Some(Plant::ForgetfulNode) && (node.region, node.node) == (0, 1) {
            *machine.disk.borrow_mut() = SimDisk::new();
        }
        // A machine without power says no goodbye: what its sockets send when they are dropped
        // must not arrive.
        let all = place::all_nodes(self.watched.len())
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
