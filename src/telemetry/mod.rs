//! Logs and metrics: one typed place for every name.

pub mod metric;
