//! The call: its states, legs, ids, events, and its way through the parts.

pub mod event;

pub mod adoption;
pub mod ids;
pub mod machine;
pub mod mode;
