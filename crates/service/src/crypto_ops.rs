//! Operations that use a key's material. Here: Encrypt, Decrypt, ReEncrypt, GenerateDataKey and
//! GenerateRandom; the others in modules of their own.
//!
//! Each is a read of the state followed by `crypto`. An attested recipient's document is verified
//! before all else (`recipient`). The other checks are functions of the state; their
//! order is the API's: key lookup, authorization, parameters, usage, state, algorithm, type and
//! length of the message, ciphertext or signature, and the dry run's answer last.
//!
//! Private keys are used in place, on the thread that answers: the slowest, RSA_4096, takes about
//! a millisecond, and a thread of its own would cost two changes of thread and wait for the same
//! cores. Slow ones take turns, so that others' calls do not wait for all of them. Only the search
//! for RSA primes runs elsewhere (`generation`).

use std::sync::Arc;

use keyrum_consensus::ReadMode;
use keyrum_crypto::{EncryptionContext, MadeBy, UsableKey, UseError, encrypt};
use keyrum_state::{Key, NewMaterial, permit_account};
use keyrum_types::{CryptographicOperation, EncryptionAlgorithm, KeySpec, MaterialId, key_arn};
use zeroize::Zeroizing;

use crate::materials::Ready;
use crate::resolve::{Asked, NONE};
use crate::{DataKeySpec, RecipientInput, RequestContext, SecretOutput, Service, ServiceError};

mod agreement;
mod checks;
mod data_key_pair;
mod mac;
mod public_key;
mod signing;

pub use agreement::{
    DecapsulateInput, DeriveSharedSecretInput, DeriveSharedSecretOutput, EncapsulateInput,
    EncapsulateOutput, SharedSecretOutput,
};
pub use checks::ENCRYPTION_CONTEXT_BYTES_MAX;
use checks::{
    Blob, Destination, Opening, Sealed, Source, ciphertext_of, data_key_bytes, name_of,
    re_encrypt_checks,
};
pub use data_key_pair::{GenerateDataKeyPairInput, GenerateDataKeyPairOutput};
pub use mac::{GenerateMacInput, MacOutput, VerifyMacInput};
pub use public_key::{GetPublicKeyInput, GetPublicKeyOutput};
pub use signing::{SignInput, SignOutput, VerifyInput, VerifyOutput};

/// What Encrypt is asked.
pub struct EncryptInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// 1 to 4096 bytes.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// What decryption must name again.
    pub context: EncryptionContext,
    /// SYMMETRIC_DEFAULT if the request names none.
    pub algorithm: EncryptionAlgorithm,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What Encrypt answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptOutput {
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// The key that made it.
    pub key_arn: String,
    /// How.
    pub algorithm: EncryptionAlgorithm,
}

/// What Decrypt is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecryptInput {
    /// May be absent only in a dry run that ignores it.
    pub ciphertext: Option<Vec<u8>>,
    /// What encryption named.
    pub context: EncryptionContext,
    /// If present, the key that must have made the ciphertext.
    pub key_id: Option<String>,
    /// SYMMETRIC_DEFAULT if the request names none.
    pub algorithm: EncryptionAlgorithm,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// For whom the answer's secret shall be encrypted.
    pub recipient: Option<RecipientInput>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
    /// In a dry run: whether to look at authorization only.
    pub ignore_ciphertext: bool,
}

/// What Decrypt answers.
pub struct DecryptOutput {
    /// The key that made the ciphertext, in this Region.
    pub key_arn: String,
    /// What was encrypted.
    pub plaintext: SecretOutput,
    /// How.
    pub algorithm: EncryptionAlgorithm,
    /// The version of the key's material that made it; symmetric keys only, and not for a recipient.
    pub material: Option<MaterialId>,
}

/// What ReEncrypt is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReEncryptInput {
    /// May be absent only in a dry run that ignores it.
    pub ciphertext: Option<Vec<u8>>,
    /// What its encryption named.
    pub source_context: EncryptionContext,
    /// If present, the key that must have made the ciphertext.
    pub source_key_id: Option<String>,
    /// SYMMETRIC_DEFAULT if the request names none.
    pub source_algorithm: EncryptionAlgorithm,
    /// The key to encrypt with: a key id, key ARN, alias or alias ARN.
    pub destination_key_id: String,
    /// What decryption of the new ciphertext must name.
    pub destination_context: EncryptionContext,
    /// SYMMETRIC_DEFAULT if the request names none.
    pub destination_algorithm: EncryptionAlgorithm,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
    /// In a dry run: whether to look at authorization only.
    pub ignore_ciphertext: bool,
}

/// What ReEncrypt answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReEncryptOutput {
    /// The new ciphertext.
    pub ciphertext: Vec<u8>,
    /// The key that made the former one.
    pub source_key_arn: String,
    /// The key that made the new one.
    pub key_arn: String,
    /// How the former one was made.
    pub source_algorithm: EncryptionAlgorithm,
    /// How the new one was made.
    pub destination_algorithm: EncryptionAlgorithm,
    /// The version of material that made the former one; symmetric keys only.
    pub source_material: Option<MaterialId>,
    /// The version of material that made the new one; symmetric keys only.
    pub destination_material: Option<MaterialId>,
}

/// What GenerateDataKey and GenerateDataKeyWithoutPlaintext are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateDataKeyInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// What decryption must name again.
    pub context: EncryptionContext,
    /// The data key's length in bytes, 1 to 1024; this or `spec`.
    pub number_of_bytes: Option<u32>,
    /// The data key's kind; this or `number_of_bytes`.
    pub spec: Option<DataKeySpec>,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// For whom the answer's secret shall be encrypted.
    pub recipient: Option<RecipientInput>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What GenerateDataKey answers.
pub struct GenerateDataKeyOutput {
    /// The data key, encrypted.
    pub ciphertext: Vec<u8>,
    /// The data key. The form without plaintext leaves it out of its answer.
    pub plaintext: SecretOutput,
    /// The key that encrypted it.
    pub key_arn: String,
    /// The version of that key's material; not for a recipient.
    pub material: Option<MaterialId>,
}

/// What GenerateRandom is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GenerateRandomInput {
    /// 1 to 1024; required.
    pub number_of_bytes: Option<u32>,
    /// A custom key store to draw from.
    pub custom_key_store_id: Option<String>,
    /// For whom the answer's secret shall be encrypted.
    pub recipient: Option<RecipientInput>,
}

impl Service {
    /// Encrypts a few bytes under a key.
    pub async fn encrypt(
        &self,
        ctx: &RequestContext,
        input: EncryptInput,
    ) -> Result<EncryptOutput, ServiceError> {
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let wanted = Destination {
            operation: "Encrypt",
            asked: Asked {
                action: "Encrypt",
                text: &input.key_id,
                context: Some(&input.context),
                named: [("kms:encryptionalgorithm", input.algorithm.name()), NONE],
                recipient: None,
            },
            algorithm: input.algorithm,
            context: &input.context,
        };
        let found = wanted.look_up(&state, &ctx.caller)?;
        self.judge_tokens(&input.grant_tokens).await?.check()?;
        wanted.check_parameters(&state, found)?;
        let material = wanted.check_use(found)?;
        wanted.check_plaintext(found, input.plaintext.len())?;
        self.begin_use(ctx, found, material)?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let plaintext = &input.plaintext;
        let ciphertext = self.seal_under(found, material, &wanted, plaintext, MadeBy::Encrypt)?;
        self.note_use(ctx, &state, found, CryptographicOperation::Encrypt);
        let key_arn = key_arn(state.region(), found.account, found.id);
        Ok(EncryptOutput {
            ciphertext,
            key_arn,
            algorithm: input.algorithm,
        })
    }

    /// Decrypts what Encrypt, ReEncrypt or GenerateDataKey made.
    pub async fn decrypt(
        &self,
        ctx: &RequestContext,
        input: DecryptInput,
    ) -> Result<DecryptOutput, ServiceError> {
        let recipient = self.attest(ctx, input.recipient.as_ref())?;
        if input.key_id.is_none()
            && (input.ignore_ciphertext || input.algorithm != EncryptionAlgorithm::SymmetricDefault)
        {
            return Err(ServiceError::KeyIdRequired);
        }
        let blob = ciphertext_of(&input.ciphertext, input.dry_run, input.ignore_ciphertext)?;
        let wanted = Source {
            text: input.key_id.as_deref(),
            asked: Asked {
                action: "Decrypt",
                text: input.key_id.as_deref().unwrap_or_default(),
                context: Some(&input.context),
                named: [("kms:encryptionalgorithm", input.algorithm.name()), NONE],
                recipient: recipient.as_ref(),
            },
            algorithm: input.algorithm,
            context: &input.context,
            tokens: self.judge_tokens(&input.grant_tokens).await?,
            blob: blob.map(Blob::new),
        };
        let mut state = self.read_with(ctx, &input.grant_tokens).await?;
        let mut found = wanted.check(&state, &ctx.caller);
        if ctx.mode != ReadMode::Linearizable && wanted.may_be_stale(&found) {
            state = self.inner.group.read(ReadMode::Linearizable).await?;
            found = wanted.check(&state, &ctx.caller);
        }
        let found = found?;
        self.begin_use(ctx, found.key, found.material)?;
        let plaintext = self.open(&found, &wanted).await?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let plaintext = self.hand_over(plaintext, recipient.as_ref())?;
        self.note_use(ctx, &state, found.key, CryptographicOperation::Decrypt);
        let material = shown_material(found.key, found.material);
        Ok(DecryptOutput {
            key_arn: key_arn(state.region(), found.key.account, found.key.id),
            plaintext,
            algorithm: input.algorithm,
            material: material.filter(|_| recipient.is_none()),
        })
    }

    /// Decrypts a ciphertext and encrypts it again, without showing the plaintext.
    pub async fn re_encrypt(
        &self,
        ctx: &RequestContext,
        input: ReEncryptInput,
    ) -> Result<ReEncryptOutput, ServiceError> {
        if input.source_key_id.is_none()
            && (input.ignore_ciphertext
                || input.source_algorithm != EncryptionAlgorithm::SymmetricDefault)
        {
            return Err(ServiceError::SourceKeyIdRequired);
        }
        let blob = ciphertext_of(&input.ciphertext, input.dry_run, input.ignore_ciphertext)?;
        let source = Source {
            text: input.source_key_id.as_deref(),
            asked: Asked {
                action: "ReEncryptFrom",
                text: input.source_key_id.as_deref().unwrap_or_default(),
                context: Some(&input.source_context),
                named: [
                    ("kms:encryptionalgorithm", input.source_algorithm.name()),
                    NONE,
                ],
                recipient: None,
            },
            algorithm: input.source_algorithm,
            context: &input.source_context,
            tokens: self.judge_tokens(&input.grant_tokens).await?,
            blob: blob.map(Blob::new),
        };
        let destination = Destination {
            operation: "ReEncrypt",
            asked: Asked {
                action: "ReEncryptTo",
                text: &input.destination_key_id,
                context: Some(&input.destination_context),
                named: [
                    (
                        "kms:encryptionalgorithm",
                        input.destination_algorithm.name(),
                    ),
                    NONE,
                ],
                recipient: None,
            },
            algorithm: input.destination_algorithm,
            context: &input.destination_context,
        };
        let mut state = self.read_with(ctx, &input.grant_tokens).await?;
        let mut found = re_encrypt_checks(&state, &ctx.caller, &source, &destination);
        if ctx.mode != ReadMode::Linearizable && source.may_be_stale(&found) {
            state = self.inner.group.read(ReadMode::Linearizable).await?;
            found = re_encrypt_checks(&state, &ctx.caller, &source, &destination);
        }
        let (from, to, to_material) = found?;
        ctx.trace.use_of(from.key, from.material);
        ctx.trace.use_of(to, to_material);
        self.admit_uses(ctx, from.key, to)?;
        let plaintext = self.open(&from, &source).await?;
        destination.check_plaintext(to, plaintext.len())?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let made_by = MadeBy::Encrypt;
        let ciphertext = self.seal_under(to, to_material, &destination, &plaintext, made_by)?;
        for key in [from.key, to] {
            self.note_use(ctx, &state, key, CryptographicOperation::ReEncrypt);
        }
        Ok(ReEncryptOutput {
            ciphertext,
            source_key_arn: key_arn(state.region(), from.key.account, from.key.id),
            key_arn: key_arn(state.region(), to.account, to.id),
            source_algorithm: input.source_algorithm,
            destination_algorithm: input.destination_algorithm,
            source_material: shown_material(from.key, from.material),
            destination_material: shown_material(to, to_material),
        })
    }

    /// Makes a data key: random bytes, in the clear and encrypted.
    pub async fn generate_data_key(
        &self,
        ctx: &RequestContext,
        input: GenerateDataKeyInput,
    ) -> Result<GenerateDataKeyOutput, ServiceError> {
        self.data_key(ctx, input, CryptographicOperation::GenerateDataKey)
            .await
    }

    /// The same; the caller shall leave the plaintext out of the answer.
    pub async fn generate_data_key_without_plaintext(
        &self,
        ctx: &RequestContext,
        input: GenerateDataKeyInput,
    ) -> Result<GenerateDataKeyOutput, ServiceError> {
        let operation = CryptographicOperation::GenerateDataKeyWithoutPlaintext;
        self.data_key(ctx, input, operation).await
    }

    async fn data_key(
        &self,
        ctx: &RequestContext,
        input: GenerateDataKeyInput,
        operation: CryptographicOperation,
    ) -> Result<GenerateDataKeyOutput, ServiceError> {
        let recipient = self.attest(ctx, input.recipient.as_ref())?;
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let algorithm = EncryptionAlgorithm::SymmetricDefault;
        let wanted = Destination {
            operation: operation.name(),
            asked: Asked {
                action: operation.name(),
                text: &input.key_id,
                context: Some(&input.context),
                named: [("kms:encryptionalgorithm", algorithm.name()), NONE],
                recipient: recipient.as_ref(),
            },
            algorithm,
            context: &input.context,
        };
        let found = wanted.look_up(&state, &ctx.caller)?;
        self.judge_tokens(&input.grant_tokens).await?.check()?;
        let bytes = data_key_bytes(input.number_of_bytes, input.spec)?;
        wanted.check_parameters(&state, found)?;
        let material = wanted.check_use(found).map_err(|error| match error {
            ServiceError::AlgorithmNotForSpec { .. } => ServiceError::DataKeyFromAsymmetric,
            error => error,
        })?;
        self.begin_use(ctx, found, material)?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let plaintext = self.random(bytes);
        let made_by = MadeBy::GenerateDataKey;
        let ciphertext = self.seal_under(found, material, &wanted, &plaintext, made_by)?;
        let plaintext = self.hand_over(plaintext, recipient.as_ref())?;
        self.note_use(ctx, &state, found, operation);
        let key_arn = key_arn(state.region(), found.account, found.id);
        Ok(GenerateDataKeyOutput {
            ciphertext,
            plaintext,
            key_arn,
            material: recipient.is_none().then_some(material.id),
        })
    }

    /// Random bytes. Needs no key; and for an account's root, which nothing can deny that, no state and
    /// no quorum.
    pub async fn generate_random(
        &self,
        ctx: &RequestContext,
        input: GenerateRandomInput,
    ) -> Result<SecretOutput, ServiceError> {
        let recipient = self.attest(ctx, input.recipient.as_ref())?;
        if !ctx.caller.is_root() {
            let state = self.read(ctx).await?;
            let asked = Asked {
                recipient: recipient.as_ref(),
                ..Asked::of("GenerateRandom", "")
            };
            let _permit = permit_account(&state, &ctx.caller, asked.action, "*", &asked)?;
        }
        self.admit_random(ctx)?;
        let bytes = input
            .number_of_bytes
            .ok_or(ServiceError::NumberOfBytesRequired)?;
        if input.custom_key_store_id.is_some() {
            return Err(ServiceError::NotYet {
                what: "A custom key store",
            });
        }
        self.hand_over(self.random(bytes), recipient.as_ref())
    }

    /// Before a key's material is used, once all else is checked.
    fn begin_use(
        &self,
        ctx: &RequestContext,
        key: &Key,
        material: &NewMaterial,
    ) -> Result<(), ServiceError> {
        ctx.trace.use_of(key, material);
        self.admit_use(ctx, key)
    }

    fn random(&self, bytes: u32) -> Zeroizing<Vec<u8>> {
        let mut random = Zeroizing::new(vec![0; bytes as usize]);
        self.inner.world.entropy.fill(&mut random);
        random
    }

    async fn open(
        &self,
        found: &Opening<'_>,
        wanted: &Source<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        match (&*self.ready(found.key, found.material)?, &found.sealed) {
            (Ready::Secret(secret), Sealed::Symmetric(parsed)) => {
                Ok(parsed.decrypt(secret, wanted.context)?)
            }
            (Ready::Key(key), Sealed::Asymmetric(bytes)) => {
                self.in_turn(key, |key| key.decrypt(wanted.algorithm, bytes))
                    .await
            }
            _ => Err(ServiceError::Internal),
        }
    }

    fn seal_under(
        &self,
        key: &Key,
        material: &NewMaterial,
        wanted: &Destination<'_>,
        plaintext: &[u8],
        made_by: MadeBy,
    ) -> Result<Vec<u8>, ServiceError> {
        let entropy = &*self.inner.world.entropy;
        match &*self.ready(key, material)? {
            Ready::Secret(secret) => {
                let (id, name, context) = (material.id, name_of(key), wanted.context);
                Ok(encrypt(
                    secret, id, name, context, plaintext, made_by, entropy,
                ))
            }
            Ready::Key(key) => {
                let made = key.encrypt(wanted.algorithm, plaintext, entropy);
                made.map_err(use_error)
            }
        }
    }

    /// Uses a key of any spec but SYMMETRIC_DEFAULT, at once.
    fn use_key<T>(
        &self,
        key: &Key,
        material: &NewMaterial,
        work: impl FnOnce(&UsableKey) -> Result<T, UseError>,
    ) -> Result<T, ServiceError> {
        match &*self.ready(key, material)? {
            Ready::Key(key) => work(key).map_err(use_error),
            Ready::Secret(_) => Err(ServiceError::Internal),
        }
    }

    /// Uses the private half of a key pair, when its turn comes if it is slow.
    async fn use_private<T>(
        &self,
        key: &Key,
        material: &NewMaterial,
        work: impl FnOnce(&UsableKey) -> Result<T, UseError>,
    ) -> Result<T, ServiceError> {
        match &*self.ready(key, material)? {
            Ready::Key(key) => self.in_turn(key, work).await,
            Ready::Secret(_) => Err(ServiceError::Internal),
        }
    }

    async fn in_turn<T>(
        &self,
        key: &UsableKey,
        work: impl FnOnce(&UsableKey) -> Result<T, UseError>,
    ) -> Result<T, ServiceError> {
        let done = match key.is_slow() {
            true => self.inner.world.blocking.run_slow(|| work(key)).await,
            false => work(key),
        };
        done.map_err(use_error)
    }

    /// The material ready for use, from memory or prepared.
    fn ready(&self, key: &Key, material: &NewMaterial) -> Result<Arc<Ready>, ServiceError> {
        let materials = &self.inner.materials;
        materials.get(key.reference(), material.id, || self.prepare(key, material))
    }

    fn prepare(&self, key: &Key, material: &NewMaterial) -> Result<Ready, ServiceError> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(key = %key.id, material = %material.id, %error, "unusable material");
            ServiceError::Internal
        };
        let keyring = &self.inner.keyring;
        let secret = keyring.unseal(name_of(key), material.id, &material.sealed);
        let secret = secret.map_err(|error| failed(&error))?;
        if key.spec == KeySpec::SymmetricDefault {
            return Ok(Ready::Secret(secret));
        }
        let usable = UsableKey::new(key.spec, &secret);
        Ok(Ready::Key(usable.map_err(|error| failed(&error))?))
    }
}

/// Which version of material an answer names: symmetric keys have several, all others one.
fn shown_material(key: &Key, material: &NewMaterial) -> Option<MaterialId> {
    (key.spec == KeySpec::SymmetricDefault).then_some(material.id)
}

/// What a key's "no" means after the checks, which leave only what a key alone can tell.
pub(crate) fn use_error(error: UseError) -> ServiceError {
    match error {
        UseError::InvalidCiphertext
        // A ciphertext made outside may hold nothing, which cannot be encrypted again.
        | UseError::PlaintextLength { .. } => ServiceError::InvalidCiphertext,
        UseError::Peer(_) => ServiceError::InvalidPeerKey,
        UseError::OtherAlgorithm { .. }
        | UseError::OtherMessageType { .. }
        | UseError::DigestLength { .. }
        | UseError::Library(_) => {
            tracing::error!(%error, "a key did not do what it must");
            ServiceError::Internal
        }
    }
}
