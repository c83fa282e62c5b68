//! Key material that callers bring.

use keyrum_tests::Dev;
use keyrum_tests::import::{openssl, wrap};
use serde_json::{Value, json};

use super::{CHINA, rotation};
use crate::kms::{Kms, Refused};
use crate::prepared::{KINDS, Kind, SYMMETRIC, blob, bytes, import, new_key};

const NEVER: &str = "KEY_MATERIAL_DOES_NOT_EXPIRE";

pub(super) async fn walk(kms: &Kms, dev: &Dev) {
    parameters(kms).await;
    imports(kms).await;
    for operation in [
        "DeleteImportedKeyMaterial",
        "GetParametersForImport",
        "ImportKeyMaterial",
    ] {
        let own = new_key(kms, SYMMETRIC, false).await;
        let body = json!({
            "KeyId": own,
            "WrappingAlgorithm": "RSAES_OAEP_SHA_256",
            "WrappingKeySpec": "RSA_2048",
            "ImportToken": blob("x"),
            "EncryptedKeyMaterial": blob("x"),
            "ExpirationModel": NEVER,
        });
        kms.no(operation, body, "UnsupportedOperationException")
            .await;
    }
    let agrees = new_key(kms, KINDS[3], false).await;
    let brought = new_key(kms, KINDS[3].imported(), false).await;
    let body = import(kms, &brought, "ECC_NIST_P256", &openssl("p256.pkcs8")).await;
    kms.ok("ImportKeyMaterial", body).await;
    let peer = kms.ok("GetPublicKey", json!({"KeyId": agrees})).await;
    let body = json!({"KeyAgreementAlgorithm": "ECDH", "PublicKey": peer["PublicKey"]});
    let origin = async |answer: &Value| answer["KeyOrigin"].clone();
    let ids = [agrees.into(), brought.into()];
    kms.vary("DeriveSharedSecret", &body, "/KeyId", &ids, origin)
        .await;

    let late = new_key(kms, SYMMETRIC.imported(), false).await;
    let late = import(kms, &late, "SYMMETRIC_DEFAULT", &[5; 32]).await;
    rotation::advance(dev, "25h");
    kms.no("ImportKeyMaterial", late, "ExpiredImportTokenException")
        .await;
}

async fn parameters(kms: &Kms) {
    let symmetric = new_key(kms, SYMMETRIC.imported(), false).await;
    let curve = new_key(kms, KINDS[2].imported(), false).await;
    for (id, material, algorithms) in [
        (
            &symmetric,
            vec![5; 32],
            ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"],
        ),
        (
            &curve,
            openssl("p256.pkcs8"),
            ["RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"],
        ),
    ] {
        // Which of them unwraps tells which was asked for.
        let taken = async |answer: &Value| {
            let mut seen = Vec::new();
            for algorithm in algorithms {
                let wrapped = wrap(algorithm, &bytes(&answer["PublicKey"]), &material);
                let body = json!({
                    "KeyId": id,
                    "ImportToken": answer["ImportToken"],
                    "EncryptedKeyMaterial": blob(wrapped),
                    "ExpirationModel": NEVER,
                });
                seen.push(kms.ask("ImportKeyMaterial", &body).await.is_ok());
            }
            assert_eq!(seen.iter().filter(|taken| **taken).count(), 1);
            json!(seen)
        };
        let body = json!({"KeyId": id, "WrappingKeySpec": "RSA_2048"});
        let choices = algorithms.map(Value::from);
        let operation = "GetParametersForImport";
        kms.vary(operation, &body, "/WrappingAlgorithm", &choices, taken)
            .await;
    }
    let length = async |answer: &Value| bytes(&answer["PublicKey"]).len().into();
    let body = json!({"KeyId": symmetric, "WrappingAlgorithm": "RSAES_OAEP_SHA_256"});
    let specs = ["RSA_2048", "RSA_3072", "RSA_4096"].map(Value::from);
    kms.vary(
        "GetParametersForImport",
        &body,
        "/WrappingKeySpec",
        &specs,
        length,
    )
    .await;
    let china = kms.in_region(CHINA);
    let sm2 = Kind {
        spec: "SM2",
        ..KINDS[2].imported()
    };
    let sm2 = new_key(&china, sm2, false).await;
    let body = json!({"KeyId": sm2, "WrappingAlgorithm": "SM2PKE", "WrappingKeySpec": "SM2"});
    let specs = ["SM2", "RSA_2048"].map(Value::from);
    china
        .vary(
            "GetParametersForImport",
            &body,
            "/WrappingKeySpec",
            &specs,
            length,
        )
        .await;
    let choices = ["SM2PKE", "RSAES_OAEP_SHA_256"].map(Value::from);
    china
        .vary(
            "GetParametersForImport",
            &body,
            "/WrappingAlgorithm",
            &choices,
            length,
        )
        .await;
    // The real service has long refused it.
    let body = json!({"KeyId": symmetric, "WrappingKeySpec": "RSA_2048"});
    let choices = ["RSAES_PKCS1_V1_5", "RSAES_OAEP_SHA_256"].map(Value::from);
    let answers = kms
        .vary(
            "GetParametersForImport",
            &body,
            "/WrappingAlgorithm",
            &choices,
            length,
        )
        .await;
    let message = "Wrapping algorithm RSAES_PKCS1_V1_5 and wrapping key spec RSA_2048 cannot be used to \
                   import a SYMMETRIC_DEFAULT key.";
    let refused = Refused::new("ValidationException", message);
    assert_eq!(answers[0].as_ref(), Err(&refused));
}

async fn imports(kms: &Kms) {
    let operation = "ImportKeyMaterial";
    let id = new_key(kms, SYMMETRIC.imported(), false).await;
    let other = new_key(kms, SYMMETRIC.imported(), false).await;
    let key = json!({"KeyId": id});
    let body = import(kms, &id, "SYMMETRIC_DEFAULT", &[5; 32]).await;
    let foreign = import(kms, &other, "SYMMETRIC_DEFAULT", &[5; 32]).await;
    let done = async |_: &Value| json!("done");
    let tokens = [foreign["ImportToken"].clone(), body["ImportToken"].clone()];
    kms.vary(operation, &body, "/ImportToken", &tokens, done)
        .await;
    let wrong = json!({"KeyId": id, "ImportToken": blob("x"), "EncryptedKeyMaterial": blob("x"), "ExpirationModel": NEVER});
    kms.no(operation, wrong, "InvalidImportTokenException")
        .await;
    let wrapped = [body["EncryptedKeyMaterial"].clone(), blob([9; 256])];
    kms.vary(operation, &body, "/EncryptedKeyMaterial", &wrapped, done)
        .await;

    let told = async |what: &'static str| {
        kms.ok("DescribeKey", key.clone()).await["KeyMetadata"][what].clone()
    };
    // A day ahead of the service's clock.
    let parameters = json!({"KeyId": id, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"});
    let parameters = kms.ok("GetParametersForImport", parameters).await;
    let day = parameters["ParametersValidTo"]
        .as_f64()
        .expect("a time")
        .floor();
    let mut expiring = body.clone();
    expiring["ExpirationModel"] = "KEY_MATERIAL_EXPIRES".into();
    let dates = [day.into(), (day + 86_400.0).into()];
    let until = async |_: &Value| told("ValidTo").await;
    kms.vary(operation, &expiring, "/ValidTo", &dates, until)
        .await;
    expiring["ValidTo"] = (day + 90_000.0).into();
    let model = async |_: &Value| told("ExpirationModel").await;
    let models = ["KEY_MATERIAL_EXPIRES".into(), NEVER.into()];
    kms.vary(operation, &expiring, "/ExpirationModel", &models, model)
        .await;
    let models = [NEVER.into(), Value::Null];
    kms.vary(operation, &body, "/ExpirationModel", &models, model)
        .await;

    let listed = async || {
        let body = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
        kms.ok("ListKeyRotations", body).await["Rotations"].clone()
    };
    let texts = ["a", "b"].map(Value::from);
    let described = async |_: &Value| listed().await[0]["KeyMaterialDescription"].clone();
    let pointer = "/KeyMaterialDescription";
    kms.vary(operation, &body, pointer, &texts, described).await;
    let mut expiring = body.clone();
    expiring["ExpirationModel"] = "KEY_MATERIAL_EXPIRES".into();
    expiring["ValidTo"] = day.into();
    kms.ok(operation, expiring).await;
    assert_eq!(listed().await[0]["ValidTo"], day);
    let current = told("CurrentKeyMaterialId").await;
    let ids = [current.clone(), "f".repeat(64).into()];
    kms.vary(operation, &body, "/KeyMaterialId", &ids, done)
        .await;
    let types = ["EXISTING_KEY_MATERIAL", "NEW_KEY_MATERIAL"].map(Value::from);
    kms.vary(operation, &body, "/ImportType", &types, done)
        .await;
    let second = import(kms, &id, "SYMMETRIC_DEFAULT", &[6; 32]).await;
    kms.vary(operation, &second, "/ImportType", &types, done)
        .await;

    let states = async |_: &Value| listed().await;
    let entries = listed().await;
    let pending = entries[1]["KeyMaterialId"].clone();
    assert_eq!(entries[1]["KeyMaterialState"], "PENDING_ROTATION");
    kms.vary(
        "DeleteImportedKeyMaterial",
        &key,
        "/KeyMaterialId",
        &[pending, current],
        states,
    )
    .await;
    assert_eq!(told("KeyState").await, "PendingImport");
}
