//! The words every other crate shares: identifiers, ARNs, Regions, key specs, units, and the two
//! seams through which the outside world enters (`Clock`, `Entropy`).
//!
//! Nothing here does I/O, reads a clock or draws randomness by itself.

mod alias;
mod arn;
pub mod byte_string;
#[macro_use]
mod key;
mod fingerprint;
mod grant;
mod import;
mod managed;
pub mod planted;
mod region;
mod sealed;
mod seams;
mod spec;
mod units;

pub use alias::{ALIAS_NAME_CHARS_MAX, AliasName, InvalidAliasName};
pub use arn::{Arn, Resource, alias_arn, key_arn, resource_of};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use grant::{GrantId, GrantOperation};
pub use import::{ExpirationModel, ImportType};
pub use key::{
    CryptographicOperation, InvalidKeyId, KeyId, KeySpec, KeyState, KeyUsage, MaterialId,
    MultiRegionRole, Origin, RotationKind,
};
pub use managed::{ManagedService, via_service};
pub use region::{InvalidRegion, Region};
pub use sealed::{SEALING_FORMAT, SealedMaterial};
pub use seams::{Clock, Entropy};
pub use spec::{
    DataKeyPairSpec, EncapsulationAlgorithm, EncryptionAlgorithm, KeyAgreementAlgorithm, KeyFamily,
    MacAlgorithm, MessageType, SigningAlgorithm, WrappingAlgorithm, WrappingKeySpec,
};
pub use units::{
    AccountId, InvalidAccountId, LogIndex, NodeId, RotationDays, RotationDaysOutOfRange,
    UnixMillis, WaitingDays, WaitingDaysOutOfRange,
};
