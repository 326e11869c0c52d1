//! What Asterisk's Manager Interface sends.

use sidetone::asterisk::ami::{AmiDecoder, AmiInput};

/// Any bytes as what comes over the connection. However they are cut, the same messages come of them, and the same end.
pub fn ami(bytes: &[u8]) {
    let whole = decoded(&[bytes]);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        // Lengths follow from the bytes themselves.
        let (piece, after) = rest.split_at((usize::from(first) % 23 + 1).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    assert_eq!(decoded(&pieces), whole);
    for input in &whole.0 {
        let AmiInput::Message(message) = input else { continue };
        assert!(!message.is_empty(), "a message without a header");
        let both = message.event().is_some() && message.response().is_some();
        assert!(!both, "an event that is a response: {message:?}");
        message.output().count();
        let ends = message.starts_list() && message.ends_list();
        assert!(!ends, "a list that ends where it begins: {message:?}");
    }
}

fn decoded(pieces: &[&[u8]]) -> (Vec<AmiInput>, bool) {
    let mut decoder = AmiDecoder::default();
    let mut inputs = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.take() {
                Ok(Some(input)) => inputs.push(input),
                Ok(None) => break,
                Err(_) => return (inputs, true),
            }
        }
    }
    (inputs, false)
}
