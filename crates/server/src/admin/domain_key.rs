//! The Region's domain key as operators see and rotate it.
//!
//! `POST /domain-key` takes one of these:
//!
//! | `do` | with |
//! |---|---|
//! | `rotate` | |
//! | `abandon` | `version` |
//! | `destroy` | `version` |

use keyrum_service::{DomainKeyError, DomainKeyStatus, Service};
use keyrum_state::{DOMAIN_KEY_TOKENS_MS, DomainKeyStage, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refused;

/// What an operator wants.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Change {
    Rotate,
    Abandon { version: u32 },
    Destroy { version: u32 },
}

/// The versions, and what each waits for.
pub(super) async fn show(service: &Service) -> Result<Value, Refused> {
    let DomainKeyStatus {
        fingerprint,
        seals,
        now,
        versions,
    } = service.domain_key().await?;
    let versions: Vec<_> = versions
        .iter()
        .map(|version| {
            let since = match version.stage {
                DomainKeyStage::Retired { since } => Some(since),
                _ => None,
            };
            json!({
                "version": version.version,
                "fingerprint": version.fingerprint.to_string(),
                "stage": version.stage.name(),
                "waits_for": version.waits_for,
                "sealings": version.sealings,
                "here": version.here,
                "destroyable_at_ms": since.map(|since| since.plus_ms(DOMAIN_KEY_TOKENS_MS).0),
            })
        })
        .collect();
    Ok(json!({
        "fingerprint": fingerprint.to_string(),
        "seals": seals,
        "region_clock_ms": now.0,
        "versions": versions,
    }))
}

/// Does what is wanted; the answer tells which version it is about.
pub(super) async fn change(service: &Service, change: Change) -> Result<Value, Refused> {
    let version = match change {
        Change::Rotate => service.rotate_domain_key().await?,
        Change::Abandon { version } => {
            service.abandon_domain_key(version).await?;
            version
        }
        Change::Destroy { version } => {
            service.destroy_domain_key(version).await?;
            version
        }
    };
    Ok(json!({ "version": version }))
}

impl From<DomainKeyError> for Refused {
    fn from(error: DomainKeyError) -> Self {
        let status = match &error {
            DomainKeyError::Refused(Refusal::FeatureLevelTooLow { .. })
            | DomainKeyError::Service(_) => 503,
            DomainKeyError::Refused(_) => 409,
            DomainKeyError::Keys(_) => 500,
        };
        Self(status, error.to_string())
    }
}
