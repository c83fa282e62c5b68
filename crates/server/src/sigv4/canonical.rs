//! The canonical request: what a signature is over.
//! Source: AWS IAM User Guide, "Create a signed AWS API request", step 1.

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};

use super::hex;

/// So many headers are looked through for each name; of more, names are looked up.
const LOOKED_THROUGH_MAX: usize = 24;

/// Most headers that a signature may cover. SDKs sign about ten.
pub(super) const SIGNED_HEADERS_MAX: usize = 128;

/// The query parameter that holds the signature, which cannot be part of what is signed.
pub(super) const SIGNATURE: &str = "X-Amz-Signature";

/// What of a request is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Encoded as it is signed.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Whether the signature is itself in the query.
    pub(super) in_query: bool,
    pub(super) headers: &'a HeaderMap,
    /// The host of HTTP/2, which has no such header.
    pub(super) authority: Option<&'a str>,
    pub(super) names: &'a Names<'a>,
    pub(super) body_hash: [u8; 32],
}

/// The names of the headers that a signature covers.
pub(super) struct Names<'a> {
    /// Between semicolons.
    text: &'a str,
    /// Taken apart once; of too many, no more than show that.
    each: Vec<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let mut each = Vec::with_capacity(16);
        let mut start = 0;
        // Names are short: to look for the next semicolon with wide steps takes longer.
        for (at, byte) in text.bytes().enumerate() {
            if byte == b';' && each.len() <= SIGNED_HEADERS_MAX {
                each.push(&text[start..at]);
                start = at + 1;
            }
        }
        each.push(&text[start..]);
        Self { text, each }
    }

    fn have(&self, wanted: &str) -> bool {
        self.each.contains(&wanted)
    }

    /// The first header that must be signed and is not: the host, and all that begin with `x-amz-`.
    ///
    /// Deviation: the real service's own list is not published; the guide says that a signature must
    /// include them, so a request that leaves one open to change is refused.
    pub(super) fn lack<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        if !self.have(header::HOST.as_str()) {
            return Some("host");
        }
        let amz = headers.keys().map(HeaderName::as_str);
        amz.filter(|name| name.starts_with("x-amz-"))
            .find(|name| !self.have(name))
    }
}

/// The names do not stand in order, or name a header that is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSigned;

impl Signed<'_> {
    /// Appends the canonical request to `to`.
    ///
    /// The names are taken only if they are lower-case and ascending, as signers must write them:
    /// so each request has one list of names.
    pub(super) fn canonical(&self, to: &mut Vec<u8>) -> Result<(), NotSigned> {
        for part in [self.method, self.path] {
            to.extend_from_slice(part.as_bytes());
            to.push(b'\n');
        }
        canonical_query(self.query, self.in_query, to);
        to.push(b'\n');
        let Names { text, each } = self.names;
        let upper = text
            .bytes()
            .fold(false, |any, byte| any | byte.is_ascii_uppercase());
        if upper || each.len() > SIGNED_HEADERS_MAX {
            return Err(NotSigned);
        }
        // To look through a few costs less than to look each up.
        let mut few = [("", None); LOOKED_THROUGH_MAX];
        let few = match self.headers.len() <= LOOKED_THROUGH_MAX {
            true => {
                let all = few.iter_mut().zip(self.headers);
                all.for_each(|(slot, (name, value))| *slot = (name.as_str(), Some(value)));
                Some(&few[..self.headers.len()])
            }
            false => None,
        };
        let mut former = "";
        for &name in each {
            if name <= former {
                return Err(NotSigned);
            }
            former = name;
            to.extend_from_slice(name.as_bytes());
            to.push(b':');
            match few {
                Some(few) => {
                    let all = few.iter().filter(|(header, _)| *header == name);
                    self.values(name, all.filter_map(|(_, value)| *value), to)?;
                }
                None => self.values(name, self.headers.get_all(name).iter(), to)?,
            }
            to.push(b'\n');
        }
        to.push(b'\n');
        to.extend_from_slice(text.as_bytes());
        to.push(b'\n');
        to.extend_from_slice(&hex(&self.body_hash));
        Ok(())
    }

    fn values<'h>(
        &self,
        name: &str,
        mut values: impl Iterator<Item = &'h HeaderValue>,
        to: &mut Vec<u8>,
    ) -> Result<(), NotSigned> {
        match (values.next(), self.authority) {
            (Some(first), _) => trimmed(first, to),
            (None, Some(authority)) if name == header::HOST.as_str() => {
                to.extend_from_slice(authority.as_bytes());
            }
            (None, _) => return Err(NotSigned),
        }
        for value in values {
            to.push(b',');
            trimmed(value, to);
        }
        Ok(())
    }
}

/// A value without white space at its ends, and with one space for several.
fn trimmed(value: &HeaderValue, to: &mut Vec<u8>) {
    let value = value.as_bytes().trim_ascii();
    // Most values have no space at all, which is quickly seen.
    if !value.contains(&b' ') || !value.windows(2).any(|pair| pair == b"  ") {
        to.extend_from_slice(value);
        return;
    }
    let mut spaced = false;
    for &byte in value {
        if !(spaced && byte == b' ') {
            to.push(byte);
        }
        spaced = byte == b' ';
    }
}

/// Decodes a query, sorts its pairs and encodes them again. A plus stands for a space, as it does
/// where the pairs are read: so no two queries that mean different things are signed alike.
fn canonical_query(query: &str, in_query: bool, to: &mut Vec<u8>) {
    if query.is_empty() {
        return;
    }
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = encoded_again(name);
        if !(in_query && name == SIGNATURE.as_bytes()) {
            pairs.push((name, encoded_again(value)));
        }
    }
    pairs.sort_unstable();
    for (number, (name, value)) in pairs.iter().enumerate() {
        if number > 0 {
            to.push(b'&');
        }
        to.extend_from_slice(name);
        to.push(b'=');
        to.extend_from_slice(value);
    }
}

fn encoded_again(text: &str) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for byte in crate::route::decoded(text) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            _ => out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str, in_query: bool) -> String {
        let mut to = Vec::new();
        canonical_query(text, in_query, &mut to);
        String::from_utf8(to).unwrap()
    }

    /// Catches queries that mean different things and are signed alike, and the other way round.
    #[test]
    fn queries_have_one_form() {
        assert_eq!(query("b=2&a=1&a=0&A=3&&c", false), "A=3&a=0&a=1&b=2&c=");
        assert_eq!(
            query("a=%7e%2f+%20%E1%88%B4%zz%", false),
            "a=~%2F%20%20%E1%88%B4%25zz%25"
        );
        assert_eq!(query("a=%2B", false), "a=%2B");
        assert_eq!(query("a=b=c", false), "a=b%3Dc");
        assert_eq!(query("a=%ff&a=%fe", false), "a=%FE&a=%FF");
        // Names are compared before values: "a" with "=" after it sorts before "a-".
        assert_eq!(query("a-=1&a=2", false), "a=2&a-=1");
        assert_eq!(query("X-Amz-Signature=1&x=2", true), "x=2");
        assert_eq!(query("X-Amz-%53ignature=1&x=2", true), "x=2");
        assert_eq!(
            query("X-Amz-Signature=1&x=2", false),
            "X-Amz-Signature=1&x=2"
        );
    }

    /// Catches a list of names that is taken although it could be written in another way, and a
    /// header that is signed as if it were there.
    #[test]
    fn names_have_one_order() {
        let mut headers = HeaderMap::new();
        headers.insert("host", "h".parse().unwrap());
        headers.insert("b", "  x \t  y  ".parse().unwrap());
        let canonical = |names: &str| {
            let signed = Signed {
                method: "GET",
                path: "/",
                query: "",
                in_query: false,
                headers: &headers,
                authority: None,
                names: &Names::of(names),
                body_hash: [0; 32],
            };
            let mut to = Vec::new();
            signed
                .canonical(&mut to)
                .map(|()| String::from_utf8(to).unwrap())
        };
        let text = canonical("b;host").unwrap();
        assert!(
            text.starts_with("GET\n/\n\nb:x \t y\nhost:h\n\nb;host\n0000"),
            "{text}"
        );
        let many = (0..=SIGNED_HEADERS_MAX)
            .map(|n| format!("b{n:04}"))
            .collect::<Vec<_>>();
        for names in [
            "",
            "host;b",
            "b;b;host",
            "B;host",
            "b;;host",
            "b;host;",
            "a;b;host",
            &many.join(";"),
        ] {
            assert_eq!(canonical(names), Err(NotSigned), "{names}");
        }
    }

    /// Catches a header that may be changed on the way although it decides something.
    #[test]
    fn what_must_be_signed_is_named() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", "t".parse().unwrap());
        headers.insert("x-amzn-trace-id", "t".parse().unwrap());
        let lack = |names| Names::of(names).lack(&headers);
        assert_eq!(lack("x-amz-target"), Some("host"));
        assert_eq!(lack("host"), Some("x-amz-target"));
        assert_eq!(lack("host;x-amz-target"), None);
    }
}
