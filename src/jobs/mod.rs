//! Jobs: work that is asked for now and done when there is room for it.

pub mod call;
