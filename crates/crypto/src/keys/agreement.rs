//! What can be wrong with a peer's public key.

/// Why a shared secret cannot be agreed on with this public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerKeyError {
    /// Not a SubjectPublicKeyInfo in DER.
    #[error("the public key is not a SubjectPublicKeyInfo in DER")]
    Malformed,
    /// A public key, but not on the key pair's own curve.
    #[error("the public key is not on the key pair's curve")]
    OtherCurve,
    /// On the right curve by name, but the point is none of its points.
    #[error("the public key is no point of its curve")]
    InvalidPoint,
}
