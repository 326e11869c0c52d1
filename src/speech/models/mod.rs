//! The folder of speech models: what there is to be had, how it gets there whole, and which one is taken.
//!
//! A model is a file `ggml-NAME.bin`. Beside it lie, while it is being pulled, `ggml-NAME.bin.part` with what is there of it and
//! `….part.json` with where that is from, and afterwards `….pulled.json` with the checksum that it had then.

pub mod catalogue;
mod fetch;
mod folder;
pub mod memory;
mod part;
mod proof;
pub mod pull;
mod shelf;
mod source;

pub use catalogue::{CATALOGUE, Entry};
pub use proof::{Expected, Fault, Proof, Record, verify};
pub use pull::{Patience, Pull, PullError, Pulled, Step};
pub use shelf::{Choice, Present, Shelf, is_name, name_of};
pub use source::{Source, SourceError};
