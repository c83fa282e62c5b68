//! The file that holds a Region's domain key: text, mode 0600, outside the log and the store.
//!
//! A file appears whole and synced, or not at all, and is never overwritten: a domain key that is
//! lost takes every key of the Region with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_types::Entropy;
use zeroize::Zeroizing;

use crate::keyring::{DOMAIN_KEY_BYTES, DomainKeyring, Fingerprint};

/// The first line; the number is the file's format.
const FIRST_LINE: &str = "keyrum-domain-key 1";

/// Longest file that is read, in bytes; a domain key's has about 120.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a domain key file cannot be used. Nothing is changed or lost in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum DomainKeyFileError {
    /// There is no file, but there is data sealed under the key it held.
    #[error(
        "the domain key file {} is missing, and this node has data sealed under it. Nothing was \
         changed; without the key no key of this Region can be used. Copy the file from another \
         node of the Region or from a backup, with mode 0600, and start again", path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error(
        "the domain key file {file} is open to others (mode {mode:03o}); it must be 600. Nothing \
         was changed; check who read it, then run: chmod 600 {file}", file = path.display()
    )]
    OpenToOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a domain key file, or it is damaged.
    #[error(
        "the domain key file {} cannot be used: {problem}. Nothing was changed; replace it with \
         the copy of another node of the Region or a backup, and start again", path.display()
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong; never shows the key.
        problem: &'static str,
    },
    /// There is a file already, and it is never overwritten.
    #[error("the domain key file {} exists already; it is never overwritten", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} the domain key file {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the domain key. A missing file is [`DomainKeyFileError::Missing`].
pub fn load(path: &Path) -> Result<DomainKeyring, DomainKeyFileError> {
    let failed = |action| {
        move |source: io::Error| match source.kind() {
            ErrorKind::NotFound => DomainKeyFileError::Missing {
                path: path.to_owned(),
            },
            _ => DomainKeyFileError::Io {
                path: path.to_owned(),
                action,
                source,
            },
        }
    };
    let unusable = |problem| DomainKeyFileError::Unusable {
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
        return Err(DomainKeyFileError::OpenToOthers {
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
    parse(&bytes).map_err(unusable)
}

/// Makes a new domain key and its file.
pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<DomainKeyring, DomainKeyFileError> {
    let keyring = DomainKeyring::generate(entropy);
    save(path, &keyring, entropy)?;
    Ok(keyring)
}

/// Reads the domain key, or makes one where there is none yet and no data either.
///
/// `data_exists`: whether the node's store holds anything. Then a missing file is an error, since
/// a new key could open none of it.
pub fn load_or_create(
    path: &Path,
    data_exists: bool,
    entropy: &dyn Entropy,
) -> Result<DomainKeyring, DomainKeyFileError> {
    match load(path) {
        Err(DomainKeyFileError::Missing { .. }) if !data_exists => match create(path, entropy) {
            // Another node of the Region that shares the file was quicker.
            Err(DomainKeyFileError::Exists { .. }) => load(path),
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
) -> Result<(), DomainKeyFileError> {
    let failed = |action| {
        move |source: io::Error| match source.kind() {
            ErrorKind::AlreadyExists => DomainKeyFileError::Exists {
                path: path.to_owned(),
            },
            _ => DomainKeyFileError::Io {
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
    let draft = folder.join(format!(
        ".domain-key-{:016x}.draft",
        u64::from_be_bytes(random)
    ));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&render(keyring))?;
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

fn render(keyring: &DomainKeyring) -> Zeroizing<Vec<u8>> {
    let mut secret = Zeroizing::new([0; DOMAIN_KEY_BYTES.div_ceil(3) * 4]);
    let length = STANDARD
        .encode_slice(keyring.expose(), secret.as_mut_slice())
        .expect("the buffer has room for the whole encoding");
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    let _ = write!(
        text,
        "{FIRST_LINE}\nfingerprint {}\nkey ",
        keyring.fingerprint()
    );
    text.extend_from_slice(&secret[..length]);
    text.push(b'\n');
    text
}

fn parse(bytes: &[u8]) -> Result<DomainKeyring, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let mut lines = text.lines();
    match lines.next() {
        Some(FIRST_LINE) => {}
        Some(line) if line.starts_with("keyrum-domain-key ") => {
            return Err("it was written by another version of Keyrum");
        }
        _ => return Err("it is not a domain key file"),
    }
    let mut field = |name: &str| {
        let line = lines.next()?;
        line.strip_prefix(name)?.strip_prefix(' ')
    };
    let fingerprint: Fingerprint = field("fingerprint")
        .and_then(|text| text.parse().ok())
        .ok_or("its fingerprint is damaged")?;
    let encoded = field("key").ok_or("its key is missing")?;
    let mut secret = Zeroizing::new([0; DOMAIN_KEY_BYTES]);
    // Decoded by the estimate's size, which rounds up.
    let mut decoded = Zeroizing::new([0; DOMAIN_KEY_BYTES.div_ceil(3) * 3]);
    match STANDARD.decode_slice(encoded, decoded.as_mut_slice()) {
        Ok(DOMAIN_KEY_BYTES) => secret.copy_from_slice(&decoded[..DOMAIN_KEY_BYTES]),
        _ => return Err("its key is damaged"),
    }
    let keyring = DomainKeyring::from_bytes(secret);
    match keyring.check(fingerprint) {
        Ok(()) => Ok(keyring),
        Err(_) => Err("its key does not have its fingerprint, so one of them is damaged"),
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
            assert_eq!(read.expose(), made.expose());
        }
        let second = create(&folder.file(), &entropy).err().unwrap();
        assert!(
            matches!(second, DomainKeyFileError::Exists { .. }),
            "{second}"
        );
        assert_eq!(load(&folder.file()).ok().unwrap().expose(), made.expose());
    }

    /// Catches a lost key that is silently replaced by a new one, which could open nothing.
    #[test]
    fn a_missing_file_with_data_is_an_error() {
        let (folder, entropy) = (Folder::new(), CountingEntropy(1.into()));
        let error = load_or_create(&folder.file(), true, &entropy)
            .err()
            .unwrap();
        assert!(
            matches!(error, DomainKeyFileError::Missing { .. }),
            "{error}"
        );
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
                matches!(error, DomainKeyFileError::OpenToOthers { mode: found, .. } if found == mode),
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
            (String::new(), "not a domain key file"),
            (good.replacen("key 1", "key 2", 1), "another version"),
            (
                good.replacen("fingerprint ", "fingerprint x", 1),
                "fingerprint is damaged",
            ),
            (good.replace(&key, &swapped), "fingerprint"),
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
            assert!(
                matches!(error, DomainKeyFileError::Unusable { .. }),
                "{text}"
            );
            assert!(text.contains(part), "{text} should say {part}");
            assert!(!format!("{error:?}{text}").contains(&key[..16]), "{text}");
        }
        assert!(matches!(
            load(&folder.0),
            Err(DomainKeyFileError::Unusable { .. })
        ));
    }
}
