//! Calls of every operation, and all the secrets that were in them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyrum_tests::Dev;
use keyrum_tests::http::Raw;
use keyrum_tests::import::wrap;
use keyrum_tests::sdk::{HERE, THERE};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const OTHER: &str = "444455556666";

/// Members of requests and answers that no record may show.
const SECRET: &[&str] = &[
    "AttestationDocument",
    "Ciphertext",
    "CiphertextBlob",
    "CiphertextForRecipient",
    "EncryptedKeyMaterial",
    "GrantToken",
    "GrantTokens",
    "ImportToken",
    "KeyStorePassword",
    "Mac",
    "Message",
    "Plaintext",
    "PrivateKeyCiphertextBlob",
    "PrivateKeyPlaintext",
    "PublicKey",
    "RawSecretAccessKey",
    "SharedSecret",
    "SharedSecretCiphertextBlob",
    "Signature",
];

/// A client that remembers every secret it sent or got.
pub(crate) struct Walker {
    url: String,
    pub(crate) secrets: BTreeSet<String>,
}

fn blob(text: &str) -> String {
    STANDARD.encode(text)
}

impl Walker {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            secrets: BTreeSet::new(),
        }
    }

    fn remember(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if SECRET.contains(&name.as_str()) {
                        let texts = match value {
                            Value::Array(values) => values.iter().collect(),
                            value => vec![value],
                        };
                        let texts = texts.into_iter().filter_map(Value::as_str);
                        self.secrets.extend(texts.map(str::to_owned));
                    }
                    self.remember(value);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.remember(value)),
            _ => {}
        }
    }

    /// Calls an operation, as whoever in whichever Region.
    pub(crate) async fn ask(
        &mut self,
        (account, region): (&str, &str),
        operation: &str,
        body: Value,
    ) -> Value {
        self.remember(&body);
        let request = Raw::kms(operation, body.to_string()).signed(account, region);
        let request = request.header("user-agent", "walker");
        let answer = request.send(&self.url).await.expect("an answer");
        let value = match answer.body.is_empty() {
            true => Value::Null,
            false => answer.json(),
        };
        self.remember(&value);
        value
    }

    /// The same, which must succeed.
    pub(crate) async fn call(&mut self, operation: &str, body: Value) -> Value {
        let answer = self.ask((ACCOUNT, HERE), operation, body.clone()).await;
        assert!(answer["__type"].is_null(), "{operation} {body}: {answer}");
        answer
    }

    /// The same, which must fail with this code.
    pub(crate) async fn fails(&mut self, operation: &str, body: Value, code: &str) {
        let answer = self.ask((ACCOUNT, HERE), operation, body.clone()).await;
        assert_eq!(answer["__type"], code, "{operation} {body}: {answer}");
    }

    async fn key(&mut self, body: Value) -> String {
        let made = self.call("CreateKey", body).await;
        made["KeyMetadata"]["KeyId"]
            .as_str()
            .expect("an id")
            .to_owned()
    }
}

/// Calls every operation that there is with success, and those that are missing.
pub(crate) async fn walk(walker: &mut Walker, dev: &Dev) {
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Resource": "*", "Action": "kms:*",
            "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
        }],
    })
    .to_string();
    let tags = json!([{ "TagKey": "Team", "TagValue": "red" }]);
    let key = json!({
        "Description": "first", "Tags": tags, "Policy": policy, "MultiRegion": true,
        "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", "Origin": "AWS_KMS",
        "BypassPolicyLockoutSafetyCheck": false,
    });
    let key = walker.key(key).await;
    let on_key = || json!({ "KeyId": key });
    encryption(walker, &key).await;
    asymmetric(walker).await;
    import(walker).await;

    let alias = |name: &str| json!({ "AliasName": name, "TargetKeyId": key });
    walker.call("CreateAlias", alias("alias/one")).await;
    walker.call("UpdateAlias", alias("alias/one")).await;
    walker
        .call("DeleteAlias", json!({ "AliasName": "alias/one" }))
        .await;
    grants(walker, &key).await;

    for (operation, body) in [
        ("DescribeKey", on_key()),
        ("GetKeyLastUsage", on_key()),
        (
            "GetKeyPolicy",
            json!({ "KeyId": key, "PolicyName": "default" }),
        ),
        ("ListKeyPolicies", json!({ "KeyId": key, "Limit": 5 })),
        ("ListResourceTags", json!({ "KeyId": key, "Limit": 5 })),
        ("ListAliases", json!({ "KeyId": key })),
        ("ListKeys", json!({ "Limit": 7 })),
        ("TagResource", json!({ "KeyId": key, "Tags": tags })),
        (
            "UntagResource",
            json!({ "KeyId": key, "TagKeys": ["Team"] }),
        ),
        (
            "UpdateKeyDescription",
            json!({ "KeyId": key, "Description": "second" }),
        ),
        (
            "PutKeyPolicy",
            json!({
                "KeyId": key, "PolicyName": "default", "Policy": policy,
                "BypassPolicyLockoutSafetyCheck": true,
            }),
        ),
        ("DisableKey", on_key()),
        ("EnableKey", on_key()),
        (
            "EnableKeyRotation",
            json!({ "KeyId": key, "RotationPeriodInDays": 90 }),
        ),
        ("GetKeyRotationStatus", on_key()),
        ("DisableKeyRotation", on_key()),
        ("RotateKeyOnDemand", on_key()),
        (
            "ListKeyRotations",
            json!({ "KeyId": key, "IncludeKeyMaterial": "ALL_KEY_MATERIAL" }),
        ),
        (
            "ScheduleKeyDeletion",
            json!({ "KeyId": key, "PendingWindowInDays": 7 }),
        ),
        ("CancelKeyDeletion", on_key()),
        ("EnableKey", on_key()),
        (
            "ReplicateKey",
            json!({
                "KeyId": key, "ReplicaRegion": THERE, "Description": "there", "Policy": policy,
                "BypassPolicyLockoutSafetyCheck": true, "Tags": tags,
            }),
        ),
    ] {
        walker.call(operation, body).await;
    }
    let there = (ACCOUNT, THERE);
    keyrum_tests::wait::until_true("replica", keyrum_tests::wait::LONG, async || {
        let replica = walker.ask(there, "DescribeKey", on_key()).await;
        replica["KeyMetadata"]["KeyState"] == "Enabled"
    })
    .await;
    walker.call("RotateKeyOnDemand", on_key()).await;
    walker
        .call(
            "UpdatePrimaryRegion",
            json!({ "KeyId": key, "PrimaryRegion": THERE }),
        )
        .await;
    stores(walker).await;
    refusals(walker, &key).await;

    let doomed = walker.key(json!({})).await;
    let body = json!({ "KeyId": doomed, "PendingWindowInDays": 7 });
    walker.call("ScheduleKeyDeletion", body).await;
    let mut command = std::process::Command::new(keyrum_tests::keyrum());
    command.args(["clock", "advance", "8d", "--data"]);
    let output = command.arg(dev.ready.data()).output().expect("a command");
    assert!(output.status.success(), "{output:?}");
}

async fn encryption(walker: &mut Walker, key: &str) {
    let context = json!({ "Team": "red", "eventID": "blue" });
    let encrypted = walker
        .call(
            "Encrypt",
            json!({ "KeyId": key, "Plaintext": blob("the first plaintext"), "EncryptionContext": context }),
        )
        .await;
    let ciphertext = encrypted["CiphertextBlob"].clone();
    let decrypt = json!({ "CiphertextBlob": ciphertext, "EncryptionContext": context });
    walker.call("Decrypt", decrypt).await;
    walker
        .call(
            "ReEncrypt",
            json!({
                "CiphertextBlob": ciphertext, "SourceEncryptionContext": context,
                "SourceKeyId": key, "DestinationKeyId": key,
                "DestinationEncryptionContext": { "Other": "green" },
            }),
        )
        .await;
    let data_key = json!({ "KeyId": key, "KeySpec": "AES_256", "EncryptionContext": context });
    walker.call("GenerateDataKey", data_key).await;
    let data_key = json!({ "KeyId": key, "NumberOfBytes": 24 });
    walker
        .call("GenerateDataKeyWithoutPlaintext", data_key)
        .await;
    let pair =
        json!({ "KeyId": key, "KeyPairSpec": "ECC_NIST_P256", "EncryptionContext": context });
    walker.call("GenerateDataKeyPair", pair.clone()).await;
    walker
        .call("GenerateDataKeyPairWithoutPlaintext", pair)
        .await;
    walker
        .call("GenerateRandom", json!({ "NumberOfBytes": 32 }))
        .await;
}

async fn asymmetric(walker: &mut Walker) {
    let of = |spec: &str, usage: &str| json!({ "KeySpec": spec, "KeyUsage": usage });
    let signs = walker.key(of("ECC_NIST_P256", "SIGN_VERIFY")).await;
    let message = blob("a message that is signed");
    let sign = json!({
        "KeyId": signs, "Message": message, "MessageType": "RAW",
        "SigningAlgorithm": "ECDSA_SHA_256",
    });
    let signed = walker.call("Sign", sign.clone()).await;
    let mut verify = sign;
    verify["Signature"] = signed["Signature"].clone();
    walker.call("Verify", verify).await;
    walker.call("GetPublicKey", json!({ "KeyId": signs })).await;

    let macs = walker.key(of("HMAC_256", "GENERATE_VERIFY_MAC")).await;
    let mac = json!({ "KeyId": macs, "Message": message, "MacAlgorithm": "HMAC_SHA_256" });
    let made = walker.call("GenerateMac", mac.clone()).await;
    let mut verify = mac;
    verify["Mac"] = made["Mac"].clone();
    walker.call("VerifyMac", verify).await;

    let agrees = walker.key(of("ECC_NIST_P384", "KEY_AGREEMENT")).await;
    let public = walker
        .call("GetPublicKey", json!({ "KeyId": agrees }))
        .await;
    walker
        .call(
            "DeriveSharedSecret",
            json!({
                "KeyId": agrees, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public["PublicKey"],
            }),
        )
        .await;
    let encapsulates = walker
        .key(of("ML_KEM_768", "ENCAPSULATE_DECAPSULATE"))
        .await;
    let body = json!({ "KeyId": encapsulates, "EncapsulationAlgorithm": "ML_KEM" });
    let made = walker.call("Encapsulate", body.clone()).await;
    let mut back = body;
    back["SharedSecretCiphertextBlob"] = made["SharedSecretCiphertextBlob"].clone();
    walker.call("Decapsulate", back).await;
}

async fn import(walker: &mut Walker) {
    const ALGORITHM: &str = "RSAES_OAEP_SHA_256";
    // LocalStack's way to give a key's material, which `dev` takes: the tag's value is a secret.
    let given = blob("material in a tag, 32 bytes long");
    walker.secrets.insert(given.clone());
    let tags = json!([{ "TagKey": "_custom_key_material_", "TagValue": given }]);
    walker.key(json!({ "Tags": tags })).await;

    for (expires, deleted) in [(false, true), (true, false)] {
        let key = walker.key(json!({ "Origin": "EXTERNAL" })).await;
        let asked = json!({
            "KeyId": key, "WrappingAlgorithm": ALGORITHM, "WrappingKeySpec": "RSA_2048",
        });
        let parameters = walker.call("GetParametersForImport", asked).await;
        let public = parameters["PublicKey"].as_str().expect("a key");
        let public = STANDARD.decode(public).expect("base64");
        let wrapped = STANDARD.encode(wrap(ALGORITHM, &public, &[7; 32]));
        let mut body = json!({
            "KeyId": key, "ImportToken": parameters["ImportToken"],
            "EncryptedKeyMaterial": wrapped, "ImportType": "NEW_KEY_MATERIAL",
            "KeyMaterialDescription": "brought along",
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
        });
        if expires {
            body["ExpirationModel"] = "KEY_MATERIAL_EXPIRES".into();
            let day_ms = 24 * 3600 * 1000;
            let at = keyrum_consensus::world::World::real().clock.now().0 + day_ms;
            body["ValidTo"] = (at / 1000).into();
        }
        let made = walker.call("ImportKeyMaterial", body).await;
        if deleted {
            let body = json!({ "KeyId": key, "KeyMaterialId": made["KeyMaterialId"] });
            walker.call("DeleteImportedKeyMaterial", body).await;
        }
    }
}

async fn grants(walker: &mut Walker, key: &str) {
    let root = format!("arn:aws:iam::{ACCOUNT}:root");
    let grant = |name: &str| {
        json!({
            "KeyId": key, "GranteePrincipal": root, "RetiringPrincipal": root,
            "Operations": ["Encrypt", "Decrypt"], "Name": name,
            "Constraints": { "EncryptionContextSubset": { "Team": "red" } },
        })
    };
    let made = walker.call("CreateGrant", grant("one")).await;
    let list = json!({ "KeyId": key, "GrantId": made["GrantId"], "Limit": 3 });
    walker.call("ListGrants", list).await;
    let list = json!({ "RetiringPrincipal": root, "Limit": 3 });
    walker.call("ListRetirableGrants", list).await;
    // Tells the same grant, and makes none.
    walker.call("CreateGrant", grant("one")).await;
    walker
        .call(
            "Encrypt",
            json!({
                "KeyId": key, "Plaintext": blob("with a token"), "GrantTokens": [made["GrantToken"]],
            }),
        )
        .await;
    walker
        .call("RetireGrant", json!({ "GrantToken": made["GrantToken"] }))
        .await;
    let made = walker.call("CreateGrant", grant("two")).await;
    let revoke = json!({ "KeyId": key, "GrantId": made["GrantId"] });
    walker.call("RevokeGrant", revoke).await;
}

/// Operations that Keyrum does not have.
async fn stores(walker: &mut Walker) {
    let id = json!({ "CustomKeyStoreId": "cks-0123456789" });
    let mut made = json!({
        "CustomKeyStoreName": "store", "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
        "KeyStorePassword": "aKeyStorePassword",
        "XksProxyUriEndpoint": "https://xks.example.com", "XksProxyUriPath": "/kms/xks/v1",
        "XksProxyConnectivity": "PUBLIC_ENDPOINT",
        "XksProxyAuthenticationCredential": {
            "AccessKeyId": "ABCDEFGHIJKLMNOPQRST",
            "RawSecretAccessKey": "aSecretAccessKeyOfAProxyOfKeysWith43Letters0",
        },
    });
    let unsupported = "UnsupportedOperationException";
    walker
        .fails("CreateCustomKeyStore", made.clone(), unsupported)
        .await;
    let members = made.as_object_mut().expect("an object");
    members.retain(|name, _| name.starts_with("Xks") || name == "KeyStorePassword");
    members.insert(
        "CustomKeyStoreId".to_owned(),
        id["CustomKeyStoreId"].clone(),
    );
    walker
        .fails("UpdateCustomKeyStore", made, unsupported)
        .await;
    for operation in [
        "ConnectCustomKeyStore",
        "DeleteCustomKeyStore",
        "DescribeCustomKeyStores",
        "DisconnectCustomKeyStore",
    ] {
        walker.fails(operation, id.clone(), unsupported).await;
    }
}

/// Calls that are refused, in each way that a record shows differently.
async fn refusals(walker: &mut Walker, key: &str) {
    let encrypt = json!({ "KeyId": key, "Plaintext": blob("a dry run"), "DryRun": true });
    walker
        .fails("Encrypt", encrypt, "DryRunOperationException")
        .await;
    let missing = json!({ "KeyId": "alias/missing" });
    walker
        .fails("DescribeKey", missing, "NotFoundException")
        .await;
    // The service model's message repeats what it was sent.
    let token = "a token with a space in it is none";
    let wrong = json!({ "KeyId": "", "Plaintext": "", "GrantTokens": [token] });
    walker.fails("Encrypt", wrong, "ValidationException").await;
    let wrong =
        json!({ "KeyId": key, "Plaintext": blob("no token"), "GrantTokens": ["made-up-token"] });
    walker
        .fails("Encrypt", wrong, "InvalidGrantTokenException")
        .await;
    let foreign = json!({ "KeyId": format!("arn:aws:kms:{HERE}:{OTHER}:key/{key}") });
    walker
        .fails("DescribeKey", foreign, "AccessDeniedException")
        .await;
    let missing = json!({ "AliasName": "alias/missing" });
    walker
        .fails("DeleteAlias", missing, "NotFoundException")
        .await;
}
