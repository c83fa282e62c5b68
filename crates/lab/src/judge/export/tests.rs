//! What is exported is what the tools read.

use super::super::tests::{
    by, created, described, done, experiment, local, refused, tagged, tags, unknown,
};
use super::*;
use crate::experiment::Outcome;

/// A call of each outcome.
fn some() -> Experiment {
    let mut not_done = tagged((21, 22), "k1", "never");
    not_done.outcome = Outcome::NotDone("cannot connect".to_owned());
    let gone = "Key 'arn:aws:kms:us-east-1:000000000000:key/k1' does not exist";
    experiment(vec![
        created((1, 2), "k1"),
        tagged((3, 10), "k1", "1"),
        by(1, tags((5, 6), "k1", None)),
        unknown(by(1, tagged((11, 12), "k1", "a \"b\"\n"))),
        by(1, tags((13, 14), "k1", Some("a \"b\"\n"))),
        local(2, by(2, tags((15, 16), "k1", Some("1")))),
        not_done,
        refused(described((23, 24), "k1", ""), "NotFoundException", gone),
        done(
            (25, 26),
            "GenerateRandom",
            serde_json::json!({}),
            serde_json::json!({}),
        ),
    ])
}

fn text(
    export: impl Fn(&Experiment, bool, &mut Vec<u8>) -> io::Result<()>,
    weaker: bool,
) -> String {
    let mut out = Vec::new();
    export(&some(), weaker, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Catches an experiment that loses something on its way through JSON.
#[test]
fn json_is_read_as_it_was_written() {
    let mut out = Vec::new();
    write_json(&some(), &mut out).unwrap();
    assert_eq!(read_json(out.as_slice()).unwrap(), some());
}

/// Compares with a golden file, which `KEYRUM_UPDATE_GOLDEN=1` writes anew.
#[track_caller]
fn is_golden(name: &str, history: &str) {
    let path = format!("{}/src/judge/export/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("KEYRUM_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, history).unwrap();
    }
    assert_eq!(history, std::fs::read_to_string(&path).unwrap(), "{name}");
}

/// Catches a change of what is exported: outcomes, order, processes, values.
#[test]
fn exports_are_as_they_were() {
    let strong = text(knossos, false);
    is_golden("knossos.edn", &strong);
    is_golden("elle.edn", &text(elle, false));
    assert!(text(knossos, true).lines().count() > strong.lines().count());
}

/// Catches lines that are no EDN, and histories that Jepsen's tools refuse: a process with two calls
/// at a time, one that goes on after a call of unknown outcome, a call that ends otherwise than it
/// began, times that go back.
#[test]
fn histories_are_well_formed() {
    for history in [text(knossos, true), text(elle, true)] {
        let mut calling = std::collections::BTreeMap::new();
        let mut last = 0;
        for (nth, line) in history.lines().enumerate() {
            let Edn::Map(map) = read(line) else {
                panic!("{line}")
            };
            let of = |name: &str| {
                &map.iter()
                    .find(|(key, _)| *key == Edn::Keyword(name.to_owned()))
                    .unwrap()
                    .1
            };
            let Edn::Number(time) = of("time") else {
                panic!("{line}")
            };
            assert!(
                *time >= last && *of("index") == Edn::Number(nth as i64),
                "{line}"
            );
            last = *time;
            let Edn::Number(process) = of("process") else {
                panic!("{line}")
            };
            let Edn::Keyword(kind) = of("type") else {
                panic!("{line}")
            };
            let state = calling.insert(*process, (kind.clone(), of("f").clone()));
            match kind.as_str() {
                "invoke" => assert!(
                    state.is_none_or(|(before, _)| before == "ok" || before == "fail"),
                    "{line}"
                ),
                _ => assert_eq!(
                    state,
                    Some(("invoke".to_owned(), of("f").clone())),
                    "{line}"
                ),
            }
            let Edn::Vector(value) = of("value") else {
                panic!("{line}")
            };
            let micro = match &value[..] {
                [Edn::Vector(micro)] => &micro[1..],
                pair => pair,
            };
            assert!(
                matches!(micro, [Edn::Text(_), Edn::Text(_) | Edn::Nil]),
                "{line}"
            );
        }
        assert!(
            calling.values().all(|(kind, _)| kind != "invoke"),
            "a call never ends"
        );
    }
}

/// What of EDN the exports use.
#[derive(Debug, Clone, PartialEq)]
enum Edn {
    Nil,
    Number(i64),
    Keyword(String),
    Text(String),
    Vector(Vec<Edn>),
    Map(Vec<(Edn, Edn)>),
}

/// Reads one value, and nothing after it.
fn read(text: &str) -> Edn {
    let mut rest = text.chars().peekable();
    let value = value(&mut rest);
    assert_eq!(rest.next(), None, "{text}");
    value
}

type Rest<'t> = std::iter::Peekable<std::str::Chars<'t>>;

fn blank(rest: &mut Rest<'_>) {
    while rest.next_if(|c| [' ', ','].contains(c)).is_some() {}
}

fn word(rest: &mut Rest<'_>) -> String {
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '-') {
        word.push(c);
    }
    assert!(!word.is_empty());
    word
}

fn value(rest: &mut Rest<'_>) -> Edn {
    blank(rest);
    match *rest.peek().expect("a value") {
        '{' => {
            let items = sequence(rest, '}');
            assert!(items.len().is_multiple_of(2), "a map has pairs");
            let pairs = items
                .chunks(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()));
            Edn::Map(pairs.collect())
        }
        '[' => Edn::Vector(sequence(rest, ']')),
        ':' => {
            rest.next();
            Edn::Keyword(word(rest))
        }
        '"' => string(rest),
        _ => match word(rest).as_str() {
            "nil" => Edn::Nil,
            number => Edn::Number(number.parse().unwrap()),
        },
    }
}

fn sequence(rest: &mut Rest<'_>, end: char) -> Vec<Edn> {
    rest.next();
    let mut items = Vec::new();
    loop {
        blank(rest);
        if rest.next_if_eq(&end).is_some() {
            return items;
        }
        items.push(value(rest));
    }
}

fn string(rest: &mut Rest<'_>) -> Edn {
    rest.next();
    let mut text = String::new();
    loop {
        match rest.next().expect("a string ends") {
            '"' => return Edn::Text(text),
            '\\' => text.push(match rest.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(c @ ('"' | '\\')) => c,
                Some('u') => {
                    let digits: String = rest.take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
                }
                other => panic!("no escape: {other:?}"),
            }),
            c => {
                assert!(!c.is_control());
                text.push(c);
            }
        }
    }
}
