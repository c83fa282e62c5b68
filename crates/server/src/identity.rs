//! Who asks where no signature says so: an access key id of 12 digits selects that account and any
//! other the default account, as its root. Callers whose signatures are checked are `sigv4`'s.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use keyrum_authz::VIA_SERVICE;
use keyrum_state::Caller;
use keyrum_types::{AccountId, Region};

use crate::error::ApiError;
use crate::sigv4::{Claim, invalid};

/// The error for a Region the cluster does not have.
pub(crate) fn wrong_region() -> ApiError {
    invalid("Credential should be scoped to a valid region. ")
}

/// Names the AWS service that a request is said to come through, such as `s3`; for stand-ins of such
/// services, which use their managed key on a caller's behalf.
const VIA: HeaderName = HeaderName::from_static("x-keyrum-via-service");

/// The caller behind a claim that is not checked: the root of the account it selects.
pub(crate) fn caller(claim: Option<&Claim<'_>>, default: AccountId, region: &Region) -> Caller {
    let selected = claim.and_then(|claim| claim.access_key().parse().ok());
    let account = selected.unwrap_or(default);
    Caller::root(region, account)
}

/// Refuses what only callers may say whose signatures are not checked: that they are a service.
pub(crate) fn speaks_for_itself(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(VIA) {
        return Err(ApiError::validation(
            "The header x-keyrum-via-service is for callers without declared credentials.",
        ));
    }
    Ok(())
}

/// The values that a request's headers give to conditions of policies.
///
/// Anyone may say so where anyone may say to be any account's root; whose signature is checked is not
/// believed it (`speaks_for_itself`).
pub(crate) fn conditions(
    headers: &HeaderMap,
    region: &Region,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let Some(via) = headers.get(VIA) else {
        return Ok(BTreeMap::new());
    };
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let name = via.to_str().ok();
    let name = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| plain(&byte)));
    let wrong = "The header x-keyrum-via-service must be a service's name such as s3.";
    let name = name.ok_or_else(|| ApiError::validation(wrong))?;
    let value = format!("{name}.{region}.amazonaws.com");
    Ok(BTreeMap::from([(VIA_SERVICE.to_owned(), vec![value])]))
}
