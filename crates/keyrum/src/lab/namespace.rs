//! The network that `keyrum lab run --packets` plays in: the command starts itself again in a network
//! namespace, where it may drop packets and nobody else's are concerned. The namespace, with all rules in
//! it, vanishes with its last process.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the command that it was started again: holds the name of the network that it came from.
pub(super) const OUTSIDE: &str = "KEYRUM_LAB_OUTSIDE";

/// The programs it takes, with Debian's packages that have them.
const PROGRAMS: [(&str, &str); 3] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
];

/// Where programs are that only administrators have in their path.
const ALSO: &str = "/usr/sbin:/sbin";

/// What every refusal ends with.
const INSTEAD: &str = "nothing was started; without --packets the nodes hold and lose what they send each \
                       other themselves: the same faults, which take none of this";

/// Why packets cannot be dropped here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("--packets: it takes {missing}; {INSTEAD}")]
    Missing { missing: String },
    #[error(
        "--packets: the system gives no network of one's own ({cause}). It takes root, or user namespaces: \
         kernel.unprivileged_userns_clone=1 and user.max_user_namespaces above 0 where there are such \
         settings, kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, and in a container the right \
         to make them (docker run --privileged); {INSTEAD}"
    )]
    NoNetwork { cause: String },
    #[error(
        "--packets: in a network of one's own, `{command}` says: {cause}. It takes a kernel with nf_tables \
         (CONFIG_NF_TABLES, the module nf_tables); {INSTEAD}"
    )]
    NotSetUp { command: String, cause: String },
}

/// The programs, as they were found.
pub(super) struct Programs {
    unshare: PathBuf,
    ip: PathBuf,
    /// Drops packets.
    pub(super) nft: PathBuf,
}

impl Programs {
    fn find(path: &[PathBuf]) -> Result<Self, Refused> {
        let found = PROGRAMS.map(|(name, package)| {
            let mut places = path.iter().map(|folder| folder.join(name));
            let place = places.find(|place| place.is_file());
            place.ok_or_else(|| format!("{name} (package {package})"))
        });
        match found {
            [Ok(unshare), Ok(ip), Ok(nft)] => Ok(Self { unshare, ip, nft }),
            found => {
                let missing: Vec<_> = found.into_iter().filter_map(Result::err).collect();
                let missing = missing.join(", ");
                Err(Refused::Missing { missing })
            }
        }
    }
}

/// Has this command run in a network of its own: starts it again there, or, if that has been done, makes
/// the network ready. Comes back in the second case only, or with the reason why not.
pub(super) fn enter() -> Result<Programs, crate::Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = std::env::split_paths(&path)
        .chain(std::env::split_paths(ALSO))
        .collect();
    let programs = Programs::find(&path)?;
    let own = network().map_err(|error| Refused::NoNetwork {
        cause: format!("/proc/self/ns/net: {error}"),
    })?;
    let outside = std::env::var_os(OUTSIDE);
    if outside.as_ref() == Some(&own) {
        let cause = format!("{} led to no other network", programs.unshare.display());
        return Err(Refused::NoNetwork { cause }.into());
    }
    if outside.is_none() {
        let way = way_in(&programs)?;
        let this = std::env::current_exe()?;
        // Comes back only if it fails.
        let failed = Command::new(&programs.unshare)
            .args(way)
            .arg("--")
            .arg(this)
            .args(std::env::args_os().skip(1))
            .env(OUTSIDE, own)
            .exec();
        let cause = failed.to_string();
        return Err(Refused::NoNetwork { cause }.into());
    }
    for (program, arguments) in [
        (&programs.ip, &["link", "set", "lo", "up"][..]),
        (
            &programs.nft,
            &["add", "table", "ip", super::packets::TABLE],
        ),
    ] {
        carry_out(Command::new(program).args(arguments)).map_err(|cause| Refused::NotSetUp {
            command: format!("{} {}", program.display(), arguments.join(" ")),
            cause,
        })?;
    }
    Ok(programs)
}

/// The name of the network that this process is in.
fn network() -> io::Result<OsString> {
    std::fs::read_link("/proc/self/ns/net").map(PathBuf::into_os_string)
}

/// How `unshare` is to be called here. Root needs no namespace of users, in which other users than root
/// would be nobody.
fn way_in(programs: &Programs) -> Result<&'static [&'static str], Refused> {
    const AS_ROOT: &[&str] = &["--net"];
    const AS_ANYBODY: &[&str] = &["--user", "--map-root-user", "--net"];
    let ways = match rustix::process::geteuid().is_root() {
        true => &[AS_ROOT, AS_ANYBODY][..],
        false => &[AS_ANYBODY],
    };
    let mut cause = String::new();
    for way in ways {
        match try_way(&programs.unshare, way, &programs.ip) {
            Ok(()) => return Ok(way),
            Err(why) => cause = why,
        }
    }
    Err(Refused::NoNetwork { cause })
}

fn try_way(unshare: &Path, way: &[&str], ip: &Path) -> Result<(), String> {
    let mut command = Command::new(unshare);
    command.args(way).arg("--").arg(ip);
    carry_out(command.args(["link", "set", "lo", "up"]))
}

/// Runs a command to its end; an error is what it said.
fn carry_out(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', ", ");
    Err(match said.is_empty() {
        true => output.status.to_string(),
        false => said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a refusal that does not name all that is missing, or not what to do.
    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = [folder.path().join("none"), folder.path().to_owned()];
        let refused = |path: &[PathBuf]| Programs::find(path).err().map(|error| error.to_string());
        let words = refused(&path).unwrap();
        let all = "unshare (package util-linux), ip (package iproute2), nft (package nftables); ";
        assert!(words.contains(all), "{words}");
        for name in ["unshare", "ip"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let words = refused(&path).unwrap();
        assert!(
            words.contains("it takes nft (package nftables); nothing was"),
            "{words}"
        );
        assert!(words.contains("without --packets"), "{words}");
        std::fs::write(folder.path().join("nft"), "").unwrap();
        assert_eq!(refused(&path), None);
    }
}
