//! The command line.

use std::fmt;
use std::path::PathBuf;

/// What `--help` says.
pub(crate) const HELP: &str = "\
Measures Keyrum as ratios in one run on this machine and prints a table.

  keyrum-benches [PART]... [OPTION]...

Parts, all of them unless some are named:

  encrypt   Encrypt 1 KiB on a leader against a bare HTTP server
  create    CreateKey on three nodes against puts of a three-member etcd
  failover  how long a Region takes no change when its leader is killed
  keys      100,000 keys: memory, restart, reads beside a snapshot
  primitives each algorithm beside its library and openssl, and through the API
  changes   how soon a family's change is everywhere in three Regions
  rotations 10,000 families rotated at once, and Encrypt beside it
  missed    a Region back after 100,000 missed messages
  dev       two Regions in one process: start, idle cost
  apply     how fast the state machine applies commands
  authorize what it costs to decide whether a caller may
  store     how fast a node's store makes rows durable
  sigv4     what checking a signature costs
  guarded   Encrypt with signature, policy, grant and audit record beside one without

Options:

  --write         keep the table in benches/RESULTS.md
  --seconds S     length of a slice; 3 unless given
  --data DIR      where the clusters' disks are; the folder for temporary files unless given
  --keyrum FILE   the program to measure; built first unless given

etcd comes from Debian: apt-get install etcd-server. Without it, what needs it is skipped.
";

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Encrypt,
    Create,
    Failover,
    Keys,
    Primitives,
    Changes,
    Rotations,
    Missed,
    Dev,
    Apply,
    Authorize,
    Store,
    Sigv4,
    Guarded,
}

impl Part {
    const ALL: [Self; 14] = [
        Self::Encrypt,
        Self::Create,
        Self::Failover,
        Self::Keys,
        Self::Primitives,
        Self::Changes,
        Self::Rotations,
        Self::Missed,
        Self::Dev,
        Self::Apply,
        Self::Authorize,
        Self::Store,
        Self::Sigv4,
        Self::Guarded,
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypt => "encrypt",
            Self::Create => "create",
            Self::Failover => "failover",
            Self::Keys => "keys",
            Self::Primitives => "primitives",
            Self::Changes => "changes",
            Self::Rotations => "rotations",
            Self::Missed => "missed",
            Self::Dev => "dev",
            Self::Apply => "apply",
            Self::Authorize => "authorize",
            Self::Store => "store",
            Self::Sigv4 => "sigv4",
            Self::Guarded => "guarded",
        })
    }
}

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) parts: Vec<Part>,
    pub(crate) write: bool,
    pub(crate) slice_seconds: f64,
    pub(crate) data: PathBuf,
    pub(crate) keyrum: Option<PathBuf>,
}

impl Arguments {
    /// Reads the command line; `None` when only help is wanted.
    pub(crate) fn parse(given: &[String]) -> Result<Option<Self>, String> {
        let mut arguments = Self {
            parts: Vec::new(),
            write: false,
            slice_seconds: 3.0,
            data: std::env::temp_dir(),
            keyrum: None,
        };
        let mut rest = given.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--write" => arguments.write = true,
                "--data" => arguments.data = value()?.into(),
                "--keyrum" => arguments.keyrum = Some(value()?.into()),
                "--seconds" => {
                    let seconds = value()?.parse().ok().filter(|s| (0.1..=600.0).contains(s));
                    arguments.slice_seconds = seconds.ok_or("--seconds takes 0.1 to 600")?;
                }
                "all" => arguments.parts.extend(Part::ALL),
                name => match Part::ALL.into_iter().find(|part| part.to_string() == name) {
                    Some(part) => arguments.parts.push(part),
                    None => return Err(format!("there is no part {name:?}; see --help")),
                },
            }
        }
        if arguments.parts.is_empty() {
            arguments.parts.extend(Part::ALL);
        }
        Ok(Some(arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Arguments>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(&words)
    }

    /// Catches a part that cannot be asked for alone, and one that `all` leaves out.
    #[test]
    fn parts_are_found_by_name() {
        for part in Part::ALL {
            assert_eq!(parse(&part.to_string()).unwrap().unwrap().parts, [part]);
            assert!(HELP.contains(&format!("\n  {part} ")), "{part}");
        }
        assert_eq!(parse("").unwrap(), parse("all").unwrap());
        assert_eq!(
            parse("create --seconds 2 --write")
                .unwrap()
                .unwrap()
                .slice_seconds,
            2.0
        );
        assert!(parse("failure").is_err() && parse("--seconds").is_err());
        assert!(parse("--seconds -1").is_err());
        assert_eq!(parse("--help").unwrap(), None);
    }
}
