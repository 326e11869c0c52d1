//! The one event envelope: on WebSockets, in webhooks and in files.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Version of the envelope.
pub const ENVELOPE_VERSION: u32 = 1;

/// An event as stored and sent. `seq` counts from 1 per call, without holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`ENVELOPE_VERSION`].
    pub v: u32,
    /// Number of the event within its call, from 1.
    pub seq: u64,
    /// When it happened, RFC 3339, UTC, microseconds.
    pub time: jiff::Timestamp,
    /// Whose call it is.
    pub tenant: String,
    /// The call.
    pub call_id: String,
    /// `call.started`, `transcript.final`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What else the type carries.
    #[serde(flatten)]
    pub body: Map<String, Value>,
}
