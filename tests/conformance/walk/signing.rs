//! Sign, Verify and GetPublicKey.

use serde_json::{Value, json};

use super::CHINA;
use crate::kms::Kms;
use crate::prepared::{KINDS, Kind, MAC, blob, new_key};

const ALGORITHMS: [(&str, &[&str]); 8] = [
    (
        "RSA_2048",
        &[
            "RSASSA_PSS_SHA_256",
            "RSASSA_PSS_SHA_384",
            "RSASSA_PSS_SHA_512",
            "RSASSA_PKCS1_V1_5_SHA_256",
            "RSASSA_PKCS1_V1_5_SHA_384",
            "RSASSA_PKCS1_V1_5_SHA_512",
        ],
    ),
    ("ECC_NIST_P256", &["ECDSA_SHA_256", "ECDSA_SHA_384"]),
    ("ECC_NIST_P384", &["ECDSA_SHA_384", "ECDSA_SHA_512"]),
    ("ECC_NIST_P521", &["ECDSA_SHA_512", "ECDSA_SHA_256"]),
    ("ECC_NIST_EDWARDS25519", &["ED25519_SHA_512", "SM2DSA"]),
    ("ECC_NIST_EDWARDS25519", &["ED25519_PH_SHA_512", "SM2DSA"]),
    ("ML_DSA_44", &["ML_DSA_SHAKE_256", "ECDSA_SHA_256"]),
    ("SM2", &["SM2DSA", "ECDSA_SHA_256"]),
];

/// Which ways of reading a 64-byte message a signature holds for.
async fn holds(kms: &Kms, request: &Value, answer: &Value) -> Value {
    let mut seen = vec![answer["SigningAlgorithm"].clone()];
    for how in ["RAW", "DIGEST", "EXTERNAL_MU"] {
        let mut body = request.clone();
        body["MessageType"] = how.into();
        body["Signature"] = answer["Signature"].clone();
        body["SigningAlgorithm"] = answer["SigningAlgorithm"].clone();
        let answer = kms.ask("Verify", &body).await;
        seen.push(
            answer
                .is_ok_and(|answer| answer["SignatureValid"] == true)
                .into(),
        );
    }
    Value::Array(seen)
}

pub(super) async fn walk(kms: &Kms) {
    let (usage, imported) = ("SIGN_VERIFY", false);
    for (spec, algorithms) in ALGORITHMS {
        let kms = match spec {
            "SM2" => kms.in_region(CHINA),
            _ => kms.clone(),
        };
        let kind = Kind {
            spec,
            usage,
            imported,
        };
        let id = new_key(&kms, kind, false).await;
        let mut body = json!({"KeyId": id, "Message": blob([7; 64])});
        if algorithms[0] == "ED25519_PH_SHA_512" {
            body["MessageType"] = "DIGEST".into();
        }
        let choices: Vec<Value> = algorithms.iter().map(|&name| name.into()).collect();
        let look = async |answer: &Value| {
            let seen = holds(&kms, &body, answer).await;
            assert!(
                seen.as_array()
                    .is_some_and(|seen| seen.contains(&true.into()))
            );
            seen
        };
        let answers = kms
            .vary("Sign", &body, "/SigningAlgorithm", &choices, look)
            .await;
        let signed = answers[0].as_ref().expect("a signature");
        let mut body = body.clone();
        body["Signature"] = signed["Signature"].clone();
        let valid = async |answer: &Value| answer["SignatureValid"].clone();
        let wanted = [choices[0].clone(), choices[1].clone()];
        kms.vary("Verify", &body, "/SigningAlgorithm", &wanted, valid)
            .await;
        body["SigningAlgorithm"] = choices[0].clone();
        let messages = [blob([7; 64]), blob([8; 64])];
        kms.vary("Verify", &body, "/Message", &messages, valid)
            .await;
        let signatures = [body["Signature"].clone(), blob("nonsense")];
        kms.vary("Verify", &body, "/Signature", &signatures, valid)
            .await;
        let looked = async |_: &Value| {
            let used = kms.ok("GetKeyLastUsage", json!({"KeyId": id}));
            used.await["KeyLastUsage"]["Operation"].clone()
        };
        assert_eq!(looked(&Value::Null).await, "Verify");
        let mut body = json!({"KeyId": id, "SigningAlgorithm": choices[0]});
        if algorithms[0] == "ED25519_PH_SHA_512" {
            body["MessageType"] = "DIGEST".into();
        }
        let first = signed["Signature"].clone();
        let same = async |answer: &Value| {
            let mut body = body.clone();
            body["Message"] = messages[0].clone();
            body["Signature"] = answer["Signature"].clone();
            kms.ask("Verify", &body).await.is_ok().into()
        };
        kms.vary("Sign", &body, "/Message", &messages, same).await;
        assert!(first.is_string());
        let mut body = body.clone();
        body["Message"] = messages[0].clone();
        kms.ok("Sign", body).await;
        assert_eq!(looked(&Value::Null).await, "Sign");
    }

    for (spec, algorithm, how) in [
        ("ECC_NIST_P521", "ECDSA_SHA_512", ["RAW", "DIGEST"]),
        ("ML_DSA_65", "ML_DSA_SHAKE_256", ["RAW", "EXTERNAL_MU"]),
    ] {
        let kind = Kind {
            spec,
            usage,
            imported,
        };
        let id = new_key(kms, kind, false).await;
        let message = blob([7; 64]);
        let body = json!({"KeyId": id, "Message": message, "SigningAlgorithm": algorithm});
        let choices = how.map(Value::from);
        let look = async |answer: &Value| holds(kms, &body, answer).await;
        let answers = kms
            .vary("Sign", &body, "/MessageType", &choices, look)
            .await;
        for (at, answer) in answers.into_iter().enumerate() {
            let mut body = body.clone();
            body["Signature"] = answer.expect("a signature")["Signature"].clone();
            let other = [choices[at].clone(), choices[1 - at].clone()];
            let valid = async |answer: &Value| answer["SignatureValid"].clone();
            kms.vary("Verify", &body, "/MessageType", &other, valid)
                .await;
        }
    }

    let shown = async |answer: &Value| answer["PublicKey"].clone();
    let mut ids: Vec<Value> = Vec::new();
    for kind in [KINDS[1], KINDS[2], KINDS[3], KINDS[4]] {
        ids.push(new_key(kms, kind, false).await.into());
    }
    kms.vary("GetPublicKey", &json!({}), "/KeyId", &ids, shown)
        .await;
    let mac = json!({"KeyId": new_key(kms, MAC, false).await});
    kms.no("GetPublicKey", mac, "UnsupportedOperationException")
        .await;
}
