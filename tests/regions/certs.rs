//! Certificates that change while two Regions work together.

use keyrum_tests::certificates::terms;
use keyrum_tests::steady::Steady;
use keyrum_tests::{Cluster, Shape, sdk};

use crate::relatives::{REGIONS, Relatives};

/// Catches a rotation, of certificates or of the authority, that fails a call in either Region,
/// costs one of them its leader, or stops messages between them.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_between_regions() {
    let [east, ireland, _] = REGIONS;
    let shape = Shape {
        regions: vec![(east, 3), (ireland, 3)],
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    let kin = Relatives::at(cluster.endpoint(), "certs");
    let key = kin.primary().await;
    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    let before = terms(&cluster.agree().await);
    let mut shown = cluster.shown().await;
    let client = |region| sdk::client(cluster.endpoint(), region, "load");
    let load = Steady::start(vec![client(east), client(ireland)]);
    for args in [
        &["certs", "rotate"][..],
        &["certs", "rotate", "--authority"],
    ] {
        load.go_on(30).await;
        cluster.command(args).await;
        let now = cluster.shown().await;
        assert!(now.iter().all(|(node, new)| shown[node] != *new));
        assert_eq!(now, cluster.filed());
        shown = now;
        // There and back: to the replica, a move of the primary, and the new one's messages.
        let other = kin.primary().await;
        kin.replicate(&other, east, ireland).await;
        kin.settle(&other, east, &[east, ireland]).await;
        let call = kin.kms(east).update_primary_region().key_id(&other);
        call.primary_region(ireland).send().await.unwrap();
        kin.settle(&other, ireland, &[east, ireland]).await;
        kin.exchange(&other, &[east, ireland]).await;
    }
    load.go_on(30).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "of {calls} calls: {failures:#?}");
    assert_eq!(terms(&cluster.agree().await), before);
    for line in cluster.certificates().await["nodes"].as_array().unwrap() {
        assert_eq!(line["tls"]["former_links"], 0, "{line:#}");
    }
}
