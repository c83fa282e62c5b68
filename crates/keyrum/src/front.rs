//! The endpoint that `cluster up` puts in front of its nodes' processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use keyrum_consensus::world::World;
use keyrum_server::http::Server;
use keyrum_server::{Nodes, Proxy, ProxyWaits};

use crate::assembly::{limits, read_mode};
use crate::data::{DataFolder, loopback};
use crate::topology::Topology;

/// What the endpoint for all Regions knows of the nodes.
pub(crate) struct Front {
    nodes: Nodes,
    url: String,
}

/// The endpoint's port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} ({cause}): choose another `port` (0 takes a free one) or `bind` in {}", config.display())]
pub(crate) struct CannotListen {
    addr: SocketAddr,
    config: PathBuf,
    cause: std::io::Error,
}

impl Front {
    /// Listens where the topology says. The endpoint lives as long as the server that comes back.
    pub(crate) async fn start(
        world: &World,
        topology: &Topology,
        folder: &DataFolder,
        config: &Path,
    ) -> Result<(Self, Server), CannotListen> {
        keyrum_server::warm_up();
        let nodes = Nodes::new(world);
        let addr = SocketAddr::new(topology.bind, topology.port);
        // Nodes may be told otherwise, for those who ask them directly.
        let proxy = Proxy::new(nodes.clone(), ProxyWaits::default(), None)
            .reading(read_mode(topology.reads()));
        let proxy = match topology.request_quotas {
            true => proxy.counting(),
            false => proxy,
        };
        let server = Server::start(world, &addr.to_string(), proxy, limits())
            .await
            .map_err(|cause| CannotListen {
                addr,
                config: config.to_owned(),
                cause,
            })?;
        let front = Self {
            nodes,
            url: format!("http://{}", server.local_addr()),
        };
        front.update(folder);
        Ok((front, server))
    }

    /// Passes requests on to the nodes that the folder has now.
    pub(crate) fn update(&self, folder: &DataFolder) {
        let regions = folder.record().regions.iter().map(|region| {
            let addrs = region
                .nodes
                .iter()
                .map(|node| loopback(node.api).to_string());
            (region.name.clone(), addrs.collect())
        });
        self.nodes.set(regions.collect());
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
