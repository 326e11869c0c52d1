//! `Range` headers (RFC 9110, 14.1.2).

/// What of a file is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no range, one that is not understood, or several.
    Whole,
    /// From `start` to `end`, both included.
    Part { start: u64, end: u64 },
    /// Nothing that is there.
    Outside,
}

/// What `header` wants of a file of `length` bytes.
pub(super) fn parse(header: &str, length: u64) -> Wanted {
    let Some((unit, spec)) = header.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Wanted::Whole;
    }
    match (number(first), number(last)) {
        (Some(start), Some(end)) if start > end => Wanted::Whole,
        (Some(start), _) if start >= length => Wanted::Outside,
        (Some(start), Some(end)) => Wanted::Part { start, end: end.min(length - 1) },
        (Some(start), None) if last.is_empty() => Wanted::Part { start, end: length - 1 },
        (None, Some(0)) if first.is_empty() => Wanted::Outside,
        (None, Some(_)) if first.is_empty() && length == 0 => Wanted::Outside,
        (None, Some(suffix)) if first.is_empty() => {
            Wanted::Part { start: length.saturating_sub(suffix), end: length - 1 }
        }
        _ => Wanted::Whole,
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_rfc() {
        let part = |start, end| Wanted::Part { start, end };
        for (header, wanted) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-5", part(2, 5)),
            ("Bytes = 2-5", part(2, 5)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-99", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=10-", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=1-99999999999999999999", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("nonsense", Wanted::Whole),
        ] {
            assert_eq!(parse(header, 10), wanted, "{header}");
        }
        assert_eq!(parse("bytes=-1", 0), Wanted::Outside);
        assert_eq!(parse("bytes=0-", 0), Wanted::Outside);
    }
}
