//! Walks the service model: every operation, every member and enumeration value of requests and
//! answers takes part in a call that succeeds and depends on it, and every error of an operation is
//! provoked. What is left over is printed, and must be what is listed here.

mod common;
mod crypto;
mod disk;
mod faults;
mod grants;
mod imports;
mod keys;
mod lists;
mod managed;
mod recipients;
mod relatives;
mod rotation;
mod signing;

use std::collections::BTreeSet;

use keyrum_tests::Dev;
use keyrum_tests::attestation::Hypervisor;
use keyrum_tests::recipients::root_file;
use keyrum_tests::sdk::{HERE, THERE, account_of};

use crate::kms::Kms;
use crate::seen::{Point, Seen, Way, all_points, operations};

/// The Region of another partition, where China's algorithms are.
const CHINA: &str = "cn-north-1";

/// Some points, told from the others.
type Part = fn(&Point) -> bool;

/// What Keyrum never produces, with the reason. At most ten.
const EXCEPTIONS: [(&str, Part); 8] = [
    (
        "KeyUnavailableException: nothing says when the real service answers it (?); keys are never \
         unavailable alone here",
        |point| error(point, &[], "KeyUnavailableException"),
    ),
    (
        "KMSInvalidStateException of what key-states.csv lets pass in every state",
        |point| {
            let operations = [
                "DeleteAlias",
                "GetKeyPolicy",
                "GetKeyRotationStatus",
                "ListGrants",
                "ListKeyPolicies",
                "ListKeyRotations",
                "PutKeyPolicy",
                "RetireGrant",
                "RevokeGrant",
            ];
            error(point, &operations, "KMSInvalidStateException")
        },
    ),
    (
        "DisabledException and InvalidKeyUsageException of GetPublicKey: key-states.csv lets disabled \
         keys pass, and no usage is refused (?)",
        |point| {
            error(point, &["GetPublicKey"], "DisabledException")
                || error(point, &["GetPublicKey"], "InvalidKeyUsageException")
        },
    ),
    (
        "InvalidAliasNameException: the real service answers ValidationException or \
         NotAuthorizedException (?)",
        |point| error(point, &["CreateAlias"], "InvalidAliasNameException"),
    ),
    (
        "LimitExceededException of EnableKey and TagResource: no limit on enabled keys is known (?), \
         and too many tags are a TagException (?)",
        |point| {
            error(
                point,
                &["EnableKey", "TagResource"],
                "LimitExceededException",
            )
        },
    ),
    (
        "UnsupportedOperationException of PutKeyPolicy: other policy names are a ValidationException (?)",
        |point| error(point, &["PutKeyPolicy"], "UnsupportedOperationException"),
    ),
    (
        "KMSInternalException of GenerateRandom: it needs no disk and nobody else",
        |point| error(point, &["GenerateRandom"], "KMSInternalException"),
    ),
    (
        "the second page of a key's policies, of which there is one, and CloudTrail's event ids, since \
         there is no CloudTrail",
        |point| {
            [
                member(Way::In, "ListKeyPoliciesRequest", "Marker"),
                member(Way::Out, "ListKeyPoliciesResponse", "NextMarker"),
                member(Way::Out, "KeyLastUsageData", "CloudTrailEventId"),
            ]
            .contains(point)
        },
    ),
];

/// Answers' members that can have one value only, which all answers must have.
const CONSTANT: [(&str, &str, &str); 8] = [
    (
        "DecapsulateResponse",
        "EncapsulationAlgorithm",
        "\"ML_KEM\"",
    ),
    (
        "EncapsulateResponse",
        "EncapsulationAlgorithm",
        "\"ML_KEM\"",
    ),
    (
        "DeriveSharedSecretResponse",
        "KeyAgreementAlgorithm",
        "\"ECDH\"",
    ),
    ("VerifyResponse", "SignatureValid", "true"),
    ("VerifyMacResponse", "MacValid", "true"),
    ("GetKeyPolicyResponse", "PolicyName", "\"default\""),
    ("ListKeyPoliciesResponse", "PolicyNames", "[\"default\"]"),
    ("ListKeyPoliciesResponse", "Truncated", "false"),
];

/// Values of requests that exist to be refused, by the real service's own documents.
const REFUSED: [(&str, &str); 1] = [("AlgorithmSpec", "RSAES_PKCS1_V1_5")];

fn member(way: Way, shape: &str, name: &str) -> Point {
    Point::Member(way, shape.to_owned(), name.to_owned())
}

fn value(way: Way, shape: &str, name: &str) -> Point {
    Point::Value(way, shape.to_owned(), name.to_owned())
}

/// Whether a point is this error of one of these operations; of any if none is named.
fn error(point: &Point, operations: &[&str], wanted: &str) -> bool {
    match point {
        Point::Error(operation, code) => {
            code == wanted && (operations.is_empty() || operations.contains(&operation.as_str()))
        }
        _ => false,
    }
}

/// What only custom key stores have, which Keyrum does not.
fn custom_key_stores(point: &Point) -> bool {
    match point {
        Point::Error(operation, code) => {
            let origins = ["GetKeyRotationStatus", "ListKeyRotations"];
            ["CustomKeyStore", "CloudHsm", "Xks"]
                .iter()
                .any(|kind| code.starts_with(kind))
                || error(point, &origins, "UnsupportedOperationException") && !operation.is_empty()
        }
        Point::Member(_, shape, name) => {
            let names = [
                "CustomKeyStoreId",
                "CloudHsmClusterId",
                "XksKeyId",
                "XksKeyConfiguration",
            ];
            shape == "XksKeyConfigurationType" || names.contains(&name.as_str())
        }
        Point::Value(_, _, value) => {
            ["AWS_CLOUDHSM", "EXTERNAL_KEY_STORE", "Unavailable"].contains(&value.as_str())
        }
        Point::Operation(_) => false,
    }
}

fn judge(seen: &Seen) {
    let walked = operations().filter(|name| !name.contains("CustomKeyStore"));
    let walked: Vec<_> = walked.collect();
    let all = all_points(walked.iter().copied());
    let constant = |point: &Point| match point {
        Point::Member(Way::Out, shape, name) => {
            let found = CONSTANT
                .iter()
                .find(|known| (known.0, known.1) == (shape, name));
            found.is_some_and(|known| seen.only_value(shape, name) == Some(known.2))
        }
        _ => false,
    };
    let mut missing: BTreeSet<_> = all.iter().filter(|point| !seen.has(point)).collect();
    println!(
        "{} operations, {} parts of the model, {} seen",
        walked.len(),
        all.len(),
        all.len() - missing.len()
    );
    let mut take = |what: &str, part: &dyn Fn(&Point) -> bool| {
        let taken: Vec<_> = missing
            .iter()
            .copied()
            .filter(|point| part(point))
            .collect();
        for point in &taken {
            missing.remove(*point);
        }
        println!("{what}: {}", taken.len());
        taken
    };
    let refused = |point: &Point| {
        let mut known = REFUSED.iter();
        known.any(|(shape, name)| *point == value(Way::In, shape, name)) && seen.refused(point)
    };
    let _ = take("one value only", &constant);
    let _ = take("always refused", &refused);
    let _ = take("custom key stores", &custom_key_stores);
    for (number, (reason, part)) in EXCEPTIONS.iter().enumerate() {
        let taken = take(&format!("exception {}: {reason}", number + 1), &part);
        for point in &taken {
            println!("    {point}");
        }
        assert!(!taken.is_empty(), "no exception any more: {reason}");
    }
    for point in &missing {
        println!("not walked: {point}");
    }
    assert!(
        missing.is_empty(),
        "{} parts were not walked",
        missing.len()
    );
    // The real service sends these, too: a number of keys, and newer specs under the older name.
    let known = |strange: &&String| {
        *strange == "ListKeysResponse.KeyCount" || strange.starts_with("CustomerMasterKeySpec ")
    };
    assert_eq!(seen.strange.iter().find(|strange| !known(strange)), None);
}

/// Catches an operation, member, enumeration value or error of the service model that Keyrum lacks,
/// does not heed, or answers in another shape.
#[tokio::test]
async fn the_model_is_walked() {
    let regions = [HERE, THERE, "us-west-2", CHINA].join(",");
    let hypervisor = Hypervisor::make();
    let root = root_file(&hypervisor);
    let dev = Dev::start(&[
        "--ephemeral",
        "--attestation-root",
        root.path().to_str().unwrap(),
        "--nodes",
        "1",
        "--regions",
        &regions,
        "--hold-transient",
        "2s",
    ])
    .await;
    let kms = Kms::at(&dev.ready.endpoint, &account_of("model"), HERE);
    // That takes a while, most of which the others wait.
    let filled = grants::too_many(&kms);
    let walked = async {
        common::walk(&kms).await;
        keys::walk(&kms).await;
        lists::walk(&kms).await;
        grants::walk(&kms).await;
        crypto::walk(&kms).await;
        recipients::walk(&kms, &hypervisor).await;
        signing::walk(&kms).await;
        imports::walk(&kms, &dev).await;
        relatives::walk(&kms).await;
        managed::walk(&kms).await;
        rotation::walk(&kms, &dev).await;
    };
    futures_util::future::join(filled, walked).await;
    faults::walk(&kms).await;
    disk::walk(&kms).await;
    judge(&kms.seen.lock().unwrap());
}
