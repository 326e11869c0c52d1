//! The call: its states, legs, ids, events, and its way through the parts.

pub mod control;
pub mod directory;
pub mod event;
pub mod hub;
pub mod record;
