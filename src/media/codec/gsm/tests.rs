//! Against libgsm and sox; `../testdata/README.md` says how the vectors were made.

use super::*;

fn pcm(raw: &[u8]) -> Vec<i16> {
    raw.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect()
}

fn frames(code: &[u8]) -> Vec<Frame> {
    code.as_chunks().0.iter().map(|bytes| Frame::unpack(bytes).unwrap()).collect()
}

fn decoded(frames: &[Frame]) -> Vec<i16> {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    for frame in frames {
        let mut samples = [0; FRAME_SAMPLES];
        decoder.decode(frame, &mut samples);
        out.extend(samples);
    }
    out
}

const SIGNAL: &[u8] = include_bytes!("../testdata/signal.gsm");
const CODES: &[u8] = include_bytes!("../testdata/codes.gsm");

#[test]
fn encodes_as_libgsm_does_to_the_bit() {
    let mut encoder = Encoder::default();
    let signal = pcm(include_bytes!("../testdata/signal-8k.raw"));
    for (n, (samples, theirs)) in signal.as_chunks().0.iter().zip(frames(SIGNAL)).enumerate() {
        assert_eq!(encoder.encode(samples), theirs, "frame {n}");
    }
}

#[test]
fn decodes_as_libgsm_does_to_the_bit() {
    assert_eq!(decoded(&frames(SIGNAL)), pcm(include_bytes!("../testdata/signal.gsm.raw")));
}

#[test]
fn any_code_words_decode_as_libgsm_does_to_the_bit() {
    assert_eq!(decoded(&frames(CODES)), pcm(include_bytes!("../testdata/codes.gsm.raw")));
}

#[test]
fn frames_are_packed_as_they_were() {
    for bytes in SIGNAL.as_chunks().0.iter().chain(CODES.as_chunks().0) {
        assert_eq!(&Frame::unpack(bytes).unwrap().pack(), bytes);
    }
}

#[test]
fn pairs_of_wav_files_are_those_of_libgsm() {
    let frames = frames(SIGNAL);
    let theirs = include_bytes!("../testdata/signal.wav49").as_chunks::<PAIR_BYTES>().0;
    assert_eq!(theirs.len(), frames.len() / 2);
    for (pair, theirs) in frames.as_chunks().0.iter().zip(theirs) {
        assert_eq!(&Frame::pack_pair(pair.clone()), theirs);
        assert_eq!(&Frame::unpack_pair(theirs), pair);
    }
}

#[test]
fn what_has_no_signature_is_no_frame() {
    assert_eq!(Frame::unpack(&[0x7f; RTP_BYTES]), Err(BadFrame { actual: 7 }));
}
