//! HTTP as bytes: for requests that no SDK would send.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_kms::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings};
use aws_sigv4::sign::v4;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyrum_consensus::world::World;
use serde_json::Value;

/// What a request is made of. Nothing is added but the host.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Such as `POST`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// In order.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// HTTP/2 with prior knowledge, else HTTP/1.1.
    pub http2: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The version it was sent with.
    pub version: Version,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Raw {
    /// An unsigned request of STS, by its form.
    pub fn sts(form: impl Into<Vec<u8>>) -> Self {
        let kind = "application/x-www-form-urlencoded".to_owned();
        Self {
            method: "POST",
            path: "/".to_owned(),
            headers: vec![("content-type", kind)],
            body: form.into(),
            http2: false,
        }
    }

    /// An unsigned KMS request, which goes to the first Region.
    pub fn kms(operation: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST",
            path: "/".to_owned(),
            headers: vec![
                ("content-type", "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target", format!("TrentService.{operation}")),
            ],
            body: body.into(),
            http2: false,
        }
    }

    /// A request for what an endpoint offers beside the APIs, such as `reset`.
    pub fn beside(method: &'static str, name: &str) -> Self {
        Self {
            method,
            path: format!("/_keyrum/{name}"),
            headers: Vec::new(),
            body: Vec::new(),
            http2: false,
        }
    }

    /// The same, as this account in this Region. The signature is made up, which a cluster that
    /// takes any credentials does not mind.
    pub fn signed(mut self, account: &str, region: &str) -> Self {
        let scope = format!("{account}/20260101/{region}/kms/aws4_request");
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={}",
            "0".repeat(64)
        );
        self.headers.push(("authorization", value));
        self.headers
            .push(("x-amz-date", "20260101T000000Z".to_owned()));
        self
    }

    /// The same with a signature for a service that is right now, and the session's token among the
    /// headers if the credentials have one.
    pub fn signed_with(
        mut self,
        credentials: &Credentials,
        (url, region, service): (&str, &str, &str),
    ) -> Self {
        let now = World::real().clock.now();
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(UNIX_EPOCH + Duration::from_millis(now.0))
            .settings(SigningSettings::default())
            .build()
            .expect("all is there")
            .into();
        let headers = self.headers.iter().map(|(name, value)| (*name, &**value));
        let signable = SignableRequest::new(
            self.method,
            format!("{url}{}", self.path),
            headers,
            SignableBody::Bytes(&self.body),
        );
        let signable = signable.expect("a plain request");
        let signed = aws_sigv4::http_request::sign(signable, &params);
        let (instructions, _) = signed.expect("it can be signed").into_parts();
        let (headers, _) = instructions.into_parts();
        for header in headers {
            self.headers
                .push((header.name(), header.value().to_owned()));
        }
        self
    }

    /// With one more header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends it over a new connection.
    pub async fn send(&self, url: &str) -> Result<Answer, String> {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, self.exchange(url))
            .await
            .map_err(|_| format!("no answer within {limit:?}"))?
            .map_err(|error| error.to_string())
    }

    async fn exchange(&self, url: &str) -> Result<Answer, Box<dyn std::error::Error>> {
        let host = url.strip_prefix("http://").ok_or("not an http URL")?;
        let stream = TokioIo::new(World::real().network.connect(host).await?);
        let uri = if self.http2 {
            format!("{url}{}", self.path)
        } else {
            self.path.clone()
        };
        let mut request = Request::builder().method(self.method).uri(uri);
        if !self.http2 {
            request = request.header("host", host);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(self.body.clone())))?;
        // The connection's future runs beside the request's and ends with it.
        let answer = if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
            let answer = async { collect(sender.send_request(request).await?).await };
            beside(connection, answer).await?
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            let answer = async { collect(sender.send_request(request).await?).await };
            beside(connection, answer).await?
        };
        Ok(answer)
    }
}

async fn beside(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<Answer>>,
) -> hyper::Result<Answer> {
    let drive = async {
        // An error of the connection shows in the answer.
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = drive => unreachable!("it waits for ever"),
    }
}

async fn collect(answer: hyper::Response<hyper::body::Incoming>) -> hyper::Result<Answer> {
    let (parts, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes().to_vec();
    let (status, version, headers) = (parts.status, parts.version, parts.headers);
    Ok(Answer {
        status,
        version,
        headers,
        body,
    })
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Asserts that this is an API error of this code and message; none if empty.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str, message: &str) {
        let mut expected = serde_json::json!({ "__type": code });
        if !message.is_empty() {
            expected["message"] = message.into();
        }
        assert_eq!((self.status.as_u16(), self.json()), (status, expected));
        assert!(self.header("x-amzn-requestid").is_some(), "{self:?}");
    }
}
