//! Words of imported key material.

use std::fmt;

use serde::{Deserialize, Serialize};

wire_names! {
    /// Whether imported material is new to its key. Source: AWS KMS API Reference,
    /// ImportKeyMaterial, `ImportType`.
    ImportType {
        /// The key never had it.
        New = "NEW_KEY_MATERIAL",
        /// The key has or had it.
        Existing = "EXISTING_KEY_MATERIAL",
    }
}

wire_names! {
    /// Whether imported material is deleted at a date. Source: AWS KMS API Reference,
    /// `ExpirationModel`.
    ExpirationModel {
        /// It is.
        Expires = "KEY_MATERIAL_EXPIRES",
        /// It stays until it is deleted by a caller.
        DoesNotExpire = "KEY_MATERIAL_DOES_NOT_EXPIRE",
    }
}
