//! Notes every call of a run, for the checkers and the report.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyrum_types::{Entropy, NodeId};
use ring::hmac;
use serde_json::Value;

use crate::experiment::{Call, Outcome};

/// Members that hold secrets, or long bytes that only have to be told apart. Source: what the
/// service model calls a blob or sensitive, and grant tokens and session credentials.
const FINGERPRINTED: [&str; 20] = [
    "AttestationDocument",
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
    "SecretAccessKey",
    "SessionToken",
    "SharedSecret",
    "SharedSecretCiphertextBlob",
    "Signature",
];

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 8;

/// Notes calls; clones note in the same place. One that is off notes nothing.
#[derive(Clone, Default)]
pub struct Recorder(Option<Arc<Inner>>);

struct Inner {
    /// Microseconds since the run began.
    now_us: Box<dyn Fn() -> u64 + Send + Sync>,
    key: hmac::Key,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    clients: Vec<String>,
    calls: Vec<Call>,
    last_us: u64,
}

/// What a call asks for.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Who calls.
    pub client: usize,
    /// The Region's name.
    pub region: &'a str,
    /// The node, if the client chose it.
    pub node: Option<NodeId>,
    /// Such as `CreateKey`.
    pub operation: &'a str,
    /// The account it is made as, if not the one that unsigned callers have.
    pub caller: Option<&'a str>,
    /// How it reads; the node's way if `None`.
    pub reads: Option<Cow<'static, str>>,
    /// The call's input.
    pub input: &'a Value,
}

impl Recorder {
    /// A recorder that tells the time by `now_us`, microseconds since the run began.
    pub fn new(now_us: impl Fn() -> u64 + Send + Sync + 'static, entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Self(Some(Arc::new(Inner {
            now_us: Box::new(now_us),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            notes: Mutex::default(),
        })))
    }

    /// One that notes nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether it notes anything.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A number for a client of this name.
    pub fn client(&self, name: &str) -> usize {
        let Some(inner) = &self.0 else { return 0 };
        let mut notes = inner.notes();
        notes.clients.push(name.to_owned());
        notes.clients.len() - 1
    }

    /// The time. No two moments that are asked for are alike, so that what happened first is
    /// always earlier.
    pub fn now_us(&self) -> u64 {
        let Some(inner) = &self.0 else { return 0 };
        let mut notes = inner.notes();
        notes.last_us = (notes.last_us + 1).max((inner.now_us)());
        notes.last_us
    }

    /// A call begins. Gives its number, which means nothing if the recorder is off.
    pub fn begins(&self, asked: Asked<'_>) -> usize {
        let start_us = self.now_us();
        let Some(inner) = &self.0 else { return 0 };
        let call = Call {
            client: asked.client,
            start_us,
            end_us: None,
            region: asked.region.to_owned(),
            node: asked.node,
            operation: asked.operation.to_owned(),
            caller: asked.caller.map(str::to_owned),
            reads: asked.reads,
            input: inner.without_secrets(asked.input),
            outcome: Outcome::Unknown("the run ended first".to_owned()),
        };
        let mut notes = inner.notes();
        notes.calls.push(call);
        notes.calls.len() - 1
    }

    /// A call has ended for its client.
    pub fn ended(&self, number: usize, outcome: &Outcome) {
        let end_us = self.now_us();
        let Some(inner) = &self.0 else { return };
        let outcome = match outcome {
            Outcome::Done(answer) => Outcome::Done(inner.without_secrets(answer)),
            other => other.clone(),
        };
        let mut notes = inner.notes();
        let call = &mut notes.calls[number];
        (call.end_us, call.outcome) = (Some(end_us), outcome);
    }

    /// The ids of all keys whose creation has been acknowledged, if they begin so.
    pub fn created(&self, prefix: &str) -> Vec<String> {
        let Some(inner) = &self.0 else {
            return Vec::new();
        };
        let notes = inner.notes();
        let made = notes
            .calls
            .iter()
            .filter(|call| call.operation == "CreateKey");
        let ids = made.filter_map(|call| match &call.outcome {
            Outcome::Done(answer) => answer["KeyMetadata"]["KeyId"].as_str(),
            _ => None,
        });
        let wanted = ids.filter(|id| id.starts_with(prefix));
        wanted.map(str::to_owned).collect()
    }

    /// All clients, and all calls in the order in which they began.
    pub fn take(&self) -> (Vec<String>, Vec<Call>) {
        let Some(inner) = &self.0 else {
            return Default::default();
        };
        let mut notes = inner.notes();
        (
            std::mem::take(&mut notes.clients),
            std::mem::take(&mut notes.calls),
        )
    }
}

impl Inner {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value with fingerprints in the place of what is not to stand in a history.
    fn without_secrets(&self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| {
                    let hidden = FINGERPRINTED.binary_search(&name.as_str()).is_ok();
                    let value = match hidden {
                        true => self.fingerprints(value),
                        false => self.without_secrets(value),
                    };
                    (name.clone(), value)
                };
                Value::Object(members.iter().map(member).collect())
            }
            Value::Array(items) => items
                .iter()
                .map(|item| self.without_secrets(item))
                .collect(),
            other => other.clone(),
        }
    }

    fn fingerprints(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.fingerprints(item)).collect(),
            Value::String(text) => self.fingerprint(text),
            other => self.fingerprint(&other.to_string()),
        }
    }

    fn fingerprint(&self, text: &str) -> Value {
        use std::fmt::Write as _;
        let tag = hmac::sign(&self.key, text.as_bytes());
        let mut shown = String::from("#");
        for byte in &tag.as_ref()[..FINGERPRINT_BYTES] {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{byte:02x}");
        }
        Value::String(shown)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(1);
        }
    }

    fn recorder() -> Recorder {
        let at = AtomicU64::new(10);
        Recorder::new(move || at.swap(5, Ordering::Relaxed), &Ones)
    }

    /// Catches a secret in a history, or two that cannot be told apart there.
    #[test]
    fn secrets_are_fingerprints() {
        let recorder = recorder();
        let client = recorder.client("c");
        let note = |text: &str| {
            let input = json!({ "KeyId": "k", "Plaintext": text, "GrantTokens": [text],
                "Deep": [{ "Message": text }] });
            let number = recorder.begins(Asked {
                client,
                region: "us-east-1",
                node: None,
                operation: "Encrypt",
                caller: None,
                reads: None,
                input: &input,
            });
            recorder.ended(number, &Outcome::Done(json!({ "Mac": text })));
        };
        ["secret", "secret", "other"].into_iter().for_each(note);
        let (_, calls) = recorder.take();
        let shown = serde_json::to_string(&calls).unwrap();
        assert!(
            !shown.contains("secret") && !shown.contains("other"),
            "{shown}"
        );
        assert_eq!(calls[0].input["KeyId"], "k");
        assert_eq!(calls[0].input, calls[1].input);
        assert_eq!(calls[0].outcome, calls[1].outcome);
        assert_ne!(calls[0].input["GrantTokens"], calls[2].input["GrantTokens"]);
        assert_ne!(calls[0].input["Deep"], calls[2].input["Deep"]);
    }

    /// Catches a member that the service model calls a blob or sensitive and that is written as it is.
    #[test]
    fn all_blobs_of_the_service_model_are_fingerprinted() {
        let model = include_str!("../../../server/model/kms-service-model.json");
        let model: Value = serde_json::from_str(model).unwrap();
        let shapes = model["shapes"].as_object().unwrap();
        let mut seen = 0;
        let shows = ["AccessKeyId"];
        for members in shapes
            .values()
            .filter_map(|shape| shape["members"].as_object())
        {
            for (name, member) in members {
                let shape = &shapes[member["shape"].as_str().unwrap()];
                let secret = shape["type"] == "blob" || shape["sensitive"] == true;
                if secret && !shows.contains(&name.as_str()) {
                    assert!(FINGERPRINTED.contains(&name.as_str()), "{name}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen}");
        assert!(FINGERPRINTED.is_sorted());
    }

    /// Catches a history in which what happened later has the same time or an earlier one.
    #[test]
    fn time_only_grows() {
        let recorder = recorder();
        let times = [recorder.now_us(), recorder.now_us(), recorder.now_us()];
        assert_eq!(times, [10, 11, 12]);
    }
}
