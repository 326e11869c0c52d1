//! What several integration tests share.
#![allow(dead_code)] // each test binary compiles all of it and uses a part

pub mod callers;
pub mod lab;
pub mod phone;
pub mod proxy;
#[cfg(feature = "riva")]
pub mod riva_server;
pub mod server;
pub mod services;
