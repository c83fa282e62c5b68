//! Which node gets which fault.

use std::collections::BTreeSet;

use keyrum_consensus::faults::{Direction, Fault, Party, With};
use keyrum_types::Region;

use super::{Steer, Trouble};
use crate::cli::{Between, NodeName, Shape};

type Faults = Vec<(NodeName, Fault)>;

/// Whether the cluster has a node.
pub(super) fn known(steer: &Steer, node: &NodeName) -> Result<(), Trouble> {
    if steer.nodes.contains_key(node) {
        return Ok(());
    }
    let have: Vec<_> = steer.nodes.keys().map(NodeName::to_string).collect();
    Err(Trouble::NoSuch {
        what: format!("node {node}"),
        have: have.join(", "),
    })
}

/// The nodes that a party is, all of which the cluster has.
fn members(steer: &Steer, party: &Party) -> Result<Vec<NodeName>, Trouble> {
    let region = party.region.clone();
    if let Some(id) = party.node {
        let node = NodeName { region, id };
        return known(steer, &node).map(|()| vec![node]);
    }
    let nodes = steer.of(&region);
    if nodes.is_empty() {
        let have: Vec<_> = steer.regions().into_iter().map(Region::as_str).collect();
        return Err(Trouble::NoSuch {
            what: format!("Region {region}"),
            have: have.join(", "),
        });
    }
    Ok(nodes)
}

fn senseless<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Senseless(why.into()))
}

/// Faults on the connections between parties, or between one and its clients.
pub(super) fn between(
    steer: &Steer,
    args: &Between,
    fault: impl Fn(With, Direction) -> Fault,
) -> Result<Faults, Trouble> {
    let mut direction = Direction::from(args.direction);
    let (mut first, mut second) = match &args.parties[..] {
        [first] => (first, None),
        [first, second, ..] => (first, Some(second)),
        [] => return senseless("name a node or a Region"),
    };
    if let Some(other) = second {
        members(steer, other)?;
        if args.clients {
            return senseless("--clients is about one node's or Region's clients: name one");
        }
        // A node is steered rather than each of a Region, and a Region never from its own nodes.
        if first.node.is_none() && other.node.is_some() {
            (first, second) = (other, Some(first));
            direction = match direction {
                Direction::Both => Direction::Both,
                Direction::In => Direction::Out,
                Direction::Out => Direction::In,
            };
        }
    }
    let nodes = members(steer, first)?;
    let with = match second {
        Some(other) if other == first => {
            return senseless(format!("{first} has no connections with itself"));
        }
        Some(other) => With::These(BTreeSet::from([other.clone()])),
        None if args.clients => With::Clients,
        None if first.node.is_some() => With::Nodes,
        None if steer.regions().len() == 1 => {
            return senseless(format!(
                "{first} is the only Region; name a node, or --shape halves {first}"
            ));
        }
        None => With::OtherRegions,
    };
    if steer.nodes.len() == 1 && !args.clients {
        return senseless("the cluster has one node, and no connections between nodes");
    }
    let fault = |node: NodeName| (node, fault(with.clone(), direction));
    Ok(nodes.into_iter().map(fault).collect())
}

/// Cuts a Region's nodes from each other.
pub(super) async fn shaped(steer: &Steer, args: &Between, shape: Shape) -> Result<Faults, Trouble> {
    let [party] = &args.parties[..] else {
        return senseless("a shape is one Region's: name one");
    };
    if party.node.is_some() {
        return senseless(format!("a shape is a Region's: name {}", party.region));
    }
    let mut nodes = members(steer, party)?;
    if shape == Shape::Minority {
        let mut leader = None;
        for node in &nodes {
            if steer.nodes[node].is_leader().await {
                leader = Some(node.clone());
            }
        }
        let Some(leader) = leader else {
            return senseless(format!(
                "{party} has no leader that a minority could be with"
            ));
        };
        nodes.retain(|node| *node != leader);
        nodes.insert(0, leader);
    }
    cuts(nodes, shape)
}

/// Cuts nodes of a Region from each other, in the order given.
pub(crate) fn cuts(nodes: Vec<NodeName>, shape: Shape) -> Result<Faults, Trouble> {
    let cuts = apart(nodes.len(), shape).map_err(|needs| {
        let have = nodes.len();
        Trouble::Senseless(format!(
            "that takes {needs} nodes, and the Region has {have}"
        ))
    })?;
    Ok(cuts
        .into_iter()
        .map(|(node, others)| {
            let others = others.into_iter().map(|other| {
                let NodeName { region, id } = nodes[other].clone();
                Party {
                    region,
                    node: Some(id),
                }
            });
            let cut = Fault::Cut {
                with: With::These(others.collect()),
                direction: Direction::Both,
            };
            (nodes[node].clone(), cut)
        })
        .collect())
}

/// Which of `count` nodes are cut from which; each pair once. An error says how many it takes.
fn apart(count: usize, shape: Shape) -> Result<Vec<(usize, BTreeSet<usize>)>, usize> {
    let needs = match shape {
        Shape::Halves => 2,
        Shape::Minority | Shape::Bridge => 3,
        Shape::Ring => 4,
    };
    if count < needs {
        return Err(needs);
    }
    let is_cut = |one: usize, other: usize| match shape {
        Shape::Halves => one < count.div_ceil(2) && other >= count.div_ceil(2),
        Shape::Minority => one < (count - 1) / 2 && other >= (count - 1) / 2,
        Shape::Bridge => one < count / 2 && other > count / 2,
        Shape::Ring => other - one > 1 && other - one < count - 1,
    };
    let others = |one| (one + 1..count).filter(move |&other| is_cut(one, other));
    let cuts = (0..count).map(|one| (one, others(one).collect::<BTreeSet<_>>()));
    Ok(cuts.filter(|(_, others)| !others.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who reaches whom, as text: each node's row.
    fn drawn(count: usize, shape: Shape) -> Vec<String> {
        let cuts = apart(count, shape).unwrap();
        let cut = |one: usize, other: usize| {
            cuts.iter().any(|(node, others)| {
                (*node == one && others.contains(&other))
                    || (*node == other && others.contains(&one))
            })
        };
        let row = |one| {
            let cell = |other| if cut(one, other) { 'x' } else { '.' };
            (0..count).map(cell).collect()
        };
        (0..count).map(row).collect()
    }

    /// Catches a shape that cuts too much or too little, and one that a Region is too small for.
    #[test]
    fn shapes_are_what_they_are_called() {
        assert_eq!(drawn(3, Shape::Halves), ["..x", "..x", "xx."]);
        assert_eq!(drawn(4, Shape::Halves), ["..xx", "..xx", "xx..", "xx.."]);
        assert_eq!(drawn(3, Shape::Minority), [".xx", "x..", "x.."]);
        let five = ["..xxx", "..xxx", "xx...", "xx...", "xx..."];
        assert_eq!(drawn(5, Shape::Minority), five);
        assert_eq!(drawn(3, Shape::Bridge), ["..x", "...", "x.."]);
        let five = ["...xx", "...xx", ".....", "xx...", "xx..."];
        assert_eq!(drawn(5, Shape::Bridge), five);
        let five = ["..xx.", "...xx", "x...x", "xx...", ".xx.."];
        assert_eq!(drawn(5, Shape::Ring), five);
        assert_eq!(apart(3, Shape::Ring), Err(4));
        assert_eq!(apart(2, Shape::Minority), Err(3));
        assert_eq!(apart(1, Shape::Halves), Err(2));
    }
}
