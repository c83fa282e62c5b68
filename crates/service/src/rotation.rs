//! Operations on the rotation of a key's material. Rotation itself is later work.

use keyrum_types::key_arn;

use crate::resolve::Accounts;
use crate::{RequestContext, Service, ServiceError};

/// What GetKeyRotationStatus is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetKeyRotationStatusInput {
    /// The key's id or ARN.
    pub key_id: String,
}

/// What GetKeyRotationStatus answers: automatic rotation is off for every key so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetKeyRotationStatusOutput {
    /// Which key.
    pub key_arn: String,
    /// Whether its material is rotated automatically.
    pub enabled: bool,
}

impl Service {
    /// Whether a key's material is rotated automatically.
    pub async fn get_key_rotation_status(
        &self,
        ctx: &RequestContext,
        input: GetKeyRotationStatusInput,
    ) -> Result<GetKeyRotationStatusOutput, ServiceError> {
        self.with_key(
            ctx,
            &input.key_id,
            Accounts::Any,
            "GetKeyRotationStatus",
            |key| {
                let key_arn = key_arn(self.region(), key.account, key.id);
                Ok(GetKeyRotationStatusOutput {
                    key_arn,
                    enabled: false,
                })
            },
        )
        .await
    }
}
