//! Saying where a running cluster is: in the ready file, in the data folder and on the screen.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use keyrum_types::{NodeId, Region};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::cli::NodeName;
use crate::data::{self, DataFolder};
use crate::files;

/// Where a running cluster and its nodes are.
#[derive(Debug, Serialize)]
pub(crate) struct Whereabouts {
    /// URL of the endpoint for all Regions.
    pub(crate) endpoint: String,
    /// In the topology's order.
    #[serde(serialize_with = "as_map")]
    pub(crate) regions: Vec<(Region, Nodes)>,
}

/// A Region's nodes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
}

/// One node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// URL for KMS calls.
    pub(crate) api: String,
    /// `HOST:PORT` for its peers.
    pub(crate) peer: String,
    /// URL for operators; the token is in `admin.token` in `data`.
    pub(crate) admin: String,
    /// Its own folder.
    pub(crate) data: PathBuf,
    /// Its process; 0 while it has none.
    pub(crate) pid: u32,
}

/// What `run.json` holds: enough for other commands to find the cluster. It names secrets' files,
/// never secrets.
#[derive(Debug, Deserialize)]
pub(crate) struct RunFile {
    /// The process that was started by hand.
    pub(crate) pid: u32,
    /// Where `cluster up` takes requests; `None` under `dev`.
    pub(crate) control: Option<PathBuf>,
    /// By name.
    pub(crate) regions: BTreeMap<Region, Nodes>,
}

fn as_map<S: Serializer>(regions: &[(Region, Nodes)], to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(regions.len()))?;
    for (name, nodes) in regions {
        map.serialize_entry(name, nodes)?;
    }
    map.end()
}

impl Whereabouts {
    /// Collects it; `pid` gives a node's process, `scheme` is that of URLs of the API.
    pub(crate) fn of(
        folder: &DataFolder,
        endpoint: String,
        scheme: &str,
        pid: impl Fn(&NodeName) -> Option<u32>,
    ) -> Self {
        let regions = folder.record().regions.iter().map(|region| {
            let nodes = region.nodes.iter().map(|node| {
                let name = NodeName {
                    region: region.name.clone(),
                    id: node.id,
                };
                Node {
                    id: node.id,
                    api: format!("{scheme}://{}", node.api_at()),
                    peer: node.peer_at().to_string(),
                    admin: format!("http://{}", node.admin_at()),
                    data: folder.node_folder(&name),
                    pid: pid(&name).unwrap_or(0),
                }
            });
            (
                region.name.clone(),
                Nodes {
                    nodes: nodes.collect(),
                },
            )
        });
        Self {
            regions: regions.collect(),
            endpoint,
        }
    }

    /// Writes the ready file: one line of JSON, whole from the first moment it can be seen.
    pub(crate) fn write_ready_file(&self, file: &Path) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        files::replace(file, &line).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "--ready-file {} cannot be written: {error}; name another file",
                    file.display()
                ),
            )
        })
    }

    /// Writes the data folder's `run.json`.
    pub(crate) fn write_run_file(&self, file: &Path, control: Option<&Path>) -> io::Result<()> {
        #[derive(Serialize)]
        struct Run<'a> {
            pid: u32,
            control: Option<&'a Path>,
            #[serde(flatten)]
            whereabouts: &'a Whereabouts,
        }
        let run = Run {
            pid: std::process::id(),
            control,
            whereabouts: self,
        };
        let mut text = serde_json::to_vec_pretty(&run)?;
        text.push(b'\n');
        files::replace(file, &text).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{} cannot be written: {error}", file.display()),
            )
        })
    }

    /// Greets whoever started the cluster: where it is, how to point a client at it, and three
    /// commands to try.
    pub(crate) fn greeting(&self, folder: &DataFolder, ephemeral: bool) -> String {
        let first = &self.regions.first().expect("a cluster has a Region").0;
        let colours = io::stdout().is_terminal();
        let (bold, plain) = if colours {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        let endpoint = &self.endpoint;
        let kept = if ephemeral {
            ", removed at the end"
        } else {
            ""
        };
        format!(
            "\
{bold}keyrum is ready{plain}: {held}
  endpoint {endpoint}   data {data}{kept}

Point AWS clients at it:

  export AWS_ENDPOINT_URL_KMS={endpoint} AWS_ENDPOINT_URL_STS={endpoint}
  export AWS_REGION={first} AWS_DEFAULT_REGION={first}
  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

and try:

  aws kms create-key --description 'my first key'
  aws kms create-alias --alias-name alias/first --target-key-id KEY_ID
  aws kms generate-data-key --key-id alias/first --key-spec AES_256

Ctrl-C stops it.
",
            held = folder.record().describe_now(),
            data = folder.root().display(),
        )
    }
}

/// Removes a ready file: scripts take one that is there for a cluster that is. What another start
/// left behind, killed or not, says nothing about this one.
pub(crate) fn remove_ready_file(file: Option<&Path>) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io::Error::new(
            error.kind(),
            format!(
                "--ready-file {} is there and cannot be removed: {error}; name another file",
                file.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Prints to standard output. A reader that went away is no reason to end a cluster.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line to standard error, beside what a command answers. Nothing depends on it.
pub(crate) fn remark(line: &str) {
    let _ = io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

/// Prints a command's answer. A reader that wants no more of it, such as `head`, is content.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = UntilClosed::new(io::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Rows as a table, each column as wide as its widest cell.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Output that takes and drops everything once nobody reads it any more. Any other failure is one:
/// its text names standard output.
pub(crate) struct UntilClosed<W> {
    to: W,
    closed: bool,
}

impl<W: Write> UntilClosed<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, closed: false }
    }

    /// Whether nobody reads it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    fn or_closed<T>(&mut self, done: io::Result<T>, instead: T) -> io::Result<T> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(instead)
            }
            // The caller tries again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            done => done.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot write to standard output: {error}"),
                )
            }),
        }
    }
}

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        self.or_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.or_closed(flushed, ())
    }
}

/// Why no running cluster was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRunning {
    /// There is nothing to find it by.
    #[error("no cluster runs on the data folder {}: start one with `keyrum cluster up` or `keyrum dev`, or name its folder with --data. Nodes that `keyrum node` runs by themselves are not found this way", folder.display())]
    NoRunFile {
        /// Which folder.
        folder: PathBuf,
    },
    /// It ended without removing what it is found by.
    #[error("no cluster runs on the data folder {}: process {pid} ended without stopping it in order; start it again with `keyrum cluster up` or `keyrum dev`", folder.display())]
    Ended {
        /// Which folder.
        folder: PathBuf,
        /// The process that ran it.
        pid: u32,
    },
    /// What there is cannot be used.
    #[error("{}: {cause}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

impl RunFile {
    /// Whether there is a process of the id it names; that may be another one by now.
    fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
    }

    /// Reads the data folder's `run.json`.
    pub(crate) fn find(folder: &Path) -> Result<Self, NotRunning> {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let file = folder.join("run.json");
        match std::fs::read(&file) {
            Ok(text) => {
                let run: Self =
                    serde_json::from_slice(&text).map_err(|error| NotRunning::Unreadable {
                        file,
                        cause: error.into(),
                    })?;
                // A process of another container cannot be seen, but holds the folder.
                if !run.is_alive() && !data::is_held(&folder) {
                    let pid = run.pid;
                    return Err(NotRunning::Ended { folder, pid });
                }
                Ok(run)
            }
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Err(NotRunning::NoRunFile { folder })
            }
            Err(cause) => Err(NotRunning::Unreadable { file, cause }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches output that fails because its reader has seen enough, or that hides a full disk.
    #[test]
    fn only_a_closed_pipe_is_no_failure() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(self.0.into())
            }
        }
        let mut out = UntilClosed::new(Broken(io::ErrorKind::BrokenPipe));
        assert!(!out.is_closed());
        out.write_all(b"text").and_then(|()| out.flush()).unwrap();
        assert!(out.is_closed());
        let mut out = UntilClosed::new(Broken(io::ErrorKind::StorageFull));
        let error = out.write_all(b"text").unwrap_err();
        assert!(error.to_string().contains("standard output"), "{error}");
        assert!(!out.is_closed() && out.flush().is_err());
    }

    /// Catches a ready file that is not the one line scripts wait for, or that loses the order of
    /// Regions.
    #[test]
    fn the_ready_file_is_one_line_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready.json");
        let node = Node {
            id: 1,
            api: "http://127.0.0.1:1".to_owned(),
            peer: "127.0.0.1:2".to_owned(),
            admin: "http://127.0.0.1:3".to_owned(),
            data: PathBuf::from("d"),
            pid: 7,
        };
        let region = |name: &str| {
            (
                name.parse().unwrap(),
                Nodes {
                    nodes: vec![node.clone()],
                },
            )
        };
        let whereabouts = Whereabouts {
            endpoint: "http://127.0.0.1:4599".to_owned(),
            regions: vec![region("us-east-1"), region("eu-west-1")],
        };
        whereabouts.write_ready_file(&file).unwrap();
        let one = r#"{"nodes":[{"id":1,"api":"http://127.0.0.1:1","peer":"127.0.0.1:2","admin":"http://127.0.0.1:3","data":"d","pid":7}]}"#;
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            format!(
                "{{\"endpoint\":\"http://127.0.0.1:4599\",\"regions\":{{\"us-east-1\":{one},\"eu-west-1\":{one}}}}}\n"
            )
        );
        let run = folder.path().join("run.json");
        whereabouts.write_run_file(&run, None).unwrap();
        let found = RunFile::find(folder.path()).unwrap();
        assert_eq!((found.pid, found.regions.len()), (std::process::id(), 2));
    }
}
