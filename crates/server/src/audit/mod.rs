//! The audit trail of one node: a record of every call it answers, and of what its Region does by
//! itself.
//!
//! A call that changed nothing is told when it is answered. One that changed something is told from
//! the history, with the caller's details that its command carries: so a crash between the two loses
//! no record. The node that took the request tells it, also after a restart; `eventID`s of such records
//! follow from the log, so that none is told twice.
//!
//! Deviation: requests whose caller is not known (no or a wrong signature, no such Region) have no
//! record: anyone could fill the disk with them. Those that the service model refuses have one,
//! without their parameters, which nobody has checked, and without the message, which repeats them.

mod call;
mod file;
mod parameters;
mod record;
mod told;
mod trail;
mod words;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyrum_consensus::world::World;
use keyrum_service::{RequestContext, Service};
use keyrum_types::{LogIndex, Region};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use file::Rotation;

use crate::error::ApiError;
use crate::http::Incoming;
use crate::model::Operation;
pub(crate) use call::Call;
use call::{Facts, carried_out, code, identity, refused, withheld};
use file::TrailFile;
use record::{Record, Who};
use told::Place;
use trail::Trail;

/// How often a node notes how far its history is told, while it goes on.
const MARK_EVERY: Duration = Duration::from_secs(5);

/// How long a node that lacks a part of its history waits for others that may have it, and how often it
/// asks them.
const HOLE_WAIT: Duration = Duration::from_secs(60);
const HOLE_PAUSE: Duration = Duration::from_millis(500);

/// How long a stopping node waits for the last of its history to be told.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// What an operator chooses for a node's audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Where the files are: `REGION-NODE.jsonl` and those that follow from it.
    pub folder: PathBuf,
    /// Whether a call is refused whose record cannot be written.
    pub required: bool,
    /// Whether each write waits for the disk.
    pub sync: bool,
    /// Which files are kept.
    pub rotation: Rotation,
}

/// The trail cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the audit trail {name} in {}: {cause}; choose a folder that this node alone writes to",
    folder.display()
)]
pub struct AuditError {
    folder: PathBuf,
    name: String,
    cause: io::Error,
}

/// One node's audit trail. Cheap to clone; all clones are the same trail.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    service: Service,
    trail: Trail,
    cluster: String,
    required: bool,
    /// Event ids of records told when they are answered: random, and a number that grows.
    ids: [u8; 16],
    next_id: AtomicU64,
    /// The history is told through this log entry.
    told: watch::Sender<LogIndex>,
    closing: watch::Sender<bool>,
}

impl Audit {
    /// Opens the node's trail and goes on telling its history where it ended. `cluster` names the
    /// cluster, so that a new one in the same folder does not go on with the old one's.
    pub async fn start(
        world: &World,
        settings: &AuditSettings,
        service: Service,
        cluster: &str,
    ) -> Result<Self, AuditError> {
        let group = service.group();
        let name = format!("{}-{}", group.region(), group.node());
        let failed = |cause| AuditError {
            folder: settings.folder.clone(),
            name: name.clone(),
            cause,
        };
        let (chosen, file_name) = (settings.clone(), name.clone());
        let open = move || {
            let AuditSettings {
                folder,
                rotation,
                sync,
                ..
            } = chosen;
            TrailFile::open(&folder, &file_name, rotation, sync)
        };
        let file = world.blocking.run(open).await.map_err(failed)?;
        let trail = Trail::start(file, settings.required, world.blocking);
        let resumed = trail.resume().await.map_err(failed)?;
        let (through, known) = match resumed.filter(|(mark, _)| mark.cluster == cluster) {
            Some((mark, known)) => (mark.through, known),
            None => {
                let through = group.history_ends();
                trail.set_mark(cluster, through).await;
                (through, Default::default())
            }
        };
        let mut ids = [0; 16];
        world.entropy.fill(&mut ids);
        let audit = Self(Arc::new(Inner {
            service,
            trail,
            cluster: cluster.to_owned(),
            required: settings.required,
            ids,
            next_id: AtomicU64::new(0),
            told: watch::Sender::new(through),
            closing: watch::Sender::new(false),
        }));
        world
            .tasks
            .spawn_background(tell_forever(audit.clone(), known));
        Ok(audit)
    }

    /// Tells what there is to tell, as far as that is possible, and closes the files. The node must
    /// still run, and take no more calls.
    pub async fn stop(&self) {
        let inner = &self.0;
        let applied = *inner.service.group().applied().borrow();
        let mut told = inner.told.subscribe();
        let all = told.wait_for(|told| *told >= applied);
        if !matches!(timeout(STOP_WAIT, all).await, Ok(Ok(_))) {
            tracing::warn!(
                "the audit trail stops behind the history; it goes on with the next start"
            );
        }
        inner.closing.send_replace(true);
        let through = *inner.told.borrow();
        inner.trail.set_mark(&inner.cluster, through).await;
        inner.trail.close().await;
    }

    /// Begins a call's record, or refuses the call because there could be none.
    pub(crate) fn begin<'a>(
        &'a self,
        operation: &'a Operation,
        request: &'a Incoming,
    ) -> Result<Call<'a>, ApiError> {
        self.0.trail.check().map_err(refused)?;
        Ok(Call::new(self, operation, request))
    }

    /// Tells of a call of STS: `parameters` and `response` are JSON, empty for null.
    pub(crate) async fn sts(
        &self,
        action: &str,
        request: &Incoming,
        context: &RequestContext,
        (parameters, response): (&[u8], &[u8]),
        error: Option<&ApiError>,
    ) -> Result<(), ApiError> {
        let facts = Facts::of(request);
        let source = facts.source_text();
        let record = Record {
            region: self.region(),
            service: "sts",
            name: action,
            at: self.0.service.group().shifted_now(),
            who: Who::Caller(identity(context)),
            from: facts.from(&source),
            error: error.map(|error| (code(error), &*error.message)),
            parameters,
            response,
            additional: &[],
            service_details: &[],
            request: Some(context.request),
            event: self.next_id(),
            read_only: true,
            resources: &[],
            is_service_event: false,
        };
        let trail = &self.0.trail;
        let lines = trail.take(|lines| record.write(lines, context.caller.account, None));
        trail.put(lines).await.map_err(withheld)
    }

    fn region(&self) -> &Region {
        self.0.service.region()
    }

    fn next_id(&self) -> [u8; 16] {
        let count = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut id = self.0.ids;
        let (_, low) = id.split_at_mut(8);
        let start = u64::from_be_bytes((&*low).try_into().expect("half of sixteen bytes"));
        low.copy_from_slice(&start.wrapping_add(count).to_be_bytes());
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        id
    }

    /// Waits until the history is told through a log entry, if records are required.
    async fn told(&self, index: LogIndex) -> Result<(), ApiError> {
        if !self.0.required {
            return Ok(());
        }
        let mut told = self.0.told.subscribe();
        tokio::select! {
            biased;
            _ = told.wait_for(|told| *told >= index) => Ok(()),
            unwritable = self.0.trail.fails() => Err(carried_out(unwritable)),
        }
    }
}

/// Tells the history of what this node's requests did, as long as the node runs.
async fn tell_forever(audit: Audit, mut known: std::collections::BTreeSet<[u8; 16]>) {
    let inner = &audit.0;
    let group = inner.service.group().clone();
    let mut applied = group.applied();
    let mut closing = inner.closing.subscribe();
    let mut through = *inner.told.borrow();
    let mut marked = Instant::now();
    let mut hole_since: Option<Instant> = None;
    let mut lines = Vec::new();
    loop {
        applied.borrow_and_update();
        let patient = hole_since.is_none_or(|since| since.elapsed() < HOLE_WAIT);
        let taken = match group.taken_after(through, patient).await {
            Ok(taken) => taken,
            Err(reason) => {
                tracing::warn!(%reason, "the history cannot be told any more");
                return;
            }
        };
        if taken.waits {
            hole_since.get_or_insert_with(Instant::now);
            tokio::select! {
                () = sleep(HOLE_PAUSE) => continue,
                _ = closing.wait_for(|closing| *closing) => return,
            }
        }
        hole_since = None;
        if let Some((from, to)) = taken.lost {
            tracing::error!(
                from,
                to,
                "no node has the history of these log entries any more: records of them are missing from the audit trail"
            );
        }
        if taken.through > through {
            let state = group.state();
            let place = Place {
                cluster: &inner.cluster,
                region: group.region(),
            };
            lines.clear();
            for entry in &taken.entries {
                told::tell(place, &state, entry, |record, recipient, shared| {
                    if !known.remove(&record.event) {
                        record.write(&mut lines, recipient, shared);
                    }
                });
            }
            drop(state);
            if !lines.is_empty() && !inner.trail.put_for_sure(&lines).await {
                return;
            }
            through = taken.through;
            inner.told.send_replace(through);
            if marked.elapsed() >= MARK_EVERY {
                marked = Instant::now();
                inner.trail.set_mark(&inner.cluster, through).await;
            }
            continue;
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            _ = closing.wait_for(|closing| *closing) => return,
        }
    }
}
