//! `keyrum cluster certs status|rotate`: the certificates by which nodes know each other.
//!
//! The command itself replaces the files, so that it serves `cluster up`, `dev`, and a cluster that
//! does not run; nodes are asked to look at them, and tell what they use. Whatever lies there at any
//! moment, every node can start with it, and one that runs accepts every other.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use keyrum_consensus::TlsStatus;
use keyrum_consensus::certs::{self, Certificate, Changes, Validity};
use keyrum_consensus::world::World;
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::admin::{Admin, AdminError};
use crate::cli::{self, Certs, NodeName};
use crate::cluster;
use crate::control::{Reply, Request};
use crate::data::DataFolder;
use crate::process::Condition;
use crate::run;
use crate::signals::{INTERRUPTED, Signals};

mod status;

pub(crate) use status::warnings;

/// How long a running node may take to have its new TLS credentials alone in use. A peer that is frozen
/// holds up the end of a link for 10 s.
const TAKE_LIMIT: Duration = Duration::from_secs(60);

/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// How long before now a certificate with an end is valid: clocks of machines differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Seconds.
const DAY: u64 = 86_400;

/// Why certificates were not replaced, or not all.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("nothing was changed: there is no node {node}; the cluster has {have}")]
    NoSuchNode { node: NodeName, have: String },
    #[error(
        "nothing was changed: the replacement of the authority was begun and is not finished; \
         `keyrum cluster certs rotate --authority` finishes it, and gives every node a new \
         certificate"
    )]
    Replacing,
    #[error(
        "nothing was changed now: the authority is replaced only when every node that runs says \
         that it follows, and {}; have it go on, or stop it (`keyrum cluster kill`): a node \
         without a process follows when it starts", silent.join(", ")
    )]
    Silent { silent: Vec<String> },
    #[error(
        "{node} does not use its new certificate alone after {} s: {why}. In use: {}. Not begun: \
         {}. The cluster goes on with what it has; run the same command again to finish",
        TAKE_LIMIT.as_secs(), list(done), list(left)
    )]
    NotTaken {
        node: NodeName,
        why: String,
        done: Vec<NodeName>,
        left: Vec<NodeName>,
    },
    #[error(
        "{node} does not follow after {} s: {why}. {state}; the cluster goes on, and the same \
         command again finishes", TAKE_LIMIT.as_secs()
    )]
    NotFollowed {
        node: NodeName,
        why: String,
        state: &'static str,
    },
}

fn list(nodes: &[NodeName]) -> String {
    match nodes {
        [] => "none".to_owned(),
        nodes => {
            let names: Vec<_> = nodes.iter().map(NodeName::to_string).collect();
            names.join(", ")
        }
    }
}

/// Carries a command out.
pub(crate) async fn run(verb: Certs) -> Result<ExitCode, Failure> {
    match verb {
        Certs::Status(args) => status::show(&args).await,
        Certs::Rotate(args) => {
            let mut signals = Signals::catch()?;
            tokio::select! {
                done = rotate(&args) => done.map(|()| ExitCode::SUCCESS),
                () = signals.next() => {
                    run::remark(
                        "keyrum: interrupted; the cluster goes on with what it has, and the same \
                         command again finishes",
                    );
                    Ok(ExitCode::from(INTERRUPTED))
                }
            }
        }
    }
}

async fn rotate(args: &cli::RotateCerts) -> Result<(), Failure> {
    let site = Site::open(&args.place)?;
    let all = site.folder.nodes();
    if let Some(unknown) = args.nodes.iter().find(|node| !all.contains(node)) {
        let (node, have) = (unknown.clone(), list(&all));
        return Err(Trouble::NoSuchNode { node, have }.into());
    }
    let changes = Changes::begin(&site.folder.certs(), &site.folder.record().cluster_id)?;
    if args.authority {
        return site.replace_authority(&changes, args.days).await;
    }
    if certs::is_replacing_authority(&site.folder.certs()) {
        return Err(Trouble::Replacing.into());
    }
    let named = |node: &NodeName| args.nodes.is_empty() || args.nodes.contains(node);
    let nodes: Vec<_> = all.into_iter().filter(named).collect();
    let renew = |node: &NodeName| changes.renew(&node.region, node.id, site.validity(args.days));
    site.give_each(&nodes, renew).await
}

/// A cluster whose certificates are handled, running or not.
struct Site {
    world: World,
    folder: DataFolder,
}

/// What can be known of a node's TLS credentials now.
enum Presence {
    /// It runs, and tells.
    Runs(TlsStatus),
    /// It has no process: it reads the files when it starts.
    Away(String),
    /// It may run with what it once read, and does not tell.
    Silent(String),
}

impl Site {
    fn open(place: &cli::Place) -> Result<Self, Failure> {
        Ok(Self {
            world: World::real(),
            folder: DataFolder::look(&cluster::folder(place)?)?,
        })
    }

    fn admin(&self, node: &NodeName) -> Admin {
        let at = self.folder.admin_at(node);
        Admin::new(&self.world, at, self.folder.admin_token(node))
    }

    /// How the nodes' processes fare, by `REGION/ID`, if there is a supervisor to tell.
    async fn conditions(&self) -> BTreeMap<String, String> {
        match cluster::ask(self.folder.root(), &Request::Processes).await {
            Ok(Reply::Processes(all)) => all.into_iter().map(|p| (p.node, p.condition)).collect(),
            _ => BTreeMap::new(),
        }
    }

    async fn presence(&self, node: &NodeName) -> Presence {
        let conditions = self.conditions().await;
        let condition = conditions.get(&node.to_string()).map(String::as_str);
        let paused = Condition::Paused.to_string();
        match condition {
            Some(condition) if condition == paused => return Presence::Silent(paused),
            Some(condition) if condition != Condition::Running.to_string() => {
                return Presence::Away(condition.to_owned());
            }
            _ => {}
        }
        let admin = self.admin(node);
        match admin.look_at_certificates().await {
            Ok(Some(credentials)) => Presence::Runs(credentials),
            Ok(None) => Presence::Silent("without protected links".to_owned()),
            Err(AdminError::NoAnswer { .. }) if !admin.listens().await => match condition {
                Some(_) => Presence::Silent("starting".to_owned()),
                None => Presence::Away("not running".to_owned()),
            },
            Err(error) => Presence::Silent(format!("silent: {error}")),
        }
    }

    fn validity(&self, days: Option<u64>) -> Option<Validity> {
        let now = self.world.clock.now().0 / 1000;
        days.map(|days| Validity {
            from: now.saturating_sub(BACKDATED.as_secs()),
            until: now + days * DAY,
        })
    }

    /// Waits until a node is as it should be, or has no process; why not, if it takes too long.
    async fn wait_for(
        &self,
        node: &NodeName,
        is_done: impl Fn(&TlsStatus) -> bool,
    ) -> Result<Presence, String> {
        let deadline = Instant::now() + TAKE_LIMIT;
        loop {
            let why = match self.presence(node).await {
                Presence::Runs(credentials) if is_done(&credentials) => {
                    return Ok(Presence::Runs(credentials));
                }
                Presence::Away(condition) => return Ok(Presence::Away(condition)),
                Presence::Runs(credentials) => credentials.problem.unwrap_or_else(|| {
                    format!("{} links use the former one", credentials.former_links)
                }),
                Presence::Silent(condition) => format!("it is {condition}"),
            };
            if Instant::now() > deadline {
                return Err(why);
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Gives nodes new certificates, one node after the other, so that a trouble meets one only.
    async fn give_each(
        &self,
        nodes: &[NodeName],
        renew: impl Fn(&NodeName) -> Result<Certificate, certs::CertsError>,
    ) -> Result<(), Failure> {
        for (at, node) in nodes.iter().enumerate() {
            let frozen = match self.presence(node).await {
                Presence::Silent(condition) => condition == Condition::Paused.to_string(),
                _ => false,
            };
            let new = renew(node)?;
            let short = status::short(&new.fingerprint);
            if frozen {
                run::print(&format!(
                    "{node}: paused; it takes its new certificate {short} up when it goes on\n"
                ))?;
                continue;
            }
            let is_done = |credentials: &TlsStatus| {
                credentials.shown.fingerprint == new.fingerprint && credentials.former_links == 0
            };
            let line = match self.wait_for(node, is_done).await {
                Ok(Presence::Away(condition)) => {
                    format!("{condition}; it takes its new certificate {short} up when it starts")
                }
                Ok(_) => format!("its new certificate {short} is in use, the former one is not"),
                Err(why) => {
                    return Err(Trouble::NotTaken {
                        node: node.clone(),
                        why,
                        done: nodes[..at].to_vec(),
                        left: nodes[at + 1..].to_vec(),
                    }
                    .into());
                }
            };
            run::print(&format!("{node}: {line}\n"))?;
        }
        Ok(())
    }

    /// Trust both, switch, drop: each step is followed by every node before the next begins.
    async fn replace_authority(&self, changes: &Changes, days: Option<u64>) -> Result<(), Failure> {
        let nodes = self.folder.nodes();
        let mut silent = Vec::new();
        for node in &nodes {
            if let Presence::Silent(condition) = self.presence(node).await {
                silent.push(format!("{node} is {condition}"));
            }
        }
        if !silent.is_empty() {
            return Err(Trouble::Silent { silent }.into());
        }
        let next = changes.next_authority()?.fingerprint;
        let short = status::short(&next);
        changes.trust_next_too()?;
        let trusts = |credentials: &TlsStatus| credentials.trusted.contains(&next);
        let both = "Both authorities are trusted";
        self.all_follow(&nodes, trusts, both).await?;
        run::print(&format!(
            "every node trusts the new authority {short}, too\n"
        ))?;

        let renew = |node: &NodeName| {
            let validity = self.validity(days);
            let now = self.world.clock.now();
            changes.renew_by_next(&node.region, node.id, validity, now)
        };
        self.give_each(&nodes, renew).await?;

        changes.trust_next_only()?;
        let only = std::slice::from_ref(&next);
        let trusts_only =
            |credentials: &TlsStatus| credentials.trusted == only && credentials.former_links == 0;
        let all_new = "Every node has a certificate of the new authority";
        self.all_follow(&nodes, trusts_only, all_new).await?;
        changes.settle()?;
        run::print(&format!(
            "every node trusts the new authority {short} alone\n"
        ))?;
        Ok(())
    }

    async fn all_follow(
        &self,
        nodes: &[NodeName],
        is_done: impl Fn(&TlsStatus) -> bool,
        state: &'static str,
    ) -> Result<(), Failure> {
        for node in nodes {
            let followed = self.wait_for(node, &is_done).await;
            followed.map_err(|why| Trouble::NotFollowed {
                node: node.clone(),
                why,
                state,
            })?;
        }
        Ok(())
    }
}
