//! Opus in Ogg (RFC 3533, RFC 7845).

mod opus;
mod page;

pub(super) use opus::Opus;
#[cfg(test)]
pub(super) use page::making;
pub(super) use page::write_page;
