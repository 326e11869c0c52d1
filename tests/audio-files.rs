//! Audio files as FFmpeg writes and reads them: ours are the same samples, or, where decoders may differ, nearly so.

use std::path::{Path, PathBuf};
use std::process::Command;

use sidetone::audio::{AudioFile, Flaws, Format, Headerless, Limits, PcmSource, PcmSpec};

/// Run FFmpeg, which `scripts/setup` installs.
fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let ran = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y", "-bitexact"]).args(args).output();
    let ran = ran.expect("ffmpeg: run scripts/setup");
    assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// A voice at `hz`, `channels` different ones: speech of the repository, resampled.
struct Voice {
    folder: tempfile::TempDir,
    source: PathBuf,
}

impl Voice {
    fn new(hz: u32, channels: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.wav");
        let prompt = |name: &str| format!("{}/tests/fixtures/speech/{name}.ulaw", env!("CARGO_MANIFEST_DIR"));
        let (left, right) = (prompt("agent-pass"), prompt("ss-noservice"));
        let raw = ["-f", "mulaw", "-ar", "8000", "-i"];
        let filter = if channels == 2 { "[0][1]amerge=inputs=2" } else { "[0]anull" };
        let hz = hz.to_string();
        let args = [
            &raw[..],
            &[&left],
            &raw,
            &[&right],
            &["-filter_complex", filter, "-ar", &hz, source.to_str().unwrap()],
        ];
        ffmpeg(&args.concat());
        Self { folder, source }
    }

    /// The voice in a file of this name, made with these options.
    fn file(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.folder.path().join(name);
        ffmpeg(&[&["-i", self.source.to_str().unwrap()][..], options, &[path.to_str().unwrap()]].concat());
        path
    }
}

/// FFmpeg's samples; `input` are options for its reading.
fn theirs(path: &Path, input: &[&str]) -> Vec<i16> {
    let args = [input, &["-i", path.to_str().unwrap(), "-f", "s16le", "-c:a", "pcm_s16le", "-"]].concat();
    ffmpeg(&args).as_chunks::<2>().0.iter().map(|&bytes| i16::from_le_bytes(bytes)).collect()
}

fn ours(path: &Path) -> (Vec<i16>, PcmSpec, Format) {
    let mut file = AudioFile::open(path, None, Limits::default()).unwrap();
    let mut piece = vec![0; 777 * usize::from(file.spec().channels)];
    let mut samples = Vec::new();
    loop {
        let frames = file.read(&mut piece).unwrap();
        if frames == 0 {
            break;
        }
        samples.extend_from_slice(&piece[..frames * usize::from(file.spec().channels)]);
    }
    assert_eq!(file.flaws(), Flaws::default(), "{}", path.display());
    assert_eq!(file.share(), 1.0, "{}", path.display());
    (samples, file.spec(), file.format())
}

#[track_caller]
fn assert_near(ours: &[i16], theirs: &[i16], most: u16, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}: samples");
    let worst = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(worst <= most, "{what}: off by {worst}");
    assert!(theirs.iter().any(|sample| sample.unsigned_abs() > 2_000), "{what}: there is something to hear");
}

#[test]
fn wav_of_every_width_is_the_same_to_the_sample() {
    for (hz, channels) in [(8_000, 1), (44_100, 2)] {
        let voice = Voice::new(hz, channels);
        for codec in [
            "pcm_u8",
            "pcm_s16le",
            "pcm_s24le",
            "pcm_s32le",
            "pcm_s64le",
            "pcm_f32le",
            "pcm_f64le",
            "pcm_alaw",
            "pcm_mulaw",
        ] {
            let path = voice.file("a.wav", &["-c:a", codec]);
            let (samples, spec, format) = ours(&path);
            assert_eq!((spec, format), (PcmSpec { rate_hz: hz, channels }, Format::Wav), "{codec}");
            // Halves between two numbers may be rounded either way.
            let most = u16::from(codec.starts_with("pcm_f"));
            assert_near(&samples, &theirs(&path, &[]), most, codec);
        }
        let large = voice.file("b.wav", &["-rf64", "always"]);
        assert_near(&ours(&large).0, &theirs(&large, &[]), 0, "RF64");
    }
}

#[test]
fn gsm_is_the_same_to_the_sample_with_and_without_a_header() {
    let voice = Voice::new(8_000, 1);
    let wav49 = voice.file("a.wav", &["-c:a", "libgsm_ms"]);
    let (samples, _, format) = ours(&wav49);
    assert_eq!(format, Format::Wav);
    let all = theirs(&wav49, &[]);
    // Theirs goes on to the end of the last block; ours stops where the header says that the audio does.
    assert!(all.len() - samples.len() < 320, "{} of {}", samples.len(), all.len());
    assert_near(&samples, &all[..samples.len()], 0, "GSM in WAV");
    let raw = voice.file("a.gsm", &["-c:a", "libgsm"]);
    let (samples, _, format) = ours(&raw);
    assert_eq!(format, Format::Headerless(Headerless::Gsm));
    assert_near(&samples, &theirs(&raw, &[]), 0, "GSM");
}

#[test]
fn files_without_a_header_are_what_their_names_say() {
    let voice = Voice::new(8_000, 1);
    for (name, input) in
        [("a.ulaw", "mulaw"), ("a.ul", "mulaw"), ("a.alaw", "alaw"), ("a.al", "alaw"), ("a.sln", "s16le")]
    {
        let path = voice.file(name, &["-f", input]);
        let (samples, spec, _) = ours(&path);
        assert_eq!(spec, PcmSpec { rate_hz: 8_000, channels: 1 });
        assert_near(&samples, &theirs(&path, &["-f", input, "-ar", "8000"]), 0, name);
    }
    let voice = Voice::new(16_000, 1);
    let path = voice.file("a.sln16", &["-f", "s16le"]);
    assert_near(&ours(&path).0, &theirs(&path, &["-f", "s16le", "-ar", "16000"]), 0, "sln16");
    let path = voice.file("a.g722", &[]);
    assert_eq!(ours(&path).1.rate_hz, 16_000);
    // FFmpeg's decoder is not the recommendation's to the bit: see the codec's own tests.
    assert_near(&ours(&path).0, &theirs(&path, &["-f", "g722"]), 16, "G.722");
}

#[test]
fn flac_is_the_same_to_the_sample_behind_any_metadata() {
    for (hz, channels) in [(8_000, 1), (48_000, 2)] {
        let voice = Voice::new(hz, channels);
        for options in [&["-sample_fmt", "s16"][..], &["-sample_fmt", "s32"], &["-compression_level", "12"]] {
            let path = voice.file("a.flac", options);
            let (samples, spec, format) = ours(&path);
            assert_eq!((spec, format), (PcmSpec { rate_hz: hz, channels }, Format::Flac));
            assert_near(&samples, &theirs(&path, &[]), 0, &format!("FLAC {options:?}"));
        }
        // A picture of 3 MB that is none, and a tag before the file.
        let path = voice.file("b.flac", &[]);
        let bytes = std::fs::read(&path).unwrap();
        let picture = [&[6, 0x2d, 0xc6, 0xc0][..], &vec![0xff; 3_000_000]].concat();
        let tagged = [&b"ID3\x04\0\0\0\0\0\x05ohno!"[..], &bytes[..42], &picture, &bytes[42..]].concat();
        let expected = theirs(&path, &[]);
        std::fs::write(&path, tagged).unwrap();
        assert_near(&ours(&path).0, &expected, 0, "FLAC with a picture");
    }
}

#[test]
fn mp3_is_nearly_the_same_and_as_long_as_what_was_encoded() {
    for (hz, channels, options) in [
        (8_000, 1, &["-b:a", "16k"][..]),
        (16_000, 1, &["-q:a", "4"]),
        (44_100, 2, &["-b:a", "128k"]),
        (48_000, 2, &["-q:a", "6", "-metadata", "title=a call"]),
    ] {
        let voice = Voice::new(hz, channels);
        let path = voice.file("a.mp3", options);
        let (samples, spec, format) = ours(&path);
        assert_eq!((spec, format), (PcmSpec { rate_hz: hz, channels }, Format::Mp3));
        assert_eq!(samples.len(), ours(&voice.source).0.len(), "{hz}");
        let expected = theirs(&path, &[]);
        assert_near(
            &samples[..expected.len().min(samples.len())],
            &expected[..samples.len().min(expected.len())],
            2,
            "MP3",
        );
    }
}

#[test]
fn mp3_files_put_together_are_heard_to_the_end() {
    let voice = Voice::new(16_000, 1);
    let path = voice.file("a.mp3", &["-b:a", "32k"]);
    let once = ours(&path).0.len();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&bytes[..], &bytes, &bytes].concat()).unwrap();
    let thrice = ours(&path).0.len();
    assert!(thrice >= 3 * once, "{thrice} of three times {once}");
}

#[test]
fn opus_is_nearly_the_same_and_as_long_as_what_was_encoded() {
    for (hz, channels, options) in [
        (8_000, 1, &["-b:a", "16k", "-application", "voip"][..]),
        (48_000, 2, &["-b:a", "64k"]),
        (16_000, 1, &["-b:a", "24k", "-frame_duration", "60"]),
        (48_000, 1, &["-b:a", "12k", "-frame_duration", "2.5"]),
    ] {
        let voice = Voice::new(hz, channels);
        for name in ["a.opus", "a.ogg"] {
            let path = voice.file(name, &[&["-c:a", "libopus"], options].concat());
            let (samples, spec, format) = ours(&path);
            assert_eq!((spec, format), (PcmSpec { rate_hz: 48_000, channels }, Format::OggOpus));
            let expected = theirs(&path, &["-c:a", "libopus"]);
            // libopus 1.3 and 1.6 differ in their last bits.
            assert_near(&samples, &expected, 8, &format!("Opus {options:?}"));
            let source = ours(&voice.source).0.len() as u64 * 48_000 / u64::from(hz);
            assert!(
                source.abs_diff(samples.len() as u64) <= 6 * u64::from(channels),
                "{source} {}",
                samples.len()
            );
        }
    }
}

#[test]
fn what_is_cut_off_is_read_as_far_as_it_goes_and_said_to_be() {
    let voice = Voice::new(16_000, 1);
    for (name, options) in [
        ("a.wav", &[][..]),
        ("a.flac", &[]),
        ("a.opus", &["-c:a", "libopus"]),
        ("b.wav", &["-ar", "8000", "-c:a", "libgsm_ms"]),
    ] {
        let path = voice.file(name, options);
        let whole = ours(&path).0.len();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let mut file = AudioFile::open(&path, None, Limits::default()).unwrap();
        let mut samples = vec![0; 2 * whole];
        let frames = file.read(&mut samples).unwrap();
        assert!((whole / 4..whole * 3 / 4).contains(&frames), "{name}: {frames} of {whole}");
        assert!(file.flaws().cut_off, "{name}");
    }
}
