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

mod file;
mod parameters;
mod record;
mod told;
mod trail;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use keyrum_consensus::world::{World, spawn};
use keyrum_service::{RequestContext, Service, Traced};
use keyrum_state::AuditDetails;
use keyrum_types::{AccountId, LogIndex, Region, key_arn};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub use file::Rotation;

use crate::error::ApiError;
use crate::fields::Fields;
use crate::http::Incoming;
use crate::json::{self, ObjectWriter, Value};
use crate::model::Operation;
use file::TrailFile;
use record::{From, Identity, Record, Resource, Who};
use told::Place;
use trail::{Trail, Unwritable};

/// How often a node notes how far its history is told, while it goes on.
const MARK_EVERY: Duration = Duration::from_secs(5);

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
        spawn(tell_forever(audit.clone(), known));
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
        Ok(Call {
            audit: self,
            operation,
            facts: Facts::of(request),
            parameters: Vec::new(),
            asked: false,
        })
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
        let mut lines = Vec::with_capacity(1024);
        record.write(&mut lines, context.caller.account, None);
        self.0.trail.put(&lines).await.map_err(withheld)
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

/// No record can be written, so nothing is done.
fn refused(unwritable: Unwritable) -> ApiError {
    ApiError::dependency_timeout(format!(
        "The call was refused, since {unwritable}. Nothing was changed."
    ))
}

/// The call has changed something already.
fn carried_out(unwritable: Unwritable) -> ApiError {
    ApiError {
        outcome_unknown: true,
        ..ApiError::fault(
            "KMSInternalException",
            format!(
                "The call was carried out, but {unwritable}. It is written once that is possible again."
            ),
        )
    }
}

/// The call has changed nothing, and its answer is not given.
fn withheld(unwritable: Unwritable) -> ApiError {
    ApiError::dependency_timeout(format!(
        "The answer is withheld, since {unwritable}. Nothing was changed."
    ))
}

/// An error's name in records.
fn code(error: &ApiError) -> &'static str {
    match error.code {
        "AccessDeniedException" => "AccessDenied",
        code => code,
    }
}

/// What is known of where a request comes from.
struct Facts<'a> {
    source: Option<IpAddr>,
    user_agent: &'a str,
    host: &'a str,
    /// Version, cipher suite and key exchange.
    tls: Option<(&'a str, &'a str, &'a str)>,
}

impl<'a> Facts<'a> {
    fn of(request: &'a Incoming) -> Self {
        fn text(headers: &HeaderMap, name: HeaderName) -> &str {
            let value = headers.get(name).map(HeaderValue::to_str);
            value.and_then(Result::ok).unwrap_or_default()
        }
        let headers = &request.parts.headers;
        let authority = request.parts.uri.authority();
        Self {
            source: None,
            user_agent: text(headers, header::USER_AGENT),
            host: match text(headers, header::HOST) {
                "" => authority.map_or("", |authority| authority.as_str()),
                host => host,
            },
            tls: None,
        }
    }

    fn source_text(&self) -> String {
        self.source
            .map_or_else(String::new, |source| source.to_string())
    }

    fn from<'s>(&'s self, source: &'s str) -> From<'s> {
        From {
            source,
            user_agent: self.user_agent,
            host: self.host,
            tls: self.tls,
        }
    }
}

fn identity(context: &RequestContext) -> Identity<'_> {
    let caller = &context.caller;
    let details = &caller.details;
    let audit = details.audit.as_deref();
    Identity {
        account: caller.account,
        arn: &caller.arn,
        access_key: &details.access_key,
        unique_id: &details.unique_id,
        invoked_by: audit.map_or("", |audit| &audit.invoked_by),
        session_role: audit.map_or("", |audit| &audit.session_role),
        session_began: audit.and_then(|audit| audit.session_began),
    }
}

/// The service that asks on the caller's behalf, of the value that conditions see, such as
/// `s3.us-east-1.amazonaws.com`.
fn invoked_by(context: &RequestContext) -> String {
    let values = context.caller.conditions.get(keyrum_authz::VIA_SERVICE);
    let value = values.and_then(|values| values.first());
    let service = value.and_then(|value| value.split('.').next());
    service.map_or_else(String::new, |service| format!("{service}.amazonaws.com"))
}

/// A call's record, while the call is being answered.
pub(crate) struct Call<'a> {
    audit: &'a Audit,
    operation: &'a Operation,
    facts: Facts<'a>,
    /// An object that is not ended; empty for null.
    parameters: Vec<u8>,
    /// Whether the request is one that the service model lets pass.
    asked: bool,
}

impl Call<'_> {
    /// Notes what is asked, and has the context, and with it the command, carry it along.
    pub(crate) fn asked(&mut self, input: &Fields<'_>, context: &mut RequestContext) {
        self.asked = true;
        self.parameters = parameters::open(self.operation, input);
        context.trace = keyrum_service::Trace::kept();
        let details = &mut context.caller.details;
        details.request = context.request;
        let mut audit = details.audit.take().unwrap_or_default();
        audit.invoked_by = invoked_by(context);
        if !self.operation.reads {
            let parameters = parameters::end(self.parameters.clone(), None);
            *audit = AuditDetails {
                parameters: String::from_utf8(parameters).expect("JSON is written as UTF-8"),
                source: self.facts.source_text(),
                user_agent: self.facts.user_agent.to_owned(),
                host: self.facts.host.to_owned(),
                tls: self.facts.tls.map(|(version, suite, exchange)| {
                    (version.to_owned(), suite.to_owned(), exchange.to_owned())
                }),
                ..*audit
            };
        }
        context.caller.details.audit = Some(audit);
    }

    /// Tells how the call ended, or sees that the history tells it. Gives what is to be answered.
    pub(crate) async fn end(
        mut self,
        context: &RequestContext,
        result: Result<Vec<u8>, ApiError>,
    ) -> Result<Vec<u8>, ApiError> {
        let traced = context.trace.take();
        if let (false, Ok(_), Some(index)) = (self.operation.reads, &result, traced.logged) {
            self.audit.told(index).await?;
            return result;
        }
        let mut lines = Vec::with_capacity(2048);
        self.write(&mut lines, context, &traced, &result);
        match self.audit.0.trail.put(&lines).await {
            Ok(()) => result,
            // That it failed is no secret worth keeping, and may say that the outcome is unknown.
            Err(_) if result.is_err() => result,
            Err(unwritable) if self.operation.reads => Err(withheld(unwritable)),
            Err(unwritable) => Err(carried_out(unwritable)),
        }
    }

    fn write(
        &mut self,
        lines: &mut Vec<u8>,
        context: &RequestContext,
        traced: &Traced,
        result: &Result<Vec<u8>, ApiError>,
    ) {
        let region = self.audit.region();
        let account = context.caller.account;
        let resources = self.resources(context, traced, result);
        let unnamed = match &resources[..] {
            [key] if self.operation.name == "Decrypt" && !self.names("keyId") => Some(&*key.arn),
            _ => None,
        };
        let parameters = parameters::end(std::mem::take(&mut self.parameters), unnamed);
        let source = self.facts.source_text();
        let response = match result {
            Ok(body) if !self.operation.reads => self.unchanged(&resources, body),
            _ => Vec::new(),
        };
        // Of a call that failed, no more than whose enclave asked.
        let additional = self.additional(traced, result.is_ok());
        let record = Record {
            region,
            service: "kms",
            name: self.operation.name,
            at: self.audit.0.service.group().shifted_now(),
            who: Who::Caller(identity(context)),
            from: self.facts.from(&source),
            error: result.as_ref().err().map(|error| match self.asked {
                true => (code(error), &*error.message),
                // It repeats what nobody has checked.
                false => (code(error), ""),
            }),
            parameters: &parameters,
            response: &response,
            additional: &additional,
            service_details: &[],
            request: Some(context.request),
            event: self.audit.next_id(),
            read_only: self.operation.reads,
            resources: &resources,
            is_service_event: false,
        };
        // Whose keys were really used. A call that was denied is its caller's business alone.
        let used = traced.used.iter().flatten().map(|(key, _)| key.account);
        let named = resources.iter().filter(|_| result.is_ok());
        let mut owners: Vec<AccountId> = used.chain(named.map(|found| found.account)).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.retain(|owner| *owner != account);
        let shared = (!owners.is_empty()).then(|| self.audit.next_id());
        record.write(lines, account, shared);
        for owner in owners {
            let event = self.audit.next_id();
            Record {
                event,
                ..record.clone()
            }
            .write(lines, owner, shared);
        }
    }

    fn names(&self, member: &str) -> bool {
        let name = format!("\"{member}\":");
        let parameters = self.parameters.windows(name.len());
        parameters.into_iter().any(|part| part == name.as_bytes())
    }

    /// What was used or, if nothing was, what the request names.
    fn resources(
        &self,
        context: &RequestContext,
        traced: &Traced,
        result: &Result<Vec<u8>, ApiError>,
    ) -> Vec<Resource> {
        let region = self.audit.region();
        let resource = |key: keyrum_state::KeyRef| Resource {
            account: key.account,
            arn: key_arn(region, key.account, key.id),
            is_alias: false,
        };
        let used = traced.used.iter().flatten();
        let mut resources: Vec<_> = used.map(|(key, _)| resource(*key)).collect();
        if !resources.is_empty() || self.parameters.is_empty() {
            return resources;
        }
        let parameters = parameters::end(self.parameters.clone(), None);
        let Some(Value::Object(members)) = json::parse(&parameters) else {
            return resources;
        };
        let text = |name| match json::find(&members, name) {
            Some(Value::Text(text)) => Some(&**text),
            _ => None,
        };
        if let Some(name) = text("aliasName").filter(|_| result.is_ok()) {
            let account = context.caller.account;
            resources.push(Resource {
                account,
                arn: format!("arn:{}:kms:{region}:{account}:{name}", region.partition()),
                is_alias: true,
            });
        }
        let names = ["sourceKeyId", "destinationKeyId", "keyId", "targetKeyId"];
        let named = names.into_iter().filter_map(text);
        let keys = named.filter_map(|text| self.audit.0.service.key_named(context, text));
        resources.extend(keys.map(resource));
        resources
    }

    /// `responseElements` of a call that succeeded and changed nothing.
    fn unchanged(&self, resources: &[Resource], body: &[u8]) -> Vec<u8> {
        let key = resources.iter().find(|resource| !resource.is_alias);
        let Some(key) = key.filter(|_| !told::SILENT.contains(&self.operation.name)) else {
            return Vec::new();
        };
        let mut object = ObjectWriter::new();
        if let Some(Value::Object(answer)) = json::parse(body) {
            for (member, name) in [("GrantId", "grantId"), ("KeyMaterialId", "keyMaterialId")] {
                if let Some(Value::Text(text)) = json::find(&answer, member) {
                    object.text(name, text);
                }
            }
        }
        object.text("keyId", &key.arn);
        object.finish()
    }

    fn additional(&self, traced: &Traced, done: bool) -> Vec<u8> {
        let names: &[&'static str] = match self.operation.name {
            "ReEncrypt" => &["sourceKeyMaterialId", "destinationKeyMaterialId"],
            _ => &["keyMaterialId"],
        };
        let used = traced.used.iter().flatten().filter(|_| done);
        let versions = names.iter().zip(used);
        let mut versions = versions
            .filter_map(|(name, (_, id))| Some((*name, (*id)?)))
            .peekable();
        if versions.peek().is_none() && traced.recipient.is_empty() {
            return Vec::new();
        }
        let mut object = ObjectWriter::new();
        for (name, id) in versions {
            object.text(name, &id.to_string());
        }
        if !traced.recipient.is_empty() {
            object.object("recipient", |recipient| {
                for (name, value) in &traced.recipient {
                    recipient.text(name, value);
                }
            });
        }
        object.finish()
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
    let mut lines = Vec::new();
    loop {
        applied.borrow_and_update();
        let taken = match group.taken_after(through).await {
            Ok(taken) => taken,
            Err(reason) => {
                tracing::warn!(%reason, "the history cannot be told any more");
                return;
            }
        };
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
