//! Faults of a node, steered by who holds its admin token: `GET`, `POST` and `DELETE /faults`.
//!
//! Test clusters only; elsewhere the node has no [`Faults`], and says so.

use std::sync::Arc;

use keyrum_consensus::faults::{Faults, InForce, Unfit};
use serde_json::{Value, json};

use super::{Refused, read};

fn of(faults: Option<&Arc<Faults>>) -> Result<&Arc<Faults>, Refused> {
    faults.ok_or_else(|| {
        Refused(
            403,
            "faults can be put into test clusters only: those whose topology file says `test_clock = true`, \
             and `keyrum dev`"
                .to_owned(),
        )
    })
}

fn told(faults: &[InForce]) -> Value {
    json!({ "faults": faults })
}

/// What is in force.
pub(super) fn list(faults: Option<&Arc<Faults>>) -> Result<Value, Refused> {
    Ok(told(&of(faults)?.in_force()))
}

/// Puts one in force.
pub(super) fn put(faults: Option<&Arc<Faults>>, body: &[u8]) -> Result<Value, Refused> {
    let faults = of(faults)?;
    let number = faults.put(read(body)?).map_err(|unfit| {
        let status = match unfit {
            Unfit::Taken(_) => 409,
            Unfit::Senseless(_) => 400,
        };
        Refused(status, unfit.to_string())
    })?;
    Ok(json!({ "number": number }))
}

/// Lifts one, by `number=N`, or all; the answer tells what they have done.
pub(super) fn lift(faults: Option<&Arc<Faults>>, query: Option<&str>) -> Result<Value, Refused> {
    let faults = of(faults)?;
    let number = match query {
        None | Some("") => None,
        Some(query) => {
            let number = query.strip_prefix("number=").and_then(|n| n.parse().ok());
            Some(number.ok_or_else(|| {
                Refused(
                    400,
                    format!("{query:?} is not number=N with a fault's number"),
                )
            })?)
        }
    };
    Ok(told(&faults.lift(number)))
}
