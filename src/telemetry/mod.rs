//! Logs, metrics and readiness: one typed place for every name.

pub mod log;
pub mod metric;
pub mod readiness;
