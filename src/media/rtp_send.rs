//! RTP that we send (RFC 3550, section 5.1): one stream's headers, around frames of [`super::pace`].

use super::codec::Codec;
use super::counter::{RtpTimestamp, SequenceNumber, Ssrc};

/// The highest payload type that Asterisk's UnicastRTP resolves when it receives: `slin16` (118) and all dynamic ones are
/// dropped without a word.
const HIGHEST_TAKEN: u8 = 34;

/// A stream that is sent: its counters go on from packet to packet.
#[derive(Debug)]
pub struct RtpSender {
    codec: Codec,
    ssrc: Ssrc,
    sequence: SequenceNumber,
    timestamp: RtpTimestamp,
    /// The next packet begins a talkspurt (RFC 3551, section 4.1): it is the first, or follows turns without one.
    marker: bool,
}

/// Asterisk takes no RTP of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Asterisk drops {} that is sent to it over RTP: use `ulaw`, `alaw` or `slin` as rtp.format for calls with media both ways", .0.name())]
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
        Ok(Self { codec, ssrc, sequence, timestamp, marker: true })
    }

    /// Write the packet that carries `pcm` to `packet`, in place of what is there.
    pub fn write(&mut self, pcm: &[i16], packet: &mut Vec<u8>) {
        packet.clear();
        packet.extend([0x80, self.codec.payload_type() | u8::from(self.marker) << 7]);
        packet.extend(self.sequence.0.to_be_bytes());
        packet.extend(self.timestamp.0.to_be_bytes());
        packet.extend(self.ssrc.0.to_be_bytes());
        self.codec.encode(pcm, packet);
        self.sequence = self.sequence.next();
        self.marker = false;
        self.advance(pcm.len());
    }

    /// Time goes on by `samples` without a packet: no number is left out, so that nobody takes it for loss.
    pub fn skip(&mut self, samples: usize) {
        self.advance(samples);
        self.marker = true;
    }

    fn advance(&mut self, samples: usize) {
        let rate = u64::from(self.codec.sample_rate().hz());
        let ticks = samples as u64 * u64::from(self.codec.rtp_clock_rate()) / rate;
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
            sender.write(&[0x1234; 160], &mut packet);
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
    fn what_asterisk_drops_is_refused() {
        let refusal = sender(Codec::Slin16).unwrap_err().to_string();
        assert!(refusal.contains("slin16") && refusal.contains("rtp.format"), "{refusal}");
    }
}
