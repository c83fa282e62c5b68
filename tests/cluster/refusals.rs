//! Starts that are refused, and what is said then.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use keyrum_consensus::world::World;
use keyrum_tests::sdk::{self, HERE, THERE};
use keyrum_tests::{Cluster, Dev, Shape, keyrum};
use serde_json::json;

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
    let reversed = Shape {
        regions: vec![(THERE, 3), (HERE, 3)],
        ..Shape::one_region(3)
    };
    let other = Shape {
        regions: vec![(THERE, 3)],
        ..Shape::one_region(3)
    };
    for shape in [reversed, other, Shape::one_region(1)] {
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
    let data = folder.path().join("data");
    let port_and_data = [
        "--port",
        &port.to_string(),
        "--data",
        data.to_str().unwrap(),
    ];
    assert!(!dev(&port_and_data).status.success());
    assert!(!data.exists(), "the folder of a cluster that never ran");
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
        assert!(!data.exists(), "the folder of a cluster that never ran");
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

/// Catches a new node that joins with another secret than its Region's keys are sealed under: it
/// would answer calls and open nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_needs_its_regions_domain_key() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
    let encrypt = kms.encrypt().key_id(key.key_id());
    let encrypt = encrypt.plaintext(b"secret".to_vec().into());
    let blob = encrypt.send().await.unwrap().ciphertext_blob.unwrap();
    let file = cluster.data().join(HERE).join("domain.key");
    let right = std::fs::read(&file).unwrap();
    let other = Cluster::up(&Shape::one_region(1)).await;
    std::fs::copy(other.data().join(HERE).join("domain.key"), &file).unwrap();

    let refused = cluster.try_command(&["add", "us-east-1/4"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    says(
        &words,
        &[&file.display().to_string(), "domain key is the wrong one"],
    );
    for line in cluster.agree().await {
        assert_eq!(line.say("voters"), &json!([1, 2, 3]), "{line:?}");
        assert_eq!(line.say("learners"), &json!([]), "{line:?}");
    }

    std::fs::write(&file, right).unwrap();
    cluster.command(&["add", "us-east-1/5"]).await;
    let lines = cluster.agree().await;
    let new = lines.iter().find(|line| line.node == "us-east-1/5");
    let kms = sdk::client(&new.unwrap().api, HERE, "test");
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

/// Catches advice that cannot be followed: how to replace a node, where no command does, or where
/// no majority is left.
#[tokio::test(flavor = "multi_thread")]
async fn lost_data_is_told_with_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = ["--data", data.to_str().unwrap(), "--regions", HERE];
    drop(Dev::start(&arguments).await);
    let start = |verb: &str| {
        let config = folder.path().join("three.toml");
        let text = "port = 0\ncredentials = \"any\"\n[[region]]\nname = \"us-east-1\"\n\
                    nodes = [{ id = 1 }, { id = 2 }, { id = 3 }]\n";
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(keyrum());
        match verb {
            "dev" => command.args(["dev", "--port", "0", "--regions", HERE]),
            _ => command.args(["cluster", "up", "--config"]).arg(config),
        };
        let output = command.arg("--data").arg(&data).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let lose = |id: u64| {
        let node = data.join(HERE).join(format!("node-{id}"));
        std::fs::remove_dir_all(node.join("store")).unwrap();
    };
    lose(2);
    let help = [
        "us-east-1/2",
        "is gone",
        "cluster up --data",
        "cluster remove",
    ];
    says(&start("dev"), &help);
    lose(3);
    for verb in ["dev", "cluster"] {
        says(&start(verb), &["2 of the 3 nodes", "no majority", "--data"]);
    }
    lose(1);
    for verb in ["dev", "cluster"] {
        says(&start(verb), &["all 3 nodes", "put it back", "--data"]);
    }
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
