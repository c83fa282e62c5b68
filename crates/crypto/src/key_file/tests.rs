//! Key files on a real disk.

mod backups;
mod locks;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::contents::Contents;
use super::disk::{Old, Place};
use super::*;
use crate::keyring::{DomainKeyring, DomainSecret};
use crate::testing::CountingEntropy;
use crate::wrap::RegionKey;

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("keyrum-domain-key-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("domain.key")
    }

    /// The names in it that are neither the file nor the lock beside it.
    fn others(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names
            .filter(|name| !["domain.key", ".domain.key.lock"].contains(&name.as_str()))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn entropy() -> CountingEntropy {
    CountingEntropy(1.into())
}

fn open_with(
    folder: &Folder,
    unlock: &Unlock,
) -> Result<(DomainKeyFile, DomainKeyring), KeyFileError> {
    DomainKeyFile::open(&folder.file(), unlock, Arc::new(entropy()))
}

fn open(folder: &Folder) -> (DomainKeyFile, DomainKeyring) {
    open_with(folder, &Unlock::default()).ok().unwrap()
}

fn refused(folder: &Folder) -> KeyFileError {
    open_with(folder, &Unlock::default()).err().unwrap()
}

/// Everything that could be read of a domain key.
fn all(keyring: &DomainKeyring) -> Vec<(u32, [u8; 32])> {
    let versions = keyring.versions().into_keys();
    versions
        .map(|version| (version, *keyring.version(version).unwrap().expose()))
        .collect()
}

/// Catches a key that differs after a restart, a file open to others, a leftover draft, and a second
/// creation that replaces the key.
#[test]
fn the_file_keeps_the_key() {
    let (folder, entropy) = (Folder::new(), entropy());
    let made = create(&folder.file(), &entropy).ok().unwrap();
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(folder.others(), [""; 0]);
    assert_eq!(all(&open(&folder).1), all(&made));
    let second = create(&folder.file(), &entropy).err().unwrap();
    assert!(matches!(second, KeyFileError::Exists { .. }), "{second}");
    assert_eq!(folder.others(), [""; 0]);
    assert_eq!(all(&open(&folder).1), all(&made));
}

/// Catches a lost key that does not say what helps.
#[test]
fn a_missing_file_is_an_error() {
    let folder = Folder::new();
    let error = refused(&folder);
    assert!(matches!(error, KeyFileError::Missing { .. }), "{error}");
    let words = error.to_string();
    assert!(words.contains("keyrum domain-key restore"), "{words}");
}

/// Catches a key that others could have read being used as if nothing was wrong.
#[test]
fn a_file_open_to_others_is_refused() {
    let folder = Folder::new();
    create(&folder.file(), &entropy()).ok().unwrap();
    for mode in [0o640, 0o604, 0o660, 0o666, 0o620] {
        fs::set_permissions(folder.file(), Permissions::from_mode(mode)).unwrap();
        let error = refused(&folder);
        assert!(
            matches!(error, KeyFileError::OpenToOthers { mode: found, .. } if found == mode),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("{mode:o}")), "{error}");
    }
}

/// Catches damage that loads as another key, and an error that shows the key.
#[test]
fn damaged_files_are_refused_without_showing_the_key() {
    let folder = Folder::new();
    create(&folder.file(), &entropy()).ok().unwrap();
    let good = fs::read_to_string(folder.file()).unwrap();
    let key = good.lines().last().unwrap().strip_prefix("key ").unwrap();
    let swapped = [&key[4..8], &key[..4], &key[8..]].concat();
    for (bad, part) in [
        (String::new(), "does not begin like one"),
        (good.replacen("key 1", "key 3", 1), "another version"),
        (
            good.replacen("fingerprint ", "fingerprint x", 1),
            "fingerprint is damaged",
        ),
        (good.replace(key, &swapped), "do not belong together"),
        (good.replace(key, &key[4..]), "its key is damaged"),
        (
            good.replace(&format!("key {key}\n"), ""),
            "its key is missing",
        ),
        ("x".repeat(70_000), "too long"),
    ] {
        fs::write(folder.file(), &bad).unwrap();
        let error = refused(&folder);
        let text = error.to_string();
        assert!(matches!(error, KeyFileError::Unusable { .. }), "{text}");
        assert!(text.contains(part), "{text} should say {part}");
        assert!(!format!("{error:?}{text}").contains(&key[..16]), "{text}");
    }
    let folder_as_file = DomainKeyFile::opened_by(&folder.0);
    assert!(matches!(folder_as_file, Err(KeyFileError::Unusable { .. })));
}

/// Catches versions that are lost, changed or mixed up on the way through the file, a file that older
/// programs could read and cannot, and a name or key for tokens that goes with the first version.
#[test]
fn versions_come_and_go() {
    let (folder, entropy) = (Folder::new(), entropy());
    let made = create(&folder.file(), &entropy).ok().unwrap();
    let format_1 = fs::read(folder.file()).unwrap();
    let (file, _) = open(&folder);
    let second = file.get_or_generate(2, &entropy).ok().unwrap();
    let again = file.get_or_generate(2, &entropy).ok().unwrap();
    assert_eq!(second.expose(), again.expose());
    let third = DomainSecret::generate(&entropy);
    file.put(3, &third, false).unwrap();
    file.put(3, &third, false).unwrap();
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let held = |version, secret: &DomainSecret| (version, *secret.expose());
    let first = all(&made)[0];
    let three = [first, held(2, &second), held(3, &third)];
    assert_eq!(all(&open(&folder).1), three);
    assert_eq!(open(&folder).1.seals_under(), 1);
    let got = file.get(3).ok().unwrap();
    assert_eq!(got.unwrap().expose(), third.expose());
    assert!(file.get(4).ok().unwrap().is_none());

    let other = DomainSecret::generate(&entropy);
    let error = file.put(3, &other, false).unwrap_err();
    assert!(
        matches!(error, KeyFileError::OtherVersion { version: 3, .. }),
        "{error}"
    );
    assert_eq!(all(&open(&folder).1), three);
    file.put(3, &other, true).unwrap();
    file.remove(1).unwrap();
    file.remove(1).unwrap();
    let left = open(&folder).1;
    assert_eq!(all(&left), [held(2, &second), held(3, &other)]);
    assert_eq!(left.fingerprint(), made.fingerprint());
    let token = made.token_key().issue(&[b"x"], b"payload");
    assert!(left.token_key().open(&[b"x"], &token).is_some());
    file.remove(2).unwrap();
    let error = file.remove(3).unwrap_err();
    assert!(
        matches!(error, KeyFileError::LastVersion { version: 3, .. }),
        "{error}"
    );
    assert_eq!(all(&open(&folder).1), [held(3, &other)]);

    let first = DomainSecret::from_bytes(zeroize::Zeroizing::new(first.1));
    file.put(1, &first, false).unwrap();
    file.remove(3).unwrap();
    assert_eq!(fs::read(folder.file()).unwrap(), format_1);
    assert_eq!(folder.others(), [""; 0]);
}

/// Catches a changed or cut byte of a file of several versions that goes unnoticed, and an error that
/// shows a secret.
#[test]
fn damage_of_format_2_is_found() {
    let (folder, entropy) = (Folder::new(), entropy());
    create(&folder.file(), &entropy).ok().unwrap();
    let (file, _) = open(&folder);
    file.get_or_generate(2, &entropy).ok().unwrap();
    file.remove(1).unwrap();
    let good = fs::read(folder.file()).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let secrets: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("tokens") || line.starts_with("version"))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(secrets.len(), 2);
    let check = |bytes: &[u8], what: &str| {
        let error = Contents::parse(bytes, &Unlock::default()).err();
        let words = format!(
            "{:?}",
            error.unwrap_or_else(|| panic!("{what} goes unnoticed"))
        );
        assert!(!secrets.iter().any(|secret| words.contains(secret)));
    };
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 4;
        check(&changed, &format!("byte {at}"));
        check(&good[..at], &format!("a cut to {at}"));
    }
    // A whole line that is gone leaves good lines behind.
    let line = text
        .lines()
        .find(|line| line.starts_with("version"))
        .unwrap();
    check(text.replace(&format!("{line}\n"), "").as_bytes(), "a line");
}

/// Catches a domain key that is written into the file of another one.
#[test]
fn a_file_that_was_exchanged_is_left_alone() {
    let (folder, entropy) = (Folder::new(), entropy());
    create(&folder.file(), &entropy).ok().unwrap();
    let (file, _) = open(&folder);
    fs::remove_file(folder.file()).unwrap();
    create(&folder.file(), &entropy).ok().unwrap();
    let bytes = fs::read(folder.file()).unwrap();
    let error = file.get_or_generate(2, &entropy).err().unwrap();
    assert!(matches!(error, KeyFileError::Exchanged { .. }), "{error}");
    assert!(file.get(1).is_err());
    assert_eq!(fs::read(folder.file()).unwrap(), bytes);
}

/// Catches two nodes that share a file and each make their own version, or lose each other's.
#[test]
fn nodes_share_a_file() {
    let folder = Folder::new();
    create(&folder.file(), &entropy()).ok().unwrap();
    let made: Vec<Vec<[u8; 32]>> = std::thread::scope(|scope| {
        let node = |seed: u64| {
            let folder = &folder;
            scope.spawn(move || {
                let (file, _) = open(folder);
                let entropy = CountingEntropy((seed * 1_000_000).into());
                let make = |version| {
                    let secret = file.get_or_generate(version, &entropy);
                    *secret.ok().unwrap().expose()
                };
                (2..12).map(make).collect()
            })
        };
        let nodes: Vec<_> = (1..5).map(node).collect();
        nodes.into_iter().map(|node| node.join().unwrap()).collect()
    });
    assert!(made.iter().all(|versions| *versions == made[0]));
    let kept = all(&open(&folder).1);
    let kept: Vec<_> = kept.into_iter().skip(1).map(|(_, secret)| secret).collect();
    assert_eq!(kept, made[0]);
}

/// Catches a crash during a change that leaves neither the old file nor the new one, one that keeps
/// the node from starting, and what a crash left behind staying readable.
#[test]
fn a_change_that_is_cut_short_leaves_a_whole_file() {
    for wipe in [Old::Forget, Old::Wipe] {
        for cut in 0.. {
            let (folder, entropy) = (Folder::new(), entropy());
            create(&folder.file(), &entropy).ok().unwrap();
            let (file, keyring) = open(&folder);
            let before = fs::read(folder.file()).unwrap();
            let mut contents = Contents::parse(&before, &Unlock::default()).ok().unwrap();
            let second = DomainSecret::generate(&entropy);
            contents.versions.insert(2, second);
            contents.versions.remove(&1);
            let after = contents.render(&entropy);

            let place = Place::new(&folder.file(), SecretKind::DomainKey);
            let mut steps = 0;
            let replaced = place
                .hold()
                .ok()
                .unwrap()
                .replace_until(&after, wipe, &mut || {
                    steps += 1;
                    match steps > cut {
                        true => Err(io::Error::other("the power is gone")),
                        false => Ok(()),
                    }
                });
            let now = fs::read(folder.file()).unwrap();
            assert!(now == before || now == *after, "{wipe:?}, step {cut}");
            // A name that the old bytes still have.
            let old = folder.0.join("kept");
            if wipe == Old::Wipe && folder.0.join(".domain.key.old").exists() {
                fs::hard_link(folder.0.join(".domain.key.old"), &old).unwrap();
            }
            let reopened = open(&folder).1;
            assert_eq!(fs::read(folder.file()).unwrap(), now, "{wipe:?}, {cut}");
            assert_eq!(reopened.fingerprint(), keyring.fingerprint());
            if old.exists() {
                let wiped = fs::read(&old).unwrap().iter().all(|&byte| byte == 0);
                assert_eq!(wiped, now == *after, "{wipe:?}, step {cut}");
                fs::remove_file(&old).unwrap();
            }
            assert_eq!(folder.others(), [""; 0], "{wipe:?}, step {cut}");
            file.get_or_generate(3, &entropy).ok().unwrap();
            if replaced.is_ok() {
                assert!(cut >= 3, "too few steps to be cut between");
                break;
            }
        }
    }
}

/// Catches a version that is taken out and stays readable in what the file was.
#[test]
fn a_removed_version_is_overwritten() {
    let (folder, entropy) = (Folder::new(), entropy());
    create(&folder.file(), &entropy).ok().unwrap();
    let (file, _) = open(&folder);
    file.get_or_generate(2, &entropy).ok().unwrap();
    // Another name keeps the bytes that were on the disk.
    let was = folder.0.join("was");
    fs::hard_link(folder.file(), &was).unwrap();
    file.remove(1).unwrap();
    assert!(fs::read(&was).unwrap().iter().all(|&byte| byte == 0));
    assert!(open(&folder).0.get(2).ok().unwrap().is_some());
}

/// Catches versions in memory that behave otherwise than those in a file.
#[test]
fn memory_behaves_like_a_file() {
    let (folder, entropy) = (Folder::new(), entropy());
    let keyring = create(&folder.file(), &entropy).ok().unwrap();
    let (file, memory) = (open(&folder).0, MemoryDomainKeys::of(&keyring));
    let [one, other] = [1, 2].map(|_| DomainSecret::generate(&entropy));
    let walk = |keys: &dyn DomainKeys| {
        let held = |version| {
            let secret = keys.get(version).ok().unwrap();
            secret.map(|secret| *secret.expose())
        };
        let made = keys.get_or_generate(1, &CountingEntropy(9.into()));
        let first = *made.ok().unwrap().expose();
        let puts = [
            keys.put(2, &one, false).is_ok(),
            keys.put(2, &one, false).is_ok(),
            keys.put(2, &other, false).is_ok(),
            held(2) == Some(*one.expose()),
            keys.put(2, &other, true).is_ok(),
            held(2) == Some(*other.expose()),
        ];
        let made = *keys
            .get_or_generate(3, &CountingEntropy(9.into()))
            .ok()
            .unwrap()
            .expose();
        let removed = [1, 2, 7, 3].map(|version| keys.remove(version).is_ok());
        (first, puts, made, removed, held(1), held(3) == Some(made))
    };
    let (as_file, as_memory) = (walk(&file), walk(&memory));
    assert_eq!(as_file, as_memory);
    assert_eq!(as_file.1, [true, true, false, true, true, true]);
    assert_eq!(as_file.3, [true, true, true, false]);
    assert_eq!((as_file.4, as_file.5), (None, true));
}

/// Catches a Region's key that differs after a restart, a file open to others, one secret taken for
/// the other, and a key beside another's public half.
#[test]
fn the_region_key_has_a_file_of_its_own() {
    let (folder, entropy) = (Folder::new(), entropy());
    let path = folder.0.join("region.key");
    let missing = load_region_key(&path).err().unwrap().to_string();
    assert!(missing.contains("the Region key file"), "{missing}");
    assert!(missing.contains("wrap material to it"), "{missing}");
    let made = create_region_key(&path, &entropy).ok().unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = load_region_key(&path).ok().unwrap();
    assert_eq!(*read.expose(), *made.expose());
    let second = create_region_key(&path, &entropy).err().unwrap();
    assert!(matches!(second, KeyFileError::Exists { .. }), "{second}");

    create(&folder.file(), &entropy).ok().unwrap();
    assert!(load_region_key(&folder.file()).is_err());
    assert!(DomainKeyFile::opened_by(&path).is_err());

    let other = RegionKey::generate(&entropy).public().to_string();
    let text = fs::read_to_string(&path).unwrap();
    let mixed = text.replace(&made.public().to_string(), &other);
    fs::write(&path, mixed).unwrap();
    let error = load_region_key(&path).err().unwrap().to_string();
    assert!(error.contains("do not belong together"), "{error}");
}
