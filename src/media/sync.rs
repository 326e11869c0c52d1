//! Atomics: the standard ones, or loom's when the ring is model-checked (`tests/ring-models`).

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
