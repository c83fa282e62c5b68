//! Healing: once every fault is lifted, the group works again within a bounded time.

use keyrum_types::{LogIndex, NodeId};

use super::Finding;

const CHECK: &str = "healed";

/// One node as it is seen while the group heals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Whether it runs and has not stopped by itself; if not, why.
    pub running: Result<(), String>,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// The last entry in its log and the last it has applied.
    pub log: (Option<LogIndex>, Option<LogIndex>),
}

/// Whether the group has healed: every node runs, all follow one of them, and all have applied the
/// same whole log. Says what is missing otherwise.
pub fn check(members: &[Member]) -> Result<(), Finding> {
    let missing = |what: String| Err(Finding::new(CHECK, what));
    let Some(first) = members.first() else {
        return missing("there are no nodes".into());
    };
    for member in members {
        if let Err(reason) = &member.running {
            return missing(format!("node {} does not run: {reason}", member.node));
        }
    }
    if first.leader.is_none() || members.iter().any(|member| member.leader != first.leader) {
        let leaders: Vec<_> = members
            .iter()
            .map(|member| (member.node, member.leader))
            .collect();
        return missing(format!("the nodes follow no one leader: {leaders:?}"));
    }
    let (last, applied) = first.log;
    if last != applied || members.iter().any(|member| member.log != first.log) {
        let logs: Vec<_> = members
            .iter()
            .map(|member| (member.node, member.log))
            .collect();
        return missing(format!(
            "the nodes have not applied one whole log: {logs:?}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a check that takes a group for healed that is not.
    #[test]
    fn each_thing_that_is_missing_is_found() {
        let member = |node| Member {
            node,
            running: Ok(()),
            leader: Some(2),
            log: (Some(9), Some(9)),
        };
        assert!(check(&[member(1), member(2)]).is_ok());
        assert!(check(&[]).is_err());
        let broken = [
            Member {
                running: Err("disk".into()),
                ..member(2)
            },
            Member {
                leader: None,
                ..member(2)
            },
            Member {
                leader: Some(1),
                ..member(2)
            },
            Member {
                log: (Some(9), Some(8)),
                ..member(2)
            },
            Member {
                log: (Some(8), Some(8)),
                ..member(2)
            },
        ];
        for broken in broken {
            assert!(check(&[member(1), broken.clone()]).is_err(), "{broken:?}");
        }
    }
}
