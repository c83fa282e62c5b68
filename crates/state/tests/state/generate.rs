//! Random commands over a small world, so that they meet.

use keyrum_authz::managed_key_policy;
use keyrum_state::{
    AUTHORIZATION_LEVEL, Account, AutomaticRotation, Command, DOMAIN_KEY_LEVEL,
    DomainKeyConfirmation, DueRotation, GrantConstraints, GrantPrincipal, GrantTerms, Identity,
    IdentityName, ImportTerms, KeyRef, KeyUse, LastUse, NewMaterial, Place, Proposal, RequestId,
    Resealed, Role, SessionKey, State, User,
};
use keyrum_types::{
    AliasName, CryptographicOperation, Fingerprint, GrantOperation, ImportType, KeySpec, KeyUsage,
    ManagedService, MaterialId, Origin, RotationDays, SealedMaterial, UnixMillis, WaitingDays,
};

use crate::domain_key;
use crate::identities::{POLICY, TRUST, access_keys};
use crate::script::{account, caller, grant_id, key_id, material};

/// When a generated history begins.
pub(crate) const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// One generated choice: what is done and the numbers it takes its parts from. Plain, so that
/// a failing history shrinks and prints well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Action {
    pub(crate) kind: u8,
    pub(crate) a: u8,
    pub(crate) b: u8,
    pub(crate) time: u8,
    pub(crate) node: u8,
}

/// How many kinds of action there are.
pub(crate) const KINDS: u8 = 62;

/// Turns actions into proposals, remembering which ids are used up.
pub(crate) struct World {
    now: UnixMillis,
    sequences: [u64; 3],
    boots: [u64; 3],
    /// How many key ids were drawn; each is drawn once in a Region's life.
    keys: u64,
    /// Keys of origin EXTERNAL, which import and rotate often, so that versions meet.
    external: Vec<KeyRef>,
    /// How many versions of material were made for rotations.
    materials: u64,
    /// How many ids of grants were drawn.
    grants: u64,
    /// What was due when somebody last looked; old by the time it is proposed, or not.
    due: Vec<(KeyRef, UnixMillis)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: START,
            sequences: [0; 3],
            boots: [0; 3],
            keys: 0,
            external: vec![],
            materials: 0,
            grants: 0,
            due: vec![],
        }
    }

    /// Looks at what is due, as a leader does before it proposes.
    pub(crate) fn look(&mut self, state: &State) {
        let now = state.region_time(self.now);
        // A little ahead of time too, to be told that it is not due yet.
        self.due = state.rotations_due_by(now.plus_days(10)).take(4).collect();
    }

    /// A version like no other.
    fn new_material(&mut self) -> NewMaterial {
        self.materials += 1;
        let mut id = [0xff; 32];
        id[..8].copy_from_slice(&self.materials.to_be_bytes());
        NewMaterial {
            id: MaterialId(id),
            ..material(self.materials)
        }
    }

    pub(crate) fn proposal(&mut self, action: Action) -> Proposal {
        let Action {
            kind,
            a,
            b,
            time,
            node,
        } = action;
        // Mostly a little later; sometimes earlier than before, sometimes far ahead.
        self.now = match time {
            0..200 => self.now.plus_ms(u64::from(time)),
            200..240 => UnixMillis(self.now.0 - 1000 * u64::from(time)),
            240..250 => self.now.plus_ms(59_000),
            _ => self.now.plus_ms(UnixMillis::DAY_MS),
        };
        let node = usize::from(node % 3);
        if kind == 0 && a == 0 {
            self.boots[node] += 1;
        }
        self.sequences[node] += 1;
        let request = RequestId {
            node: node as u64 + 1,
            boot: self.boots[node],
            sequence: self.sequences[node],
        };
        let command = self.command(kind % KINDS, a, b);
        let of_region = matches!(
            command,
            Command::Tick
                | Command::AdvanceClock { .. }
                | Command::ConfirmClock { .. }
                | Command::RaiseFeatureLevel { .. }
                | Command::RotateKeys { .. }
                | Command::RecordKeyUses { .. }
                | Command::SeedKey { .. }
                | Command::PutIdentity { .. }
                | Command::DeleteIdentity { .. }
                | Command::ShareIdentities { .. }
                | Command::AnnounceDomainKey { .. }
                | Command::ConfirmDomainKey { .. }
                | Command::ActivateDomainKey { .. }
                | Command::AbandonDomainKey { .. }
                | Command::ResealSecrets { .. }
                | Command::WithdrawDomainKey { .. }
                | Command::DestroyDomainKey { .. }
        );
        let misplaced = b == 255;
        let caller = (of_region == misplaced).then(|| caller(1 + u64::from(b.is_multiple_of(11))));
        Proposal {
            request,
            caller,
            now: self.now,
            command,
        }
    }

    fn command(&mut self, kind: u8, a: u8, b: u8) -> Command {
        // One of the latest keys, so that commands meet keys that exist.
        let recent = self.keys.saturating_sub(u64::from(a % 8));
        let key = KeyRef {
            account: account(1 + u64::from(b.is_multiple_of(11))),
            id: key_id(recent, recent.is_multiple_of(5)),
        };
        let imports = matches!(kind, 28 | 32..40);
        let back = usize::from(a % 2) + 1;
        let external = self.external.len().checked_sub(back).filter(|_| imports);
        let key = external.map_or(key, |at| self.external[at]);
        let alias = AliasName::new(&format!(
            "alias/{}",
            ["a", "b", "c", "aws/d"][usize::from(b % 4)]
        ))
        .unwrap();
        let text = b.to_string();
        let tags = vec![
            (format!("t{}", a % 3), text.clone()),
            (format!("t{}", b % 5), text.clone()),
        ];
        let policy = if b.is_multiple_of(7) {
            format!("{{\"Statement\":[],\"Id\":{b}}}")
        } else {
            keyrum_authz::default_policy(&"us-east-1".parse().unwrap(), account(1))
                + &" ".repeat(usize::from(b % 3))
        };
        match kind {
            0..=4 => {
                let number = if b % 16 == 1 {
                    recent
                } else {
                    self.keys += 1;
                    self.keys
                };
                let (spec, usage) = match a % 4 {
                    0 => (KeySpec::Hmac256, KeyUsage::GenerateVerifyMac),
                    1 => (KeySpec::Rsa2048, KeyUsage::EncryptDecrypt),
                    _ => (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt),
                };
                if b.is_multiple_of(3) {
                    self.external.push(KeyRef {
                        account: key.account,
                        id: key_id(number, number.is_multiple_of(5)),
                    });
                }
                Command::CreateKey {
                    key: key_id(number, number.is_multiple_of(5)),
                    spec,
                    usage,
                    origin: if b.is_multiple_of(3) {
                        Origin::External
                    } else {
                        Origin::AwsKms
                    },
                    description: text,
                    policy: (a.is_multiple_of(4)).then_some(policy),
                    bypass_lockout_check: a.is_multiple_of(3),
                    tags: if b.is_multiple_of(4) { tags } else { vec![] },
                    material: (!b.is_multiple_of(3)).then(|| material(a.into())),
                }
            }
            5..=6 => Command::EnableKey { key },
            7 => Command::DisableKey { key },
            8..=9 => Command::ScheduleKeyDeletion {
                key,
                wait: WaitingDays::new(7 + i64::from(b % 24)).unwrap(),
            },
            10 => Command::CancelKeyDeletion { key },
            11 => Command::UpdateKeyDescription {
                key,
                description: text,
            },
            12..=13 => Command::CreateAlias { alias, target: key },
            14..=15 => Command::UpdateAlias { alias, target: key },
            16 => Command::DeleteAlias { alias },
            17 => Command::TagResource { key, tags },
            18 => Command::UntagResource {
                key,
                tag_keys: tags.into_iter().map(|t| t.0).collect(),
            },
            19 => Command::PutKeyPolicy {
                key,
                policy,
                bypass_lockout_check: a.is_multiple_of(3),
            },
            20 => Command::Tick,
            21 => Command::AdvanceClock {
                by_ms: u64::from(b % 12) * UnixMillis::DAY_MS / 2,
            },
            22 => Command::ConfirmClock {
                clocks: (1..=3)
                    .map(|n| (n, self.now.plus_ms(n * u64::from(a))))
                    .collect(),
                voters: 3,
            },
            23 if b.is_multiple_of(8) => Command::RaiseFeatureLevel {
                level: (b / 40).into(),
            },
            23 => Command::Tick,
            24..=25 => Command::EnableKeyRotation {
                key,
                period: (!b.is_multiple_of(3))
                    .then(|| RotationDays::new(90 + i64::from(b % 4)).unwrap()),
            },
            26 => Command::DisableKeyRotation { key },
            27..=28 => Command::RotateKeyOnDemand {
                key,
                material: self.new_material(),
            },
            29 => {
                let due = self.due.clone();
                let mut rotations: Vec<_> = due
                    .into_iter()
                    .map(|(key, due)| DueRotation {
                        key,
                        due,
                        material: self.new_material(),
                    })
                    .collect();
                if b.is_multiple_of(4) {
                    // The same twice, or a key and a date that may not be.
                    rotations.extend(rotations.first().cloned());
                    rotations.push(DueRotation {
                        key,
                        due: self.now,
                        material: self.new_material(),
                    });
                }
                Command::RotateKeys { rotations }
            }
            30 => {
                let used = |at: u8| KeyUse {
                    key,
                    last: LastUse {
                        at: UnixMillis(self.now.0 + u64::from(at)),
                        operation: CryptographicOperation::ALL[usize::from(a % 14)],
                        request: [a; 16],
                    },
                };
                Command::RecordKeyUses {
                    uses: vec![used(a), used(b)],
                }
            }
            31 => Command::AdvanceClock {
                by_ms: u64::from(b % 8) * 40 * UnixMillis::DAY_MS,
            },
            32..=36 => {
                // Few versions, so that they come again; half of the terms fit.
                let version = material(u64::from(a % 5));
                let expires = self.now.plus_days(u64::from(b % 16) * 30);
                Command::ImportKeyMaterial {
                    key,
                    terms: ImportTerms {
                        import_type: match a % 3 {
                            0 => None,
                            1 => Some(ImportType::New),
                            _ => Some(ImportType::Existing),
                        },
                        named: (b.is_multiple_of(9)).then_some(version.id),
                        expires: (b.is_multiple_of(2)).then_some(expires),
                        description: (b.is_multiple_of(5)).then_some(text),
                    },
                    material: version,
                }
            }
            38 => {
                self.keys += 1;
                let service = ["s3", "sqs", "ebs"][usize::from(a % 3)];
                let alias = AliasName::new(&format!("alias/aws/{service}")).unwrap();
                let own = account(1 + u64::from(b.is_multiple_of(11)));
                let managed = ManagedService::of_alias(&alias).map(|service| {
                    let region = "us-east-1".parse().unwrap();
                    managed_key_policy(&region, own, &alias, service)
                });
                let policy = managed.unwrap_or(policy);
                Command::CreateManagedKey {
                    alias,
                    key: key_id(self.keys, false),
                    description: text,
                    policy,
                    material: self.new_material(),
                }
            }
            39 => {
                self.keys += 1;
                let key = KeyRef {
                    account: key.account,
                    id: key_id(self.keys, a.is_multiple_of(4)),
                };
                let external = b.is_multiple_of(3);
                if external {
                    self.external.push(key);
                }
                Command::SeedKey {
                    key,
                    spec: KeySpec::SymmetricDefault,
                    usage: KeyUsage::EncryptDecrypt,
                    origin: if external {
                        Origin::External
                    } else {
                        Origin::AwsKms
                    },
                    description: text,
                    policy: (a.is_multiple_of(5)).then_some(policy),
                    tags: if a.is_multiple_of(2) { tags } else { vec![] },
                    materials: (0..a % 4).map(|_| self.new_material()).collect(),
                    rotation: (b.is_multiple_of(2)).then(|| AutomaticRotation {
                        period: RotationDays::new(90 + i64::from(a)).unwrap(),
                        next: self.now.plus_days(b.into()),
                    }),
                }
            }
            49 => Command::RaiseFeatureLevel {
                level: match a.is_multiple_of(2) {
                    true => AUTHORIZATION_LEVEL,
                    false => DOMAIN_KEY_LEVEL,
                },
            },
            56..=61 => about_domain_key(kind, key, a, b),
            50..=53 => put_identity(a, b),
            54 => Command::DeleteIdentity {
                name: put_name(a, b),
                expected: (b.is_multiple_of(5)).then(|| u64::from(b % 32)),
            },
            55 => Command::ShareIdentities {
                with: ["us-east-1", "eu-west-1", "ap-south-1"][usize::from(b % 3)]
                    .parse()
                    .unwrap(),
            },
            40..=42 | 45.. => {
                self.grants += 1;
                Command::CreateGrant {
                    key,
                    // Seldom one that was drawn before.
                    grant: grant_id(self.grants - u64::from(b.is_multiple_of(16))),
                    terms: grant_terms(a, b),
                }
            }
            43 => Command::RetireGrant {
                key,
                grant: grant_id(self.grants.saturating_sub(u64::from(b % 8))),
            },
            44 => Command::RevokeGrant {
                key,
                grant: grant_id(self.grants.saturating_sub(u64::from(b % 8))),
            },
            _ => Command::DeleteImportedKeyMaterial {
                key,
                material: (!b.is_multiple_of(3)).then(|| material(u64::from(a % 5)).id),
            },
        }
    }
}

/// A change of one of few identities.
pub(crate) fn put_or_delete(delete: bool, a: u8, b: u8) -> Command {
    match delete {
        true => Command::DeleteIdentity {
            name: put_name(a, b),
            expected: None,
        },
        false => put_identity(a, b),
    }
}

/// One of few names, so that they come again.
fn put_name(a: u8, b: u8) -> IdentityName {
    let owner = account(1 + u64::from(b % 2));
    let name = ["ada", "Ada", "bob", "c"][usize::from(a / 4 % 4)].to_owned();
    match a % 4 {
        0 => IdentityName::Account(owner),
        1 => IdentityName::User(owner, name),
        2 => IdentityName::Role(owner, name),
        _ => IdentityName::SessionKey((b % 4).into()),
    }
}

/// Few ids of access keys too, so that one is given to two.
fn put_identity(a: u8, b: u8) -> Command {
    let id = |prefix: &str| format!("{prefix}{:A<17}", ["X", "Y", "Z"][usize::from(b / 8 % 3)]);
    let keys: Vec<_> = (0..b % 4)
        .map(|n| format!("AKIA{:A<16}", (b / 4 + n) % 7))
        .collect();
    let access_keys = access_keys(Some(&keys.join(",")));
    let tags = [("team".to_owned(), b.to_string())].into();
    let created = UnixMillis(0);
    let (path, boundary) = ("/".to_owned(), None);
    let policies = [("p".to_owned(), POLICY.into())].into();
    let identity = match put_name(a, b) {
        IdentityName::Account(account) => Identity::Account(Account {
            account,
            alias: (a.is_multiple_of(3)).then(|| format!("acme-{b}")),
            access_keys,
            created,
        }),
        IdentityName::User(account, name) => Identity::User(User {
            account,
            path,
            name,
            id: id("AIDA"),
            created,
            tags,
            policies,
            boundary,
            access_keys,
        }),
        IdentityName::Role(account, name) => Identity::Role(Role {
            account,
            path,
            name,
            id: id("AROA"),
            created,
            tags,
            trust: TRUST.into(),
            policies,
            boundary,
            session_seconds_max: 3600 * u32::from(b % 14),
        }),
        IdentityName::SessionKey(version) => Identity::SessionKey(SessionKey {
            version,
            secret: SealedMaterial([a].into()),
            created,
        }),
    };
    Command::PutIdentity {
        identity,
        expected: (b.is_multiple_of(5)).then(|| u64::from(b % 32)),
    }
}

/// Few names, so that they come again, with the same terms or others; some do not fit the key.
fn grant_terms(a: u8, b: u8) -> GrantTerms {
    let principal = |number: u8| match number % 3 {
        0 => GrantPrincipal::Service("s3.us-east-1.amazonaws.com".to_owned()),
        number => GrantPrincipal::Aws(caller(number.into()).arn),
    };
    let context = || [("tenant".to_owned(), (a % 2).to_string())].into();
    GrantTerms {
        name: (!a.is_multiple_of(3)).then(|| format!("g{}", b % 3)),
        grantee: principal(a),
        retiring: (!b.is_multiple_of(4)).then(|| principal(b)),
        operations: match b % 4 {
            0 => vec![GrantOperation::Decrypt, GrantOperation::RetireGrant],
            1 => vec![GrantOperation::CreateGrant],
            _ => vec![GrantOperation::DescribeKey, GrantOperation::CreateGrant],
        },
        constraints: GrantConstraints {
            context_equals: (b.is_multiple_of(5)).then(context),
            context_subset: (b.is_multiple_of(7)).then(context),
            source_arn: None,
        },
    }
}

/// Versions come and go, of two nodes at most; what no version has sealed is sealed under one.
fn about_domain_key(kind: u8, key: KeyRef, a: u8, b: u8) -> Command {
    let version = u32::from(a % 3) + 1;
    let print = |version: u32| Fingerprint([version as u8; 8]);
    let nodes = || (1..=u64::from(b % 3)).collect();
    match kind {
        56 => Command::AnnounceDomainKey {
            version,
            fingerprint: print(version),
            first: print(1),
        },
        57 => Command::ConfirmDomainKey {
            version,
            fingerprint: print(version),
            node: u64::from(b % 2) + 1,
            what: match a.is_multiple_of(2) {
                true => DomainKeyConfirmation::Held,
                false => DomainKeyConfirmation::Unneeded,
            },
        },
        58 => Command::ActivateDomainKey {
            version,
            members: nodes(),
        },
        59 if a.is_multiple_of(9) => Command::AbandonDomainKey { version },
        59 => Command::WithdrawDomainKey { version },
        60 => Command::DestroyDomainKey {
            version,
            members: nodes(),
        },
        _ => {
            let was = [0, version, version + 1].map(|former| {
                let sealed = material(u64::from(b % 8)).sealed;
                match former {
                    0 => sealed,
                    former => domain_key::under(former, &sealed),
                }
            });
            let now = domain_key::under(version, &was[0]);
            Command::ResealSecrets {
                resealed: vec![Resealed {
                    place: Place::Key(key),
                    sealings: was.map(|was| (was, now.clone())).into(),
                }],
            }
        }
    }
}
