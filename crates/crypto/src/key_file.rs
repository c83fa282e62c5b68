//! The files that hold a Region's domain key and the key that other Regions wrap material to: text,
//! mode 0600, outside the log and the store.
//!
//! A file appears whole and synced, or not at all, and is never overwritten: a domain key that is
//! lost takes every key of the Region with it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_types::Entropy;
use zeroize::Zeroizing;

use crate::keyring::{DOMAIN_KEY_BYTES, DomainKeyring, Fingerprint};
use crate::wrap::{REGION_KEY_BYTES, RegionKey, RegionPublicKey};

/// Both secrets have this length, so one pair of functions reads and writes them.
const SECRET_BYTES: usize = DOMAIN_KEY_BYTES;
const _: () = assert!(SECRET_BYTES == REGION_KEY_BYTES);

/// Longest file that is read, in bytes; each has about 120.
const FILE_BYTES_MAX: u64 = 4096;

/// Which of a Region's secrets a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// What seals material at rest.
    DomainKey,
    /// What unwraps material of other Regions.
    RegionKey,
}

impl SecretKind {
    /// How the first line begins; the file's format follows.
    fn begins(self) -> &'static str {
        match self {
            Self::DomainKey => "keyrum-domain-key ",
            Self::RegionKey => "keyrum-region-key ",
        }
    }

    /// The name of the public value beside the secret.
    fn sign(self) -> &'static str {
        match self {
            Self::DomainKey => "fingerprint",
            Self::RegionKey => "public",
        }
    }

    /// What cannot go on without it.
    fn needed_for(self) -> &'static str {
        match self {
            Self::DomainKey => {
                "this node has data sealed under it; without it no key of this Region can be used"
            }
            Self::RegionKey => {
                "the other Regions wrap material to it; without it this Region could take no \
                 multi-Region key of theirs"
            }
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DomainKey => "domain key",
            Self::RegionKey => "Region key",
        })
    }
}

/// The only format of either file so far.
const FORMAT: &str = "1";

/// Why a key file cannot be used. Nothing is changed or lost in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no file, but there is something that needs the key it held.
    #[error(
        "the {kind} file {} is missing, and {}. Nothing was changed. Copy the file from another \
         node of the Region or from a backup, with mode 0600, and start again", path.display(),
        kind.needed_for()
    )]
    Missing {
        /// Which secret.
        kind: SecretKind,
        /// Where it should be.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error(
        "the {kind} file {file} is open to others (mode {mode:03o}); it must be 600. Nothing \
         was changed; check who read it, then run: chmod 600 {file}", file = path.display()
    )]
    OpenToOthers {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not such a file, or it is damaged.
    #[error(
        "the {kind} file {} cannot be used: {problem}. Nothing was changed; replace it with \
         the copy of another node of the Region or a backup, and start again", path.display()
    )]
    Unusable {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
        /// What is wrong; never shows the key.
        problem: &'static str,
    },
    /// There is a file already, and it is never overwritten.
    #[error("the {kind} file {} exists already; it is never overwritten", path.display())]
    Exists {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} the {kind} file {}: {source}", path.display())]
    Io {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the domain key. A missing file is [`KeyFileError::Missing`].
pub fn load(path: &Path) -> Result<DomainKeyring, KeyFileError> {
    read(path, SecretKind::DomainKey, |fingerprint, secret| {
        let fingerprint: Fingerprint = fingerprint.parse().ok()?;
        let keyring = DomainKeyring::from_bytes(secret);
        Some(keyring.check(fingerprint).ok().map(|()| keyring))
    })
}

/// Reads the secret half of the Region's key pair. A missing file is [`KeyFileError::Missing`].
pub fn load_region_key(path: &Path) -> Result<RegionKey, KeyFileError> {
    read(path, SecretKind::RegionKey, |public, secret| {
        let public: RegionPublicKey = public.parse().ok()?;
        let key = RegionKey::from_bytes(&secret);
        Some(key.filter(|key| key.public() == public))
    })
}

/// Makes a new domain key and its file.
pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<DomainKeyring, KeyFileError> {
    let keyring = DomainKeyring::generate(entropy);
    save(path, &keyring, entropy)?;
    Ok(keyring)
}

/// Makes a new key pair for the Region and its file. Durable on return.
pub fn create_region_key(path: &Path, entropy: &dyn Entropy) -> Result<RegionKey, KeyFileError> {
    let key = RegionKey::generate(entropy);
    let text = render(
        SecretKind::RegionKey,
        &key.public().to_string(),
        &key.expose(),
    );
    write(path, SecretKind::RegionKey, &text, entropy)?;
    Ok(key)
}

/// Reads the domain key, or makes one where there is none yet and no data either.
///
/// `data_exists`: whether the node's store holds anything. Then a missing file is an error, since
/// a new key could open none of it.
pub fn load_or_create(
    path: &Path,
    data_exists: bool,
    entropy: &dyn Entropy,
) -> Result<DomainKeyring, KeyFileError> {
    match load(path) {
        Err(KeyFileError::Missing { .. }) if !data_exists => match create(path, entropy) {
            // Another node of the Region that shares the file was quicker.
            Err(KeyFileError::Exists { .. }) => load(path),
            result => result,
        },
        result => result,
    }
}

/// Writes the domain key to a file that does not exist yet, for one more node of the Region.
/// Durable on return.
pub fn save(
    path: &Path,
    keyring: &DomainKeyring,
    entropy: &dyn Entropy,
) -> Result<(), KeyFileError> {
    let fingerprint = keyring.fingerprint().to_string();
    let (_, secret) = keyring.sealing();
    let text = render(SecretKind::DomainKey, &fingerprint, secret.expose());
    write(path, SecretKind::DomainKey, &text, entropy)
}

/// Reads a file; `make` gets its two values, and gives `None` if the public one is damaged,
/// `Some(None)` if they do not belong together.
fn read<T>(
    path: &Path,
    kind: SecretKind,
    make: impl FnOnce(&str, Zeroizing<[u8; SECRET_BYTES]>) -> Option<Option<T>>,
) -> Result<T, KeyFileError> {
    let failed = |action| {
        move |source: io::Error| match source.kind() {
            ErrorKind::NotFound => KeyFileError::Missing {
                kind,
                path: path.to_owned(),
            },
            _ => KeyFileError::Io {
                kind,
                path: path.to_owned(),
                action,
                source,
            },
        }
    };
    let unusable = |problem| KeyFileError::Unusable {
        kind,
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(failed("open"))?;
    let metadata = file.metadata().map_err(failed("inspect"))?;
    if !metadata.is_file() {
        return Err(unusable("it is not a file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::OpenToOthers {
            kind,
            path: path.to_owned(),
            mode,
        });
    }
    // One buffer of full size, so that no copy of the secret is left behind by growth.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable("it is too long"));
    }
    parse(kind, &bytes, make).map_err(unusable)
}

fn write(
    path: &Path,
    kind: SecretKind,
    text: &[u8],
    entropy: &dyn Entropy,
) -> Result<(), KeyFileError> {
    let failed = |action| {
        move |source: io::Error| match source.kind() {
            ErrorKind::AlreadyExists => KeyFileError::Exists {
                kind,
                path: path.to_owned(),
            },
            _ => KeyFileError::Io {
                kind,
                path: path.to_owned(),
                action,
                source,
            },
        }
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut random = [0; 8];
    entropy.fill(&mut random);
    let draft = folder.join(format!(".key-{:016x}.draft", u64::from_be_bytes(random)));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text)?;
        file.sync_all()
    };
    // A link, unlike a rename, refuses to replace a file that is there.
    let result = write()
        .map_err(failed("write"))
        .and_then(|()| fs::hard_link(&draft, path).map_err(failed("create")));
    let _ = fs::remove_file(&draft);
    result?;
    let sync_folder = || File::open(folder)?.sync_all();
    sync_folder().map_err(failed("sync the folder of"))
}

fn render(kind: SecretKind, public: &str, secret: &[u8; SECRET_BYTES]) -> Zeroizing<Vec<u8>> {
    let mut encoded = Zeroizing::new([0; SECRET_BYTES.div_ceil(3) * 4]);
    let length = STANDARD
        .encode_slice(secret, encoded.as_mut_slice())
        .expect("the buffer has room for the whole encoding");
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    let (begins, sign) = (kind.begins(), kind.sign());
    let _ = write!(text, "{begins}{FORMAT}\n{sign} {public}\nkey ");
    text.extend_from_slice(&encoded[..length]);
    text.push(b'\n');
    text
}

fn parse<T>(
    kind: SecretKind,
    bytes: &[u8],
    make: impl FnOnce(&str, Zeroizing<[u8; SECRET_BYTES]>) -> Option<Option<T>>,
) -> Result<T, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let mut lines = text.lines();
    let first = lines
        .next()
        .and_then(|line| line.strip_prefix(kind.begins()));
    match first {
        Some(FORMAT) => {}
        Some(_) => return Err("it was written by another version of Keyrum"),
        None => return Err("it does not begin like one"),
    }
    let mut field = |name: &str| {
        let line = lines.next()?;
        line.strip_prefix(name)?.strip_prefix(' ')
    };
    let damaged = match kind {
        SecretKind::DomainKey => "its fingerprint is damaged",
        SecretKind::RegionKey => "its public key is damaged",
    };
    let public = field(kind.sign()).ok_or(damaged)?;
    let encoded = field("key").ok_or("its key is missing")?;
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    // Decoded by the estimate's size, which rounds up.
    let mut decoded = Zeroizing::new([0; SECRET_BYTES.div_ceil(3) * 3]);
    match STANDARD.decode_slice(encoded, decoded.as_mut_slice()) {
        Ok(SECRET_BYTES) => secret.copy_from_slice(&decoded[..SECRET_BYTES]),
        _ => return Err("its key is damaged"),
    }
    match make(public, secret) {
        None => Err(damaged),
        Some(None) => Err("its two values do not belong together, so one of them is damaged"),
        Some(Some(key)) => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::testing::CountingEntropy;

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
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Catches a key that differs after a restart, a file open to others, a leftover draft, and a
    /// second creation that replaces the key.
    #[test]
    fn the_file_keeps_the_key() {
        let (folder, entropy) = (Folder::new(), CountingEntropy(1.into()));
        let made = load_or_create(&folder.file(), false, &entropy)
            .ok()
            .unwrap();
        let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
        for data_exists in [false, true] {
            let read = load_or_create(&folder.file(), data_exists, &entropy)
                .ok()
                .unwrap();
            assert_eq!(read.sealing().1.expose(), made.sealing().1.expose());
        }
        let second = create(&folder.file(), &entropy).err().unwrap();
        assert!(matches!(second, KeyFileError::Exists { .. }), "{second}");
        let read = load(&folder.file()).ok().unwrap();
        assert_eq!(read.sealing().1.expose(), made.sealing().1.expose());
    }

    /// Catches a lost key that is silently replaced by a new one, which could open nothing.
    #[test]
    fn a_missing_file_with_data_is_an_error() {
        let (folder, entropy) = (Folder::new(), CountingEntropy(1.into()));
        let error = load_or_create(&folder.file(), true, &entropy)
            .err()
            .unwrap();
        assert!(matches!(error, KeyFileError::Missing { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("Copy the file from another node"),
            "{error}"
        );
        assert!(!folder.file().exists());
    }

    /// Catches a key that others could have read being used as if nothing was wrong.
    #[test]
    fn a_file_open_to_others_is_refused() {
        let (folder, entropy) = (Folder::new(), CountingEntropy(1.into()));
        create(&folder.file(), &entropy).ok().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o666, 0o620] {
            fs::set_permissions(folder.file(), fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&folder.file()).err().unwrap();
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
        let (folder, entropy) = (Folder::new(), CountingEntropy(1.into()));
        create(&folder.file(), &entropy).ok().unwrap();
        let good = fs::read_to_string(folder.file()).unwrap();
        let key = good
            .lines()
            .last()
            .unwrap()
            .strip_prefix("key ")
            .unwrap()
            .to_owned();
        let swapped = [&key[4..8], &key[..4], &key[8..]].concat();
        for (bad, part) in [
            (String::new(), "does not begin like one"),
            (good.replacen("key 1", "key 2", 1), "another version"),
            (
                good.replacen("fingerprint ", "fingerprint x", 1),
                "fingerprint is damaged",
            ),
            (good.replace(&key, &swapped), "do not belong together"),
            (good.replace(&key, &key[4..]), "its key is damaged"),
            (
                good.replace(&format!("key {key}\n"), ""),
                "its key is missing",
            ),
            ("x".repeat(5000), "too long"),
        ] {
            fs::write(folder.file(), &bad).unwrap();
            let error = load(&folder.file()).err().unwrap();
            let text = error.to_string();
            assert!(matches!(error, KeyFileError::Unusable { .. }), "{text}");
            assert!(text.contains(part), "{text} should say {part}");
            assert!(!format!("{error:?}{text}").contains(&key[..16]), "{text}");
        }
        assert!(matches!(
            load(&folder.0),
            Err(KeyFileError::Unusable { .. })
        ));
    }

    /// Catches a Region's key that differs after a restart, a file open to others, one secret
    /// taken for the other, and a key beside another's public half.
    #[test]
    fn the_region_key_has_a_file_of_its_own() {
        let (folder, entropy) = (Folder::new(), CountingEntropy(1.into()));
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
        assert!(load(&path).is_err());

        let other = RegionKey::generate(&entropy).public().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let mixed = text.replace(&made.public().to_string(), &other);
        fs::write(&path, mixed).unwrap();
        let error = load_region_key(&path).err().unwrap().to_string();
        assert!(error.contains("do not belong together"), "{error}");
    }
}
