//! Texts of policies: wildcards and variables, taken apart once and matched many times.
//!
//! Source: IAM User Guide, "IAM policy elements: Variables and tags" and "IAM JSON policy elements:
//! Resource".

use std::borrow::Cow;

/// Where the values of variables come from.
pub(crate) trait Variables {
    /// The one value of a condition key by its lower-case name; `None` if there is none or several.
    fn variable(&self, key: &str) -> Option<Cow<'_, str>>;
}

/// A part of a policy's text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `*`: any run of characters.
    Run,
    /// `?`: one character.
    One,
    /// `${key}` or `${key, 'default'}`; the key in lower case.
    Variable(String, Option<String>),
}

/// The text is none of a policy: the braces or quotes of a variable do not fit, or it is not of the type
/// that its place asks for.
#[derive(Debug)]
pub(crate) struct BadText;

/// Takes a text apart. `${*}`, `${?}` and `${$}` stand for the characters themselves. Texts of
/// policies of an older version have no variables.
fn parts(text: &str, variables: bool) -> Result<Vec<Part>, BadText> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let mut taken = next.len_utf8();
        let special = match next {
            '*' => Some(Part::Run),
            '?' => Some(Part::One),
            '$' if variables && rest.starts_with("${") => {
                let (part, length) = variable(&rest[2..]).ok_or(BadText)?;
                taken = 2 + length;
                match part {
                    Part::Text(escaped) => {
                        plain.push_str(&escaped);
                        None
                    }
                    part => Some(part),
                }
            }
            other => {
                plain.push(other);
                None
            }
        };
        if let Some(part) = special {
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        rest = &rest[taken..];
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// What stands between `${` and `}`, and how long it is with the brace.
fn variable(rest: &str) -> Option<(Part, usize)> {
    if let Some(escaped @ ("*" | "?" | "$")) = rest.get(..1)
        && rest[1..].starts_with('}')
    {
        return Some((Part::Text(escaped.to_owned()), 2));
    }
    let end = rest.find(['}', ','])?;
    let key = rest[..end].trim();
    if key.is_empty() || key.contains(['$', '{', '\'', '*', '?']) {
        return None;
    }
    let key = key.to_ascii_lowercase();
    if rest[end..].starts_with('}') {
        return Some((Part::Variable(key, None), end + 1));
    }
    let quoted = rest[end + 1..].trim_start();
    let default = quoted.strip_prefix('\'')?;
    let close = default.find('\'')?;
    let after = default[close + 1..].trim_start();
    let after = after.strip_prefix('}')?;
    let part = Part::Variable(key, Some(default[..close].to_owned()));
    Some((part, rest.len() - after.len()))
}

/// The parts with every variable's value in its place; `None` if one has no value. A `*` in a value
/// stands for itself.
fn resolved(parts: &[Part], variables: &dyn Variables) -> Option<Vec<Part>> {
    parts
        .iter()
        .map(|part| match part {
            Part::Variable(key, default) => match variables.variable(key) {
                Some(value) => Some(Part::Text(value.into_owned())),
                None => default.clone().map(Part::Text),
            },
            other => Some(other.clone()),
        })
        .collect()
}

fn has_variables(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part, Part::Variable(..)))
}

/// Whether letters' cases count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Counts,
    /// Deviation: only ASCII letters have cases here, since Unicode's tables change.
    Ignored,
}

impl Case {
    fn same(self, one: &str, other: &str) -> bool {
        match self {
            Self::Counts => one == other,
            Self::Ignored => one.eq_ignore_ascii_case(other),
        }
    }
}

/// A text in which wildcards mean nothing, as StringEquals takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literal {
    Fixed(Box<str>),
    Open(Literals),
}

/// A literal text that has variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Literals(Box<[Part]>);

impl Literal {
    pub(crate) fn parse(text: &str, variables: bool) -> Result<Self, BadText> {
        let parts = parts(text, variables)?;
        Ok(if has_variables(&parts) {
            Self::Open(Literals(parts.into()))
        } else {
            Self::Fixed(joined(&parts).into())
        })
    }

    /// Whether it is `text`, with its variables' values; `None` if one has none.
    pub(crate) fn is(&self, text: &str, case: Case, variables: &dyn Variables) -> Option<bool> {
        let parts = match self {
            Self::Fixed(own) => return Some(case.same(own, text)),
            Self::Open(Literals(parts)) => parts,
        };
        let mut rest = Some(text);
        for part in parts {
            let own = match part {
                Part::Text(own) => Cow::Borrowed(own.as_str()),
                Part::Run => Cow::Borrowed("*"),
                Part::One => Cow::Borrowed("?"),
                Part::Variable(key, default) => match (variables.variable(key), default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => Cow::Borrowed(default.as_str()),
                    (None, None) => return None,
                },
            };
            rest = rest.and_then(|rest| {
                let (begin, rest) = rest.split_at_checked(own.len())?;
                case.same(begin, &own).then_some(rest)
            });
        }
        Some(rest == Some(""))
    }
}

fn joined(parts: &[Part]) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Run => "*",
            Part::One => "?",
            Part::Variable(..) => unreachable!("variables have their values"),
        })
        .collect()
}

/// A text with wildcards and perhaps variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// `*`
    Any,
    Exact(Box<str>),
    Glob(Glob),
    /// It has variables.
    Open(Opens),
}

/// A pattern that has variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opens(Box<[Part]>);

impl Pattern {
    pub(crate) fn parse(text: &str, variables: bool) -> Result<Self, BadText> {
        Ok(Self::of(parts(text, variables)?))
    }

    fn of(parts: Vec<Part>) -> Self {
        if has_variables(&parts) {
            return Self::Open(Opens(parts.into()));
        }
        match &parts[..] {
            [] => Self::Exact("".into()),
            [Part::Text(text)] => Self::Exact(text.as_str().into()),
            runs if runs.iter().all(|part| *part == Part::Run) => Self::Any,
            parts => Self::Glob(Glob::of(parts)),
        }
    }

    /// Whether `text` fits; `None` if a variable has no value.
    pub(crate) fn matches(&self, text: &str, variables: &dyn Variables) -> Option<bool> {
        match self {
            Self::Open(Opens(parts)) => {
                Some(Self::of(resolved(parts, variables)?).matches_closed(text))
            }
            closed => Some(closed.matches_closed(text)),
        }
    }

    /// Whether `text` fits a pattern without variables.
    pub(crate) fn matches_closed(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *text,
            Self::Glob(glob) => glob.matches(text),
            Self::Open(_) => false,
        }
    }
}

/// What stands between two `*`: texts with one character between each and the next.
type Segment = Box<[Box<str>]>;

/// A pattern with wildcards, cut at its `*`.
///
/// Matching is greedy from the left, which is right since a later segment can only gain from an
/// earlier one that ends sooner. Segments without `?` are found in time linear in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    first: Segment,
    middle: Box<[Segment]>,
    /// `None`: the pattern has no `*`, and `first` is all of it.
    last: Option<Segment>,
}

impl Glob {
    fn of(parts: &[Part]) -> Self {
        let mut segments: Vec<Segment> = parts
            .split(|part| *part == Part::Run)
            .map(segment)
            .collect();
        let first = segments.remove(0);
        let last = segments.pop();
        segments.retain(|segment| !is_empty(segment));
        Self {
            first,
            middle: segments.into(),
            last,
        }
    }

    fn matches(&self, text: &str) -> bool {
        let Some(rest) = after(&self.first, text) else {
            return false;
        };
        let Some(last) = &self.last else {
            return rest.is_empty();
        };
        let mut rest = rest;
        for segment in &self.middle {
            match find(segment, rest) {
                Some(found) => rest = found,
                None => return false,
            }
        }
        ends(last, rest)
    }
}

fn segment(parts: &[Part]) -> Segment {
    let mut texts = vec![String::new()];
    for part in parts {
        match part {
            Part::Text(text) => texts.last_mut().expect("there is one").push_str(text),
            Part::One => texts.push(String::new()),
            Part::Run | Part::Variable(..) => unreachable!("cut at runs, variables have values"),
        }
    }
    texts.into_iter().map(String::into_boxed_str).collect()
}

fn is_empty(segment: &Segment) -> bool {
    matches!(&segment[..], [only] if only.is_empty())
}

/// What follows the segment at the text's beginning.
fn after<'t>(segment: &Segment, text: &'t str) -> Option<&'t str> {
    let (first, others) = segment.split_first()?;
    let mut rest = text.strip_prefix(&**first)?;
    for text in others {
        let mut one = rest.chars();
        one.next()?;
        rest = one.as_str().strip_prefix(&**text)?;
    }
    Some(rest)
}

/// What follows the first place where the segment is.
fn find<'t>(segment: &Segment, text: &'t str) -> Option<&'t str> {
    if let [only] = &segment[..] {
        return position(text, only).map(|at| &text[at + only.len()..]);
    }
    let borders = text.char_indices().map(|(at, _)| at);
    borders
        .chain([text.len()])
        .find_map(|at| after(segment, &text[at..]))
}

/// Where `needle`, which is not empty, is first. The library's search is linear, but dear to begin.
fn position(text: &str, needle: &str) -> Option<usize> {
    const SHORT_BYTES: usize = 256;
    if text.len() > SHORT_BYTES {
        return text.find(needle);
    }
    let first = needle.as_bytes()[0];
    let last = text.len().checked_sub(needle.len())?;
    let bytes = text.as_bytes();
    (0..=last).find(|at| bytes[*at] == first && bytes[*at..].starts_with(needle.as_bytes()))
}

fn ends(segment: &Segment, text: &str) -> bool {
    let mut rest = text;
    for (place, part) in segment.iter().rev().enumerate() {
        if place > 0 {
            let mut one = rest.chars();
            if one.next_back().is_none() {
                return false;
            }
            rest = one.as_str();
        }
        match rest.strip_suffix(&**part) {
            Some(before) => rest = before,
            None => return false,
        }
    }
    true
}

/// An ARN whose six parts are matched one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ArnPattern {
    /// `*` alone.
    Any,
    Parts(Box<[Pattern; 6]>),
    /// Not an ARN: fits nothing.
    Nothing,
}

impl ArnPattern {
    pub(crate) fn parse(text: &str, variables: bool) -> Result<Self, BadText> {
        let parts = parts(text, variables)?;
        if parts == [Part::Run] {
            return Ok(Self::Any);
        }
        // Colons inside of variables' braces are gone by now, and those of values never come in.
        let mut fields = vec![Vec::new()];
        for part in parts {
            let Part::Text(text) = part else {
                fields.last_mut().expect("there is one").push(part);
                continue;
            };
            let room = 6 - fields.len();
            for (place, piece) in text.splitn(room + 1, ':').enumerate() {
                if place > 0 {
                    fields.push(Vec::new());
                }
                if !piece.is_empty() {
                    let piece = Part::Text(piece.to_owned());
                    fields.last_mut().expect("there is one").push(piece);
                }
            }
        }
        let patterns: Vec<Pattern> = fields.into_iter().map(Pattern::of).collect();
        Ok(match patterns.try_into() {
            Ok(six) => Self::Parts(Box::new(six)),
            Err(_) => Self::Nothing,
        })
    }

    /// Whether `text` is an ARN that fits; `None` if a variable has no value.
    pub(crate) fn matches(&self, text: &str, variables: &dyn Variables) -> Option<bool> {
        if text.splitn(6, ':').count() < 6 || !text.starts_with("arn:") {
            return Some(false);
        }
        match self {
            Self::Any => Some(true),
            Self::Nothing => Some(false),
            Self::Parts(parts) => {
                for (pattern, field) in parts.iter().zip(text.splitn(6, ':')) {
                    if !pattern.matches(field, variables)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
        }
    }
}

#[cfg(test)]
mod tests;
