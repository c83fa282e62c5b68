//! The experiment as the page's script takes it: columns of numbers, and each text once.

use std::collections::{BTreeSet, HashMap};

use keyrum_types::NodeId;
use serde::Serialize;

use super::text::{seen, shortened, words};
use crate::experiment::{Call, Experiment, Outcome};

/// How many bytes what calls asked and saw may take together. With it the report of 10,000 calls
/// stays under 3 MB; calls that a finding names are beside it.
const DETAIL_BYTES_MAX: usize = 1_400_000;

/// Texts of calls are cut to the first of these many characters with which they fit.
const CUTS: [usize; 9] = [4000, 1000, 500, 250, 160, 100, 60, 30, 0];

/// Text of a call that a finding names is cut here.
const CITED_MAX: usize = 4000;

/// Stands for no end, and for nobody.
const NONE: i64 = -1;

#[derive(Serialize)]
pub(super) struct Columns<'a> {
    span: u64,
    simulated: bool,
    lifted: Option<u64>,
    healed: Option<u64>,
    regions: Vec<(&'a str, &'a [NodeId])>,
    clients: &'a [String],
    strings: Vec<String>,
    calls: Calls,
    /// Numbers of the calls that findings name.
    cited: Vec<usize>,
    /// Whether texts of calls were cut.
    cut: bool,
    faults: Vec<Fault<'a>>,
    leaders: Vec<Leader<'a>>,
    members: Vec<Member<'a>>,
}

/// A place in each column is a call.
#[derive(Default, Serialize)]
struct Calls {
    /// Since the call before it began.
    start: Vec<i64>,
    took: Vec<i64>,
    client: Vec<usize>,
    region: Vec<usize>,
    /// 0 for none.
    node: Vec<NodeId>,
    operation: Vec<usize>,
    caller: Vec<i64>,
    reads: Vec<i64>,
    /// 0 done, 1 refused, 2 not done, 3 unknown.
    outcome: Vec<u8>,
    asked: Vec<usize>,
    saw: Vec<usize>,
}

#[derive(Serialize)]
struct Fault<'a> {
    kind: &'a str,
    what: &'a str,
    region: Option<&'a str>,
    nodes: &'a [NodeId],
    from: u64,
    until: Option<u64>,
    effects: Option<u64>,
}

/// When, where, which node, its term, its leader.
#[derive(Serialize)]
struct Leader<'a>(u64, &'a str, NodeId, u64, Option<NodeId>);

/// When, which key, where, its state, whether it is the primary.
#[derive(Serialize)]
struct Member<'a>(u64, &'a str, &'a str, Option<&'a str>, bool);

/// Gives each text a place.
#[derive(Default)]
struct Texts {
    places: HashMap<String, usize>,
    all: Vec<String>,
}

impl Texts {
    fn place(&mut self, text: String) -> usize {
        *self.places.entry(text).or_insert_with_key(|text| {
            self.all.push(text.clone());
            self.all.len() - 1
        })
    }
}

/// When the drawing ends: at the end of the run, or of what lasted longer.
pub(super) fn span(experiment: &Experiment) -> u64 {
    let calls = experiment.calls.iter();
    let faults = experiment.faults.iter();
    (calls.map(|call| call.end_us.unwrap_or(0).max(call.start_us)))
        .chain(faults.map(|fault| fault.until_us.unwrap_or(0).max(fault.from_us)))
        .chain(experiment.leaders.iter().map(|seen| seen.at_us))
        .chain(experiment.members.iter().map(|seen| seen.at_us))
        .chain(experiment.healed_at_us)
        .chain([experiment.ended_us, 1])
        .max()
        .expect("it has an end")
}

pub(super) fn columns(experiment: &Experiment) -> Columns<'_> {
    let cited: BTreeSet<usize> = (experiment.judgements.iter())
        .flat_map(|judgement| &judgement.findings)
        .flat_map(|violation| violation.calls.iter().copied())
        .filter(|&call| call < experiment.calls.len())
        .collect();
    let details: Vec<[String; 2]> = (experiment.calls.iter())
        .map(|call| [words(&call.input), seen(&call.outcome)])
        .collect();
    let most = cut(&details);
    let mut texts = Texts::default();
    let mut calls = Calls::default();
    let mut before = 0;
    let mut any_cut = false;
    for (at, (call, details)) in experiment.calls.iter().zip(details).enumerate() {
        let most = if cited.contains(&at) { CITED_MAX } else { most };
        let [asked, saw] = details.map(|text| {
            let short = shortened(&text, most);
            any_cut |= short.len() < text.len();
            short
        });
        calls.start.push(call.start_us.wrapping_sub(before) as i64);
        before = call.start_us;
        calls.took.push(took(call));
        calls.client.push(call.client);
        calls.region.push(texts.place(call.region.clone()));
        calls.node.push(call.node.unwrap_or(0));
        calls.operation.push(texts.place(call.operation.clone()));
        let mut perhaps =
            |text: Option<&str>| text.map_or(NONE, |text| texts.place(text.to_owned()) as i64);
        calls.caller.push(perhaps(call.caller.as_deref()));
        calls.reads.push(perhaps(call.reads.as_deref()));
        calls.outcome.push(match call.outcome {
            Outcome::Done(_) => 0,
            Outcome::Refused { .. } => 1,
            Outcome::NotDone(_) => 2,
            Outcome::Unknown(_) => 3,
        });
        calls.asked.push(texts.place(asked));
        calls.saw.push(texts.place(saw));
    }
    let lifted = experiment.faults_until_us;
    Columns {
        span: span(experiment),
        simulated: experiment.simulated,
        lifted: (lifted > 0).then_some(lifted),
        healed: experiment.healed_at_us,
        regions: (experiment.regions.iter())
            .map(|region| (region.name.as_str(), region.nodes.as_slice()))
            .collect(),
        clients: &experiment.clients,
        strings: texts.all,
        calls,
        cited: cited.into_iter().collect(),
        cut: any_cut,
        faults: (experiment.faults.iter())
            .map(|fault| Fault {
                kind: &fault.kind,
                what: &fault.what,
                region: fault.region.as_deref(),
                nodes: &fault.nodes,
                from: fault.from_us,
                until: fault.until_us,
                effects: fault.effects,
            })
            .collect(),
        leaders: (experiment.leaders.iter())
            .map(|seen| Leader(seen.at_us, &seen.region, seen.node, seen.term, seen.leader))
            .collect(),
        members: (experiment.members.iter())
            .map(|seen| {
                let state = seen.state.as_deref();
                Member(seen.at_us, &seen.key, &seen.region, state, seen.primary)
            })
            .collect(),
    }
}

fn took(call: &Call) -> i64 {
    call.end_us
        .map_or(NONE, |end| end.saturating_sub(call.start_us) as i64)
}

/// To how many characters the texts of calls must be cut.
fn cut(details: &[[String; 2]]) -> usize {
    let fits = |most: &usize| {
        let mut seen = BTreeSet::new();
        let mut bytes = 0;
        for text in details.iter().flatten() {
            let end = text
                .char_indices()
                .nth(*most)
                .map_or(text.len(), |(end, _)| end);
            let short = &text[..end];
            if seen.insert(short) {
                bytes += written(short);
            }
        }
        bytes <= DETAIL_BYTES_MAX
    };
    CUTS.into_iter().find(fits).unwrap_or(0)
}

/// How many bytes a text takes in the page.
fn written(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\t' => 2,
        b'<' | b'>' | b'&' | 0..0x20 => 6,
        _ => 1,
    };
    3 + text.bytes().map(escaped).sum::<usize>()
}
