//! Tests of wildcards and variables.

use proptest::prelude::*;

use super::*;

struct Ada;

impl Variables for Ada {
    fn variable(&self, key: &str) -> Option<Cow<'_, str>> {
        match key {
            "aws:username" => Some(Cow::Borrowed("ada")),
            "t:star" => Some(Cow::Borrowed("a*:b")),
            _ => None,
        }
    }
}

fn fits(pattern: &str, text: &str) -> Option<bool> {
    Pattern::parse(pattern, true).unwrap().matches(text, &Ada)
}

/// Catches a pattern that matches too much or too little.
#[test]
fn wildcards() {
    for (pattern, text, want) in [
        ("*", "", true),
        ("**", "x", true),
        ("", "", true),
        ("", "a", false),
        ("a*c*e", "abcde", true),
        ("a*c*e", "abcdef", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*ab*ab", "ab", false),
        ("*ab*ab", "abxab", true),
        ("?", "", false),
        ("?", "é", true),
        ("??", "é", false),
        ("*??", "€", false),
        ("a?c", "abc", true),
        ("a?*?c", "abc", false),
        ("a?*?c", "axyc", true),
        ("**b", "aab", true),
        ("*a?c*", "xxabxabcx", true),
        ("*a?c*", "xxabxabx", false),
        ("?*", "", false),
        ("*?b", "ab", true),
        ("*?b", "b", false),
        ("*b?", "aabb", true),
    ] {
        assert_eq!(fits(pattern, text), Some(want), "{pattern} {text}");
    }
}

/// Catches a variable that is not replaced, one whose value acts as a pattern, and a default or an
/// escape that is not heeded.
#[test]
fn variables() {
    for (pattern, text, want) in [
        ("u/${aws:username}", "u/ada", Some(true)),
        ("u/${ AWS:UserName }/*", "u/ada/x", Some(true)),
        ("u/${aws:username}", "u/adam", Some(false)),
        ("${t:star}", "a*:b", Some(true)),
        ("${t:star}", "axx:b", Some(false)),
        ("${t:none}", "", None),
        ("${t:none, 'x y'}?", "x yz", Some(true)),
        ("${aws:username,'other'}", "ada", Some(true)),
        ("${*}${?}${$}", "*?$", Some(true)),
        ("${*}", "x", Some(false)),
        ("$x{y}", "$x{y}", Some(true)),
    ] {
        assert_eq!(fits(pattern, text), want, "{pattern} {text}");
    }
    let is = |literal: &str, text: &str, case| {
        let literal = Literal::parse(literal, true).unwrap();
        literal.is(text, case, &Ada)
    };
    for (literal, text, counts, ignored) in [
        ("a*?", "a*?", Some(true), Some(true)),
        ("a*?", "a*", Some(false), Some(false)),
        ("${*}-${aws:username}*", "*-ada*", Some(true), Some(true)),
        ("${*}-${aws:username}*", "*-ADA*", Some(false), Some(true)),
        ("${aws:username}", "adam", Some(false), Some(false)),
        ("${aws:username}", "ad", Some(false), Some(false)),
        ("${aws:username}", "aé", Some(false), Some(false)),
        ("x${t:none}", "y", None, None),
        ("x${t:none, 'é'}", "xé", Some(true), Some(true)),
    ] {
        assert_eq!(is(literal, text, Case::Counts), counts, "{literal} {text}");
        assert_eq!(
            is(literal, text, Case::Ignored),
            ignored,
            "{literal} {text}"
        );
    }
    for bad in [
        "${",
        "${}",
        "${a",
        "${a,b}",
        "${a,'b}",
        "${a,'b'",
        "${a,'b'x}",
        "${${a}}",
    ] {
        assert!(Pattern::parse(bad, true).is_err(), "{bad}");
        let older = Pattern::parse(bad, false).unwrap();
        assert!(older.matches_closed(bad), "{bad}");
    }
}

/// Catches an ARN whose parts run into each other, and a text that is taken for an ARN.
#[test]
fn arns() {
    let arn = "arn:aws:iam::111122223333:role/a:b";
    for (pattern, text, want) in [
        ("*", arn, Some(true)),
        ("*", "x", Some(false)),
        ("arn:aws:iam::111122223333:role/a:b", arn, Some(true)),
        ("arn:*:iam::*:role/*", arn, Some(true)),
        ("arn:aws:iam::*", arn, Some(false)),
        ("arn:aws:*:role/a:b", arn, Some(false)),
        (
            "arn:aws:iam::111122223333:role/${aws:username}",
            arn,
            Some(false),
        ),
        (
            "arn:aws:iam::111122223333:role/${t:none, 'a:b'}",
            arn,
            Some(true),
        ),
        ("arn:aws:iam::111122223333:role/${t:none}", arn, None),
        ("arn:aws:iam::${t:star}", "arn:aws:iam::a*:b", Some(false)),
        ("arn:aws:iam::????????????:role/a:?", arn, Some(true)),
    ] {
        let pattern = ArnPattern::parse(pattern, true).unwrap();
        assert_eq!(pattern.matches(text, &Ada), want, "{pattern:?} {text}");
    }
}

/// The meaning of wildcards, without any haste.
fn fits_naively(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|taken| fits_naively(rest, &text[taken..])),
        ['?', rest @ ..] => !text.is_empty() && fits_naively(rest, &text[1..]),
        [own, rest @ ..] => text.first() == Some(own) && fits_naively(rest, &text[1..]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Catches a pattern whose cutting at its `*` changes what it matches.
    #[test]
    fn wildcards_mean_what_they_say(pattern in "[ab*?é]{0,8}", text in "[abé]{0,8}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let naive = fits_naively(&chars(&pattern), &chars(&text));
        prop_assert_eq!(fits(&pattern, &text), Some(naive));
    }
}
