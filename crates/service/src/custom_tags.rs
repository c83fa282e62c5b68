//! Tags of CreateKey by which users of LocalStack choose a key's id and its material. Test clusters
//! only; elsewhere they are tags like any other.
//!
//! Source: docs.localstack.cloud, "Key Management Service", and what its version 4 does: `_custom_id_`
//! stays a tag of the key, `_custom_key_material_` does not.
//!
//! Deviation: what would not be a key here is refused: an id that is no key id, or one without `mrk-` for a multi-Region
//! key; one that is taken; material that the key's spec does not have. There such
//! material is not used, or is used in another way. Of an RSA key it is used here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_crypto::{MaterialSecret, given_material};
use keyrum_types::{KeyId, KeySpec, Origin};
use zeroize::Zeroizing;

use crate::ServiceError;

const ID: &str = "_custom_id_";
const MATERIAL: &str = "_custom_key_material_";

/// What the tags of a CreateKey say about the key.
#[derive(Default)]
pub(crate) struct Custom {
    /// The id it shall have.
    pub(crate) id: Option<KeyId>,
    /// The material it shall have.
    pub(crate) material: Option<MaterialSecret>,
}

/// Reads the tags; the one with material is taken out.
pub(crate) fn take(
    tags: &mut Vec<(String, String)>,
    multi_region: bool,
    spec: KeySpec,
    origin: Origin,
    partition: &str,
) -> Result<Custom, ServiceError> {
    let id = tags.iter().find(|(name, _)| name == ID);
    let id = id.map(|(_, text)| key_id(text, multi_region)).transpose()?;
    let mut given = Vec::new();
    tags.retain_mut(|(name, value)| {
        let material = name == MATERIAL;
        if material {
            given.push(Zeroizing::new(std::mem::take(value)));
        }
        !material
    });
    let material = match &given[..] {
        [] => None,
        [text] if origin == Origin::AwsKms => Some(secret(text, spec, partition)?),
        [_] => {
            return Err(refused(format!(
                "The tag {MATERIAL} is for keys of origin AWS_KMS, not {origin}."
            )));
        }
        _ => return Err(keyrum_state::Refusal::DuplicateTags.into()),
    };
    Ok(Custom { id, material })
}

fn key_id(text: &str, multi_region: bool) -> Result<KeyId, ServiceError> {
    let id: KeyId = text.trim().parse().map_err(|_| {
        refused(format!(
            "The tag {ID} must be a UUID in lower case, or mrk- and 32 hexadecimal digits."
        ))
    })?;
    match (id.is_multi_region(), multi_region) {
        (true, false) => Err(refused(format!(
            "The tag {ID} begins with mrk-, so MultiRegion must be true."
        ))),
        (false, true) => Err(refused(format!(
            "The tag {ID} of a multi-Region key must begin with mrk-."
        ))),
        _ => Ok(id),
    }
}

fn secret(text: &str, spec: KeySpec, partition: &str) -> Result<MaterialSecret, ServiceError> {
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| refused(format!("The tag {MATERIAL} is not base64.")))?;
    given_material(spec, partition, &bytes).map_err(|_| {
        refused(format!(
            "The tag {MATERIAL} is no material of a {spec} key."
        ))
    })
}

fn refused(why: String) -> ServiceError {
    ServiceError::CustomTag { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    const FAMILY: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";

    fn taken(tags: &[(&str, &str)], multi_region: bool, spec: KeySpec) -> Result<String, String> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let mut tags: Vec<_> = tags.iter().map(owned).collect();
        let custom = take(&mut tags, multi_region, spec, Origin::AwsKms, "aws");
        let custom = custom.map_err(|error| error.to_string())?;
        let names: Vec<_> = tags.iter().map(|(name, _)| name.as_str()).collect();
        let id = custom.id.map(|id| id.to_string());
        Ok(format!("{id:?} {} {names:?}", custom.material.is_some()))
    }

    /// Catches material that stays readable as a tag, an id that is hidden, and ids or material that
    /// lead to a key which cannot be.
    #[test]
    fn tags_choose_id_and_material() {
        let (aes, material) = (KeySpec::SymmetricDefault, STANDARD.encode([7; 32]));
        let both = [(ID, UUID), ("a", "b"), (MATERIAL, &material)];
        let expected = format!("Some({UUID:?}) true [{ID:?}, \"a\"]");
        assert_eq!(taken(&both, false, aes), Ok(expected));
        let spaced = format!(" {FAMILY} ");
        let expected = format!("Some({FAMILY:?}) false [{ID:?}]");
        assert_eq!(taken(&[(ID, &spaced)], true, aes), Ok(expected));
        assert_eq!(taken(&[], false, aes), Ok("None false []".to_owned()));

        let short = STANDARD.encode([7; 31]);
        for (tag, multi_region, spec, says) in [
            ((ID, "my-key"), false, aes, "a UUID in lower case"),
            ((ID, FAMILY), false, aes, "MultiRegion must be true"),
            ((ID, UUID), true, aes, "must begin with mrk-"),
            ((MATERIAL, "?"), false, aes, "not base64"),
            (
                (MATERIAL, &short),
                false,
                aes,
                "no material of a SYMMETRIC_DEFAULT key",
            ),
            (
                (MATERIAL, &material),
                false,
                KeySpec::EccNistP256,
                "of a ECC_NIST_P256 key",
            ),
        ] {
            let error = taken(&[tag], multi_region, spec).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let twice = [(MATERIAL, &*material), (MATERIAL, &material)];
        assert!(taken(&twice, false, aes).unwrap_err().contains("duplicate"));
        let mut tags = vec![(MATERIAL.to_owned(), material)];
        let external = take(&mut tags, false, aes, Origin::External, "aws");
        assert!(matches!(external, Err(ServiceError::CustomTag { .. })));
    }
}
