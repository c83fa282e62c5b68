//! One audit record: its members and their order.
//!
//! Source: AWS CloudTrail User Guide, "CloudTrail record contents"; AWS KMS Developer Guide, "Logging
//! AWS KMS API calls with AWS CloudTrail".

use keyrum_types::{AccountId, Region, UnixMillis, resource_of};

use crate::calendar::Date;
use crate::http::RequestUid;
use crate::json::write_text;

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

/// A record, of version 1.11, but for whom it is written.
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

/// A line that grows at the end of a buffer. What stands in each record is written as it will read,
/// several members at a time: a record has thirty, and there is one for each call.
struct Line<'o>(&'o mut Vec<u8>);

impl Line<'_> {
    fn put<const N: usize>(&mut self, json: &[u8; N]) -> &mut Self {
        self.0.extend_from_slice(json);
        self
    }

    /// Text, with its quotes.
    fn text(&mut self, text: &str) -> &mut Self {
        write_text(self.0, text);
        self
    }

    /// Text that needs no escape, such as an id, or JSON; without quotes.
    fn plain(&mut self, text: &[u8]) -> &mut Self {
        self.0.extend_from_slice(text);
        self
    }

    fn account(&mut self, account: AccountId) -> &mut Self {
        self.plain(&account.digits())
    }

    fn uid(&mut self, id: [u8; 16]) -> &mut Self {
        self.plain(&RequestUid::from_bytes(id).text())
    }

    fn boolean(&mut self, value: bool) -> &mut Self {
        self.plain(if value { b"true" } else { b"false" })
    }

    /// JSON, null if it is empty.
    fn json(&mut self, json: &[u8]) -> &mut Self {
        self.plain(if json.is_empty() { b"null" } else { json })
    }
}

impl Record<'_> {
    /// Appends the record and a line's end. With `shared`, it is one of a pair that two accounts get.
    pub(super) fn write(&self, out: &mut Vec<u8>, recipient: AccountId, shared: Option<[u8; 16]>) {
        let mut line = Line(out);
        line.put(br#"{"eventVersion":"1.11","userIdentity":{"#);
        match &self.who {
            Who::Caller(caller) if caller.account != recipient => foreign(&mut line, caller),
            Who::Caller(caller) => own(&mut line, caller),
            Who::Region(account) => {
                line.put(br#""accountId":""#).account(*account);
                line.put(br#"","invokedBy":"#).text(INTERNAL);
            }
        }
        line.put(br#"},"eventTime":""#).plain(&iso_seconds(self.at));
        match self.service {
            "kms" => line.put(br#"","eventSource":"kms.amazonaws.com","eventName":"#),
            _ => line.put(br#"","eventSource":"sts.amazonaws.com","eventName":"#),
        };
        line.text(self.name).put(br#","awsRegion":""#);
        line.plain(self.region.as_str().as_bytes());
        let by_service = match &self.who {
            Who::Caller(caller) => !caller.invoked_by.is_empty(),
            Who::Region(_) => true,
        };
        let shown = |text| match (by_service, text) {
            (true, _) => INTERNAL,
            (false, "") => UNKNOWN,
            (false, text) => text,
        };
        line.put(br#"","sourceIPAddress":"#);
        line.text(shown(self.from.source)).put(br#","userAgent":"#);
        line.text(shown(self.from.user_agent));
        if let Some((code, message)) = self.error {
            line.put(br#","errorCode":"#).text(code);
            if !message.is_empty() {
                line.put(br#","errorMessage":"#).text(message);
            }
        }
        line.put(br#","requestParameters":"#).json(self.parameters);
        line.put(br#","responseElements":"#).json(self.response);
        if !self.additional.is_empty() {
            line.put(br#","additionalEventData":"#);
            line.plain(self.additional);
        }
        if let Some(request) = self.request {
            line.put(br#","requestID":""#).uid(request).put(b"\"");
        }
        line.put(br#","eventID":""#).uid(self.event);
        line.put(br#"","readOnly":"#).boolean(self.read_only);
        line.put(br#","resources":["#);
        for (position, resource) in self.resources.iter().enumerate() {
            if position > 0 {
                line.put(b",");
            }
            line.put(br#"{"accountId":""#).account(resource.account);
            match resource.is_alias {
                true => line.put(br#"","type":"AWS::KMS::Alias","ARN":"#),
                false => line.put(br#"","type":"AWS::KMS::Key","ARN":"#),
            };
            line.text(&resource.arn).put(b"}");
        }
        match self.is_service_event {
            true => line.put(br#"],"eventType":"AwsServiceEvent""#),
            false => line.put(br#"],"eventType":"AwsApiCall""#),
        };
        line.put(br#","managementEvent":true,"recipientAccountId":""#);
        line.account(recipient);
        if let Some(shared) = shared {
            line.put(br#"","sharedEventID":""#).uid(shared);
        }
        if !self.service_details.is_empty() {
            line.put(br#"","serviceEventDetails":"#);
            line.plain(self.service_details);
            line.put(br#","eventCategory":"Management""#);
        } else {
            line.put(br#"","eventCategory":"Management""#);
        }
        if let Some((version, suite, exchange)) = self.from.tls {
            line.put(br#","tlsDetails":{"tlsVersion":"#).text(version);
            line.put(br#","cipherSuite":"#).text(suite);
            line.put(br#","clientProvidedHostHeader":"#);
            line.text(self.from.host);
            line.put(br#","keyExchange":"#).text(exchange).put(b"}");
        }
        line.put(b"}\n");
    }
}

/// The caller as its own account is told of it.
fn own(line: &mut Line<'_>, caller: &Identity<'_>) {
    let resource = resource_of(caller.arn).unwrap_or_default();
    let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = match kind {
        _ if !caller.arn.starts_with("arn:") => {
            line.put(br#""type":"AWSService","invokedBy":"#);
            line.text(caller.arn);
            return;
        }
        "root" => "Root",
        "user" => "IAMUser",
        "assumed-role" => "AssumedRole",
        "federated-user" => "FederatedUser",
        _ => "Unknown",
    };
    line.put(br#""type":"#).text(kind);
    principal(line, caller.account, caller.unique_id);
    line.put(br#","arn":"#).text(caller.arn);
    line.put(br#","accountId":""#).account(caller.account);
    line.put(b"\"");
    if !caller.access_key.is_empty() {
        line.put(br#","accessKeyId":"#).text(caller.access_key);
    }
    if kind == "IAMUser" {
        // Behind the path.
        let name = name.rsplit('/').next().unwrap_or_default();
        line.put(br#","userName":"#).text(name);
    }
    if kind == "AssumedRole" || caller.session_began.is_some() {
        session(line, caller, name);
    }
    if !caller.invoked_by.is_empty() {
        line.put(br#","invokedBy":"#).text(caller.invoked_by);
    }
}

fn principal(line: &mut Line<'_>, account: AccountId, unique_id: &str) {
    line.put(br#","principalId":"#);
    match unique_id {
        "" => line.put(b"\"").account(account).put(b"\""),
        id => line.text(id),
    };
}

fn session(line: &mut Line<'_>, caller: &Identity<'_>, name: &str) {
    line.put(br#","sessionContext":{"#);
    let is_role = caller.arn.contains(":assumed-role/");
    if is_role {
        let role = name.split('/').next().unwrap_or_default();
        // A session's unique id is its role's and its name.
        let issuer = caller.unique_id.split(':').next().unwrap_or_default();
        line.put(br#""sessionIssuer":{"type":"Role""#);
        principal(line, caller.account, issuer);
        line.put(br#","arn":"#).text(caller.session_role);
        line.put(br#","accountId":""#).account(caller.account);
        line.put(br#"","userName":"#).text(role).put(b"}");
    }
    if let Some(began) = caller.session_began {
        if is_role {
            line.put(b",");
        }
        line.put(br#""attributes":{"creationDate":""#);
        line.plain(&iso_seconds(began));
        line.put(br#"","mfaAuthenticated":"false"}"#);
    }
    line.put(b"}");
}

/// The caller as another account, whose key was used, is told of it.
fn foreign(line: &mut Line<'_>, caller: &Identity<'_>) {
    line.put(br#""type":"AWSAccount""#);
    principal(line, caller.account, caller.unique_id);
    line.put(br#","accountId":""#).account(caller.account);
    line.put(b"\"");
    if !caller.invoked_by.is_empty() {
        line.put(br#","invokedBy":"#).text(caller.invoked_by);
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
