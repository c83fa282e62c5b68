//! Files that a passphrase or shares open.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_types::Region;

use super::super::contents::{Unfit, check_of};
use super::super::{region, share};
use super::*;

const PASSPHRASE: &str = "correct horse battery";

fn here() -> Region {
    "us-east-1".parse().unwrap()
}

fn given(text: &str) -> Unlock {
    Unlock::parse(text.as_bytes()).unwrap()
}

fn region_key(folder: &Folder) -> PathBuf {
    folder.0.join("region.key")
}

/// A folder with both secrets.
fn made() -> (Folder, DomainKeyring) {
    let (folder, entropy) = (Folder::new(), entropy());
    let keyring = create(&folder.file(), &entropy).ok().unwrap();
    create_region_key(&region_key(&folder), &entropy)
        .ok()
        .unwrap();
    (folder, keyring)
}

fn with_passphrase(folder: &Folder, passphrase: &str) {
    let (mut file, keyring) = open(folder);
    let name = keyring.fingerprint();
    let lock = FileLock::with_passphrase(passphrase, &here(), name, &entropy());
    file.lock(lock.ok().unwrap(), &region_key(folder)).unwrap();
}

fn shares(folder: &Folder, seed: u64) -> Vec<String> {
    shares_of(folder, seed, 2, 3)
}

fn shares_of(folder: &Folder, seed: u64, needed: u8, of: u8) -> Vec<String> {
    let (mut file, keyring) = open(folder);
    let (name, entropy) = (keyring.fingerprint(), CountingEntropy(seed.into()));
    let made = FileLock::with_shares(needed, of, &here(), name, &entropy);
    let (lock, shares) = made.ok().unwrap();
    file.lock(lock, &region_key(folder)).unwrap();
    shares
        .iter()
        .map(|share| share.line().to_string())
        .collect()
}

#[track_caller]
fn stays(folder: &Folder, unlock: &Unlock) -> StaysLocked {
    match open_with(folder, unlock).err().unwrap() {
        KeyFileError::Locked { why, .. } => why,
        other => panic!("{other}"),
    }
}

/// What of a folder's files anybody can read who knows no passphrase.
fn readable(folder: &Folder) -> String {
    let files = [folder.file(), region_key(folder)];
    files.map(|file| fs::read_to_string(file).unwrap()).concat()
}

/// Catches a lock that leaves a secret readable, opens without its passphrase, loses a key, keeps the
/// file from being changed, or cannot be taken off again.
#[test]
fn a_passphrase_locks_both_files() {
    let (folder, keyring) = made();
    let plain = readable(&folder);
    let key = load_region_key(&region_key(&folder)).ok().unwrap();
    with_passphrase(&folder, PASSPHRASE);
    assert_eq!(
        stays(&folder, &Unlock::default()),
        StaysLocked::NoPassphrase
    );
    let wrong = given("correct horse batterz");
    assert_eq!(stays(&folder, &wrong), StaysLocked::WrongPassphrase);
    assert!(load_region_key(&region_key(&folder)).is_err());
    let by = DomainKeyFile::opened_by(&folder.file());
    assert_eq!(by.ok(), Some(OpenedBy::Passphrase));

    let (file, opened) = open_with(&folder, &given(PASSPHRASE)).ok().unwrap();
    assert_eq!(all(&opened), all(&keyring));
    let second = file.get_or_generate(2, &entropy()).ok().unwrap();
    let third = DomainSecret::generate(&CountingEntropy(77.into()));
    file.put(3, &third, false).unwrap();
    let of_region = file.load_region_key(&region_key(&folder)).ok().unwrap();
    assert_eq!(*of_region.expose(), *key.expose());
    let read = readable(&folder);
    let first = keyring.version(1).unwrap();
    let tokens = first.tokens();
    for secret in [
        first.expose(),
        second.expose(),
        third.expose(),
        &tokens,
        &key.expose(),
    ] {
        assert!(!read.contains(&STANDARD.encode(secret)), "{read}");
    }
    assert!(!read.contains(PASSPHRASE));

    // Another node gets the key and not what opened it.
    let mut others = Unlock::default();
    file.pass_key_on(&mut others);
    let others = given(&others.keys_text());
    let (mut other, opened) = open_with(&folder, &others).ok().unwrap();
    assert_eq!(opened.versions().len(), 3);
    other.remove(2).unwrap();
    other.remove(3).unwrap();
    other.unlock(&region_key(&folder)).unwrap();
    assert_eq!(readable(&folder), plain);
    assert!(file.get(1).ok().unwrap().is_some(), "it is plain now");
    assert_eq!(folder.others(), [".region.key.lock", "region.key"]);
}

/// Catches a plain file whose bytes stay on the disk when it is locked.
#[test]
fn what_was_plain_is_overwritten() {
    let (folder, _) = made();
    let links = ["a", "b"].map(|name| folder.0.join(name));
    fs::hard_link(folder.file(), &links[0]).unwrap();
    fs::hard_link(region_key(&folder), &links[1]).unwrap();
    with_passphrase(&folder, PASSPHRASE);
    for link in links {
        assert!(fs::read(link).unwrap().iter().all(|&byte| byte == 0));
    }
}

/// Catches shares of which too few open a file or enough do not, and one that is counted twice.
#[test]
fn so_many_of_so_many_shares_open_a_file() {
    let (folder, keyring) = made();
    let shares = shares(&folder, 5);
    let without = StaysLocked::NoShares { needed: 2, of: 3 };
    assert_eq!(stays(&folder, &Unlock::default()), without);
    assert_eq!(stays(&folder, &given("a passphrase")), without);
    for (at, one) in shares.iter().enumerate() {
        for other in &shares {
            let unlock = given(&format!("{one}\n{other}\n"));
            if one == other {
                let (needed, numbers) = (2, vec![at as u8 + 1]);
                let few = StaysLocked::TooFew { needed, numbers };
                assert_eq!(stays(&folder, &unlock), few);
            } else {
                let opened = open_with(&folder, &unlock).ok().unwrap().1;
                assert_eq!(all(&opened), all(&keyring));
            }
        }
    }
    let opened = open_with(&folder, &given(&shares.join("\n")));
    assert_eq!(all(&opened.ok().unwrap().1), all(&keyring));

    let (folder, keyring) = made();
    let shares = shares_of(&folder, 5, 3, 5);
    let numbers = vec![2, 5];
    let few = StaysLocked::TooFew { needed: 3, numbers };
    let two = format!("{}\n{}", shares[4], shares[1]);
    assert_eq!(stays(&folder, &given(&two)), few);
    let three = given(&format!("{two}\n{}", shares[2]));
    let opened = open_with(&folder, &three).ok().unwrap().1;
    assert_eq!(all(&opened), all(&keyring));
}

/// Catches shares of other Regions or earlier locks that are taken for the file's, or not named.
#[test]
fn shares_of_something_else_are_named() {
    let (folder, keyring) = made();
    let old = shares(&folder, 5);
    let (mut file, _) = open_with(&folder, &given(&old.join("\n"))).ok().unwrap();
    file.unlock(&region_key(&folder)).unwrap();
    let new = shares(&folder, 7_000);
    let why = stays(&folder, &given(&old.join("\n")));
    assert!(matches!(why, StaysLocked::OtherLock { .. }), "{why}");
    let StaysLocked::OtherLock { lock } = why else {
        panic!()
    };
    assert!(new[0].contains(&lock) && !old[0].contains(&lock));
    let mixed = given(&format!("{}\n{}", old[0], new[1]));
    let few = StaysLocked::TooFew {
        needed: 2,
        numbers: vec![2],
    };
    assert_eq!(stays(&folder, &mixed), few);

    let other = DomainKeyring::generate(&CountingEntropy(900.into())).fingerprint();
    let there: Region = "eu-west-1".parse().unwrap();
    let others = FileLock::with_shares(2, 3, &there, other, &entropy());
    let others: Vec<_> = others.ok().unwrap().1;
    let lines: Vec<_> = others
        .iter()
        .map(|share| share.line().to_string())
        .collect();
    let words = stays(&folder, &given(&lines.join("\n"))).to_string();
    assert!(words.contains("eu-west-1"), "{words}");
    assert!(words.contains(&other.to_string()), "{words}");
    // What does not matter is no harm: a file may have the shares of several Regions.
    let both = given(&[lines.join("\n"), new[1..].join("\n")].join("\n\n"));
    let opened = open_with(&folder, &both).ok().unwrap().1;
    assert_eq!(opened.fingerprint(), keyring.fingerprint());
}

/// Catches a share that is changed and still taken, one that is refused for how it is typed, and an
/// error that shows a part of it.
#[test]
fn a_mistyped_share_is_named() {
    let (folder, _) = made();
    let line = shares(&folder, 5).remove(0);
    let again = Share::parse(&line).ok().unwrap();
    assert_eq!(again.line().as_str(), line);
    assert_eq!(again.number(), 1);
    let typed = format!("  {}  ", line.to_uppercase().replace('-', " - "));
    let typed = typed.replace("US - EAST - 1", "us-east-1");
    let typed = typed.replace("KEYRUM - SHARE", "Keyrum-Share");
    assert_eq!(Share::parse(&typed).ok().unwrap().line().as_str(), line);
    for (at, letter) in line.char_indices().skip(share::BEGINS.len() + 1) {
        let other = match letter {
            ' ' | '-' => 'x',
            '7' => '8',
            _ => '7',
        };
        let mut changed = line.clone();
        changed.replace_range(at..=at, &other.to_string());
        let error = Unlock::parse(changed.as_bytes()).err();
        let error = error.unwrap_or_else(|| panic!("{changed} is taken"));
        let words = error.to_string();
        assert!(words.starts_with("line 1 is a share"), "{words}");
        assert!(Share::parse(&line[..at]).is_err(), "cut to {at}");
    }
    let digits = line.split(' ').nth(7).unwrap();
    let mistyped = line.replace(&digits[..8], "01234567");
    let error = Unlock::parse(mistyped.as_bytes()).err().unwrap();
    assert!(error.to_string().contains("mistyped"), "{error}");
    assert!(!format!("{error:?} {error}").contains(&digits[9..17]));
    let two = Unlock::parse(b"one passphrase\n\nanother\n").err();
    assert_eq!(two, Some(InvalidUnlock::TwoPassphrases { line: 3 }));
    let none = Unlock::parse(b"\n \n").err();
    assert_eq!(none, Some(InvalidUnlock::Empty));
}

/// Catches a lock that is no protection.
#[test]
fn weak_locks_are_refused() {
    let name = DomainKeyring::generate(&entropy()).fingerprint();
    let refused =
        |passphrase: &str| FileLock::with_passphrase(passphrase, &here(), name, &entropy()).err();
    assert_eq!(refused("eleven byte"), Some(InvalidLock::ShortPassphrase));
    for odd in [
        "two\nlines of it",
        "keyrum-share 1 2 3",
        "              ",
        "keyrum-unlock-key 1",
    ] {
        assert_eq!(refused(odd), Some(InvalidLock::OddPassphrase), "{odd:?}");
    }
    for (needed, of) in [(0, 3), (1, 3), (4, 3), (0, 0)] {
        let refused = FileLock::with_shares(needed, of, &here(), name, &entropy());
        assert_eq!(refused.err(), Some(InvalidLock::Shares));
    }
}

/// A file's text with a check that fits.
fn rechecked(text: &str) -> Vec<u8> {
    let (lines, _) = text.split_at(text.rfind("check ").unwrap());
    format!("{lines}check {}\n", check_of(lines.as_bytes())).into_bytes()
}

/// Catches a file that stops the machine with the work it asks for, and a sealed secret that opens in
/// another place than it was made for.
#[test]
fn altered_locks_are_refused() {
    let (folder, _) = made();
    with_passphrase(&folder, PASSPHRASE);
    let (file, _) = open_with(&folder, &given(PASSPHRASE)).ok().unwrap();
    file.get_or_generate(2, &entropy()).ok().unwrap();
    file.get_or_generate(3, &entropy()).ok().unwrap();
    let good = fs::read_to_string(folder.file()).unwrap();
    let parse = |text: &str| {
        let mut keys = Unlock::default();
        file.pass_key_on(&mut keys);
        Contents::parse(&rechecked(text), &keys).err()
    };
    assert_eq!(parse(&good), None);
    let costs = |costs: &str| good.replace("argon2id 65536 3 1", &format!("argon2id {costs}"));
    for absurd in ["4194304 3 1", "65536 99999 1", "65536 3 4096"] {
        let asks = "it asks for more work to unlock it than any file of Keyrum";
        assert_eq!(
            parse(&costs(absurd)),
            Some(Unfit::Damaged(asks)),
            "{absurd}"
        );
    }
    for odd in ["065536 3 1", "65536 3", "-1 3 1"] {
        assert_eq!(
            parse(&costs(odd)),
            Some(Unfit::Damaged("its lock is damaged"))
        );
    }
    // Costs under which Argon2 does nothing at all.
    fs::write(folder.file(), rechecked(&costs("1 0 1"))).unwrap();
    let why = stays(&folder, &given(PASSPHRASE));
    assert_eq!(why, StaysLocked::WrongPassphrase);

    let line = |begins: &str| {
        let line = good.lines().find(|line| line.starts_with(begins)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let (two, three, tokens) = (line("version 2 "), line("version 3 "), line("tokens "));
    let swap = |one: &str, other: &str| {
        let text = good.replace(one, "X").replace(other, one);
        text.replace('X', other)
    };
    for changed in [
        swap(&two, &three),
        swap(&two, &tokens),
        good.replace("region us-east-1", "region us-east-2"),
        good.replace("version 3 ", "version 4 "),
    ] {
        assert!(parse(&changed).is_some(), "{changed}");
    }
    for at in (0..good.len()).step_by(3) {
        let mut changed = good.clone().into_bytes();
        changed[at] ^= 4;
        let keys = Unlock::default();
        let unfit = Contents::parse(&changed, &keys).err();
        assert!(!matches!(unfit, None | Some(Unfit::Locked(_))), "byte {at}");
    }
}

/// Catches a lock that is cut short between its two files and leaves one that nothing opens.
#[test]
fn a_lock_cut_short_harms_nothing() {
    let (folder, keyring) = made();
    let path = region_key(&folder);
    let key = load_region_key(&path).ok().unwrap();
    let place = Place::new(&path, SecretKind::RegionKey);
    let seal = region::seal_of(&keyring.version(1).unwrap().tokens());
    region::rewrite(&place, &seal, Some(&seal), &entropy()).unwrap();
    assert!(load_region_key(&path).is_err(), "it is sealed");
    let there = |file: &DomainKeyFile| *file.load_region_key(&path).ok().unwrap().expose();
    assert_eq!(there(&open(&folder).0), *key.expose());
    with_passphrase(&folder, PASSPHRASE);
    let mut file = open_with(&folder, &given(PASSPHRASE)).ok().unwrap().0;
    assert_eq!(there(&file), *key.expose());
    file.unlock(&path).unwrap();
    assert_eq!(there(&open(&folder).0), *key.expose());
    // Under another lock, the Region's key stays as it is.
    with_passphrase(&folder, PASSPHRASE);
    let before = fs::read(&path).unwrap();
    let mut file = open_with(&folder, &given(PASSPHRASE)).ok().unwrap().0;
    let name = keyring.fingerprint();
    let lock = FileLock::with_passphrase("another passphrase", &here(), name, &entropy());
    file.lock(lock.ok().unwrap(), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(
        stays(&folder, &given(PASSPHRASE)),
        StaysLocked::WrongPassphrase
    );
    assert_eq!(there(&file), *key.expose());
}

/// Catches a node that goes on with a file that was locked since it started, by what it still knows.
#[test]
fn a_file_locked_since_it_was_opened_says_so() {
    let (folder, _) = made();
    let (file, _) = open(&folder);
    with_passphrase(&folder, PASSPHRASE);
    let error = file.get_or_generate(2, &entropy()).err().unwrap();
    assert!(matches!(error, KeyFileError::Locked { .. }), "{error}");
    let mut other = open_with(&folder, &given(PASSPHRASE)).ok().unwrap().0;
    other.unlock(&region_key(&folder)).unwrap();
    assert!(file.get_or_generate(2, &entropy()).is_ok());
}

/// Catches a change of the form of locked files or shares, after which none made before opens.
#[test]
fn released_locks_still_open() {
    let folder = Folder::new();
    let put = |text: &str| {
        fs::write(folder.file(), text).unwrap();
        fs::set_permissions(folder.file(), Permissions::from_mode(0o600)).unwrap();
    };
    let made = Contents::first(DomainSecret::generate(&entropy())).into_keyring();
    put(include_str!("../../../golden/domain-key-passphrase-2.txt"));
    let opened = open_with(&folder, &given(PASSPHRASE)).ok().unwrap().1;
    assert_eq!(all(&opened), all(&made));
    put(include_str!("../../../golden/domain-key-shares-2.txt"));
    let lines = include_str!("../../../golden/domain-key-shares-2.shares");
    let opened = open_with(&folder, &given(lines)).ok().unwrap().1;
    assert_eq!(all(&opened), all(&made));
}

/// Writes what the test above reads. Run it only for a new form, under a new name.
#[test]
#[ignore = "writes golden files"]
fn write_golden_locks() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (folder, _) = made();
    with_passphrase(&folder, PASSPHRASE);
    fs::copy(folder.file(), golden.join("domain-key-passphrase-2.txt")).unwrap();
    let (folder, _) = made();
    let lines = shares(&folder, 5)[1..].join("\n");
    fs::copy(folder.file(), golden.join("domain-key-shares-2.txt")).unwrap();
    fs::write(golden.join("domain-key-shares-2.shares"), lines + "\n").unwrap();
}
