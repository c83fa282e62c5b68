//! One access key and a checker of signatures, without a node: for benchmarks and fuzzing, which see
//! this crate from outside.

use std::sync::Arc;

use futures_util::FutureExt as _;
use hyper::Request;
use hyper::body::Bytes;
use keyrum_consensus::world::BoxFuture;
use keyrum_state::Caller;
use keyrum_types::UnixMillis;

use super::{AcceptedCredentials, Claim, CredentialError, Credentials, Found, Verifier};
use crate::http::{Incoming, Origin, RequestUid};

/// A request that has arrived, to be checked.
pub struct Arrived(Incoming);

impl Arrived {
    /// A whole request that arrives `at` this time.
    pub fn new(request: Request<Bytes>, at: UnixMillis) -> Self {
        let (parts, body) = request.into_parts();
        Self(Incoming {
            parts,
            body,
            id: RequestUid::from_bytes([0; 16]),
            at,
            from: Origin::default(),
        })
    }
}

/// Checks requests as an endpoint does that knows one access key.
pub struct SignatureTrial {
    verifier: Verifier,
    key: OneKey,
}

struct OneKey {
    access_key: String,
    secret: String,
}

impl SignatureTrial {
    /// With this access key and no other.
    pub fn new(access_key: &str, secret: &str) -> Self {
        Self {
            verifier: Verifier::default(),
            key: OneKey {
                access_key: access_key.to_owned(),
                secret: secret.to_owned(),
            },
        }
    }

    /// Checks a request; on refusal, the error's code.
    pub fn check(&self, request: &Arrived) -> Result<(), &'static str> {
        let request = &request.0;
        let claim = Claim::of(&request.parts).map_err(|error| error.code)?;
        let accepted = AcceptedCredentials::Declared;
        let identified = self
            .verifier
            .identify(request, claim.as_ref(), accepted, &self.key);
        let identified = identified.now_or_never().expect("the key is here");
        identified.map(drop).map_err(|error| error.code)
    }
}

impl Credentials for OneKey {
    fn find<'a>(
        &'a self,
        access_key: &'a str,
        session_token: Option<&'a str>,
        _thorough: bool,
    ) -> BoxFuture<'a, Result<Found, CredentialError>> {
        let known = access_key == self.access_key && session_token.is_none();
        Box::pin(async move {
            if !known {
                return Err(CredentialError::Unknown);
            }
            Ok(Found {
                secret: Arc::new(self.secret.as_bytes().to_vec().into()),
                caller: Caller {
                    account: "000000000000".parse().expect("twelve digits"),
                    arn: String::new(),
                    conditions: Default::default(),
                    grant_tokens: Vec::new(),
                    details: Default::default(),
                },
            })
        })
    }
}
