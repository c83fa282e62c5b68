//! An experiment that never took place, as large as a report has to take.

use keyrum_lab::checks::Finding;
use keyrum_lab::experiment::*;
use serde_json::{Value, json};

/// Calls of the sample.
pub(crate) const CALLS: usize = 10_000;

const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "ap-southeast-2"];
const ENDED_US: u64 = 62_000_000;
const LIFTED_US: u64 = 58_400_000;

/// Numbers that look random and are the same each time.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn key(&mut self) -> String {
        let half = |draw: &mut Self| (draw.next(1 << 31) << 31) | draw.next(1 << 31);
        format!("mrk-{:016x}{:016x}", half(self), half(self))
    }
}

/// 10,000 calls of 12 clients over three Regions of three nodes, 60 faults, 10 families, two violations.
pub(crate) fn experiment() -> Experiment {
    let mut draw = Draw(17);
    let keys: Vec<String> = (0..10).map(|_| draw.key()).collect();
    let faults = faults(&mut draw);
    let mut calls = calls(&mut draw, &keys, &faults);
    let stale = stale_read(&mut calls, &keys[0]);
    let lost = lost_right(&mut calls, &keys[1]);
    let judgements = judgements(stale, lost);
    Experiment {
        title: "Moves of a primary while Regions are cut off".to_owned(),
        replay: "keyrum lab sim --seed 17 --scenario experiments/primary-moves.toml".to_owned(),
        simulated: true,
        regions: (REGIONS.iter())
            .map(|name| RegionOfNodes {
                name: (*name).to_owned(),
                nodes: vec![1, 2, 3],
            })
            .collect(),
        clients: (0..12)
            .map(|nth| {
                format!(
                    "{}-{}",
                    ["mover", "user", "reader", "admin"][nth % 4],
                    nth / 4 + 1
                )
            })
            .collect(),
        leaders: leaders(&mut draw, &faults),
        members: members(&mut draw, &keys),
        logs: Vec::new(),
        calls,
        faults,
        judgements,
        faults_until_us: LIFTED_US,
        healed_at_us: Some(LIFTED_US + 1_312_000),
        ended_us: ENDED_US,
    }
}

fn faults(draw: &mut Draw) -> Vec<FaultWindow> {
    const KINDS: [(&str, &str); 8] = [
        ("crash", "lost power, and came back with what was synced"),
        ("isolate", "cut off from its group"),
        ("halves", "a minority cut off from the rest"),
        ("one-way", "hears, but is not heard"),
        ("sever", "the Region cut off from the others"),
        ("slow-disk", "each sync takes 40 ms more"),
        ("clock-jump", "its clock jumped ahead by 3 s"),
        ("lose", "every fifth message is lost"),
    ];
    let mut faults: Vec<FaultWindow> = (0..60)
        .map(|_| {
            let (kind, what) = KINDS[draw.next(8) as usize];
            let from_us = 1_500_000 + draw.next(LIFTED_US - 5_000_000);
            let several = kind == "sever" && draw.next(2) == 0;
            FaultWindow {
                kind: kind.into(),
                what: what.to_owned(),
                region: (!several).then(|| REGIONS[draw.next(3) as usize].to_owned()),
                nodes: match kind {
                    "sever" | "lose" => Vec::new(),
                    _ => vec![1 + draw.next(3)],
                },
                from_us,
                until_us: Some((from_us + 300_000 + draw.next(3_000_000)).min(LIFTED_US)),
                effects: match kind {
                    "clock-jump" => None,
                    _ => Some(draw.next(400)),
                },
            }
        })
        .collect();
    faults.sort_by_key(|fault| fault.from_us);
    faults
}

fn calls(draw: &mut Draw, keys: &[String], faults: &[FaultWindow]) -> Vec<Call> {
    let mut free = [0u64; 12];
    let mut calls = Vec::with_capacity(CALLS);
    while calls.len() < CALLS {
        let client = (0..12).min_by_key(|&client| free[client]).unwrap();
        let start_us = free[client] + 200 + draw.next(56_000);
        let region = REGIONS[(client + draw.next(4) as usize / 3) % 3];
        let key = &keys[draw.next(10) as usize];
        let troubled = (faults.iter()).any(|fault| {
            let here = fault.region.as_deref().is_none_or(|at| at == region);
            here && fault.from_us <= start_us && fault.until_us > Some(start_us)
        });
        let (operation, input, answer) = asked(draw, key, region, client);
        let luck = draw.next(1000);
        let (took, outcome) = match (troubled, luck) {
            (true, 0..40) => (
                5_000_000,
                Outcome::Unknown("no answer within 5 s".to_owned()),
            ),
            (true, 40..90) => (
                draw.next(5_000_000),
                Outcome::NotDone(
                    "DependencyTimeoutException: no leader was found in time; nothing was proposed"
                        .to_owned(),
                ),
            ),
            (_, 960..1000) => (
                800 + draw.next(3000),
                Outcome::Refused {
                    error: "KMSInvalidStateException".to_owned(),
                    message: format!("arn:aws:kms:{region}:000000000000:key/{key} is Updating."),
                },
            ),
            (true, 90..300) => (20_000 + draw.next(900_000), Outcome::Done(answer)),
            _ => (
                900 + draw.next(2500) + draw.next(2) * draw.next(9000),
                Outcome::Done(answer),
            ),
        };
        free[client] = start_us + took;
        calls.push(Call {
            client,
            start_us,
            end_us: Some(start_us + took),
            region: region.to_owned(),
            node: Some(1 + draw.next(3)),
            operation: operation.to_owned(),
            caller: None,
            reads: (operation == "DescribeKey")
                .then_some(["linearizable", "lease", "local"][client % 3].into()),
            input,
            outcome,
        });
    }
    // As long as the run, however fast the clients were.
    let last = free.iter().max().unwrap();
    for call in &mut calls {
        let scale = |us: u64| us * (ENDED_US - 400_000) / last;
        let took = call.end_us.unwrap() - call.start_us;
        call.start_us = scale(call.start_us);
        call.end_us = Some((call.start_us + took).min(ENDED_US));
    }
    calls.sort_by_key(|call| call.start_us);
    calls.last_mut().unwrap().end_us = None;
    calls
}

fn asked(draw: &mut Draw, key: &str, region: &str, client: usize) -> (&'static str, Value, Value) {
    let mark = |draw: &mut Draw| format!("fp:{:08x}{:08x}", draw.next(1 << 31), draw.next(1 << 31));
    let id = json!({ "KeyId": key });
    let arn = format!("arn:aws:kms:{region}:000000000000:key/{key}");
    match draw.next(if client.is_multiple_of(4) { 10 } else { 8 }) {
        0..3 => (
            "Encrypt",
            json!({"KeyId": key, "Plaintext": mark(draw)}),
            json!({"CiphertextBlob": mark(draw), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "KeyId": arn}),
        ),
        3..6 => (
            "Decrypt",
            json!({"CiphertextBlob": mark(draw)}),
            json!({"EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "KeyId": arn, "Plaintext": mark(draw)}),
        ),
        6 | 7 => (
            "DescribeKey",
            id,
            json!({"KeyMetadata": {
                "AWSAccountId": "000000000000", "Arn": arn, "CreationDate": 1_700_000_000.25, "Enabled": true,
                "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "KeyId": key, "KeyManager": "CUSTOMER",
                "KeySpec": "SYMMETRIC_DEFAULT", "KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT",
                "MultiRegion": true, "MultiRegionConfiguration": {"MultiRegionKeyType": "PRIMARY", "PrimaryKey":
                {"Arn": arn, "Region": region}, "ReplicaKeys": []}, "Origin": "AWS_KMS"}}),
        ),
        8 => (
            "UpdatePrimaryRegion",
            json!({"KeyId": key, "PrimaryRegion": REGIONS[draw.next(3) as usize]}),
            json!({}),
        ),
        _ => (
            "UpdateKeyDescription",
            json!({"KeyId": key, "Description": mark(draw)}),
            json!({}),
        ),
    }
}

/// The first call after a time that another ending is given to; its client goes on as before.
fn make(
    calls: &mut [Call],
    after_us: u64,
    region: usize,
    operation: &str,
    input: Value,
    outcome: Outcome,
) -> usize {
    let short = |call: &Call| call.end_us.is_some_and(|end| end - call.start_us < 900_000);
    let at = (calls.iter())
        .position(|call| call.start_us > after_us && short(call) && call.region == REGIONS[region])
        .unwrap();
    operation.clone_into(&mut calls[at].operation);
    calls[at].reads = (operation == "DescribeKey").then_some("linearizable".into());
    calls[at].input = input;
    calls[at].outcome = outcome;
    at
}

/// A key's description is read after it was overwritten.
fn stale_read(calls: &mut [Call], key: &str) -> Vec<usize> {
    let write = |text: &str| json!({"Description": text, "KeyId": key});
    let read =
        |text: &str| Outcome::Done(json!({"KeyMetadata": {"Description": text, "KeyId": key}}));
    let unknown =
        |call: &Call| matches!(call.outcome, Outcome::Unknown(_)) && call.start_us > 9_000_000;
    let first = calls.iter().position(unknown).unwrap();
    "UpdateKeyDescription".clone_into(&mut calls[first].operation);
    calls[first].input = write("blue");
    calls[first].reads = None;
    let began_us = calls[first].start_us;
    let mut make = |after_us, region, operation, input, outcome| {
        make(
            calls,
            began_us + after_us,
            region,
            operation,
            input,
            outcome,
        )
    };
    let id = || json!({ "KeyId": key });
    let done = Outcome::Done(json!({}));
    vec![
        first,
        make(400_000, 1, "UpdateKeyDescription", write("green"), done),
        make(900_000, 1, "DescribeKey", id(), read("green")),
        make(1_600_000, 1, "DescribeKey", id(), read("red")),
    ]
}

/// What one Region encrypted, another cannot decrypt.
fn lost_right(calls: &mut [Call], key: &str) -> Vec<usize> {
    const BLOB: &str = "fp:0c6baee9728662da";
    let mut make = |after_us: u64, region, operation, input, outcome| {
        make(
            calls,
            40_000_000 + after_us,
            region,
            operation,
            input,
            outcome,
        )
    };
    let move_it = json!({"KeyId": key, "PrimaryRegion": REGIONS[0]});
    let encrypt = json!({"KeyId": key, "Plaintext": "fp:58c91e77a3d20b64"});
    let encrypted = Outcome::Done(json!({"CiphertextBlob": BLOB}));
    let refused = Outcome::Refused {
        error: "InvalidCiphertextException".to_owned(),
        message: String::new(),
    };
    let decrypt = json!({"CiphertextBlob": BLOB, "KeyId": key});
    vec![
        make(
            0,
            1,
            "UpdatePrimaryRegion",
            move_it,
            Outcome::Done(json!({})),
        ),
        make(300_000, 0, "Encrypt", encrypt, encrypted),
        make(1_500_000, 1, "Decrypt", decrypt, refused),
    ]
}

fn judgements(stale: Vec<usize>, lost: Vec<usize>) -> Vec<Judgement> {
    let judgement = |checker: &'static str, holds, about: &str, findings| Judgement {
        checker: checker.into(),
        holds,
        about: about.to_owned(),
        findings,
    };
    let violation = |check: &'static str, what: &str, calls| Violation {
        finding: Finding::new(check, what),
        calls,
    };
    vec![
        judgement(
            "linearizable",
            Holds::False,
            "10 keys, 1,204 calls that read or write them",
            vec![violation(
                "linearizable",
                "no order of these calls explains what the last DescribeKey saw: the description \"red\" was \
                 overwritten before it began",
                stale,
            )],
        ),
        judgement(
            "decryptable",
            Holds::False,
            "3,312 ciphertexts, each asked of every usable member",
            vec![violation(
                "decryptable",
                "what us-east-1 encrypted after the move, eu-west-1 refused to decrypt 1.2 s later",
                lost,
            )],
        ),
        judgement(
            "one-primary",
            Holds::True,
            "at most one primary in 4,118 consistent cuts",
            vec![],
        ),
        judgement(
            "acknowledged",
            Holds::True,
            "866 changes that were acknowledged are in every replica",
            vec![],
        ),
        judgement(
            "sessions",
            Holds::Unknown,
            "user-2: the search took more than 10 s and was given up",
            vec![],
        ),
        judgement(
            "never-twice",
            Holds::True,
            "no request was applied twice, of 1,240 that were repeated",
            vec![],
        ),
        judgement(
            "digests",
            Holds::True,
            "9 replicas agree at 2,201 indexes",
            vec![],
        ),
        judgement(
            "exercised",
            Holds::True,
            "every kind of fault took effect",
            vec![],
        ),
    ]
}

fn leaders(draw: &mut Draw, faults: &[FaultWindow]) -> Vec<LeaderSeen> {
    let mut seen = Vec::new();
    for region in REGIONS {
        let mut tell = |at_us, node, term, leader| {
            seen.push(LeaderSeen {
                at_us,
                region: region.to_owned(),
                node,
                term,
                leader,
            });
        };
        let (mut leader, mut term) = (1 + draw.next(3), 1);
        for node in 1..=3 {
            tell(120_000 + draw.next(90_000), node, term, Some(leader));
        }
        for fault in faults
            .iter()
            .filter(|fault| fault.region.as_deref() == Some(region))
        {
            if fault.nodes != [leader] || !["crash", "isolate"].contains(&&*fault.kind) {
                continue;
            }
            let (fallen, until_us) = (leader, fault.until_us.unwrap());
            leader = leader % 3 + 1;
            term += 1 + draw.next(2);
            let at_us = fault.from_us;
            tell(at_us, fallen, term - 1, None);
            for node in (1..=3).filter(|node| *node != fallen) {
                tell(at_us + 150_000, node, term - 1, None);
                tell(
                    at_us + 240_000 + draw.next(20_000),
                    node,
                    term,
                    Some(leader),
                );
            }
            tell(until_us + 50_000, fallen, term, Some(leader));
        }
    }
    seen.sort_by_key(|seen| seen.at_us);
    seen
}

fn members(draw: &mut Draw, keys: &[String]) -> Vec<MemberSeen> {
    let mut seen = Vec::new();
    for (nth, key) in keys.iter().enumerate() {
        let mut tell = |at_us, region: usize, state: &'static str, primary| {
            seen.push(MemberSeen {
                at_us,
                key: key.clone(),
                region: REGIONS[region].to_owned(),
                state: (state != "gone").then_some(state.into()),
                primary,
            });
        };
        let mut primary = nth % 3;
        let mut at_us = 300_000 + nth as u64 * 210_000;
        tell(at_us, primary, "Enabled", true);
        for other in [(primary + 1) % 3, (primary + 2) % 3] {
            at_us += 250_000;
            tell(at_us, other, "Creating", false);
            tell(
                at_us + 180_000 + draw.next(900_000),
                other,
                "Enabled",
                false,
            );
        }
        at_us += 2_000_000;
        while at_us < LIFTED_US - 6_000_000 {
            let next = (primary + 1 + draw.next(2) as usize) % 3;
            let took = 60_000 + draw.next(1_800_000);
            tell(at_us, primary, "Updating", false);
            tell(at_us + took / 2, next, "Updating", true);
            tell(at_us + took, next, "Enabled", true);
            tell(at_us + took + 80_000, primary, "Enabled", false);
            primary = next;
            at_us += took + 1_000_000 + draw.next(9_000_000);
        }
        match nth {
            3 => tell(52_000_000, (primary + 1) % 3, "PendingDeletion", false),
            5 => tell(48_000_000, (primary + 1) % 3, "Disabled", false),
            6 => tell(44_000_000, (primary + 2) % 3, "gone", false),
            _ => {}
        }
    }
    seen.sort_by_key(|seen| seen.at_us);
    seen
}
