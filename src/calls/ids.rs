//! Names that we give: calls, this node, and every object that we make in Asterisk.
//!
//! An object's id is chosen before it is asked for and says whose it is: `sidetone-<node>-<call>-<role>`. So an event
//! finds its call without a table, also when it overtakes the reply to the request that made the object; and after a
//! crash what is ours can be told from what is not.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::media::leg::Leg;

/// What every id of ours begins with.
pub const PREFIX: &str = "sidetone";
/// Longest id that Asterisk takes for a channel.
pub const MAX_OBJECT_ID: usize = 149;
const MAX_CALL_ID: usize = 40;
const MAX_NODE_NAME: usize = 32;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Neither of the length nor of the characters of a call id.
    #[error("`{0}` is no call id: 1 to {MAX_CALL_ID} lower-case letters and digits")]
    Call(String),
    /// Neither of the length nor of the characters of a node name.
    #[error(
        "`{0}` is no node name: 1 to {MAX_NODE_NAME} letters and digits (node.name in the configuration)"
    )]
    Node(String),
}

/// Name of a call: lower-case letters and digits, at most 40, so that it is safe in URLs, files and Asterisk ids. Ids made
/// by [`CallId::from_uuid`] of version 7 UUIDs sort by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallId(Arc<str>);

impl CallId {
    /// The 32 hexadecimal digits of `uuid`; of version 7, so that ids sort by the time they were made.
    pub fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid.simple().to_string().into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (1..=MAX_CALL_ID).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits { Ok(Self(text.into())) } else { Err(IdError::Call(text.into())) }
    }
}

/// Name of this node: letters and digits, at most 32.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `id` is that of an object made by this node. Says nothing about whether the id is well formed.
    pub fn owns(&self, id: &str) -> bool {
        id.strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_prefix(self.as_str()))
            .is_some_and(|rest| rest.starts_with('-'))
    }
}

impl FromStr for NodeName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits =
            (1..=MAX_NODE_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits { Ok(Self(text.into())) } else { Err(IdError::Node(text.into())) }
    }
}

/// Text, both ways: `Display`, and the conversions that serde is told to use.
macro_rules! textual {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().into()
            }
        }
    };
}
textual!(CallId);
textual!(NodeName);

/// What an object of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// ExternalMedia channel: takes a leg's audio to us.
    Media(Leg),
    /// Snoop channel: takes a leg's audio from the spied channel.
    Snoop(Leg),
    /// Bridge that joins a leg's snoop to its media channel.
    Bridge(Leg),
    /// ExternalMedia channel that speaks to the main channel of an answered call, in the same bridge.
    MainMedia,
    /// Bridge that holds the main channel of an answered call.
    MainBridge,
}

/// What kind of object it is to Asterisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A channel.
    Channel,
    /// A bridge.
    Bridge,
}

impl Role {
    /// All roles, in the order in which their objects are to be removed: channels before the bridges they are in.
    pub const ALL: [Self; 8] = [
        Self::Media(Leg::Caller),
        Self::Snoop(Leg::Caller),
        Self::Bridge(Leg::Caller),
        Self::Media(Leg::Callee),
        Self::Snoop(Leg::Callee),
        Self::Bridge(Leg::Callee),
        Self::MainMedia,
        Self::MainBridge,
    ];

    /// As it stands in ids. `in` and `out` are Asterisk's names for the snoop's directions: the caller is heard on `in`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Media(Leg::Caller) => "media-in",
            Self::Media(Leg::Callee) => "media-out",
            Self::Snoop(Leg::Caller) => "snoop-in",
            Self::Snoop(Leg::Callee) => "snoop-out",
            Self::Bridge(Leg::Caller) => "bridge-in",
            Self::Bridge(Leg::Callee) => "bridge-out",
            Self::MainMedia => "media-main",
            Self::MainBridge => "bridge-main",
        }
    }

    /// A channel or a bridge.
    pub const fn kind(self) -> ObjectKind {
        match self {
            Self::Media(_) | Self::Snoop(_) | Self::MainMedia => ObjectKind::Channel,
            Self::Bridge(_) | Self::MainBridge => ObjectKind::Bridge,
        }
    }

    /// The leg that it serves, if it serves one.
    pub const fn leg(self) -> Option<Leg> {
        match self {
            Self::Media(leg) | Self::Snoop(leg) | Self::Bridge(leg) => Some(leg),
            Self::MainMedia | Self::MainBridge => None,
        }
    }
}

/// Id of an object that we make in Asterisk.
///
/// `generation` is 1 for the first one made for its role; each further attempt takes a number of its own, because
/// Asterisk has races around ids that are used again (asterisk#211).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId {
    /// Whose it is.
    pub node: NodeName,
    /// For which call.
    pub call: CallId,
    /// For what.
    pub role: Role,
    /// Which attempt, from 1.
    pub generation: u16,
}

impl ObjectId {
    /// `None` unless `id` is exactly of the form that [`ObjectId`] is displayed in.
    pub fn parse(id: &str) -> Option<Self> {
        if id.len() > MAX_OBJECT_ID {
            return None;
        }
        let mut parts = id.splitn(4, '-');
        if parts.next()? != PREFIX {
            return None;
        }
        let node = parts.next()?.parse().ok()?;
        let call = parts.next()?.parse().ok()?;
        let tail = parts.next()?;
        let (name, generation) = match tail.rsplit_once('-') {
            Some((name, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                (name, digits.parse().ok().filter(|&n: &u16| n > 1 && !digits.starts_with('0'))?)
            }
            _ => (tail, 1),
        };
        let role = Role::ALL.into_iter().find(|role| role.name() == name)?;
        Some(Self { node, call, role, generation })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-{}-{}-{}", self.node, self.call, self.role.name())?;
        if self.generation > 1 { write!(f, "-{}", self.generation) } else { Ok(()) }
    }
}

impl TryFrom<String> for ObjectId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is no id of an object of ours"))
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_id_fits_asterisk() {
        let id = ObjectId {
            node: "n".repeat(MAX_NODE_NAME).parse().unwrap(),
            call: "c".repeat(MAX_CALL_ID).parse().unwrap(),
            role: Role::MainBridge,
            generation: u16::MAX,
        };
        assert!(id.to_string().len() <= MAX_OBJECT_ID);
        assert_eq!(ObjectId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn ownership_is_by_the_whole_node_name() {
        let node: NodeName = "node1".parse().unwrap();
        assert!(node.owns("sidetone-node1-abc-snoop-in"));
        assert!(!node.owns("sidetone-node12-abc-snoop-in"));
        assert!(!node.owns("sidetone-node1"));
        assert!(!node.owns("PJSIP/100-00000001"));
    }

    #[test]
    fn what_is_not_exactly_ours_does_not_parse() {
        for id in [
            "",
            "sidetone",
            "sidetone-n1-call",
            "sidetone-n1-call-snoop",
            "sidetone-n1-CALL-snoop-in",
            "sidetone-n1-call-snoop-in-1",
            "sidetone-n1-call-snoop-in-02",
            "sidetone-n1-call-snoop-in-",
            "sidetone-n1-call-snoop-in-99999999",
            "other-n1-call-snoop-in",
        ] {
            assert_eq!(ObjectId::parse(id), None, "{id}");
        }
    }

    #[test]
    fn ids_of_version_7_uuids_are_call_ids() {
        let id = CallId::from_uuid(uuid::Uuid::from_u128(0x0190_a5b2_0000_7000_8000_0000_0000_0001));
        assert_eq!(id.as_str().len(), 32);
        assert_eq!(id.as_str().parse::<CallId>().unwrap(), id);
    }

    proptest! {
        #[test]
        fn every_id_reads_back(node in "[A-Za-z0-9]{1,32}", call in "[a-z0-9]{1,40}", role in 0usize..8, generation in 1u16..) {
            let id = ObjectId { node: node.parse().unwrap(), call: call.parse().unwrap(), role: Role::ALL[role], generation };
            prop_assert_eq!(ObjectId::parse(&id.to_string()), Some(id.clone()));
            prop_assert!(id.node.owns(&id.to_string()));
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text in "\\PC{0,200}") {
            if let Some(id) = ObjectId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
