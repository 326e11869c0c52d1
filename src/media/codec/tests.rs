use super::*;

#[test]
fn names_payload_types_and_rates_are_asterisks() {
    for (name, payload_type, rate, clock) in [
        ("ulaw", 0, 8_000, 8_000),
        ("gsm", 3, 8_000, 8_000),
        ("alaw", 8, 8_000, 8_000),
        ("g722", 9, 16_000, 8_000),
        ("slin", 10, 8_000, 8_000),
        ("opus", 107, 16_000, 48_000),
        ("slin16", 118, 16_000, 16_000),
        ("slin12", 122, 12_000, 12_000),
        ("slin24", 123, 24_000, 24_000),
        ("slin48", 126, 48_000, 48_000),
    ] {
        let codec = Codec::from_name(name).unwrap();
        assert_eq!(codec.payload_type(), payload_type);
        assert_eq!(Codec::from_payload_type(payload_type), Some(codec));
        assert_eq!(codec.sample_rate().hz(), rate);
        assert_eq!(codec.rtp_clock_rate(), clock);
        assert_eq!(Codec::STATELESS.contains(&codec), !codec.is_stateful());
    }
    assert_eq!(Codec::from_name("g729"), None);
}

#[test]
fn linear_is_big_endian_on_rtp() {
    let mut payload = Vec::new();
    Codec::Slin.encode(&[0x1234, -2], &mut payload);
    assert_eq!(payload, [0x12, 0x34, 0xff, 0xfe]);
    assert_eq!(Codec::Slin16.decode(&payload, 1), -2);
}

#[test]
fn impossible_lengths_are_refused() {
    let samples = |codec: Codec, bytes: usize| codec.samples_in(&vec![0; bytes]);
    assert_eq!(samples(Codec::Slin, 321), None);
    assert_eq!(samples(Codec::Ulaw, 0), None);
    assert_eq!(samples(Codec::Ulaw, 8_001), None);
    assert_eq!(samples(Codec::Slin16, 640), Some(320));
    assert_eq!(samples(Codec::Slin48, 1_920), Some(960));
    assert_eq!(samples(Codec::G722, 160), Some(320));
    assert_eq!(samples(Codec::G722, 1_601), None);
    assert_eq!(samples(Codec::Gsm, 33), Some(160));
    assert_eq!(samples(Codec::Gsm, 66), Some(320));
    assert_eq!(samples(Codec::Gsm, 34), None);
    assert_eq!(samples(Codec::Opus, 0), None);
}

#[test]
fn a_decoder_says_what_is_wrong() {
    let mut pcm = [0; 160];
    let mut gsm = Decoder::new(Codec::Gsm).unwrap();
    assert_eq!(
        gsm.decode(&[0; 32], &mut pcm).unwrap_err().to_string(),
        "gsm payload of 32 bytes is impossible"
    );
    assert_eq!(
        gsm.decode(&[0x40; 33], &mut pcm).unwrap_err().to_string(),
        "GSM frame begins with 0x4, expected 0xd"
    );
    let mut g722 = Decoder::new(Codec::G722).unwrap();
    assert_eq!(
        g722.decode(&[0; 160], &mut pcm).unwrap_err().to_string(),
        "room for 160 samples, 320 are needed"
    );
}

/// A voice-like signal: a pulse train through two resonances, with pauses.
pub fn speech_like(rate: u32, samples: usize) -> Vec<i16> {
    let (mut a, mut b, mut noise) = ([0.0_f64; 2], [0.0_f64; 2], 1_u32);
    let rate = f64::from(rate);
    let resonance = |state: &mut [f64; 2], input: f64, hz: f64| {
        let out = input + 1.94 * (std::f64::consts::TAU * hz / rate).cos() * state[0] - 0.941 * state[1];
        *state = [out, state[0]];
        out
    };
    let mut phase = 0.0;
    (0..samples)
        .map(|i| {
            let seconds = i as f64 / rate;
            phase += (110.0 + 30.0 * (seconds * 3.0).sin()) / rate;
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = (f64::from(noise >> 16) / 32_768.0 - 1.0) * 40.0;
            let pulse = if phase >= 1.0 { 900.0 } else { 0.0 };
            phase %= 1.0;
            let speaks = if (seconds * 1.7).fract() < 0.75 { 1.0 } else { 0.0 };
            let voice = resonance(&mut a, pulse * speaks + hiss, 500.0 + 250.0 * (seconds * 5.0).sin());
            resonance(&mut b, voice * 0.3, 1_500.0).clamp(-20_000.0, 20_000.0) as i16
        })
        .collect()
}

#[test]
fn a_decoder_goes_on_from_a_snapshot_as_it_did_before() {
    for codec in [Codec::G722, Codec::Gsm] {
        let pcm = speech_like(codec.sample_rate().hz(), codec.sample_rate().hz() as usize);
        let frame = codec.sample_rate().hz() as usize / 50;
        let mut encoder = Encoder::new(codec).unwrap();
        let mut payload = Vec::new();
        encoder.encode(&pcm[..frame * 40], &mut payload).unwrap();
        let packets: Vec<_> = payload.chunks(payload.len() / 40).collect();
        let mut decoder = Decoder::new(codec).unwrap();
        let (mut first, mut again) = (vec![0; frame], vec![0; frame]);
        packets[..20].iter().for_each(|packet| assert_eq!(decoder.decode(packet, &mut first), Ok(frame)));
        let snapshot = decoder.snapshot().unwrap();
        decoder.decode(packets[20], &mut first).unwrap();
        decoder.decode(packets[30], &mut again).unwrap();
        assert_ne!(first, again);
        decoder.restore(&snapshot);
        decoder.decode(packets[20], &mut again).unwrap();
        assert_eq!(first, again);
        decoder.reset();
        let mut fresh = Decoder::new(codec).unwrap();
        decoder.decode(packets[20], &mut first).unwrap();
        fresh.decode(packets[20], &mut again).unwrap();
        assert_eq!(first, again);
    }
}

#[test]
fn linear_pcm_has_the_rate_of_the_codec_it_stands_for() {
    for codec in Codec::ALL {
        assert_eq!(codec.linear().sample_rate(), codec.sample_rate());
        assert_eq!(codec.linear().linear(), codec.linear());
    }
}
