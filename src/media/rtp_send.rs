//! RTP that we send (RFC 3550, section 5.1): one stream's headers, around frames of [`super::pace`].

use super::codec::{Codec, EncodeError, Encoder};
use super::counter::{RtpTimestamp, SequenceNumber, Ssrc};

/// The highest payload type that Asterisk's UnicastRTP resolves when it receives: `slin16` (118) and all dynamic ones are
/// dropped without a word.
const HIGHEST_TAKEN: u8 = 34;

/// The codec in which to send to Asterisk over RTP what goes with audio in `codec`: the same where it is taken, or else G.722,
/// which has the best band of those that are.
pub const fn sendable(codec: Codec) -> Codec {
    if codec.payload_type() <= HIGHEST_TAKEN { codec } else { Codec::G722 }
}

/// A stream that is sent: its counters go on from packet to packet.
#[derive(Debug)]
pub struct RtpSender {
    encoder: Encoder,
    ssrc: Ssrc,
    sequence: SequenceNumber,
    timestamp: RtpTimestamp,
    /// The next packet follows a time in which none were sent (RFC 3551, section 4.1): it is the first, or turns were skipped.
    /// Silence is sent like all else, and never marked.
    marker: bool,
}

/// Asterisk takes no RTP of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Asterisk drops {} that is sent to it over RTP: send one of `ulaw`, `alaw`, `g722`, `gsm` and `slin`", .0.name())]
pub struct NotTaken(pub Codec);

impl RtpSender {
    /// A stream in `codec`. SSRC, first sequence number and first timestamp are to be random (RFC 3550, section 5.1).
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn new(
        codec: Codec,
        ssrc: Ssrc,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
    ) -> Result<Self, NotTaken> {
        if codec.payload_type() > HIGHEST_TAKEN {
            return Err(NotTaken(codec));
        }
        // Only Opus' can fail to be made, and that is not taken.
        let encoder = Encoder::new(codec).map_err(|_| NotTaken(codec))?;
        Ok(Self { encoder, ssrc, sequence, timestamp, marker: true })
    }

    /// What is sent.
    pub fn codec(&self) -> Codec {
        self.encoder.codec()
    }

    /// Write the packet that carries `pcm`, at the codec's rate, to `packet`, in place of what is there.
    ///
    /// # Errors
    /// [`EncodeError`] if the codec has no packet of that length; 20 ms every codec has.
    pub fn write(&mut self, pcm: &[i16], packet: &mut Vec<u8>) -> Result<(), EncodeError> {
        packet.clear();
        packet.extend([0x80, self.codec().payload_type() | u8::from(self.marker) << 7]);
        packet.extend(self.sequence.0.to_be_bytes());
        packet.extend(self.timestamp.0.to_be_bytes());
        packet.extend(self.ssrc.0.to_be_bytes());
        self.encoder.encode(pcm, packet)?;
        self.sequence = self.sequence.next();
        self.marker = false;
        self.advance(pcm.len());
        Ok(())
    }

    /// Time goes on by `samples` without a packet: no number is left out, so that nobody takes it for loss.
    pub fn skip(&mut self, samples: usize) {
        self.advance(samples);
        self.marker = true;
    }

    fn advance(&mut self, samples: usize) {
        let codec = self.codec();
        let ticks = samples as u64 * u64::from(codec.rtp_clock_rate()) / u64::from(codec.sample_rate().hz());
        self.timestamp = RtpTimestamp(self.timestamp.0.wrapping_add(ticks as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtp::RtpPacket;

    fn sender(codec: Codec) -> Result<RtpSender, NotTaken> {
        RtpSender::new(codec, Ssrc(7), SequenceNumber(u16::MAX), RtpTimestamp(u32::MAX - 159))
    }

    #[test]
    fn what_is_written_is_what_the_receiver_reads() {
        let (mut sender, mut packet) = (sender(Codec::Slin).unwrap(), Vec::new());
        let mut read = Vec::new();
        for turn in 0..4 {
            if turn == 2 {
                sender.skip(160);
                continue;
            }
            sender.write(&[0x1234; 160], &mut packet).unwrap();
            let packet = RtpPacket::parse(&packet).unwrap();
            assert_eq!((packet.ssrc(), packet.payload_type(), packet.payload().len()), (Ssrc(7), 10, 320));
            assert_eq!(packet.payload()[..2], [0x12, 0x34]);
            read.push((packet.sequence().0, packet.timestamp().0));
        }
        assert_eq!(
            read,
            [(u16::MAX, u32::MAX - 159), (0, 0), (1, 320)],
            "a turn without a packet is no loss"
        );
        assert_eq!(packet[1], 0x80 | 10, "and marked");
    }

    #[test]
    fn wideband_goes_on_a_clock_of_8_khz_and_only_the_first_packet_is_marked() {
        let (mut sender, mut packet) = (sender(Codec::G722).unwrap(), Vec::new());
        let mut read = Vec::new();
        for _ in 0..3 {
            sender.write(&[0; 320], &mut packet).unwrap();
            let packet = RtpPacket::parse(&packet).unwrap();
            read.push((packet.timestamp().0, packet.payload().len(), packet.marker()));
        }
        assert_eq!(read, [(u32::MAX - 159, 160, true), (0, 160, false), (160, 160, false)]);
        assert_eq!(sender.write(&[0; 3], &mut packet).unwrap_err().to_string().split(':').count(), 2);
    }

    #[test]
    fn what_asterisk_drops_is_refused_and_what_is_sent_instead_is_not() {
        let refusal = sender(Codec::Slin16).unwrap_err().to_string();
        assert!(refusal.contains("slin16") && refusal.contains("`g722`"), "{refusal}");
        for codec in Codec::ALL {
            assert!(sender(sendable(codec)).is_ok(), "{}", codec.name());
            assert_eq!(sender(codec).is_ok(), sendable(codec) == codec, "{}", codec.name());
        }
    }
}
