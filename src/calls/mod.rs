//! The call: its states, legs, ids, events, and its way through the parts.

pub mod event;
