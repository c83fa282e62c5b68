//! A KMS client that costs next to nothing: it shares the cores with what it measures.
//!
//! Requests are bytes made beforehand. They carry what an SDK's carry, a signature among it; the
//! measured clusters take any (`credentials = "any"`). Answers are read as far as their length.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

/// The account of calls that do not care.
pub(crate) const ACCOUNT: u64 = 0;

/// The Region of calls that do not care.
pub(crate) const REGION: &str = "us-east-1";

/// A connection that is kept alive.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer's status and body.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// Fails unless the answer is a good one.
    pub(crate) fn good(&self) -> Result<(), Failure> {
        match self.status {
            200 => Ok(()),
            status => Err(format!("{status} {}", String::from_utf8_lossy(self.body)).into()),
        }
    }
}

impl Connection {
    /// Connects to `HOST:PORT`, with or without `http://` before it.
    pub(crate) async fn open(addr: &str) -> Result<Self, Failure> {
        let addr = addr.strip_prefix("http://").unwrap_or(addr);
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 8 << 10],
        })
    }

    /// Sends a whole request and waits for its whole answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, Failure> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.more(filled).await?;
            if let Some(head) = Head::read(&self.buffer[..filled])? {
                break head;
            }
        };
        while filled < head.bytes + head.body_bytes {
            filled += self.more(filled).await?;
        }
        let body = &self.buffer[head.bytes..head.bytes + head.body_bytes];
        Ok(Answer {
            status: head.status,
            body,
        })
    }

    async fn more(&mut self, filled: usize) -> Result<usize, Failure> {
        if filled == self.buffer.len() {
            self.buffer.resize(2 * filled, 0);
        }
        match self.stream.read(&mut self.buffer[filled..]).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => Ok(count),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
}

impl Head {
    /// Reads an answer's head once all of it is there.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        const NAME: &[u8] = b"content-length:";
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = |bytes| std::str::from_utf8(bytes).map_err(Failure::from);
        let status = bytes.get(9..12).ok_or("this is not HTTP")?;
        let mut body_bytes = None;
        for line in bytes[..end].split(|&byte| byte == b'\n') {
            if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
                body_bytes = Some(text(&line[NAME.len()..])?.trim().parse()?);
            }
        }
        let body_bytes = body_bytes.ok_or("an answer without a length")?;
        Ok(Some(Self {
            status: text(status)?.parse()?,
            bytes: end + 4,
            body_bytes,
        }))
    }
}

/// A call of the KMS API.
pub(crate) struct Call<'a> {
    pub(crate) operation: &'a str,
    pub(crate) account: u64,
    pub(crate) region: &'a str,
    /// For the header `x-keyrum-consistency`; without it the cluster's own default holds.
    pub(crate) consistency: Option<&'a str>,
    pub(crate) body: &'a str,
}

impl<'a> Call<'a> {
    /// A call of the usual account and Region.
    pub(crate) fn new(operation: &'a str, body: &'a str) -> Self {
        Self {
            operation,
            account: ACCOUNT,
            region: REGION,
            consistency: None,
            body,
        }
    }

    /// The request's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self {
            operation,
            account,
            region,
            body,
            ..
        } = self;
        let consistency = match self.consistency {
            Some(mode) => format!("x-keyrum-consistency: {mode}\r\n"),
            None => String::new(),
        };
        format!(
            "POST / HTTP/1.1\r\n\
             host: kms.{region}.amazonaws.com\r\n\
             user-agent: keyrum-benches\r\n\
             content-type: application/x-amz-json-1.1\r\n\
             x-amz-target: TrentService.{operation}\r\n\
             x-amz-date: 20260101T000000Z\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={account:012}/20260101/{region}/kms/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={:064x}\r\n\
             {consistency}content-length: {}\r\n\r\n{body}",
            7,
            body.len(),
        )
        .into_bytes()
    }
}

/// Makes one call over a connection of its own and returns the answer's JSON.
pub(crate) async fn once(addr: &str, call: &Call<'_>) -> Result<serde_json::Value, Failure> {
    let mut connection = Connection::open(addr).await?;
    let answer = connection.exchange(&call.bytes()).await?;
    answer.good()?;
    Ok(serde_json::from_slice(answer.body)?)
}

/// Makes a key and returns its id.
pub(crate) async fn create_key(addr: &str) -> Result<String, Failure> {
    let mut connection = Connection::open(addr).await?;
    let answer = connection
        .exchange(&Call::new("CreateKey", "{}").bytes())
        .await?;
    answer.good()?;
    made_key(answer.body)
}

/// The id in CreateKey's answer.
pub(crate) fn made_key(body: &[u8]) -> Result<String, Failure> {
    let answer: serde_json::Value = serde_json::from_slice(body)?;
    let id = answer["KeyMetadata"]["KeyId"].as_str();
    Ok(id.ok_or("a key without an id")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches answers that are cut in the wrong place, so that the next one is misread.
    #[test]
    fn heads_are_read_as_a_whole() {
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\nx: y\r\n\r\nabc";
        let head = Head {
            status: 400,
            bytes: answer.len() - 3,
            body_bytes: 3,
        };
        assert_eq!(Head::read(answer).unwrap(), Some(head));
        assert_eq!(Head::read(&answer[..answer.len() - 4]).unwrap(), None);
        assert!(Head::read(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
