//! Domain keys that are locked, backed up and restored, with real processes.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, HERE, THERE};
use keyrum_tests::{Cluster, Dev, Shape, keyrum, wait};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const PASSPHRASE: &str = "correct horse battery";

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn words(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Runs `keyrum domain-key <args>` on a cluster's folder; what it says.
fn domain_key(cluster: &Cluster, args: &[&str]) -> Result<String, String> {
    let output = cluster.keyrum("domain-key", args).output().unwrap();
    match output.status.success() {
        true => Ok(words(&output)),
        false => Err(words(&output)),
    }
}

/// Puts what opens something into a file.
fn file(cluster: &Cluster, name: &str, text: &str) -> String {
    let path = cluster.folder().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn unlocked_by(shape: &Shape, file: &str) -> Shape {
    let arguments = ["--unlock", file].map(str::to_owned);
    Shape {
        arguments: arguments.to_vec(),
        ..shape.clone()
    }
}

fn secret_file(cluster: &Cluster, region: &str, name: &str) -> PathBuf {
    cluster.data().join(region).join(name)
}

/// What is after the last space of each line that has a secret.
fn secrets(files: &[PathBuf]) -> Vec<String> {
    let text = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let text = text.collect::<String>();
    let lines = text.lines().filter(|line| line.starts_with("key "));
    lines.map(|line| line[4..].to_owned()).collect()
}

/// A key, and something that only it decrypts.
async fn encrypt(kms: &Client) -> Blob {
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
    let encrypt = kms.encrypt().key_id(key.key_id());
    let encrypt = encrypt.plaintext(Blob::new("secret"));
    encrypt.send().await.unwrap().ciphertext_blob.unwrap()
}

async fn decrypts(kms: &Client, blob: &Blob) {
    let decrypt = kms.decrypt().ciphertext_blob(blob.clone());
    let opened = decrypt.send().await.unwrap().plaintext.unwrap();
    assert_eq!(opened.as_ref(), b"secret");
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Catches any of these texts in a file of the cluster, what its processes printed, or what the system
/// shows of them.
fn nowhere(cluster: &Cluster, texts: &[String], except: &str) {
    let mut places = files_below(cluster.folder());
    places.retain(|path| path.to_str() != Some(except));
    for pid in cluster.pids() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        places.extend(["cmdline", "environ"].map(|name| process.join(name)));
    }
    assert!(places.len() > 10, "{places:?}");
    for place in places {
        // A socket, or a process that is just ending.
        let Ok(bytes) = fs::read(&place) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        for secret in texts {
            assert!(!text.contains(secret), "{secret} is in {}", place.display());
        }
    }
}

/// Catches a locked domain key that a cluster starts without, or not with its passphrase; nodes that are
/// started later and get none; keys that do not decrypt afterwards; and a secret that is seen anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_opens_the_domain_key() {
    let shape = Shape {
        regions: vec![(HERE, 3), (THERE, 1)],
        ..Shape::one_region(3)
    };
    let mut cluster = Cluster::up(&shape).await;
    let blob = encrypt(&sdk::client(cluster.endpoint(), HERE, "test")).await;
    cluster.stop().await;
    let of = |region| ["domain.key", "region.key"].map(|n| secret_file(&cluster, region, n));
    let files = [of(HERE), of(THERE)].concat();
    let plain: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let mut hidden = secrets(&files);
    assert_eq!(hidden.len(), 4);
    hidden.extend([PASSPHRASE, "keyrum-unlock-key "].map(str::to_owned));

    let good = file(&cluster, "good", &format!("{PASSPHRASE}\n"));
    let wrong = file(&cluster, "wrong", "correct horse batterie\n");
    let short = file(&cluster, "short", "too short\n");
    let lock = |file: &str| domain_key(&cluster, &["lock", "--passphrase-file", file]);
    says(&lock(&short).unwrap_err(), &["nothing was changed", "12"]);
    says(&lock(&good).unwrap(), &[HERE, THERE, "locked"]);
    nowhere(&cluster, &hidden, &good);

    let refused = cluster.try_start().await.unwrap_err();
    says(
        &refused,
        &["locked", HERE, "--unlock", "Nothing was changed"],
    );
    cluster.reshape(&unlocked_by(&shape, &wrong));
    let refused = cluster.try_start().await.unwrap_err();
    says(&refused, &["the passphrase is wrong", "domain.key"]);
    cluster.reshape(&unlocked_by(&shape, &good));
    cluster.start().await;
    decrypts(&sdk::client(cluster.endpoint(), HERE, "test"), &blob).await;
    nowhere(&cluster, &hidden, &good);

    // What opens it need not be there any more.
    fs::rename(&good, cluster.folder().join("elsewhere")).unwrap();
    cluster.command(&["kill", "us-east-1/1"]).await;
    cluster.command(&["restart", "us-east-1/1"]).await;
    cluster.command(&["add", "us-east-1/4"]).await;
    cluster
        .command(&["add-region", "ap-south-1", "--nodes", "1"])
        .await;
    for line in cluster.agree().await {
        if line.node.starts_with(HERE) {
            decrypts(&sdk::client(&line.api, HERE, "test"), &blob).await;
        }
    }
    fs::rename(cluster.folder().join("elsewhere"), &good).unwrap();
    nowhere(&cluster, &hidden, &good);
    cluster.stop().await;

    let refused = domain_key(&cluster, &["unlock", "--unlock", &wrong]).unwrap_err();
    says(&refused, &["the passphrase is wrong"]);
    let said = domain_key(&cluster, &["unlock", "--unlock", &good]).unwrap();
    says(&said, &["us-east-1: the domain key is plain", "ap-south-1"]);
    let again: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(again == plain, "the files are as they were");
    cluster.reshape(&shape);
    cluster.start().await;
    decrypts(&sdk::client(cluster.endpoint(), HERE, "test"), &blob).await;
}

/// Catches shares of which one is enough or two are not, and a share that is seen anywhere but in its
/// file.
#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_shares_open_the_domain_key() {
    let shape = Shape::one_region(1);
    let mut cluster = Cluster::up(&shape).await;
    let blob = encrypt(&sdk::client(cluster.endpoint(), HERE, "test")).await;
    let out = cluster.folder().join("shares");
    let make = ["lock", "--shares", "2/3", "--out", out.to_str().unwrap()];
    // The cluster runs, and goes on.
    let said = domain_key(&cluster, &make).unwrap();
    says(&said, &["2 of 3 shares open it", "start it with --unlock"]);
    decrypts(&sdk::client(cluster.endpoint(), HERE, "test"), &blob).await;
    cluster.stop().await;
    let share = |number: u8| {
        let path = out.join(format!("us-east-1-share-{number}.txt"));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        fs::read_to_string(path).unwrap()
    };
    let shares = [1, 2, 3].map(share);
    fs::remove_dir_all(&out).unwrap();
    let given = cluster.folder().join("given").to_str().unwrap().to_owned();
    let unlock = |text: &str| fs::write(&given, text).unwrap();

    let refused = cluster.try_start().await.unwrap_err();
    says(&refused, &["2 of its 3 shares open it", "--unlock"]);
    cluster.reshape(&unlocked_by(&shape, &given));
    unlock(&shares[1]);
    let refused = cluster.try_start().await.unwrap_err();
    says(&refused, &["2 different shares", "only number 2"]);
    unlock(&shares.concat().replacen('7', "8", 1));
    let refused = cluster.try_start().await.unwrap_err();
    says(&refused, &["line 1", "mistyped"]);
    let hidden: Vec<_> = shares
        .iter()
        .map(|share| share.split(' ').nth(7).unwrap()[..17].to_owned())
        .collect();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        unlock(&format!("{}{}", shares[one], shares[other]));
        cluster.start().await;
        decrypts(&sdk::client(cluster.endpoint(), HERE, "test"), &blob).await;
        nowhere(&cluster, &hidden, &given);
        cluster.stop().await;
    }

    // Another lock, and the old shares are worth nothing.
    unlock(&shares.concat());
    let again = ["lock", "--shares", "2/2", "--out", "-", "--unlock", &given];
    let printed = domain_key(&cluster, &again).unwrap();
    let new: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("keyrum-share"))
        .collect();
    assert_eq!(new.len(), 2);
    let refused = cluster.try_start().await.unwrap_err();
    says(&refused, &["another lock of this domain key"]);
    unlock(&new.join("\n"));
    cluster.start().await;
    decrypts(&sdk::client(cluster.endpoint(), HERE, "test"), &blob).await;
}

/// Catches a backup that does not bring a lost domain key back, one that is taken for another cluster's
/// or Region's, one that replaces anything, and a locked one that shows a secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_a_lost_domain_key_back() {
    let shape = Shape {
        regions: vec![(HERE, 3), (THERE, 1)],
        ..Shape::one_region(3)
    };
    let mut cluster = Cluster::up(&shape).await;
    let blob = encrypt(&sdk::client(cluster.endpoint(), HERE, "test")).await;
    let good = file(&cluster, "good", PASSPHRASE);
    let [plain, locked, third] =
        ["plain", "locked", "third"].map(|name| cluster.folder().join(name).display().to_string());
    let back_up = |to: &str, how: &[&str]| {
        let args = ["backup", "--region", HERE, "--to", to];
        domain_key(&cluster, &[&args[..], how].concat())
    };
    // The cluster runs meanwhile.
    says(&back_up(&plain, &["--plain"]).unwrap(), &["version 1"]);
    let how = ["--passphrase-file", &good];
    says(
        &back_up(&locked, &how).unwrap(),
        &["its passphrase opens it"],
    );
    says(
        &back_up(&plain, &["--plain"]).unwrap_err(),
        &["exists already"],
    );
    let shares = cluster.folder().join("shares").display().to_string();
    let how = ["--shares", "2/2", "--out", &shares];
    says(&back_up(&third, &how).unwrap(), &["2 of 2 shares open it"]);
    let all = domain_key(&cluster, &["backup", "--plain", "--to", "never"]).unwrap_err();
    says(&all, &["--region", HERE, THERE]);
    cluster.stop().await;

    let files = ["domain.key", "region.key"].map(|name| secret_file(&cluster, HERE, name));
    let hidden = secrets(&files);
    let sealed = fs::read_to_string(&locked).unwrap();
    assert!(hidden.iter().all(|secret| !sealed.contains(secret)));
    let before = files.clone().map(|file| fs::read(file).unwrap());
    let restore = |cluster: &Cluster, from: &str, more: &[&str]| {
        let args = [&["restore", "--from", from][..], more].concat();
        domain_key(cluster, &args)
    };
    says(
        &restore(&cluster, &plain, &[]).unwrap(),
        &["stays as it is"],
    );
    assert!(files.clone().map(|file| fs::read(file).unwrap()) == before);
    let elsewhere = restore(&cluster, &plain, &["--region", THERE]).unwrap_err();
    says(&elsewhere, &["nothing was changed", "is of us-east-1"]);

    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    let refused = cluster.try_start().await.unwrap_err();
    says(
        &refused,
        &["the domain key file", "missing", "from a backup"],
    );
    says(
        &restore(&cluster, &plain, &[]).unwrap(),
        &["the domain key is back", "Region key is back"],
    );
    assert!(files.clone().map(|file| fs::read(file).unwrap()) == before);
    cluster.start().await;
    decrypts(&sdk::client(cluster.endpoint(), HERE, "test"), &blob).await;
    cluster.stop().await;

    // The locked ones, which stay locked.
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    let refused = restore(&cluster, &locked, &[]).unwrap_err();
    says(&refused, &["the backup is locked", "--unlock"]);
    says(
        &restore(&cluster, &locked, &["--unlock", &good]).unwrap(),
        &["locked as the backup is"],
    );
    let given = cluster.folder().join("given").display().to_string();
    let parts = [1, 2].map(|number| {
        let file = PathBuf::from(&shares).join(format!("backup-us-east-1-share-{number}.txt"));
        fs::read_to_string(file).unwrap()
    });
    fs::write(&given, parts.concat() + PASSPHRASE).unwrap();
    says(
        &restore(&cluster, &third, &["--unlock", &given]).unwrap(),
        &["stays as it is"],
    );
    fs::write(&files[0], "damaged").unwrap();
    let refused = restore(&cluster, &plain, &[]).unwrap_err();
    says(&refused, &["nothing was changed", "move it away"]);
    fs::remove_file(&files[0]).unwrap();
    says(
        &restore(&cluster, &third, &["--unlock", &given]).unwrap(),
        &["the domain key is back"],
    );
    let refused = cluster.try_start().await.unwrap_err();
    says(&refused, &["locked", "2 of its 2 shares"]);
    cluster.reshape(&unlocked_by(&shape, &given));
    cluster.start().await;
    decrypts(&sdk::client(cluster.endpoint(), HERE, "test"), &blob).await;
    cluster.stop().await;

    let other = Cluster::up(&Shape::one_region(1)).await;
    let args = ["restore", "--from", &plain];
    let refused = domain_key(&other, &args).unwrap_err();
    says(&refused, &["nothing was changed", "another cluster"]);
}

/// Catches a restoration of a domain key that the data was not sealed under: a reset drew another one
/// since, and the Region's key is still the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_before_a_reset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let backup = folder.path().join("backup").display().to_string();
    let dev = Dev::start(&["--data", &data, "--regions", HERE, "--nodes", "1"]).await;
    let run = |args: &[&str]| {
        let mut command = Command::new(keyrum());
        command.arg("domain-key").args(args).args(["--data", &data]);
        let output = command.output().unwrap();
        (output.status.success(), words(&output))
    };
    let made = run(&["backup", "--plain", "--to", &backup]);
    assert!(made.0, "{}", made.1);
    let reset = Raw::beside("POST", "reset");
    let answer = reset.send(&dev.ready.endpoint).await.unwrap();
    assert_eq!(answer.status, 200);
    drop(dev);
    let path = Path::new(&data).join(HERE).join("domain.key");
    fs::remove_file(&path).unwrap();
    let refused = run(&["restore", "--from", &backup]);
    assert!(!refused.0 && !path.exists(), "{}", refused.1);
    says(&refused.1, &["nothing was changed", "was sealed under"]);
}

/// Catches `keyrum dev` that does not open a locked domain key, and a reset that leaves a Region key
/// behind which nothing opens any more.
#[tokio::test(flavor = "multi_thread")]
async fn dev_opens_domain_keys_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, good) = (path("data"), path("good"));
    fs::write(&good, PASSPHRASE).unwrap();
    let args = [
        "--data",
        &data,
        "--nodes",
        "1",
        "--regions",
        "us-east-1,eu-west-1",
    ];
    let dev = Dev::start(&args).await;
    let blob = encrypt(&sdk::client(&dev.ready.endpoint, HERE, "test")).await;
    let mut lock = Command::new(keyrum());
    lock.args([
        "domain-key",
        "lock",
        "--data",
        &data,
        "--passphrase-file",
        &good,
    ]);
    let locked = lock.output().unwrap();
    assert!(locked.status.success(), "{}", words(&locked));
    drop(dev);

    let dev = Dev::start(&[&args[..], &["--unlock", &good]].concat()).await;
    let endpoint = &dev.ready.endpoint;
    let kms = sdk::client(endpoint, HERE, "test");
    decrypts(&kms, &blob).await;
    let reset = Raw::beside("POST", "reset");
    let answer = reset.send(endpoint).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let new = encrypt(&kms).await;
    decrypts(&kms, &new).await;
    assert!(kms.decrypt().ciphertext_blob(blob).send().await.is_err());
    drop(dev);
    let dev = Dev::start(&args).await;
    decrypts(&sdk::client(&dev.ready.endpoint, HERE, "test"), &new).await;
}

/// A terminal: the end that a person sits at, and the one a program has.
struct Terminal {
    person: fs::File,
    program: fs::File,
    seen: String,
    /// Up to where it was looked at.
    read: usize,
}

impl Terminal {
    fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::io::ioctl_fionbio(&person, true).unwrap();
        // A program that had this end, too, would outlive the test.
        rustix::io::fcntl_setfd(&person, rustix::io::FdFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let mut options = fs::File::options();
        let program = options.read(true).write(true).open(name).unwrap();
        Self {
            person: person.into(),
            program,
            seen: String::new(),
            read: 0,
        }
    }

    fn run(&self, mut command: Command) -> std::process::Child {
        let end = || Stdio::from(OwnedFd::from(self.program.try_clone().unwrap()));
        command.stdin(end()).stdout(end()).stderr(end());
        command.spawn().unwrap()
    }

    /// Waits until the screen shows `text` once more.
    async fn shows(&mut self, text: &str) {
        let deadline = tokio::time::Instant::now() + wait::LONG;
        let at = loop {
            if let Some(at) = self.seen[self.read..].find(text) {
                break at;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{text:?} is not in {}",
                self.seen
            );
            let mut bytes = [0; 4096];
            match self.person.read(&mut bytes) {
                Ok(length) => self
                    .seen
                    .push_str(&String::from_utf8_lossy(&bytes[..length])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        self.read += at + text.len();
    }

    fn types(&mut self, line: &str) {
        self.person.write_all(line.as_bytes()).unwrap();
    }
}

/// Catches a passphrase that a terminal shows, one that is mistyped and locks all the same, and a
/// terminal that shows nothing any more afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_asked_and_shows_nothing() {
    let mut cluster = Cluster::up(&Shape::one_region(1)).await;
    cluster.stop().await;
    let path = secret_file(&cluster, HERE, "domain.key");
    let plain = fs::read(&path).unwrap();
    let mut terminal = Terminal::new();
    let echoes = |terminal: &Terminal| {
        let modes = rustix::termios::tcgetattr(&terminal.program).unwrap();
        modes
            .local_modes
            .contains(rustix::termios::LocalModes::ECHO)
    };
    for (second, locks) in [("correct horse batterie", false), (PASSPHRASE, true)] {
        let mut child = terminal.run(cluster.keyrum("domain-key", &["lock"]));
        terminal.shows("(not shown)").await;
        terminal.types(&format!("{PASSPHRASE}\n"));
        terminal.shows("again").await;
        terminal.types(&format!("{second}\n"));
        terminal
            .shows(if locks { "is locked" } else { "not the same" })
            .await;
        assert_eq!(child.wait().unwrap().success(), locks);
        assert_eq!(fs::read(&path).unwrap() == plain, !locks);
        assert!(echoes(&terminal));
    }
    let mut child = terminal.run(cluster.keyrum("domain-key", &["unlock"]));
    terminal.shows("(not shown)").await;
    assert!(!echoes(&terminal));
    let pid = i32::try_from(child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    terminal.shows("nothing was changed").await;
    assert!(!child.wait().unwrap().success());
    assert!(echoes(&terminal));

    let mut child = terminal.run(cluster.keyrum("domain-key", &["unlock"]));
    terminal.shows("(not shown)").await;
    terminal.types(&format!("{PASSPHRASE}\n"));
    terminal.shows("is plain").await;
    assert!(child.wait().unwrap().success());
    assert!(!terminal.seen.contains("horse"), "{}", terminal.seen);
    assert_eq!(fs::read(&path).unwrap(), plain);
}

/// Catches a standard input that is not read where it is named.
#[tokio::test(flavor = "multi_thread")]
async fn standard_input_opens_a_domain_key() {
    let mut cluster = Cluster::up(&Shape::one_region(1)).await;
    cluster.stop().await;
    for args in [
        &["lock", "--passphrase-file", "-"][..],
        &["unlock", "--unlock", "-"],
    ] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writeln!(writer, "{PASSPHRASE}").unwrap();
        drop(writer);
        let mut command = cluster.keyrum("domain-key", args);
        let output = command.stdin(reader).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
    }
    let words = domain_key(&cluster, &["lock"]).unwrap_err();
    says(
        &words,
        &["nothing was changed", "--passphrase-file", "--shares"],
    );
}
