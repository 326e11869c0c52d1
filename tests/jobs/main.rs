//! Jobs, done by the server as users run it: over HTTP with the database alone, and over RabbitMQ with producers of other people's.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

mod asterisk;
#[cfg(debug_assertions)]
mod call_steps;
#[cfg(debug_assertions)]
mod call_ways;
mod calls;
mod check;
mod embedded;
mod harness;
mod pages;
mod rabbitmq;
mod redis;
#[cfg(debug_assertions)]
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod transcription;
mod webhooks;

pub(crate) use harness::{Bench, SOON, gsm, wav_samples};
