//! Asterisk: REST, events, versions and quirks.
pub mod ari;
pub mod version;
