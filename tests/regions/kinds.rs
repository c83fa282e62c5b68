//! Families of other kinds than symmetric keys.

use aws_sdk_kms::primitives::Blob;
use keyrum_tests::sdk::patiently;

use crate::relatives::{REGIONS, Relatives, dev};

impl Relatives {
    async fn sign(&self, region: &str, key: &str, algorithm: &str) -> Blob {
        let call = self.kms(region).sign().key_id(key);
        let call = call.message(Blob::new("message"));
        let signed = call.signing_algorithm(algorithm.into()).send().await;
        signed.expect("it signs").signature.expect("a signature")
    }

    async fn verify(&self, region: &str, key: &str, algorithm: &str, signature: &Blob) {
        let call = self.kms(region).verify().key_id(key);
        let call = call.message(Blob::new("message"));
        let call = call.signature(signature.clone());
        let verified = call.signing_algorithm(algorithm.into()).send().await;
        assert!(verified.expect("it verifies").signature_valid());
    }

    async fn public_key(&self, region: &str, key: &str) -> Blob {
        let answer = self.kms(region).get_public_key().key_id(key).send().await;
        answer
            .expect("it has one")
            .public_key
            .expect("a public key")
    }

    async fn mac(&self, region: &str, key: &str) -> Blob {
        let call = self.kms(region).generate_mac().key_id(key);
        let call = call.message(Blob::new("message"));
        let made = call.mac_algorithm("HMAC_SHA_512".into()).send().await;
        made.expect("it makes MACs").mac.expect("a MAC")
    }
}

/// Catches material of another length or form than a symmetric key's that does not cross Regions,
/// and relatives that are not the same key.
#[tokio::test]
async fn relatives_of_every_family_are_the_same_key() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "kinds");
    let [east, ireland, _] = REGIONS;
    for (spec, usage, algorithm) in [
        ("RSA_2048", "SIGN_VERIFY", "RSASSA_PSS_SHA_256"),
        ("ECC_NIST_P521", "SIGN_VERIFY", "ECDSA_SHA_512"),
        ("ML_DSA_65", "SIGN_VERIFY", "ML_DSA_SHAKE_256"),
        ("HMAC_512", "GENERATE_VERIFY_MAC", "HMAC_SHA_512"),
    ] {
        let call = kin.kms(east).create_key().multi_region(true);
        let call = call.key_spec(spec.into()).key_usage(usage.into());
        let made = patiently(async || call.clone().send().await).await;
        let made = made.key_metadata.unwrap();
        let key = made.key_id();
        let call = kin.kms(east).replicate_key().key_id(key);
        let answer = call.replica_region(ireland).send().await.unwrap();
        let replica = answer.replica_key_metadata.unwrap();
        kin.settle(key, east, &[east, ireland]).await;
        let there = kin.described(ireland, key).await;
        for shown in [&replica, &there] {
            assert_eq!(shown.key_spec(), made.key_spec());
            assert_eq!(shown.key_usage(), made.key_usage());
            assert_eq!(shown.signing_algorithms(), made.signing_algorithms());
            assert_eq!(shown.mac_algorithms(), made.mac_algorithms());
            assert_eq!(shown.current_key_material_id(), None);
        }
        if usage == "GENERATE_VERIFY_MAC" {
            assert_eq!(kin.mac(east, key).await, kin.mac(ireland, key).await);
            continue;
        }
        let public_key = kin.public_key(east, key).await;
        assert_eq!(kin.public_key(ireland, key).await, public_key);
        for (from, to) in [(east, ireland), (ireland, east)] {
            let signature = kin.sign(from, key, algorithm).await;
            kin.verify(to, key, algorithm, &signature).await;
        }
    }
}
