//! Puts faults in force and lifts them.

use std::rc::Rc;

use keyrum_consensus::Role;
use keyrum_store::{Fate, SimDisk};
use keyrum_types::NodeId;

use super::faults::{Cut, Fault, Loss, Who};
use super::links::Trouble;
use super::node::Machine;
use super::run::Run;
use super::{CLIENT_HOSTS, NODES, Plant, client_host, node_host};

impl Run {
    pub(super) fn machine(&self, node: NodeId) -> &Rc<Machine> {
        self.machines
            .iter()
            .find(|machine| machine.node == node)
            .expect("nodes are 1 to NODES")
    }

    fn who(&self, who: Who) -> NodeId {
        let leads = |machine: &&Rc<Machine>| {
            let life = machine.life.borrow();
            life.running
                .as_ref()
                .is_some_and(|live| live.group.status().role == Role::Leader)
        };
        // Two may think so; the later term is right.
        let term = |machine: &&Rc<Machine>| {
            let life = machine.life.borrow();
            life.running.as_ref().map(|live| live.group.status().term)
        };
        let leader = self
            .machines
            .iter()
            .filter(leads)
            .max_by_key(term)
            .map(|m| m.node);
        match who {
            Who::Node(node) => node,
            Who::Leader => leader.unwrap_or(1),
            Who::Follower => leader.unwrap_or(1) % NODES + 1,
        }
    }

    fn others(node: NodeId) -> impl Iterator<Item = NodeId> {
        (1..=NODES).filter(move |other| *other != node)
    }

    pub(super) fn begin(&mut self, number: usize) {
        let planned = self.plan[number];
        self.trace
            .line("fault", format_args!("#{number} {planned}"));
        *self.figures.faults.entry(planned.fault.kind()).or_default() += 1;
        let mut troubles = Vec::new();
        let mut trouble = |a: String, b: String, what| troubles.push((a, b, what));
        let cuts = |cut| match cut {
            Cut::Both => vec![Trouble::CutForth, Trouble::CutBack],
            Cut::Outward => vec![Trouble::CutForth],
            Cut::Inward => vec![Trouble::CutBack],
        };
        match planned.fault {
            Fault::Crash {
                node,
                loss,
                quietly,
            } => {
                let node = self.who(node);
                self.crash(node, number, loss, quietly);
            }
            Fault::Blackout { loss } => {
                for node in 1..=NODES {
                    self.crash(node, number, loss, true);
                }
            }
            Fault::SyncFails { node, after_syncs } => {
                let node = self.who(node);
                if self.machine(node).runs() {
                    self.failing.insert(node, number);
                    self.machine(node)
                        .disk
                        .borrow()
                        .fail_sync_after(after_syncs);
                }
            }
            Fault::DiskFull { node } => {
                let node = self.who(node);
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
                let node = self.who(node);
                for what in cuts(cut) {
                    for other in Self::others(node) {
                        trouble(node_host(node), node_host(other), what);
                    }
                    for client in (0..CLIENT_HOSTS).filter(|client| with_clients && client % 2 == 0)
                    {
                        trouble(node_host(node), client_host(client), what);
                    }
                }
            }
            Fault::CutPair { node, cut } => {
                let node = self.who(node);
                for what in cuts(cut) {
                    trouble(node_host(node), node_host(node % NODES + 1), what);
                }
            }
            Fault::Stall { node } => {
                let node = self.who(node);
                for other in Self::others(node) {
                    trouble(node_host(node), node_host(other), Trouble::Hold);
                }
                for client in 0..CLIENT_HOSTS {
                    trouble(node_host(node), client_host(client), Trouble::Hold);
                }
            }
            Fault::Slow { node, latency_ms } => {
                let node = self.who(node);
                for other in Self::others(node) {
                    trouble(node_host(node), node_host(other), Trouble::Slow(latency_ms));
                }
            }
            Fault::CutClient { client, node } => {
                let node = self.who(node);
                for what in cuts(Cut::Both) {
                    trouble(client_host(client), node_host(node), what);
                }
            }
            Fault::ClockOff { node, by_ms } => {
                let node = self.who(node);
                self.trace.line(
                    "fault",
                    format_args!("#{number} hits the clock of node {node}"),
                );
                self.machine(node).clock.set_off_by_ms(by_ms);
            }
        }
        if !troubles.is_empty() {
            let hit = &troubles[0].0;
            self.trace
                .line("fault", format_args!("#{number} hits the links of {hit}"));
            self.links.begin(number, troubles, &self.sim, &self.wires);
        }
    }

    pub(super) fn end(&mut self, number: usize) {
        self.trace.line("fault", format_args!("#{number} is over"));
        self.links.end(number, &self.sim, &self.wires);
        if let Fault::ClockOff { .. } = self.plan[number].fault {
            // Clocks that are off overlap seldom; the first one's end rights them all.
            self.machines
                .iter()
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
            self.trace.line(&node_host(node), "starts again");
            self.figures.restarts += 1;
            self.sim.bounce(node_host(node));
        }
    }

    /// Ends a node without warning, and starts it again when the fault is over. A machine that is
    /// down stays down for the fault that brought it there.
    pub(super) fn crash(&mut self, node: NodeId, fault: usize, loss: Loss, quietly: bool) {
        if self.down.contains_key(&node) {
            return;
        }
        // The machine may be about to fail otherwise; that is over now.
        self.failing.remove(&node);
        self.down.insert(node, fault);
        self.figures.crashes += 1;
        let host = node_host(node);
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
        if self.plant == Some(Plant::ForgetfulNode) && node == 1 {
            *machine.disk.borrow_mut() = SimDisk::new();
        }
        // A machine without power says no goodbye: what its sockets send when they are dropped
        // must not arrive.
        let all = (1..=NODES)
            .map(node_host)
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
