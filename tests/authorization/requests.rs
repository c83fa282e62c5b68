//! Each operation as a request that would succeed, on keys made for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyrum_tests::import::wrap;
use keyrum_tests::wait;
use serde_json::{Value, json};

use crate::people::{Answer, At, OWNER, Person, on_key, policy};

/// What all requests of a test share.
pub(crate) struct Bench {
    pub(crate) here: At,
    pub(crate) there: At,
    /// May do everything to every key, since the key's policy names it.
    pub(crate) keeper: Person,
    names: AtomicU32,
}

/// A request, with the ARNs of what it touches by the names that tables have for them.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) operation: String,
    pub(crate) body: Value,
    pub(crate) places: BTreeMap<&'static str, String>,
}

/// How its keys are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setting {
    /// Statements of the key's policy, beside the keeper's.
    pub(crate) key: Vec<Value>,
    /// The same of a second key, or of the same key in the second Region.
    pub(crate) second: Vec<Value>,
    /// Who has a grant for all that a key of the kind can be granted for.
    pub(crate) holder: Option<String>,
    /// Whether the request shows the grants' tokens.
    pub(crate) with_token: bool,
}

/// Stands for the key that a request would have made.
const NEW: &str = "key/NEW";

/// An answer that names no key but [`NEW`].
pub(crate) fn of_new_key(answer: Answer) -> Answer {
    answer.map_err(|(code, message)| {
        let (before, rest) = message.split_once("key/").expect("it names a key");
        let (_, after) = rest.split_once(' ').expect("it says why");
        (code, format!("{before}{NEW} {after}"))
    })
}

pub(crate) fn blob(bytes: impl AsRef<[u8]>) -> Value {
    BASE64_STANDARD.encode(bytes).into()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Spec, usage, origin, and whether it is a multi-Region key.
fn kind(operation: &str) -> (&'static str, &'static str, &'static str, bool) {
    let symmetric = ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let (spec, usage) = match operation {
        "Decapsulate" | "Encapsulate" => ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
        "DeriveSharedSecret" => ("ECC_NIST_P256", "KEY_AGREEMENT"),
        "GenerateMac" | "VerifyMac" => ("HMAC_256", "GENERATE_VERIFY_MAC"),
        "GetPublicKey" | "Sign" | "Verify" => ("ECC_NIST_P256", "SIGN_VERIFY"),
        _ => symmetric,
    };
    let external = [
        "DeleteImportedKeyMaterial",
        "GetParametersForImport",
        "ImportKeyMaterial",
    ];
    let origin = match external.contains(&operation) {
        true => "EXTERNAL",
        false => "AWS_KMS",
    };
    let multi = ["ReplicateKey", "UpdatePrimaryRegion"].contains(&operation);
    (spec, usage, origin, multi)
}

/// What a key of a usage can be granted for.
pub(crate) fn grantable(usage: &str) -> Vec<&'static str> {
    let own: &[&str] = match usage {
        "ENCRYPT_DECRYPT" => &[
            "Encrypt",
            "Decrypt",
            "GenerateDataKey",
            "GenerateDataKeyWithoutPlaintext",
            "GenerateDataKeyPair",
            "GenerateDataKeyPairWithoutPlaintext",
            "ReEncryptFrom",
            "ReEncryptTo",
        ],
        "SIGN_VERIFY" => &["Sign", "Verify", "GetPublicKey"],
        "GENERATE_VERIFY_MAC" => &["GenerateMac", "VerifyMac"],
        "KEY_AGREEMENT" => &["DeriveSharedSecret", "GetPublicKey"],
        _ => &["Encapsulate", "Decapsulate", "GetPublicKey"],
    };
    [own, &["CreateGrant", "DescribeKey", "RetireGrant"]].concat()
}

/// Statements with which any principal with kms:* of its own may do all.
pub(crate) fn root_statement() -> Value {
    let root = format!("arn:aws:iam::{OWNER}:root");
    on_key("Allow", &root, &["kms:*".to_owned()])
}

impl Bench {
    pub(crate) fn new(here: At, there: At, keeper: Person) -> Self {
        let names = AtomicU32::new(0);
        Self {
            here,
            there,
            keeper,
            names,
        }
    }

    /// A policy that lets the keeper do everything.
    pub(crate) fn policy(&self, statements: &[Value]) -> String {
        let keeper = on_key("Allow", &self.keeper.arn, &["kms:*".to_owned()]);
        policy(&[&[keeper], statements].concat())
    }

    pub(crate) fn name(&self) -> String {
        format!("alias/made-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks as the keeper.
    pub(crate) async fn ok(&self, operation: &str, body: Value) -> Value {
        self.here.ok(&self.keeper, operation, body).await
    }

    /// A key of the kind that an operation needs; its ARN.
    pub(crate) async fn key(&self, operation: &str, statements: &[Value]) -> String {
        let (spec, usage, origin, multi) = kind(operation);
        let body = json!({
            "KeySpec": spec,
            "KeyUsage": usage,
            "Origin": origin,
            "MultiRegion": multi,
            "Policy": self.policy(statements),
        });
        text(&self.ok("CreateKey", body).await["KeyMetadata"]["Arn"])
    }

    /// Adds a replica in the second Region and waits until it is there; its ARN.
    pub(crate) async fn replica(&self, key: &str, statements: &[Value]) -> String {
        let there = self.there.region;
        let body = json!({"KeyId": key, "ReplicaRegion": there, "Policy": self.policy(statements)});
        let made = self.ok("ReplicateKey", body).await;
        let replica = text(&made["ReplicaKeyMetadata"]["Arn"]);
        for (at, arn) in [(&self.there, &replica), (&self.here, &key.to_owned())] {
            wait::until_true("Enabled key", wait::LONG, async || {
                let body = json!({"KeyId": arn});
                let seen = at.once(&self.keeper, "DescribeKey", &body).await;
                seen.is_ok_and(|seen| seen["KeyMetadata"]["KeyState"] == "Enabled")
            })
            .await;
        }
        replica
    }

    pub(crate) async fn grant(&self, key: &str, grantee: &str, operations: &[&str]) -> Value {
        let body = json!({"KeyId": key, "GranteePrincipal": grantee, "Operations": operations});
        self.ok("CreateGrant", body).await
    }

    pub(crate) async fn alias(&self, target: &str) -> String {
        let name = self.name();
        let body = json!({"AliasName": name, "TargetKeyId": target});
        self.ok("CreateAlias", body).await;
        name
    }

    /// What a key made of something, for the operation that takes it.
    async fn made(&self, key: &str, operation: &str, mut body: Value, member: &str) -> Value {
        body["KeyId"] = key.into();
        self.ok(operation, body).await[member].clone()
    }

    pub(crate) async fn ciphertext(&self, key: &str) -> Value {
        let body = json!({"Plaintext": blob("x")});
        self.made(key, "Encrypt", body, "CiphertextBlob").await
    }

    /// An import, not sent yet.
    async fn import_of(&self, key: &str) -> Value {
        let parameters = self.ok("GetParametersForImport", for_import(key)).await;
        let public = BASE64_STANDARD.decode(text(&parameters["PublicKey"]));
        let public = public.expect("base64");
        json!({
            "KeyId": key,
            "ImportToken": parameters["ImportToken"],
            "EncryptedKeyMaterial": blob(wrap("RSAES_OAEP_SHA_256", &public, &[5; 32])),
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
        })
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:kms:{}:{OWNER}:{name}", self.here.region)
    }

    /// Prepares what a row of a table asks for.
    pub(crate) async fn prepare(&self, row: &str, setting: &Setting) -> Prepared {
        let operation = row.split(' ').next().expect("a name").to_owned();
        let mut places = BTreeMap::from([
            ("*", "*".to_owned()),
            ("new key", self.arn(NEW)),
            ("principal", self.keeper.arn.clone()),
            (
                "blob",
                "the resource associated with this ciphertext".to_owned(),
            ),
        ]);
        let without_key = [
            "CreateKey",
            "GenerateRandom",
            "ListKeys",
            "ListRetirableGrants",
        ];
        if without_key.contains(&&*operation) || row == "ListAliases" {
            let body = match row {
                "CreateKey (tags)" => json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
                "GenerateRandom" => json!({"NumberOfBytes": 8}),
                "ListRetirableGrants" => json!({"RetiringPrincipal": self.keeper.arn}),
                _ => json!({}),
            };
            return Prepared {
                operation,
                body,
                places,
            };
        }
        let key = self.key(&operation, &setting.key).await;
        places.insert("key", key.clone());
        let there = key.replace(self.here.region, self.there.region);
        places.insert("replica", there);
        if ["ReEncrypt", "UpdateAlias"].contains(&&*operation) {
            let second = self.key(&operation, &setting.second).await;
            places.insert("second", second);
        }
        if operation == "UpdatePrimaryRegion" {
            places.insert("there", self.replica(&key, &setting.second).await);
        }
        // Without material it takes no grants.
        let has_grants = setting.holder.is_some() && kind(&operation).2 == "EXTERNAL";
        if has_grants || operation == "DeleteImportedKeyMaterial" {
            let import = self.import_of(&key).await;
            self.ok("ImportKeyMaterial", import).await;
        }
        let mut granted = Value::Null;
        let mut tokens = Vec::new();
        if let Some(holder) = &setting.holder {
            let (_, usage, _, _) = kind(&operation);
            for place in ["second", "key"] {
                if let Some(key) = places.get(place) {
                    granted = self.grant(key, holder, &grantable(usage)).await;
                    tokens.push(granted["GrantToken"].clone());
                }
            }
        }
        let mut body = self.body(row, &key, &mut places).await;
        match (&*operation, setting.with_token) {
            ("RetireGrant", true) => body = json!({"GrantToken": granted["GrantToken"]}),
            ("RetireGrant", false) if setting.holder.is_some() => {
                body["GrantId"] = granted["GrantId"].clone();
            }
            (_, true) => body["GrantTokens"] = tokens.into(),
            (_, false) => {}
        }
        Prepared {
            operation,
            body,
            places,
        }
    }

    async fn body(
        &self,
        row: &str,
        key: &str,
        places: &mut BTreeMap<&'static str, String>,
    ) -> Value {
        let mac = json!({"KeyId": key, "Message": blob("x"), "MacAlgorithm": "HMAC_SHA_256"});
        let sign = json!({"KeyId": key, "Message": blob("x"), "SigningAlgorithm": "ECDSA_SHA_256"});
        let with = |mut body: Value, member: &str, value: Value| {
            body[member] = value;
            body
        };
        let second = places.get("second").cloned().unwrap_or_default();
        let mut named = |name: &str| _ = places.insert("alias", self.arn(name));
        match row {
            "CancelKeyDeletion" => {
                self.ok("ScheduleKeyDeletion", json!({"KeyId": key})).await;
                json!({"KeyId": key})
            }
            "CreateAlias" => {
                let name = self.name();
                named(&name);
                json!({"AliasName": name, "TargetKeyId": key})
            }
            "DeleteAlias" => {
                let name = self.alias(key).await;
                named(&name);
                json!({"AliasName": name})
            }
            "UpdateAlias" => {
                let name = self.alias(key).await;
                named(&name);
                json!({"AliasName": name, "TargetKeyId": second})
            }
            "CreateGrant" => json!({
                "KeyId": key,
                "GranteePrincipal": self.keeper.arn,
                "Operations": ["Encrypt"],
            }),
            "Decapsulate" => {
                let body = json!({"EncapsulationAlgorithm": "ML_KEM"});
                let member = "SharedSecretCiphertextBlob";
                let made = self.made(key, "Encapsulate", body.clone(), member).await;
                with(with(body, "KeyId", key.into()), member, made)
            }
            "Encapsulate" => json!({"KeyId": key, "EncapsulationAlgorithm": "ML_KEM"}),
            "Decrypt" => json!({"KeyId": key, "CiphertextBlob": self.ciphertext(key).await}),
            "Decrypt (no KeyId)" => json!({"CiphertextBlob": self.ciphertext(key).await}),
            "ReEncrypt" => json!({
                "SourceKeyId": key,
                "CiphertextBlob": self.ciphertext(key).await,
                "DestinationKeyId": second,
            }),
            "ReEncrypt (no SourceKeyId)" => json!({
                "CiphertextBlob": self.ciphertext(key).await,
                "DestinationKeyId": second,
            }),
            "DeriveSharedSecret" => {
                let public = self.made(key, "GetPublicKey", json!({}), "PublicKey");
                json!({
                    "KeyId": key,
                    "KeyAgreementAlgorithm": "ECDH",
                    "PublicKey": public.await,
                })
            }
            "EnableKey" => {
                self.ok("DisableKey", json!({"KeyId": key})).await;
                json!({"KeyId": key})
            }
            "Encrypt" => json!({"KeyId": key, "Plaintext": blob("x")}),
            "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => {
                json!({"KeyId": key, "NumberOfBytes": 8})
            }
            "GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext" => {
                json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})
            }
            "GenerateMac" => mac,
            "VerifyMac" => {
                let made = self.made(key, "GenerateMac", mac.clone(), "Mac").await;
                with(mac, "Mac", made)
            }
            "Sign" => sign,
            "Verify" => {
                let made = self.made(key, "Sign", sign.clone(), "Signature").await;
                with(sign, "Signature", made)
            }
            "GetParametersForImport" => for_import(key),
            "ImportKeyMaterial" => self.import_of(key).await,
            "PutKeyPolicy" => json!({
                "KeyId": key,
                "Policy": self.policy(&[]),
                "BypassPolicyLockoutSafetyCheck": true,
            }),
            "ReplicateKey" => json!({"KeyId": key, "ReplicaRegion": self.there.region}),
            "ReplicateKey (tags)" => json!({
                "KeyId": key,
                "ReplicaRegion": self.there.region,
                "Tags": [{"TagKey": "a", "TagValue": "b"}],
            }),
            "UpdatePrimaryRegion" => json!({"KeyId": key, "PrimaryRegion": self.there.region}),
            "RetireGrant" | "RevokeGrant" => {
                let granted = self.grant(key, &self.keeper.arn, &["Encrypt"]).await;
                json!({"KeyId": key, "GrantId": granted["GrantId"]})
            }
            "TagResource" => json!({"KeyId": key, "Tags": [{"TagKey": "a", "TagValue": "b"}]}),
            "UntagResource" => json!({"KeyId": key, "TagKeys": ["a"]}),
            "UpdateKeyDescription" => json!({"KeyId": key, "Description": "new"}),
            _ => json!({"KeyId": key}),
        }
    }
}

fn for_import(key: &str) -> Value {
    json!({
        "KeyId": key,
        "WrappingAlgorithm": "RSAES_OAEP_SHA_256",
        "WrappingKeySpec": "RSA_2048",
    })
}
