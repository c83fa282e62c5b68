//! What a record of each operation says, and what none ever says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{HERE, THERE};
use keyrum_tests::{Dev, wait};
use serde_json::{Map, Value};

use crate::trail::{read, text};
use crate::walk::{ACCOUNT, OTHER, Walker, walk};

/// What the record of each call that succeeded has, by hand from the real service's documentation:
/// operation | requestParameters | responseElements | additionalEventData | kinds of resources. `-`
/// stands for null, or for a member that is not there. A parameter in parentheses is one of those
/// that only some requests have.
/// Source: AWS KMS Developer Guide, "Examples of AWS KMS log entries".
const TABLE: &str = "
CancelKeyDeletion | keyId | keyId | - | Key
CreateAlias | aliasName targetKeyId | keyId | - | Alias Key
CreateGrant | keyId granteePrincipal retiringPrincipal operations constraints name | grantId keyId | - | Key
CreateKey | (description) (keyUsage) (keySpec) (origin) (multiRegion) (policy) (tags) (bypassPolicyLockoutSafetyCheck) | keyMetadata | - | Key
Decapsulate | keyId encapsulationAlgorithm | - | - | Key
Decrypt | keyId encryptionAlgorithm encryptionContext | - | keyMaterialId | Key
DeleteAlias | aliasName | keyId | - | Alias Key
DeleteImportedKeyMaterial | keyId keyMaterialId | keyId keyMaterialId | - | Key
DeriveSharedSecret | keyId keyAgreementAlgorithm | - | - | Key
DescribeKey | keyId | - | - | Key
DisableKey | keyId | keyId | - | Key
DisableKeyRotation | keyId | keyId | - | Key
EnableKey | keyId | keyId | - | Key
EnableKeyRotation | keyId rotationPeriodInDays | keyId | - | Key
Encapsulate | keyId encapsulationAlgorithm | - | - | Key
Encrypt | keyId encryptionAlgorithm (encryptionContext) | - | keyMaterialId | Key
GenerateDataKey | keyId keySpec encryptionContext | - | keyMaterialId | Key
GenerateDataKeyPair | keyId keyPairSpec encryptionContext | - | keyMaterialId | Key
GenerateDataKeyPairWithoutPlaintext | keyId keyPairSpec encryptionContext | - | keyMaterialId | Key
GenerateDataKeyWithoutPlaintext | keyId numberOfBytes | - | keyMaterialId | Key
GenerateMac | keyId macAlgorithm | - | - | Key
GenerateRandom | - | - | - |
GetKeyLastUsage | keyId | - | - | Key
GetKeyPolicy | keyId policyName | - | - | Key
GetKeyRotationStatus | keyId | - | - | Key
GetParametersForImport | keyId wrappingAlgorithm wrappingKeySpec | - | - | Key
GetPublicKey | keyId | - | - | Key
ImportKeyMaterial | keyId (validTo) expirationModel importType keyMaterialDescription | keyId keyMaterialId | - | Key
ListAliases | keyId | - | - | Key
ListGrants | keyId grantId limit | - | - | Key
ListKeyPolicies | keyId limit | - | - | Key
ListKeyRotations | keyId includeKeyMaterial | - | - | Key
ListKeys | limit | - | - |
ListResourceTags | keyId limit | - | - | Key
ListRetirableGrants | retiringPrincipal limit | - | - |
PutKeyPolicy | keyId policyName policy bypassPolicyLockoutSafetyCheck | - | - | Key
ReEncrypt | sourceEncryptionAlgorithm sourceEncryptionContext sourceKeyId destinationKeyId destinationEncryptionAlgorithm destinationEncryptionContext | - | sourceKeyMaterialId destinationKeyMaterialId | Key Key
ReplicateKey | keyId replicaRegion bypassPolicyLockoutSafetyCheck description policy tags | replicaKeyMetadata replicaPolicy keyId | - | Key
RetireGrant | - | keyId | grantId | Key
RevokeGrant | keyId grantId | keyId | - | Key
RotateKeyOnDemand | keyId | keyId | - | Key
ScheduleKeyDeletion | keyId pendingWindowInDays | keyId keyState deletionDate pendingWindowInDays | - | Key
Sign | keyId messageType signingAlgorithm | - | - | Key
TagResource | keyId tags | keyId | - | Key
UntagResource | keyId tagKeys | keyId | - | Key
UpdateAlias | aliasName targetKeyId | keyId | - | Alias Key
UpdateKeyDescription | keyId description | - | - | Key
UpdatePrimaryRegion | keyId primaryRegion | keyId | - | Key
Verify | keyId messageType signingAlgorithm | - | - | Key
VerifyMac | keyId macAlgorithm | - | - | Key
";

/// Operations that Keyrum does not have; their records are in the golden file alone.
const MISSING: &[&str] = &[
    "ConnectCustomKeyStore",
    "CreateCustomKeyStore",
    "DeleteCustomKeyStore",
    "DescribeCustomKeyStores",
    "DisconnectCustomKeyStore",
    "UpdateCustomKeyStore",
];

/// What a Region does by itself, and where.
const EVENTS: &[(&str, &str)] = &[
    ("DeleteKey", HERE),
    ("DeleteExpiredKeyMaterial", HERE),
    ("RotateKey", HERE),
    ("RotateKey", THERE),
    ("CreateKey", THERE),
    ("SynchronizeMultiRegionKey", THERE),
    ("UpdatePrimaryRegion", THERE),
];

const GOLDEN: &str = "audit/golden/records.jsonl";

fn names(value: &Value) -> Option<BTreeSet<&str>> {
    let members = value.as_object()?;
    Some(members.keys().map(String::as_str).collect())
}

/// Whether a record's member has what a column of the table says.
fn fits(column: &str, value: &Value) -> bool {
    let Some(present) = names(value) else {
        return column == "-";
    };
    let words = || column.split_whitespace().filter(|word| *word != "-");
    let allowed: BTreeSet<_> = words().map(|word| word.trim_matches(['(', ')'])).collect();
    let mut needed = words().filter(|word| !word.starts_with('('));
    column != "-" && needed.all(|word| present.contains(word)) && present.is_subset(&allowed)
}

fn check_against_table(records: &[Value]) {
    let rows: BTreeMap<&str, Vec<&str>> = TABLE
        .trim()
        .lines()
        .map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .map(|columns| (columns[0], columns))
        .collect();
    let mut met = BTreeSet::new();
    for record in records {
        let by_caller = record["userIdentity"]["type"] == "Root";
        let name = text(record, "eventName");
        if !by_caller
            || !record["errorCode"].is_null()
            || text(record, "eventSource") != "kms.amazonaws.com"
        {
            continue;
        }
        let row = rows
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        met.insert(name);
        for (column, member) in [
            (row[1], "requestParameters"),
            (row[2], "responseElements"),
            (row[3], "additionalEventData"),
        ] {
            assert!(fits(column, &record[member]), "{member} of {record}");
        }
        let kinds = record["resources"].as_array().expect("resources");
        let kinds: Vec<_> = kinds
            .iter()
            .map(|resource| text(resource, "type").trim_start_matches("AWS::KMS::"))
            .collect();
        assert_eq!(kinds.join(" "), row[4], "{record}");
        let cryptographic = row[3].contains("keyMaterialId") || record["readOnly"] == true;
        assert!(
            !cryptographic || record["responseElements"].is_null(),
            "{record}"
        );
        // What every record has.
        for member in ["requestID", "eventID"] {
            assert_eq!(text(record, member).len(), 36, "{record}");
        }
        assert_eq!(record["recipientAccountId"], ACCOUNT);
        assert_eq!(record["userAgent"], "walker");
        assert_eq!(record["userIdentity"]["accessKeyId"], ACCOUNT);
    }
    let all: BTreeSet<_> = rows.keys().copied().collect();
    let unmet: Vec<_> = all.difference(&met).collect();
    assert!(unmet.is_empty(), "no record of {unmet:?}");
    let model = include_str!("../../crates/server/model/kms-service-model.json");
    let model: Value = serde_json::from_str(model).expect("the model is JSON");
    let operations = model["operations"].as_object().expect("operations");
    let known = |name: &String| all.contains(name.as_str()) || MISSING.contains(&name.as_str());
    assert!(
        operations.keys().all(known),
        "an operation that nobody decided about"
    );
}

/// A record in which whatever differs from run to run is replaced.
fn steady(name: &str, value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let steadied = members
                .iter()
                .map(|(name, value)| (name.clone(), steady(name, value)));
            Value::Object(steadied.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.iter().map(|value| steady(name, value)).collect(),
        Value::String(_) if name == "eventTime" || name.ends_with("Date") || name == "validTo" => {
            "<date>".into()
        }
        Value::String(text) => {
            let mut out = String::new();
            let mut run = String::new();
            for c in text.chars().chain(['\n']) {
                if c.is_ascii_hexdigit() || c == '-' {
                    run.push(c);
                    continue;
                }
                out.push_str(if run.len() >= 32 { "<id>" } else { &run });
                run.clear();
                out.push(c);
            }
            out.pop();
            out.into()
        }
        value => value.clone(),
    }
}

/// One record for each kind: who, what, in which Region, and how it ended.
fn check_against_golden(records: &[Value]) {
    let mut kinds = BTreeMap::new();
    // How often it was asked whether the replica is there, and what was answered, is chance.
    let steady_ones = records
        .iter()
        .filter(|record| record["eventName"] != "DescribeKey" || record["awsRegion"] != THERE);
    for record in steady_ones {
        let kind = (
            text(record, "eventName").to_owned(),
            text(record, "awsRegion").to_owned(),
            text(&record["userIdentity"], "type").to_owned(),
            text(record, "errorCode").to_owned(),
        );
        kinds.entry(kind).or_insert_with(|| steady("", record));
    }
    let mut lines = String::new();
    for record in kinds.values() {
        lines.push_str(&format!("{record}\n"));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("KEYRUM_UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&file, &lines).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    for (line, golden) in lines.lines().zip(golden.lines()) {
        assert_eq!(
            line, golden,
            "set KEYRUM_UPDATE_GOLDEN=1 and read the diff of {GOLDEN}"
        );
    }
    assert_eq!(
        lines.lines().count(),
        golden.lines().count(),
        "records in {GOLDEN}"
    );
}

/// Catches a record that lacks what the real service's has, or has more; a secret in any of them, be it
/// in a text that an error repeats; and something that a Region does by itself without a word.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_has_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let dev = Dev::start(&["--ephemeral", "--nodes", "1", "--audit", path]).await;
    let mut walker = Walker::new(&dev.ready.endpoint);
    // What records need is in the log once every member knows the newest rules.
    wait::until_true("record told from the log", wait::LONG, async || {
        let other = (OTHER, HERE);
        walker.ask(other, "CreateKey", serde_json::json!({})).await;
        let records = read(folder.path());
        let mut ids = records.iter().map(|record| text(record, "eventID"));
        ids.any(|id| id.get(14..15) == Some("8"))
    })
    .await;
    walk(&mut walker, &dev).await;
    let form = Raw::sts("Action=GetCallerIdentity&Version=2011-06-15");
    assert!(
        form.send(&dev.ready.endpoint)
            .await
            .unwrap()
            .status
            .is_success()
    );

    let told = |records: &[Value], (name, region): (&str, &str)| {
        let mut records = records.iter();
        records.any(|record| record["eventName"] == name && record["awsRegion"] == region)
    };
    wait::until_true("records of all events", wait::LONG, async || {
        let records = read(folder.path());
        let all = EVENTS.iter().all(|event| told(&records, *event));
        all && told(&records, ("GetCallerIdentity", HERE))
    })
    .await;
    drop(dev);
    let mut records = read(folder.path());
    records.retain(|record| record["recipientAccountId"] != OTHER);
    check_against_table(&records);

    let all: String = records.iter().map(|record| format!("{record}\n")).collect();
    assert!(walker.secrets.len() > 30, "{}", walker.secrets.len());
    for secret in &walker.secrets {
        assert!(
            secret.is_empty() || !all.contains(secret.as_str()),
            "{secret} is in a record"
        );
    }
    for told in [
        "the first plaintext",
        "a message that is signed",
        "material in a tag",
    ] {
        assert!(!all.contains(told), "{told} is in a record");
    }
    let ids: BTreeSet<_> = records
        .iter()
        .map(|record| text(record, "eventID"))
        .collect();
    assert_eq!(ids.len(), records.len(), "event ids differ");
    check_against_golden(&records);
}
