//! Attested callers on a cluster of processes.

use aws_lc_rs::rsa::KeySize;
use aws_sdk_kms::primitives::Blob;
use keyrum_tests::attestation::{Enclave, Hypervisor};
use keyrum_tests::recipients::{attested_now, recipient};
use keyrum_tests::{Cluster, Shape};

/// Catches a node that does not believe whom the topology file says, also after a restart, and a
/// cluster that starts without the file it names.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_enclaves() {
    let mut cluster = Cluster::prepare(&Shape::one_region(3));
    let root = cluster.folder().join("root.pem");
    let shape = Shape {
        lines: format!("attestation_root = {:?}", root.to_str().unwrap()),
        ..Shape::one_region(3)
    };
    cluster.reshape(&shape);
    let words = cluster.try_start().await.unwrap_err();
    assert!(words.contains(root.to_str().unwrap()), "{words}");
    let hypervisor = Hypervisor::make();
    std::fs::write(&root, "no certificate").unwrap();
    let words = cluster.try_start().await.unwrap_err();
    assert!(words.contains("it holds no certificate"), "{words}");

    std::fs::write(&root, &hypervisor.root_pem).unwrap();
    cluster.start().await;
    let enclave = Enclave::new(KeySize::Rsa2048);
    let clients = cluster.clients("recipients");
    let key = clients[0].create_key().send().await.unwrap();
    let key = key.key_metadata.unwrap().key_id;
    let call = clients[0].encrypt().key_id(key);
    let sealed = call.plaintext(Blob::new("secret")).send().await.unwrap();
    let sealed = sealed.ciphertext_blob.unwrap();
    for restarted in [false, true] {
        if restarted {
            cluster.stop().await;
            cluster.start().await;
        }
        let clients = cluster.clients("recipients");
        assert_eq!(clients.len(), 4, "the endpoint and each node");
        for kms in clients {
            let document = attested_now(&hypervisor, &enclave);
            let call = kms.decrypt().ciphertext_blob(sealed.clone());
            let call = call.recipient(recipient(&document));
            let opened = call.send().await.unwrap();
            assert_eq!(opened.plaintext, None);
            let answer = opened.ciphertext_for_recipient.unwrap();
            assert_eq!(enclave.open(answer.as_ref()), b"secret");
        }
    }
}
