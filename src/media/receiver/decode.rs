//! Decoding for codecs that have a memory: in the order of sending, and what comes too late for that from a snapshot.

use super::super::codec::{Codec, DecodeError, Decoder, MAX_STATEFUL_SAMPLES, Snapshot, opus};
use super::super::conceal;
use super::super::counter::ExtendedSequence;
use super::super::gap::Missed;
use super::super::ring::Placed;
use super::super::rtp::RtpPacket;
use super::super::slot::SlotState;
use super::{Body, PacketError, PacketOutcome};

/// Gaps whose late packets can still be decoded as they would have been. More open ones at a time are rare: the oldest
/// is given up, and its packets are decoded without history.
const SNAPSHOTS: usize = 4;

/// The state before a gap.
#[derive(Debug)]
struct Before {
    /// The number to be decoded next from here.
    next: ExtendedSequence,
    /// The first number behind the gap.
    after: ExtendedSequence,
    state: Snapshot,
}

/// A leg's decoder, a second one for late packets, and room for what either makes.
#[derive(Debug)]
pub(super) struct Memory {
    decoder: Decoder,
    late: Decoder,
    before: [Option<Before>; SNAPSHOTS],
    /// Which of `before` is the oldest.
    oldest: usize,
    pcm: Box<[i16; MAX_STATEFUL_SAMPLES]>,
}

impl Memory {
    /// For a codec that needs it.
    pub fn of(codec: Codec) -> Option<Box<Self>> {
        // Only memory can be lacking, and then nothing at all goes on.
        let decoder = || Decoder::new(codec).expect("libopus has the memory for a decoder");
        codec.is_stateful().then(|| {
            Box::new(Self {
                decoder: decoder(),
                late: decoder(),
                before: [const { None }; SNAPSHOTS],
                oldest: 0,
                pcm: Box::new([0; MAX_STATEFUL_SAMPLES]),
            })
        })
    }

    /// Another source begins.
    pub fn reset(&mut self) {
        self.decoder.reset();
        self.before = [const { None }; SNAPSHOTS];
    }

    /// Numbers are missing before the packet that comes next: keep what is needed to decode them when they come.
    pub fn keep(&mut self, missed: &Missed) {
        if let Some(state) = self.decoder.snapshot() {
            self.before[self.oldest] = Some(Before { next: missed.first, after: missed.after, state });
            self.oldest = (self.oldest + 1) % SNAPSHOTS;
        }
    }

    /// Decode the next packet.
    pub fn decode(&mut self, payload: &[u8]) -> Result<&[i16], DecodeError> {
        let made = self.decoder.decode(payload, &mut self.pcm[..])?;
        Ok(&self.pcm[..made])
    }

    /// Decode packet number `sequence` after packets that were sent later: from the state before its gap if that
    /// is known, else without history.
    pub fn decode_late(&mut self, sequence: ExtendedSequence, payload: &[u8]) -> Result<&[i16], DecodeError> {
        let mut known = self.before.iter_mut().flatten();
        let before = known.find(|before| (before.next..before.after).contains(&sequence));
        match &before {
            Some(before) => self.late.restore(&before.state),
            None => self.late.reset(),
        }
        let made = self.late.decode(payload, &mut self.pcm[..])?;
        if let (Some(before), Some(state)) = (before, self.late.snapshot()) {
            (before.next, before.state) = (sequence.plus(1), state);
        }
        Ok(&self.pcm[..made])
    }

    /// What can be said of the `lost` samples right before `next`, by the codec's own means: the copy that `next` carries
    /// of them, and concealment if they are few. Returns samples that end where `next` begins, none if there are no means.
    pub fn recover(&mut self, next: &[u8], lost: u64, most: u64) -> &[i16] {
        if !self.decoder.can_conceal() {
            return &[];
        }
        let copied = opus::has_fec(next).then(|| opus::Toc(next[0]).frame_samples() as u64);
        let len = if lost <= most { lost } else { copied.unwrap_or(0) } as usize;
        if len == 0 {
            return &[];
        }
        // Only a sender that left its own grid makes a hole that is no multiple of 2.5 ms: it stays one.
        match self.decoder.decode_fec(next, &mut self.pcm[..len]) {
            Ok(made) => &self.pcm[..made],
            Err(_) => &[],
        }
    }
}

impl Body {
    /// Decode `packet` and put it at ring sample `at`. `in_order` if nothing sent later was decoded before: then what
    /// precedes it is missing, and these are the numbers.
    pub(super) fn place_decoded(
        &mut self,
        packet: &RtpPacket<'_>,
        at: u64,
        in_order: Option<(SlotState, Option<Missed>)>,
    ) -> Result<Placed, DecodeError> {
        let (Some(memory), Some(stream)) = (&mut self.memory, &self.active) else {
            return Ok(Placed::default());
        };
        let payload = packet.payload();
        let Some((missing, missed)) = in_order else {
            let pcm = memory.decode_late(stream.source.extend(packet.sequence()), payload)?;
            return Ok(self.writer.put(at, pcm.len(), |i| pcm[i], self.fill));
        };
        if let Some(missed) = missed.filter(|missed| missed.missing > 0) {
            memory.keep(&missed);
        }
        let gap = self.gaps.newest_mut().filter(|gap| gap.end == at && gap.kind == SlotState::Lost);
        if let (Some(gap), true) = (gap, missing == SlotState::Lost && self.config.conceal) {
            let most = self.config.clock.rate().samples_in(conceal::MAX_GAP);
            let pcm = memory.recover(payload, gap.end - gap.start, most);
            self.writer.declare(at, SlotState::Lost);
            self.writer.conceal(at - pcm.len() as u64, pcm.len(), |i| pcm[i]);
            // What the codec itself knows is better than what can be heard around the gap.
            gap.concealed |= !pcm.is_empty();
        }
        let pcm = memory.decode(payload)?;
        if self.config.codec == Codec::Opus && opus::is_dtx(payload) {
            // The sender says that nobody speaks. What a decoder makes of that is noise of its own.
            self.writer.declare(at, missing);
            self.writer.declare(at + pcm.len() as u64, SlotState::Silence);
            self.writer.told(at + pcm.len() as u64);
            return Ok(Placed { written: pcm.len(), ..Placed::default() });
        }
        Ok(self.writer.put(at, pcm.len(), |i| pcm[i], missing))
    }

    /// What would have been in `packet`, at ring sample `at`, is lost.
    pub(super) fn undecodable(
        &mut self,
        packet: &RtpPacket<'_>,
        at: u64,
        missing: SlotState,
        source: DecodeError,
    ) -> PacketOutcome {
        self.tally.invalid += 1;
        if let Some(stream) = &self.active
            && packet.sequence() == stream.source.highest_number()
        {
            let sequence = stream.source.extend(packet.sequence());
            self.note_missed(sequence.plus(1), 1);
            self.writer.declare(at, missing);
            self.tail = self.tail.max(at);
        }
        let (ssrc, sequence) = (packet.ssrc().0, packet.sequence().0);
        PacketOutcome::Invalid(PacketError::Decode { ssrc, sequence, source })
    }
}
