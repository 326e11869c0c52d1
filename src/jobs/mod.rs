//! What is done besides calls, later or for long: files converted, files transcribed, texts spoken to people's telephones.
//!
//! ```text
//! HTTP, command line ──▶ queue::Queue ──▶ store::jobs ◀── broker (RabbitMQ), where it is configured
//!                                             │ claimed by a worker, one at a time, leased
//!                                             ▼
//!                        worker::Workers ─▶ Handler of the kind ─▶ what came of it, and the letters that tell others, in one commit
//!                                             │
//!                                             ▼
//!                                       post: webhooks, the broker's queues
//! ```
//!
//! A job's state is in the database, whichever engine brought it here: so that it can be asked for, retried and cancelled, and so that what
//! comes twice is done once. The broker, where there is one, keeps the job until this process has written down what came
//! of it.

mod background;
pub mod broker;
pub mod call;
pub mod conversion;
mod error;
mod message;
pub mod post;
pub mod queue;
pub mod roots;
pub mod service;
pub mod shape;
pub mod shared;
pub mod transcription;
pub mod tts;
pub mod worker;

pub use error::JobError;
pub use message::{BadMessage, ConversionAsked, MOST_BYTES, Message, TtsAsked};
