//! The ring of `sidetone::media`, compiled on its own for model checking.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/ring-models/Cargo.toml --test models
//! cargo test --release --manifest-path tests/ring-models/Cargo.toml --test stress
//! cargo +nightly miri test --manifest-path tests/ring-models/Cargo.toml --test stress
//! ```

#[path = "."]
pub mod media {
    #[path = "../../../src/media/ring/mod.rs"]
    pub mod ring;
    #[path = "../../../src/media/slot.rs"]
    pub mod slot;
    #[path = "../../../src/media/sync.rs"]
    pub mod sync;
    #[path = "../../../src/media/time.rs"]
    pub mod time;
}
