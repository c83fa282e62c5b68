//! Tests of the policy's form and of the lockout check.

use super::*;
use crate::default_policy;

const ROOT: &str = "arn:aws:iam::111122223333:root";
const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn check(text: &str) -> Result<(), MalformedPolicy> {
    check_policy(text, ROOT, "111122223333".parse().unwrap(), KEY, false)
}

fn with_statements(statements: &str) -> Result<(), MalformedPolicy> {
    check(&format!(
        r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#
    ))
}

fn statement_text(effect: &str, principal: &str, action: &str, resource: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{principal},"Action":{action},"Resource":{resource}}}"#
    )
}

/// Catches a default policy that the real service's own check would refuse, or one laid out
/// differently from the recorded answer of GetKeyPolicy.
#[test]
fn the_default_policy_is_one() {
    let text = default_policy(
        &"us-east-1".parse().unwrap(),
        "111122223333".parse().unwrap(),
    );
    assert_eq!(check(&text), Ok(()));
    assert_eq!(
        text,
        "{\n  \"Version\" : \"2012-10-17\",\n  \"Id\" : \"key-default-1\",\n  \"Statement\" : [ {\n    \
         \"Sid\" : \"Enable IAM User Permissions\",\n    \"Effect\" : \"Allow\",\n    \
         \"Principal\" : {\n      \"AWS\" : \"arn:aws:iam::111122223333:root\"\n    },\n    \
         \"Action\" : \"kms:*\",\n    \"Resource\" : \"*\"\n  } ]\n}"
    );
    let china = default_policy(
        &"cn-north-1".parse().unwrap(),
        "111122223333".parse().unwrap(),
    );
    assert!(china.contains("arn:aws-cn:iam::111122223333:root"));
}

/// Catches texts that are no policy being stored as one, and the wrong reason being given.
#[test]
fn what_is_no_policy_is_refused() {
    let not_object = syntax("the policy is not a JSON object");
    for text in ["", "x", "[]", "\"*\"", "{", "{} {}", "null"] {
        assert_eq!(check(text), Err(not_object.clone()), "{text}");
    }
    let deep = format!(
        "{{\"Statement\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(check(&deep), Err(not_object));
    assert_eq!(check("{}"), Err(MalformedPolicy::NoStatement));
    assert_eq!(
        check(r#"{"Statement":[]}"#),
        Err(MalformedPolicy::NoStatement)
    );
    assert_eq!(
        check(r#"{"Statement":"x"}"#),
        Err(syntax("Statement is not a list"))
    );
    assert_eq!(
        check(r#"{"Statement":[1]}"#),
        Err(syntax("a statement is not an object"))
    );
    for version in ["\"2012-10-18\"", "2012", "null"] {
        let text = format!(r#"{{"Version":{version},"Statement":[]}}"#);
        assert_eq!(check(&text), Err(MalformedPolicy::UnknownVersion));
    }
    let effect = with_statements(&statement_text("allow", r#""*""#, r#""*""#, r#""*""#));
    assert_eq!(effect, Err(MalformedPolicy::InvalidEffect));
    for none in [
        r#"{"Effect":"Allow","Action":"kms:*","Resource":"*"}"#.to_owned(),
        statement_text("Allow", "{}", r#""*""#, r#""*""#),
    ] {
        assert_eq!(
            with_statements(&none),
            Err(MalformedPolicy::NoPrincipal),
            "{none}"
        );
    }
    for invalid in [
        r#""arn:aws:iam::111122223333:root""#,
        r#"{"AWS":[]}"#,
        r#"{"AWS":1}"#,
        r#"{"AWS":["arn:aws:iam::111122223333:root","ada"]}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:group/g"}"#,
        r#"{"Who":"*"}"#,
        r#"{"Service":""}"#,
        "[]",
    ] {
        let policy = statement_text("Allow", invalid, r#""*""#, r#""*""#);
        assert_eq!(
            with_statements(&policy),
            Err(MalformedPolicy::InvalidPrincipals),
            "{invalid}"
        );
    }
    let arn = statement_text("Allow", r#"{"AWS":"arn:aws:iam"}"#, r#""*""#, r#""*""#);
    assert_eq!(with_statements(&arn), Err(MalformedPolicy::InvalidArn));
    let action = statement_text("Allow", r#""*""#, "1", r#""*""#);
    assert_eq!(
        with_statements(&action),
        Err(syntax("Action is not a list of texts"))
    );
}

/// Catches a caller who locks themselves out, and one who is refused a policy that lets them in.
#[test]
fn the_lockout_check() {
    let root = r#"{"AWS":"arn:aws:iam::111122223333:root"}"#;
    for (principal, action, resource, fits) in [
        (root, r#""kms:*""#, r#""*""#, true),
        (root, r#"["kms:Get*","kms:putkeyPOLICY"]"#, r#""*""#, true),
        (root, r#""KMS:Put?eyPolicy""#, r#""*""#, true),
        (r#"{"AWS":["111122223333"]}"#, r#""*""#, r#""*""#, true),
        (
            r#""*""#,
            r#""kms:*""#,
            r#"["arn:aws:kms:*:111122223333:key/*"]"#,
            true,
        ),
        (root, r#""kms:Get*""#, r#""*""#, false),
        (root, r#""kms:PutKeyPolic""#, r#""*""#, false),
        (
            root,
            r#""kms:*""#,
            r#""arn:aws:kms:us-east-1:111122223333:alias/*""#,
            false,
        ),
        (r#"{"AWS":"999922223333"}"#, r#""kms:*""#, r#""*""#, false),
        (
            r#"{"AWS":"arn:aws:iam::111122223333:user/ada"}"#,
            r#""kms:*""#,
            r#""*""#,
            false,
        ),
        (
            r#"{"Service":"s3.amazonaws.com"}"#,
            r#""kms:*""#,
            r#""*""#,
            false,
        ),
    ] {
        let policy = statement_text("Allow", principal, action, resource);
        let want = if fits {
            Ok(())
        } else {
            Err(MalformedPolicy::LocksCallerOut)
        };
        assert_eq!(with_statements(&policy), want, "{policy}");
    }
    let allow = statement_text("Allow", root, r#""kms:*""#, r#""*""#);
    let deny = statement_text("Deny", r#""*""#, r#""kms:Put*""#, r#""*""#);
    assert_eq!(
        with_statements(&format!("{allow},{deny}")),
        Err(MalformedPolicy::LocksCallerOut)
    );
    let not_principal = allow.replace("Principal", "NotPrincipal");
    assert_eq!(
        with_statements(&not_principal),
        Err(MalformedPolicy::LocksCallerOut)
    );
    let no_action = format!(r#"{{"Effect":"Allow","Principal":{root},"Resource":"*"}}"#);
    assert_eq!(
        with_statements(&no_action),
        Err(MalformedPolicy::LocksCallerOut)
    );
    let text = format!(r#"{{"Statement":{no_action}}}"#);
    let account = "111122223333".parse().unwrap();
    assert_eq!(
        check_policy(&text, ROOT, account, KEY, true),
        Ok(()),
        "the check is switched off"
    );
}

/// Catches a pattern that matches too much or too little.
#[test]
fn wildcards() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a*c*e", "abcde", true),
        ("a*c*e", "abcdef", false),
        ("?", "", false),
        ("a?c", "abc", true),
        ("**b", "aab", true),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
}
