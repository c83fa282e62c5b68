//! Choosing ports for a cluster's nodes.
//!
//! They come from below the range the system takes outgoing connections from: a port of that range
//! could be taken by anybody while its node restarts. Clusters keep out of each other's way by
//! blocks: as long as one runs, it holds the first port of each block that its nodes' ports are of.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use keyrum_types::Entropy;

const FIRST: u16 = 18_000;
const BLOCK_PORTS: u16 = 100;
const BLOCKS: u16 = 140;

/// Hands out free ports, and holds their blocks until dropped.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// By the first port of the block.
    held: BTreeMap<u16, TcpListener>,
    /// The first ports of blocks of which nodes have ports that somebody named.
    named: BTreeSet<u16>,
    next: u16,
    end: u16,
}

/// No port is free.
#[derive(Debug, thiserror::Error)]
#[error("no free port between {FIRST} and {} on 127.0.0.1: name ports in the topology file", FIRST + BLOCKS * BLOCK_PORTS - 1)]
pub(crate) struct NoFreePort;

impl Ports {
    /// Takes no port from the block of this one, which somebody named. Said before any is taken.
    pub(crate) fn leave_named(&mut self, port: u16) {
        self.named.extend(block_of(port));
    }

    /// Whether a port of an earlier run can be used again: it is free, and of no other cluster's
    /// block. Asked of all of them before a free one is taken.
    pub(crate) fn take_again(&mut self, at: SocketAddr) -> bool {
        let port = at.port();
        let is_ours = match block_of(port) {
            Some(first) if port == first || self.named.contains(&first) => {
                self.named.insert(first);
                true
            }
            Some(first) => self.held.contains_key(&first) || self.hold(first),
            None => true,
        };
        is_ours && is_free(at)
    }

    fn hold(&mut self, first: u16) -> bool {
        listen(local(first)).is_ok_and(|guard| self.held.insert(first, guard).is_none())
    }

    /// A port that nobody listens on, at this address or at 127.0.0.1.
    pub(crate) fn free(
        &mut self,
        address: Ipv4Addr,
        entropy: &dyn Entropy,
    ) -> Result<u16, NoFreePort> {
        loop {
            while self.next < self.end {
                let port = self.next;
                self.next += 1;
                if is_free(local(port)) && is_free((address, port).into()) {
                    return Ok(port);
                }
            }
            self.take_block(entropy)?;
        }
    }

    fn take_block(&mut self, entropy: &dyn Entropy) -> Result<(), NoFreePort> {
        let mut random = [0; 2];
        entropy.fill(&mut random);
        let start = u16::from_le_bytes(random) % BLOCKS;
        for offset in 0..BLOCKS {
            let first = FIRST + (start + offset) % BLOCKS * BLOCK_PORTS;
            if !self.named.contains(&first) && self.hold(first) {
                (self.next, self.end) = (first + 1, first + BLOCK_PORTS);
                return Ok(());
            }
        }
        Err(NoFreePort)
    }
}

/// The first port of the block that a port is of.
fn block_of(port: u16) -> Option<u16> {
    (FIRST..FIRST + BLOCKS * BLOCK_PORTS)
        .contains(&port)
        .then(|| port - (port - FIRST) % BLOCK_PORTS)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Whether a node could listen here.
pub(crate) fn is_free(at: SocketAddr) -> bool {
    listen(at).is_ok()
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    #[expect(
        clippy::disallowed_methods,
        reason = "holds a port; nothing is ever accepted on it"
    )]
    TcpListener::bind(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

    /// The block to begin with, of which each test has another.
    struct Block(u8);

    impl Entropy for Block {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&[self.0, 0]);
        }
    }

    /// Catches two clusters that start together and are given the same port.
    #[test]
    fn two_clusters_share_no_port() {
        let (mut ours, mut theirs) = (Ports::default(), Ports::default());
        let mut taken: Vec<_> = (0..120)
            .map(|_| ours.free(LOCAL, &Block(100)).unwrap())
            .collect();
        taken.extend((0..120).map(|_| theirs.free(LOCAL, &Block(100)).unwrap()));
        let all = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), all);
    }

    /// Catches a restarted cluster whose free ports another one was just given, or that hands out
    /// a port that its own nodes had before.
    #[test]
    fn ports_of_an_earlier_run_are_nobody_elses() {
        let mut before = Ports::default();
        let had: Vec<_> = (0..3)
            .map(|_| before.free(LOCAL, &Block(110)).unwrap())
            .collect();
        drop(before);

        let mut again = Ports::default();
        assert!(had.iter().all(|port| again.take_again(local(*port))));
        let more = again.free(LOCAL, &Block(110)).unwrap();
        assert!(!had.contains(&more), "{more} of {had:?}");
        let mut other = Ports::default();
        assert!(!other.take_again(local(had[0])));
        drop(again);
        assert!(other.take_again(local(had[0])));
    }

    /// Catches a named port that is kept from its own node, or handed to another.
    #[test]
    fn named_ports_are_left_to_their_nodes() {
        let mut ports = Ports::default();
        let free = ports.free(LOCAL, &Block(120)).unwrap();
        let first = block_of(free).unwrap();
        drop(ports);

        let mut ports = Ports::default();
        ports.leave_named(first);
        assert!(ports.take_again(local(free)));
        assert!(is_free(local(first)), "held, and so kept from its node");
        assert_ne!(
            block_of(ports.free(LOCAL, &Block(120)).unwrap()),
            Some(first)
        );
    }
}
