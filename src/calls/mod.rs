//! The call: its states, legs, ids, events, and its way through the parts.

pub mod adoption;
pub mod event;
pub mod ids;
pub mod machine;
pub mod mode;
