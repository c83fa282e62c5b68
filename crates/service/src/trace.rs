//! What becomes known of a call while it is done, for its audit record: the keys and versions of
//! material that were used, the attested recipient, the log entry that tells of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyrum_crypto::{Attested, Pcrs};
use keyrum_state::{Key, KeyRef, NewMaterial};
use keyrum_types::{KeySpec, LogIndex, MaterialId};

use crate::resolve;
use crate::{RequestContext, Service};

/// Where a call's trace is kept, if anybody wants it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Arc<Mutex<Traced>>>);

/// What a call has left so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traced {
    /// The keys whose material was used, in the operation's order, with the version if the key has
    /// several.
    pub used: [Option<(KeyRef, Option<MaterialId>)>; 2],
    /// The measurements of the recipient, by the name of the record's member.
    pub recipient: Vec<(&'static str, String)>,
    /// The log entry whose events tell what the call did, and whose caller's details tell the rest.
    pub logged: Option<LogIndex>,
}

/// What is noted says nothing of what is asked.
impl PartialEq for Trace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Trace {}

/// The measurements of a NitroTPM that records tell. Source: AWS KMS Developer Guide, "Logging AWS
/// KMS API calls" for NitroTPM.
const TPM_PCRS: [(u8, &str); 5] = [
    (4, "attestationDocumentNitroTPMPCR4"),
    (7, "attestationDocumentNitroTPMPCR7"),
    (8, "attestationDocumentNitroTPMPCR8"),
    (9, "attestationDocumentNitroTPMPCR9"),
    (16, "attestationDocumentNitroTPMPCR16"),
];

impl Trace {
    /// One that is kept.
    pub fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// What was noted so far, which is forgotten.
    pub fn take(&self) -> Traced {
        self.lock()
            .map(|mut traced| std::mem::take(&mut *traced))
            .unwrap_or_default()
    }

    fn lock(&self) -> Option<MutexGuard<'_, Traced>> {
        let traced = self.0.as_ref()?;
        // Each note is one assignment: a panic elsewhere leaves no half of one.
        Some(traced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A key's material is about to be used.
    pub(crate) fn use_of(&self, key: &Key, material: &NewMaterial) {
        let Some(mut traced) = self.lock() else {
            return;
        };
        let version = (key.spec == KeySpec::SymmetricDefault).then_some(material.id);
        let free = traced.used.iter_mut().find(|used| used.is_none());
        if let Some(free) = free {
            *free = Some((key.reference(), version));
        }
    }

    /// A recipient was verified.
    pub(crate) fn recipient(&self, recipient: &Attested) {
        let Some(mut traced) = self.lock() else {
            return;
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        traced.recipient = match &recipient.pcrs {
            Pcrs::Enclave(pcrs) => {
                let mut told = vec![("attestationDocumentModuleId", recipient.module_id.clone())];
                let image = pcrs.get(&0);
                told.extend(image.map(|pcr| ("attestationDocumentEnclaveImageDigest", hex(pcr))));
                told
            }
            Pcrs::NitroTpm(pcrs) => {
                let told = TPM_PCRS.iter();
                told.filter_map(|(index, name)| Some((*name, hex(pcrs.get(index)?))))
                    .collect()
            }
        };
    }

    /// A command of the call was carried out.
    pub(crate) fn logged(&self, index: LogIndex) {
        if let Some(mut traced) = self.lock() {
            traced.logged = Some(index);
        }
    }
}

impl Service {
    /// The key that a request names in this Region, as far as this node knows: for its record, not for
    /// a decision. Of other accounts, only what the text itself says.
    pub fn key_named(&self, ctx: &RequestContext, text: &str) -> Option<KeyRef> {
        let account = ctx.caller.account;
        let state = self.inner.group.state();
        let key = resolve::key_named(&state, account, text)?;
        let own = key.account == account;
        (!own || state.key(key).is_some()).then_some(key)
    }
}
