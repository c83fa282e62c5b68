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
