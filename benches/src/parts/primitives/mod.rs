//! **Question.** What does Keyrum add to the primitives it uses: in its own crate, with keys that are
//! taken apart already, and through the API? Beside each stands the fastest library's bare call, and
//! `openssl speed` for the same algorithm, in the same run.
//!
//! **Estimate.** A call through `crypto` adds a check of the algorithm and a copy of the answer: less
//! than 1 us, which shows only where the primitive takes a few (HMAC). A symmetric ciphertext has a key
//! of its own, derived with one HMAC: 1 us more than the bare GCM. A request costs about 10 us of
//! processor time above its primitive (`encrypt`: 15 us with one), so 15 us is what it may cost. An
//! RSA_2048 key takes what its primes take, some 50 ms, and a millisecond for the log. With the
//! search for primes on every core at low priority an Encrypt waits for a time slice at most: 5 ms; beside
//! many RSA_4096 signatures for one of them on each core and a time slice.

mod compared;
mod http;
mod library;
mod openssl;

use crate::report::Report;
use crate::{Failure, Setting};

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    compared::run(setting, report)?;
    http::calls(setting, report).await?;
    http::new_keys(setting, report).await
}
