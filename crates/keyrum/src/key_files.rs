//! `keyrum domain-key lock|unlock|backup|restore`: what is done with the files of a Region's two
//! secrets, whether the cluster runs or not. A file is replaced whole, so nodes that run see the old one
//! or the new one.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keyrum_consensus::world::World;
use keyrum_crypto::{
    Backup, DomainKeyFile, DomainKeyring, FileLock, Fingerprint, KeyFileError, OpenedBy, Restored,
    Share, Unlock,
};
use keyrum_store::{RealDisk, Store, StoreConfig};
use keyrum_types::Region;

use crate::Failure;
use crate::assembly::FINGERPRINT;
use crate::cli::{
    KeyFiles, KeyFilesBackup, KeyFilesLock, KeyFilesRestore, KeyFilesUnlock, LockWith, ShareCounts,
};
use crate::cluster;
use crate::data::{DataFolder, io_at};
use crate::files;
use crate::run::{self, RunFile};
use crate::signals::Signals;
use crate::unlock::{self, Source};

/// Why a command changes nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("nothing was changed: there is no Region {region} in {}", folder.display())]
    NoSuchRegion { region: Region, folder: PathBuf },
    #[error(
        "nothing was changed: name the Region to back up with --region; there are {}",
        list(have)
    )]
    WhichRegion { have: Vec<Region> },
    #[error("nothing was changed: {} is of {found}, not of {asked}", from.display())]
    OtherRegion {
        from: PathBuf,
        found: Region,
        asked: Region,
    },
    #[error("nothing was changed: {} is of another cluster: its Region key is not the one that cluster.json names for {region}", from.display())]
    OtherCluster { from: PathBuf, region: Region },
    #[error("nothing was changed: {} has the domain key {found}, and the data of {region} was sealed under {expected}", from.display())]
    OtherData {
        from: PathBuf,
        region: Region,
        found: Fingerprint,
        expected: Fingerprint,
    },
    #[error("nothing was changed: {}: {cause}", file.display())]
    Share {
        file: PathBuf,
        cause: std::io::Error,
    },
}

fn list(regions: &[Region]) -> String {
    let names: Vec<_> = regions.iter().map(Region::as_str).collect();
    names.join(", ")
}

/// Carries one out.
pub(crate) async fn run(verb: KeyFiles) -> Result<ExitCode, Failure> {
    match verb {
        KeyFiles::Lock(args) => lock(args).await?,
        KeyFiles::Unlock(args) => unlock(args).await?,
        KeyFiles::Backup(args) => back_up(args).await?,
        KeyFiles::Restore(args) => restore(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The Regions that a command is about: the one that is named, else all.
fn regions(folder: &DataFolder, named: Option<&Region>) -> Result<Vec<Region>, Failure> {
    let have = folder.record().regions.iter();
    let have: Vec<_> = have.map(|region| region.name.clone()).collect();
    match named {
        None => Ok(have),
        Some(region) if have.contains(region) => Ok(vec![region.clone()]),
        Some(region) => Err(Trouble::NoSuchRegion {
            region: region.clone(),
            folder: folder.root().to_owned(),
        }
        .into()),
    }
}

/// Opens a Region's domain key with what is given.
async fn open(
    world: &World,
    folder: &DataFolder,
    region: &Region,
    source: &mut Source<'_>,
) -> Result<(DomainKeyFile, DomainKeyring), Failure> {
    let path = folder.domain_key(region);
    let by = DomainKeyFile::opened_by(&path)?;
    let open = |unlock: &Unlock| DomainKeyFile::open(&path, unlock, world.entropy.clone());
    let what = format!("the domain key of {region}");
    source.open(&what, by, open).await
}

async fn lock(args: KeyFilesLock) -> Result<(), Failure> {
    let (world, mut signals) = (World::real(), Signals::catch()?);
    let folder = DataFolder::look(&cluster::folder(&args.place)?)?;
    let regions = regions(&folder, args.region.as_ref())?;
    let mut files = Vec::new();
    let mut source = Source::new(&world, &args.opener, &mut signals);
    // Before the first one is changed.
    for region in regions {
        let (file, _) = open(&world, &folder, &region, &mut source).await?;
        files.push((region, file));
    }
    let passphrase = match args.with.shares {
        Some(_) => None,
        None => {
            let file = args.with.passphrase_file.as_deref();
            let what = "the domain key";
            Some(unlock::new_passphrase(&world, file, what, &mut signals).await?)
        }
    };
    for (region, mut file) in files {
        let passphrase = passphrase.as_ref().map(|text| text.as_str());
        let new = new_lock(&world, &args.with, passphrase, &region, file.fingerprint())?;
        let kept = new.keep("")?;
        let locked = file.lock(new.lock, &folder.region_key(&region));
        locked.inspect_err(|_| {
            kept.iter()
                .for_each(|path| drop(std::fs::remove_file(path)))
        })?;
        run::print(&format!("{region}: the domain key is locked; {}\n", new.by))?;
    }
    if RunFile::find(folder.root()).is_ok() {
        run::remark(
            "the cluster that runs goes on, but a node that is started again cannot open the \
             domain key, and no node can change it: stop the cluster when it suits, and start it \
             with --unlock",
        );
    }
    Ok(())
}

/// A lock that is to be, and the shares that open it.
struct New {
    lock: FileLock,
    shares: Vec<Share>,
    region: Region,
    out: Option<PathBuf>,
    /// What opens it, in words.
    by: String,
}

fn new_lock(
    world: &World,
    with: &LockWith,
    passphrase: Option<&str>,
    region: &Region,
    name: Fingerprint,
) -> Result<New, Failure> {
    let entropy = &*world.entropy;
    let (lock, shares, by) = match (with.shares, passphrase) {
        (Some(ShareCounts { needed, of }), _) => {
            let (lock, shares) = FileLock::with_shares(needed, of, region, name, entropy)?;
            (lock, shares, format!("{needed} of {of} shares open it"))
        }
        (None, passphrase) => {
            let passphrase = passphrase.unwrap_or_default();
            let lock = FileLock::with_passphrase(passphrase, region, name, entropy)
                .map_err(|error| format!("nothing was changed: {error}"))?;
            (lock, Vec::new(), "its passphrase opens it".to_owned())
        }
    };
    Ok(New {
        lock,
        shares,
        region: region.clone(),
        out: with.out.clone(),
        by,
    })
}

impl New {
    /// Writes the shares where they are asked for, durably, before anything is locked under them. Gives
    /// the files.
    fn keep(&self, prefix: &str) -> Result<Vec<PathBuf>, Failure> {
        let mut kept = Vec::new();
        let Some(out) = &self.out else {
            return Ok(kept);
        };
        if out == Path::new("-") {
            for share in &self.shares {
                run::print(&share.line())?;
                run::print("\n")?;
            }
            return Ok(kept);
        }
        files::private_folder(out).map_err(io_at(out))?;
        for share in &self.shares {
            let number = share.number();
            let file = out.join(format!("{prefix}{}-share-{number}.txt", self.region));
            let written = write_new(&file, share.line().as_bytes());
            if let Err(cause) = written {
                kept.iter()
                    .for_each(|path| drop(std::fs::remove_file(path)));
                return Err(Trouble::Share { file, cause }.into());
            }
            kept.push(file);
        }
        files::sync_folder(out).map_err(io_at(out))?;
        Ok(kept)
    }
}

fn write_new(path: &Path, line: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(line)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

async fn unlock(args: KeyFilesUnlock) -> Result<(), Failure> {
    let (world, mut signals) = (World::real(), Signals::catch()?);
    let folder = DataFolder::look(&cluster::folder(&args.place)?)?;
    let mut source = Source::new(&world, &args.opener, &mut signals);
    let mut files = Vec::new();
    for region in regions(&folder, args.region.as_ref())? {
        let by = DomainKeyFile::opened_by(&folder.domain_key(&region))?;
        let (file, _) = open(&world, &folder, &region, &mut source).await?;
        files.push((region, by, file));
    }
    for (region, by, mut file) in files {
        // Also where it is plain already: it may have been cut short.
        file.unlock(&folder.region_key(&region))?;
        let said = match by {
            OpenedBy::Anyone => "is not locked",
            _ => "is plain: whoever may read the data folder has it",
        };
        run::print(&format!("{region}: the domain key {said}\n"))?;
    }
    Ok(())
}

async fn back_up(args: KeyFilesBackup) -> Result<(), Failure> {
    let (world, mut signals) = (World::real(), Signals::catch()?);
    let folder = DataFolder::look(&cluster::folder(&args.place)?)?;
    let regions = regions(&folder, args.region.as_ref())?;
    let [region] = &regions[..] else {
        return Err(Trouble::WhichRegion { have: regions }.into());
    };
    let mut source = Source::new(&world, &args.opener, &mut signals);
    let (file, _) = open(&world, &folder, region, &mut source).await?;
    let new = match (args.plain, args.with.shares) {
        (true, _) => None,
        (false, shares) => {
            let passphrase = match shares {
                Some(_) => None,
                None => {
                    let named = args.with.passphrase_file.as_deref();
                    let what = "the backup";
                    Some(unlock::new_passphrase(&world, named, what, &mut signals).await?)
                }
            };
            let passphrase = passphrase.as_ref().map(|text| text.as_str());
            let name = file.fingerprint();
            Some(new_lock(&world, &args.with, passphrase, region, name)?)
        }
    };
    let kept = new.as_ref().map(|new| new.keep("backup-")).transpose()?;
    let (lock, by) = match new {
        None => (None, "whoever may read it has the keys".to_owned()),
        Some(new) => (Some(new.lock), new.by),
    };
    let versions = file.back_up(region, &folder.region_key(region), lock, &args.to);
    let versions = versions.inspect_err(|_| {
        let kept = kept.iter().flatten();
        kept.for_each(|path| drop(std::fs::remove_file(path)));
    })?;
    run::print(&format!(
        "{region}: {} has the domain key {}, {}, and the Region key; {by}\n",
        args.to.display(),
        file.fingerprint(),
        versions_in_words(&versions.into_keys().collect()),
    ))?;
    Ok(())
}

fn versions_in_words(versions: &BTreeSet<u32>) -> String {
    let numbers: Vec<_> = versions.iter().map(u32::to_string).collect();
    match versions.len() {
        1 => format!("version {}", numbers[0]),
        _ => format!("versions {}", numbers.join(", ")),
    }
}

async fn restore(args: KeyFilesRestore) -> Result<(), Failure> {
    let (world, mut signals) = (World::real(), Signals::catch()?);
    let folder = DataFolder::look(&cluster::folder(&args.place)?)?;
    let mut source = Source::new(&world, &args.opener, &mut signals);
    let by = Backup::opened_by(&args.from)?;
    let open = |unlock: &Unlock| Backup::open(&args.from, unlock);
    let backup = source.open("the backup", by, open).await?;
    let region = backup.region().clone();
    let from = args.from.clone();
    if let Some(asked) = args.region.filter(|asked| *asked != region) {
        let found = region;
        return Err(Trouble::OtherRegion { from, found, asked }.into());
    }
    regions(&folder, Some(&region))?;
    check(&folder, &backup, &from)?;

    // The file that is there may take something else to open.
    let (domain_key, region_key) = (folder.domain_key(&region), folder.region_key(&region));
    let mut there = Unlock::default();
    match DomainKeyFile::opened_by(&domain_key) {
        Ok(OpenedBy::Anyone) | Err(KeyFileError::Missing { .. }) => {}
        Ok(by) => {
            let open =
                |unlock: &Unlock| DomainKeyFile::open(&domain_key, unlock, world.entropy.clone());
            let what = format!("the domain key of {region} that is there");
            let (file, _) = source.open(&what, by, open).await?;
            file.pass_key_on(&mut there);
        }
        Err(error) => return Err(in_the_way(error)),
    }
    let region_folder = folder.root().join(region.as_str());
    files::private_folder(&region_folder).map_err(io_at(&region_folder))?;
    let restored = backup
        .restore(&domain_key, &region_key, &there, world.entropy.clone())
        .map_err(in_the_way)?;
    run::print(&say(&region, &backup, &restored))?;
    Ok(())
}

/// Whether a backup is of the cluster and Region in the folder: its Region key is the pinned one, and
/// the data of a node that does not run was sealed under its domain key.
fn check(folder: &DataFolder, backup: &Backup, from: &Path) -> Result<(), Failure> {
    let region = backup.region();
    let pinned = folder.pinned_keys(region)?;
    if pinned.get(region) != Some(&backup.public_key()) {
        return Err(Trouble::OtherCluster {
            from: from.to_owned(),
            region: region.clone(),
        }
        .into());
    }
    let nodes = folder.nodes().into_iter();
    for node in nodes.filter(|node| node.region == *region) {
        let store = folder.store(&node);
        if !store.join("mark").exists() {
            continue;
        }
        // One that runs, or whose data is damaged, has its own say when it starts.
        let noted = Store::open(RealDisk::shared(), &store, StoreConfig::default())
            .and_then(|store| store.meta(FINGERPRINT));
        let Ok(Some(noted)) = noted else { continue };
        let Ok(noted) = <[u8; 8]>::try_from(&noted[..]) else {
            continue;
        };
        let (expected, found) = (Fingerprint(noted), backup.fingerprint());
        if expected != found {
            return Err(Trouble::OtherData {
                from: from.to_owned(),
                region: region.clone(),
                found,
                expected,
            }
            .into());
        }
    }
    Ok(())
}

/// What helps with a file that keeps a backup out.
fn in_the_way(error: KeyFileError) -> Failure {
    match error {
        KeyFileError::Unusable { path, problem, .. } => format!(
            "nothing was changed: {} is there and cannot be used ({problem}); move it away, and restore again",
            path.display()
        )
        .into(),
        other => other.into(),
    }
}

fn say(region: &Region, backup: &Backup, restored: &Restored) -> String {
    let had: BTreeSet<u32> = backup.versions().into_keys().collect();
    let locked = match backup.is_locked() && restored.made_domain_key {
        true => ", locked as the backup is",
        false => "",
    };
    let domain_key = match (restored.made_domain_key, restored.added.is_empty()) {
        (true, _) => format!(
            "the domain key is back{locked}, with {}; if there were later versions, a later backup \
             has them",
            versions_in_words(&had)
        ),
        (false, true) => {
            "the domain key file has all that the backup has, and stays as it is".to_owned()
        }
        (false, false) => format!(
            "the domain key file works and was kept; it got {} from the backup",
            versions_in_words(&restored.added)
        ),
    };
    let mut text = format!("{region}: {domain_key}\n");
    if !restored.kept.is_empty() {
        text.push_str(&format!(
            "{region}: the backup is older than the file: it lacks {}, which stays\n",
            versions_in_words(&restored.kept)
        ));
    }
    if restored.made_region_key {
        text.push_str(&format!("{region}: the Region key is back\n"));
    }
    text
}
