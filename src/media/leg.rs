//! The two directions of a call.

use serde::{Deserialize, Serialize};

/// Which party a leg hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leg {
    /// What the channel says (snoop `in`); the recording's left.
    Caller,
    /// What the channel hears (snoop `out`); the recording's right.
    Callee,
}

impl Leg {
    /// Both, in the order of the recording's channels.
    pub const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    /// 0 for the left channel, 1 for the right one.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name used in events, reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }
}
