//! Attested callers: secrets that only the enclave which asked can read.
//!
//! A document is verified before anything else of a request, by this machine's clock: it needs no
//! state, and nothing is done for one that is not believed.

use keyrum_crypto::Attested;
use zeroize::Zeroizing;

use crate::crypto_ops::use_error;
use crate::{RequestContext, Service, ServiceError};

/// For whom a request wants its answer's secret encrypted.
///
/// Deviation: what the real service answers when one of the two is missing is not published; here
/// both are required.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientInput {
    /// Whether the request names RSAES_OAEP_SHA_256, the only algorithm there is.
    pub algorithm_named: bool,
    /// The enclave's attestation document: a COSE_Sign1 message.
    pub document: Option<Vec<u8>>,
}

/// A secret in an answer.
pub enum SecretOutput {
    /// In the clear.
    Plain(Zeroizing<Vec<u8>>),
    /// In a CMS EnvelopedData that only the recipient can open.
    ForRecipient(Vec<u8>),
}

impl SecretOutput {
    /// How long it is, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(secret) => secret.len(),
            Self::ForRecipient(enveloped) => enveloped.len(),
        }
    }
}

impl Service {
    /// The verified recipient, if the request names one.
    pub(crate) fn attest(
        &self,
        ctx: &RequestContext,
        recipient: Option<&RecipientInput>,
    ) -> Result<Option<Attested>, ServiceError> {
        let Some(recipient) = recipient else {
            return Ok(None);
        };
        let document = match (&recipient.document, recipient.algorithm_named) {
            (Some(document), true) => document,
            (document, _) => {
                let document_given = document.is_some();
                return Err(ServiceError::RecipientIncomplete { document_given });
            }
        };
        let now = self.inner.world.clock.now();
        let roots = &self.inner.settings.attestation_roots;
        let recipient = roots.verify(document, now)?;
        ctx.trace.recipient(&recipient);
        Ok(Some(recipient))
    }

    /// A secret as the request wants it.
    pub(crate) fn hand_over(
        &self,
        secret: Zeroizing<Vec<u8>>,
        recipient: Option<&Attested>,
    ) -> Result<SecretOutput, ServiceError> {
        let Some(recipient) = recipient else {
            return Ok(SecretOutput::Plain(secret));
        };
        let enveloped = recipient.envelop(&secret, &*self.inner.world.entropy);
        enveloped.map(SecretOutput::ForRecipient).map_err(use_error)
    }
}
