//! The facts that a state is made of, and their names.

use std::sync::Arc;

use keyrum_types::planted::{self, Bug};
use keyrum_types::{AccountId, AliasName, GrantId, NodeId, Region, UnixMillis, byte_string};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::domain_key::DomainKeyVersion;
use crate::family::{Awaited, Family, Message, Stamp};
use crate::grant::Grant;
use crate::identity::{IdentityBook, IdentityName, IdentityRecord};
use crate::rotation::Rotation;
use crate::{Alias, Imports, Key, KeyRef, LastUse};

/// One fact. Released variants keep their meaning and their place for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Row {
    Registers(Registers),
    Key(Arc<Key>),
    Alias {
        account: AccountId,
        name: AliasName,
        alias: Alias,
    },
    Window {
        node: NodeId,
        window: Window,
    },
    Answer {
        node: NodeId,
        sequence: u64,
        #[serde(with = "byte_string")]
        outcome: Arc<[u8]>,
    },
    /// Absent while nobody has done anything about the key's rotation.
    Rotation {
        key: KeyRef,
        rotation: Arc<Rotation>,
    },
    Family {
        key: KeyRef,
        family: Arc<Family>,
    },
    Buried {
        key: KeyRef,
        incarnation: Stamp,
    },
    Channel {
        with: Region,
        channel: Channel,
    },
    Sent {
        to: Region,
        number: u64,
        message: Arc<Message>,
    },
    /// Absent while no use is known.
    LastUse {
        key: KeyRef,
        last: LastUse,
    },
    /// Absent until something is imported into the key.
    Imports {
        key: KeyRef,
        imports: Arc<Imports>,
    },
    /// In a family only. Absent while it waits for no import.
    Awaited {
        key: KeyRef,
        awaited: Arc<Awaited>,
    },
    Grant(Arc<Grant>),
    Identity(Arc<IdentityRecord>),
    /// Absent before the first identity.
    IdentityBook(IdentityBook),
    /// Only where identities are changed. Of the name in small letters.
    DeletedIdentity {
        name: IdentityName,
        revision: u64,
    },
    /// None before the domain key is first rotated.
    DomainKey {
        version: u32,
        known: DomainKeyVersion,
    },
}

impl Row {
    /// Whether snapshots and the digest leave it out; none is left out.
    pub(crate) fn is_left_out(&self) -> bool {
        planted::is(Bug::RequestsForgotten)
            && matches!(self, Self::Window { .. } | Self::Answer { .. })
    }
}

/// Which fact.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowName<'a> {
    Key(KeyRef),
    Alias(AccountId, &'a AliasName),
    Window(NodeId),
    Answer(NodeId, u64),
    Rotation(KeyRef),
    Family(KeyRef),
    Sent(&'a Region, u64),
    LastUse(KeyRef),
    Imports(KeyRef),
    Awaited(KeyRef),
    Grant(KeyRef, GrantId),
    Identity(&'a IdentityName),
    /// By the name in small letters.
    DeletedIdentity(&'a IdentityName),
    DomainKey(u32),
}

/// The facts there is one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registers {
    pub(crate) region: Region,
    /// The largest time that was proposed and taken.
    pub(crate) clock_base: UnixMillis,
    /// How far the clock was moved ahead by hand, in milliseconds.
    pub(crate) clock_offset_ms: u64,
    pub(crate) feature_level: u32,
}

/// What is remembered of one node's proposals; see `dedup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// The node's newest boot seen.
    pub(crate) boot: u64,
    /// Sequences below it are forgotten.
    pub(crate) floor: u64,
    /// How many answers are remembered.
    pub(crate) answers: u32,
    /// How many bytes they have.
    pub(crate) bytes: u64,
    /// The Region's clock base when the node last proposed.
    pub(crate) last_used: UnixMillis,
}
