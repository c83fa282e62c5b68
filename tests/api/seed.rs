//! Fixtures: `keyrum dev --seed FILE`.

use std::path::Path;
use std::process::{Command, Output};

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyState, OriginType, SigningAlgorithmSpec};
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{HERE, THERE, client};
use keyrum_tests::{Dev, keyrum, wait};

const AES: &str = "bc436485-5092-42b8-92a3-0aa8b93536dc";
const ECC: &str = "800d5768-3fd7-4edd-a4b8-4c81c3e4c147";
const EXTERNAL: &str = "5d05267f-bb87-4d0b-8594-295a4371d414";
const FAMILY: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";
const ACCOUNT: &str = "000000000000";

fn own_form(material: &str) -> String {
    format!(
        "keys:
  - id: {AES}
    aliases: [alias/seeded]
    description: from a file
    tags: {{team: tests}}
    material:
      - hex: {one}
      - hex: {material}
    rotation: {{next: 2999-01-01T00:00:00Z}}
  - id: {FAMILY}
    replicas: [{THERE}]
  - id: {EXTERNAL}
    region: {THERE}
    account: \"111122223333\"
    origin: EXTERNAL
",
        one = "01".repeat(32)
    )
}

const LOCAL_KMS: &str = "Keys:
  Symmetric:
    Aes:
      - Metadata:
          KeyId: bc436485-5092-42b8-92a3-0aa8b93536dc
        BackingKeys:
          - 34743777217A25432A46294A404E635266556A586E3272357538782F413F4428
          - 614E645267556B58703273357638792F423F4528472B4B6250655368566D5971
      - Metadata:
          KeyId: 5d05267f-bb87-4d0b-8594-295a4371d414
          Origin: EXTERNAL
  Asymmetric:
    Ecc:
      - Metadata:
          KeyId: 800d5768-3fd7-4edd-a4b8-4c81c3e4c147
          KeyUsage: SIGN_VERIFY
          Description: ECC key with curve secp256r1
        PrivateKeyPem: |
          -----BEGIN EC PRIVATE KEY-----
          MHcCAQEEIMnOrUrXr8rwne7d8f01cfwmpS/w+K7jcyWmmeLDgWKaoAoGCCqGSM49
          AwEHoUQDQgAEYNMBBZ3h1ipuph1iO5k+yLvTs94UN71quXN3f0P/tprs2Fp2FEas
          M7m7XZ2xlDK3wcEAs1QEIoQjjwnhcptQ6A==
          -----END EC PRIVATE KEY-----

Aliases:
  - AliasName: alias/testing
    TargetKeyId: bc436485-5092-42b8-92a3-0aa8b93536dc
";

async fn start(data: &Path, seed: &Path) -> Dev {
    let [data, seed] = [data, seed].map(|path| path.to_str().unwrap());
    Dev::start(&["--nodes", "1", "--data", data, "--seed", seed]).await
}

/// Stops it as Ctrl-C does, and waits.
async fn stop(mut dev: Dev) {
    let pid = dev.pid().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let ended = async || dev.child().try_wait().unwrap().is_some();
    wait::until_true("end of keyrum dev", wait::LONG, ended).await;
}

/// Starts it where it must fail.
fn fails(data: &Path, seed: &Path) -> Output {
    let mut command = Command::new(keyrum());
    command.args(["dev", "--port", "0", "--nodes", "1", "--data"]);
    command.arg(data).arg("--seed").arg(seed).output().unwrap()
}

/// Catches a fixture in our own form that is not there at the start, is made anew by a second start or
/// lost by a reset; and a difference that goes unnoticed or changes something.
#[tokio::test]
async fn fixtures_are_there_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("seed.yaml"));
    let material = "02".repeat(32);
    std::fs::write(&file, own_form(&material)).unwrap();
    let dev = start(&data, &file).await;
    let kms = client(&dev.ready.endpoint, HERE, ACCOUNT);
    let described = kms.describe_key().key_id("alias/seeded").send().await;
    let key = described.unwrap().key_metadata.unwrap();
    assert_eq!(
        (key.key_id(), key.description()),
        (AES, Some("from a file"))
    );
    let tags = kms.list_resource_tags().key_id(AES).send().await.unwrap();
    assert_eq!(tags.tags()[0].tag_value(), "tests");
    let rotations = kms.list_key_rotations().key_id(AES).send().await.unwrap();
    assert_eq!(rotations.rotations().len(), 1);
    let status = kms.get_key_rotation_status().key_id(AES).send().await;
    assert!(status.unwrap().key_rotation_enabled());
    let sealed = kms.encrypt().key_id(AES).plaintext(Blob::new("secret"));
    let blob = sealed.send().await.unwrap().ciphertext_blob.unwrap();

    let there = client(&dev.ready.endpoint, THERE, ACCOUNT);
    let replica = async || {
        let described = there.describe_key().key_id(FAMILY).send().await.ok();
        let state = described.and_then(|answer| answer.key_metadata?.key_state);
        state == Some(KeyState::Enabled)
    };
    wait::until_true("replica", wait::LONG, replica).await;
    let other = client(&dev.ready.endpoint, THERE, "111122223333");
    let described = other.describe_key().key_id(EXTERNAL).send().await.unwrap();
    let external = described.key_metadata.unwrap();
    assert_eq!(external.origin(), Some(&OriginType::External));
    assert_eq!(external.key_state(), Some(&KeyState::PendingImport));
    let material_of = async |kms: &aws_sdk_kms::Client, id: &str| {
        let described = kms.describe_key().key_id(id).send().await.unwrap();
        described.key_metadata.unwrap().current_key_material_id
    };
    let (fixed, random) = (
        material_of(&kms, AES).await,
        material_of(&kms, FAMILY).await,
    );

    // What callers change stays, and is no difference.
    let call = kms.update_key_description().key_id(AES);
    call.description("changed").send().await.unwrap();
    stop(dev).await;
    let dev = start(&data, &file).await;
    assert!(
        dev.output().contains("0 were made and 3 were there"),
        "{}",
        dev.output()
    );
    let kms = client(&dev.ready.endpoint, HERE, ACCOUNT);
    let described = kms.describe_key().key_id(AES).send().await.unwrap();
    let key = described.key_metadata.unwrap();
    assert_eq!(key.description(), Some("changed"));
    assert_eq!(material_of(&kms, FAMILY).await, random);

    // A reset leaves what the file says: given material opens what it once encrypted.
    let reset = Raw::beside("POST", "reset").send(&dev.ready.endpoint).await;
    assert_eq!(reset.unwrap().status, 200);
    assert_eq!(material_of(&kms, AES).await, fixed);
    assert_ne!(material_of(&kms, FAMILY).await, random);
    let opened = kms.decrypt().ciphertext_blob(blob).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");
    stop(dev).await;

    let changed = own_form(&"03".repeat(32)) + "  - id: 0579fe9c-129b-490a-adb0-42589ac4a017\n";
    std::fs::write(&file, changed).unwrap();
    let failed = fails(&data, &file);
    let says = String::from_utf8_lossy(&failed.stderr);
    let expected = format!(
        "the seed file {}, line 2: key {AES} is in us-east-1 already, and its material is another; nothing was changed",
        file.display()
    );
    assert!(
        !failed.status.success() && says.contains(&expected),
        "{says}"
    );
    assert!(!says.contains("0303"), "{says}");
    std::fs::write(&file, own_form(&material)).unwrap();
    let dev = start(&data, &file).await;
    let kms = client(&dev.ready.endpoint, HERE, ACCOUNT);
    // Nothing of the wrong file was made.
    let keys = kms.list_keys().send().await.unwrap();
    assert_eq!(keys.keys().len(), 2);
}

/// Catches a file of local-kms that does not give the keys it gave there.
#[tokio::test]
async fn files_of_local_kms_work() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seed.yaml");
    std::fs::write(&file, LOCAL_KMS).unwrap();
    let mut blobs = Vec::new();
    // The same keys in another cluster.
    for turn in ["one", "two"] {
        let dev = start(&folder.path().join(turn), &file).await;
        let kms = client(&dev.ready.endpoint, HERE, ACCOUNT);
        let sealed = kms.encrypt().key_id("alias/testing");
        let sealed = sealed.plaintext(Blob::new("secret")).send().await.unwrap();
        blobs.push(sealed.ciphertext_blob.unwrap());
        for blob in &blobs {
            let opened = kms.decrypt().key_id(AES).ciphertext_blob(blob.clone());
            let opened = opened.send().await.unwrap();
            assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");
        }
        let sign = kms.sign().key_id(ECC).message(Blob::new("message"));
        let sign = sign.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
        sign.send().await.unwrap();
        let described = kms.describe_key().key_id(EXTERNAL).send().await.unwrap();
        let state = described.key_metadata.unwrap().key_state;
        assert_eq!(state, Some(KeyState::PendingImport));
    }
}

/// Catches a wrong file that starts a cluster, or leaves something behind.
#[tokio::test]
async fn a_wrong_file_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("seed.yaml"));
    let absent = fails(&data, &file);
    let says = String::from_utf8_lossy(&absent.stderr);
    assert!(says.contains("cannot read the seed file"), "{says}");
    std::fs::write(
        &file,
        format!("keys:\n  - id: {AES}\n    material: [{{hex: 00}}]\n"),
    )
    .unwrap();
    let wrong = fails(&data, &file);
    let says = String::from_utf8_lossy(&wrong.stderr);
    let expected = format!(
        "the seed file {}, line 2: key {AES}: the field `material` is no material of a SYMMETRIC_DEFAULT key; nothing was started: correct the file and start again",
        file.display()
    );
    assert!(says.contains(&expected), "{says}");
    assert!(!data.exists());
}
