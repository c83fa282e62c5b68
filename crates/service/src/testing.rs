//! A Region's state made by commands, for this crate's tests.

use keyrum_crypto::{DomainKeyring, KeyName, MaterialSecret, TokenKey};
use keyrum_state::{
    Caller, Command, Event, KeyRef, NewMaterial, Outcome, Proposal, RequestId, State, apply,
};
use keyrum_types::{AliasName, Entropy, KeyId, KeySpec, KeyUsage, Origin, UnixMillis};
use zeroize::Zeroizing;

/// The account of [`TestRegion::caller`].
pub(crate) const OWN: &str = "111122223333";
/// Another account.
pub(crate) const OTHER: &str = "444455556666";

/// Counts up, so that every draw differs and every run is the same.
pub(crate) struct CountingEntropy(std::sync::atomic::AtomicU64);

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let step = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            *byte = (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
}

/// One Region, `us-east-1`, without a group.
pub(crate) struct TestRegion {
    pub(crate) state: State,
    pub(crate) keyring: DomainKeyring,
    pub(crate) tokens: TokenKey,
    pub(crate) entropy: CountingEntropy,
    sequence: u64,
}

/// A caller: the root of an account.
pub(crate) fn root_of(account: &str) -> Caller {
    Caller::root(&"us-east-1".parse().unwrap(), account.parse().unwrap())
}

impl TestRegion {
    pub(crate) fn new() -> Self {
        let entropy = CountingEntropy(1.into());
        let keyring = DomainKeyring::generate(&entropy);
        Self {
            state: State::new("us-east-1".parse().unwrap()),
            tokens: keyring.token_key(),
            keyring,
            entropy,
            sequence: 0,
        }
    }

    /// Applies a command of an account's root.
    pub(crate) fn apply_as(&mut self, account: &str, command: Command) -> Outcome {
        let request = RequestId {
            node: 1,
            boot: 1,
            sequence: self.sequence,
        };
        self.sequence += 1;
        let now = UnixMillis(1000 + self.sequence);
        let proposal = Proposal {
            request,
            caller: Some(root_of(account)),
            now,
            command,
        };
        apply(&mut self.state, &proposal).outcome
    }

    /// Applies a command of the own account that must be accepted.
    pub(crate) fn apply(&mut self, command: Command) -> Vec<Event> {
        self.apply_as(OWN, command)
            .expect("the command is accepted")
    }

    /// The material in the clear of the key that [`TestRegion::key`] makes with the same id.
    pub(crate) fn secret(id: KeyId) -> MaterialSecret {
        let mut bytes = [7; 32];
        bytes[..17].copy_from_slice(&id.to_bytes());
        MaterialSecret::from_bytes(Zeroizing::new(bytes))
    }

    /// A new symmetric key of the own account; its id is made of `byte`.
    pub(crate) fn key(&mut self, byte: u8) -> KeyRef {
        let kind = (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt);
        self.key_of(OWN, KeyId::single_region([byte; 16]), kind)
    }

    /// A new key of any account, id and kind.
    pub(crate) fn key_of(
        &mut self,
        account: &str,
        id: KeyId,
        (spec, usage): (KeySpec, KeyUsage),
    ) -> KeyRef {
        let secret = Self::secret(id);
        let material = secret.id(id);
        let name = KeyName {
            account: account.parse().unwrap(),
            key: id,
        };
        let sealed = self.keyring.seal(name, material, &secret, &self.entropy);
        let command = Command::CreateKey {
            key: id,
            spec,
            usage,
            origin: Origin::AwsKms,
            description: String::new(),
            policy: None,
            bypass_lockout_check: false,
            tags: Vec::new(),
            material: Some(NewMaterial {
                id: material,
                sealed,
            }),
        };
        self.apply_as(account, command).expect("the key is made");
        KeyRef {
            account: name.account,
            id,
        }
    }

    /// A new alias of the own account.
    pub(crate) fn alias(&mut self, name: &str, target: KeyRef) {
        let alias = AliasName::new(name).unwrap();
        self.apply(Command::CreateAlias { alias, target });
    }
}
