//! How far apart the Regions of a local cluster are made to be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keyrum_consensus::SimulatedLink;
use keyrum_types::Region;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use toml::Spanned;

/// Longest round trip, jitter included, in milliseconds. A first call takes four round trips (TCP,
/// TLS, the greeting, the call itself), and a Region has 2 s to say that it is there.
const ROUND_TRIP_MS_MAX: u32 = 400;

/// Greatest loss: beyond it hardly anything gets through.
const LOSS_MAX: f64 = 0.5;

/// The distance between two Regions, in both directions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkPlan {
    /// Which two.
    #[serde(deserialize_with = "two_regions")]
    between: [Region; 2],
    /// What a round trip takes at least; at most 400 together with the jitter.
    round_trip_ms: u32,
    /// How much longer it may take.
    #[serde(default)]
    jitter_ms: u32,
    /// The probability that a segment gets lost, 0 to 0.5.
    #[serde(default)]
    loss: f64,
}

/// What is wrong with the links of a cluster of these Regions, and how many bytes from the file's
/// beginning.
pub(crate) fn check(
    links: &[Spanned<LinkPlan>],
    regions: &BTreeSet<&Region>,
) -> Result<(), (usize, String)> {
    let mut pairs = BTreeSet::new();
    for link in links {
        let LinkPlan {
            between: [one, other],
            round_trip_ms,
            jitter_ms,
            loss,
        } = link.get_ref();
        let wrong = |what: String| Err((link.span().start, what));
        for region in [one, other] {
            if !regions.contains(region) {
                return wrong(format!("the cluster has no Region {region}"));
            }
        }
        if one == other {
            return wrong(format!(
                "a link is between two Regions, not {one} and {one}"
            ));
        }
        if !pairs.insert([one.min(other), one.max(other)]) {
            return wrong(format!("the link between {one} and {other} is given twice"));
        }
        if round_trip_ms.saturating_add(*jitter_ms) > ROUND_TRIP_MS_MAX {
            return wrong(format!(
                "a round trip takes at most {ROUND_TRIP_MS_MAX} ms, jitter included"
            ));
        }
        if !(0.0..=LOSS_MAX).contains(loss) {
            return wrong(format!("a link's loss is 0 to {LOSS_MAX}, not {loss}"));
        }
    }
    Ok(())
}

/// How far the other Regions are from this one; those that no link names are near.
pub(crate) fn distances(
    links: &[Spanned<LinkPlan>],
    from: &Region,
) -> BTreeMap<Region, SimulatedLink> {
    let far = links.iter().filter_map(|link| {
        let link = link.get_ref();
        let to = match &link.between {
            [one, to] | [to, one] if one == from => to.clone(),
            _ => return None,
        };
        let simulated = SimulatedLink {
            round_trip: Duration::from_millis(link.round_trip_ms.into()),
            jitter: Duration::from_millis(link.jitter_ms.into()),
            loss: link.loss,
        };
        Some((to, simulated))
    });
    far.collect()
}

fn two_regions<'de, D: Deserializer<'de>>(from: D) -> Result<[Region; 2], D::Error> {
    let [one, other] = <[String; 2]>::deserialize(from)?;
    let parse = |text: String| text.parse().map_err(de::Error::custom);
    Ok([parse(one)?, parse(other)?])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::topology::Topology;

    /// Catches a link that is forgotten in one direction or taken for another, and one that is
    /// wrong and taken, or whose error does not lead to its line.
    #[test]
    fn links_are_between_two_regions() {
        let complaint = |text: &str| {
            let parsed = Topology::parse(Path::new("x.toml"), text);
            parsed.unwrap_err().to_string()
        };
        let regions: String = ["us-east-1", "eu-west-1", "us-west-2"]
            .map(|name| format!("[[region]]\nname = \"{name}\"\nnodes = [{{ id = 1 }}]\n"))
            .concat();
        let head = "credentials = \"any\"\nlink = [\n";
        let near = r#"{ between = ["us-east-1", "eu-west-1"], round_trip_ms = 80, loss = 0.001 },"#;
        let far =
            r#"{ between = ["us-west-2", "eu-west-1"], round_trip_ms = 390, jitter_ms = 10 },"#;
        let file = |more: &str| format!("{head}{near}\n{far}\n{more}\n]\n{regions}");
        let topology = Topology::parse(Path::new("x.toml"), &file("")).unwrap();
        let from = |name: &str| topology.distances(&name.parse().unwrap());
        let ms = |name: &str, to: &str| {
            let distances = from(name);
            let link = distances.get(&to.parse::<Region>().unwrap());
            link.map(|link| (link.round_trip.as_millis(), link.jitter.as_millis()))
        };
        for (one, other, expected) in [
            ("us-east-1", "eu-west-1", Some((80, 0))),
            ("us-west-2", "eu-west-1", Some((390, 10))),
            ("us-east-1", "us-west-2", None),
        ] {
            assert_eq!(ms(one, other), expected);
            assert_eq!(ms(other, one), expected);
        }
        let link = |one: &str, other: &str, rest: &str| {
            format!(r#"{{ between = ["{one}", "{other}"], round_trip_ms = {rest} }}"#)
        };
        for (more, words) in [
            (link("us-east-1", "us-east-1", "1"), "a link is between two"),
            (
                link("us-east-1", "eu-west-2", "1"),
                "the cluster has no Region eu-west-2",
            ),
            (
                link("eu-west-1", "us-east-1", "1"),
                "the link between eu-west-1 and us-east-1 is",
            ),
            (
                link("us-east-1", "nowhere", "1"),
                "\"nowhere\" is not a Region",
            ),
            (
                link("us-east-1", "us-west-2", "401"),
                "a round trip takes at most 400",
            ),
            (
                link("us-east-1", "us-west-2", "400, jitter_ms = 1"),
                "a round trip takes at most 400",
            ),
            (
                link("us-east-1", "us-west-2", "1, loss = 0.6"),
                "a link's loss is 0 to 0.5, not 0.6",
            ),
            (
                link("us-east-1", "us-west-2", "1, loss = -0.1"),
                "a link's loss is 0 to 0.5",
            ),
            (
                link("us-east-1", "us-west-2", "1, loss = nan"),
                "a link's loss is 0 to 0.5",
            ),
            (link("us-east-1", "us-west-2", "-1"), "invalid value"),
        ] {
            let text = complaint(&file(&more));
            assert!(
                text.starts_with(&format!("x.toml, line 5: {words}")),
                "{more}: {text}"
            );
        }
        // The other way to write a list.
        let table = "[[link]]\nbetween = [\"us-east-1\", \"us-west-2\"]\nround_trip_ms = 401\n";
        let text = complaint(&format!("credentials = \"any\"\n{regions}{table}"));
        assert!(text.starts_with("x.toml, line 11: a round trip"), "{text}");
    }
}
