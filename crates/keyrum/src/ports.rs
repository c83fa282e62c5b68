//! Choosing ports for a cluster's nodes.
//!
//! They come from below the range the system takes outgoing connections from: a port of that range
//! could be taken by anybody while its node restarts. Clusters that start at the same moment keep
//! out of each other's way by blocks: who wants ports holds its block's first port.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use keyrum_types::Entropy;

const FIRST: u16 = 18_000;
const BLOCK_PORTS: u16 = 100;
const BLOCKS: u16 = 140;

/// Hands out free ports, and holds its blocks until dropped.
pub(crate) struct Ports<'a> {
    entropy: &'a dyn Entropy,
    held: Vec<TcpListener>,
    next: u16,
    end: u16,
}

/// No port is free.
#[derive(Debug, thiserror::Error)]
#[error("no free port between {FIRST} and {} on 127.0.0.1: name ports in the topology file", FIRST + BLOCKS * BLOCK_PORTS - 1)]
pub(crate) struct NoFreePort;

impl<'a> Ports<'a> {
    /// Takes nothing yet.
    pub(crate) fn new(entropy: &'a dyn Entropy) -> Self {
        Self {
            entropy,
            held: Vec::new(),
            next: 0,
            end: 0,
        }
    }

    /// A port nobody listens on.
    pub(crate) fn free(&mut self) -> Result<u16, NoFreePort> {
        loop {
            while self.next < self.end {
                let port = self.next;
                self.next += 1;
                if is_free(port) {
                    return Ok(port);
                }
            }
            self.take_block()?;
        }
    }

    fn take_block(&mut self) -> Result<(), NoFreePort> {
        let mut random = [0; 2];
        self.entropy.fill(&mut random);
        let start = u16::from_le_bytes(random) % BLOCKS;
        for offset in 0..BLOCKS {
            let first = FIRST + (start + offset) % BLOCKS * BLOCK_PORTS;
            if let Ok(guard) = listen(first) {
                self.held.push(guard);
                (self.next, self.end) = (first + 1, first + BLOCK_PORTS);
                return Ok(());
            }
        }
        Err(NoFreePort)
    }

    /// What keeps other clusters away from the ports handed out, for as long as it is kept.
    pub(crate) fn into_guard(self) -> Vec<TcpListener> {
        self.held
    }
}

/// Whether a node could listen on this port of 127.0.0.1.
pub(crate) fn is_free(port: u16) -> bool {
    listen(port).is_ok()
}

fn listen(port: u16) -> io::Result<TcpListener> {
    #[expect(
        clippy::disallowed_methods,
        reason = "holds a port; nothing is ever accepted on it"
    )]
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    /// Catches two clusters that start together and are given the same port.
    #[test]
    fn two_clusters_share_no_port() {
        let (mut ours, mut theirs) = (Ports::new(&Zeros), Ports::new(&Zeros));
        let mut taken: Vec<_> = (0..120).map(|_| ours.free().unwrap()).collect();
        taken.extend((0..120).map(|_| theirs.free().unwrap()));
        let all = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), all);
    }
}
