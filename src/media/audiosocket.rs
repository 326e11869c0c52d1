//! AudioSocket's framing: Asterisk connects by TCP and both sides send frames of a kind (one byte), a length (two bytes,
//! big-endian) and a payload. The first frame from Asterisk is the UUID that its channel was made with.
//!
//! Source: Asterisk's `res_audiosocket.c` and <https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket/>. Audio
//! is 16-bit linear PCM, one channel, **little-endian**, unlike `slin` over RTP.

use super::time::SampleRate;

/// Bytes before a payload.
pub const HEADER: usize = 3;
/// Longest payload taken: 20 ms, Asterisk's frame, of the highest rate (192 kHz), and 480 ms of the lowest.
pub const MAX_PAYLOAD: usize = 7_680;
/// What a decoder buffers: two of the longest frames, so that there is room behind any whole one.
const BUFFER: usize = 2 * (HEADER + MAX_PAYLOAD);

const HANGUP: u8 = 0x00;
const ID: u8 = 0x01;
const DTMF: u8 = 0x03;
const ERROR: u8 = 0xff;
/// The kind of audio at each rate; all but the first since Asterisk 20.17, 21.12, 22.7 and 23.1.
const AUDIO: [(u8, u32); 9] = [
    (0x10, 8_000),
    (0x11, 12_000),
    (0x12, 16_000),
    (0x13, 24_000),
    (0x14, 32_000),
    (0x15, 44_100),
    (0x16, 48_000),
    (0x17, 96_000),
    (0x18, 192_000),
];

/// A frame that came from Asterisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// PCM; `payload` has an even number of bytes, and none if Asterisk had nothing to send.
    Audio {
        /// Samples a second.
        rate: SampleRate,
        /// 16-bit little-endian samples.
        payload: &'a [u8],
    },
    /// A key was pressed: `0`-`9`, `*`, `#`, `A`-`D`. Since Asterisk 20.14, 21.9 and 22.4.
    Dtmf(char),
    /// Something failed on the other side; CyCore's meanings: 1 hangup, 2 frame forwarding, 4 memory. Asterisk sends none.
    Error(u8),
    /// The channel is being hung up. Asterisk itself just closes the connection.
    Hangup,
    /// The UUID of the channel, as it was given when the channel was made.
    Id([u8; 16]),
}

/// A stream of bytes that is not AudioSocket. There is no way back into step: the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that nobody has defined.
    #[error(
        "frame of unknown kind 0x{kind:02x} at byte {offset} of the AudioSocket stream: only Asterisk's AudioSocket may \
         connect to this port (audiosocket.bind)"
    )]
    Kind {
        /// The frame's kind.
        kind: u8,
        /// Where it begins, counted from the beginning of the connection.
        offset: u64,
    },
    /// A length that its kind cannot have.
    #[error(
        "frame of kind 0x{kind:02x} at byte {offset} of the AudioSocket stream has {length} bytes, which it cannot have \
         ({allowed}): check that it is Asterisk's AudioSocket that connects to this port (audiosocket.bind)"
    )]
    Length {
        /// The frame's kind.
        kind: u8,
        /// Where it begins, counted from the beginning of the connection.
        offset: u64,
        /// Its length.
        length: u16,
        /// What would be right.
        allowed: &'static str,
    },
}

/// Cuts a stream of bytes into frames. Holds at most two of the longest frames.
///
/// Read into [`space`](Self::space), say how much with [`filled`](Self::filled), then take frames from
/// [`next_frame`](Self::next_frame) until there is none.
#[derive(Debug)]
pub struct Decoder {
    buffer: Box<[u8]>,
    /// The bytes of the buffer that are of no frame yet.
    from: usize,
    to: usize,
    /// Bytes of the stream before `from`.
    offset: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER].into_boxed_slice(), from: 0, to: 0, offset: 0 }
    }
}

impl Decoder {
    /// Where to put the next bytes: never empty, if all frames have been taken.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= std::mem::take(&mut self.from);
        &mut self.buffer[self.to..]
    }

    /// The first `bytes` bytes of [`Self::space`] have been filled.
    ///
    /// # Panics
    /// If there is not that much space.
    pub fn filled(&mut self, bytes: usize) {
        assert!(bytes <= self.buffer.len() - self.to, "no room for {bytes} bytes");
        self.to += bytes;
    }

    /// The next frame; `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError`], again and again: nothing behind it can be understood.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let [kind, high, low, ..] = self.buffer[self.from..self.to] else { return Ok(None) };
        let length = u16::from_be_bytes([high, low]);
        self.check(kind, length)?;
        let (begin, end) = (self.from + HEADER, self.from + HEADER + usize::from(length));
        if end > self.to {
            return Ok(None);
        }
        self.offset += (end - self.from) as u64;
        self.from = end;
        let payload = &self.buffer[begin..end];
        Ok(Some(match kind {
            ID => Frame::Id(std::array::from_fn(|i| payload[i])),
            DTMF => Frame::Dtmf(char::from(payload[0])),
            ERROR => Frame::Error(payload.first().copied().unwrap_or(0)),
            HANGUP => Frame::Hangup,
            audio => Frame::Audio { rate: rate_of(audio).unwrap_or(SampleRate::NARROWBAND), payload },
        }))
    }

    /// What a header says is checked before its payload is waited for: a stranger is found out by three bytes.
    fn check(&self, kind: u8, length: u16) -> Result<(), FrameError> {
        let offset = self.offset;
        let allowed = match kind {
            HANGUP | ERROR if usize::from(length) <= MAX_PAYLOAD => return Ok(()),
            HANGUP | ERROR => "0 to 7680",
            ID if length == 16 => return Ok(()),
            ID => "16",
            DTMF if length == 1 => return Ok(()),
            DTMF => "1",
            audio if rate_of(audio).is_none() => return Err(FrameError::Kind { kind, offset }),
            _ if length.is_multiple_of(2) && usize::from(length) <= MAX_PAYLOAD => return Ok(()),
            _ => "an even number, at most 7680",
        };
        Err(FrameError::Length { kind, offset, length, allowed })
    }
}

/// The rate of audio of this kind.
fn rate_of(kind: u8) -> Option<SampleRate> {
    AUDIO.iter().find(|(of, _)| *of == kind).and_then(|(_, hz)| SampleRate::new(*hz))
}

/// The kind of audio at `rate`; `None` at rates that AudioSocket does not have.
pub fn audio_kind(rate: SampleRate) -> Option<u8> {
    AUDIO.iter().find(|(_, hz)| *hz == rate.hz()).map(|(kind, _)| *kind)
}

/// Append a frame of audio to `out`, at the rate of `kind` ([`audio_kind`]). At most [`MAX_PAYLOAD`] bytes of samples; no
/// sample at all is no frame, since Asterisk hangs up at one.
pub fn write_audio(kind: u8, pcm: &[i16], out: &mut Vec<u8>) {
    let pcm = &pcm[..pcm.len().min(MAX_PAYLOAD / 2)];
    if pcm.is_empty() {
        return;
    }
    out.push(kind);
    out.extend(((2 * pcm.len()) as u16).to_be_bytes());
    out.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
}

/// The frame that makes Asterisk hang up the channel.
pub const HANGUP_FRAME: [u8; HEADER] = [HANGUP, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(decoder: &mut Decoder, bytes: &[u8]) {
        decoder.space()[..bytes.len()].copy_from_slice(bytes);
        decoder.filled(bytes.len());
    }

    #[test]
    fn frames_are_read_as_asterisk_writes_them() {
        let mut decoder = Decoder::default();
        feed(&mut decoder, &[1, 0, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        feed(&mut decoder, &[0x10, 0, 4, 0x34, 0x12, 0xfe, 0xff, 3, 0, 1, b'#', 0x12, 0, 0, 0, 0, 0]);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Id(std::array::from_fn(|i| i as u8)))));
        let payload = &[0x34, 0x12, 0xfe, 0xff][..];
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Audio { rate: SampleRate::NARROWBAND, payload })));
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Dtmf('#'))));
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Audio { rate: SampleRate::WIDEBAND, payload: &[] })));
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Hangup)));
        assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn what_is_not_audiosocket_is_found_out_by_its_first_header() {
        let complaint = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            feed(&mut decoder, &[3, 0, 1, b'1']);
            assert_eq!(decoder.next_frame(), Ok(Some(Frame::Dtmf('1'))));
            feed(&mut decoder, bytes);
            let error = decoder.next_frame().unwrap_err();
            assert_eq!(decoder.next_frame(), Err(error), "it stays so");
            error.to_string()
        };
        let http = complaint(b"GET / HTTP/1.1\r\n");
        assert!(http.contains("unknown kind 0x47 at byte 4") && http.contains("audiosocket.bind"), "{http}");
        assert!(
            complaint(&[1, 0, 17]).contains("kind 0x01 at byte 4") && complaint(&[1, 0, 17]).contains("17")
        );
        assert!(complaint(&[0x10, 0, 3]).contains("an even number"));
        assert!(complaint(&[0x10, 0xff, 0xfe]).contains("at most 7680"));
        assert!(complaint(&[0x19, 0, 2]).contains("unknown kind 0x19"));
        assert!(complaint(&[3, 0, 0]).contains("has 0 bytes"));
    }

    #[test]
    fn every_rate_has_a_kind_and_back() {
        for (kind, hz) in AUDIO {
            let rate = SampleRate::new(hz).unwrap();
            assert_eq!((audio_kind(rate), rate_of(kind)), (Some(kind), Some(rate)));
        }
        assert_eq!(audio_kind(SampleRate::new(11_000).unwrap()), None);
    }

    #[test]
    fn nothing_is_not_sent_as_a_frame() {
        let mut out = Vec::new();
        write_audio(0x10, &[], &mut out);
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_however_it_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<i16>(), 1..400), 1..20),
            cuts in prop::collection::vec(1_usize..900, 1..40),
        ) {
            let mut wire = Vec::new();
            frames.iter().for_each(|pcm| write_audio(0x12, pcm, &mut wire));
            let (mut decoder, mut read, mut rest, mut cuts) =
                (Decoder::default(), Vec::new(), &wire[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let space = decoder.space();
                let n = cuts.next().unwrap_or(1).min(rest.len()).min(space.len());
                prop_assert!(n > 0);
                space[..n].copy_from_slice(&rest[..n]);
                decoder.filled(n);
                rest = &rest[n..];
                while let Some(frame) = decoder.next_frame().unwrap() {
                    let Frame::Audio { rate, payload } = frame else { panic!("{frame:?}") };
                    prop_assert_eq!(rate, SampleRate::WIDEBAND);
                    read.push(payload.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(read, frames);
        }
    }
}
