//! Identities on a Region of one node over a disk in memory: declared, changed, looked up, and given
//! temporary credentials.

mod one_node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyrum_consensus::ReadMode;
use keyrum_consensus::world::{Blocking, World, spawn};
use keyrum_crypto::DomainKeyring;
use keyrum_service::{
    AccountPlan, AssumeRoleInput, CredentialError, Credentials, IdentityError, IdentityReport,
    KeyPlan, RequestContext, RolePlan, Service, Settings, StsError, UserPlan,
};
use keyrum_state::{Caller, IdentityName, Refusal};
use keyrum_types::{AccountId, Clock, UnixMillis};
use tokio::time::Instant;
use zeroize::Zeroizing;

use one_node::one_node;

const ADA: &str = "AKIAADA0000000000001";
const ROLE: &str = "arn:aws:iam::111122223333:role/ops/deploy";

/// A machine's clock that the test moves.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

struct Scene {
    service: Service,
    clock: Arc<Hand>,
    ticking: tokio::task::JoinHandle<()>,
}

impl Scene {
    async fn new() -> Self {
        let clock = Arc::new(Hand(1_700_000_000_000.into()));
        let world = World {
            clock: clock.clone(),
            blocking: Blocking::Inline,
            ..World::real()
        };
        let group = one_node(&world).await;
        let keyring = DomainKeyring::from_bytes(Zeroizing::new([5; 32]));
        let service = Service::new(group, keyring, world, Settings::default());
        let on_time = service.clone();
        let ticking = spawn(async move { on_time.run_clock().await });
        Self {
            service,
            clock,
            ticking,
        }
    }

    async fn end(self) {
        self.ticking.abort();
        self.service.group().shutdown().await;
    }

    async fn apply(&self, plan: &[AccountPlan], replace: bool) -> IdentityReport {
        let applied = self.service.apply_identities(plan, replace).await;
        applied.map_err(|error| error.to_string()).unwrap()
    }

    async fn find(&self, id: &str, token: Option<&str>) -> Result<Credentials, CredentialError> {
        self.service.credentials(id, token, true).await
    }

    async fn caller(&self, id: &str) -> RequestContext {
        context(self.find(id, None).await.ok().unwrap().caller)
    }

    async fn assume(
        &self,
        ctx: &RequestContext,
        change: impl FnOnce(&mut AssumeRoleInput),
    ) -> Result<keyrum_service::AssumeRoleOutput, StsError> {
        let mut input = AssumeRoleInput {
            role_arn: Some(ROLE.to_owned()),
            session_name: Some("build".to_owned()),
            external_id: Some("word".to_owned()),
            ..AssumeRoleInput::default()
        };
        change(&mut input);
        self.service.assume_role(ctx, input).await
    }
}

fn context(caller: Caller) -> RequestContext {
    RequestContext {
        caller,
        mode: ReadMode::Linearizable,
        request: [1; 16],
        trace: Default::default(),
    }
}

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

fn user(name: &str, key: &str) -> UserPlan {
    UserPlan {
        name: name.to_owned(),
        path: "/".to_owned(),
        tags: [("Team".to_owned(), "a".to_owned())].into(),
        policies: [(
            "assume".to_owned(),
            r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}"#
                .to_owned(),
        )]
        .into(),
        boundary: None,
        access_keys: vec![KeyPlan {
            id: key.to_owned(),
            secret: Some(Zeroizing::new(format!("secret of {name}"))),
            active: true,
        }],
    }
}

/// Trusts its account, if the caller knows a word; lets tags be set.
fn role() -> RolePlan {
    let trust = r#"{"Statement":[
        {"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole",
         "Condition":{"StringEquals":{"sts:ExternalId":"word"}}},
        {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/ada"},
         "Action":"sts:TagSession"}]}"#;
    RolePlan {
        name: "deploy".to_owned(),
        path: "/ops/".to_owned(),
        tags: [
            ("team".to_owned(), "ops".to_owned()),
            ("tier".to_owned(), "1".to_owned()),
        ]
        .into(),
        trust: trust.to_owned(),
        policies: BTreeMap::new(),
        boundary: None,
        session_seconds_max: Some(7200),
    }
}

fn plan() -> Vec<AccountPlan> {
    vec![AccountPlan {
        account: account(),
        alias: Some("acme".to_owned()),
        access_keys: Vec::new(),
        users: vec![user("ada", ADA), user("bob", "AKIABOB0000000000001")],
        roles: vec![role()],
    }]
}

fn names(names: &[IdentityName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Catches a plan that is carried out twice or in part, a restart that undoes what an operator
/// changed or brings back what was deleted, and a plan that cannot be enforced.
#[tokio::test]
async fn a_plan_makes_what_is_absent_alone() {
    let scene = Scene::new().await;
    let service = &scene.service;
    let report = scene.apply(&plan(), false).await;
    assert_eq!(report.made.len(), 4, "{:?}", report.made);
    let report = scene.apply(&plan(), false).await;
    assert_eq!((report.made.len(), report.same), (0, 4));

    let ada = IdentityName::User(account(), "ada".to_owned());
    let bob = IdentityName::User(account(), "bob".to_owned());
    let document = Some(r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#);
    service
        .put_identity_policy(&ada, "none", document)
        .await
        .unwrap();
    service.delete_identity(&bob).await.unwrap();
    let report = scene.apply(&plan(), false).await;
    assert_eq!(report.differs, [(ada.clone(), vec!["policies"])]);
    assert_eq!(names(&report.deleted), ["user bob of account 111122223333"]);
    assert!(scene.find("AKIABOB0000000000001", None).await.is_err());

    let report = scene.apply(&plan(), true).await;
    assert_eq!(report.replaced, std::slice::from_ref(&ada));
    assert_eq!(report.made, [bob]);
    let report = scene.apply(&plan(), false).await;
    assert_eq!((report.same, report.differs.len()), (4, 0));

    let mut other = plan();
    other[0].users[0].access_keys[0].secret = Some(Zeroizing::new("another".to_owned()));
    other[0].roles[0].session_seconds_max = None;
    let report = scene.apply(&other, false).await;
    let role = IdentityName::Role(account(), "deploy".to_owned());
    let expected = [
        (ada.clone(), vec!["access_keys"]),
        (role, vec!["max_session_seconds"]),
    ];
    assert_eq!(report.differs, expected);

    other[0].users[0].policies = [("p".to_owned(), "{}".to_owned())].into();
    let refused = service.apply_identities(&other, true).await.err().unwrap();
    assert!(matches!(
        refused,
        IdentityError::Service(keyrum_service::ServiceError::Refused(
            Refusal::InvalidIdentity { .. }
        ))
    ));
    let spread = service.spread_of(&[ada], Instant::now()).await.unwrap();
    assert_eq!((spread.has.len(), spread.waits.len()), (1, 0));
    scene.end().await;
}

/// Catches a secret that does not come back, one that is shown to who has another key, a key that
/// works after it was switched off, and operations on what nobody has.
#[tokio::test]
async fn access_keys_are_found() {
    let scene = Scene::new().await;
    let service = &scene.service;
    assert!(!service.has_identities());
    scene.apply(&plan(), false).await;
    assert!(service.has_identities());
    let found = scene.find(ADA, None).await.ok().unwrap();
    assert_eq!(**found.secret, b"secret of ada");
    assert_eq!(found.caller.arn, "arn:aws:iam::111122223333:user/ada");
    let details = &found.caller.details;
    assert!(details.unique_id.starts_with("AIDA"));
    assert_eq!(details.access_key, ADA);
    assert_eq!(found.caller.conditions["aws:principaltag/team"], ["a"]);

    let ada = IdentityName::User(account(), "ada".to_owned());
    let new = service.create_access_key(&ada).await.unwrap();
    let found = scene.find(&new.id, None).await.ok().unwrap();
    assert_eq!(**found.secret, new.secret.as_bytes());
    assert_eq!((new.id.len(), new.secret.len()), (20, 40));
    assert!(service.create_access_key(&ada).await.is_err(), "a third");
    service.set_access_key(&new.id, false).await.unwrap();
    let found = scene.find(&new.id, None).await.err();
    assert_eq!(found, Some(CredentialError::Inactive));
    service.delete_access_key(&new.id).await.unwrap();
    let found = scene.find(&new.id, None).await.err();
    assert_eq!(found, Some(CredentialError::Unknown));
    let again = service.delete_access_key(&new.id).await.err();
    let id = new.id.clone();
    assert_eq!(again, Some(IdentityError::NoSuchAccessKey { id }));
    let role = IdentityName::Role(account(), "deploy".to_owned());
    let refused = service.create_access_key(&role).await.err();
    assert!(matches!(refused, Some(IdentityError::CannotHave { .. })));

    let root = IdentityName::Account(account());
    let new = service.create_access_key(&root).await.unwrap();
    let found = scene.find(&new.id, None).await.ok().unwrap();
    assert_eq!(found.caller.arn, "arn:aws:iam::111122223333:root");
    scene.end().await;
}

/// Catches a secret that is kept beyond its key: given for a key that was deleted, switched off or
/// replaced under its own id, or for a user who came later; and a session that goes on without the key
/// it is sealed with.
#[tokio::test]
async fn kept_secrets_end_with_their_keys() {
    let scene = Scene::new().await;
    let service = &scene.service;
    scene.apply(&plan(), false).await;
    let secret_of = async |id: &str| scene.find(id, None).await.map(|found| found.secret);
    let unknown = Some(CredentialError::Unknown);
    let old = secret_of(ADA).await.ok().unwrap();
    let again = secret_of(ADA).await.ok().unwrap();
    assert!(Arc::ptr_eq(&old, &again), "it is kept");

    let mut other = plan();
    let keys = &mut other[0].users[0].access_keys;
    keys[0].secret = Some(Zeroizing::new("another".to_owned()));
    scene.apply(&other, true).await;
    let new = secret_of(ADA).await.ok().unwrap();
    assert_eq!(**new, b"another");
    service.set_access_key(ADA, false).await.unwrap();
    let inactive = secret_of(ADA).await.err();
    assert_eq!(inactive, Some(CredentialError::Inactive));
    service.set_access_key(ADA, true).await.unwrap();
    assert!(secret_of(ADA).await.is_ok());
    service.delete_access_key(ADA).await.unwrap();
    assert_eq!(secret_of(ADA).await.err(), unknown);

    // The same id, for somebody else.
    let bob = "AKIABOB0000000000001";
    assert!(secret_of(bob).await.is_ok());
    let name = IdentityName::User(account(), "bob".to_owned());
    service.delete_identity(&name).await.unwrap();
    assert_eq!(secret_of(bob).await.err(), unknown);
    let mut other = plan();
    other[0].users = vec![user("eve", bob)];
    scene.apply(&other, false).await;
    let found = scene.find(bob, None).await.ok().unwrap();
    assert_eq!(**found.secret, b"secret of eve");
    assert_eq!(found.caller.arn, "arn:aws:iam::111122223333:user/eve");

    let eve = context(found.caller);
    let session = service.get_session_token(&eve, None).await.ok().unwrap();
    let of_session = async || scene.find(&session.access_key, Some(&session.token)).await;
    assert!(of_session().await.is_ok() && of_session().await.is_ok());
    let key = IdentityName::SessionKey(1);
    service.delete_identity(&key).await.unwrap();
    assert_eq!(of_session().await.err(), unknown);
    scene.end().await;
}

/// Catches a session that says it is somebody else, lasts longer than it may, works without or with
/// another's token, or goes on when its role is gone or is another of the same name.
#[tokio::test]
async fn sessions_are_their_tokens() {
    let scene = Scene::new().await;
    let service = &scene.service;
    scene.apply(&plan(), false).await;
    let ada = scene.caller(ADA).await;
    let policy = r#"{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}"#;
    let assumed = scene
        .assume(&ada, |input| {
            input.policy = Some(policy.to_owned());
            input.tags = vec![("Team".to_owned(), "b".to_owned())];
            input.duration_seconds = Some(7200);
        })
        .await
        .ok()
        .unwrap();
    let session = "arn:aws:sts::111122223333:assumed-role/deploy/build";
    assert_eq!(assumed.arn, session);
    assert!(assumed.assumed_role_id.starts_with("AROA"));
    assert!(assumed.assumed_role_id.ends_with(":build"));
    assert!(assumed.packed_policy_percent.is_some());
    let credentials = &assumed.credentials;
    assert_eq!(credentials.expires.0, 1_700_007_200_000);
    let (id, token) = (&credentials.access_key, credentials.token.as_str());
    let found = scene.find(id, Some(token)).await.ok().unwrap();
    assert_eq!(**found.secret, credentials.secret.as_bytes());
    let caller = &found.caller;
    assert_eq!(caller.arn, session);
    assert_eq!(caller.details.unique_id, assumed.assumed_role_id);
    assert_eq!(caller.details.session_policies, [policy]);
    let conditions = &caller.conditions;
    assert_eq!(conditions["aws:principaltag/team"], ["b"], "the session's");
    assert_eq!(conditions["aws:principaltag/tier"], ["1"], "the role's");
    assert_eq!(conditions["aws:multifactorauthpresent"], ["false"]);
    let state = service.identities().await.unwrap();
    assert!(state.resolve(caller).is_some());
    let identity = service.get_caller_identity(&context(caller.clone()));
    assert_eq!(identity.user_id, assumed.assumed_role_id);

    for (id, token) in [
        (id.as_str(), None),
        ("ASIAOTHER00000000000", Some(token)),
        (ADA, Some(token)),
        (id, Some(&token[4..])),
        (id, Some("")),
    ] {
        let found = scene.find(id, token).await.err();
        assert_eq!(found, Some(CredentialError::Unknown), "{id}");
    }
    // A session may become another role's session for an hour at most, and gets no token of a user's.
    let chained = context(caller.clone());
    let refused = service.get_session_token(&chained, None).await.err();
    assert!(matches!(refused, Some(StsError::AccessDenied(_))));

    scene
        .clock
        .0
        .store(credentials.expires.0 - 1, Ordering::Relaxed);
    assert!(scene.find(id, Some(token)).await.is_ok());
    scene.clock.0.fetch_add(1, Ordering::Relaxed);
    let found = scene.find(id, Some(token)).await.err();
    assert_eq!(found, Some(CredentialError::Expired));

    scene.clock.0.fetch_sub(7200 * 1000, Ordering::Relaxed);
    let role = IdentityName::Role(account(), "deploy".to_owned());
    service.delete_identity(&role).await.unwrap();
    let gone = scene.find(id, Some(token)).await.err();
    assert_eq!(gone, Some(CredentialError::Unknown));
    assert!(
        service
            .identities()
            .await
            .unwrap()
            .resolve(caller)
            .is_none()
    );
    let report = scene.apply(&plan(), true).await;
    assert_eq!(report.made, [role]);
    let other = scene.find(id, Some(token)).await.err();
    assert_eq!(other, Some(CredentialError::Unknown));
    assert!(
        service
            .identities()
            .await
            .unwrap()
            .resolve(caller)
            .is_none()
    );
    scene.end().await;
}

/// Catches a role that anybody can assume, a denial that tells whether a role exists, and parameters
/// that are taken although they cannot be.
#[tokio::test]
async fn roles_trust_whom_they_say() {
    let scene = Scene::new().await;
    let service = &scene.service;
    scene.apply(&plan(), false).await;
    let ada = scene.caller(ADA).await;
    let bob = scene.caller("AKIABOB0000000000001").await;
    assert!(scene.assume(&ada, |_| {}).await.is_ok());
    assert!(scene.assume(&bob, |_| {}).await.is_ok());
    let text = |outcome: Result<keyrum_service::AssumeRoleOutput, StsError>| {
        outcome.err().expect("refused").to_string()
    };
    let denied = |who: &str, action: &str, role: &str| {
        format!(
            "User: arn:aws:iam::111122223333:user/{who} is not authorized to perform: sts:{action} \
             on resource: {role}"
        )
    };
    let no_word = scene.assume(&ada, |input| input.external_id = None).await;
    assert_eq!(text(no_word), denied("ada", "AssumeRole", ROLE));
    for role in [
        "arn:aws:iam::111122223333:role/deploy",
        "arn:aws:iam::111122223333:role/ops/Deploy",
        "arn:aws:iam::111122223333:role/none",
        "arn:aws:iam::444455556666:role/ops/deploy",
    ] {
        let other = scene.assume(&ada, |input| input.role_arn = Some(role.to_owned()));
        assert_eq!(text(other.await), denied("ada", "AssumeRole", role));
    }
    let tags = vec![("a".to_owned(), "b".to_owned())];
    let tagged = |input: &mut AssumeRoleInput| input.tags = tags.clone();
    assert!(scene.assume(&ada, tagged).await.is_ok());
    let refused = text(scene.assume(&bob, tagged).await);
    assert_eq!(refused, denied("bob", "TagSession", ROLE));
    let root = context(Caller::root(service.region(), account()));
    let refused = text(scene.assume(&root, |_| {}).await);
    assert_eq!(refused, "Roles may not be assumed by root accounts.");
    // Whoever has the ARN of a user and not the user's unique id is not the user.
    let mut stranger = ada.clone();
    stranger.caller.details.unique_id.clear();
    assert!(scene.assume(&stranger, |_| {}).await.is_err());

    let long = "x".repeat(65);
    type Change<'c> = &'c dyn Fn(&mut AssumeRoleInput);
    for (change, words) in [
        (
            &(|input: &mut AssumeRoleInput| input.duration_seconds = Some(899)) as Change<'_>,
            "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value \
             greater than or equal to 900",
        ),
        (
            &|input| input.duration_seconds = Some(43_201),
            "less than or equal to 43200",
        ),
        (
            &|input| input.duration_seconds = Some(7_201),
            "exceeds the MaxSessionDuration set for this role.",
        ),
        (
            &|input| input.session_name = Some("x".to_owned()),
            "Value 'x' at 'roleSessionName' failed to satisfy constraint: Member must have length \
             greater than or equal to 2",
        ),
        (
            &|input| input.session_name = Some(long.clone()),
            "or equal to 64",
        ),
        (
            &|input| input.session_name = Some("a/b".to_owned()),
            "[\\w+=,.@-]*",
        ),
        (
            &|input| input.session_name = None,
            "Value null at 'roleSessionName'",
        ),
        (&|input| input.role_arn = None, "Value null at 'roleArn'"),
        (
            &|input| input.role_arn = Some("arn:aws:iam::1:role/x".to_owned()),
            "is invalid",
        ),
        (&|input| input.policy = Some("{}".to_owned()), "Statement"),
        (
            &|input| input.policy = Some(" ".repeat(2049)),
            "or equal to 2048",
        ),
        (
            &|input| {
                input.tags = ["A", "a"]
                    .map(|name| (name.to_owned(), String::new()))
                    .into()
            },
            "Duplicate tag keys",
        ),
        (
            &|input| input.tags = vec![("aws:a".to_owned(), String::new())],
            "begin with aws:",
        ),
    ] {
        let refused = text(scene.assume(&ada, change).await);
        assert!(refused.contains(words), "{refused}");
    }

    let user = service
        .get_session_token(&ada, Some(900))
        .await
        .ok()
        .unwrap();
    let found = scene.find(&user.access_key, Some(&user.token)).await;
    let caller = found.ok().unwrap().caller;
    assert_eq!(caller.arn, ada.caller.arn);
    assert_eq!(caller.details.unique_id, ada.caller.details.unique_id);
    // As that user, with its token, a role can be assumed too.
    assert!(scene.assume(&context(caller), |_| {}).await.is_ok());
    let undeclared = Caller::root(service.region(), "444455556666".parse().unwrap());
    let refused = service.get_session_token(&context(undeclared), None).await;
    assert!(matches!(refused.err(), Some(StsError::AccessDenied(_))));
    scene.end().await;
}
