//! Conditions: operators, and what they say about a request.
//!
//! Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Set operators for
//! multi-valued context keys".

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::evaluation::View;
use crate::json::Json;
use crate::malformed::{MalformedPolicy, syntax};
use crate::question::Values;
use crate::template::{ArnPattern, BadText, Case, Literal, Pattern};
use crate::values::{Decimal, Moment, Net};

/// One condition key under one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// In lower case.
    key: Box<str>,
    over: Over,
    negated: bool,
    if_exists: bool,
    test: Test,
}

/// Which of a request's values must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The one there is.
    One,
    /// `ForAllValues:`
    All,
    /// `ForAnyValue:`
    Any,
}

/// What a value is compared with, by an operator that is not negated. Any one match is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Equals(Case, Box<[Literal]>),
    Like(Box<[Pattern]>),
    Number(Compare, Box<[Box<str>]>),
    Date(Compare, Box<[Moment]>),
    Bool(Box<[bool]>),
    /// The values in base64.
    Binary(Box<[Box<str>]>),
    Address(Box<[Net]>),
    Arn(Box<[ArnPattern]>),
    /// Whether the key is absent.
    Null(Box<[bool]>),
}

/// How a request's value must stand to the policy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// How a policy's conditions are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// The policy's Version has variables.
    pub(crate) variables: bool,
    /// Conditions that are true when a key is absent by mistake are refused, as KMS does.
    pub(crate) key_policy: bool,
}

/// Reads a statement's `Condition`.
pub(crate) fn parse(value: &Json, reading: Reading) -> Result<Box<[Condition]>, MalformedPolicy> {
    let Json::Object(operators) = value else {
        return Err(syntax("Condition is not an object"));
    };
    let mut conditions = Vec::new();
    for (operator, keys) in operators {
        let Json::Object(keys) = keys else {
            return Err(syntax(format!("{operator} is not an object")));
        };
        for (key, values) in keys {
            conditions.push(Condition::parse(operator, key, values, reading)?);
        }
    }
    Ok(conditions.into())
}

impl Condition {
    fn parse(
        operator: &str,
        key: &str,
        values: &Json,
        reading: Reading,
    ) -> Result<Self, MalformedPolicy> {
        let unknown = || syntax(format!("there is no condition operator {operator}"));
        let name = operator.to_ascii_lowercase();
        let (over, name) = match name.split_once(':') {
            None => (Over::One, name.as_str()),
            Some(("forallvalues", name)) => (Over::All, name),
            Some(("foranyvalue", name)) => (Over::Any, name),
            Some(_) => return Err(unknown()),
        };
        let (if_exists, name) = match name.strip_suffix("ifexists") {
            None => (false, name),
            Some(name) => (true, name),
        };
        if name == "null" && (if_exists || over != Over::One) {
            return Err(unknown());
        }
        let lower_key = key.to_ascii_lowercase();
        let refused = match over {
            Over::One => false,
            Over::All => {
                lower_key.starts_with("kms:encryptioncontext:")
                    || lower_key.starts_with("aws:requesttag/")
            }
            Over::Any => lower_key.starts_with("kms:encryptioncontext:"),
        };
        if refused && reading.key_policy {
            return Err(MalformedPolicy::OverlyPermissiveCondition {
                operator: operator.to_owned(),
                key: key.to_owned(),
            });
        }
        let texts =
            texts(values).ok_or_else(|| syntax(format!("the values of {key} are not texts")))?;
        let bad = |text: &str| syntax(format!("{operator} cannot be compared with {text:?}"));
        let (negated, test) = test(name, &texts, reading.variables)
            .ok_or_else(unknown)?
            .map_err(|text| bad(&text))?;
        Ok(Self {
            key: lower_key.into(),
            over,
            negated,
            if_exists,
            test,
        })
    }

    /// Whether a request meets it. `deny`: it is of a Deny statement, so what cannot be known must
    /// not make it false.
    pub(crate) fn holds(&self, view: &View<'_>, deny: bool) -> bool {
        let values = view.values(&self.key);
        let values = match &values {
            None => &[][..],
            Some(Values::One(value)) => std::slice::from_ref(value),
            Some(Values::Many(values)) => &values[..],
        };
        if let Test::Null(absent) = &self.test {
            return absent.contains(&values.is_empty());
        }
        if values.is_empty() {
            return self.if_exists
                || match self.over {
                    Over::One => self.negated,
                    Over::All => true,
                    Over::Any => false,
                };
        }
        let passes = |value: &str| match self.test.matches(value, view) {
            Some(matches) => matches != self.negated,
            // A variable has no value: the policy's value matches nothing, and an Allow does not live
            // on that.
            None => self.negated && deny,
        };
        let mut values = values.iter();
        match self.over {
            Over::All => values.all(|value| passes(value)),
            Over::Any => values.any(|value| passes(value)),
            // Deviation: what the real service makes of several values under an operator for one is
            // not known. Here an Allow then needs all of them to pass, and a Deny only one.
            Over::One if deny => values.any(|value| passes(value)),
            Over::One => values.all(|value| passes(value)),
        }
    }
}

/// A text, number or boolean, or a list of them, as texts.
fn texts(values: &Json) -> Option<Vec<&str>> {
    values.items().iter().map(scalar).collect()
}

fn scalar(value: &Json) -> Option<&str> {
    match value {
        Json::Text(text) | Json::Number(text) => Some(text),
        Json::Bool(true) => Some("true"),
        Json::Bool(false) => Some("false"),
        Json::Null | Json::List(_) | Json::Object(_) => None,
    }
}

/// The test of an operator by its lower-case name, and whether it is negated. `None`: there is no
/// such operator; an error: the value that is not of its type.
fn test(name: &str, texts: &[&str], variables: bool) -> Option<Result<(bool, Test), String>> {
    let (negated, name) = match name {
        "stringnotequals" => (true, "stringequals"),
        "stringnotequalsignorecase" => (true, "stringequalsignorecase"),
        "stringnotlike" => (true, "stringlike"),
        "numericnotequals" => (true, "numericequals"),
        "datenotequals" => (true, "dateequals"),
        "notipaddress" => (true, "ipaddress"),
        "arnnotequals" | "arnnotlike" => (true, "arnequals"),
        name => (false, name),
    };
    let compare = |kind: &str| {
        Some(match name.strip_prefix(kind)? {
            "equals" => Compare::Equal,
            "lessthan" => Compare::Less,
            "lessthanequals" => Compare::LessOrEqual,
            "greaterthan" => Compare::Greater,
            "greaterthanequals" => Compare::GreaterOrEqual,
            _ => return None,
        })
    };
    let literal = |text: &str| Literal::parse(text, variables);
    let test = match name {
        "stringequals" => each(texts, literal).map(|values| Test::Equals(Case::Counts, values)),
        "stringequalsignorecase" => {
            each(texts, literal).map(|values| Test::Equals(Case::Ignored, values))
        }
        "stringlike" => each(texts, |text| {
            cheap(text).and_then(|()| Pattern::parse(text, variables))
        })
        .map(Test::Like),
        "arnequals" | "arnlike" => each(texts, |text| {
            cheap(text).and_then(|()| ArnPattern::parse(text, variables))
        })
        .map(Test::Arn),
        "bool" => each(texts, |text| boolean(text).ok_or(BadText)).map(Test::Bool),
        "null" => each(texts, |text| boolean(text).ok_or(BadText)).map(Test::Null),
        "binaryequals" => each(texts, |text| Ok(text.into())).map(Test::Binary),
        "ipaddress" => each(texts, |text| Net::parse(text).ok_or(BadText)).map(Test::Address),
        _ => {
            if let Some(compare) = compare("numeric") {
                let number = |text: &str| match Decimal::parse(text) {
                    Some(_) => Ok(text.into()),
                    None => Err(BadText),
                };
                each(texts, number).map(|numbers| Test::Number(compare, numbers))
            } else {
                let compare = compare("date")?;
                each(texts, |text| Moment::parse(text).ok_or(BadText))
                    .map(|moments| Test::Date(compare, moments))
            }
        }
    };
    Some(test.map(|test| (negated, test)))
}

/// Every text read; or the first that cannot be.
fn each<T>(texts: &[&str], read: impl Fn(&str) -> Result<T, BadText>) -> Result<Box<[T]>, String> {
    texts
        .iter()
        .map(|text| read(text).map_err(|BadText| (*text).to_owned()))
        .collect()
}

/// How many `?` may stand between two `*`: looking for such a part takes as many steps for each
/// character of a request's value, and a value can be long.
const ONES_MAX: usize = 64;

/// Deviation: patterns that could keep a node busy are refused.
fn cheap(text: &str) -> Result<(), BadText> {
    let dear = |part: &str| part.matches('?').count() > ONES_MAX;
    if text.split('*').any(dear) {
        return Err(BadText);
    }
    Ok(())
}

fn boolean(text: &str) -> Option<bool> {
    match () {
        () if text.eq_ignore_ascii_case("true") => Some(true),
        () if text.eq_ignore_ascii_case("false") => Some(false),
        () => None,
    }
}

impl Test {
    /// Whether a request's value matches one of the policy's; `None` if none does and a variable has
    /// no value. A value of another type than the operator's matches nothing.
    fn matches(&self, value: &str, view: &View<'_>) -> Option<bool> {
        match self {
            Self::Equals(case, literals) => any(literals, |literal| literal.is(value, *case, view)),
            Self::Like(patterns) => any(patterns, |pattern| pattern.matches(value, view)),
            Self::Arn(patterns) => any(patterns, |pattern| pattern.matches(value, view)),
            Self::Number(compare, numbers) => Some(Decimal::parse(value).is_some_and(|value| {
                let order = |number| Decimal::parse(number).map(|number| value.cmp(&number));
                (numbers.iter()).any(|number| order(number).is_some_and(|o| compare.holds(o)))
            })),
            Self::Date(compare, moments) => Some(Moment::parse(value).is_some_and(|value| {
                moments
                    .iter()
                    .any(|moment| compare.holds(value.cmp(moment)))
            })),
            Self::Bool(booleans) => {
                Some(boolean(value).is_some_and(|value| booleans.contains(&value)))
            }
            Self::Binary(values) => Some(values.iter().any(|other| **other == *value)),
            Self::Address(nets) => Some(
                value
                    .parse::<IpAddr>()
                    .is_ok_and(|address| nets.iter().any(|net| net.contains(address))),
            ),
            Self::Null(_) => Some(false),
        }
    }
}

fn any<T>(items: &[T], matches: impl Fn(&T) -> Option<bool>) -> Option<bool> {
    let mut known = true;
    for item in items {
        match matches(item) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => known = false,
        }
    }
    known.then_some(false)
}
