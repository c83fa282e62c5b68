//! Keys that are used by the client that made them: each that it tried to use, it used in the end.

use std::collections::BTreeMap;

use super::Sight;
use crate::experiment::{Experiment, Judgement, Outcome};

/// What came of the uses of a key.
struct Uses {
    created: usize,
    last: usize,
    done: bool,
    refused: bool,
}

/// Judges `usable`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("usable");
    let mut made: BTreeMap<(usize, &str, &str), Uses> = BTreeMap::new();
    for (number, call) in experiment.calls.iter().enumerate() {
        if let ("CreateKey", Outcome::Done(answer)) = (call.operation.as_str(), &call.outcome) {
            if let Some(key) = answer["KeyMetadata"]["KeyId"].as_str() {
                let uses = Uses {
                    created: number,
                    last: number,
                    done: false,
                    refused: false,
                };
                made.insert((call.client, call.region.as_str(), key), uses);
            }
            continue;
        }
        let Some(key) = call.input["KeyId"].as_str() else {
            continue;
        };
        let Some(uses) = made.get_mut(&(call.client, call.region.as_str(), key)) else {
            continue;
        };
        uses.last = number;
        match &call.outcome {
            Outcome::Done(_) => uses.done = true,
            Outcome::Refused { error, .. } => uses.refused |= error == "NotFoundException",
            Outcome::NotDone(_) | Outcome::Unknown(_) => {}
        }
    }
    for ((_, _, key), uses) in made {
        if !uses.done && !uses.refused {
            continue;
        }
        sight.looked(1);
        if !uses.done {
            let what = format_args!("{key}: its client was told to the end that it does not exist");
            sight.find(what, vec![uses.created, uses.last]);
        }
    }
    sight.remark(format!(
        "{} new keys that their makers tried to use",
        sight.looked
    ));
    sight.judgement()
}
