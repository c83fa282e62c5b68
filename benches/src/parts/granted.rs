//! **Question.** What does it cost to decide whether a caller may use a key that has a policy of 32 KB and
//! a thousand grants?
//!
//! **Estimate.** The policy 5 to 10 us (part `authorize`); the caller and its names in the state 0.5 us. A
//! thousand grants to others cost nothing but the look-up of the caller's own. A thousand to the caller
//! are found by their encryption contexts, or cost 50 ns each where they must all be looked at: 50 us.
//!
//! Beside each, in turns: the same caller and request at a key with a policy of one statement and one
//! grant.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use keyrum_authz::Values;
use keyrum_state::{
    AUTHORIZATION_LEVEL, Account, Caller, Command, Facts, GrantConstraints, GrantPrincipal,
    GrantTerms, Identity, KeyRef, NewMaterial, Proposal, RequestId, State, User, apply, permit_key,
};
use keyrum_types::{
    AccountId, GrantId, GrantOperation, KeyId, KeySpec, KeyUsage, MaterialId, Origin,
    SealedMaterial, UnixMillis,
};

use super::authorize::large;
use crate::Failure;
use crate::client::REGION;
use crate::process::thread_time;
use crate::report::{Report, Row, Verdict};

const ACCOUNT: &str = "111122223333";
const GRANTS: u32 = 1000;

/// What a decision may take, in microseconds.
const LIMIT_US: f64 = 50.0;

/// How long each key is asked about in one turn, and how many turns it has.
const TURN: Duration = Duration::from_millis(20);
const TURNS: usize = 15;

const SMALL: &str = r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}}"#;

/// An Encrypt by one of a thousand customers.
struct Encrypt(BTreeMap<String, String>);

impl Facts for Encrypt {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        match key {
            "kms:encryptionalgorithm" => Some(Values::One("SYMMETRIC_DEFAULT".into())),
            key => keyrum_state::of_context(key, &self.0),
        }
    }

    fn encryption_context(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.0)
    }
}

fn context(customer: u32) -> BTreeMap<String, String> {
    let customer = format!("customer-{customer:08}");
    [("stage", "production"), ("tenant", &customer)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What the ids of grants begin with: spread as random ones are.
fn spread(number: u32) -> u64 {
    u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One Region's state, changed by commands.
struct World {
    state: State,
    account: AccountId,
    sequence: u64,
}

impl World {
    fn give(&mut self, root: bool, command: Command) -> Result<(), Failure> {
        self.sequence += 1;
        let caller = root.then(|| Caller::root(self.state.region(), self.account));
        let proposal = Proposal {
            request: RequestId {
                node: 1,
                boot: 1,
                sequence: self.sequence,
            },
            caller,
            now: UnixMillis(self.sequence),
            command,
        };
        let applied = apply(&mut self.state, &proposal);
        applied
            .outcome
            .map_err(|refusal| format!("a command was refused: {refusal}"))?;
        Ok(())
    }

    fn user(&mut self, name: &str) -> Result<User, Failure> {
        let user = User {
            account: self.account,
            path: "/".to_owned(),
            name: name.to_owned(),
            id: format!("AIDA{:0>17}", name.to_uppercase()),
            created: UnixMillis(0),
            tags: BTreeMap::new(),
            policies: BTreeMap::new(),
            boundary: None,
            access_keys: Vec::new(),
        };
        let put = Command::PutIdentity {
            identity: Identity::User(user.clone()),
            expected: None,
        };
        self.give(false, put)?;
        Ok(user)
    }

    /// A key with these grants: to whom, and on which condition. `encrypts` says of which numbers are for
    /// Encrypt, too.
    fn key(
        &mut self,
        policy: &str,
        grants: impl Iterator<Item = (String, GrantConstraints)>,
        encrypts: impl Fn(u32) -> bool,
    ) -> Result<KeyRef, Failure> {
        self.sequence += 1;
        let mut random = [7; 16];
        random[..8].copy_from_slice(&self.sequence.to_be_bytes());
        let id = KeyId::single_region(random);
        let create = Command::CreateKey {
            key: id,
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: Origin::AwsKms,
            description: String::new(),
            policy: Some(policy.to_owned()),
            bypass_lockout_check: false,
            tags: Vec::new(),
            material: Some(NewMaterial {
                id: MaterialId([1; 32]),
                sealed: SealedMaterial([5; 61].into()),
            }),
        };
        self.give(true, create)?;
        let key = KeyRef {
            account: self.account,
            id,
        };
        for (number, (grantee, constraints)) in (0..).zip(grants) {
            let mut grant = [3; 32];
            grant[..8].copy_from_slice(&spread(number).to_be_bytes());
            let mut operations = vec![GrantOperation::Decrypt];
            operations.extend(encrypts(number).then_some(GrantOperation::Encrypt));
            let terms = GrantTerms {
                name: None,
                grantee: GrantPrincipal::Aws(grantee),
                retiring: None,
                operations,
                constraints,
            };
            let grant = GrantId(grant);
            self.give(true, Command::CreateGrant { key, grant, terms })?;
        }
        Ok(key)
    }
}

pub(crate) fn run(report: &mut Report) -> Result<(), Failure> {
    let mut world = World {
        state: State::new(REGION.parse()?),
        account: ACCOUNT.parse()?,
        sequence: 0,
    };
    world.give(
        false,
        Command::RaiseFeatureLevel {
            level: AUTHORIZATION_LEVEL,
        },
    )?;
    let account = Account {
        account: world.account,
        alias: None,
        access_keys: Vec::new(),
        created: UnixMillis(0),
    };
    let put = Command::PutIdentity {
        identity: Identity::Account(account),
        expected: None,
    };
    world.give(false, put)?;
    let ada = world.user("ada")?;
    let ada_arn = ada.arn("aws");
    let caller = Caller {
        arn: ada_arn.clone(),
        ..Caller::root(world.state.region(), world.account)
    };
    let mut caller = caller;
    caller.details.unique_id.clone_from(&ada.id);

    // Every statement's condition is looked at.
    let policy = large(
        r#""Principal":"*""#,
        r#","Condition":{"StringLike":{"kms:ViaService":["sns.*","ec2.*.amazonaws.com"]}}"#,
    );
    let equals = |customer: u32| GrantConstraints {
        context_equals: Some(context(customer)),
        ..GrantConstraints::default()
    };
    let subset = |customer: u32| GrantConstraints {
        context_subset: Some(context(customer)),
        ..GrantConstraints::default()
    };
    // Told apart by a pair that is not the longest of each: there is nothing but to look at all.
    let alike = |customer: u32| {
        let long = ("purpose".to_owned(), "p".repeat(200));
        let mut pairs = context(customer);
        pairs.extend([long]);
        GrantConstraints {
            context_subset: Some(pairs),
            ..GrantConstraints::default()
        }
    };
    let of_ada = |constraints: &dyn Fn(u32) -> GrantConstraints| {
        let mine = |number| (ada_arn.clone(), constraints(number));
        (0..GRANTS).map(mine).collect::<Vec<_>>()
    };
    let one = |constraints| [(ada_arn.clone(), constraints)];
    let mut others = Vec::new();
    for number in 1..GRANTS {
        let other = world.user(&format!("user{number}"))?;
        others.push((other.arn("aws"), GrantConstraints::default()));
    }
    others.extend(one(GrantConstraints::default()));
    let yardstick = world.key(SMALL, one(equals(7)).into_iter(), |_| true)?;
    // The one that is looked at last.
    let last = (0..GRANTS).max_by_key(|number| spread(*number));
    let last = last.ok_or("no grants")?;
    let open = |_| GrantConstraints::default();
    let keys = [
        ("each to somebody else", others, false),
        ("all to the caller, by context", of_ada(&equals), false),
        ("by a part of it", of_ada(&subset), false),
        (
            "by contexts alike in their longest pair",
            of_ada(&alike),
            false,
        ),
        ("all but the last for Decrypt alone", of_ada(&open), true),
    ];
    let (mut figures, mut worst) = (Vec::new(), 0.0_f64);
    for (what, grants, last_alone) in keys {
        let encrypts = |number| !last_alone || number == last;
        let key = world.key(&policy, grants.into_iter(), encrypts)?;
        let mut asked = context(last);
        asked.insert("purpose".to_owned(), "p".repeat(200));
        if what.contains("by context") && !what.contains("alike") {
            asked = context(last);
        }
        let [us, small] = turns(
            &world.state,
            &caller,
            [(key, Encrypt(asked)), (yardstick, Encrypt(context(7)))],
        )?;
        worst = worst.max(us);
        figures.push(format!("{what} {us:.1} us (yardstick {small:.2} us)"));
    }
    report.row(&Row {
        what: "authorization: a policy of 32 KB and 1,000 grants, Encrypt by one of them",
        group: "in memory, one thread",
        target: "at most 50 us",
        figure: figures.join("; "),
        ratio: format!("{:.2}", worst / LIMIT_US),
        verdict: Verdict::of(worst <= LIMIT_US),
    });
    Ok(())
}

/// The best turn of each key, in microseconds for a decision.
fn turns(
    state: &State,
    caller: &Caller,
    keys: [(KeyRef, Encrypt); 2],
) -> Result<[f64; 2], Failure> {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..TURNS {
        for ((key, facts), best) in keys.iter().zip(&mut best) {
            let once = || permit_key(state, black_box(caller), *key, "Encrypt", facts);
            once().map_err(|refusal| format!("the measured request is denied: {refusal}"))?;
            let (start, mut rounds) = (thread_time(), 0_u32);
            let spent = loop {
                for _ in 0..16 {
                    let _ = black_box(once());
                }
                rounds += 16;
                let spent = thread_time().saturating_sub(start);
                if spent > TURN {
                    break spent;
                }
            };
            *best = best.min(spent.as_secs_f64() * 1e6 / f64::from(rounds));
        }
    }
    Ok(best)
}
