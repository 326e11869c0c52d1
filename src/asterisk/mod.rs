//! Asterisk: REST, events, the Manager Interface, versions, codecs and quirks.
pub mod ami;
pub mod ari;
mod backoff;
pub mod codecs;
pub mod version;
