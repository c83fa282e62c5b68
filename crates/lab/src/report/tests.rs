use serde_json::{Value, json};

use super::html;
use crate::checks::Finding;
use crate::experiment::*;

/// What a name, a message or an answer could hold to get out of its place.
const HOSTILE: &str = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\" ' & \u{2028}\u{2029}\u{202e}\0\x1b{{style}}]]>";

fn call(outcome: Outcome) -> Call {
    Call {
        client: 0,
        start_us: 10,
        end_us: Some(20),
        region: HOSTILE.to_owned(),
        node: Some(1),
        operation: HOSTILE.to_owned(),
        caller: Some(HOSTILE.to_owned()),
        reads: Some(HOSTILE.into()),
        input: json!({ HOSTILE: HOSTILE }),
        outcome,
    }
}

fn hostile() -> Experiment {
    let text = || HOSTILE.to_owned();
    let refused = Outcome::Refused {
        error: text(),
        message: text(),
    };
    Experiment {
        title: text(),
        replay: text(),
        simulated: true,
        regions: vec![RegionOfNodes {
            name: text(),
            nodes: vec![1],
        }],
        clients: vec![text()],
        calls: [
            Outcome::Done(json!({ HOSTILE: [HOSTILE] })),
            refused,
            Outcome::NotDone(text()),
            Outcome::Unknown(text()),
        ]
        .map(call)
        .into(),
        faults: vec![FaultWindow {
            kind: HOSTILE.into(),
            what: text(),
            region: Some(text()),
            nodes: vec![1],
            from_us: 5,
            until_us: Some(15),
            effects: Some(1),
        }],
        leaders: vec![LeaderSeen {
            at_us: 1,
            region: text(),
            node: 1,
            term: 1,
            leader: Some(1),
        }],
        members: vec![MemberSeen {
            at_us: 1,
            key: text(),
            region: text(),
            state: Some(HOSTILE.into()),
            primary: true,
        }],
        logs: vec![RegionLog {
            region: text(),
            begins: 1,
            steps: vec![LogStep {
                index: 1,
                what: Logged::Primary(text()),
            }],
        }],
        judgements: vec![Judgement {
            checker: HOSTILE.into(),
            holds: Holds::False,
            about: text(),
            findings: vec![Violation {
                finding: Finding::new(HOSTILE, HOSTILE),
                calls: vec![0, 1, 2, 3],
            }],
        }],
        faults_until_us: 15,
        healed_at_us: Some(16),
        ended_us: 30,
    }
}

/// The text of the page's data.
fn data(page: &str) -> Value {
    let (_, rest) = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    assert!(!data.contains(['<', '>', '\u{2028}', '\u{2029}']));
    serde_json::from_str(data).unwrap()
}

/// Catches text of an experiment that becomes markup, ends the script, or is lost on the way.
#[test]
fn no_text_is_markup() {
    let page = html(&hostile());
    assert!(!page.contains("alert(1)</script>") && !page.contains("<img"));
    assert!(!page.contains(['\0', '\x1b']));
    // The page's two scripts, and no other.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert_eq!(page.matches("<style").count(), 1);
    let data = data(&page);
    let expected = [
        &data["clients"][0],
        &data["faults"][0]["what"],
        &data["members"][0][1],
    ];
    assert!(expected.iter().all(|text| *text == HOSTILE));
    let strings = data["strings"].as_array().unwrap();
    assert!(strings.iter().any(|text| *text == HOSTILE));
}

/// Catches a page that may fetch or run something else than what it brings.
#[test]
fn the_page_needs_nothing_else() {
    let page = html(&hostile());
    assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"));
    assert!(!page.contains("unsafe-inline") && !page.contains("http:") && !page.contains("https:"));
    let (_, body) = page.split_once("</style>").unwrap();
    let (body, _) = body.split_once("<script").unwrap();
    for tag in body.split('<').filter_map(|rest| rest.split('>').next()) {
        for attribute in [" src=", " style=", " on"] {
            assert!(!tag.contains(attribute), "{tag}");
        }
    }
    assert_eq!(page.matches("url(").count(), page.matches("url(#").count());
}

/// Catches a run with nothing in it, and one whose numbers fit nowhere, that cannot be shown.
#[test]
fn odd_runs_are_pages() {
    let nothing = html(&Experiment::default());
    assert!(nothing.contains("Nothing was judged."));
    assert!(nothing.contains("An experiment"));
    assert!(!nothing.contains("{{"));
    let mut odd = hostile();
    odd.calls[0].client = 99;
    odd.calls[0].end_us = Some(0);
    odd.calls[1].end_us = None;
    odd.calls[2].start_us = u64::MAX;
    odd.calls[3].start_us = 0;
    odd.faults[0].until_us = Some(0);
    odd.faults[0].effects = None;
    odd.healed_at_us = None;
    odd.judgements[0].findings[0].calls = vec![3, 1_000_000, 0, 2, 1];
    odd.judgements[0].findings.push(Violation {
        finding: Finding::new("alone", "no call shows it"),
        calls: Vec::new(),
    });
    let page = html(&odd);
    assert!(page.contains("client 99") && page.contains("No call shows it by itself."));
    assert_eq!(data(&page)["calls"]["took"][1], -1);
}

/// Catches verdicts that are not told by a word each, and a sum of them that says something else.
#[test]
fn verdicts_come_first() {
    let judgement = |holds| Judgement {
        checker: format!("checker-{holds}").into(),
        holds,
        about: String::new(),
        findings: Vec::new(),
    };
    let mut experiment = Experiment::default();
    let cases: [(&[Holds], &str); 5] = [
        (&[Holds::True], "The one check holds."),
        (&[Holds::True, Holds::True], "All 2 checks hold."),
        (
            &[Holds::True, Holds::Unknown],
            "Nothing wrong was found, but 1 of 2 checks cannot be told.",
        ),
        (&[Holds::False, Holds::True], "1 of 2 checks does not hold."),
        (
            &[Holds::False, Holds::False, Holds::Unknown],
            "2 of 3 checks do not hold, and 1 cannot be told.",
        ),
    ];
    for (holds, sentence) in cases {
        experiment.judgements = holds.iter().copied().map(judgement).collect();
        let page = html(&experiment);
        assert!(page.contains(sentence), "{sentence}");
        for holds in holds {
            assert!(page.contains(&format!(
                "<b>{holds}</b></td><th scope=\"row\">checker-{holds}<"
            )));
        }
        assert!(page.find("id=\"verdicts\"") < page.find("id=\"time\""));
    }
}

/// Catches a report that grows with what calls carry, and a cut that takes away what shows a violation.
#[test]
fn long_texts_are_cut_but_not_those_of_a_violation() {
    let mut experiment = hostile();
    let base = experiment.calls[0].clone();
    experiment.calls = (0..10_000)
        .map(|nth| Call {
            start_us: nth * 10,
            end_us: Some(nth * 10 + 5),
            operation: "Encrypt".to_owned(),
            region: "us-east-1".to_owned(),
            input: json!({"KeyId": format!("{nth:01000}")}),
            outcome: Outcome::Done(json!({"Ciphertext": format!("{nth:0600}")})),
            ..base.clone()
        })
        .collect();
    experiment.judgements[0].findings[0].calls = vec![7];
    let page = html(&experiment);
    assert!(page.len() < 3_000_000, "{}", page.len());
    let data = data(&page);
    assert_eq!(data["cut"], true);
    let text = |column: &str, call: usize| {
        let place = data["calls"][column][call].as_u64().unwrap() as usize;
        data["strings"][place].as_str().unwrap().to_owned()
    };
    assert_eq!(text("asked", 7), format!("KeyId: {:01000}", 7));
    assert!(text("asked", 8).ends_with('…'));
}
