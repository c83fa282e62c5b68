//! The KMS endpoint: from a request to the service of a node, and back.
//!
//! The order of checks is the real service's: target, signature, JSON, constraints of the model;
//! everything after that is the service's.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};
use keyrum_consensus::world::BoxFuture;
use keyrum_consensus::{ReadMode, answer_by};
use keyrum_service::{RequestContext, Trace};
use keyrum_types::AccountId;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::http::{Handler, Incoming, RequestFacts, error_answer, json_answer, plain_answer};
use crate::identity;
use crate::model::Operation;
use crate::regions::{Chosen, Regions, any_node};
use crate::route::Route;
use crate::sigv4::{AcceptedCredentials, Claim, Verifier};
use crate::sts::{self, Action};
use crate::validate;

/// How a request reads.
pub(crate) const CONSISTENCY: HeaderName = HeaderName::from_static("x-keyrum-consistency");

/// How long whoever sent the request waits for the answer, in milliseconds.
pub(crate) const TIME_LEFT: HeaderName = HeaderName::from_static("x-keyrum-time-left-ms");

/// What an endpoint does unless a request says otherwise.
#[derive(Debug, Clone)]
pub struct EndpointSettings {
    /// The account of callers whose access key id does not name one.
    pub default_account: AccountId,
    /// How consistent reads are.
    pub consistency: ReadMode,
    /// Who may call.
    pub credentials: AcceptedCredentials,
}

/// An answer of a hook: a status and a JSON document.
pub struct HookAnswer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub json: String,
}

/// What an endpoint offers beside the APIs, under `/_keyrum/`. Without hooks these paths do not
/// exist.
pub trait Hooks: Send + Sync + 'static {
    /// `GET /_keyrum/health`.
    fn health(&self) -> BoxFuture<'_, HookAnswer>;

    /// `POST /_keyrum/reset`.
    fn reset(&self) -> BoxFuture<'_, HookAnswer>;
}

/// Answers the KMS API and a part of STS's for the nodes of this process.
pub struct Endpoint {
    regions: Regions,
    settings: EndpointSettings,
    hooks: Option<Arc<dyn Hooks>>,
    signatures: Verifier,
    /// Whether each Region's leader gets all its requests.
    leaders_only: bool,
}

impl Endpoint {
    /// An endpoint for `regions`, whose nodes may still change.
    pub fn new(
        regions: Regions,
        settings: EndpointSettings,
        hooks: Option<Arc<dyn Hooks>>,
    ) -> Self {
        Self {
            regions,
            settings,
            hooks,
            signatures: Verifier::default(),
            leaders_only: false,
        }
    }

    /// The same, but each Region's leader gets all its requests, however they read: so that request
    /// quotas, which each node keeps by itself, hold for all that comes this way.
    pub fn counting(mut self) -> Self {
        self.leaders_only = true;
        self
    }

    async fn kms(
        &self,
        operation: &'static Operation,
        request: &Incoming,
    ) -> Result<Vec<u8>, ApiError> {
        let claim = Claim::of(&request.parts)?;
        let mode = consistency(&request.parts.headers, self.settings.consistency)?;
        let chosen = self.choose(claim.as_ref(), "kms", any_node(operation, mode))?;
        let mut context = self.context(request, claim.as_ref(), &chosen, mode).await?;
        let left = time_left(&request.parts.headers)?;
        let audit = chosen.audit.as_ref();
        let mut record = audit
            .map(|audit| audit.begin(operation, request))
            .transpose()?;
        let result = match validate::check(operation, &request.body) {
            Ok(input) => {
                if let Some(record) = &mut record {
                    record.asked(&input, &mut context);
                }
                let call = chosen.node.call(operation, &context, input);
                match left {
                    Some(left) => answer_by(Instant::now() + left, call).await,
                    None => call.await,
                }
            }
            Err(error) => Err(error),
        };
        match record {
            Some(record) => record.end(&context, result).await,
            None => result,
        }
    }

    async fn sts(&self, request: &Incoming) -> Result<sts::Answer, ApiError> {
        let action = sts::parse(&request.parts, &request.body)?;
        let claim = Claim::of(&request.parts)?;
        let chosen = self.choose(claim.as_ref(), "sts", true)?;
        let mode = self.settings.consistency;
        let context = self.context(request, claim.as_ref(), &chosen, mode).await?;
        let node = &chosen.node;
        let asked = action.told();
        let result = match action {
            Action::GetCallerIdentity => Ok(sts::Answer::Identity(node.identify(&context))),
            Action::AssumeRole(input) => {
                let assumed = node.assume_role(&context, input).await;
                assumed.map(sts::Answer::Role)
            }
            Action::GetSessionToken { duration_seconds } => {
                let session = node.get_session_token(&context, duration_seconds).await;
                session.map(sts::Answer::Session)
            }
        };
        if let Some(audit) = &chosen.audit {
            let answered = result.as_ref().map(sts::Answer::told).unwrap_or_default();
            let (name, parameters) = &asked;
            let texts = (&parameters[..], &answered[..]);
            audit
                .sts(name, request, &context, texts, result.as_ref().err())
                .await?;
        }
        result
    }

    fn choose(
        &self,
        claim: Option<&Claim<'_>>,
        service: &str,
        any_node: bool,
    ) -> Result<Chosen, ApiError> {
        let chosen = self
            .regions
            .choose(claim.map(Claim::region), any_node && !self.leaders_only)
            .ok_or_else(identity::wrong_region)?;
        if let Some(claim) = claim {
            claim.check_service(service)?;
        }
        chosen
    }

    /// Checks who asks.
    async fn context(
        &self,
        request: &Incoming,
        claim: Option<&Claim<'_>>,
        chosen: &Chosen,
        mode: ReadMode,
    ) -> Result<RequestContext, ApiError> {
        let headers = &request.parts.headers;
        let accepted = self.settings.credentials;
        let signer = self
            .signatures
            .identify(request, claim, accepted, chosen.node.credentials());
        let mut caller = match signer.await? {
            Some(signer) => {
                identity::speaks_for_itself(headers)?;
                signer
            }
            None => {
                let default = self.settings.default_account;
                let mut caller = identity::caller(claim, default, &chosen.region);
                caller.conditions = identity::conditions(headers, &chosen.region)?;
                caller
            }
        };
        let access_key = claim.map(Claim::access_key);
        let facts = RequestFacts::of(request, access_key);
        let details = &mut caller.details;
        details.request = request.id.bytes();
        // A signer's is there already.
        if details.access_key.is_empty() {
            details.access_key = access_key.unwrap_or_default().to_owned();
        }
        details.at = Some(request.at);
        details.source_ip = facts.source;
        details.user_agent = facts.user_agent.map(str::to_owned);
        details.secure = facts.tls.is_some();
        Ok(RequestContext {
            caller,
            mode,
            request: request.id.bytes(),
            trace: Trace::default(),
        })
    }
}

impl Handler for Endpoint {
    async fn handle(&self, request: Incoming) -> Response<Full<Bytes>> {
        match (Route::of(&request.parts), &self.hooks) {
            (Ok(Route::Kms(operation)), _) => match self.kms(operation, &request).await {
                Ok(body) => json_answer(body),
                Err(error) => error_answer(&error),
            },
            (Ok(Route::Sts), _) => match self.sts(&request).await {
                Ok(answer) => sts::answer(&answer, request.id),
                Err(error) => sts::error(&error, request.id),
            },
            (Ok(Route::Health), Some(hooks)) => hook_answer(hooks.health().await),
            (Ok(Route::Reset), Some(hooks)) => hook_answer(hooks.reset().await),
            (Ok(Route::Health | Route::Reset), None) => error_answer(&no_hooks()),
            (Err(error), _) => error_answer(&error),
        }
    }
}

/// Answers what a hook says.
pub(crate) fn hook_answer(answer: HookAnswer) -> Response<Full<Bytes>> {
    plain_answer(
        answer.status,
        HeaderValue::from_static("application/json"),
        answer.json.into_bytes(),
    )
}

/// What `/_keyrum/` answers where nobody listens to it.
pub(crate) fn no_hooks() -> ApiError {
    ApiError {
        status: 404,
        ..ApiError::client(
            "UnknownOperationException",
            "This endpoint has no /_keyrum/ paths.",
        )
    }
}

/// What [`TIME_LEFT`] says, if it is there.
pub(crate) fn time_left(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(header) = headers.get(TIME_LEFT) else {
        return Ok(None);
    };
    let ms = header.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = "The header x-keyrum-time-left-ms must be a number of milliseconds.";
    let ms: u32 = ms.ok_or_else(|| ApiError::validation(wrong))?;
    Ok(Some(Duration::from_millis(ms.into())))
}

/// How [`CONSISTENCY`] calls a mode.
pub(crate) fn word(mode: ReadMode) -> HeaderValue {
    HeaderValue::from_static(match mode {
        ReadMode::Linearizable => "linearizable",
        ReadMode::Lease => "lease",
        ReadMode::Local => "local",
        ReadMode::Eventual => "eventual",
    })
}

fn consistency(headers: &HeaderMap, default: ReadMode) -> Result<ReadMode, ApiError> {
    let Some(header) = headers.get(CONSISTENCY) else {
        return Ok(default);
    };
    match header.as_bytes() {
        b"linearizable" => Ok(ReadMode::Linearizable),
        b"lease" => Ok(ReadMode::Lease),
        b"local" => Ok(ReadMode::Local),
        b"eventual" => Ok(ReadMode::Eventual),
        _ => Err(ApiError::validation(
            "The header x-keyrum-consistency must be linearizable, lease, local or eventual.",
        )),
    }
}
