//! The endpoint that `cluster up` puts in front of its nodes' processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use keyrum_consensus::world::World;
use keyrum_server::http::{ProxyToken, Server, TlsError};
use keyrum_server::{NodeAt, Nodes, Proxy, ProxyWaits};

use crate::assembly::{api_options, api_tls, read_mode};
use crate::cli::NodeName;
use crate::data::DataFolder;
use crate::topology::Topology;

/// What the endpoint for all Regions knows of the nodes.
pub(crate) struct Front {
    nodes: Nodes,
    url: String,
    scheme: &'static str,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontError {
    /// Its port cannot be had.
    #[error("cannot listen on {addr} ({cause}): choose another `port` (0 takes a free one) or `bind` in {}", config.display())]
    CannotListen {
        /// Which address.
        addr: SocketAddr,
        /// The topology file.
        config: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Its certificate cannot be used.
    #[error("{cause}; correct `tls_cert` and `tls_key` in {}", config.display())]
    Tls {
        /// The topology file.
        config: PathBuf,
        /// What is wrong.
        cause: TlsError,
    },
}

impl Front {
    /// Listens where the topology says. The endpoint lives as long as the server that comes back.
    pub(crate) async fn start(
        world: &World,
        topology: &Topology,
        folder: &DataFolder,
        config: &Path,
    ) -> Result<(Self, Server), FrontError> {
        keyrum_server::warm_up();
        let nodes = Nodes::new(world);
        let addr = SocketAddr::new(topology.bind, topology.port);
        // Nodes may be told otherwise, for those who ask them directly.
        let proxy = Proxy::new(nodes.clone(), ProxyWaits::default(), None)
            .reading(read_mode(topology.reads()));
        let tls = api_tls(topology).map_err(|cause| FrontError::Tls {
            config: config.to_owned(),
            cause,
        })?;
        let proxy = match topology.request_quotas {
            true => proxy.counting(),
            false => proxy,
        };
        let server = Server::start(world, &addr.to_string(), proxy, api_options(tls))
            .await
            .map_err(|cause| FrontError::CannotListen {
                addr,
                config: config.to_owned(),
                cause,
            })?;
        let front = Self {
            nodes,
            url: format!("{}://{}", topology.scheme(), server.local_addr()),
            scheme: topology.scheme(),
        };
        front.update(folder);
        Ok((front, server))
    }

    /// Passes requests on to the nodes that the folder has now.
    pub(crate) fn update(&self, folder: &DataFolder) {
        let regions = folder.record().regions.iter().map(|region| {
            let nodes = region.nodes.iter().map(|node| {
                let name = NodeName {
                    region: region.name.clone(),
                    id: node.id,
                };
                // A node whose token cannot be read does not start either.
                let token = std::fs::read_to_string(folder.admin_token(&name));
                NodeAt {
                    addr: node.api_at().to_string(),
                    token: token.ok().map(|token| ProxyToken::of_node(&token)),
                }
            });
            (region.name.clone(), nodes.collect())
        });
        self.nodes.set(regions.collect());
    }

    /// What URLs of the API begin with.
    pub(crate) fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
