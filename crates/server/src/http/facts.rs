//! What is known of a request beside what it says: where it comes from, and over which TLS.
//!
//! Behind the proxy of `cluster up` every request comes from the proxy. So the proxy says in a header
//! where it took the request from, with a token that only it and the node know; the token is derived
//! from the node's admin token, which both can read and nobody else. A header of that name that comes
//! from anybody else says nothing: the proxy replaces it, and a node removes it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use ring::hmac;
use rustls::{NamedGroup, ProtocolVersion, ServerConnection};

use super::Incoming;

/// Where the proxy says what it knows.
const FORWARDED: HeaderName = HeaderName::from_static("x-keyrum-forwarded");

/// Stands for what there is none of.
const NONE: &str = "-";

/// What is known of a request, for conditions of policies and for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts<'a> {
    /// The access key the request names; whether its signature holds is not said here.
    pub access_key_id: Option<&'a str>,
    /// The client's address, also behind the proxy. `None` where a network has no addresses.
    pub source: Option<IpAddr>,
    /// The `User-Agent` header, if it is text.
    pub user_agent: Option<&'a str>,
    /// The host the client asked for.
    pub host: Option<&'a str>,
    /// How the client's connection is protected; `None` if it is not.
    pub tls: Option<TlsFacts>,
}

impl<'a> RequestFacts<'a> {
    /// What is known of a request, which names this access key if any.
    pub fn of(request: &'a Incoming, access_key_id: Option<&'a str>) -> Self {
        let parts = &request.parts;
        let text = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let authority = || parts.uri.authority().map(|authority| authority.as_str());
        Self {
            access_key_id,
            source: request.from.source,
            user_agent: text(header::USER_AGENT),
            host: text(header::HOST).or_else(authority),
            tls: request.from.tls,
        }
    }
}

/// How a connection is protected, in the words of the real service's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFacts {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// Such as `TLS_AES_128_GCM_SHA256`, or `ECDHE-RSA-AES128-GCM-SHA256` with TLS 1.2.
    pub cipher_suite: &'static str,
    /// Such as `x25519`.
    pub key_exchange: &'static str,
}

/// Every name that [`TlsFacts`] holds, so that what a proxy says can be one of them only.
const VERSIONS: [&str; 2] = ["TLSv1.3", "TLSv1.2"];
const SUITES: [(&str, &str); 9] = [
    ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    (
        "TLS13_CHACHA20_POLY1305_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ),
];
const GROUPS: [(NamedGroup, &str); 3] = [
    (NamedGroup::X25519, "x25519"),
    (NamedGroup::secp256r1, "secp256r1"),
    (NamedGroup::secp384r1, "secp384r1"),
];

impl TlsFacts {
    /// What was agreed on with a client.
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let suite = connection.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str());
        let group = connection.negotiated_key_exchange_group();
        let group = group.map(|group| group.name());
        let named = |names: &[(&str, &'static str)]| {
            let mut names = names.iter().filter(|(name, _)| Some(*name) == suite);
            names.next().map_or(NONE, |(_, name)| name)
        };
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => VERSIONS[0],
                _ => VERSIONS[1],
            },
            cipher_suite: named(&SUITES),
            key_exchange: GROUPS
                .iter()
                .find(|(name, _)| Some(*name) == group)
                .map_or(NONE, |(_, name)| name),
        }
    }

    fn read(version: &str, suite: &str, group: &str) -> Option<Self> {
        Some(Self {
            version: VERSIONS.into_iter().find(|name| *name == version)?,
            cipher_suite: SUITES
                .iter()
                .find(|(_, name)| *name == suite)
                .map_or(NONE, |(_, name)| name),
            key_exchange: GROUPS
                .iter()
                .find(|(_, name)| *name == group)
                .map_or(NONE, |(_, name)| name),
        })
    }
}

/// Where requests of one connection come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    pub(crate) source: Option<IpAddr>,
    pub(crate) tls: Option<TlsFacts>,
}

impl Origin {
    /// Of a connection from `address` (`HOST:PORT`).
    pub(super) fn new(address: &str, tls: Option<TlsFacts>) -> Self {
        let source = address.parse::<SocketAddr>().ok();
        Self {
            // An IPv4 client of an IPv6 listener is an IPv4 client.
            source: source.map(|address| address.ip().to_canonical()),
            tls,
        }
    }
}

/// What a proxy shows a node, so that the node believes what it says of the client.
#[derive(Clone)]
pub struct ProxyToken(Arc<hmac::Key>, Arc<str>);

impl ProxyToken {
    /// The token of the node that has this admin token. White space around that, such as a file's
    /// last line end, does not count.
    pub fn of_node(admin_token: &str) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, admin_token.trim().as_bytes());
        let token = hmac::sign(&secret, b"keyrum proxy token");
        let hex: String = token
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self(Arc::new(secret), hex.into())
    }

    /// Compares in a time that tells nothing.
    fn is(&self, shown: &str) -> bool {
        // Signed once more, so that what is compared cannot be chosen by who shows it.
        let own = hmac::sign(&self.0, self.1.as_bytes());
        hmac::verify(&self.0, shown.as_bytes(), own.as_ref()).is_ok()
    }

    /// Tells a node where a request comes from.
    pub(crate) fn tell(&self, origin: &Origin, headers: &mut HeaderMap) {
        let source = origin
            .source
            .map_or(NONE.to_owned(), |source| source.to_string());
        let tls = origin.tls;
        let [version, suite, group] = tls.map_or([NONE; 3], |tls| {
            [tls.version, tls.cipher_suite, tls.key_exchange]
        });
        let text = format!("{} {source} {version} {suite} {group}", self.1);
        if let Ok(mut value) = HeaderValue::try_from(text) {
            value.set_sensitive(true);
            headers.insert(FORWARDED, value);
        }
    }
}

impl PartialEq for ProxyToken {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.1)
    }
}

impl Eq for ProxyToken {}

/// Takes what a proxy says out of the headers. `None` unless it shows the node's own token.
pub(super) fn told(headers: &mut HeaderMap, token: Option<&ProxyToken>) -> Option<Origin> {
    let value = headers.remove(FORWARDED)?;
    let mut words = value.to_str().ok()?.split(' ');
    if !token?.is(words.next()?) {
        return None;
    }
    let source = words.next()?.parse().ok();
    let tls = TlsFacts::read(words.next()?, words.next()?, words.next()?);
    Some(Origin { source, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            source: Some("192.0.2.7".parse().unwrap()),
            tls: Some(TlsFacts {
                version: "TLSv1.2",
                cipher_suite: "ECDHE-RSA-AES128-GCM-SHA256",
                key_exchange: "secp384r1",
            }),
        }
    }

    /// Catches a client that names its own address, and a node that forgets what its proxy says.
    #[test]
    fn only_the_proxy_is_believed() {
        let token = ProxyToken::of_node("abc\n");
        let same = ProxyToken::of_node("abc");
        for origin in [origin(), Origin::default()] {
            let mut headers = HeaderMap::new();
            token.tell(&origin, &mut headers);
            let mut other = headers.clone();
            assert_eq!(told(&mut headers, Some(&same)), Some(origin));
            assert!(headers.is_empty());
            assert_eq!(told(&mut headers, Some(&same)), None);
            let stranger = ProxyToken::of_node("abd");
            assert_eq!(told(&mut other.clone(), Some(&stranger)), None);
            assert_eq!(told(&mut other, None), None);
            assert!(other.is_empty());
        }
        let mut headers = HeaderMap::new();
        for value in [
            "",
            "- 192.0.2.1 - - -",
            " 192.0.2.1 - - -",
            "abc 192.0.2.1 - - -",
        ] {
            headers.insert(FORWARDED, value.parse().unwrap());
            assert_eq!(told(&mut headers, Some(&token)), None, "{value}");
        }
    }

    /// Catches an IPv4 client that is taken for another because it came to an IPv6 listener.
    #[test]
    fn addresses_are_the_clients_own() {
        let of = |address: &str| Origin::new(address, None).source.map(|ip| ip.to_string());
        assert_eq!(of("192.0.2.7:1"), Some("192.0.2.7".to_owned()));
        assert_eq!(of("[::ffff:192.0.2.7]:1"), Some("192.0.2.7".to_owned()));
        assert_eq!(of("[2001:db8::1]:1"), Some("2001:db8::1".to_owned()));
        assert_eq!(of("memory"), None);
    }
}
