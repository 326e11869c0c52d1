//! Files to be transcribed.

use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use sidetone::audio::{AudioError, AudioFile, Format, Limits, PcmSource};

/// Names, of which the contents' first byte chooses one.
const NAMES: [&str; 8] = ["a", "a.wav", "a.mp3", "a.ulaw", "a.gsm", "a.g722", "a.sln16", "a.opus"];

/// Any bytes as an audio file, its name chosen by the first of them: refused with words, or whole frames of it up to its end or the
/// limit, and an end that stays one.
pub fn audio_file(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let hint = Format::of_name(Path::new(NAMES[usize::from(first) % NAMES.len()]));
    let limits = Limits { duration: Duration::from_secs(20) };
    let mut file = match AudioFile::new(Cursor::new(bytes.to_vec()), hint, limits) {
        Ok(file) => file,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let spec = file.spec();
    assert!((4_000..=384_000).contains(&spec.rate_hz) && (1..=64).contains(&spec.channels));
    let mut piece = vec![0; 4_001 * usize::from(spec.channels) + 1];
    let mut frames = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(more) => frames += more,
            Err(AudioError::TooLong { .. }) => return,
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
        assert!(frames as u64 <= 21 * u64::from(spec.rate_hz));
        assert!((0.0..=1.0).contains(&file.share()));
    }
    assert!(matches!(file.read(&mut piece), Ok(0)), "an end stays one");
}
