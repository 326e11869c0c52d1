//! What the engine tells of overload.

use std::sync::Arc;

use serde::Serialize;

use crate::media::leg::Leg;
use crate::speech::ladder::RungChange;

/// Something is done later, or again in time. Serialises to the body of an `overload` event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Overload {
    /// Of all legs: the ladder moved.
    Ladder(RungChange),
    /// Of one.
    Leg(LegOverload),
}

/// A leg is left to its recording, or heard again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LegOverload {
    /// Its call: the envelope's.
    #[serde(skip)]
    pub call_id: String,
    /// The leg.
    pub leg: Leg,
    /// Whether it is transcribed while it lasts, from here on.
    pub live: bool,
    /// From where, seconds on the recording's clock.
    pub from: f64,
}

/// Is told of overload, on the engine's listening thread: it has to be quick.
pub type OverloadSink = Arc<dyn Fn(&Overload) + Send + Sync>;
