//! Against spandsp and FFmpeg; `../testdata/README.md` says how the vectors were made.

use super::*;

fn pcm(raw: &[u8]) -> Vec<i16> {
    raw.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect()
}

fn decoded(code: &[u8], piece: usize) -> Vec<i16> {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    for piece in code.chunks(piece) {
        let mut samples = vec![0; 2 * piece.len()];
        assert_eq!(decoder.decode(piece, &mut samples), samples.len());
        out.extend(samples);
    }
    out
}

const SIGNAL: &[u8] = include_bytes!("../testdata/signal.g722");
const CODES: &[u8] = include_bytes!("../testdata/codes.g722");

#[test]
fn encodes_as_spandsp_does_to_the_bit() {
    let mut payload = Vec::new();
    Encoder::default().encode(&pcm(include_bytes!("../testdata/signal-16k.raw")), &mut payload);
    assert_eq!(payload, SIGNAL);
}

#[test]
fn decodes_as_ffmpeg_does_to_the_bit() {
    assert_eq!(decoded(SIGNAL, 160), pcm(include_bytes!("../testdata/signal.g722.ffmpeg.raw")));
    assert_eq!(decoded(CODES, 160), pcm(include_bytes!("../testdata/codes.g722.ffmpeg.raw")));
}

#[test]
fn decodes_as_spandsp_does_but_where_that_wraps_for_want_of_a_limit() {
    for (code, theirs) in [
        (SIGNAL, &include_bytes!("../testdata/signal.g722.raw")[..]),
        (CODES, include_bytes!("../testdata/codes.g722.raw")),
    ] {
        for (n, (ours, theirs)) in decoded(code, 160).into_iter().zip(pcm(theirs)).enumerate() {
            assert!(ours == theirs || ours == i16::MAX || ours == i16::MIN, "{n}: {ours}, {theirs}");
        }
    }
}

#[test]
fn the_size_of_the_pieces_does_not_matter() {
    assert_eq!(decoded(SIGNAL, 160), decoded(SIGNAL, 7));
}

#[test]
fn decoding_stops_where_the_room_ends() {
    let mut out = [0; 5];
    assert_eq!(Decoder::default().decode(&SIGNAL[..10], &mut out), 4);
    assert_eq!(out[4], 0);
}
