//! Sessions of roles, in every Region: their own policies, boundaries and tags, and other accounts' roles.

use keyrum_tests::http::Raw;
use serde_json::{Value, json};

use crate::matrix::start;
use crate::people::{Answer, At, OTHER, OWNER, People, Person, on_key, own, policy};
use crate::requests::{Bench, blob, root_statement};

/// The text between two tags of an XML document.
fn element<'x>(xml: &'x str, name: &str) -> &'x str {
    let (_, rest) = xml.split_once(&format!("<{name}>")).expect(xml);
    rest.split_once(&format!("</{name}>")).expect(xml).0
}

/// Bytes as a form has them.
fn encoded(text: &str) -> String {
    let bytes = text.bytes();
    bytes.map(|byte| format!("%{byte:02X}")).collect()
}

/// Assumes a role, with more members of the form.
async fn assume(at: &At, person: &Person, role: &str, name: &str, more: &[(&str, &str)]) -> Person {
    let fixed = [("RoleArn", role), ("RoleSessionName", name)];
    let members = fixed.iter().chain(more);
    let members: String = members
        .map(|(name, value)| format!("&{name}={}", encoded(value)))
        .collect();
    let form = format!("Action=AssumeRole&Version=2011-06-15{members}");
    let request = Raw::sts(form);
    let answer = at.signed(person, request, "sts").send(&at.url).await;
    let text = answer.expect("an answer").text();
    let part = |name| element(&text, name);
    Person::of_session(
        part("Arn"),
        part("AccessKeyId"),
        part("SecretAccessKey"),
        part("SessionToken"),
    )
}

/// What was wrong with a call: the end of the message, after the resource.
fn reason(answer: Answer) -> Option<String> {
    let (code, message) = answer.err()?;
    assert_eq!(code, "AccessDeniedException", "{message}");
    let begins = message.find(" because ").or(message.find(" with "));
    Some(message[begins.expect(&message)..].trim().to_owned())
}

struct Asking<'b> {
    bench: &'b Bench,
    key: String,
    ciphertext: Value,
}

impl<'b> Asking<'b> {
    async fn of(bench: &'b Bench, statements: &[Value]) -> Self {
        let key = bench.key("Encrypt", statements).await;
        let ciphertext = bench.ciphertext(&key).await;
        Self {
            bench,
            key,
            ciphertext,
        }
    }

    /// Why somebody may not Encrypt, and why not Decrypt.
    async fn both(&self, person: &Person) -> [Option<String>; 2] {
        let encrypt = json!({"KeyId": self.key, "Plaintext": blob("x")});
        let decrypt = json!({"KeyId": self.key, "CiphertextBlob": self.ciphertext});
        let at = &self.bench.here;
        [
            reason(at.ask(person, "Encrypt", &encrypt).await),
            reason(at.ask(person, "Decrypt", &decrypt).await),
        ]
    }
}

fn no(layer: &str) -> Option<String> {
    Some(format!("because no {layer} allows the kms:Decrypt action"))
}

fn denied(layer: &str) -> Option<String> {
    Some(format!("with an explicit deny in a {layer}"))
}

/// Catches a session that may more than its role, its boundary and its own policy together, in the Region
/// that made it or the other one; one that may less; and a role of another account that needs one
/// side only.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bound_in_every_region() {
    let mut people = People::default();
    let all = own("Allow", "Action", &["kms:*".to_owned()]);
    let assumes = own("Allow", "Action", &["sts:*".to_owned()]);
    let ada = people.user(OWNER, "ada", &[assumes]);
    let one = std::slice::from_ref(&all);
    let worker = people.role(OWNER, "worker", "", one);
    let encrypt_only = policy(&[own("Allow", "Action", &["kms:Encrypt".to_owned()])]);
    let boundary = format!("boundary = '{encrypt_only}'");
    let bounded = people.role(OWNER, "bounded", &boundary, one);
    let deny_decrypt = policy(&[
        all.clone(),
        own("Deny", "Action", &["kms:Decrypt".to_owned()]),
    ]);
    let boundary = format!("boundary = '{deny_decrypt}'");
    let fenced = people.role(OWNER, "fenced", &boundary, one);
    let bare = people.role(OWNER, "bare", "tags = { tier = \"gold\" }", &[]);
    let deploy = people.role(OTHER, "deploy", "", one);
    let limited = people.user_with(
        OWNER,
        "limited",
        &format!("boundary = '{encrypt_only}'"),
        one,
    );
    let (_dev, _folder, first) = start(people).await;
    let second = Bench::new(
        first.there.clone(),
        first.here.clone(),
        first.keeper.clone(),
    );
    let kms = ["kms:*".to_owned()];
    for (made_in, bench) in [
        (&first.here, &first),
        (&first.here, &second),
        (&first.there, &first),
        (&first.there, &second),
    ] {
        let assume = async |role: &str, name: &str, more: &[(&str, &str)]| {
            assume(made_in, &ada, role, name, more).await
        };
        let free = assume(&worker, "free", &[]).await;
        let narrow = assume(&worker, "narrow", &[("Policy", &encrypt_only)]).await;
        let barred = assume(&worker, "barred", &[("Policy", &deny_decrypt)]).await;
        let in_bounds = assume(&bounded, "in-bounds", &[]).await;
        let in_fence = assume(&fenced, "in-fence", &[]).await;

        // The account's identities decide.
        let by_root = Asking::of(bench, &[root_statement()]).await;
        assert_eq!(by_root.both(&free).await, [None, None]);
        assert_eq!(by_root.both(&narrow).await, [None, no("session policy")]);
        let bars = denied("session policy");
        assert_eq!(by_root.both(&barred).await, [None, bars.clone()]);
        let bounds = no("permissions boundary");
        assert_eq!(by_root.both(&in_bounds).await, [None, bounds.clone()]);
        let fence = denied("permissions boundary");
        assert_eq!(by_root.both(&in_fence).await, [None, fence.clone()]);
        assert_eq!(by_root.both(&limited).await, [None, bounds.clone()]);

        // The key's policy names the role: sessions and boundaries limit that, too.
        let to_roles: Vec<_> = [&worker, &bounded, &fenced]
            .map(|role| on_key("Allow", role, &kms))
            .into();
        let by_role = Asking::of(bench, &to_roles).await;
        assert_eq!(by_role.both(&free).await, [None, None]);
        assert_eq!(by_role.both(&narrow).await, [None, no("session policy")]);
        assert_eq!(by_role.both(&barred).await, [None, bars.clone()]);
        assert_eq!(by_role.both(&in_bounds).await, [None, bounds]);
        assert_eq!(by_role.both(&in_fence).await, [None, fence.clone()]);

        // It names the sessions or the user: only what denies still counts.
        let sessions = [&narrow, &barred, &in_bounds, &in_fence, &limited];
        let to_sessions = sessions.map(|person| on_key("Allow", &person.arn, &kms));
        let by_session = Asking::of(bench, &to_sessions).await;
        assert_eq!(by_session.both(&narrow).await, [None, None]);
        assert_eq!(by_session.both(&barred).await, [None, bars]);
        assert_eq!(by_session.both(&in_bounds).await, [None, None]);
        assert_eq!(by_session.both(&in_fence).await, [None, fence]);
        assert_eq!(by_session.both(&limited).await, [None, None]);
        let [encrypts, decrypts] = by_session.both(&free).await;
        assert!(encrypts.is_some() && decrypts == no("resource-based policy"));

        // Grants likewise.
        let granted = Asking::of(bench, &[]).await;
        let operations = ["Encrypt", "Decrypt"];
        bench.grant(&granted.key, &worker, &operations).await;
        assert_eq!(granted.both(&free).await, [None, None]);
        assert_eq!(granted.both(&narrow).await, [None, no("session policy")]);
        bench.grant(&granted.key, &narrow.arn, &operations).await;
        assert_eq!(granted.both(&narrow).await, [None, None]);

        // Tags of the role and of the session.
        let tagged = [("tier", "gold"), ("team", "blue")].map(|(tag, value)| {
            let mut statement = on_key("Allow", &bare, &kms);
            statement["Condition"] =
                json!({"StringEquals": {format!("aws:PrincipalTag/{tag}"): value}});
            [statement]
        });
        let [by_role_tag, by_session_tag] = tagged;
        let by_role_tag = Asking::of(bench, &by_role_tag).await;
        let by_session_tag = Asking::of(bench, &by_session_tag).await;
        let plain = assume(&bare, "plain", &[]).await;
        let blue = [
            ("Tags.member.1.Key", "team"),
            ("Tags.member.1.Value", "blue"),
        ];
        let blue = assume(&bare, "blue", &blue).await;
        assert_eq!(by_role_tag.both(&plain).await, [None, None]);
        assert_eq!(by_session_tag.both(&blue).await, [None, None]);
        let [_, decrypts] = by_session_tag.both(&plain).await;
        assert_eq!(decrypts, no("resource-based policy"));

        // A role of another account.
        let abroad = assume(&deploy, "abroad", &[]).await;
        assert_eq!(abroad.account(), OTHER);
        let [_, decrypts] = by_root.both(&abroad).await;
        assert_eq!(decrypts, no("resource-based policy"));
        let consent = Asking::of(bench, &[on_key("Allow", &deploy, &kms)]).await;
        assert_eq!(consent.both(&abroad).await, [None, None]);
        let narrow = assume(&deploy, "narrow", &[("Policy", &encrypt_only)]).await;
        assert_eq!(consent.both(&narrow).await, [None, no("session policy")]);
    }
}
