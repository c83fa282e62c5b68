//! What was encrypted decrypts to the same, while its key is enabled.

use super::Finding;

const CHECK: &str = "decrypts";

/// How a Decrypt call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decrypted {
    /// With this plaintext.
    Plaintext(Vec<u8>),
    /// Refused with this error.
    Refused(String),
    /// No answer, or one that says nothing about the ciphertext.
    Nothing,
}

/// Judges one call. `enabled` is whether the key was enabled for sure during the call: `None` if
/// its writer does not know.
pub fn check(
    ciphertext: &str,
    plaintext: &[u8],
    enabled: Option<bool>,
    ended: &Decrypted,
) -> Result<(), Finding> {
    let what = match ended {
        Decrypted::Plaintext(seen) if seen != plaintext => "decrypts to something else".to_owned(),
        Decrypted::Plaintext(_) if enabled == Some(false) => {
            "decrypts though its key is not enabled".to_owned()
        }
        Decrypted::Refused(error) if enabled == Some(true) => {
            format!("does not decrypt though its key is enabled: {error}")
        }
        _ => return Ok(()),
    };
    Err(Finding::new(CHECK, format_args!("{ciphertext} {what}")))
}

/// Judges a call to any member of the ciphertext's family, whatever its state: it may be gone or not
/// usable, but it must never say that the ciphertext is none of its key's.
pub fn never_lacks_material(ciphertext: &str, ended: &Decrypted) -> Result<(), Finding> {
    match ended {
        Decrypted::Refused(error)
            if ["InvalidCiphertext", "IncorrectKey"]
                .iter()
                .any(|wrong| error.starts_with(wrong)) =>
        {
            let what = format_args!("{ciphertext} is not known as its key's: {error}");
            Err(Finding::new(CHECK, what))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a check that overlooks a wrong plaintext, a wrong refusal or a disabled key in use.
    #[test]
    fn each_wrong_answer_is_found() {
        let wrong = |enabled, ended: Decrypted| check("c", b"p", enabled, &ended).is_err();
        let plaintext = |text: &[u8]| Decrypted::Plaintext(text.to_vec());
        let refused = || Decrypted::Refused("DisabledException".into());
        assert!(!wrong(Some(true), plaintext(b"p")));
        assert!(wrong(Some(true), plaintext(b"q")));
        assert!(wrong(None, plaintext(b"q")));
        assert!(wrong(Some(true), refused()));
        assert!(!wrong(Some(false), refused()));
        assert!(wrong(Some(false), plaintext(b"p")));
        assert!(!wrong(None, refused()));
        assert!(!wrong(Some(true), Decrypted::Nothing));
    }

    /// Catches a check that overlooks a member without the material, or that takes a member that
    /// cannot be used for one.
    #[test]
    fn a_member_without_material_is_found() {
        let wrong =
            |error: &str| never_lacks_material("c", &Decrypted::Refused(error.to_owned())).is_err();
        assert!(wrong("InvalidCiphertextException ") && wrong("IncorrectKeyException x"));
        assert!(!wrong("DisabledException x") && !wrong("AccessDeniedException x"));
        assert!(never_lacks_material("c", &Decrypted::Nothing).is_ok());
    }
}
