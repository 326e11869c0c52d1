use std::f64::consts::TAU;

use super::*;
use crate::audio::{Format, Headerless};

/// Speech-like enough: two tones that swell.
fn signal(hz: u32, frames: usize, channels: usize) -> Vec<i16> {
    let at = |n: usize, tone: f64| (TAU * tone * n as f64 / f64::from(hz)).sin();
    (0..frames)
        .flat_map(|n| {
            let swell = 6_000.0 * (0.6 + 0.4 * at(n, 3.0));
            (0..channels).map(move |c| (swell * at(n, 300.0 + 450.0 * c as f64)) as i16)
        })
        .collect()
}

fn wav(folder: &Path, hz: u32, channels: u16, pcm: &[i16]) -> PathBuf {
    let path = folder.join(format!("in-{hz}-{channels}.wav"));
    let data: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let header = crate::audio::wav::header(hz, channels, data.len() as u64);
    std::fs::write(&path, [&header[..], &data].concat()).unwrap();
    path
}

fn read(path: &Path) -> (u32, u16, Vec<i16>) {
    let mut file = AudioFile::open(path, None, Limits::default()).unwrap();
    let spec = file.spec();
    let (mut all, mut piece) = (Vec::new(), vec![0; 1_000 * usize::from(spec.channels)]);
    loop {
        match file.read(&mut piece).unwrap() {
            0 => break,
            frames => all.extend_from_slice(&piece[..frames * usize::from(spec.channels)]),
        }
    }
    assert_eq!(file.flaws(), Flaws::default());
    (spec.rate_hz, spec.channels, all)
}

fn to(source: &Path, out: &Path) -> Result<Converted, ConvertError> {
    with(
        source,
        out,
        Conversion { target: Target::of_path(out).unwrap(), rate_hz: None, channels: Channels::Keep },
    )
}

fn with(source: &Path, out: &Path, conversion: Conversion) -> Result<Converted, ConvertError> {
    let mut source = AudioFile::open(source, None, Limits::default())?;
    convert(&mut source, out, conversion, &mut |_| true)
}

/// How far two signals are apart, dB below the first.
fn snr(a: &[i16], b: &[i16]) -> f64 {
    let energy = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>();
    let signal = energy(&mut a.iter().map(|&x| f64::from(x)));
    let noise = energy(&mut a.iter().zip(b).map(|(&x, &y)| f64::from(x) - f64::from(y)));
    10.0 * (signal / noise.max(1e-9)).log10()
}

#[test]
fn every_kind_can_be_written_and_read_back_as_long_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    // A length that no codec's frames divide.
    let source = wav(folder.path(), 8_000, 1, &signal(8_000, 12_347, 1));
    for (name, hz, frames) in [
        ("a.wav", 8_000, 12_347),
        ("a.wav16", 16_000, 24_694),
        ("a.wav49", 8_000, 12_347),
        ("a.ulaw", 8_000, 12_347),
        ("a.alaw", 8_000, 12_347),
        ("a.gsm", 8_000, 12_480),
        ("a.g722", 16_000, 24_694),
        ("a.sln", 8_000, 12_347),
        ("a.sln12", 12_000, 18_521),
        ("a.sln16", 16_000, 24_694),
        ("a.sln44", 44_100, 68_063),
        ("a.sln192", 192_000, 296_328),
        ("a.opus", 48_000, 74_082),
        ("a.ogg", 48_000, 74_082),
    ] {
        let out = folder.path().join(name);
        let done = to(&source, &out).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(done.bytes, std::fs::metadata(&out).unwrap().len(), "{name}");
        assert!((done.seconds - 12_347.0 / 8_000.0).abs() < 1e-3, "{name}: {}", done.seconds);
        let (rate, channels, pcm) = read(&out);
        assert_eq!((rate, channels, pcm.len()), (hz, 1, frames), "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 15, "no draft is left: {left:?}");
}

#[test]
fn what_need_not_change_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let pcm = signal(8_000, 8_000, 2);
    let source = wav(folder.path(), 8_000, 2, &pcm);
    let out = folder.path().join("out.wav");
    to(&source, &out).unwrap();
    assert_eq!(read(&out), (8_000, 2, pcm.clone()));

    let left = folder.path().join("left.sln");
    with(
        &source,
        &left,
        Conversion { target: Target::of_path(&left).unwrap(), rate_hz: None, channels: Channels::One(0) },
    )
    .unwrap();
    assert_eq!(read(&left).2, pcm.iter().copied().step_by(2).collect::<Vec<_>>());
    // There and back again: the codes stay.
    let (ulaw, again) = (folder.path().join("l.ulaw"), folder.path().join("m.ulaw"));
    to(&left, &ulaw).unwrap();
    let back = folder.path().join("back.wav");
    to(&ulaw, &back).unwrap();
    to(&back, &again).unwrap();
    assert_eq!(std::fs::read(&ulaw).unwrap(), std::fs::read(&again).unwrap());
}

#[test]
fn both_channels_are_resampled_alike_and_mixed_where_there_is_room_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let (narrow, wide) = (signal(8_000, 16_000, 2), signal(48_000, 96_000, 2));
    let source = wav(folder.path(), 48_000, 2, &wide);
    let out = folder.path().join("out.wav");
    with(
        &source,
        &out,
        Conversion { target: Target::Wav { rate_hz: None }, rate_hz: Some(8_000), channels: Channels::Keep },
    )
    .unwrap();
    let (hz, channels, pcm) = read(&out);
    assert_eq!((hz, channels, pcm.len()), (8_000, 2, narrow.len()));
    let inner = 1_000..narrow.len() - 1_000;
    assert!(snr(&narrow[inner.clone()], &pcm[inner]) > 45.0);

    let mixed = folder.path().join("mixed.sln");
    let source = wav(folder.path(), 8_000, 2, &narrow);
    to(&source, &mixed).unwrap();
    let mean: Vec<i16> = narrow.chunks(2).map(|f| ((i32::from(f[0]) + i32::from(f[1])) / 2) as i16).collect();
    assert_eq!(read(&mixed).2, mean);
}

#[test]
fn opus_sounds_as_before_and_stays_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let pcm = signal(48_000, 48_000 * 3 + 77, 2);
    let source = wav(folder.path(), 48_000, 2, &pcm);
    let out = folder.path().join("out.opus");
    to(&source, &out).unwrap();
    let (hz, channels, back) = read(&out);
    assert_eq!((hz, channels, back.len()), (48_000, 2, pcm.len()));
    // Periods are 160 samples and less; the swell tells them apart.
    let lag = (-60..=60).max_by(|&a, &b| like(&pcm, &back, a).total_cmp(&like(&pcm, &back, b))).unwrap();
    assert_eq!(lag, 0);
    assert!(like(&pcm, &back, 0) > 0.97, "{}", like(&pcm, &back, 0));
}

/// Correlation of the left channels, the second `lag` frames later.
fn like(a: &[i16], b: &[i16], lag: i64) -> f64 {
    let frames = (a.len() / 2) as i64;
    let pairs =
        (9_600..frames - 9_600).map(|n| (f64::from(a[2 * n as usize]), f64::from(b[2 * (n + lag) as usize])));
    let (ab, aa, bb) =
        pairs.fold((0.0, 0.0, 0.0), |(ab, aa, bb), (x, y)| (ab + x * y, aa + x * x, bb + y * y));
    ab / f64::sqrt(aa * bb)
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = wav(folder.path(), 8_000, 1, &signal(8_000, 800, 1));
    let out = folder.path().join("deep/er/out.wav");
    let attempt = |target, rate_hz, channels| with(&source, &out, Conversion { target, rate_hz, channels });
    let wav = Target::Wav { rate_hz: None };
    assert!(matches!(
        attempt(wav, None, Channels::One(1)),
        Err(ConvertError::NoChannel { asked: 2, count: 1 })
    ));
    for (target, hz) in [(wav, 3_999), (Target::Wav49, 16_000), (Target::OggOpus, 44_100)] {
        assert!(matches!(attempt(target, Some(hz), Channels::Keep), Err(ConvertError::TargetRate { .. })));
    }
    assert!(!folder.path().join("deep").exists());

    std::fs::write(folder.path().join("taken"), "a file where a folder should be").unwrap();
    let out = folder.path().join("taken/out.wav");
    let error = to(&source, &out).unwrap_err();
    assert!(
        matches!(&error, ConvertError::Write { .. }) && error.to_string().contains("taken/out.wav"),
        "{error}"
    );
    for name in ["a.mp3", "a.flac", "a.txt", "a"] {
        assert!(Target::of_path(Path::new(name)).is_err(), "{name}");
    }
}

#[test]
fn an_output_that_cannot_be_read_back_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let source = wav(folder.path(), 8_000, 1, &signal(8_000, 800, 1));
    let file = AudioFile::open(&source, None, Limits::default()).unwrap();
    let conversion =
        Conversion { target: Target::Wav { rate_hz: None }, rate_hz: None, channels: Channels::Keep };
    let plan = Plan::of(&file, conversion).unwrap();
    assert!(plan.verify(&source, &source, 800).is_ok());
    for (frames, bytes) in [(801, None), (799, None), (800, Some(500)), (800, Some(20))] {
        let draft = folder.path().join("draft.wav");
        let mut contents = std::fs::read(&source).unwrap();
        contents.truncate(bytes.unwrap_or(contents.len()));
        std::fs::write(&draft, contents).unwrap();
        let error = plan.verify(&draft, Path::new("out.wav"), frames).unwrap_err();
        assert!(matches!(error, ConvertError::Unverified { .. }), "{error}");
    }
}

#[test]
fn names_stand_for_kinds_both_ways() {
    for name in [
        "wav", "wav16", "wav49", "ulaw", "alaw", "gsm", "g722", "sln", "sln12", "sln16", "sln24", "sln32",
        "sln44", "sln48", "sln96", "sln192", "opus",
    ] {
        assert_eq!(Target::of_name(name).unwrap().extension(), name);
    }
    assert_eq!(Target::of_name(".WAV").unwrap(), Target::Wav { rate_hz: None });
    assert_eq!(Target::of_name("ogg").unwrap(), Target::OggOpus);
    assert_eq!(Target::of_name("ul").unwrap().format(8_000), Format::Headerless(Headerless::Ulaw));
}
