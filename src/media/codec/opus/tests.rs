//! Against FFmpeg; `../testdata/README.md` says how the vectors were made.

use super::*;
use crate::media::codec::tests::speech_like;

const FRAME: usize = 320;

fn packets() -> Vec<&'static [u8]> {
    let mut rest: &[u8] = include_bytes!("../testdata/speech.opus-packets");
    let mut packets = Vec::new();
    while let [high, low, tail @ ..] = rest {
        let (packet, tail) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        packets.push(packet);
        rest = tail;
    }
    packets
}

fn decoded(packets: &[&[u8]]) -> Vec<i16> {
    let mut decoder = Decoder::new().unwrap();
    let mut out = Vec::new();
    for packet in packets {
        let mut samples = [0; MAX_PACKET_SAMPLES];
        let made = decoder.decode(packet, &mut samples).unwrap();
        assert_eq!(Some(made), samples_in(packet));
        out.extend_from_slice(&samples[..made]);
    }
    out
}

fn energy(samples: impl Iterator<Item = f64>) -> f64 {
    samples.map(|sample| sample * sample).sum()
}

/// How much stronger `wanted` is than the difference of `got` from it, decibels.
fn snr(wanted: &[i16], got: &[i16]) -> f64 {
    let difference = wanted.iter().zip(got).map(|(&a, &b)| f64::from(a) - f64::from(b));
    10.0 * (energy(wanted.iter().map(|&a| f64::from(a))) / energy(difference).max(1.0)).log10()
}

/// The best of all delays of `got` up to 10 ms, and that delay.
fn aligned_snr(wanted: &[i16], got: &[i16]) -> (f64, usize) {
    let at = |delay: usize| snr(&wanted[..wanted.len() - 160], &got[delay..]);
    (0..160).map(|delay| (at(delay), delay)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

#[test]
fn packets_of_ffmpeg_decode_as_ffmpeg_decodes_them() {
    let ours = decoded(&packets());
    let theirs = include_bytes!("../testdata/speech.opus.ffmpeg.raw").as_chunks::<2>().0;
    let theirs: Vec<_> = theirs.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect();
    let (snr, _) = aligned_snr(&theirs[..9_600], &ours);
    assert!(snr > 30.0, "{snr} dB");
}

#[test]
fn speech_survives_the_way_through_encoder_and_decoder() {
    let signal = include_bytes!("../testdata/signal-16k.raw").as_chunks::<2>().0;
    let speech: Vec<_> = signal[..9_600].iter().map(|bytes| i16::from_le_bytes(*bytes)).collect();
    let mut encoder = Encoder::new(0).unwrap();
    encoder.set_bitrate(64_000).unwrap();
    let mut decoder = Decoder::new().unwrap();
    let mut got = Vec::new();
    for frame in speech.chunks(FRAME) {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet).unwrap();
        let mut samples = [0; FRAME];
        assert_eq!(decoder.decode(&packet, &mut samples).unwrap(), FRAME);
        got.extend(samples);
    }
    let (snr, delay) = aligned_snr(&speech, &got);
    // The encoder looks 6.5 ms ahead: 104 samples, which its high-pass filter makes a little less.
    assert!(snr > 10.0 && (103..=104).contains(&delay), "{snr} dB at {delay}");
}

/// Packets of speech for a sender that expects a loss of 20 %, and what each decodes to.
fn protected() -> (Vec<Vec<u8>>, Vec<Vec<i16>>) {
    let speech = speech_like(16_000, 32_000);
    let mut encoder = Encoder::new(20).unwrap();
    encoder.set_bitrate(24_000).unwrap();
    let mut decoder = Decoder::new().unwrap();
    let (mut packets, mut whole) = (Vec::new(), Vec::new());
    for frame in speech.chunks(FRAME) {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet).unwrap();
        let mut samples = vec![0; FRAME];
        decoder.decode(&packet, &mut samples).unwrap();
        packets.push(packet);
        whole.push(samples);
    }
    (packets, whole)
}

#[test]
fn a_lost_frame_is_nearer_to_what_it_was_by_the_next_packets_copy_than_by_concealment() {
    let (packets, whole) = protected();
    let (mut by_copy, mut by_concealment, mut carried) = (0.0, 0.0, 0);
    for lost in (10..packets.len() - 1).step_by(7) {
        if !has_fec(&packets[lost + 1]) {
            continue;
        }
        carried += 1;
        let error = |copy: bool| {
            let mut decoder = Decoder::new().unwrap();
            let mut samples = [0; FRAME];
            for packet in &packets[..lost] {
                decoder.decode(packet, &mut samples).unwrap();
            }
            let made = if copy {
                decoder.decode_fec(&packets[lost + 1], &mut samples)
            } else {
                decoder.conceal(&mut samples)
            };
            assert_eq!(made, Ok(FRAME));
            energy(samples.iter().zip(&whole[lost]).map(|(&a, &b)| f64::from(a) - f64::from(b)))
        };
        by_copy += error(true);
        by_concealment += error(false);
    }
    assert!(carried >= 5, "{carried} packets carry copies");
    assert!(by_copy * 2.0 < by_concealment, "{by_copy} {by_concealment}");
}

#[test]
fn packets_without_copies_are_known() {
    assert!(packets().iter().all(|packet| !has_fec(packet)));
    let mut encoder = Encoder::new(20).unwrap();
    let mut packet = Vec::new();
    encoder.encode(&[0; FRAME], &mut packet).unwrap();
    assert!(!has_fec(&packet), "there is nothing yet to copy");
}

#[test]
fn lengths_are_those_of_libopus() {
    let mut frames_seen = 0;
    for toc in 0..=255_u8 {
        for tail in [&[][..], &[1], &[2, 9], &[0x83, 1, 1, 7, 7, 7], &[0x43, 2, 7, 7, 7, 0, 0], &[0x30; 48]] {
            let packet = [&[toc], tail].concat();
            let theirs = opus::packet::parse(&packet).ok().and_then(|_| {
                opus::packet::get_nb_samples(&packet, RATE.hz()).ok().filter(|&samples| samples > 0)
            });
            frames_seen += usize::from(theirs.is_some());
            assert_eq!(samples_in(&packet), theirs, "{packet:x?}");
        }
    }
    assert!(frames_seen > 300, "{frames_seen}");
}

#[test]
fn silence_is_next_to_nothing_with_discontinuous_transmission() {
    let mut encoder = Encoder::new(0).unwrap();
    encoder.set_dtx(true).unwrap();
    let speech = speech_like(16_000, 16_000);
    let mut packet = Vec::new();
    for frame in speech.chunks(FRAME).take(20) {
        packet.clear();
        encoder.encode(frame, &mut packet).unwrap();
        assert!(!is_dtx(&packet));
    }
    let quiet = (0..100).filter(|_| {
        packet.clear();
        encoder.encode(&[0; FRAME], &mut packet).unwrap();
        is_dtx(&packet)
    });
    assert!(quiet.count() > 50);
}
