//! What the ear would say, to the sample.

/// Where `needle` begins in `hay`, all samples equal; `None` if nowhere.
pub fn position(hay: &[i16], needle: &[i16]) -> Option<usize> {
    // Silence is everywhere: anchor on the loudest stretch first.
    let loud = (0..needle.len()).max_by_key(|&i| needle[i].unsigned_abs())?;
    let probe = &needle[loud..(loud + 32).min(needle.len())];
    let starts = hay.windows(probe.len()).enumerate().filter(|(_, w)| *w == probe);
    starts
        .filter_map(|(at, _)| at.checked_sub(loud))
        .find(|&start| hay.get(start..start + needle.len()).is_some_and(|stretch| stretch == needle))
}

/// Two samples of speech are the same to the ear of a test: nothing but silence around.
pub fn is_silent(samples: &[i16]) -> bool {
    samples.iter().all(|&s| s.unsigned_abs() <= 8)
}
