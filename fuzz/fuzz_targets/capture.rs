//! Any bytes as a capture: no panic, no unbounded memory, and every datagram through the stream finder.
//! `cargo +nightly fuzz run capture`; `tests/net-capture.rs` replays the corpus without a fuzzer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetone::net::capture::Capture;
use sidetone::net::capture::streams::StreamFinder;

fuzz_target!(|bytes: &[u8]| {
    let Ok(capture) = Capture::new(bytes) else { return };
    let mut finder = StreamFinder::new();
    capture.flatten().for_each(|datagram| finder.add(&datagram));
    finder.flows();
});
