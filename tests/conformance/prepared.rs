//! Keys of every kind with what each operation needs to be tried on them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyrum_tests::import::{openssl, wrap};
use serde_json::{Value, json};

use crate::kms::Kms;

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) spec: &'static str,
    pub(crate) usage: &'static str,
    /// Whether its material is imported.
    pub(crate) imported: bool,
}

const fn kind(spec: &'static str, usage: &'static str) -> Kind {
    let imported = false;
    Kind {
        spec,
        usage,
        imported,
    }
}

pub(crate) const SYMMETRIC: Kind = kind("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
pub(crate) const MAC: Kind = kind("HMAC_256", "GENERATE_VERIFY_MAC");

/// One of each usage, and each of them imported, which ML-KEM's cannot be.
pub(crate) const KINDS: [Kind; 11] = [
    SYMMETRIC,
    kind("RSA_2048", "ENCRYPT_DECRYPT"),
    kind("ECC_NIST_P256", "SIGN_VERIFY"),
    kind("ECC_NIST_P256", "KEY_AGREEMENT"),
    kind("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
    MAC,
    SYMMETRIC.imported(),
    kind("RSA_2048", "ENCRYPT_DECRYPT").imported(),
    kind("ECC_NIST_P256", "SIGN_VERIFY").imported(),
    kind("ECC_NIST_P256", "KEY_AGREEMENT").imported(),
    MAC.imported(),
];

impl Kind {
    pub(crate) const fn imported(self) -> Self {
        Self {
            imported: true,
            ..self
        }
    }

    /// The same with the service's own material.
    pub(crate) fn made_here(self) -> Self {
        kind(self.spec, self.usage)
    }

    pub(crate) fn is_symmetric(self) -> bool {
        self.spec == "SYMMETRIC_DEFAULT"
    }

    /// How it encrypts; as symmetric keys if it does not.
    fn encryption(self) -> &'static str {
        match self.spec {
            "RSA_2048" => "RSAES_OAEP_SHA_256",
            _ => "SYMMETRIC_DEFAULT",
        }
    }
}

pub(crate) fn blob(bytes: impl AsRef<[u8]>) -> Value {
    BASE64_STANDARD.encode(bytes).into()
}

pub(crate) fn bytes(blob: &Value) -> Vec<u8> {
    let text = blob.as_str().expect("a blob");
    BASE64_STANDARD.decode(text).expect("base64")
}

/// A key with what it made while it could, in one Region.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) arn: String,
    /// A ciphertext, signature, MAC or the like, by the kind's usage.
    made: Value,
    /// An import of the same material once more; null for keys that have none.
    again: Value,
    /// A key of the same kind that stays as it is.
    twin: String,
    /// A symmetric key that stays as it is, and a ciphertext of it.
    pub(crate) other: String,
    other_blob: Value,
    policy: String,
    /// Of the key, of its twin, and of none.
    aliases: [String; 3],
    /// One to retire and one to revoke.
    grants: [String; 2],
    /// A token of the second; null if there are none.
    pub(crate) token: Value,
}

/// A new key, without anything.
pub(crate) async fn new_key(kms: &Kms, kind: Kind, multi: bool) -> String {
    let origin = match kind.imported {
        true => "EXTERNAL",
        false => "AWS_KMS",
    };
    let body = json!({"KeySpec": kind.spec, "KeyUsage": kind.usage, "MultiRegion": multi, "Origin": origin});
    let made = kms.ok("CreateKey", body).await;
    let id = made["KeyMetadata"]["KeyId"].as_str();
    id.expect("a key has an id").to_owned()
}

/// An ImportKeyMaterial of such material that never expires, not sent yet.
pub(crate) async fn import(kms: &Kms, id: &str, spec: &str, material: &[u8]) -> Value {
    let algorithm = match spec.starts_with("RSA_") {
        true => "RSA_AES_KEY_WRAP_SHA_256",
        false => "RSAES_OAEP_SHA_256",
    };
    let body = json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"});
    let parameters = kms.ok("GetParametersForImport", body).await;
    let wrapped = wrap(algorithm, &bytes(&parameters["PublicKey"]), material);
    json!({
        "KeyId": id,
        "ImportToken": parameters["ImportToken"],
        "EncryptedKeyMaterial": blob(wrapped),
        "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
    })
}

/// The material that the imported key of a kind gets.
fn material(spec: &str) -> Vec<u8> {
    match spec {
        "RSA_2048" => openssl("rsa2048.pkcs8"),
        "ECC_NIST_P256" => openssl("p256.pkcs8"),
        _ => vec![5; 32],
    }
}

/// What keys of one Region share.
pub(crate) struct Bench {
    pub(crate) kms: Kms,
    other: String,
    other_blob: Value,
    policy: String,
    aliases: std::cell::Cell<u32>,
}

/// A key as it was made, before it has names in a Region.
#[derive(Debug, Clone)]
pub(crate) struct Fresh {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    made: Value,
    again: Value,
}

impl Fresh {
    /// A new key that is Enabled.
    pub(crate) async fn new(kms: &Kms, kind: Kind, multi: bool) -> Self {
        let id = new_key(kms, kind, multi).await;
        let mut again = Value::Null;
        if kind.imported {
            again = import(kms, &id, kind.spec, &material(kind.spec)).await;
            kms.ok("ImportKeyMaterial", again.clone()).await;
            if kind.is_symmetric() {
                // So that there is something to rotate to.
                let mut second = import(kms, &id, kind.spec, &[6; 32]).await;
                second["ImportType"] = "NEW_KEY_MATERIAL".into();
                kms.ok("ImportKeyMaterial", second).await;
            }
        }
        let made = make(kms, kind, &id).await;
        Self {
            kind,
            id,
            made,
            again,
        }
    }
}

impl Fresh {
    /// Imports the material in another Region, too.
    pub(crate) async fn import_in(&mut self, kms: &Kms) {
        let spec = self.kind.spec;
        self.again = import(kms, &self.id, spec, &material(spec)).await;
        kms.ok("ImportKeyMaterial", self.again.clone()).await;
    }
}

/// What a key of that kind makes, or is given, for the operation that takes it.
async fn make(kms: &Kms, kind: Kind, id: &str) -> Value {
    let message = blob("x");
    let (operation, mut body, member) = match kind.usage {
        "ENCRYPT_DECRYPT" => (
            "Encrypt",
            json!({"Plaintext": message, "EncryptionAlgorithm": kind.encryption()}),
            "CiphertextBlob",
        ),
        "SIGN_VERIFY" => (
            "Sign",
            json!({"Message": message, "SigningAlgorithm": "ECDSA_SHA_256"}),
            "Signature",
        ),
        "GENERATE_VERIFY_MAC" => (
            "GenerateMac",
            json!({"Message": message, "MacAlgorithm": "HMAC_SHA_256"}),
            "Mac",
        ),
        "KEY_AGREEMENT" => ("GetPublicKey", json!({}), "PublicKey"),
        _ => (
            "Encapsulate",
            json!({"EncapsulationAlgorithm": "ML_KEM"}),
            "SharedSecretCiphertextBlob",
        ),
    };
    body["KeyId"] = id.into();
    kms.ok(operation, body).await[member].clone()
}

/// A grant's id that no grant has.
pub(crate) const NO_GRANT: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// A grant that a key of any kind can have, to the key's own account.
fn key_grant(arn: &str) -> Value {
    let account = arn.split(':').nth(4).expect("an ARN has an account");
    json!({
        "KeyId": arn,
        "GranteePrincipal": format!("arn:aws:iam::{account}:root"),
        "Operations": ["DescribeKey"],
    })
}

impl Bench {
    pub(crate) async fn at(kms: &Kms) -> Self {
        let other = new_key(kms, SYMMETRIC, false).await;
        let policy = kms.ok("GetKeyPolicy", json!({"KeyId": other})).await;
        let policy = policy["Policy"].as_str().expect("a policy").to_owned();
        Self {
            kms: kms.clone(),
            other_blob: make(kms, SYMMETRIC, &other).await,
            other,
            policy,
            aliases: std::cell::Cell::new(0),
        }
    }

    /// A key of another Region or this one, with names here.
    pub(crate) async fn furnish(&self, fresh: &Fresh, twin: &str) -> Prepared {
        let mut key = Prepared {
            kind: fresh.kind,
            id: fresh.id.clone(),
            arn: self.kms.arn(&format!("key/{}", fresh.id)),
            made: fresh.made.clone(),
            again: fresh.again.clone(),
            twin: twin.to_owned(),
            other: self.other.clone(),
            other_blob: self.other_blob.clone(),
            policy: self.policy.clone(),
            aliases: Default::default(),
            grants: [NO_GRANT, NO_GRANT].map(str::to_owned),
            token: Value::Null,
        };
        for grant in &mut key.grants {
            // A replica that is being created takes none.
            if let Ok(granted) = self.kms.ask("CreateGrant", &key_grant(&key.arn)).await {
                *grant = granted["GrantId"].as_str().expect("an id").to_owned();
                key.token = granted["GrantToken"].clone();
            }
        }
        for name in &mut key.aliases {
            *name = format!("alias/prepared-{}", self.aliases.get());
            self.aliases.set(self.aliases.get() + 1);
        }
        for (name, target) in key.aliases.iter().zip([&key.id, &key.twin]) {
            let body = json!({"AliasName": name, "TargetKeyId": target});
            self.kms.ok("CreateAlias", body).await;
        }
        key
    }
}

impl Prepared {
    /// What a row of the table of states is run with.
    pub(crate) fn body(&self, row: &str) -> Value {
        let id = &self.id;
        let other = |wanted: &str| match self.kind.usage == wanted {
            true => self.made.clone(),
            false => self.other_blob.clone(),
        };
        let [own, of_twin, free] = &self.aliases;
        match row {
            "CreateAlias" => json!({"AliasName": free, "TargetKeyId": id}),
            "DeleteAlias" => json!({"AliasName": own}),
            "UpdateAlias" => json!({"AliasName": of_twin, "TargetKeyId": id}),
            "Decapsulate" => json!({
                "KeyId": id,
                "EncapsulationAlgorithm": "ML_KEM",
                "SharedSecretCiphertextBlob": other("ENCAPSULATE_DECAPSULATE"),
            }),
            "Encapsulate" => json!({"KeyId": id, "EncapsulationAlgorithm": "ML_KEM"}),
            "Decrypt" => json!({
                "KeyId": id,
                "CiphertextBlob": other("ENCRYPT_DECRYPT"),
                "EncryptionAlgorithm": self.kind.encryption(),
            }),
            "ReEncrypt" => json!({
                "SourceKeyId": id,
                "CiphertextBlob": other("ENCRYPT_DECRYPT"),
                "SourceEncryptionAlgorithm": self.kind.encryption(),
                "DestinationKeyId": self.other,
            }),
            "ReEncrypt destination" => json!({
                "CiphertextBlob": self.other_blob,
                "DestinationKeyId": id,
                "DestinationEncryptionAlgorithm": self.kind.encryption(),
            }),
            "Encrypt" => json!({
                "KeyId": id,
                "Plaintext": blob("x"),
                "EncryptionAlgorithm": self.kind.encryption(),
            }),
            "DeriveSharedSecret" => json!({
                "KeyId": id,
                "KeyAgreementAlgorithm": "ECDH",
                "PublicKey": other("KEY_AGREEMENT"),
            }),
            "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => {
                json!({"KeyId": id, "NumberOfBytes": 8})
            }
            "GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext" => {
                json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"})
            }
            "GenerateMac" => {
                json!({"KeyId": id, "Message": blob("x"), "MacAlgorithm": "HMAC_SHA_256"})
            }
            "VerifyMac" => json!({
                "KeyId": id,
                "Message": blob("x"),
                "MacAlgorithm": "HMAC_SHA_256",
                "Mac": other("GENERATE_VERIFY_MAC"),
            }),
            "Sign" => {
                json!({"KeyId": id, "Message": blob("x"), "SigningAlgorithm": "ECDSA_SHA_256"})
            }
            "Verify" => json!({
                "KeyId": id,
                "Message": blob("x"),
                "SigningAlgorithm": "ECDSA_SHA_256",
                "Signature": other("SIGN_VERIFY"),
            }),
            "GetParametersForImport" => json!({
                "KeyId": id,
                "WrappingAlgorithm": match self.kind.spec {
                    "RSA_2048" => "RSA_AES_KEY_WRAP_SHA_256",
                    _ => "RSAES_OAEP_SHA_256",
                },
                "WrappingKeySpec": "RSA_2048",
            }),
            "ImportKeyMaterial" if self.again.is_null() => json!({
                "KeyId": id,
                "ImportToken": blob("x"),
                "EncryptedKeyMaterial": blob("x"),
                "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
            }),
            "ImportKeyMaterial" => self.again.clone(),
            "PutKeyPolicy" => json!({"KeyId": id, "Policy": self.policy}),
            "ReplicateKey" => json!({"KeyId": id, "ReplicaRegion": "us-west-2"}),
            "UpdatePrimaryRegion" => json!({"KeyId": id, "PrimaryRegion": "eu-west-1"}),
            "TagResource" => {
                json!({"KeyId": id, "Tags": [{"TagKey": "a", "TagValue": "b"}]})
            }
            "UntagResource" => json!({"KeyId": id, "TagKeys": ["a"]}),
            "CreateGrant" => key_grant(&self.arn),
            "ListRetirableGrants" => {
                json!({"RetiringPrincipal": key_grant(&self.arn)["GranteePrincipal"]})
            }
            "RetireGrant" => json!({"KeyId": self.arn, "GrantId": self.grants[0]}),
            "RevokeGrant" => json!({"KeyId": id, "GrantId": self.grants[1]}),
            "UpdateKeyDescription" => json!({"KeyId": id, "Description": "new"}),
            _ => json!({"KeyId": id}),
        }
    }
}
