//! What was said, found again in what was recorded.

/// Samples of a packet: 20 ms.
const FRAME: usize = 160;

/// Where `needle` begins in `hay`, all samples equal; `None` if nowhere.
pub fn position(hay: &[i16], needle: &[i16]) -> Option<usize> {
    // Silence is everywhere: look for the loudest stretch first.
    let loud = (0..needle.len()).max_by_key(|&i| needle[i].unsigned_abs())?;
    let probe = &needle[loud..(loud + 32).min(needle.len())];
    let starts = hay.windows(probe.len()).enumerate().filter(|(_, window)| *window == probe);
    starts
        .filter_map(|(at, _)| at.checked_sub(loud))
        .find(|&start| hay.get(start..start + needle.len()).is_some_and(|stretch| stretch == needle))
}

/// How a prompt lies in a recording when Asterisk, short of time, put frames of silence between its frames.
#[derive(Debug)]
pub struct Followed {
    /// Frames of the prompt that are there, sample for sample, in order.
    pub found: usize,
    /// Frames of the prompt that have sound in them.
    pub sounding: usize,
    /// Where to look for what was said next.
    pub end: usize,
}

/// How far `prompt` lies later in `b` than in `a`, samples: the median over its frames, since Asterisk, short of time, does
/// not pass on all of them alike.
pub fn apart(a: &[i16], b: &[i16], prompt: &[i16]) -> i64 {
    let mut distances: Vec<_> = prompt
        .chunks_exact(FRAME)
        .filter_map(|frame| Some(position(b, frame)? as i64 - position(a, frame)? as i64))
        .collect();
    assert!(distances.len() > 50, "too few frames in both legs: {}", distances.len());
    distances.sort_unstable();
    distances[distances.len() / 2]
}

/// Follow `prompt` through `leg`, frame by frame.
pub fn follow(leg: &[i16], prompt: &[i16]) -> Followed {
    let sounding = |frame: &&[i16]| frame.iter().any(|&s| s.unsigned_abs() > 64);
    let mut followed = Followed { found: 0, sounding: 0, end: 0 };
    for frame in prompt.chunks_exact(FRAME).filter(sounding) {
        followed.sounding += 1;
        // At most half a second of silence is put in between.
        let from = followed.end;
        let until = if followed.found == 0 { leg.len() } else { (from + 25 * FRAME).min(leg.len()) };
        if let Some(at) = position(&leg[from..until], frame) {
            followed.found += 1;
            followed.end = from + at + FRAME;
        }
    }
    followed
}
