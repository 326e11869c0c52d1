//! Hostile and damaged files. Whole ones are compared with another program's reading in `tests/audio-files.rs`.

use std::io::Cursor;

use proptest::prelude::*;

use super::ogg::making::page;
use super::*;

fn open(bytes: &[u8], name: &str) -> Result<AudioFile, AudioError> {
    let hint = Format::of_name(std::path::Path::new(name));
    AudioFile::new(Cursor::new(bytes.to_vec()), hint, Limits::default())
}

/// All samples, and what was wrong.
fn read(bytes: &[u8], name: &str) -> Result<(Vec<i16>, PcmSpec, Flaws), AudioError> {
    let mut file = open(bytes, name)?;
    let mut piece = vec![0; 1_000 * usize::from(file.spec().channels)];
    let mut samples = Vec::new();
    loop {
        let frames = file.read(&mut piece)?;
        if frames == 0 {
            return Ok((samples, file.spec(), file.flaws()));
        }
        samples.extend_from_slice(&piece[..frames * usize::from(file.spec().channels)]);
    }
}

#[test]
fn a_name_decides_only_where_the_contents_do_not() {
    let wav = [&wav::header(8_000, 1, 4)[..], &[1, 0, 2, 0]].concat();
    for name in ["a.wav", "a.gsm", "a.mp3", "a"] {
        assert_eq!(read(&wav, name).unwrap().0, [1, 2], "{name}");
    }
    let codes = [0x80, 0xff, 0x00];
    assert_eq!(read(&codes, "a.ulaw").unwrap().0, [32_124, 0, -32_124]);
    assert_eq!(read(&codes, "A.AL").unwrap().0.len(), 3);
    assert_eq!(read(&codes, "a.g722").unwrap().0.len(), 6);
    let (samples, spec, flaws) = read(&codes, "a.sln48").unwrap();
    assert_eq!((samples.len(), spec.rate_hz, flaws.cut_off), (1, 48_000, true));
    // Silence in µ-law looks like the beginning of an MPEG frame.
    assert_eq!(read(&[0xff; 500], "a.ul").unwrap().0, [0; 500]);
    assert!(matches!(read(&codes, "a.pcm"), Err(AudioError::Unknown)));
    assert!(matches!(read(&[0xff; 500], "a"), Err(AudioError::Unknown)));
    assert!(matches!(read(b"", "a.wav"), Err(AudioError::Empty)));
}

#[test]
fn what_is_known_and_not_read_is_named() {
    for (head, name) in [
        (&b"\0\0\0\x20ftypM4A \0\0\0\0"[..], "MP4"),
        (b"\x1a\x45\xdf\xa3\0\0\0\0\0\0\0\0\0\0", "WebM"),
        (b"FORM\0\0\0\0AIFFCOMM", "AIFF"),
        (b"#!AMR\n\0\0\0\0\0\0\0", "AMR"),
    ] {
        let words = open(head, "a.mp3").unwrap_err().to_string();
        assert!(words.contains(name) && words.contains("ffmpeg"), "{words}");
    }
    let vorbis = page(2, 0, 1, 0, &[b"\x01vorbis and so on"]);
    assert!(
        open(&[vorbis, page(0, 0, 1, 1, &[b"x"])].concat(), "a.ogg")
            .unwrap_err()
            .to_string()
            .contains("Vorbis in Ogg")
    );
}

#[test]
fn gsm_without_a_name_is_known_by_its_signature_and_with_one_must_have_it() {
    let frame = [&[0xd0][..], &[0; 32]].concat();
    let file = frame.repeat(10);
    assert_eq!(open(&file, "a").unwrap().format(), Format::Headerless(Headerless::Gsm));
    assert_eq!(read(&file, "a.gsm").unwrap().0.len(), 1_600);
    assert!(matches!(read(&[7; 330], "a.gsm"), Err(AudioError::Damaged { .. })));
    let mut spoilt = file.clone();
    spoilt[33] = 0;
    let (samples, _, flaws) = read(&spoilt[..320], "a.gsm").unwrap();
    assert_eq!((samples.len(), flaws), (1_440, Flaws { damaged: 1, cut_off: true }));
    assert_eq!(samples[160..320], [0; 160]);
}

#[test]
fn a_header_that_lies_about_the_rate_is_refused() {
    for hz in [0, 1, 3_999, 400_000, u32::MAX] {
        let mut file = wav::header(8_000, 1, 4).to_vec();
        let at = file.windows(4).position(|bytes| bytes == b"fmt ").unwrap() + 12;
        file[at..at + 4].copy_from_slice(&hz.to_le_bytes());
        file.extend([0; 4]);
        let words = open(&file, "a.wav").unwrap_err().to_string();
        assert!(words.contains(&hz.to_string()), "{words}");
    }
}

fn opus_head(channels: u8, skip: u16) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend(skip.to_le_bytes());
    head.extend([0x80, 0xbb, 0, 0, 0, 0, 0]);
    head
}

/// A code 3 packet of six frames of 20 ms, each of nothing: 120 ms in two bytes.
const LONG: [u8; 2] = [0x0b, 6];

/// So many pages of 255 such packets.
fn silence_by_the_hour(pages: u32) -> Vec<u8> {
    let mut file = page(2, 0, 9, 0, &[&opus_head(1, 312)]);
    file.extend(page(0, 0, 9, 1, &[b"OpusTags"]));
    for n in 0..pages {
        let granule = i64::from(n + 1) * 255 * 5_760;
        file.extend(page(if n + 1 == pages { 4 } else { 0 }, granule, 9, n + 2, &[&LONG[..]; 255]));
    }
    file
}

#[test]
fn a_little_file_of_many_hours_is_cut_off_at_the_limit() {
    let file = silence_by_the_hour(4);
    let limits = Limits { duration: std::time::Duration::from_secs(60) };
    let mut audio = AudioFile::new(Cursor::new(file.clone()), None, limits).unwrap();
    let mut piece = vec![0; 48_000];
    let error = loop {
        match audio.read(&mut piece) {
            Ok(frames) => assert!(frames > 0),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("60 seconds"), "{error}");
    let (samples, _, flaws) = read(&file, "a").unwrap();
    assert_eq!(samples.len(), 4 * 255 * 5_760 - 312);
    assert_eq!(flaws, Flaws::default());
}

#[test]
fn opus_is_cut_to_the_length_that_its_last_page_tells_and_survives_what_is_lost() {
    let head = page(2, 0, 9, 0, &[&opus_head(2, 312)]);
    let tags = page(0, 0, 9, 1, &[&[b'x'; 1_000]]);
    let sound = page(0, 5_760, 9, 2, &[&LONG]);
    let last = page(4, 5_760 + 1_000, 9, 3, &[&LONG]);
    let whole = [&head[..], &tags, &sound, &last].concat();
    let (samples, spec, flaws) = read(&whole, "a.opus").unwrap();
    assert_eq!(spec, PcmSpec { rate_hz: 48_000, channels: 2 });
    assert_eq!((samples.len(), flaws), (2 * (6_760 - 312), Flaws::default()));

    let (samples, _, flaws) = read(&[&head[..], &tags, &sound].concat(), "a.opus").unwrap();
    assert_eq!((samples.len(), flaws.cut_off), (2 * (5_760 - 312), true));

    // A stream in between that is none of ours, a packet that is none, and a second stream behind the first.
    let other = page(2, 0, 77, 0, &[b"fishead\0"]);
    let noise = page(0, 1, 77, 1, &[&LONG]);
    let bad = page(0, 5_760, 9, 2, &[&[0x0b, 60][..], &LONG]);
    let next = page(2, 0, 10, 0, &[&opus_head(2, 0)]);
    let next_tags = page(0, 0, 10, 1, &[b"OpusTags"]);
    let next_sound = page(4, 2 * 5_760, 10, 2, &[&LONG, &LONG]);
    let file = [&head[..], &other, &tags, &noise, &bad, &last, &next, &next_tags, &next_sound].concat();
    let (samples, _, flaws) = read(&file, "a.ogg").unwrap();
    assert_eq!(samples.len(), 2 * (6_760 - 312 + 2 * 5_760));
    assert_eq!(flaws, Flaws { damaged: 1, cut_off: false });

    let three = page(2, 0, 9, 0, &[&opus_head(3, 0)]);
    assert!(matches!(open(&three, "a.ogg"), Err(AudioError::Unsupported { .. })));
}

#[test]
fn flac_without_frames_and_with_metadata_that_never_ends_is_refused() {
    let info =
        [&[0x00, 0, 0, 34][..], &[0x10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0xc4, 0x40, 0xf0], &[0; 20]]
            .concat();
    let mut endless = [&b"fLaC"[..], &info].concat();
    for _ in 0..50 {
        endless.extend([0x01, 0xff, 0xff, 0xff]);
    }
    for file in [&b"fLaC"[..], &endless, &[&b"fLaC"[..], &[0x84, 0, 0, 0]].concat()] {
        let words = open(file, "a.flac").unwrap_err().to_string();
        assert!(words.starts_with("no FLAC that can be decoded"), "{words}");
    }
    let words =
        open(b"ID3\x04\0\0\0\0\0\x02xxand nothing of an MPEG frame", "a.mp3").unwrap_err().to_string();
    assert!(words.starts_with("no MP3 that can be decoded"), "{words}");
}

#[test]
fn samples_in_memory_are_as_long_as_the_longest_channel() {
    let mut samples = Samples::new(8_000, &[&[1, 2, 3], &[4]]);
    let mut out = [9; 5];
    assert_eq!(samples.read(&mut out).unwrap(), 2);
    assert_eq!(out, [1, 4, 2, 0, 9]);
    assert_eq!(samples.read(&mut out).unwrap(), 1);
    assert_eq!((samples.read(&mut out).unwrap(), samples.share()), (0, 1.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_behind_any_beginning_are_read_or_refused(
        head in prop::sample::select(vec![&b""[..], b"fLaC", b"ID3\x03\0\0\0\0\0\x01", b"OggS\0\x02", b"RIFF\0\0\0\0WAVEfmt ", b"\xff\xfb\x90\x40"]),
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
        name in prop::sample::select(vec!["a", "a.mp3", "a.gsm", "a.ulaw"]),
    ) {
        let file = [head, &bytes].concat();
        if let Ok((samples, spec, _)) = read(&file, name) {
            prop_assert!(samples.len().is_multiple_of(usize::from(spec.channels)));
        }
    }
}
