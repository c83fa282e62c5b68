//! What was encrypted decrypts to the same in every member of its key that can be used.
//!
//! Ciphertexts and plaintexts are compared by their fingerprints. Whether a refusal for a key's state
//! is right is `linearizable`'s to judge; here a refusal is wrong that no state explains: that a
//! ciphertext is none of its key's, or that the key is not there though nothing has deleted it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Sight;
use super::model::names::{key_in, key_of, text};
use crate::experiment::{Call, Experiment, Judgement, Outcome};

/// A ciphertext that a call gave out.
struct Ciphertext<'e> {
    made_by: usize,
    region: &'e str,
    caller: Option<String>,
    key: String,
    plaintext: Option<&'e Value>,
    context: &'e Value,
    algorithm: &'e str,
}

/// Judges `decryptable`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("decryptable");
    let known = ciphertexts(experiment);
    let deleted = deleted(experiment);
    let mut decrypted = 0;
    for (number, call) in experiment.calls.iter().enumerate() {
        let (blob, algorithm) = match call.operation.as_str() {
            "Decrypt" => (&call.input["CiphertextBlob"], "EncryptionAlgorithm"),
            "ReEncrypt" => (&call.input["CiphertextBlob"], "SourceEncryptionAlgorithm"),
            _ => continue,
        };
        let Some(from) = blob.as_str().and_then(|blob| known.get(blob)) else {
            continue;
        };
        let (context, key) = match call.operation.as_str() {
            "Decrypt" => (&call.input["EncryptionContext"], "KeyId"),
            _ => (&call.input["SourceEncryptionContext"], "SourceKeyId"),
        };
        // Asked for in another way than it was made, it must not decrypt.
        let named = key_in(&call.input, key, &call.region);
        let asked = algorithm_of(&call.input, algorithm) == from.algorithm
            && same_context(context, from.context)
            && named.is_none_or(|named| named == from.key);
        if !asked {
            continue;
        }
        sight.looked(1);
        let calls = vec![from.made_by, number];
        match &call.outcome {
            Outcome::Done(answer) => {
                decrypted += 1;
                let shown = answer.get("Plaintext");
                if call.operation == "Decrypt"
                    && from.plaintext.is_some()
                    && shown != from.plaintext
                {
                    sight.find(
                        format_args!(
                            "#{number}: what #{} encrypted decrypts to something else",
                            from.made_by
                        ),
                        calls,
                    );
                }
            }
            Outcome::Refused { error, message } => {
                if let Some(why) = wrong(error, message, call, from, &deleted) {
                    sight.find(
                        format_args!(
                            "#{number}: what #{} encrypted {why}: {error} {message}",
                            from.made_by
                        ),
                        calls,
                    );
                }
            }
            Outcome::NotDone(_) | Outcome::Unknown(_) => {}
        }
    }
    if !known.is_empty() {
        sight.remark(format!(
            "{} ciphertexts, {decrypted} times decrypted",
            known.len()
        ));
    }
    sight.judgement()
}

fn ciphertexts(experiment: &Experiment) -> BTreeMap<&str, Ciphertext<'_>> {
    let mut known = BTreeMap::new();
    for (made_by, call) in experiment.calls.iter().enumerate() {
        let Outcome::Done(answer) = &call.outcome else {
            continue;
        };
        let (plaintext, algorithm, context) = match call.operation.as_str() {
            "Encrypt" => (
                call.input.get("Plaintext"),
                "EncryptionAlgorithm",
                "EncryptionContext",
            ),
            "GenerateDataKey" => (answer.get("Plaintext"), "", "EncryptionContext"),
            "GenerateDataKeyWithoutPlaintext" => (None, "", "EncryptionContext"),
            "ReEncrypt" => (
                None,
                "DestinationEncryptionAlgorithm",
                "DestinationEncryptionContext",
            ),
            _ => continue,
        };
        let (Some(blob), Some(key)) = (text(answer, "CiphertextBlob"), key_of(call)) else {
            continue;
        };
        known.insert(
            blob,
            Ciphertext {
                made_by,
                region: &call.region,
                caller: call.caller.clone(),
                key,
                plaintext,
                context: &call.input[context],
                algorithm: algorithm_of(&call.input, algorithm),
            },
        );
    }
    known
}

fn algorithm_of<'v>(input: &'v Value, member: &str) -> &'v str {
    text(input, member).unwrap_or("SYMMETRIC_DEFAULT")
}

fn same_context(one: &Value, other: &Value) -> bool {
    let empty = |context: &Value| context.as_object().is_none_or(serde_json::Map::is_empty);
    one == other || empty(one) && empty(other)
}

/// Keys of which a member may really be deleted, or its material.
fn deleted(experiment: &Experiment) -> BTreeSet<String> {
    let calls = experiment.calls.iter().filter(|call| {
        let deletes = ["ScheduleKeyDeletion", "DeleteImportedKeyMaterial"];
        deletes.contains(&call.operation.as_str())
            && matches!(call.outcome, Outcome::Done(_) | Outcome::Unknown(_))
    });
    calls.filter_map(key_of).collect()
}

/// What is wrong with a refusal, if anything is.
fn wrong(
    error: &str,
    message: &str,
    call: &Call,
    from: &Ciphertext<'_>,
    deleted: &BTreeSet<String>,
) -> Option<&'static str> {
    let kept = !deleted.contains(&from.key);
    // A member may be gone or of no use, but must never take a ciphertext for another key's.
    if ["InvalidCiphertextException", "IncorrectKeyException"].contains(&error) {
        return kept.then_some("is not known as its key's");
    }
    let missing = error == "NotFoundException"
        || error == "AccessDeniedException" && message.starts_with("The ciphertext refers to");
    let there = call.region == from.region && call.caller == from.caller && kept;
    (missing && there).then_some("is of a key that is not there, though nothing has deleted it")
}
