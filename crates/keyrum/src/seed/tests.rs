//! Tests of fixtures: what files say, without a cluster.

use super::*;

const AES: &str = "bc436485-5092-42b8-92a3-0aa8b93536dc";
const ECC: &str = "800d5768-3fd7-4edd-a4b8-4c81c3e4c147";
const FAMILY: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";

/// local-kms' example of a key on P-256.
const PEM: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMnOrUrXr8rwne7d8f01cfwmpS/w+K7jcyWmmeLDgWKaoAoGCCqGSM49
AwEHoUQDQgAEYNMBBZ3h1ipuph1iO5k+yLvTs94UN71quXN3f0P/tprs2Fp2FEas
M7m7XZ2xlDK3wcEAs1QEIoQjjwnhcptQ6A==
-----END EC PRIVATE KEY-----   ";

fn indented(by: usize, text: &str) -> String {
    let spaces = " ".repeat(by);
    text.lines()
        .map(|line| format!("{spaces}{line}\n"))
        .collect()
}

fn read(text: &str) -> Result<Vec<String>, String> {
    let regions = ["us-east-1", "eu-west-1"].map(|name| name.parse().unwrap());
    let place = Place {
        regions: &regions,
        account: "000000000000".parse().unwrap(),
    };
    let shown = |key: &Seeded| {
        let (seed, region) = (&key.seed, &key.region);
        let mut text = format!(
            "{}: {region} {} {} {} {} {}",
            key.line, seed.key.account, seed.key.id, seed.spec, seed.usage, seed.origin
        );
        text += &format!(" {} versions", seed.materials.len());
        if let Some(rotation) = seed.rotation {
            let next = rotation.next.map(|next| next.to_string());
            text += &format!(" every {}d next={next:?}", rotation.period.days());
        }
        for alias in &seed.aliases {
            text += &format!(" {alias}");
        }
        for region in &seed.replicas {
            text += &format!(" +{region}");
        }
        text
    };
    match parse(text, &place) {
        Ok(keys) => Ok(keys.iter().map(shown).collect()),
        Err(Problem(line, problem)) => Err(format!("{line}: {problem}")),
    }
}

/// Catches a field of our own form that is dropped, or has another default than is told.
#[test]
fn the_own_form_says_everything_about_a_key() {
    let pem = indented(10, PEM);
    let text = format!(
        "# Two keys.
keys:
  - id: {AES}
    aliases: [alias/a, alias/b/c]
    description: first
    material:
      - hex: {one}
      - base64: {two}
    rotation: {{days: 90, next: 2027-01-31T12:00:00Z}}
  - id: {FAMILY}
    region: eu-west-1
    account: \"111122223333\"
    spec: ECC_NIST_P256
    usage: SIGN_VERIFY
    replicas: [us-east-1]
    tags: {{a: b}}
    material:
      - pem: |
{pem}  - id: {ECC}
    origin: EXTERNAL
",
        one = "1234567890".repeat(6) + "1234",
        two = "CQ".repeat(21) + "A=",
    );
    assert_eq!(
        read(&text).unwrap(),
        [
            format!(
                "3: us-east-1 000000000000 {AES} SYMMETRIC_DEFAULT ENCRYPT_DECRYPT AWS_KMS 2 versions every 90d next=Some(\"1801396800.000\") alias/a alias/b/c"
            ),
            format!(
                "10: eu-west-1 111122223333 {FAMILY} ECC_NIST_P256 SIGN_VERIFY AWS_KMS 1 versions +us-east-1"
            ),
            format!(
                "24: us-east-1 000000000000 {ECC} SYMMETRIC_DEFAULT ENCRYPT_DECRYPT EXTERNAL 0 versions"
            ),
        ]
    );
}

/// Catches a file of local-kms, of any of its versions, that is not understood.
#[test]
fn every_form_of_local_kms_is_read() {
    let (hex, pem) = (
        "5cdaead27fe7da2de47945d73cd6d79e36494e73802f3cd3869f1d2cb0b5d7a9",
        PEM,
    );
    let upper = hex.to_uppercase();
    let grouped = format!(
        "Keys:
  Symmetric:
    Aes:
      - Metadata:
          KeyId: {AES}
          Description: \"Your key description\"
        NextKeyRotation: \"2019-09-12T17:19:21+02:00\"
        BackingKeys:
          - {upper}
          - {hex}
      - Metadata:
          KeyId: 5d05267f-bb87-4d0b-8594-295a4371d414
          Origin: EXTERNAL
    Hmac:
      - Metadata:
          KeyId: f2345678-9abc-def0-1234-56789abcdef0
          KeyUsage: GENERATE_VERIFY_MAC
          KeySpec: HMAC_512
        BackingKeys:
          - {hex}{hex}
  Asymmetric:
    Ecc:
      - Metadata:
          KeyId: {ECC}
          Description: ECC key with curve secp256r1
        PrivateKeyPem: |
{}
Aliases:
  - AliasName: alias/testing
    TargetKeyId: {AES}
",
        indented(10, pem)
    );
    assert_eq!(
        read(&grouped).unwrap(),
        [
            format!(
                "4: us-east-1 000000000000 {AES} SYMMETRIC_DEFAULT ENCRYPT_DECRYPT AWS_KMS 2 versions every 365d next=Some(\"1568301561.000\") alias/testing"
            ),
            "11: us-east-1 000000000000 5d05267f-bb87-4d0b-8594-295a4371d414 SYMMETRIC_DEFAULT ENCRYPT_DECRYPT EXTERNAL 0 versions".to_owned(),
            "15: us-east-1 000000000000 f2345678-9abc-def0-1234-56789abcdef0 HMAC_512 GENERATE_VERIFY_MAC AWS_KMS 1 versions".to_owned(),
            format!(
                "23: us-east-1 000000000000 {ECC} ECC_NIST_P256 SIGN_VERIFY AWS_KMS 1 versions"
            ),
        ]
    );
    let legacy = format!(
        "Keys:\n  - Metadata:\n      KeyId: {AES}\n    BackingKeys:\n      - {hex}\n\nAliases:\n  - AliasName: alias/x\n    TargetKeyId: {AES}\n"
    );
    let listed = format!(
        "Version: 2\nKeys:\n  - KeyId: {ECC}\n    Metadata:\n      KeySpec: ECC_NIST_P256\n      KeyUsage: KEY_AGREEMENT\n    Material:\n      PrivateKeyPem: |\n{}",
        indented(8, pem)
    );
    assert_eq!(
        read(&legacy).unwrap(),
        [format!(
            "2: us-east-1 000000000000 {AES} SYMMETRIC_DEFAULT ENCRYPT_DECRYPT AWS_KMS 1 versions alias/x"
        )]
    );
    assert_eq!(
        read(&listed).unwrap(),
        [format!(
            "3: us-east-1 000000000000 {ECC} ECC_NIST_P256 KEY_AGREEMENT AWS_KMS 1 versions"
        )]
    );
}

/// Catches a wrong file that is taken, whose line or field is not told, or whose material is.
#[test]
fn wrong_files_are_told_apart() {
    let key = |rest: &str| format!("keys:\n  - id: {AES}\n    {rest}\n");
    let secret = "5cdaead27fe7da2de47945d73cd6d79e36494e73802f3cd3869f1d2cb0b5d7";
    for (text, line, says) in [
        (key("matterial: []"), 3, "unknown field `matterial`"),
        (key("material: [{hx: 00}]"), 3, "unknown field `hx`"),
        (key("material: x"), 3, "expected sequence"),
        (
            key(&format!("material: [{{hex: {secret}}}]")),
            2,
            "no material of a SYMMETRIC_DEFAULT key",
        ),
        (
            key(&format!("material: [{{hex: {secret}x}}]")),
            2,
            "is not hexadecimal",
        ),
        (
            key(&format!("material: [{{pem: {secret}}}]")),
            2,
            "no private key in PEM",
        ),
        (
            key(&format!("material: [{{hex: {secret}, pem: x}}]")),
            2,
            "one of `hex`",
        ),
        (
            key("region: mars-north-1"),
            2,
            "names mars-north-1, which is not among --regions",
        ),
        (key("account: me"), 2, "must have 12 digits"),
        (key("spec: RSA_1024"), 2, "cannot be RSA_1024"),
        (key("spec: RSA_2048"), 2, "`usage` is needed"),
        (
            key("usage: SIGN_VERIFY"),
            2,
            "cannot be SIGN_VERIFY of a SYMMETRIC_DEFAULT key",
        ),
        (
            key("origin: AWS_CLOUDHSM"),
            2,
            "must be AWS_KMS or EXTERNAL",
        ),
        (key("aliases: [a]"), 2, "`aliases` has a"),
        (key("aliases: [alias/aws/s3]"), 2, "which is AWS's"),
        (key("replicas: [eu-west-1]"), 2, "begins with mrk-"),
        (key("rotation: {days: 7}"), 2, "90 to 2560 days"),
        (
            key("rotation: {next: soon}"),
            2,
            "has soon, which is no date",
        ),
        (
            key("spec: HMAC_256\n    rotation: {days: 90}"),
            2,
            "`rotation` is for",
        ),
        (
            format!("keys:\n  - id: {}\n", AES.to_uppercase()),
            2,
            "a UUID in lower case",
        ),
        (
            format!("keys:\n  - id: {AES}\n  - id: {AES}\n"),
            3,
            "described twice",
        ),
        (
            format!(
                "keys:\n  - id: {AES}\n    aliases: [alias/a]\n  - id: {ECC}\n    aliases: [alias/a]\n"
            ),
            4,
            "names two keys",
        ),
        (
            "keys:\n  - description: x\n".to_owned(),
            2,
            "missing field `id`",
        ),
        ("keys:\n\t- x".to_owned(), 2, ""),
        (
            format!("keys: []\nKeys: []\nx: {secret}"),
            1,
            "belong to two forms",
        ),
        (
            "Aliases:\n  - AliasName: alias/x\n    TargetKeyId: y\n".to_owned(),
            2,
            "no key y is in the file",
        ),
        (
            format!("Keys:\n  - KeyId: {AES}\n    Metadata:\n      KeySpec: HMAC_256\n"),
            2,
            "lacks the field `BackingKeys`",
        ),
        (
            format!(
                "Keys:\n  Symmetric:\n    Aes:\n      - Metadata:\n          KeyId: {AES}\n        BackingKeys: [{secret}]\n"
            ),
            4,
            "no material of a SYMMETRIC_DEFAULT key",
        ),
        (
            format!("Keys:\n  Symmetric:\n    Aes:\n      - BackingKeys: [{secret}]\n"),
            4,
            "missing field `Metadata`",
        ),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.starts_with(&format!("{line}: ")), "{text}: {error}");
        assert!(error.contains(says), "{text}: {error}");
        assert!(!error.contains(secret), "{error}");
    }
    assert!(read("").is_err());
}

/// Catches a date in a form that YAML files have and that is taken for another.
#[test]
fn dates_have_offsets() {
    for (text, seconds) in [
        ("2027-01-31T12:00:00Z", 1_801_396_800),
        ("2027-01-31T12:00:00+00:00", 1_801_396_800),
        ("2027-01-31T13:30:00+01:30", 1_801_396_800),
        ("2027-01-31T07:00:00-05:00", 1_801_396_800),
        ("2027-01-31 12:00:00", 1_801_396_800),
        ("2027-01-31", 1_801_353_600),
    ] {
        assert_eq!(date(text), Some(UnixMillis(seconds * 1000)), "{text}");
    }
    for text in [
        "",
        "soon",
        "2027-13-01",
        "2027-01-31T12:00:00+x",
        "1969-01-01",
    ] {
        assert_eq!(date(text), None, "{text}");
    }
}
