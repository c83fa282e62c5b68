//! New key material: made here, before a proposal, and sealed under the Region's domain key.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyrum_crypto::{KeyName, MaterialSecret, UseError, generate_material};
use keyrum_state::{KeyRef, NewMaterial};
use keyrum_types::{KeyFamily, KeySpec};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Service, ServiceError};

/// How long a request waits for an RSA key pair. Proposing it takes time as well, and callers give
/// up after five seconds.
const GENERATION_MAX: Duration = Duration::from_secs(4);

/// How many key pairs of a spec are kept that came too late.
const LATE_MAX: usize = 16;

/// RSA key pairs that were found when their callers had given up: they are there when these try
/// again.
#[derive(Default)]
pub(crate) struct Late(Mutex<BTreeMap<KeySpec, Vec<MaterialSecret>>>);

impl Late {
    fn all(&self) -> MutexGuard<'_, BTreeMap<KeySpec, Vec<MaterialSecret>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, spec: KeySpec, secret: MaterialSecret) {
        let mut all = self.all();
        let of_spec = all.entry(spec).or_default();
        if of_spec.len() < LATE_MAX {
            of_spec.push(secret);
        }
    }

    fn take(&self, spec: KeySpec) -> Option<MaterialSecret> {
        self.all().get_mut(&spec)?.pop()
    }
}

impl Service {
    /// New material of a spec.
    ///
    /// An RSA key's primes take so long to find that other requests would wait for it: they are
    /// looked for on a thread that steps back behind those which answer. Everything else is made
    /// at once.
    pub(crate) async fn generate(&self, spec: KeySpec) -> Result<MaterialSecret, ServiceError> {
        if spec.family() == KeyFamily::Rsa {
            let found = timeout(GENERATION_MAX, self.look_for(spec)).await;
            return found.unwrap_or(Err(ServiceError::GenerationTimeout));
        }
        let partition = self.region().partition();
        let entropy = &*self.inner.world.entropy;
        generate_material(spec, partition, entropy).map_err(failed)
    }

    /// An RSA key pair: one that came too late for another request, or a new one.
    async fn look_for(&self, spec: KeySpec) -> Result<MaterialSecret, ServiceError> {
        if let Some(secret) = self.inner.late.take(spec) {
            return Ok(secret);
        }
        let (give, taken) = oneshot::channel();
        let inner = self.inner.clone();
        let work = move || {
            let partition = inner.group.region().partition();
            let secret = generate_material(spec, partition, &*inner.world.entropy)?;
            // It comes back if nobody waits for it any more.
            if let Err(secret) = give.send(secret) {
                inner.late.put(spec, secret);
            }
            Ok::<_, UseError>(())
        };
        let done = self.inner.world.blocking.run_long(work).await;
        done.map_err(failed)?.map_err(failed)?;
        taken.await.map_err(failed)
    }

    /// Material as it goes into the log: under its name and sealed.
    pub(crate) fn seal_material(&self, key: KeyRef, secret: &MaterialSecret) -> NewMaterial {
        let id = secret.id(key.id);
        let name = KeyName {
            account: key.account,
            key: key.id,
        };
        let entropy = &*self.inner.world.entropy;
        let sealed = self.inner.keyring.seal(name, id, secret, entropy);
        NewMaterial { id, sealed }
    }

    /// New random material for a symmetric encryption key, sealed.
    pub(crate) fn new_symmetric_material(&self, key: KeyRef) -> NewMaterial {
        let partition = self.region().partition();
        let entropy = &*self.inner.world.entropy;
        let secret = generate_material(KeySpec::SymmetricDefault, partition, entropy)
            .expect("random bytes are all that it takes");
        self.seal_material(key, &secret)
    }
}

fn failed(error: impl std::fmt::Display) -> ServiceError {
    tracing::error!(%error, "cannot make new material");
    ServiceError::Internal
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    /// Catches a key pair that is given to two callers, lost although there is room, or kept
    /// without bound.
    #[test]
    fn what_comes_late_is_taken_once() {
        let late = Late::default();
        let secret = |byte| MaterialSecret::from_bytes(Zeroizing::new([byte; 32]));
        let id = |secret: MaterialSecret| secret.id(keyrum_types::KeyId::single_region([1; 16]));
        assert!(late.take(KeySpec::Rsa2048).is_none());
        late.put(KeySpec::Rsa2048, secret(1));
        late.put(KeySpec::Rsa2048, secret(2));
        assert!(late.take(KeySpec::Rsa3072).is_none());
        let taken = [(); 2].map(|()| id(late.take(KeySpec::Rsa2048).unwrap()));
        assert_ne!(taken[0], taken[1]);
        assert!(late.take(KeySpec::Rsa2048).is_none());
        for byte in 0..100 {
            late.put(KeySpec::Rsa4096, secret(byte));
        }
        assert_eq!(late.all()[&KeySpec::Rsa4096].len(), LATE_MAX);
    }
}
