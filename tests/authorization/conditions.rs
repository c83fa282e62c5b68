//! Conditions of identities' and keys' policies: the table `conditions.tsv`.
//!
//! Somebody may do what a request needs under one condition alone, in an identity's policy or in the
//! key's. Cells hold what the request says differently, null for what it leaves out, `$day30` for the
//! second 30 days ahead, and `enclave` or `instance` for a recipient with a document of one; or which
//! program sends it; or what the key has: a tag, an alias.

use aws_lc_rs::rsa::KeySize;
use futures_util::StreamExt as _;
use keyrum_consensus::world::World;
use keyrum_tests::attestation::{Enclave, Hypervisor};
use keyrum_tests::recipients::root_file;
use serde_json::{Value, json};

use crate::matrix::{
    AT_A_TIME, Need, SHOWN, actions, expected, judge, needs, on_a_key, start_with,
};
use crate::people::{At, OWNER, People, Person, on_key, own};
use crate::requests::{Bench, Prepared, Setting, blob, root_statement};
use crate::table::{Table, golden, markdown};

struct Case {
    request: &'static str,
    needs: Vec<Need>,
    cell: &'static str,
    allowed: bool,
    person: Person,
    setting: Setting,
    text: String,
}

fn conditional(mut statement: Value, condition: &str) -> Value {
    statement["Condition"] = serde_json::from_str(condition).expect("a condition");
    statement
}

/// Those whose answers nobody else can read. Each register of theirs holds its own number, 48 times.
struct Attested {
    hypervisor: Hypervisor,
    enclave: Enclave,
}

/// What cells name and each run has anew.
struct Named {
    attested: Attested,
    /// When the test began, in seconds.
    begun: u64,
}

impl Attested {
    /// A request's recipient with a new document, of an enclave or of an instance with a NitroTPM.
    fn recipient(&self, enclave: bool) -> Value {
        let now = World::real().clock.now();
        let mut fields = self.hypervisor.fields(now.0, &self.enclave.public_key);
        for (name, _) in &mut fields {
            if *name == "pcrs" && !enclave {
                *name = "nitrotpm_pcrs";
            }
        }
        let document = self.hypervisor.document(&fields);
        json!({
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
            "AttestationDocument": blob(document),
        })
    }
}

/// A text in which `$day30` stands for the second that was 30 days ahead when the test began.
fn dated(text: &str, begun: u64) -> String {
    let (first, rest) = text.split_once("$day").unwrap_or((text, ""));
    if rest.is_empty() {
        return first.to_owned();
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (days, rest) = rest.split_at(digits);
    let days: u64 = days.parse().expect("a number of days");
    format!("{first}{}{rest}", begun + days * 86_400)
}

/// Changes the request, who sends it, or the key, as a cell says.
async fn apply((bench, named): (&Bench, &Named), case: &Case, request: &mut Prepared, at: &mut At) {
    let key = request.places.get("key").cloned().unwrap_or_default();
    let words: Vec<_> = case.cell.split(' ').collect();
    match words[..] {
        ["tag", name, value] => {
            let tags = json!([{"TagKey": name, "TagValue": value}]);
            bench
                .ok("TagResource", json!({"KeyId": key, "Tags": tags}))
                .await;
        }
        ["alias", "made"] => _ = bench.alias(&key).await,
        ["by", "alias"] => request.body["KeyId"] = bench.alias(&key).await.into(),
        ["by", "program", name] => at.agent = name,
        _ => {
            let changes = case.cell.replace("$key", &key);
            let changes = dated(&changes, named.begun);
            let changes: Value = serde_json::from_str(&changes).expect("JSON");
            let body = request.body.as_object_mut().expect("an object");
            for (name, value) in changes.as_object().expect("an object") {
                let value = match (name.as_str(), value.as_str()) {
                    ("Recipient", Some(who)) => named.attested.recipient(who == "enclave"),
                    ("ValidTo", Some(second)) => second.parse::<u64>().expect("a second").into(),
                    _ => value.clone(),
                };
                match value {
                    Value::Null => _ = body.remove(name),
                    value => _ = body.insert(name.clone(), value),
                }
            }
        }
    }
}

/// Whether it went as it should.
async fn try_it(bench: &Bench, named: &Named, case: &Case) -> Result<(), String> {
    let mut request = bench.prepare(case.request, &case.setting).await;
    let mut at = bench.here.clone();
    apply((bench, named), case, &mut request, &mut at).await;
    let answer = at
        .ask(&case.person, &request.operation, &request.body)
        .await;
    let on_key = case
        .setting
        .key
        .iter()
        .all(|of| of["Condition"].is_object());
    let cell = match (case.allowed, on_key) {
        (true, _) => "yes",
        (false, true) => "R",
        (false, false) => "I",
    };
    let expected = expected(cell, &case.needs, &case.person, &request);
    let judged = judge(cell, expected.as_ref(), &answer);
    judged
        .map(drop)
        .map_err(|error| format!("{}: {error}", case.text))
}

/// Catches a condition key that has no value or the wrong one where AWS documents it, be it of the
/// request, the caller, the key's tags and aliases, or the time.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_asked_of_running_requests() {
    let matrix = Table::read(include_str!("matrix.tsv"));
    let table = Table::read(include_str!("conditions.tsv"));
    let named = Named {
        attested: Attested {
            hypervisor: Hypervisor::make(),
            enclave: Enclave::new(KeySize::Rsa2048),
        },
        begun: World::real().clock.now().0 / 1000,
    };
    let mut people = People::default();
    let mut cases = Vec::new();
    for (number, row) in table.rows.iter().enumerate() {
        let [name, on, condition, allowed, refused] = row[..] else {
            panic!("{row:?}");
        };
        let whole = matrix.rows.iter().find(|of| of[0] == name);
        let needs = needs(whole.expect("a row of the matrix")[1]);
        let sides: &[&str] = match on {
            "both" => &["identity", "key"],
            "identity" => &["identity"],
            _ => panic!("{row:?}"),
        };
        let condition = &dated(condition, named.begun);
        for side in sides {
            let person = format!("condition-{number}-{side}");
            let tags = "tags = { team = \"tester\" }";
            let statement = own("Allow", "Action", &actions(needs.iter()));
            let (own, key): (Vec<_>, _) = match *side {
                "identity" => (vec![conditional(statement, condition)], root_statement()),
                _ => {
                    let arn = format!("arn:aws:iam::{OWNER}:user/{person}");
                    let on_keys = needs.iter().filter(|need| on_a_key(need.1));
                    let statement = on_key("Allow", &arn, &actions(on_keys));
                    (vec![], conditional(statement, condition))
                }
            };
            let person = people.user_with(OWNER, &person, tags, &own);
            for (cell, allowed) in [(allowed, true), (refused, false)] {
                if cell == "-" {
                    continue;
                }
                cases.push(Case {
                    request: name,
                    needs: needs.clone(),
                    cell,
                    allowed,
                    person: person.clone(),
                    setting: Setting {
                        key: vec![key.clone()],
                        second: vec![key.clone()],
                        ..Setting::default()
                    },
                    text: format!("{name}, {side}, {condition}, {cell}"),
                });
            }
        }
    }
    let root = root_file(&named.attested.hypervisor);
    let args = ["--attestation-root", root.path().to_str().expect("UTF-8")];
    let (_dev, _folder, bench) = start_with(people, &args).await;
    let tried = cases
        .iter()
        .map(|case| try_it(&bench, &named, case))
        .collect::<Vec<_>>();
    let tried = futures_util::stream::iter(tried).buffered(AT_A_TIME);
    let wrong: Vec<_> = tried.filter_map(async |tried| tried.err()).collect().await;
    assert!(wrong.is_empty(), "{} cells: {wrong:#?}", wrong.len());
    let rows = table.rows.iter();
    let rows: Vec<Vec<_>> = rows
        .map(|row| {
            row.iter()
                .map(|cell| format!("`{cell}`").replace("`-`", ""))
                .collect()
        })
        .collect();
    golden(SHOWN, "conditions", &markdown(&table.columns, &rows));
}
