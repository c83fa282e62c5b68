//! What a session token says.
//!
//! Bytes: a version (1), then fields, each a length (4 bytes, little-endian) and as many bytes of
//! UTF-8: the kind, the access key id and its secret, the account, the name, the unique id, the
//! session's name, the second it was issued and the millisecond it expires, the number of policies and
//! the policies, the number of tags and their names and values.

use keyrum_types::{AccountId, UnixMillis};
use zeroize::Zeroizing;

const VERSION: u8 = 1;

/// Whose session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionOf {
    /// An account's root's.
    Root,
    /// A user's.
    User {
        /// Without the path.
        name: String,
        /// Of the user, so that one who comes later with the same name is another.
        id: String,
    },
    /// A role's.
    Role {
        /// Without the path.
        name: String,
        /// Of the role.
        id: String,
        /// The session's own name.
        session: String,
    },
}

/// Temporary credentials, whole.
pub(crate) struct Session {
    pub(crate) access_key: String,
    pub(crate) secret: Zeroizing<String>,
    pub(crate) account: AccountId,
    pub(crate) of: SessionOf,
    /// By the machine's clock.
    pub(crate) issued: UnixMillis,
    pub(crate) expires: UnixMillis,
    /// What it may do at most.
    pub(crate) policies: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
}

impl Session {
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let account = self.account.to_string();
        let numbers = [
            self.issued.0.to_string(),
            self.expires.0.to_string(),
            self.policies.len().to_string(),
            self.tags.len().to_string(),
        ];
        let [issued, expires, policies, tags] = &numbers;
        let (kind, name, id, session) = match &self.of {
            SessionOf::Root => ("root", "", "", ""),
            SessionOf::User { name, id } => ("user", name.as_str(), id.as_str(), ""),
            SessionOf::Role { name, id, session } => {
                ("role", name.as_str(), id.as_str(), session.as_str())
            }
        };
        let head = [
            kind,
            &self.access_key,
            &self.secret,
            &account,
            name,
            id,
            session,
        ];
        let pairs = self.tags.iter().flat_map(|(name, value)| [name, value]);
        let fields: Vec<&str> = head
            .into_iter()
            .chain([issued.as_str(), expires, policies])
            .chain(self.policies.iter().map(String::as_str))
            .chain([tags.as_str()])
            .chain(pairs.map(String::as_str))
            .collect();
        let length = fields.iter().map(|field| 4 + field.len()).sum::<usize>();
        // Its final size before the secret enters it, so that no copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + length));
        bytes.push(VERSION);
        for field in fields {
            let length = u32::try_from(field.len()).expect("fields are short");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes
    }

    /// The reverse of [`Session::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let mut fields = Fields((*version == VERSION).then_some(rest)?);
        let kind = fields.text()?;
        let access_key = fields.text()?.to_owned();
        let secret = Zeroizing::new(fields.text()?.to_owned());
        let account = fields.text()?.parse().ok()?;
        let [name, id, session] =
            [fields.text()?, fields.text()?, fields.text()?].map(str::to_owned);
        let of = match kind {
            "root" => SessionOf::Root,
            "user" => SessionOf::User { name, id },
            "role" => SessionOf::Role { name, id, session },
            _ => return None,
        };
        let [issued, expires] = [fields.number()?, fields.number()?].map(UnixMillis);
        let policies = (0..fields.number()?).map(|_| fields.text().map(str::to_owned));
        let policies = policies.collect::<Option<_>>()?;
        let tags = (0..fields.number()?)
            .map(|_| Some((fields.text()?.to_owned(), fields.text()?.to_owned())))
            .collect::<Option<_>>()?;
        fields.0.is_empty().then_some(Self {
            access_key,
            secret,
            account,
            of,
            issued,
            expires,
            policies,
            tags,
        })
    }
}

struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn text(&mut self) -> Option<&'b str> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(field).ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.text()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(of: SessionOf) -> Session {
        Session {
            access_key: "ASIAEXAMPLE".to_owned(),
            secret: Zeroizing::new("secret".to_owned()),
            account: "111122223333".parse().unwrap(),
            of,
            issued: UnixMillis(1),
            expires: UnixMillis(2),
            policies: vec!["one".to_owned(), String::new()],
            tags: vec![("team".to_owned(), "a".to_owned())],
        }
    }

    /// Catches a part of a session that is lost or changed on its way through a token, and bytes that
    /// are cut, longer, or none of a session and are taken for one.
    #[test]
    fn sessions_survive_bytes() {
        let [name, id, session_name] = ["r", "AROA1", "s"].map(str::to_owned);
        let user = (name.clone(), id.clone());
        for of in [
            SessionOf::Root,
            SessionOf::User {
                name: user.0,
                id: user.1,
            },
            SessionOf::Role {
                name,
                id,
                session: session_name,
            },
        ] {
            let before = session(of);
            let bytes = before.to_bytes();
            let after = Session::from_bytes(&bytes).unwrap();
            assert_eq!(after.to_bytes(), bytes);
            assert_eq!((&after.of, after.expires), (&before.of, before.expires));
            assert_eq!((after.policies, after.tags), (before.policies, before.tags));
            assert_eq!((*after.secret).as_str(), "secret");
            for cut in 0..bytes.len() {
                assert!(Session::from_bytes(&bytes[..cut]).is_none(), "{cut}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(Session::from_bytes(&longer).is_none());
        }
        let huge = [&[VERSION][..], &[255; 4]].concat();
        assert!(Session::from_bytes(&huge).is_none());
    }
}
