//! The service model: which operations the API has and what their members must look like.
//!
//! The data is `model/kms-service-model.json`, part of the binary; it is read once, on first use,
//! into tables of indices. A few facts that the model lacks are added here, each with its source.

use std::sync::{LazyLock, OnceLock};

use regex::Regex;

use crate::json::{self, Members, Value};

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    Model::read(include_bytes!("../model/kms-service-model.json"))
        .expect("the model is part of the binary and a test reads it")
});

/// Every operation and shape.
pub(crate) struct Model {
    /// In their `order`.
    operations: Vec<Operation>,
    shapes: Vec<Shape>,
}

/// One API operation.
pub(crate) struct Operation {
    /// Such as `CreateKey`.
    pub(crate) name: &'static str,
    /// A structure.
    pub(crate) input: ShapeId,
    /// Whether it changes nothing, so that asking twice does no harm.
    pub(crate) reads: bool,
}

/// How the names of operations that change nothing begin.
const READS: &[&str] = &[
    "Decapsulate",
    "Decrypt",
    "DeriveSharedSecret",
    "Describe",
    "Encapsulate",
    "Encrypt",
    "Generate",
    "Get",
    "List",
    "ReEncrypt",
    "Sign",
    "Verify",
];

/// A place in the table of shapes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShapeId(u16);

impl ShapeId {
    /// Its number: they count from 0.
    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// What a value must look like.
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Must not be echoed.
    pub(crate) sensitive: bool,
    /// Least length (characters, bytes of a blob, entries of a list) or value of a number.
    pub(crate) min: Option<i64>,
    /// Greatest length or value.
    pub(crate) max: Option<i64>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) values: Option<Values>,
}

/// The type of a shape.
pub(crate) enum Kind {
    Text,
    Blob,
    Boolean,
    Integer,
    Timestamp,
    List(ShapeId),
    /// From strings without constraints, as all keys of the model's maps are.
    Map(ShapeId),
    Structure(Vec<Member>),
}

/// One member of a structure.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) shape: ShapeId,
    pub(crate) required: bool,
}

/// An enumeration's values.
pub(crate) struct Values {
    /// What passes.
    accepted: Vec<&'static str>,
    /// The list as the message shows it.
    pub(crate) shown: String,
}

impl Values {
    /// Whether `value` is one of them.
    pub(crate) fn accept(&self, value: &str) -> bool {
        self.accepted.contains(&value)
    }
}

/// A regular expression of the model, compiled when first used: compiling all of them would cost
/// more than reading the whole model.
pub(crate) struct Pattern {
    /// As the message shows it.
    pub(crate) shown: &'static str,
    compiled: OnceLock<Regex>,
}

/// The pattern every key identifier must satisfy, though the model does not say so.
/// Source: answers of the real service.
const ASCII_PATTERN: &str = r"^\p{ASCII}+$";

/// Orders in which the real service lists an enumeration's values where they differ from the
/// model's, by shape. Source: answers of the real service.
const SHOWN_VALUES: &[(&str, &[&str])] = &[
    (
        "SigningAlgorithmSpec",
        &[
            "RSASSA_PSS_SHA_256",
            "RSASSA_PSS_SHA_384",
            "RSASSA_PSS_SHA_512",
            "RSASSA_PKCS1_V1_5_SHA_256",
            "RSASSA_PKCS1_V1_5_SHA_384",
            "RSASSA_PKCS1_V1_5_SHA_512",
            "ECDSA_SHA_256",
            "ECDSA_SHA_384",
            "ECDSA_SHA_512",
            "ED25519_SHA_512",
            "ED25519_PH_SHA_512",
            "SM2DSA",
            "ML_DSA_SHAKE_256",
        ],
    ),
    (
        "EncryptionAlgorithmSpec",
        &[
            "RSAES_OAEP_SHA_1",
            "RSAES_OAEP_SHA_256",
            "SM2PKE",
            "SYMMETRIC_DEFAULT",
        ],
    ),
    (
        "MacAlgorithmSpec",
        &[
            "HMAC_SHA_384",
            "HMAC_SHA_256",
            "HMAC_SHA_224",
            "HMAC_SHA_512",
        ],
    ),
    (
        // The real service shows the specs of keys, not of data keys.
        "DataKeySpec",
        &[
            "RSA_2048",
            "RSA_3072",
            "RSA_4096",
            "ECC_NIST_P256",
            "ECC_NIST_P384",
            "ECC_NIST_P521",
            "ECC_SECG_P256K1",
            "ECC_NIST_EDWARDS25519",
            "SYMMETRIC_DEFAULT",
            "HMAC_224",
            "HMAC_256",
            "HMAC_384",
            "HMAC_512",
            "SM2",
            "ML_DSA_44",
            "ML_DSA_65",
            "ML_DSA_87",
        ],
    ),
];

/// Values that pass an enumeration's check though the model lacks them, by shape: the operation
/// itself refuses them, with another error. Source: answers of the real service.
const ALSO_ACCEPTED: &[(&str, &str)] = &[("SigningAlgorithmSpec", "SYMMETRIC_DEFAULT")];

impl Model {
    /// The one model; reads it on first use.
    pub(crate) fn get() -> &'static Self {
        &MODEL
    }

    /// The operation called `name`.
    pub(crate) fn operation(&self, name: &str) -> Option<&Operation> {
        let at = self
            .operations
            .binary_search_by_key(&order(name), |operation| order(operation.name))
            .ok()?;
        Some(&self.operations[at])
    }

    /// Every operation.
    #[cfg(test)]
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The shape behind an id.
    pub(crate) fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[id.number()]
    }

    /// The members of a structure, in the model's order; none of anything else.
    pub(crate) fn members(&self, id: ShapeId) -> &[Member] {
        if let Kind::Structure(members) = &self.shape(id).kind {
            members
        } else {
            &[]
        }
    }

    fn read(bytes: &'static [u8]) -> Option<Self> {
        let Value::Object(model) = json::parse(bytes)? else {
            return None;
        };
        let shapes = object(&model, "shapes")?;
        let mut names: Vec<&str> = shapes.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        let id = |value: &Value<'static>| {
            let name = text(entries(value)?, "shape")?;
            let at = names.binary_search(&name).ok()?;
            u16::try_from(at).ok().map(ShapeId)
        };
        let mut table = Vec::with_capacity(names.len());
        for name in &names {
            table.push(Shape::read(name, object(shapes, name)?, id)?);
        }
        let mut operations = Vec::new();
        for (_, operation) in object(&model, "operations")? {
            let operation = entries(operation)?;
            let name = text(operation, "name")?;
            operations.push(Operation {
                name,
                input: id(json::find(operation, "input")?)?,
                reads: READS.iter().any(|read| name.starts_with(read)),
            });
        }
        operations.sort_unstable_by_key(|operation| order(operation.name));
        Some(Self {
            operations,
            shapes: table,
        })
    }
}

/// By length first, so that almost no texts are compared to find one.
fn order(name: &str) -> (usize, &str) {
    (name.len(), name)
}

impl Shape {
    fn read(
        name: &str,
        shape: &Members<'static>,
        id: impl Fn(&Value<'static>) -> Option<ShapeId>,
    ) -> Option<Self> {
        let kind = match text(shape, "type")? {
            "string" => Kind::Text,
            "blob" => Kind::Blob,
            "boolean" => Kind::Boolean,
            "integer" => Kind::Integer,
            "timestamp" => Kind::Timestamp,
            "list" => Kind::List(id(json::find(shape, "member")?)?),
            "map" => Kind::Map(id(json::find(shape, "value")?)?),
            "structure" => {
                let required = texts(shape, "required");
                let mut members = Vec::new();
                for (name, member) in object(shape, "members")? {
                    let name = borrowed(name)?;
                    members.push(Member {
                        name,
                        shape: id(member)?,
                        required: required.contains(&name),
                    });
                }
                Kind::Structure(members)
            }
            _ => return None,
        };
        let number = |limit| match json::find(shape, limit) {
            Some(Value::Number(number)) => number.whole().and_then(|n| i64::try_from(n).ok()),
            _ => None,
        };
        let pattern = match (name, text(shape, "pattern")) {
            ("KeyIdType", None) => Some(ASCII_PATTERN),
            (_, pattern) => pattern,
        };
        let mut accepted = texts(shape, "enum");
        let values = (!accepted.is_empty()).then(|| {
            let shown = SHOWN_VALUES.iter().find(|(of, _)| *of == name);
            let shown = shown.map_or(&accepted[..], |(_, values)| values).join(", ");
            accepted.extend(
                ALSO_ACCEPTED
                    .iter()
                    .filter(|(of, _)| *of == name)
                    .map(|(_, also)| also),
            );
            Values {
                accepted,
                shown: format!("[{shown}]"),
            }
        });
        Some(Self {
            kind,
            sensitive: matches!(json::find(shape, "sensitive"), Some(Value::Bool(true))),
            min: number("min"),
            max: number("max"),
            pattern: pattern.map(|shown| Pattern {
                shown,
                compiled: OnceLock::new(),
            }),
            values,
        })
    }
}

impl Pattern {
    /// Whether all of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        if self.shown == ASCII_PATTERN {
            // On the way of nearly every request.
            return !text.is_empty() && text.is_ascii();
        }
        let regex = self.compiled.get_or_init(|| {
            Regex::new(&whole_match(self.shown))
                .expect("a test compiles every pattern of the model")
        });
        regex.is_match(text)
    }
}

/// The pattern in this crate's dialect: the model's is Java's, where a pattern must match the
/// whole text and `\w`, `\d` and `\s` know ASCII only.
fn whole_match(pattern: &str) -> String {
    let mut out = String::from(r"\A(?:");
    let mut in_class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let class = match c {
            '\\' => match chars.next() {
                Some('w') => "[:word:]",
                Some('d') => "[:digit:]",
                Some('s') => "[:space:]",
                escaped => {
                    out.push('\\');
                    out.extend(escaped);
                    continue;
                }
            },
            '[' | ']' => {
                in_class = c == '[';
                out.push(c);
                continue;
            }
            _ => {
                out.push(c);
                continue;
            }
        };
        if in_class {
            out.push_str(class);
        } else {
            out.push_str(&format!("[{class}]"));
        }
    }
    out.push_str(r")\z");
    out
}

#[expect(
    clippy::ptr_arg,
    reason = "only the Cow tells that its text is the binary's own"
)]
fn borrowed(text: &std::borrow::Cow<'static, str>) -> Option<&'static str> {
    match text {
        std::borrow::Cow::Borrowed(text) => Some(text),
        // Text with escapes: a handful of patterns, once in the life of the process.
        std::borrow::Cow::Owned(text) => Some(text.clone().leak()),
    }
}

fn entries<'v>(value: &'v Value<'static>) -> Option<&'v Members<'static>> {
    if let Value::Object(members) = value {
        Some(members)
    } else {
        None
    }
}

fn object<'v>(members: &'v Members<'static>, name: &str) -> Option<&'v Members<'static>> {
    entries(json::find(members, name)?)
}

fn text(members: &Members<'static>, name: &str) -> Option<&'static str> {
    if let Value::Text(text) = json::find(members, name)? {
        borrowed(text)
    } else {
        None
    }
}

fn texts(members: &Members<'static>, name: &str) -> Vec<&'static str> {
    let Some(Value::List(values)) = json::find(members, name) else {
        return Vec::new();
    };
    let text = |value: &Value<'static>| {
        if let Value::Text(text) = value {
            borrowed(text)
        } else {
            None
        }
    };
    values.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a model that lost an operation, or whose table cannot be read.
    #[test]
    fn the_model_has_56_operations() {
        let model = Model::get();
        assert_eq!(model.operations().len(), 56);
        let encrypt = model.operation("Encrypt").unwrap();
        let Kind::Structure(members) = &model.shape(encrypt.input).kind else {
            panic!()
        };
        let names: Vec<_> = members
            .iter()
            .map(|member| (member.name, member.required))
            .collect();
        assert_eq!(
            names,
            [
                ("KeyId", true),
                ("Plaintext", true),
                ("EncryptionContext", false),
                ("GrantTokens", false),
                ("EncryptionAlgorithm", false),
                ("DryRun", false),
            ]
        );
        assert!(model.operation("encrypt").is_none());
    }

    /// Catches an operation that changes something and is nevertheless sent twice.
    #[test]
    fn what_only_reads_is_known() {
        let reads = |operation: &&Operation| operation.reads;
        let mut names: Vec<_> = Model::get()
            .operations()
            .iter()
            .filter(reads)
            .map(|o| o.name)
            .collect();
        names.sort_unstable();
        assert_eq!(
            names.join(" "),
            "Decapsulate Decrypt DeriveSharedSecret DescribeCustomKeyStores DescribeKey Encapsulate \
             Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext \
             GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom GetKeyLastUsage GetKeyPolicy \
             GetKeyRotationStatus GetParametersForImport GetPublicKey ListAliases ListGrants \
             ListKeyPolicies ListKeyRotations ListKeys ListResourceTags ListRetirableGrants ReEncrypt \
             Sign Verify VerifyMac"
        );
    }

    /// Catches a map whose keys have constraints, which the validator would not check.
    #[test]
    fn map_keys_are_unconstrained() {
        let bytes = include_bytes!("../model/kms-service-model.json");
        let model: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let shapes = model["shapes"].as_object().unwrap();
        for (name, shape) in shapes.iter().filter(|(_, shape)| shape["type"] == "map") {
            let key = &shapes[shape["key"]["shape"].as_str().unwrap()];
            assert_eq!(*key, serde_json::json!({"type": "string"}), "{name}");
        }
    }

    /// Catches a pattern that does not compile or means something else here than in Java.
    #[test]
    fn every_pattern_compiles_and_matches_the_whole_text() {
        let model = Model::get();
        for pattern in model
            .shapes
            .iter()
            .filter_map(|shape| shape.pattern.as_ref())
        {
            pattern.matches("x");
        }
        let matches = |pattern: &'static str, text| {
            Pattern {
                shown: pattern,
                compiled: OnceLock::new(),
            }
            .matches(text)
        };
        assert!(matches("[0-9]{12}", "000000000000"));
        assert!(!matches("[0-9]{12}", "0000000000001"));
        assert!(!matches("^[a-f0-9]+$", "ab\n"));
        assert!(matches(r"[\w]+", "AZ_09"));
        assert!(!matches(r"[\w]+", "é"));
        assert!(!matches(r"^([a-z]+-){2,3}\d+$", "us-east-\u{661}"));
        assert!(matches(r"^([a-z]+-){2,3}\d+$", "us-east-1"));
        assert!(matches(r"[\u0009\u000A\u000D\u0020-\u00FF]+", "\t{é}\r\n"));
        assert!(!matches(r"[\u0009\u000A\u000D\u0020-\u00FF]+", "\u{100}"));
        assert!(matches(r"^[a-zA-Z0-9:/_\s.-]+$", "a b\tc.d-e"));
        assert!(matches("^[a-zA-Z0-9-_.]+$", "a-b_c.9"));
    }
}
