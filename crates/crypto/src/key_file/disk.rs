//! How key files get on the disk: whole and synced, or not at all.
//!
//! Beside a file NAME lie, while it is changed: `.NAME.lock`, which whoever changes it holds;
//! `.NAME.draft`, what it is to be; `.NAME.old`, what it was and must not stay readable. A crash may
//! leave the last two, and the next one that opens or changes the file takes them away.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use keyrum_types::Entropy;
use zeroize::Zeroizing;

use super::error::{KeyFileError, SecretKind};

/// Longest file that is read or written, in bytes: hundreds of versions of a domain key.
const FILE_BYTES_MAX: usize = 64 << 10;

/// What becomes of the bytes that a change leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    /// They hold nothing that the new ones do not.
    Forget,
    /// They hold a secret that is to be gone: they are overwritten.
    Wipe,
}

/// A file of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) kind: SecretKind,
}

/// A place that nobody else changes meanwhile, until this is dropped.
pub(super) struct Held<'p> {
    place: &'p Place,
    /// Where the file really is, if its path leads through links.
    file: PathBuf,
    _lock: File,
}

impl Place {
    pub(super) fn new(path: &Path, kind: SecretKind) -> Self {
        let path = path.to_owned();
        Self { path, kind }
    }

    pub(super) fn unusable(&self, problem: &'static str) -> KeyFileError {
        KeyFileError::Unusable {
            kind: self.kind,
            path: self.path.clone(),
            problem,
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> KeyFileError {
        let (kind, path) = (self.kind, self.path.clone());
        move |source| match source.kind() {
            ErrorKind::NotFound => KeyFileError::Missing { kind, path },
            ErrorKind::AlreadyExists => KeyFileError::Exists { kind, path },
            _ => KeyFileError::Io {
                kind,
                path,
                action,
                source,
            },
        }
    }

    /// The file's bytes, if it is one that only its owner may open.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
        let file = File::open(&self.path).map_err(self.failed("open"))?;
        let metadata = file.metadata().map_err(self.failed("inspect"))?;
        if !metadata.is_file() {
            return Err(self.unusable("it is not a file"));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::OpenToOthers {
                kind: self.kind,
                path: self.path.clone(),
                mode,
            });
        }
        // One buffer of full size, so that no copy of the secret is left behind by growth.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        file.take(FILE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(self.failed("read"))?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(self.unusable("it is too long"));
        }
        Ok(bytes)
    }

    /// Writes a file that is not there yet. Durable on return.
    pub(super) fn create(&self, text: &[u8], entropy: &dyn Entropy) -> Result<(), KeyFileError> {
        let mut random = [0; 8];
        entropy.fill(&mut random);
        let random = format!("-{:016x}.draft", u64::from_be_bytes(random));
        let draft = beside(&self.path, &random);
        // A link, unlike a rename, refuses to replace a file that is there.
        let cannot_write = |source| KeyFileError::Io {
            kind: self.kind,
            path: self.path.clone(),
            action: "write",
            source,
        };
        let result = write_new(&draft, text)
            .map_err(cannot_write)
            .and_then(|()| fs::hard_link(&draft, &self.path).map_err(self.failed("create")));
        let _ = fs::remove_file(&draft);
        result?;
        sync_folder(&self.path).map_err(self.failed("sync the folder of"))
    }

    /// Waits until nobody else changes the file.
    pub(super) fn hold(&self) -> Result<Held<'_>, KeyFileError> {
        let file = fs::canonicalize(&self.path).map_err(self.failed("find"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(beside(&file, ".lock"))
            .and_then(|lock| lock.lock().map(|()| lock));
        Ok(Held {
            place: self,
            file,
            _lock: lock.map_err(self.failed("lock"))?,
        })
    }

    /// Takes away what a crash may have left beside a file that can be used.
    pub(super) fn tidy(&self) -> Result<(), KeyFileError> {
        let file = fs::canonicalize(&self.path).map_err(self.failed("find"))?;
        if leftovers(&file).map_err(self.failed("look beside"))? == [] as [PathBuf; 0] {
            return Ok(());
        }
        self.hold()?.tidy()
    }
}

impl Held<'_> {
    /// See [`Place::tidy`].
    pub(super) fn tidy(&self) -> Result<(), KeyFileError> {
        let tidy = || {
            leftovers(&self.file)?
                .iter()
                .try_for_each(|left| wipe(left, &self.file))
        };
        tidy().map_err(self.place.failed("tidy up beside"))
    }

    /// Puts `text` in the place of what the file has. Durable on return.
    pub(super) fn replace(&self, text: &[u8], old: Old) -> Result<(), KeyFileError> {
        self.replace_until(text, old, &mut || Ok(()))
    }

    /// The same; a test ends it after any step.
    pub(super) fn replace_until(
        &self,
        text: &[u8],
        old: Old,
        done: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), KeyFileError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(self.place.unusable("it has no room for more"));
        }
        let file = &self.file;
        let (draft, was) = (beside(file, ".draft"), beside(file, ".old"));
        let mut replace = || -> io::Result<()> {
            write_new(&draft, text)?;
            done()?;
            if old == Old::Wipe {
                // Its bytes keep a name until they are gone, so that a crash does not hide them.
                fs::hard_link(file, &was)?;
                sync_folder(file)?;
                done()?;
            }
            fs::rename(&draft, file)?;
            done()?;
            sync_folder(file)?;
            done()?;
            if old == Old::Wipe {
                wipe(&was, file)?;
            }
            Ok(())
        };
        replace().map_err(self.place.failed("replace"))
    }
}

/// Overwrites a file that is no longer needed and removes it. One that is `kept` under another name
/// only loses this one.
fn wipe(path: &Path, kept: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let (this, that) = (file.metadata()?, fs::metadata(kept)?);
    if (this.dev(), this.ino()) != (that.dev(), that.ino()) {
        let length = usize::try_from(this.len()).unwrap_or(FILE_BYTES_MAX);
        file.write_all(&vec![0; length.min(FILE_BYTES_MAX)])?;
        file.sync_all()?;
    }
    fs::remove_file(path)?;
    sync_folder(kept)
}

/// What a change or a creation that was cut short left beside a file.
fn leftovers(file: &Path) -> io::Result<Vec<PathBuf>> {
    let (begins, old) = (beside(file, ""), beside(file, ".old"));
    let begins = begins.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder_of(file))? {
        let path = entry?.path();
        let bytes = path.as_os_str().as_encoded_bytes();
        if path == old || bytes.starts_with(begins) && bytes.ends_with(b".draft") {
            found.push(path);
        }
    }
    Ok(found)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    folder_of(path).join(name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
