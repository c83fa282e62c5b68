//! The least an Encrypt over HTTP can cost: hyper, the same JSON, one AES-256-GCM.
//!
//! A process of its own, with the runtime and the HTTP stack that Keyrum has, and nothing of what
//! makes it a service: no validation, no signature, no keys, no consistency, no request ids. The
//! key is made once; the nonce is a counter.

use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::Failure;
use crate::process::Guarded;

/// The hidden verb that makes this program that server.
pub(crate) const VERB: &str = "serve-bare";

/// The server, as a process of its own.
pub(crate) struct Bare {
    process: Guarded,
    addr: String,
}

impl Bare {
    /// Starts it; `log` takes what it says if it fails.
    pub(crate) async fn start(log: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.stderr(std::fs::File::create(log)?);
        let mut process = Guarded::start(&mut command)?;
        let output = process.child().stdout.take().ok_or("it has no output")?;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(output));
        let addr = lines.next().ok_or("the bare server did not start")??;
        Ok(Self { process, addr })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `HOST:PORT`.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }
}

/// Serves until standard input ends.
pub(crate) fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let server = Arc::new(Server::new()?);
        let accept = async {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let server = server.clone();
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        };
        tokio::select! {
            result = accept => result,
            () = orphaned() => Ok(()),
        }
    })
}

/// Waits until the other end of standard input is gone.
async fn orphaned() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

struct Server {
    key: LessSafeKey,
    nonces: AtomicU64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypt<'a> {
    key_id: &'a str,
    plaintext: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted<'a> {
    ciphertext_blob: String,
    encryption_algorithm: &'a str,
    key_id: String,
}

impl Server {
    fn new() -> Result<Self, Failure> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "a key of 32 bytes")?;
        Ok(Self {
            key: LessSafeKey::new(key),
            nonces: AtomicU64::new(0),
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes());
        let sealed = body
            .map_err(Failure::from)
            .and_then(|body| self.encrypt(&body));
        let (status, body) = match sealed {
            Ok(body) => (StatusCode::OK, body),
            Err(failure) => (StatusCode::BAD_REQUEST, failure.to_string().into_bytes()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static("application/x-amz-json-1.1");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn encrypt(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let input: Encrypt<'_> = serde_json::from_slice(body)?;
        let mut data = STANDARD.decode(input.plaintext)?;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.nonces.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(unique, Aad::empty(), &mut data)
            .map_err(|_| "the plaintext is too long")?;
        data.extend_from_slice(&nonce);
        Ok(serde_json::to_vec(&Encrypted {
            ciphertext_blob: STANDARD.encode(&data),
            encryption_algorithm: "SYMMETRIC_DEFAULT",
            key_id: format!("arn:aws:kms:us-east-1:000000000000:key/{}", input.key_id),
        })?)
    }
}
