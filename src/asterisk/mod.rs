//! Asterisk: REST, events, versions, codecs and quirks.
pub mod ari;
pub mod codecs;
pub mod version;
