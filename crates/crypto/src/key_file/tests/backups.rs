//! Copies of both secrets.

use keyrum_types::Region;

use super::*;

struct Kept {
    folder: Folder,
    backup: PathBuf,
}

fn here() -> Region {
    "us-east-1".parse().unwrap()
}

impl Kept {
    /// Both secrets, with two versions of one, and a backup.
    fn new(lock: impl FnOnce(&DomainKeyFile) -> Option<FileLock>) -> Self {
        let (folder, entropy) = (Folder::new(), entropy());
        create(&folder.file(), &entropy).ok().unwrap();
        let region_key = folder.0.join("region.key");
        create_region_key(&region_key, &entropy).ok().unwrap();
        let (file, _) = open(&folder);
        file.get_or_generate(2, &entropy).ok().unwrap();
        let backup = folder.0.join("backup");
        let made = file.back_up(&here(), &region_key, lock(&file), &backup);
        let versions: Vec<_> = made.ok().unwrap().into_keys().collect();
        assert_eq!(versions, [1, 2]);
        Self { folder, backup }
    }

    fn region_key(&self) -> PathBuf {
        self.folder.0.join("region.key")
    }

    fn restore(&self, unlock: &Unlock) -> Result<Restored, KeyFileError> {
        let backup = Backup::open(&self.backup, unlock)?;
        let (file, region_key) = (self.folder.file(), self.region_key());
        backup.restore(&file, &region_key, unlock, Arc::new(entropy()))
    }
}

/// Catches a backup without one of the secrets, one that others can read or that replaces a file, and
/// a restoration that makes something else of it.
#[test]
fn a_backup_brings_both_secrets_back() {
    let kept = Kept::new(|_| None);
    let mode = fs::metadata(&kept.backup).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let both = || [kept.folder.file(), kept.region_key()].map(|file| fs::read(file).unwrap());
    let before = both();
    let (file, _) = open(&kept.folder);
    let again = file.back_up(&here(), &kept.region_key(), None, &kept.backup);
    let error = again.err().unwrap();
    assert!(matches!(error, KeyFileError::Exists { .. }), "{error}");

    fs::remove_file(kept.folder.file()).unwrap();
    fs::remove_file(kept.region_key()).unwrap();
    let restored = kept.restore(&Unlock::default()).ok().unwrap();
    assert!(restored.made_domain_key && restored.made_region_key);
    assert_eq!(both(), before);
    let backup = Backup::open(&kept.backup, &Unlock::default()).ok().unwrap();
    assert_eq!(backup.fingerprint(), open(&kept.folder).1.fingerprint());
    let key = load_region_key(&kept.region_key()).ok().unwrap();
    assert_eq!(backup.public_key(), key.public());
    assert_eq!(*backup.region(), here());
    let text = fs::read(&kept.backup).unwrap();
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 4;
        fs::write(&kept.backup, &changed).unwrap();
        let error = Backup::open(&kept.backup, &Unlock::default()).err();
        assert!(error.is_some(), "byte {at} goes unnoticed");
    }
}

/// Catches a restoration that replaces or loses versions of a file that works, or that takes a backup
/// of another domain key.
#[test]
fn a_restoration_only_adds() {
    let kept = Kept::new(|_| None);
    let (file, _) = open(&kept.folder);
    file.get_or_generate(3, &CountingEntropy(50.into()))
        .ok()
        .unwrap();
    file.remove(1).unwrap();
    let three = *file.get(3).ok().unwrap().unwrap().expose();
    let restored = kept.restore(&Unlock::default()).ok().unwrap();
    assert!(!restored.made_domain_key && !restored.made_region_key);
    assert_eq!((restored.added, restored.kept), ([1].into(), [3].into()));
    let there = all(&open(&kept.folder).1);
    assert_eq!(there.len(), 3);
    assert_eq!(there[2], (3, three));
    let again = kept.restore(&Unlock::default()).ok().unwrap();
    assert!(again.added.is_empty());

    let other = DomainSecret::generate(&CountingEntropy(60.into()));
    file.put(2, &other, true).unwrap();
    file.remove(1).unwrap();
    let before = fs::read(kept.folder.file()).unwrap();
    let error = kept.restore(&Unlock::default()).err().unwrap();
    assert!(
        matches!(error, KeyFileError::OtherVersion { version: 2, .. }),
        "{error}"
    );
    assert_eq!(fs::read(kept.folder.file()).unwrap(), before);

    fs::remove_file(kept.folder.file()).unwrap();
    create(&kept.folder.file(), &CountingEntropy(70.into()))
        .ok()
        .unwrap();
    let before = fs::read(kept.folder.file()).unwrap();
    let error = kept.restore(&Unlock::default()).err().unwrap();
    assert!(matches!(error, KeyFileError::Exchanged { .. }), "{error}");
    fs::write(kept.folder.file(), "damaged").unwrap();
    let error = kept.restore(&Unlock::default()).err().unwrap();
    assert!(matches!(error, KeyFileError::Unusable { .. }), "{error}");
    assert_ne!(fs::read(kept.folder.file()).unwrap(), before);
}

/// Catches a locked backup that shows a secret, opens without its passphrase, or is restored to files
/// that anybody can read.
#[test]
fn a_locked_backup_stays_locked() {
    let passphrase = "of the backup alone";
    let kept = Kept::new(|file| {
        let name = file.fingerprint();
        let lock = FileLock::with_passphrase(passphrase, &here(), name, &entropy());
        Some(lock.ok().unwrap())
    });
    let keyring = open(&kept.folder).1;
    let key = load_region_key(&kept.region_key()).ok().unwrap();
    assert_eq!(
        Backup::opened_by(&kept.backup).ok(),
        Some(OpenedBy::Passphrase)
    );
    let plain = fs::read_to_string(kept.folder.file()).unwrap();
    let text = fs::read_to_string(&kept.backup).unwrap();
    for line in plain.lines().filter(|line| line.starts_with("version")) {
        assert!(!text.contains(line.rsplit(' ').next().unwrap()));
    }
    fs::remove_file(kept.folder.file()).unwrap();
    fs::remove_file(kept.region_key()).unwrap();
    assert!(kept.restore(&Unlock::default()).is_err());
    assert!(!kept.folder.file().exists());
    let unlock = Unlock::parse(passphrase.as_bytes()).unwrap();
    kept.restore(&unlock).ok().unwrap();
    assert!(matches!(refused(&kept.folder), KeyFileError::Locked { .. }));
    assert!(load_region_key(&kept.region_key()).is_err());
    let (file, opened) = open_with(&kept.folder, &unlock).ok().unwrap();
    assert_eq!(all(&opened), all(&keyring));
    let there = file.load_region_key(&kept.region_key()).ok().unwrap();
    assert_eq!(*there.expose(), *key.expose());
}
