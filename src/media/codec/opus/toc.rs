//! What an Opus packet says of itself: the table-of-contents byte and the frames behind it (RFC 6716, 3.1 and 3.2).

use super::RATE;

/// Longest packet: 120 ms (RFC 6716, 3.2.5, R5).
pub const MAX_PACKET_SAMPLES: usize = RATE.hz() as usize * 120 / 1_000;
/// Longest frame in bytes (3.2.1).
const MAX_FRAME_BYTES: usize = 1_275;

/// The first byte of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toc(pub u8);

impl Toc {
    /// Length of a frame in quarters of a millisecond: 10 (2.5 ms) to 240 (60 ms).
    pub const fn frame_quarters(self) -> usize {
        let size = (self.0 >> 3 & 3) as usize;
        match self.config() {
            ..12 => [40, 80, 160, 240][size],
            12..16 => [40, 80][size & 1],
            _ => [10, 20, 40, 80][size],
        }
    }

    /// Samples of a frame at [`RATE`].
    pub const fn frame_samples(self) -> usize {
        self.frame_quarters() * RATE.hz() as usize / 4_000
    }

    /// Whether both channels are coded.
    pub const fn is_stereo(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether the frames have a SILK part, which alone can carry copies.
    pub const fn has_silk(self) -> bool {
        self.config() < 16
    }

    const fn config(self) -> u8 {
        self.0 >> 3
    }
}

/// Frames in `packet`, and the bytes of the first one; `None` if the packet is malformed as far as that goes.
fn frames(packet: &[u8]) -> Option<(Toc, usize, &[u8])> {
    let (&toc, rest) = packet.split_first()?;
    let toc = Toc(toc);
    let (count, first) = match toc.0 & 3 {
        0 => (1, rest),
        1 if rest.len().is_multiple_of(2) => (2, &rest[..rest.len() / 2]),
        1 => return None,
        2 => {
            let (len, rest) = frame_length(rest)?;
            (2, rest.get(..len)?)
        }
        _ => many(rest)?,
    };
    let fits = first.len() <= MAX_FRAME_BYTES && count > 0 && count * toc.frame_quarters() <= 480;
    fits.then_some((toc, count, first))
}

/// Code 3: any number of frames, padding, lengths (3.2.5).
fn many(packet: &[u8]) -> Option<(usize, &[u8])> {
    let (&head, mut rest) = packet.split_first()?;
    let count = usize::from(head & 0x3f);
    if head & 0x40 != 0 {
        let mut padding = 0;
        loop {
            let (&byte, tail) = rest.split_first()?;
            rest = tail;
            padding += if byte == 255 { 254 } else { usize::from(byte) };
            if byte < 255 {
                break;
            }
        }
        rest = rest.get(..rest.len().checked_sub(padding)?)?;
    }
    if head & 0x80 == 0 {
        let len = rest.len().checked_div(count)?;
        return (len * count == rest.len()).then_some((count, &rest[..len]));
    }
    let (mut first, mut total) = (None, 0);
    for _ in 1..count {
        let (len, tail) = frame_length(rest)?;
        rest = tail;
        total += len;
        first = first.or(Some(len));
    }
    let last = rest.len().checked_sub(total)?;
    Some((count, rest.get(..first.unwrap_or(last))?))
}

/// A length of one or two bytes (3.2.1), and what follows it.
fn frame_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [short @ ..252, ref rest @ ..] => Some((usize::from(short), rest)),
        [long, more, ref rest @ ..] => Some((usize::from(more) * 4 + usize::from(long), rest)),
        _ => None,
    }
}

/// Samples at [`RATE`] in `packet`, 40 to [`MAX_PACKET_SAMPLES`]; `None` if it is malformed.
pub fn samples_in(packet: &[u8]) -> Option<usize> {
    let (toc, count, _) = frames(packet)?;
    Some(count * toc.frame_samples())
}

/// Whether `packet` carries a copy of what was sent before it (LBRR, 4.2.3 and 4.2.4).
pub fn has_fec(packet: &[u8]) -> bool {
    let Some((toc, _, &[head, ..])) = frames(packet) else { return false };
    // The head of a SILK frame has a bit of voice activity for each 20 ms, then the bit for copies; then the same of
    // the second channel.
    let flags = 1 + toc.frame_quarters().div_ceil(80);
    let set = |bit: usize| 8_usize.checked_sub(bit).is_some_and(|shift| head >> shift & 1 == 1);
    toc.has_silk() && (set(flags) || toc.is_stereo() && set(2 * flags))
}

/// Whether `packet` is the next to nothing that is sent while nobody speaks: a frame of at most one byte.
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= 2 && frames(packet).is_some()
}
