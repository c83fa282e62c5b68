//! The official AWS SDK, pointed at a cluster.

use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{Credentials, Region};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

/// The first Region of every cluster in these tests.
pub const HERE: &str = "us-east-1";

/// The second Region, where there are two.
pub const THERE: &str = "eu-west-1";

/// A client that never retries, so that tests see every answer.
///
/// `account` is the access key id: 12 digits select an account, anything else the default one.
pub fn client(endpoint: &str, region: &str, account: &str) -> Client {
    signing_client(endpoint, region, (account, "secret", None))
}

/// The same with an access key, its secret and perhaps a session's token.
pub fn signing_client(
    endpoint: &str,
    region: &str,
    (access_key, secret, token): (&str, &str, Option<&str>),
) -> Client {
    let token = token.map(str::to_owned);
    let credentials = Credentials::new(access_key, secret, token, None, "tests");
    // Longer than the five seconds within which a cluster without quorum answers.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(20))
        .build();
    let config = aws_sdk_kms::Config::builder()
        .behavior_version_latest()
        .endpoint_url(endpoint)
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .build();
    Client::from_conf(config)
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The service said no: the error's code and message.
    Answer(String, Option<String>),
    /// Nobody took the request: it cannot have had an effect.
    Unsent(String),
    /// There was no answer.
    Silence(String),
}

/// Tells an answer from silence.
pub fn failed<E, R>(error: SdkError<E, R>) -> Failed
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match &error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let code = meta.code().unwrap_or_default().to_owned();
            Failed::Answer(code, meta.message().map(str::to_owned))
        }
        _ if refused_connection(&error) => Failed::Unsent(format!("{error:?}")),
        _ => Failed::Silence(format!("{error:?}")),
    }
}

/// Whether nobody listened.
fn refused_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let error = error.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// Asserts that a call was refused with this code and, unless empty, exactly this message. An
/// empty message means that the answer must have none.
#[track_caller]
pub fn refused<T, E, R>(result: Result<T, SdkError<E, R>>, code: &str, message: &str)
where
    T: std::fmt::Debug,
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let error = result.expect_err("a refusal");
    let message = (!message.is_empty()).then(|| message.to_owned());
    assert_eq!(failed(error), Failed::Answer(code.to_owned(), message));
}

/// Calls until the answer is not that it took too long: on a busy machine the primes of an RSA key
/// do, and clients of the real service try again, too.
pub async fn patiently<T, E, R>(mut call: impl AsyncFnMut() -> Result<T, SdkError<E, R>>) -> T
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    crate::wait::until("key pair", crate::wait::LONG, async || {
        match call().await.map_err(failed) {
            Ok(answer) => Some(answer),
            Err(Failed::Answer(code, _)) if code == "DependencyTimeoutException" => None,
            Err(error) => panic!("{error:?}"),
        }
    })
    .await
}

/// Makes a key and then as many log entries about it: a snapshot is due after so many entries, or
/// after as many as there are keys, so entries that make no keys bring one about sooner.
pub async fn churn(kms: &Client, entries: u32) -> String {
    let made = kms.create_key().send().await.expect("a key can be made");
    let id = made
        .key_metadata()
        .expect("an answer describes the key")
        .key_id()
        .to_owned();
    for number in 1..=entries {
        let call = kms
            .update_key_description()
            .key_id(&id)
            .description(number.to_string());
        call.send().await.expect("it can be described anew");
    }
    id
}

/// An account of its own for a test, so that tests can share a cluster.
///
/// It is made from a hash of the test's name, which the caller gives.
pub fn account_of(test: &str) -> String {
    // FNV-1a: short, and the same in every run.
    let hash = test.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:012}", hash % 899_999_999_999 + 100_000_000_000)
}
