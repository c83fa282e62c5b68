//! Declared users, and what they ask with signatures.

use std::fmt::Write as _;

use aws_sdk_kms::config::Credentials;
use keyrum_tests::http::{Answer as Bytes, Raw};
use keyrum_tests::wait;
use serde_json::{Value, json};

/// The account that has the keys.
pub(crate) const OWNER: &str = "111122223333";

/// Another one.
pub(crate) const OTHER: &str = "444455556666";

/// A user or a session, with what it signs with.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) arn: String,
    access_key: String,
    secret: String,
    token: Option<String>,
}

impl Person {
    /// Of temporary credentials.
    pub(crate) fn of_session(arn: &str, access_key: &str, secret: &str, token: &str) -> Self {
        Self {
            arn: arn.to_owned(),
            access_key: access_key.to_owned(),
            secret: secret.to_owned(),
            token: Some(token.to_owned()),
        }
    }

    pub(crate) fn account(&self) -> &str {
        self.arn.split(':').nth(4).expect("an ARN has an account")
    }
}

/// A file of identities in the making.
#[derive(Debug, Default)]
pub(crate) struct People {
    owner: String,
    other: String,
    count: u32,
}

impl People {
    /// One more user, with more lines for it; a policy's statement in JSON, if it has any.
    pub(crate) fn user_with(
        &mut self,
        account: &str,
        name: &str,
        lines: &str,
        statements: &[Value],
    ) -> Person {
        self.count += 1;
        let access_key = format!("AKIAUSER{:012}", self.count);
        let secret = format!("a/secret+that=nobody.guesses/{:04}", self.count);
        let file = match account {
            OWNER => &mut self.owner,
            _ => &mut self.other,
        };
        writeln!(
            file,
            "[[account.user]]\nname = \"{name}\"\naccess_keys = [{{ id = \"{access_key}\", secret = \"{secret}\" }}]\n{lines}"
        )
        .expect("memory");
        if !statements.is_empty() {
            writeln!(file, "policies.own = '{}'", policy(statements)).expect("memory");
        }
        Person {
            arn: format!("arn:aws:iam::{account}:user/{name}"),
            access_key,
            secret,
            token: None,
        }
    }

    pub(crate) fn user(&mut self, account: &str, name: &str, statements: &[Value]) -> Person {
        self.user_with(account, name, "", statements)
    }

    /// One more role that anybody may assume; its ARN.
    pub(crate) fn role(
        &mut self,
        account: &str,
        name: &str,
        lines: &str,
        statements: &[Value],
    ) -> String {
        let file = match account {
            OWNER => &mut self.owner,
            _ => &mut self.other,
        };
        let trust = policy(&[json!({
            "Effect": "Allow",
            "Principal": {"AWS": [OWNER, OTHER]},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        })]);
        writeln!(
            file,
            "[[account.role]]\nname = \"{name}\"\ntrust = '{trust}'\n{lines}"
        )
        .expect("memory");
        if !statements.is_empty() {
            writeln!(file, "policies.own = '{}'", policy(statements)).expect("memory");
        }
        format!("arn:aws:iam::{account}:role/{name}")
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let (owner, other) = (&self.owner, &self.other);
        format!("[[account]]\nid = \"{OWNER}\"\n{owner}\n[[account]]\nid = \"{OTHER}\"\n{other}")
    }
}

/// The text of a policy.
pub(crate) fn policy(statements: &[Value]) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// An identity's statement about everything.
pub(crate) fn own(effect: &str, member: &str, actions: &[String]) -> Value {
    json!({"Effect": effect, member: actions, "Resource": "*"})
}

/// A key policy's statement.
pub(crate) fn on_key(effect: &str, principal: &str, actions: &[String]) -> Value {
    json!({"Effect": effect, "Principal": {"AWS": principal}, "Action": actions, "Resource": "*"})
}

/// What was answered: the body of a success, or an error's code and message.
pub(crate) type Answer = Result<Value, (String, String)>;

/// One Region of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct At {
    pub(crate) url: String,
    pub(crate) region: &'static str,
    /// How reads are made, if not as the cluster makes them.
    pub(crate) reads: Option<&'static str>,
    /// What requests say they come from.
    pub(crate) agent: &'static str,
}

impl At {
    pub(crate) fn new(url: &str, region: &'static str) -> Self {
        Self {
            url: url.to_owned(),
            region,
            reads: None,
            agent: "tester/1.0",
        }
    }

    /// A signed request, not sent yet.
    pub(crate) fn signed(&self, person: &Person, request: Raw, service: &str) -> Raw {
        let token = person.token.clone();
        let credentials =
            Credentials::new(&person.access_key, &person.secret, token, None, "tests");
        request.signed_with(&credentials, (&self.url, self.region, service))
    }

    /// Asks once; the answer as it came.
    pub(crate) async fn bytes(
        &self,
        person: &Person,
        operation: &str,
        body: &Value,
    ) -> Result<Bytes, String> {
        let request = Raw::kms(operation, body.to_string());
        let mut request = request.header("user-agent", self.agent);
        if let Some(reads) = self.reads {
            request = request.header("x-keyrum-consistency", reads);
        }
        self.signed(person, request, "kms").send(&self.url).await
    }

    /// Asks once.
    pub(crate) async fn once(&self, person: &Person, operation: &str, body: &Value) -> Answer {
        let answer = self
            .bytes(person, operation, body)
            .await
            .expect("an answer");
        read(&answer)
    }

    /// Asks until the answer is not that it took too long, as RSA keys may on a busy machine.
    pub(crate) async fn ask(&self, person: &Person, operation: &str, body: &Value) -> Answer {
        wait::until(operation, wait::LONG, async || {
            match self.once(person, operation, body).await {
                Err((code, _)) if code == "500 DependencyTimeoutException" => None,
                answer => Some(answer),
            }
        })
        .await
    }

    /// Asks for what must succeed.
    pub(crate) async fn ok(&self, person: &Person, operation: &str, body: Value) -> Value {
        let answer = self.ask(person, operation, &body).await;
        answer.unwrap_or_else(|error| panic!("{}: {operation} {body}: {error:?}", person.arn))
    }
}

/// An answer's meaning.
pub(crate) fn read(answer: &Bytes) -> Answer {
    let body = match answer.body.is_empty() {
        true => Value::Null,
        false => answer.json(),
    };
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match answer.status.as_u16() {
        200 => Ok(body),
        400 => Err((text("__type"), text("message"))),
        status => Err((format!("{status} {}", text("__type")), text("message"))),
    }
}

/// Waits until a Region knows a person.
pub(crate) async fn known(at: &At, person: &Person) {
    wait::until_true("identities", wait::LONG, async || {
        let answer = at.once(person, "ListKeys", &json!({})).await;
        !matches!(answer, Err((code, _)) if code == "UnrecognizedClientException")
    })
    .await;
}
