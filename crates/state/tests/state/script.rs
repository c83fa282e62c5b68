//! The language of the transcripts: from a line of text to a proposal. `words` has the way back.
//!
//! A key is `K7` (or `M7`, multi-Region), of the caller's account unless written `2:K7`. Accounts
//! are numbers. Times are seconds. A number written `{1..9}` makes the line one command for each.
//!
//! A command happens in us-east-1 unless it says `in=REGION`. `carry FROM TO` is what a courier does:
//! it has all that waits in one Region for another taken there, and then forgotten here. It brings
//! everything twice, as a courier does that was not told of the first time; the second must do nothing.

use std::collections::BTreeMap;

use keyrum_state::{
    Applied, AutomaticRotation, Caller, Command, DueRotation, Event, GrantConstraints,
    GrantPrincipal, GrantTerms, ImportTerms, KeyRef, KeyUse, LastUse, Message, NewMaterial,
    Proposal, RequestId, State, apply,
};
use keyrum_types::{
    AccountId, AliasName, CryptographicOperation, GrantId, GrantOperation, ImportType, KeyId,
    KeySpec, KeyUsage, MaterialId, Origin, Region, RotationDays, SealedMaterial, UnixMillis,
    WaitingDays,
};

use crate::words::{
    awaited_text, event_text, grant_text, imports_text, key_text, last_use_text, material_name,
    message_text, refusal_name, rotation_text, with_key_names,
};
use crate::{domain_key, identities};

pub(crate) fn account(number: u64) -> AccountId {
    format!("{number:012}").parse().unwrap()
}

pub(crate) fn caller(number: u64) -> Caller {
    Caller::root(&"us-east-1".parse().unwrap(), account(number))
}

pub(crate) fn key_id(number: u64, multi_region: bool) -> KeyId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
    if multi_region {
        KeyId::multi_region(bytes)
    } else {
        KeyId::single_region(bytes)
    }
}

pub(crate) fn material(number: u64) -> NewMaterial {
    NewMaterial {
        id: MaterialId([number as u8; 32]),
        sealed: SealedMaterial(number.to_be_bytes().into()),
    }
}

pub(crate) fn grant_id(number: u64) -> GrantId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    GrantId(id)
}

/// A conversation with one state, or several.
pub(crate) struct Script {
    pub(crate) state: State,
    /// The states of the other Regions that are spoken of.
    others: BTreeMap<Region, State>,
    now: UnixMillis,
    sequence: u64,
    /// What was proposed to `state`, and what came of it.
    pub(crate) log: Vec<(Proposal, Applied)>,
}

/// The words of a line: the name, what stands alone, and `name=value`.
struct Line<'a> {
    name: &'a str,
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Self {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap();
        let mut line = Self {
            name,
            words: vec![],
            options: BTreeMap::new(),
        };
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => _ = line.options.insert(name, value),
                None => line.words.push(word),
            }
        }
        line
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.get(name).copied()
    }

    /// Where it happens.
    fn region(&self) -> Region {
        self.option("in").unwrap_or("us-east-1").parse().unwrap()
    }

    fn to(&self) -> Region {
        self.option("to").unwrap().parse().unwrap()
    }

    fn as_account(&self) -> u64 {
        let number = self.option("as").unwrap_or("1").split(':').next();
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn key(&self, at: usize) -> KeyRef {
        let (account_number, key) = match self.words[at].split_once(':') {
            Some((number, key)) => (number.parse().unwrap(), key),
            None => (self.as_account(), self.words[at]),
        };
        KeyRef {
            account: account(account_number),
            id: parse_key_id(key),
        }
    }

    fn alias(&self, at: usize) -> AliasName {
        AliasName::new(&format!("alias/{}", self.words[at])).unwrap()
    }

    /// `tags=a:1,b:2`
    fn tags(&self) -> Vec<(String, String)> {
        let tags = self.option("tags").unwrap_or_default();
        let tags = tags.split(',').filter(|tag| !tag.is_empty());
        tags.map(|tag| {
            let (name, value) = tag.rsplit_once(':').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
    }

    /// `named=3`
    fn named_material(&self) -> Option<MaterialId> {
        let number = self.option("named")?.parse().unwrap();
        Some(material(number).id)
    }

    /// `G7`
    fn grant(&self, at: usize) -> GrantId {
        grant_id(self.words[at][1..].parse().unwrap())
    }

    /// `name=principal`, an account's number (its root), a user's name of account 1, or a service.
    fn principal(&self, name: &str) -> Option<GrantPrincipal> {
        let text = self.option(name)?;
        Some(match text.parse::<u64>() {
            Ok(number) => GrantPrincipal::Aws(caller(number).arn),
            Err(_) if text.contains('.') => GrantPrincipal::Service(text.to_owned()),
            Err(_) => GrantPrincipal::Aws(format!("arn:aws:iam::000000000001:user/{text}")),
        })
    }

    /// `name=a:1,b:2`
    fn context(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let pairs = self
            .option(name)?
            .split(',')
            .filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once(':').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Some(pairs.map(pair).collect())
    }

    fn spec(&self) -> KeySpec {
        let name = self.option("spec");
        name.map_or(KeySpec::SymmetricDefault, |name| {
            KeySpec::from_name(name).unwrap()
        })
    }

    fn usage(&self) -> KeyUsage {
        let name = self.option("usage");
        name.map_or(KeyUsage::EncryptDecrypt, |name| {
            KeyUsage::from_name(name).unwrap()
        })
    }

    fn origin(&self) -> Origin {
        let name = self.option("origin");
        name.map_or(Origin::AwsKms, |name| Origin::from_name(name).unwrap())
    }

    fn policy(&self) -> Option<String> {
        Some(match self.option("policy")? {
            "full" => format!(
                r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}},"Id":"{}"}}"#,
                self.option("id").unwrap_or_default()
            ),
            // Lets the root do everything and a user encrypt.
            "ada" => format!(
                r#"{{"Statement":[{},{}]}}"#,
                r#"{"Effect":"Allow","Principal":{"AWS":"000000000001"},"Action":"kms:*","Resource":"*"}"#,
                r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000001:user/ada"},"Action":"kms:DisableKey","Resource":"*"}"#
            ),
            "locking" => r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:Get*","Resource":"*"}}"#.to_owned(),
            "nobody" => r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000001:user/nobody"},"Action":"kms:*","Resource":"*"}}"#.to_owned(),
            "long" => " ".repeat(32_769),
            text => text.to_owned(),
        })
    }
}

/// A user as a caller, `1:ada`.
fn user(state: &State, name: &str) -> Caller {
    let (number, name) = name.split_once(':').unwrap();
    let of = account(number.parse().unwrap());
    let known = state.user(of, name);
    let arn = known.map_or(format!("arn:aws:iam::{of}:user/{name}"), |user| {
        user.arn("aws")
    });
    let mut caller = Caller::root(state.region(), of);
    caller.arn = arn;
    caller.details.unique_id = known.map(|user| user.id.clone()).unwrap_or_default();
    caller
}

fn parse_key_id(text: &str) -> KeyId {
    key_id(text[1..].parse().unwrap(), text.starts_with('M'))
}

fn seconds(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<u64>().unwrap() * 1000)
}

impl Script {
    pub(crate) fn new() -> Self {
        let state = State::new("us-east-1".parse().unwrap());
        Self {
            state,
            others: BTreeMap::new(),
            now: UnixMillis(0),
            sequence: 0,
            log: Vec::new(),
        }
    }

    /// What the line gives, as lines; whether its (last) command was refused.
    pub(crate) fn run(&mut self, line: &str) -> (Vec<String>, bool) {
        if let Some((before, rest)) = line.split_once('{') {
            let (range, after) = rest.split_once('}').unwrap();
            let Some((from, to)) = range.split_once("..") else {
                return self.run_one(line);
            };
            let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
            let mut last = (vec![], false);
            for number in from..=to {
                last = self.run_one(&format!("{before}{number}{after}"));
                assert!(
                    !last.1 || number == to,
                    "number {number} of {line}: {:?}",
                    last.0
                );
            }
            last.0.insert(
                0,
                format!("({} commands, the last of which gives)", to - from + 1),
            );
            return last;
        }
        self.run_one(line)
    }

    fn run_one(&mut self, text: &str) -> (Vec<String>, bool) {
        let line = Line::parse(text);
        if line.name == "show" {
            return (self.show(&line), false);
        }
        if line.name == "carry" {
            return (self.carry(&line), false);
        }
        let proposal = self.proposal(&line);
        let Applied { outcome, repeated } = self.apply(line.region(), proposal);
        let refused = outcome.is_err();
        let mut lines = match outcome {
            Ok(events) if events.is_empty() => vec!["nothing".to_owned()],
            Ok(events) => events.iter().map(event_text).collect(),
            Err(refusal) => vec![format!("Error: {}: {refusal}", refusal_name(&refusal))],
        };
        if repeated {
            lines.insert(0, "(repeated)".to_owned());
        }
        (
            lines.iter().map(|line| with_key_names(line)).collect(),
            refused,
        )
    }

    /// A Region's state.
    fn of(&mut self, region: Region) -> &mut State {
        if region == *self.state.region() {
            return &mut self.state;
        }
        let new = || State::new(region.clone());
        self.others.entry(region.clone()).or_insert_with(new)
    }

    /// Every Region's state.
    pub(crate) fn states(&self) -> impl Iterator<Item = &State> {
        std::iter::once(&self.state).chain(self.others.values())
    }

    fn carry(&mut self, line: &Line<'_>) -> Vec<String> {
        let [from, to]: [Region; 2] = [0, 1].map(|at: usize| line.words[at].parse().unwrap());
        let sender = self.of(from.clone());
        let waiting = sender.outbox(&to);
        let messages: Vec<(u64, Message)> = waiting
            .map(|(number, message)| (number, Message::clone(message)))
            .collect();
        let after = sender.channel(&to).delivered;
        let Some((through, _)) = messages.last().cloned() else {
            return vec!["nothing waits".to_owned()];
        };
        let mut said: Vec<String> = messages
            .iter()
            .map(|(number, message)| format!("{number}: {}", message_text(message)))
            .collect();
        let deliver = Command::Deliver {
            from: from.clone(),
            after,
            messages,
        };
        let heard = self.as_region(to.clone(), deliver.clone());
        assert_eq!(self.as_region(to.clone(), deliver), [], "taken twice");
        said.extend(
            heard
                .iter()
                .map(|event| format!("{to}: {}", event_text(event))),
        );
        let delivered = self.as_region(from.clone(), Command::Delivered { to, through });
        let forgotten = delivered.iter().map(event_text);
        said.extend(forgotten.map(|event| format!("{from}: {event}")));
        said.iter().map(|line| with_key_names(line)).collect()
    }

    fn as_region(&mut self, region: Region, command: Command) -> Vec<Event> {
        self.sequence += 1;
        let proposal = Proposal {
            request: RequestId {
                node: 1,
                boot: 0,
                sequence: self.sequence,
            },
            caller: None,
            now: self.now,
            command,
        };
        self.apply(region, proposal).outcome.unwrap()
    }

    fn apply(&mut self, region: Region, proposal: Proposal) -> Applied {
        let own = region == *self.state.region();
        let applied = apply(self.of(region), &proposal);
        if own {
            self.log.push((proposal, applied.clone()));
        }
        applied
    }

    fn proposal(&mut self, line: &Line<'_>) -> Proposal {
        if let Some(now) = line.option("now") {
            self.now = seconds(now);
        }
        let key = |at| line.key(at);
        let state = self.of(line.region()).clone();
        let about = domain_key::command(line.name, &line.words, &line.options, key, &state);
        let mut command = about.unwrap_or_else(|| command(line, &self.state));
        if let Some(version) = line.option("sealed") {
            let account = account(line.as_account());
            domain_key::seal_under(version.parse().unwrap(), &mut command, account);
        }
        let of_region = matches!(
            command,
            Command::Tick
                | Command::AdvanceClock { .. }
                | Command::ConfirmClock { .. }
                | Command::RaiseFeatureLevel { .. }
                | Command::RotateKeys { .. }
                | Command::Deliver { .. }
                | Command::Delivered { .. }
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
        let mut caller = match line.option("as") {
            Some("region") => None,
            None if of_region => None,
            Some(name) if name.contains(':') => Some(user(&self.state, name)),
            _ => Some(caller(line.as_account())),
        };
        if let (Some(caller), Some(service)) = (&mut caller, line.option("via")) {
            let service = format!("{service}.us-east-1.amazonaws.com");
            let name = keyrum_authz::VIA_SERVICE.to_owned();
            caller.conditions.insert(name, vec![service]);
        }
        let request = match line.option("request") {
            Some(text) => {
                let parts: Vec<u64> = text.split('/').map(|part| part.parse().unwrap()).collect();
                RequestId {
                    node: parts[0],
                    boot: parts[1],
                    sequence: parts[2],
                }
            }
            None => {
                self.sequence += 1;
                RequestId {
                    node: 1,
                    boot: 0,
                    sequence: self.sequence,
                }
            }
        };
        Proposal {
            request,
            caller,
            now: self.now,
            command,
        }
    }

    fn show(&mut self, line: &Line<'_>) -> Vec<String> {
        let state = self.of(line.region()).clone();
        if line.words == ["domain-key"] {
            return domain_key::show(&state);
        }
        if let Some(lines) = identities::show(&state, &line.words) {
            return lines;
        }
        match line.words[0] {
            "clock" => vec![format!("{}", state.clock())],
            "counts" => {
                let of = |number| state.key_count(account(number));
                vec![format!(
                    "{} keys, {} of 1, {} of 2",
                    state.total_keys(),
                    of(1),
                    of(2)
                )]
            }
            "rotation" => {
                let key = line.key(1);
                let Some(materials) = state.key(key).map(|key| &key.materials) else {
                    return vec!["gone".to_owned()];
                };
                let names: Vec<_> = materials.iter().map(|m| material_name(&m.id)).collect();
                let mut text = format!("{} materials={}", key.id, names.join(","));
                if let Some(rotation) = state.rotation(key) {
                    text += &rotation_text(rotation);
                }
                vec![with_key_names(&text)]
            }
            "imports" => {
                let key = line.key(1);
                let lines = state.key(key).map_or("gone".to_owned(), |key| {
                    let imports = state.imports(key.reference());
                    imports_text(key, imports.map(|imports| &**imports))
                        + &awaited_text(&state, key)
                });
                vec![with_key_names(&lines)]
            }
            "grants" => {
                let grants = state.grants_on(line.key(1), None);
                let lines: Vec<_> = grants.map(|grant| grant_text(grant)).collect();
                let count = state.grant_count(line.key(1)) as usize;
                assert_eq!(lines.len(), count);
                let mut shown: Vec<_> = lines.iter().map(|text| with_key_names(text)).collect();
                if count > 10 {
                    shown = vec![format!("{count} grants")];
                }
                if shown.is_empty() {
                    shown = vec!["none".to_owned()];
                }
                shown
            }
            "retirable" => {
                let principal = line.principal("by").unwrap();
                let grants = state.grants_retirable_by(&principal, None);
                let lines: Vec<_> = grants
                    .map(|grant| with_key_names(&grant_text(grant)))
                    .collect();
                match lines.is_empty() {
                    true => vec!["none".to_owned()],
                    false => lines,
                }
            }
            "last-use" => {
                let last = state.last_use(line.key(1));
                vec![last.map_or("never".to_owned(), last_use_text)]
            }
            "next-due" => match state.next_due() {
                Some(due) => vec![format!("something is due at {due}")],
                None => vec!["nothing will be due".to_owned()],
            },
            "due" => match state.next_rotation_due() {
                Some(due) => vec![format!("a rotation is due at {due}")],
                None => vec!["no rotation will be due".to_owned()],
            },
            "aliases" => {
                let aliases = state.aliases(account(line.as_account()), None);
                let lines = aliases.map(|(name, alias)| {
                    let key = alias.target.id;
                    format!(
                        "{name} -> {key} created={} updated={}",
                        alias.created, alias.updated
                    )
                });
                let lines: Vec<_> = lines.map(|line| with_key_names(&line)).collect();
                if lines.is_empty() {
                    vec!["none".to_owned()]
                } else {
                    lines
                }
            }
            _ => match state.key(line.key(0)) {
                Some(key) => vec![with_key_names(&key_text(key))],
                None => vec!["gone".to_owned()],
            },
        }
    }
}

fn command(line: &Line<'_>, state: &State) -> Command {
    match line.name {
        "CreateKey" => Command::CreateKey {
            key: line.key(0).id,
            spec: line.spec(),
            usage: line.usage(),
            origin: line.origin(),
            description: line.option("description").unwrap_or_default().to_owned(),
            policy: line.policy(),
            bypass_lockout_check: line.words.contains(&"bypass"),
            tags: line.tags(),
            material: (line.option("origin").is_none() || line.words.contains(&"imported"))
                .then(|| material(1)),
        },
        "EnableKey" => Command::EnableKey { key: line.key(0) },
        "DisableKey" => Command::DisableKey { key: line.key(0) },
        "ScheduleKeyDeletion" => Command::ScheduleKeyDeletion {
            key: line.key(0),
            wait: line.option("days").map_or(WaitingDays::DEFAULT, |days| {
                WaitingDays::new(days.parse().unwrap()).unwrap()
            }),
        },
        "CancelKeyDeletion" => Command::CancelKeyDeletion { key: line.key(0) },
        "UpdateKeyDescription" => Command::UpdateKeyDescription {
            key: line.key(0),
            description: line.option("description").unwrap().to_owned(),
        },
        "CreateAlias" => Command::CreateAlias {
            alias: line.alias(0),
            target: line.key(1),
        },
        "UpdateAlias" => Command::UpdateAlias {
            alias: line.alias(0),
            target: line.key(1),
        },
        "DeleteAlias" => Command::DeleteAlias {
            alias: line.alias(0),
        },
        "TagResource" => Command::TagResource {
            key: line.key(0),
            tags: line.tags(),
        },
        "UntagResource" => Command::UntagResource {
            key: line.key(0),
            tag_keys: line.words[1..]
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        },
        "PutKeyPolicy" => Command::PutKeyPolicy {
            key: line.key(0),
            policy: line.policy().unwrap(),
            bypass_lockout_check: line.words.contains(&"bypass"),
        },
        "Tick" => Command::Tick,
        "AdvanceClock" => {
            let by: u64 = line.option("by").unwrap().parse().unwrap();
            Command::AdvanceClock { by_ms: by * 1000 }
        }
        "ConfirmClock" => Command::ConfirmClock {
            clocks: line
                .words
                .iter()
                .map(|word| {
                    let (node, clock) = word.split_once(':').unwrap();
                    (node.parse().unwrap(), seconds(clock))
                })
                .collect(),
            voters: line.option("voters").unwrap().parse().unwrap(),
        },
        "RaiseFeatureLevel" => Command::RaiseFeatureLevel {
            level: line.option("level").unwrap().parse().unwrap(),
        },
        "EnableKeyRotation" => Command::EnableKeyRotation {
            key: line.key(0),
            period: line
                .option("period")
                .map(|days| RotationDays::new(days.parse().unwrap()).unwrap()),
        },
        "DisableKeyRotation" => Command::DisableKeyRotation { key: line.key(0) },
        "RotateKeyOnDemand" => Command::RotateKeyOnDemand {
            key: line.key(0),
            material: material(line.option("material").unwrap().parse().unwrap()),
        },
        "RotateKeys" => Command::RotateKeys {
            rotations: line
                .words
                .iter()
                .map(|word| due_rotation(word, state))
                .collect(),
        },
        "ReplicateKey" => Command::ReplicateKey {
            key: line.key(0),
            region: line.to(),
            description: line.option("description").unwrap_or_default().to_owned(),
            policy: line.policy(),
            bypass_lockout_check: line.words.contains(&"bypass"),
            tags: line.tags(),
        },
        "UpdatePrimaryRegion" => Command::UpdatePrimaryRegion {
            key: line.key(0),
            to: line.to(),
        },
        "RecordKeyUses" => Command::RecordKeyUses {
            uses: line.words.iter().map(|word| key_use(word)).collect(),
        },
        "ImportKeyMaterial" => Command::ImportKeyMaterial {
            key: line.key(0),
            material: material(line.option("material").unwrap().parse().unwrap()),
            terms: ImportTerms {
                import_type: line.words.iter().find_map(|word| match *word {
                    "new" => Some(ImportType::New),
                    "existing" => Some(ImportType::Existing),
                    _ => None,
                }),
                named: line.named_material(),
                expires: line.option("expires").map(seconds),
                description: line.option("description").map(str::to_owned),
            },
        },
        "DeleteImportedKeyMaterial" => Command::DeleteImportedKeyMaterial {
            key: line.key(0),
            material: line.named_material(),
        },
        "CreateManagedKey" => Command::CreateManagedKey {
            alias: line.alias(0),
            key: line.key(1).id,
            description: "Default key".to_owned(),
            policy: "policy".to_owned(),
            material: material(1),
        },
        "SeedKey" => Command::SeedKey {
            key: line.key(0),
            spec: line.spec(),
            usage: line.usage(),
            origin: line.origin(),
            description: String::new(),
            policy: line.policy(),
            tags: line.tags(),
            materials: {
                let numbers = line.option("materials").unwrap_or_default().split(',');
                let numbers = numbers.filter(|number| !number.is_empty());
                numbers
                    .map(|number| material(number.parse().unwrap()))
                    .collect()
            },
            rotation: line.option("next").map(|next| AutomaticRotation {
                period: RotationDays::DEFAULT,
                next: seconds(next),
            }),
        },
        "CreateGrant" => Command::CreateGrant {
            key: line.key(0),
            grant: line.grant(1),
            terms: GrantTerms {
                name: line.option("name").map(str::to_owned),
                grantee: line.principal("to").unwrap(),
                retiring: line.principal("retiring"),
                operations: {
                    let names = line.option("allows").unwrap_or("Encrypt").split(',');
                    let named = |name| GrantOperation::from_name(name).unwrap();
                    names.map(named).collect()
                },
                constraints: GrantConstraints {
                    context_equals: line.context("equals"),
                    context_subset: line.context("subset"),
                    source_arn: line.option("source").map(str::to_owned),
                },
            },
        },
        "RetireGrant" => Command::RetireGrant {
            key: line.key(0),
            grant: line.grant(1),
        },
        "RevokeGrant" => Command::RevokeGrant {
            key: line.key(0),
            grant: line.grant(1),
        },
        "PutIdentity" => {
            let option = |name: &str| line.option(name).map(str::to_owned);
            Command::PutIdentity {
                identity: identities::identity(&line.words, &option, line.tags()),
                expected: line.option("expect").map(|text| text.parse().unwrap()),
            }
        }
        "DeleteIdentity" => Command::DeleteIdentity {
            name: identities::name(&line.words),
            expected: line.option("expect").map(|text| text.parse().unwrap()),
        },
        "ShareIdentities" => Command::ShareIdentities {
            with: line.words[0].parse().unwrap(),
        },
        // Without messages: `carry` has those.
        "Deliver" => Command::Deliver {
            from: line.words[0].parse().unwrap(),
            after: line.option("after").unwrap().parse().unwrap(),
            messages: vec![],
        },
        "Delivered" => Command::Delivered {
            to: line.words[0].parse().unwrap(),
            through: line.option("through").unwrap().parse().unwrap(),
        },
        other => panic!("no such command: {other}"),
    }
}

/// `K1@1700000000/Encrypt`: a key of account 1, when, and how it was used.
fn key_use(word: &str) -> KeyUse {
    let (key, rest) = word.split_once('@').unwrap();
    let (at, operation) = rest.split_once('/').unwrap();
    KeyUse {
        key: KeyRef {
            account: account(1),
            id: parse_key_id(key),
        },
        last: LastUse {
            at: seconds(at),
            operation: CryptographicOperation::from_name(operation).unwrap(),
            request: [7; 16],
        },
    }
}

/// `K1@1700000000/m2`: a key of account 1, the date, the material; `next` is the key's own date.
fn due_rotation(word: &str, state: &State) -> DueRotation {
    let (key, rest) = word.split_once('@').unwrap();
    let (due, number) = rest.split_once("/m").unwrap();
    let key = KeyRef {
        account: account(1),
        id: parse_key_id(key),
    };
    let next = |key| {
        state
            .rotation(key)?
            .automatic
            .map(|automatic| automatic.next)
    };
    DueRotation {
        key,
        due: match due {
            "next" => next(key).expect("automatic rotation is on"),
            date => seconds(date),
        },
        material: material(number.parse().unwrap()),
    }
}
