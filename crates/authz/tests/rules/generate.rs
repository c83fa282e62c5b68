//! Random policies and requests, the same for the same number.

use serde_json::{Map, Value, json};

/// SplitMix64: small, and nobody else's to change.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbours must not share a sequence.
        let mut dice = Self(!seed);
        Self(dice.next() ^ dice.next().rotate_left(32))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// One to three of them, perhaps one twice.
    fn some<'a>(&mut self, from: &[&'a str]) -> Vec<&'a str> {
        let count = [1, 1, 1, 2, 2, 3][self.below(6)];
        (0..count).map(|_| self.pick(from)).collect()
    }
}

const OWN: &str = "111122223333";
const FAR: &str = "999922223333";
const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ALIAS: &str = "arn:aws:kms:us-east-1:111122223333:alias/ada-app";

/// Kind, account, ARN, role's ARN, unique id.
const ASKERS: &[[&str; 5]] = &[
    ["Root", OWN, "arn:aws:iam::111122223333:root", "", OWN],
    [
        "User",
        OWN,
        "arn:aws:iam::111122223333:user/ada",
        "",
        "AIDAEXAMPLEEXAMPLE000",
    ],
    [
        "User",
        OWN,
        "arn:aws:iam::111122223333:user/ada",
        "",
        "AIDAEXAMPLEEXAMPLE000",
    ],
    [
        "User",
        OWN,
        "arn:aws:iam::111122223333:user/team/bob",
        "",
        "AIDAEXAMPLEEXAMPLE111",
    ],
    [
        "AssumedRole",
        OWN,
        "arn:aws:sts::111122223333:assumed-role/app/s1",
        "arn:aws:iam::111122223333:role/app",
        "AROAEXAMPLEEXAMPLE000:s1",
    ],
    [
        "AssumedRole",
        OWN,
        "arn:aws:sts::111122223333:assumed-role/app/s1",
        "arn:aws:iam::111122223333:role/app",
        "AROAEXAMPLEEXAMPLE000:s1",
    ],
    [
        "User",
        FAR,
        "arn:aws:iam::999922223333:user/far",
        "",
        "AIDAEXAMPLEEXAMPLE999",
    ],
    [
        "AssumedRole",
        FAR,
        "arn:aws:sts::999922223333:assumed-role/far/s9",
        "arn:aws:iam::999922223333:role/far",
        "AROAEXAMPLEEXAMPLE999:s9",
    ],
];

const PRINCIPALS: &[&str] = &[
    "*",
    "arn:aws:iam::111122223333:root",
    "arn:aws:iam::111122223333:root",
    "111122223333",
    "arn:aws:iam::111122223333:user/ada",
    "arn:aws:iam::111122223333:user/team/bob",
    "arn:aws:iam::111122223333:role/app",
    "arn:aws:sts::111122223333:assumed-role/app/s1",
    "arn:aws:sts::111122223333:assumed-role/app/s2",
    "arn:aws:iam::999922223333:root",
    "arn:aws:iam::999922223333:user/far",
    "arn:aws:iam::999922223333:role/far",
    "arn:aws:sts::999922223333:assumed-role/far/s9",
];

const ASKED: &[&str] = &[
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "DescribeKey",
    "PutKeyPolicy",
];

const ACTIONS: &[&str] = &[
    "*",
    "kms:*",
    "kms:*",
    "kms:Decrypt",
    "kms:decrypt",
    "kms:Encrypt",
    "kms:*crypt",
    "kms:?ncrypt",
    "kms:Generate*",
    "kms:GenerateDataKey?",
    "kms:Describe*",
    "kms:Put*Policy",
    "kms:*Key*",
    "kms:D*t",
    "kms:Sign",
    "s3:*",
];

const RESOURCES: &[&str] = &[
    "*",
    "*",
    "*",
    KEY,
    "arn:aws:kms:*:111122223333:key/*",
    "arn:aws:kms:us-east-1:111122223333:key/????abcd-*",
    "arn:aws:kms:us-west-2:111122223333:key/*",
    "arn:aws:kms:us-east-1:111122223333:alias/*",
    "arn:aws:kms:us-east-1:111122223333:alias/${aws:username}-*",
    "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ac",
    "arn:aws:kms:us-east-1:999922223333:key/*",
];

/// A condition key, the operators for its type, what policies say of it and what requests have.
struct Known {
    key: &'static str,
    many: bool,
    operators: &'static [&'static str],
    policy: &'static [&'static str],
    request: &'static [&'static str],
}

const STRING: &[&str] = &[
    "StringEquals",
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
];
const ARN: &[&str] = &[
    "ArnEquals",
    "ArnLike",
    "ArnNotEquals",
    "ArnNotLike",
    "StringLike",
];
const DATE: &[&str] = &[
    "DateEquals",
    "DateNotEquals",
    "DateLessThan",
    "DateLessThanEquals",
    "DateGreaterThan",
    "DateGreaterThanEquals",
];
const NUMERIC: &[&str] = &[
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
];

const KNOWN: &[Known] = &[
    Known {
        key: "kms:ViaService",
        many: false,
        operators: STRING,
        policy: &[
            "s3.us-east-1.amazonaws.com",
            "*.us-east-1.amazonaws.com",
            "S3.*",
            "ec2.*",
        ],
        request: &["s3.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com"],
    },
    Known {
        key: "aws:UserAgent",
        many: false,
        operators: STRING,
        policy: &[
            "cli",
            "CLI",
            "c?i",
            "*",
            "${aws:username}",
            "${aws:username, 'cli'}",
            "c${*}",
        ],
        request: &["cli", "ada", "c*", "sdk", ""],
    },
    Known {
        key: "aws:PrincipalTag/Team",
        many: false,
        operators: STRING,
        policy: &["red", "Red", "r*", "blue", "${aws:PrincipalAccount}"],
        request: &["red", "blue", "111122223333"],
    },
    Known {
        key: "aws:PrincipalArn",
        many: false,
        operators: ARN,
        policy: &[
            "arn:aws:iam::111122223333:user/ada",
            "arn:aws:iam::111122223333:user/*",
            "arn:aws:iam::*:role/*",
            "arn:aws:iam::111122223333:role/app",
            "arn:*:iam::111122223333:*",
            "arn:aws:iam::111122223333:user/${aws:username}",
        ],
        request: &[],
    },
    Known {
        key: "aws:SourceArn",
        many: false,
        operators: ARN,
        policy: &[
            "arn:aws:sqs:us-east-1:*:q?",
            "arn:aws:s3:::b*",
            "arn:aws:sqs:*:111122223333:q1",
        ],
        request: &[
            "arn:aws:sqs:us-east-1:111122223333:q1",
            "arn:aws:s3:::bucket/a:b",
        ],
    },
    Known {
        key: "aws:SourceIp",
        many: false,
        operators: &["IpAddress", "NotIpAddress"],
        policy: &[
            "203.0.113.0/24",
            "203.0.113.7",
            "198.51.100.0/25",
            "2001:db8::/33",
            "0.0.0.0/0",
        ],
        request: &[
            "203.0.113.7",
            "203.0.113.200",
            "198.51.100.128",
            "2001:db8:8000::1",
        ],
    },
    Known {
        key: "aws:CurrentTime",
        many: false,
        operators: DATE,
        policy: &[
            "2026-07-01T00:00:00Z",
            "2026-07-01T12:00:00+02:00",
            "2027-01-01T00:00:00Z",
        ],
        request: &[
            "2026-07-01T00:00:00Z",
            "2026-07-01T10:00:00Z",
            "2026-12-31T23:59:59Z",
        ],
    },
    Known {
        key: "aws:MultiFactorAuthAge",
        many: false,
        operators: NUMERIC,
        policy: &["0", "300", "300.0", "3600", "-1"],
        request: &["0", "299", "300", "4000"],
    },
    Known {
        key: "aws:MultiFactorAuthPresent",
        many: false,
        operators: &["Bool"],
        policy: &["true", "false"],
        request: &["true", "false"],
    },
    Known {
        key: "aws:SecureTransport",
        many: false,
        operators: &["Bool"],
        policy: &["true", "false"],
        request: &["true", "false"],
    },
    Known {
        key: "aws:CalledVia",
        many: true,
        operators: STRING,
        policy: &[
            "s3.amazonaws.com",
            "S3.amazonaws.com",
            "s3*",
            "ec2.amazonaws.com",
        ],
        request: &[
            "s3.amazonaws.com",
            "ec2.amazonaws.com",
            "athena.amazonaws.com",
        ],
    },
    Known {
        key: "aws:PrincipalOrgPaths",
        many: true,
        operators: STRING,
        policy: &["o-1/r-1/*", "o-1/r-1/ou-1/", "O-1/r-1/ou-1/"],
        request: &["o-1/r-1/ou-1/", "o-1/r-1/ou-2/", "o-2/r-2/"],
    },
];

fn conditions(dice: &mut Dice) -> Value {
    let mut operators = Map::new();
    for _ in 0..1 + dice.below(2) {
        let known = &KNOWN[dice.below(KNOWN.len())];
        let values = dice.some(known.policy);
        let (operator, values) = match dice.below(10) {
            0 => ("Null".to_owned(), vec![dice.pick(&["true", "false"])]),
            _ => {
                let sets: &[&str] = match known.many {
                    true if dice.one_in(12) => &[""],
                    true => &["ForAllValues:", "ForAnyValue:"],
                    false => &[""],
                };
                let end = if dice.one_in(5) { "IfExists" } else { "" };
                let [set, name] = [dice.pick(sets), dice.pick(known.operators)];
                (format!("{set}{name}{end}"), values)
            }
        };
        let values = if values.len() == 1 && dice.one_in(2) {
            json!(values[0])
        } else {
            json!(values)
        };
        let keys = operators.entry(operator).or_insert_with(|| json!({}));
        keys[known.key] = values;
    }
    Value::Object(operators)
}

fn statement(dice: &mut Dice, of_key: bool) -> Value {
    let deny = dice.one_in(5);
    let mut statement = json!({"Effect": if deny { "Deny" } else { "Allow" }});
    if of_key {
        let not = deny && dice.one_in(4);
        let mut named = dice.some(PRINCIPALS);
        // Elsewhere "*" is only allowed alone, and in a Deny it leaves nothing to compare.
        if not || named.len() > 1 || deny {
            named.retain(|principal| *principal != "*");
        }
        let principal = match &named[..] {
            [] | ["*"] => json!("*"),
            [one] => json!({"AWS": one}),
            many => json!({"AWS": many}),
        };
        let not = not && !named.is_empty();
        statement[if not { "NotPrincipal" } else { "Principal" }] = principal;
    }
    let not = dice.one_in(8);
    let broad = !deny && dice.one_in(2);
    let actions = if broad {
        vec!["kms:*"]
    } else {
        dice.some(ACTIONS)
    };
    statement[if not && !broad { "NotAction" } else { "Action" }] = json!(actions);
    let not = !of_key && dice.one_in(10);
    let resources = if of_key || broad {
        vec!["*"]
    } else {
        dice.some(RESOURCES)
    };
    statement[if not && !broad {
        "NotResource"
    } else {
        "Resource"
    }] = json!(resources);
    if dice.one_in(2) {
        statement["Condition"] = conditions(dice);
    }
    statement
}

/// A Deny statement.
pub(crate) fn deny(seed: u64, of_key: bool) -> Value {
    let mut dice = Dice::new(seed);
    loop {
        let statement = statement(&mut dice, of_key);
        if statement["Effect"] == "Deny" {
            return statement;
        }
    }
}

fn policy(dice: &mut Dice, of_key: bool) -> Value {
    let count = 1 + dice.below(if of_key { 4 } else { 3 });
    let statements: Vec<Value> = (0..count).map(|_| statement(dice, of_key)).collect();
    let version = if dice.one_in(8) {
        "2008-10-17"
    } else {
        "2012-10-17"
    };
    json!({"Version": version, "Statement": statements})
}

/// A request with all policies that have a say in it.
pub(crate) fn pair(seed: u64) -> Value {
    let dice = &mut Dice::new(seed);
    let [kind, account, arn, role_arn, unique_id] = ASKERS[dice.below(ASKERS.len())];
    // Aliases are not used from other accounts.
    let on_alias = account == OWN && dice.one_in(10);
    let (action, resource) = match on_alias {
        true => ("DeleteAlias", ALIAS),
        false => (dice.pick(ASKED), KEY),
    };
    let mut context = Map::new();
    for known in KNOWN {
        if known.request.is_empty() || dice.one_in(3) {
            continue;
        }
        let value = match known.many {
            true => json!(dice.some(known.request)),
            false => json!(dice.pick(known.request)),
        };
        context.insert(known.key.to_owned(), value);
    }
    let mut some = |one_in: usize, up_to: usize| -> Vec<Value> {
        match dice.one_in(one_in) {
            true => vec![],
            false => (0..1 + dice.below(up_to))
                .map(|_| policy(dice, false))
                .collect(),
        }
    };
    let identity = if kind == "Root" { vec![] } else { some(6, 2) };
    let boundary = if kind == "Root" || some(4, 1).is_empty() {
        some(3, 1)
    } else {
        vec![]
    };
    let boundary = if kind == "Root" { vec![] } else { boundary };
    let session = if kind == "AssumedRole" && some(3, 1).is_empty() {
        some(9, 1)
    } else {
        vec![]
    };
    json!({
        "kind": kind,
        "account": account,
        "arn": arn,
        "roleArn": role_arn,
        "uniqueId": unique_id,
        "action": action,
        "resource": resource,
        "owner": OWN,
        "context": context,
        "keyPolicy": if on_alias { Value::Null } else { policy(dice, true) },
        "identity": identity,
        "boundary": boundary.into_iter().next(),
        "session": session.into_iter().next(),
    })
}
