//! The engine beside an evaluator that others wrote: npm's `@cloud-copilot/iam-simulate` 0.1.173.
//!
//! 6,000 random requests with the policies that have a say in them are made from fixed numbers
//! (`generate.rs`); what the other one answers is kept in `compare/expected.txt`, so that the
//! test needs no npm. `compare/simulate.mjs` says how to make that file anew. The simulator is
//! licensed under the AGPL; it is run, and nothing of it is here.
//!
//! Where the answers differ, the two read something differently, and nothing else differs: read as the
//! simulator reads it, each pair gets its answer from the engine too. The readings:
//!
//! - `NotPrincipal`: there, a Deny with NotPrincipal spares whoever is named in any way, as the account
//!   for one. Here user (or session and role) and account must all be named, as IAM's documentation
//!   demands.
//! - `AllOfIpv4`: there, no address is in `0.0.0.0/0`.
//! - `OtherKindOfAddress`: there, NotIpAddress is false if an IPv6 address is compared with an IPv4 range.
//!   Here it is true: the address is not in it.
//! - `Version`: there, policies of Version 2008-10-17 have variables too. Here, as documented, they have not.
//! - `Escapes`: there, `${*}` does not stand for `*`.
//! - `VariableOfDeny`: there, a Deny whose negated condition has a variable without a value does not apply.
//!   Here it does; IAM's documentation only says that such a statement may be invalid.
//! - `OneOfMany`: there, an operator without ForAllValues or ForAnyValue is never true for a key of several
//!   values. Here it is as if it said so: ForAllValues in an Allow, ForAnyValue in a Deny. What the
//!   real service does is not documented.
//! - `AnyIfExists`: there, ForAnyValue with IfExists is false for an absent key. Here IfExists makes it
//!   true, as it is documented to.
//! - `Session`: there, a session's policies limit also what a key's policy allows the session itself, or
//!   everybody. Here, as documented, they limit what it allows the role.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::generate;
use crate::pair::{answer, policies};

/// How many pairs are compared.
const PAIRS: u64 = 6_000;

/// What `compare/simulate.mjs` printed.
const EXPECTED: &str = include_str!("compare/expected.txt");

/// Writes the pairs to the file that `KEYRUM_PAIRS` names. Checks nothing.
#[test]
#[ignore = "writes the pairs for compare/simulate.mjs"]
fn write_pairs() {
    let file = std::env::var("KEYRUM_PAIRS").expect("KEYRUM_PAIRS names a file");
    let lines: String = (0..PAIRS)
        .map(|seed| format!("{}\n", generate::pair(seed)))
        .collect();
    std::fs::write(file, lines).unwrap();
}

/// A way in which the simulator reads policies otherwise than the engine; the module's docs say which
/// and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    NotPrincipal,
    AllOfIpv4,
    OtherKindOfAddress,
    Version,
    Escapes,
    VariableOfDeny,
    OneOfMany,
    AnyIfExists,
    Session,
}

const READINGS: [Reading; 9] = [
    Reading::NotPrincipal,
    Reading::AllOfIpv4,
    Reading::OtherKindOfAddress,
    Reading::Version,
    Reading::Escapes,
    Reading::VariableOfDeny,
    Reading::OneOfMany,
    Reading::AnyIfExists,
    Reading::Session,
];

impl Reading {
    /// Rewrites a pair so that the engine reads it as the simulator does.
    fn apply(self, pair: &mut Value) {
        let text = |name: &str| pair[name].as_str().unwrap().to_owned();
        let [arn, role_arn, account] = ["arn", "roleArn", "account"].map(text);
        let root = format!("arn:aws:iam::{account}:root");
        let chain = [&arn, &role_arn, &account, &root];
        if self == Reading::Session && !pair["session"].is_null() {
            let key_policy = pair["keyPolicy"].to_string();
            let everybody = format!(r#""Principal":{{"AWS":"{role_arn}"}}"#);
            let key_policy = key_policy.replace(r#""Principal":"*""#, &everybody);
            let key_policy = key_policy.replace(&arn, &role_arn);
            pair["keyPolicy"] = serde_json::from_str(&key_policy).unwrap();
        }
        let address = pair["context"]["aws:SourceIp"].as_str().unwrap_or("");
        let (is_v6, is_user) = (address.contains(':'), pair["kind"] == "User");
        for policy in policies(pair) {
            if self == Reading::Version {
                policy["Version"] = json!("2012-10-17");
            }
            for statement in policy["Statement"].as_array_mut().unwrap() {
                if self == Reading::NotPrincipal
                    && let Some(named) = statement.as_object_mut().unwrap().remove("NotPrincipal")
                {
                    let spared =
                        texts(&named["AWS"]).any(|named| chain.iter().any(|own| *own == named));
                    let nobody = json!({"AWS": "000000000000"});
                    statement["Principal"] = if spared { nobody } else { json!("*") };
                }
                let deny = statement["Effect"] == "Deny";
                if let Some(condition) = statement.get_mut("Condition") {
                    self.apply_to_condition(condition, is_v6, deny && !is_user);
                }
            }
        }
    }

    /// `nameless`: it is of a Deny, and aws:username has no value.
    fn apply_to_condition(self, condition: &mut Value, is_v6: bool, nameless: bool) {
        let mut read = Map::new();
        for (operator, keys) in condition.as_object().unwrap() {
            for (key, values) in keys.as_object().unwrap() {
                let mut operator = operator.clone();
                let mut values: Vec<String> = texts(values).map(str::to_owned).collect();
                let many = matches!(key.as_str(), "aws:CalledVia" | "aws:PrincipalOrgPaths");
                let never = match self {
                    Reading::OneOfMany => many && !operator.contains(':') && operator != "Null",
                    Reading::OtherKindOfAddress => {
                        is_v6
                            && operator.starts_with("NotIp")
                            && values.iter().any(|value| !value.contains(':'))
                    }
                    Reading::VariableOfDeny => {
                        let open = values.iter().any(|value| value.contains("${aws:username}"));
                        nameless && operator.contains("Not") && open
                    }
                    _ => false,
                };
                match self {
                    _ if never => {
                        // No request has this key.
                        read.insert("Bool".to_owned(), json!({"t:never": "true"}));
                        continue;
                    }
                    Reading::AllOfIpv4 => values.retain(|value| value != "0.0.0.0/0"),
                    Reading::Escapes => values.retain(|value| value != "c${*}"),
                    Reading::AnyIfExists if operator.starts_with("ForAnyValue:") => {
                        operator = operator.trim_end_matches("IfExists").to_owned();
                    }
                    _ => {}
                }
                let keys = read.entry(operator).or_insert_with(|| json!({}));
                keys[key] = json!(values);
            }
        }
        *condition = Value::Object(read);
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let items = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().map(|item| item.as_str().unwrap())
}

/// How many pairs the two answer differently.
const DIFFERENT: usize = 104;

/// Catches an answer that differs from the other evaluator's for a reason that nobody has looked at, and
/// a reason that explains nothing any more.
#[test]
fn as_another_evaluator() {
    let expected: Vec<char> = EXPECTED.lines().flat_map(str::chars).collect();
    assert_eq!(expected.len() as u64, PAIRS);
    let mut unexplained = String::new();
    let (mut different, mut needed, mut letters) = (0, BTreeSet::new(), BTreeSet::new());
    for (seed, want) in (0..PAIRS).zip(expected) {
        let pair = generate::pair(seed);
        letters.insert(want);
        if answer(&pair) == want {
            continue;
        }
        different += 1;
        let read_without = |left_out: Option<Reading>| {
            let mut read = pair.clone();
            for reading in READINGS
                .into_iter()
                .filter(|reading| Some(*reading) != left_out)
            {
                reading.apply(&mut read);
            }
            answer(&read)
        };
        let got = read_without(None);
        if got != want {
            unexplained.push_str(&format!("{want}{got} {seed} {pair}\n"));
            continue;
        }
        let mut needs = READINGS.map(Some).into_iter();
        let need = needs.find(|reading| read_without(*reading) != want);
        needed.extend(need.flatten().map(|reading| format!("{reading:?}")));
    }
    assert!(unexplained.is_empty(), "\n{unexplained}");
    let all: BTreeSet<String> = READINGS
        .iter()
        .map(|reading| format!("{reading:?}"))
        .collect();
    assert_eq!(needed, all);
    assert_eq!(letters, BTreeSet::from(['A', 'E', 'I']));
    assert_eq!(different, DIFFERENT);
}
