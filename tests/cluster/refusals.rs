//! Starts that are refused, and what is said then.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use keyrum_consensus::world::World;
use keyrum_tests::sdk::{self, HERE, THERE};
use keyrum_tests::{Cluster, Dev, Shape, keyrum};

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn dev(arguments: &[&str]) -> Output {
    Command::new(keyrum())
        .arg("dev")
        .args(arguments)
        .output()
        .unwrap()
}

/// Catches data of one cluster that is used for another.
#[tokio::test(flavor = "multi_thread")]
async fn data_of_other_regions_or_nodes_is_refused() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let folder = cluster.data().display().to_string();
    cluster.stop().await;
    let two = Shape {
        regions: vec![(HERE, 3), (THERE, 3)],
        ..Shape::one_region(3)
    };
    let other = Shape {
        regions: vec![(THERE, 3)],
        ..Shape::one_region(3)
    };
    for shape in [two, other, Shape::one_region(1)] {
        cluster.reshape(&shape);
        let words = cluster.try_start().await.unwrap_err();
        says(&words, &[&folder, "us-east-1", "--data"]);
    }
    let output = dev(&["--port", "0", "--regions", THERE, "--data", &folder]);
    assert!(!output.status.success());
    says(
        &String::from_utf8_lossy(&output.stderr),
        &[&folder, "us-east-1", THERE, "--data"],
    );
    cluster.reshape(&Shape::one_region(3));
    cluster.start().await;
}

/// Catches two processes on one folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused() {
    let cluster = Cluster::up(&Shape::one_region(1)).await;
    let folder = cluster.data().display().to_string();
    let output = dev(&[
        "--port",
        "0",
        "--regions",
        HERE,
        "--nodes",
        "1",
        "--data",
        &folder,
    ]);
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    says(
        &words,
        &[&folder, "in use", "--data", &cluster.pid().to_string()],
    );
}

/// Catches a port in use that is not named, or without the option that changes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = World::real().network.listen("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_eq!(taken.local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
    let output = dev(&["--ephemeral", "--port", &port.to_string()]);
    assert!(!output.status.success());
    says(
        &String::from_utf8_lossy(&output.stderr),
        &[&port.to_string(), "--port"],
    );

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("taken.toml");
    let region = "[[region]]\nname = \"us-east-1\"\n";
    for (text, option) in [
        (
            format!("port = {port}\ncredentials = \"any\"\n{region}nodes = [{{ id = 1 }}]\n"),
            "port",
        ),
        (
            format!(
                "port = 0\ncredentials = \"any\"\n{region}nodes = [{{ id = 1, peer = {port} }}]\n"
            ),
            "topology file",
        ),
    ] {
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(keyrum());
        command.args(["cluster", "up", "--config"]).arg(&config);
        let output = command
            .arg("--data")
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(!output.status.success());
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        says(&words, &[&port.to_string(), option]);
    }
}

/// Catches a node that starts without the secret its keys are sealed under, makes itself another,
/// or does not say what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_domain_key_is_never_replaced() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
    let blob = kms
        .encrypt()
        .key_id(key.key_id())
        .plaintext(b"secret".to_vec().into());
    let blob = blob.send().await.unwrap().ciphertext_blob.unwrap();
    cluster.stop().await;
    let file = cluster.data().join(HERE).join("domain.key");
    let name = file.display().to_string();
    let right = std::fs::read(&file).unwrap();

    std::fs::remove_file(&file).unwrap();
    let words = cluster.try_start().await.unwrap_err();
    says(&words, &["domain key", &name, "missing"]);
    assert!(!file.exists(), "it must not be made anew");

    let mut other = Cluster::up(&Shape::one_region(1)).await;
    let wrong = std::fs::read(other.data().join(HERE).join("domain.key")).unwrap();
    other.stop().await;
    let put = |bytes: &[u8], mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    put(&wrong, 0o600);
    let words = cluster.try_start().await.unwrap_err();
    says(&words, &[&name]);
    put(&right[..right.len() / 2], 0o600);
    let words = cluster.try_start().await.unwrap_err();
    says(&words, &[&name]);
    put(&right, 0o644);
    let words = cluster.try_start().await.unwrap_err();
    says(&words, &[&name, "600"]);

    put(&right, 0o600);
    cluster.start().await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let opened = kms.decrypt().ciphertext_blob(blob).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");
}

/// Catches a node that starts without the key that other Regions wrap to, with another's, or with
/// one drawn anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_key_is_the_pinned_one() {
    let shape = Shape {
        regions: vec![(HERE, 1), (THERE, 1)],
        ..Shape::one_region(1)
    };
    let mut cluster = Cluster::up(&shape).await;
    cluster.stop().await;
    let file = |region| cluster.data().join(region).join("region.key");
    let (file, other) = (file(HERE), file(THERE));
    let name = file.display().to_string();
    let right = std::fs::read(&file).unwrap();

    std::fs::remove_file(&file).unwrap();
    let words = cluster.try_start().await.unwrap_err();
    says(&words, &["Region key", &name, "missing"]);
    assert!(!file.exists(), "it must not be made anew");

    std::fs::copy(&other, &file).unwrap();
    let words = cluster.try_start().await.unwrap_err();
    says(&words, &[&name, "the wrong one"]);

    std::fs::write(&file, right).unwrap();
    cluster.start().await;
}

/// Catches a node that lost its disk and votes again as if it had never voted.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_data_does_not_come_back() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    cluster.agree().await;
    let node = "us-east-1/2";
    cluster.command(&["kill", node]).await;
    std::fs::remove_dir_all(cluster.data().join(HERE).join("node-2").join("store")).unwrap();
    let output = cluster.try_command(&["restart", node]).await;
    assert!(!output.status.success(), "{output:?}");
    says(
        &cluster.node_output(node),
        &["gone", "cluster remove us-east-1/2"],
    );
}

/// Catches `dev` data that a restart loses.
#[tokio::test(flavor = "multi_thread")]
async fn dev_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = ["--data", data.to_str().unwrap(), "--nodes", "1"];
    let dev = Dev::start(&arguments).await;
    let kms = sdk::client(&dev.ready.endpoint, HERE, "test");
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
    // Killed, not stopped.
    drop(dev);
    let dev = Dev::start(&arguments).await;
    let kms = sdk::client(&dev.ready.endpoint, HERE, "test");
    let found = kms
        .describe_key()
        .key_id(key.key_id())
        .send()
        .await
        .unwrap()
        .key_metadata;
    assert_eq!(found, Some(key));
}
