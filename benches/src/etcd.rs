//! etcd as Debian packages it: three members on this machine, and puts over gRPC.
//!
//! A put needs two fields of protobuf and five bytes of framing, so both are written by hand over
//! hyper's HTTP/2. Sources: etcd's `rpc.proto` (`PutRequest`, `StatusResponse`), gRPC over HTTP/2.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::process::{Guarded, LOOK_EVERY, signal};

/// How to get it.
pub(crate) const INSTALL: &str = "apt-get install etcd-server";

/// Length of a value, in bytes.
const VALUE_BYTES: usize = 256;

/// HTTP/2 connections that callers share. Of 64, 12 and 3 connections for 64 callers, etcd is fastest
/// on 3: it then writes the answers of several puts at once.
const CONNECTIONS: usize = 3;

const START_LIMIT: Duration = Duration::from_secs(30);

/// Whether etcd can be started at all.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(
        text.lines()
            .next()?
            .trim_start_matches("etcd Version: ")
            .to_owned(),
    )
}

/// Three members that run.
pub(crate) struct Etcd {
    members: Vec<Member>,
    leader: usize,
}

struct Member {
    process: Guarded,
    client: String,
}

impl Etcd {
    /// Starts three members on a folder, with etcd's own defaults, and waits until all of them
    /// take puts.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let mut ports = Vec::new();
        // Kept until all are chosen, so that no two are the same.
        let mut held = Vec::new();
        for _ in 0..3 {
            let (client, peer) = (
                TcpListener::bind("127.0.0.1:0").await?,
                TcpListener::bind("127.0.0.1:0").await?,
            );
            ports.push((client.local_addr()?, peer.local_addr()?));
            held.extend([client, peer]);
        }
        drop(held);
        let initial: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(at, (_, peer))| format!("member{at}=http://{peer}"))
            .collect();
        let mut members = Vec::new();
        for (at, (client, peer)) in ports.iter().enumerate() {
            let log = File::create(folder.join(format!("member{at}.log")))?;
            let mut command = Command::new("etcd");
            command
                .args(["--name", &format!("member{at}")])
                .arg("--data-dir")
                .arg(folder.join(format!("member{at}")))
                .args(["--listen-client-urls", &format!("http://{client}")])
                .args(["--advertise-client-urls", &format!("http://{client}")])
                .args(["--listen-peer-urls", &format!("http://{peer}")])
                .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
                .args(["--initial-cluster", &initial.join(",")])
                .args(["--initial-cluster-state", "new", "--logger", "zap"])
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            members.push(Member {
                process: Guarded::start(&mut command)?,
                client: client.to_string(),
            });
        }
        let mut etcd = Self { members, leader: 0 };
        etcd.wait_until_ready().await.map_err(|error| {
            format!(
                "etcd does not become ready ({error}); see {}",
                folder.display()
            )
        })?;
        Ok(etcd)
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        for at in 0..self.members.len() {
            loop {
                self.members[at].process.still_runs()?;
                let tried = async {
                    let channel = connect(&self.members[at].client).await?;
                    Putter::new(channel.clone(), &self.members[at].client, at)
                        .put()
                        .await?;
                    let status =
                        call(&mut channel.clone(), &self.members[at].client, STATUS, &[]).await?;
                    leads(&status)
                };
                match tried.await {
                    Ok(leads) => {
                        if leads {
                            self.leader = at;
                        }
                        break;
                    }
                    Err(failure) if Instant::now() > deadline => return Err(failure),
                    Err(_) => sleep(LOOK_EVERY).await,
                }
            }
        }
        Ok(())
    }

    /// Kills the leader; the addresses of the members that are left.
    pub(crate) fn kill_leader(&self) -> Vec<String> {
        signal(self.members[self.leader].process.pid(), Signal::KILL);
        let left = self.members.iter().enumerate();
        left.filter(|(at, _)| *at != self.leader)
            .map(|(_, member)| member.client.clone())
            .collect()
    }

    /// The members' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members
            .iter()
            .map(|member| member.process.pid())
            .collect()
    }

    /// Callers that put through the leader, or through every member in turn.
    pub(crate) async fn putters(&self, count: usize, spread: bool) -> Result<Vec<Putter>, Failure> {
        let mut channels: Vec<(Channel, &str)> = Vec::new();
        for at in 0..count.min(CONNECTIONS) {
            let member = if spread {
                at % self.members.len()
            } else {
                self.leader
            };
            let addr = &self.members[member].client;
            channels.push((connect(addr).await?, addr));
        }
        let callers = channels.iter().cycle().take(count).enumerate();
        Ok(callers
            .map(|(at, (channel, addr))| Putter::new(channel.clone(), addr, at))
            .collect())
    }
}

const PUT: &str = "/etcdserverpb.KV/Put";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

type Channel = SendRequest<Full<Bytes>>;

/// Puts one value after another, each under a key of its own.
pub(crate) struct Putter {
    channel: Channel,
    addr: String,
    caller: usize,
    sequence: u64,
}

impl Putter {
    fn new(channel: Channel, addr: &str, caller: usize) -> Self {
        // Keys of one run must differ between slices too.
        let sequence = u64::from(std::process::id()) << 40 | u64::from(next_run()) << 24;
        Self {
            channel,
            addr: addr.to_owned(),
            caller,
            sequence,
        }
    }

    /// Puts one value.
    pub(crate) async fn put(&mut self) -> Result<(), Failure> {
        self.sequence += 1;
        let key = format!("key-{:02}-{:016x}", self.caller, self.sequence);
        let message = put_request(key.as_bytes(), &[7; VALUE_BYTES]);
        call(&mut self.channel, &self.addr, PUT, &message)
            .await
            .map(drop)
    }
}

/// Puts one value over a connection of its own.
pub(crate) async fn put_once(addr: &str, caller: usize) -> Result<(), Failure> {
    Putter::new(connect(addr).await?, addr, caller).put().await
}

fn next_run() -> u16 {
    static RUNS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

async fn connect(addr: &str) -> Result<Channel, Failure> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (channel, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(channel)
}

/// Makes a unary call and returns the answer's message.
async fn call(
    channel: &mut Channel,
    addr: &str,
    method: &str,
    message: &[u8],
) -> Result<Bytes, Failure> {
    let mut framed = Vec::with_capacity(5 + message.len());
    framed.push(0); // Not compressed.
    framed.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    framed.extend_from_slice(message);
    let request = Request::post(format!("http://{addr}{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed.into()))?;
    channel.ready().await?;
    let (head, body) = channel.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    // An answer without a message has its status among the headers.
    let trailers = body.trailers().unwrap_or(&head.headers);
    let status = trailers
        .get("grpc-status")
        .ok_or("an answer without a status")?;
    if status != "0" {
        return Err(format!("gRPC status {status:?}: {:?}", trailers.get("grpc-message")).into());
    }
    let bytes = body.to_bytes();
    if bytes.len() < 5 {
        return Err("an answer without a message".into());
    }
    Ok(bytes.slice(5..))
}

/// `PutRequest { key = 1, value = 2 }`.
fn put_request(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(key.len() + value.len() + 8);
    for (tag, bytes) in [(0x0a, key), (0x12, value)] {
        message.push(tag);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(bytes);
    }
    message
}

/// Whether the member that sent a `StatusResponse { header { member_id = 2 } = 1, leader = 4 }`
/// leads.
fn leads(status: &[u8]) -> Result<bool, Failure> {
    let mut header: &[u8] = &[];
    let mut leader = 0;
    fields(status, |number, field| match (number, field) {
        (1, Field::Bytes(bytes)) => header = bytes,
        (4, Field::Number(id)) => leader = id,
        _ => {}
    })?;
    let mut member = 0;
    fields(header, |number, field| {
        if let (2, Field::Number(id)) = (number, field) {
            member = id;
        }
    })?;
    Ok(member != 0 && member == leader)
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields<'a>(mut bytes: &'a [u8], mut see: impl FnMut(u64, Field<'a>)) -> Result<(), Failure> {
    fn number(bytes: &mut &[u8]) -> Result<u64, Failure> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first().ok_or("a message that ends early")?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number that is too long".into())
    }
    while !bytes.is_empty() {
        let tag = number(&mut bytes)?;
        match tag & 7 {
            0 => see(tag >> 3, Field::Number(number(&mut bytes)?)),
            2 => {
                let length = usize::try_from(number(&mut bytes)?)?;
                let (field, rest) = bytes
                    .split_at_checked(length)
                    .ok_or("a message that ends early")?;
                see(tag >> 3, Field::Bytes(field));
                bytes = rest;
            }
            kind => return Err(format!("a field of kind {kind}").into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches puts that are shorter than those that are compared with.
    #[test]
    fn a_put_carries_its_whole_value() {
        let message = put_request(b"k", &[7; 256]);
        assert_eq!(message[..7], [0x0a, 1, b'k', 0x12, 0x80, 0x02, 7]);
        assert_eq!(message.len(), 6 + 256);
    }

    /// Catches a follower that is taken for the leader.
    #[test]
    fn the_leader_is_who_it_says_leads() {
        let status =
            |member: u8, leader: u8| [0x0a, 4, 0x08, 9, 0x10, member, 0x18, 5, 0x20, leader];
        assert!(leads(&status(3, 3)).unwrap());
        assert!(!leads(&status(3, 4)).unwrap());
        assert!(leads(&[0x0a, 9]).is_err());
    }
}
