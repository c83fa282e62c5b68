//! A call's record, from when it begins until it is answered.

use std::net::{IpAddr, Ipv4Addr};

use keyrum_service::{RequestContext, Traced};
use keyrum_state::AuditDetails;
use keyrum_types::{AccountId, key_arn};

use super::record::{From, Identity, Record, Resource, Who};
use super::trail::Unwritable;
use super::{Audit, parameters, told};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::http::{Incoming, RequestFacts};
use crate::json::{self, ObjectWriter, Value};
use crate::model::Operation;

/// No record can be written, so nothing is done.
pub(super) fn refused(unwritable: Unwritable) -> ApiError {
    ApiError::dependency_timeout(format!(
        "The call was refused, since {unwritable}. Nothing was changed."
    ))
}

/// The call has changed something already.
pub(super) fn carried_out(unwritable: Unwritable) -> ApiError {
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
pub(super) fn withheld(unwritable: Unwritable) -> ApiError {
    ApiError::dependency_timeout(format!(
        "The answer is withheld, since {unwritable}. Nothing was changed."
    ))
}

/// An error's name in records.
pub(super) fn code(error: &ApiError) -> &'static str {
    match error.code {
        "AccessDeniedException" => "AccessDenied",
        code => code,
    }
}

/// What is known of where a request comes from.
pub(super) struct Facts<'a>(RequestFacts<'a>);

impl<'a> Facts<'a> {
    pub(super) fn of(request: &'a Incoming) -> Self {
        Self(RequestFacts::of(request, None))
    }

    pub(super) fn source_text(&self) -> String {
        match self.0.source {
            None => String::new(),
            Some(IpAddr::V4(address)) => plain_v4(address),
            Some(address) => address.to_string(),
        }
    }

    pub(super) fn from<'s>(&'s self, source: &'s str) -> From<'s> {
        From {
            source,
            user_agent: self.0.user_agent.unwrap_or_default(),
            host: self.0.host.unwrap_or_default(),
            tls: self
                .0
                .tls
                .map(|tls| (tls.version, tls.cipher_suite, tls.key_exchange)),
        }
    }
}

/// As it is written, without a formatter: every record has one.
fn plain_v4(address: Ipv4Addr) -> String {
    let mut text = String::with_capacity(15);
    for (position, byte) in address.octets().into_iter().enumerate() {
        if position > 0 {
            text.push('.');
        }
        for (unit, digit) in [(100, byte / 100), (10, byte / 10 % 10), (1, byte % 10)] {
            if byte >= unit || unit == 1 {
                text.push(char::from(b'0' + digit));
            }
        }
    }
    text
}

pub(super) fn identity(context: &RequestContext) -> Identity<'_> {
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

impl<'a> Call<'a> {
    pub(super) fn new(audit: &'a Audit, operation: &'a Operation, request: &'a Incoming) -> Self {
        Self {
            audit,
            operation,
            facts: Facts::of(request),
            parameters: Vec::new(),
            asked: false,
        }
    }

    /// Notes what is asked, and has the context, and with it the command, carry it along.
    pub(crate) fn asked(&mut self, input: &Fields<'_>, context: &mut RequestContext) {
        self.asked = true;
        self.parameters = parameters::open(self.operation, input);
        context.trace = keyrum_service::Trace::kept();
        let invoked_by = invoked_by(context);
        let details = &mut context.caller.details;
        // Of what changes nothing, no command carries it along.
        if self.operation.reads && invoked_by.is_empty() && details.audit.is_none() {
            return;
        }
        let mut audit = details.audit.take().unwrap_or_default();
        audit.invoked_by = invoked_by;
        if !self.operation.reads {
            let parameters = parameters::end(self.parameters.clone(), None);
            let from = self.facts.from("");
            *audit = AuditDetails {
                parameters: String::from_utf8(parameters).expect("JSON is written as UTF-8"),
                host: from.host.to_owned(),
                tls: from.tls.map(|(version, suite, exchange)| {
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
        let trail = &self.audit.0.trail;
        let lines = trail.take(|lines| self.write(lines, context, &traced, &result));
        match trail.put(lines).await {
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
        let owners = used.chain(named.map(|found| found.account));
        let mut owners: Vec<AccountId> = owners.filter(|owner| *owner != account).collect();
        owners.sort_unstable();
        owners.dedup();
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
            object.plain(name, &id.digits());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches an address that is written in another way than everywhere else.
    #[test]
    fn addresses_are_written_as_usual() {
        for number in (0..=u32::MAX).step_by(65_521) {
            let address = Ipv4Addr::from(number.rotate_left(8) ^ number);
            assert_eq!(plain_v4(address), address.to_string());
        }
    }
}
