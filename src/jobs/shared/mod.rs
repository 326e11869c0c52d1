//! What is shared by way of Redis, where it is configured: audio that one node has spoken and another needs, and the state of jobs for
//! other programs to read.

mod mirror;
mod speech;

pub use mirror::Mirror;
pub use speech::SharedSpeech;
