//! What the Regions' logs say of families, read when an experiment on processes is over.

use std::path::Path;

use keyrum_lab::experiment::{LogStep, Logged, RegionLog};
use keyrum_types::LogIndex;
use serde_json::Value;

use crate::admin::{Admin, AdminError};
use crate::fault::Steer;

/// The log of each Region, from a node that has most of it. A Region of which no node answers, and a
/// run of one Region, have none.
pub(super) async fn read(data: &Path) -> Vec<RegionLog> {
    let Ok(steer) = Steer::find(data) else {
        return Vec::new();
    };
    let regions = steer.regions();
    if regions.len() < 2 {
        return Vec::new();
    }
    let mut logs = Vec::new();
    for region in regions {
        let mut most: Option<RegionLog> = None;
        for name in steer.of(region) {
            if most.as_ref().is_some_and(|log| log.begins <= 1) {
                break;
            }
            // A node that does not answer is why others are asked.
            let Ok(log) = of_node(&steer.nodes[&name], region.as_str()).await else {
                continue;
            };
            if most.as_ref().is_none_or(|most| log.begins < most.begins) {
                most = Some(log);
            }
        }
        logs.extend(most);
    }
    logs
}

async fn of_node(admin: &Admin, region: &str) -> Result<RegionLog, AdminError> {
    let mut log = RegionLog {
        region: region.to_owned(),
        begins: 0,
        steps: Vec::new(),
    };
    let mut from: Option<LogIndex> = Some(0);
    while let Some(at) = from {
        let page = admin.log(at, None).await?;
        // Later pages may begin later: rows go as they come.
        log.begins = log.begins.max(page.begins);
        for entry in &page.entries {
            let index = entry["index"].as_u64().unwrap_or_default();
            let events = entry["events"].as_array().into_iter().flatten();
            let steps = events.flat_map(|event| steps(event, region));
            log.steps.extend(steps.map(|what| LogStep { index, what }));
        }
        from = page.next;
    }
    Ok(log)
}

/// What an event means for primaries and messages. The messages of an event go out after what it
/// changes.
fn steps(event: &Value, region: &str) -> Vec<Logged> {
    let mut steps = Vec::new();
    let primary = match event["event"].as_str() {
        Some("MessageTaken") => {
            steps.push(Logged::Taken {
                from: event["from"].as_str().unwrap_or_default().to_owned(),
                number: event["number"].as_u64().unwrap_or_default(),
            });
            None
        }
        Some("KeyCreated") => event["multi_region"].as_str().map(|role| role == "PRIMARY"),
        Some("KeyDeleted") => Some(false),
        _ => event["primary"].as_str().map(|primary| primary == region),
    };
    let key = event["key"]["id"].as_str();
    if let Some((primary, key)) = primary.zip(key.filter(|key| key.starts_with("mrk-"))) {
        steps.push(match primary {
            true => Logged::Primary(key.to_owned()),
            false => Logged::NotPrimary(key.to_owned()),
        });
    }
    // Such as `eu-west-1: record 1.3`.
    let sent = event["sent"].as_array().into_iter().flatten();
    let to = sent.filter_map(|line| line.as_str()?.split_once(": "));
    steps.extend(to.map(|(to, _)| Logged::Sent(to.to_owned())));
    steps
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Catches a message that seems to be sent before what it tells of, and changes of keys that have
    /// no family.
    #[test]
    fn events_are_told_in_order() {
        let here = |event: Value| steps(&event, "us-east-1");
        let key = json!({ "account": "000000000000", "id": "mrk-1" });
        let stepped_down = json!({
            "event": "PrimarySteppedDown", "key": key, "primary": "eu-west-1",
            "sent": ["eu-west-1: record 1.3", "us-west-2: record 1.3"],
        });
        let sent = |to: &str| Logged::Sent(to.to_owned());
        let no_primary = || Logged::NotPrimary("mrk-1".to_owned());
        assert_eq!(
            here(stepped_down),
            [no_primary(), sent("eu-west-1"), sent("us-west-2")]
        );
        let taken = json!({ "event": "MessageTaken", "from": "eu-west-1", "number": 7 });
        let from = "eu-west-1".to_owned();
        assert_eq!(here(taken), [Logged::Taken { from, number: 7 }]);
        let created = |role: Value, id: &str| {
            here(json!({
                "event": "KeyCreated", "key": { "id": id }, "multi_region": role,
            }))
        };
        let primary = Logged::Primary("mrk-1".to_owned());
        assert_eq!(created(json!("PRIMARY"), "mrk-1"), [primary]);
        assert_eq!(created(Value::Null, "1"), []);
        let deleted = |id: &str| here(json!({ "event": "KeyDeleted", "key": { "id": id } }));
        assert_eq!(deleted("mrk-1"), [no_primary()]);
        assert_eq!(deleted("1"), []);
    }
}
