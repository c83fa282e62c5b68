//! The table about grants.

use std::collections::BTreeMap;

use keyrum_authz::{Constraints, GrantHit, NamedAs, constraints_met, grant_names, may_grant_on};
use keyrum_types::GrantOperation;
use serde_json::{Value, json};

use crate::cast::{asker, each, issuer, named_as, own, yes};

/// Constraints as the table writes them.
struct Owned {
    equals: Option<BTreeMap<String, String>>,
    subset: Option<BTreeMap<String, String>>,
    source: Option<String>,
}

impl Owned {
    fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).expect(text);
        Self {
            equals: value.get("equals").map(pairs),
            subset: value.get("subset").map(pairs),
            source: value
                .get("source")
                .map(|arn| arn.as_str().unwrap().to_owned()),
        }
    }

    fn borrowed(&self) -> Constraints<'_> {
        Constraints {
            context_equals: self.equals.as_ref(),
            context_subset: self.subset.as_ref(),
            source_arn: self.source.as_deref(),
        }
    }
}

fn pairs(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn operation(text: &str) -> GrantOperation {
    serde_json::from_value(json!(text)).unwrap_or_else(|_| panic!("no operation is called {text}"))
}

/// Catches a grant that serves somebody else or in other circumstances, and one made through another
/// that allows more.
#[test]
fn grants() {
    each(include_str!("table/grants.txt"), 0, |cells| match cells {
        ["names", principal, name, ..] => match grant_names(principal, &asker(name)) {
            NamedAs::No => "no",
            NamedAs::Account => "account",
            NamedAs::Role => "role",
            NamedAs::Itself => "itself",
        }
        .to_owned(),
        ["strongest", hits, name, ..] => {
            let hit = |text: &str| {
                let (by, named) = text.split_once('/').unwrap();
                let (issuer, named) = (issuer(by), named_as(named));
                GrantHit { issuer, named }
            };
            let hits = || hits.split(' ').map(|text| (text, hit(text)));
            let found = hits().map(|(_, hit)| hit);
            let found = GrantHit::strongest(found, &asker(name), own()).unwrap();
            let equally = |text: &str| text == cells[cells.len() - 2];
            let mut same = hits()
                .filter(|(_, hit)| *hit == found)
                .map(|(text, _)| text);
            same.find(|text| equally(text))
                .unwrap_or("another")
                .to_owned()
        }
        ["met", constraints, asked, context, source, ..] => {
            let source = Some(*source).filter(|source| *source != "-");
            let context = pairs(&serde_json::from_str(context).unwrap());
            let constraints = Owned::parse(constraints);
            yes(constraints_met(
                &constraints.borrowed(),
                operation(asked),
                &context,
                source,
            ))
        }
        ["child", parent, child, ..] => {
            let read = |text: &str| {
                let (operations, constraints) = text.split_once('{').unwrap();
                let operations: Vec<_> = operations.split_whitespace().map(operation).collect();
                (operations, Owned::parse(&format!("{{{constraints}")))
            };
            let (parent, child) = (read(parent), read(child));
            yes(may_grant_on(
                (&parent.0, &parent.1.borrowed()),
                (&child.0, &child.1.borrowed()),
            ))
        }
        other => panic!("{other:?}"),
    });
}
