//! New key material: made here, before a proposal, and sealed under the Region's domain key.

use std::time::Duration;

use keyrum_crypto::{KeyName, MaterialSecret, generate_material};
use keyrum_state::{KeyRef, NewMaterial};
use keyrum_types::{KeyFamily, KeySpec};
use tokio::time::timeout;

use crate::{Service, ServiceError};

/// How long a request waits for an RSA key pair. Proposing it takes time as well, and callers give
/// up after five seconds.
const GENERATION_MAX: Duration = Duration::from_secs(4);

impl Service {
    /// New material of a spec.
    ///
    /// An RSA key's primes take so long to find that other requests would wait for it: they are
    /// looked for on a thread that steps back behind those which answer. Everything else is made
    /// at once.
    pub(crate) async fn generate(&self, spec: KeySpec) -> Result<MaterialSecret, ServiceError> {
        let entropy = self.inner.world.entropy.clone();
        let partition = self.region().partition();
        if spec.family() != KeyFamily::Rsa {
            return generate_material(spec, partition, &*entropy).map_err(failed);
        }
        let work = move || generate_material(spec, partition, &*entropy);
        let made = timeout(GENERATION_MAX, self.inner.world.blocking.run_long(work));
        match made.await {
            Ok(Ok(made)) => made.map_err(failed),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(ServiceError::GenerationTimeout),
        }
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
