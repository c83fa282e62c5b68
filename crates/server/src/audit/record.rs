//! One audit record: its members and their order.
//!
//! Source: AWS CloudTrail User Guide, "CloudTrail record contents"; AWS KMS Developer Guide, "Logging
//! AWS KMS API calls with AWS CloudTrail".

use keyrum_types::{AccountId, Region, UnixMillis};

use crate::calendar::Date;
use crate::http::RequestUid;
use crate::json::ObjectWriter;

/// The version of the records' form.
const EVENT_VERSION: &str = "1.11";

/// Where AWS's own services are said to call from.
pub(super) const INTERNAL: &str = "AWS Internal";

/// What there is no knowing of.
const UNKNOWN: &str = "-";

/// Who made a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) account: AccountId,
    /// The caller's ARN, or the DNS name of an AWS service.
    pub(super) arn: &'a str,
    /// The access key's id; empty if nobody signed.
    pub(super) access_key: &'a str,
    /// Empty for an account's root.
    pub(super) unique_id: &'a str,
    /// The service that asked on the caller's behalf; empty if none did.
    pub(super) invoked_by: &'a str,
    /// The ARN, with its path, of the role whose session the caller is; empty if it is none.
    pub(super) session_role: &'a str,
    pub(super) session_began: Option<UnixMillis>,
}

/// Whose doing a record tells of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who<'a> {
    Caller(Identity<'a>),
    /// A Region, by itself, for this account.
    Region(AccountId),
}

/// What a record says was dealt with.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) account: AccountId,
    pub(super) arn: String,
    pub(super) is_alias: bool,
}

/// From where, and how, a call came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct From<'a> {
    /// Empty if unknown.
    pub(super) source: &'a str,
    /// Empty if the client sent none.
    pub(super) user_agent: &'a str,
    /// Empty if unknown.
    pub(super) host: &'a str,
    /// Version, cipher suite and key exchange; `None` without TLS.
    pub(super) tls: Option<(&'a str, &'a str, &'a str)>,
}

/// A record, but for whom it is written.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) region: &'a Region,
    /// `kms` or `sts`.
    pub(super) service: &'a str,
    pub(super) name: &'a str,
    pub(super) at: UnixMillis,
    pub(super) who: Who<'a>,
    pub(super) from: From<'a>,
    /// Code and message; the message may be empty.
    pub(super) error: Option<(&'a str, &'a str)>,
    /// JSON; empty for null.
    pub(super) parameters: &'a [u8],
    /// JSON; empty for null.
    pub(super) response: &'a [u8],
    /// JSON; empty for none.
    pub(super) additional: &'a [u8],
    /// JSON; empty for none.
    pub(super) service_details: &'a [u8],
    pub(super) request: Option<[u8; 16]>,
    pub(super) event: [u8; 16],
    pub(super) read_only: bool,
    pub(super) resources: &'a [Resource],
    pub(super) is_service_event: bool,
}

impl Record<'_> {
    /// Appends the record and a line's end. With `shared`, it is one of a pair that two accounts get.
    pub(super) fn write(&self, out: &mut Vec<u8>, recipient: AccountId, shared: Option<[u8; 16]>) {
        let mut line = ObjectWriter::behind(std::mem::take(out));
        line.text("eventVersion", EVENT_VERSION);
        line.object("userIdentity", |identity| match &self.who {
            Who::Caller(caller) if caller.account != recipient => foreign(identity, caller),
            Who::Caller(caller) => own(identity, caller),
            Who::Region(account) => {
                identity
                    .plain("accountId", account.to_string().as_bytes())
                    .text("invokedBy", INTERNAL);
            }
        });
        line.plain("eventTime", &iso_seconds(self.at));
        let source: &[u8] = match self.service {
            "kms" => b"kms.amazonaws.com",
            _ => b"sts.amazonaws.com",
        };
        line.plain("eventSource", source);
        line.text("eventName", self.name);
        line.plain("awsRegion", self.region.as_str().as_bytes());
        let by_service = match &self.who {
            Who::Caller(caller) => !caller.invoked_by.is_empty(),
            Who::Region(_) => true,
        };
        let shown = |text| match (by_service, text) {
            (true, _) => INTERNAL,
            (false, "") => UNKNOWN,
            (false, text) => text,
        };
        line.text("sourceIPAddress", shown(self.from.source));
        line.text("userAgent", shown(self.from.user_agent));
        if let Some((code, message)) = self.error {
            line.text("errorCode", code);
            line.text_if(
                "errorMessage",
                Some(message).filter(|text| !text.is_empty()),
            );
        }
        let or_null = |json: &[u8]| {
            if json.is_empty() {
                b"null".to_vec()
            } else {
                Vec::new()
            }
        };
        for (name, json) in [
            ("requestParameters", self.parameters),
            ("responseElements", self.response),
        ] {
            let null = or_null(json);
            line.raw(name, if json.is_empty() { &null } else { json });
        }
        if !self.additional.is_empty() {
            line.raw("additionalEventData", self.additional);
        }
        if let Some(request) = self.request {
            line.plain("requestID", &RequestUid::from_bytes(request).text());
        }
        line.plain("eventID", &RequestUid::from_bytes(self.event).text());
        line.boolean("readOnly", self.read_only);
        line.objects("resources", self.resources, |writer, resource| {
            let kind: &[u8] = match resource.is_alias {
                true => b"AWS::KMS::Alias",
                false => b"AWS::KMS::Key",
            };
            writer
                .plain("accountId", resource.account.to_string().as_bytes())
                .plain("type", kind)
                .text("ARN", &resource.arn);
        });
        let kind: &[u8] = match self.is_service_event {
            true => b"AwsServiceEvent",
            false => b"AwsApiCall",
        };
        line.plain("eventType", kind);
        line.boolean("managementEvent", true);
        line.plain("recipientAccountId", recipient.to_string().as_bytes());
        if let Some(shared) = shared {
            line.plain("sharedEventID", &RequestUid::from_bytes(shared).text());
        }
        if !self.service_details.is_empty() {
            line.raw("serviceEventDetails", self.service_details);
        }
        line.plain("eventCategory", b"Management");
        if let Some((version, suite, exchange)) = self.from.tls {
            line.object("tlsDetails", |tls| {
                tls.text("tlsVersion", version)
                    .text("cipherSuite", suite)
                    .text("clientProvidedHostHeader", self.from.host)
                    .text("keyExchange", exchange);
            });
        }
        *out = line.finish();
        out.push(b'\n');
    }
}

/// The caller as its own account is told of it.
fn own(identity: &mut ObjectWriter, caller: &Identity<'_>) {
    let account = caller.account.to_string();
    let resource = caller.arn.splitn(6, ':').nth(5).unwrap_or_default();
    let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = match kind {
        _ if !caller.arn.starts_with("arn:") => {
            identity
                .text("type", "AWSService")
                .text("invokedBy", caller.arn);
            return;
        }
        "root" => "Root",
        "user" => "IAMUser",
        "assumed-role" => "AssumedRole",
        "federated-user" => "FederatedUser",
        _ => "Unknown",
    };
    let principal = match caller.unique_id {
        "" => &account,
        id => id,
    };
    identity
        .text("type", kind)
        .text("principalId", principal)
        .text("arn", caller.arn)
        .plain("accountId", account.as_bytes());
    if !caller.access_key.is_empty() {
        identity.text("accessKeyId", caller.access_key);
    }
    if kind == "IAMUser" {
        // Behind the path.
        identity.text("userName", name.rsplit('/').next().unwrap_or_default());
    }
    if kind == "AssumedRole" || caller.session_began.is_some() {
        session(identity, caller, &account, principal, name);
    }
    if !caller.invoked_by.is_empty() {
        identity.text("invokedBy", caller.invoked_by);
    }
}

fn session(
    identity: &mut ObjectWriter,
    caller: &Identity<'_>,
    account: &str,
    principal: &str,
    name: &str,
) {
    identity.object("sessionContext", |context| {
        if caller.arn.contains(":assumed-role/") {
            let role = name.split('/').next().unwrap_or_default();
            // A session's unique id is its role's and its name.
            let issuer = principal.split(':').next().unwrap_or_default();
            context.object("sessionIssuer", |writer| {
                writer
                    .text("type", "Role")
                    .text("principalId", issuer)
                    .text("arn", caller.session_role)
                    .plain("accountId", account.as_bytes())
                    .text("userName", role);
            });
        }
        if let Some(began) = caller.session_began {
            context.object("attributes", |attributes| {
                attributes
                    .plain("creationDate", &iso_seconds(began))
                    .plain("mfaAuthenticated", b"false");
            });
        }
    });
}

/// The caller as another account, whose key was used, is told of it.
fn foreign(identity: &mut ObjectWriter, caller: &Identity<'_>) {
    let account = caller.account.to_string();
    let principal = match caller.unique_id {
        "" => &account,
        id => id,
    };
    identity
        .text("type", "AWSAccount")
        .text("principalId", principal)
        .plain("accountId", account.as_bytes());
    if !caller.invoked_by.is_empty() {
        identity.text("invokedBy", caller.invoked_by);
    }
}

/// A time as `2026-11-22T15:03:37Z`.
fn iso_seconds(at: UnixMillis) -> [u8; 20] {
    let seconds = at.0 / 1000;
    let date = Date::after(seconds / 86_400);
    let mut text = *b"0000-00-00T00:00:00Z";
    let mut put = |at: usize, digits: usize, mut value: u64| {
        for place in (at..at + digits).rev() {
            text[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, date.year);
    put(5, 2, date.month);
    put(8, 2, date.day);
    put(11, 2, seconds / 3600 % 24);
    put(14, 2, seconds / 60 % 60);
    put(17, 2, seconds % 60);
    text
}

/// A time as `Aug 10, 2022, 10:38:27 PM`: what stands in `requestParameters` and `responseElements`.
pub(super) fn long_date(at: UnixMillis) -> String {
    let seconds = at.0 / 1000;
    let date = Date::after(seconds / 86_400);
    let hour = seconds / 3600 % 24;
    let half = if hour < 12 { "AM" } else { "PM" };
    let hour = match hour % 12 {
        0 => 12,
        hour => hour,
    };
    format!(
        "{} {}, {:04}, {hour}:{:02}:{:02} {half}",
        date.month_name(),
        date.day,
        date.year,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(arn: &str, unique_id: &str, recipient: &str) -> serde_json::Value {
        let region = "us-east-1".parse().unwrap();
        let who = Identity {
            account: "111122223333".parse().unwrap(),
            arn,
            access_key: "ASIA1",
            unique_id,
            invoked_by: "",
            session_role: "arn:aws:iam::111122223333:role/path/reader",
            session_began: Some(UnixMillis(0)).filter(|_| arn.contains("assumed-role")),
        };
        let record = Record {
            region: &region,
            service: "kms",
            name: "Encrypt",
            at: UnixMillis(0),
            who: Who::Caller(who),
            from: From {
                source: "10.0.0.1",
                host: "h",
                tls: Some(("TLSv1.3", "S", "x25519")),
                ..From::default()
            },
            error: Some(("AccessDenied", "no \"way\"")),
            parameters: b"{}",
            response: b"",
            additional: b"",
            service_details: b"",
            request: Some([1; 16]),
            event: [2; 16],
            read_only: true,
            resources: &[],
            is_service_event: false,
        };
        let mut out = b"before\n".to_vec();
        record.write(&mut out, recipient.parse().unwrap(), Some([3; 16]));
        let line = out.strip_prefix(b"before\n").unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(line).unwrap()
    }

    /// Catches a kind of caller whose record lacks who it was, and another account that is told more
    /// of a caller than its account and id.
    #[test]
    fn callers_are_told_by_kind() {
        const OWN: &str = "111122223333";
        let identity = |arn: &str, id: &str| written(arn, id, OWN)["userIdentity"].clone();
        let common = |kind: &str, id: &str, arn: &str| {
            serde_json::json!({
                "type": kind, "principalId": id, "arn": arn, "accountId": OWN, "accessKeyId": "ASIA1",
            })
        };
        let root = "arn:aws:iam::111122223333:root";
        assert_eq!(identity(root, ""), common("Root", OWN, root));
        let user = "arn:aws:iam::111122223333:user/path/Ann";
        let mut expected = common("IAMUser", "AIDA1", user);
        expected["userName"] = "Ann".into();
        assert_eq!(identity(user, "AIDA1"), expected);
        let session = "arn:aws:sts::111122223333:assumed-role/reader/today";
        let mut expected = common("AssumedRole", "AROA1:today", session);
        expected["sessionContext"] = serde_json::json!({
            "sessionIssuer": {
                "type": "Role", "principalId": "AROA1", "accountId": OWN, "userName": "reader",
                "arn": "arn:aws:iam::111122223333:role/path/reader",
            },
            "attributes": {"creationDate": "1970-01-01T00:00:00Z", "mfaAuthenticated": "false"},
        });
        assert_eq!(identity(session, "AROA1:today"), expected);
        let other = written(user, "AIDA1", "444455556666");
        assert_eq!(
            other["userIdentity"],
            serde_json::json!({"type": "AWSAccount", "principalId": "AIDA1", "accountId": OWN})
        );
        assert_eq!(other["recipientAccountId"], "444455556666");
        assert_eq!(
            other["sharedEventID"],
            "03030303-0303-0303-0303-030303030303"
        );
        assert_eq!(other["errorMessage"], "no \"way\"");
        assert_eq!(
            other["tlsDetails"],
            serde_json::json!({
                "tlsVersion": "TLSv1.3", "cipherSuite": "S", "clientProvidedHostHeader": "h",
                "keyExchange": "x25519",
            })
        );
        let service = written("s3.amazonaws.com", "", OWN);
        assert_eq!(
            service["userIdentity"],
            serde_json::json!({"type": "AWSService", "invokedBy": "s3.amazonaws.com"})
        );
    }

    /// Catches noon and midnight that change places, and a date that is a day off.
    #[test]
    fn dates_are_the_records() {
        let at = |seconds: u64| UnixMillis(seconds * 1000 + 999);
        assert_eq!(long_date(at(1_660_171_107)), "Aug 10, 2022, 10:38:27 PM");
        assert_eq!(long_date(at(951_782_400)), "Feb 29, 2000, 12:00:00 AM");
        assert_eq!(long_date(at(951_825_600)), "Feb 29, 2000, 12:00:00 PM");
        assert_eq!(&iso_seconds(at(1_660_171_107)), b"2022-08-10T22:38:27Z");
    }
}
