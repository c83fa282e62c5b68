//! Import tokens, which no node remembers.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, ExpirationModelType, KeySpec, KeyUsageType, OriginType, WrappingKeySpec,
};
use keyrum_tests::import::wrap;
use keyrum_tests::{Cluster, Shape};

/// Catches a token that only the node which gave it takes, or none after a restart, and imported
/// material that a restart loses.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_a_token_also_after_a_restart() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let giver = cluster.clients("import").swap_remove(1);
    let call = giver.create_key().origin(OriginType::External);
    let call = call.key_spec(KeySpec::Hmac256);
    let made = call.key_usage(KeyUsageType::GenerateVerifyMac).send().await;
    let key = made.unwrap().key_metadata.unwrap().key_id;
    let call = giver.get_parameters_for_import().key_id(&key);
    let call = call.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256);
    let parameters = call
        .wrapping_key_spec(WrappingKeySpec::Rsa2048)
        .send()
        .await;
    let parameters = parameters.unwrap();
    let public = parameters.public_key().unwrap().as_ref();
    let wrapped = wrap("RSAES_OAEP_SHA_256", public, &[9; 32]);
    cluster.stop().await;
    cluster.start().await;
    let mut macs = Vec::new();
    for taker in cluster.clients("import") {
        let call = taker.import_key_material().key_id(&key);
        let call = call.import_token(parameters.import_token().unwrap().clone());
        let call = call.encrypted_key_material(Blob::new(wrapped.clone()));
        let call = call.expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire);
        call.send().await.unwrap();
        let mac = taker.generate_mac().key_id(&key).message(Blob::new("x"));
        let mac = mac.mac_algorithm("HMAC_SHA_256".into()).send().await;
        macs.push(mac.unwrap().mac.unwrap());
    }
    assert_eq!(macs.len(), 4, "by the endpoint and by each node");
    cluster.stop().await;
    cluster.start().await;
    let client = cluster.clients("import").swap_remove(2);
    let mac = client.generate_mac().key_id(&key).message(Blob::new("x"));
    let mac = mac.mac_algorithm("HMAC_SHA_256".into()).send().await;
    macs.push(mac.unwrap().mac.unwrap());
    assert!(macs.iter().all(|mac| *mac == macs[0]), "{macs:?}");
}
