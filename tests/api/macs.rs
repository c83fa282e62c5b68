//! MACs.

use aws_sdk_kms::operation::generate_mac::builders::GenerateMacFluentBuilder;
use aws_sdk_kms::operation::verify_mac::builders::VerifyMacFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use keyrum_tests::sdk::refused;

use crate::desk::{Desk, Key};

const INVALID: &str = "KMSInvalidMacException";

fn mac(desk: &Desk, key: &Key, algorithm: &str, message: &[u8]) -> GenerateMacFluentBuilder {
    let call = desk.kms.generate_mac().key_id(&key.id);
    call.message(Blob::new(message))
        .mac_algorithm(algorithm.into())
}

fn verify(
    desk: &Desk,
    key: &Key,
    algorithm: &str,
    message: &[u8],
    mac: &[u8],
) -> VerifyMacFluentBuilder {
    let call = desk.kms.verify_mac().key_id(&key.id).mac(Blob::new(mac));
    call.message(Blob::new(message))
        .mac_algorithm(algorithm.into())
}

/// Makes a MAC and has it and what is not it checked.
pub(crate) async fn try_out(desk: &Desk, key: &Key, algorithm: &str) {
    let made = mac(desk, key, algorithm, b"message").send().await.unwrap();
    assert_eq!(made.key_id(), Some(&*key.arn));
    assert_eq!(made.mac_algorithm().unwrap().as_str(), algorithm);
    let bits: usize = algorithm.rsplit('_').next().unwrap().parse().unwrap();
    let bytes = made.mac.unwrap().into_inner();
    assert_eq!(bytes.len() * 8, bits);
    let again = mac(desk, key, algorithm, b"message").send().await.unwrap();
    assert_eq!(again.mac.unwrap().as_ref(), bytes);
    let verified = verify(desk, key, algorithm, b"message", &bytes);
    let verified = verified.send().await.unwrap();
    assert!(verified.mac_valid());
    assert_eq!(verified.key_id(), Some(&*key.arn));
    assert_eq!(verified.mac_algorithm().unwrap().as_str(), algorithm);
    let mut other = bytes.clone();
    other[0] ^= 1;
    for (message, mac) in [
        (&b"massage"[..], &bytes[..]),
        (b"message", &other),
        (b"message", &bytes[..bytes.len() - 1]),
        (b"message", b"x"),
    ] {
        refused(
            verify(desk, key, algorithm, message, mac).send().await,
            INVALID,
            "",
        );
    }
}

/// Catches a refusal with the wrong code or text, or out of the real service's order.
#[tokio::test]
async fn refusals_come_in_order() {
    let desk = Desk::dev("MAC refusals").await;
    let key = desk
        .key_of(KeySpec::Hmac256, KeyUsageType::GenerateVerifyMac)
        .await;
    let symmetric = desk.disabled_key().await;
    let usage = "InvalidKeyUsageException";
    let text = format!(
        "{} key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.",
        symmetric.arn
    );
    let call = mac(&desk, &symmetric, "HMAC_SHA_256", b"m");
    refused(call.send().await, usage, &text);
    let call = verify(&desk, &symmetric, "HMAC_SHA_256", b"m", b"x");
    refused(
        call.send().await,
        usage,
        &text.replace("GenerateMac", "VerifyMac"),
    );
    let text = format!(
        "{} key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt.",
        key.arn
    );
    let call = desk.kms.encrypt().key_id(&key.id).plaintext(Blob::new("x"));
    refused(call.send().await, usage, &text);
    let text = "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256.";
    refused(
        mac(&desk, &key, "HMAC_SHA_512", b"m").send().await,
        usage,
        text,
    );
    let call = verify(&desk, &key, "HMAC_SHA_512", b"m", b"x");
    refused(call.send().await, usage, text);

    let made = mac(&desk, &key, "HMAC_SHA_256", b"m").send().await.unwrap();
    let made = made.mac.unwrap().into_inner();
    let dry_run = "DryRunOperationException";
    let yes = "The request would have succeeded, but the DryRun option is set.";
    let call = mac(&desk, &key, "HMAC_SHA_256", b"m").dry_run(true);
    refused(call.send().await, dry_run, yes);
    let call = verify(&desk, &key, "HMAC_SHA_256", b"m", &made).dry_run(true);
    refused(call.send().await, dry_run, yes);
    let call = verify(&desk, &key, "HMAC_SHA_256", b"n", &made).dry_run(true);
    refused(call.send().await, INVALID, "");

    desk.kms.disable_key().key_id(&key.id).send().await.unwrap();
    // The state before the algorithm.
    let call = mac(&desk, &key, "HMAC_SHA_512", b"m");
    let text = format!("{} is disabled.", key.arn);
    refused(call.send().await, "DisabledException", &text);
    let enumeration = "1 validation error detected: Value 'ROT13' at 'macAlgorithm' failed to \
        satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, \
        HMAC_SHA_224, HMAC_SHA_512]";
    let call = mac(&desk, &key, "ROT13", b"m");
    refused(call.send().await, "ValidationException", enumeration);
}
