//! One leg's sender: what a phone, a gateway or Asterisk puts on the wire.

use super::voice;
use crate::media::codec::Codec;
use crate::media::source::{MAX_DROPOUT, MAX_MISORDER};

/// Payload type of telephone events, as Asterisk's.
const TELEPHONE_EVENT: u8 = 101;
/// Payload type of comfort noise (RFC 3389).
const COMFORT_NOISE: u8 = 13;
/// Ticks by which Asterisk's timestamps jump to the wall clock (`MAX_TIMESTAMP_SKEW`): 80 ms at 8 kHz.
const ASTERISK_REANCHOR_MS: u64 = 80;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// When it was sent or, once carried, when it comes in: nanoseconds.
    pub at: u64,
    /// What is on the wire.
    pub bytes: Vec<u8>,
    /// What its sender meant by it; `None` for garbage.
    pub sent: Option<Sent>,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// So many samples.
    Audio(usize),
    /// Comfort noise from here on.
    Noise,
    /// A telephone event.
    Event,
    /// Something of another payload type.
    Other,
}

/// A packet, as its sender knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Counts the sender's packets; copies share it.
    pub id: usize,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Counts how often the sender began anew: another SSRC, or the same with other sequence numbers.
    pub source: u32,
    /// Sequence number; the low 16 bits are on the wire.
    pub sequence: u64,
    /// Timestamp on the wire.
    pub timestamp: u32,
    /// Counts the stretches within which places follow from timestamps.
    pub timeline: u32,
    /// Where its timestamp lies: samples of the sender's clock, equal to `spoken` where a timeline begins.
    pub position: i64,
    /// When its first sample was spoken: samples of the sender's clock.
    pub spoken: i64,
    /// Who speaks.
    pub voice: u64,
    /// What it carries.
    pub content: Content,
}

impl Sent {
    /// Samples of audio in it.
    pub const fn samples(&self) -> usize {
        match self.content {
            Content::Audio(samples) => samples,
            _ => 0,
        }
    }

    /// Whether its timestamp is the place of media; that of a telephone event is not.
    pub const fn is_media(&self) -> bool {
        matches!(self.content, Content::Audio(_) | Content::Noise)
    }
}

/// A sender of one leg. Its methods let time pass for it, and put what it says on [`Sender::wire`].
#[derive(Clone, Debug)]
pub struct Sender {
    /// Format of its audio.
    pub codec: Codec,
    /// Who speaks: two voices say different samples at the same moment.
    pub voice: u64,
    /// Milliseconds of audio in a packet.
    pub ptime_ms: u64,
    /// Parts per million by which its clock is fast.
    pub ppm: f64,
    /// Samples of its clock since the emulation's zero.
    pub now: i64,
    /// What it has sent.
    pub wire: Vec<Datagram>,
    ssrc: u32,
    source: u32,
    sequence: u64,
    timestamp: u32,
    timeline: u32,
    /// By how many samples timestamps are ahead of the sender's clock since the timeline began.
    ahead: i64,
    /// The stretches of numbers and timestamps that went on, and are over.
    ended: Vec<Ended>,
}

/// Where a stretch of numbers and timestamps ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    ssrc: u32,
    /// The number that would have come next.
    sequence: u16,
    /// Timestamp behind the last packet of media.
    heard: u32,
    /// The timestamp that would have come next: later than `heard` if the sender was silent.
    timestamp: u32,
}

impl Sender {
    /// A sender of 20 ms packets with some SSRC, sequence number and timestamp.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            voice: 0,
            ptime_ms: 20,
            ppm: 0.0,
            now: 0,
            wire: Vec::new(),
            ssrc: 0x1111,
            source: 0,
            sequence: 1_000,
            timestamp: 160_000,
            timeline: 0,
            ahead: 0,
            ended: Vec::new(),
        }
    }

    /// A sender that begins with this sequence number and timestamp.
    pub fn beginning_at(codec: Codec, sequence: u16, timestamp: u32) -> Self {
        Self { sequence: sequence.into(), timestamp, ..Self::new(codec) }
    }

    /// The same, in another voice.
    #[must_use]
    pub fn with_voice(self, voice: u64) -> Self {
        Self { voice, ..self }
    }

    /// The same, with a clock that is fast by so many parts per million.
    #[must_use]
    pub fn with_ppm(self, ppm: f64) -> Self {
        Self { ppm, ..self }
    }

    /// Its SSRC at present.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The timestamp behind the last packet of media but `packets`, or behind the first one of the present stretch: the latest one that
    /// is known of it if those are lost.
    pub fn timestamp_before(&self, packets: usize) -> u32 {
        let media = self.stretch().filter(Sent::is_media);
        let known = media.take(packets + 1).last();
        known.map_or(self.timestamp, |sent| sent.timestamp.wrapping_add(sent.samples() as u32))
    }

    /// The sequence number that comes next.
    pub fn sequence(&self) -> u16 {
        self.sequence as u16
    }

    /// The timestamp that comes next.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Nanoseconds of the emulation at sample `sample` of the sender's clock.
    pub fn nanos_of(&self, sample: i64) -> u64 {
        (sample as f64 * 1e9 / (self.rate() as f64 * (1.0 + self.ppm * 1e-6))).round() as u64
    }

    /// Samples in `ms`.
    pub fn samples(&self, ms: u64) -> i64 {
        ms as i64 * self.rate() / 1_000
    }

    /// Speak for `ms`.
    pub fn talk(&mut self, ms: u64) -> &mut Self {
        let end = self.now + self.samples(ms);
        while self.now < end {
            self.packet(false);
        }
        self
    }

    /// One packet of audio.
    pub fn packet(&mut self, marker: bool) -> &mut Self {
        let samples = self.samples(self.ptime_ms);
        let mut payload = Vec::with_capacity(2 * samples as usize);
        for spoken in self.now..self.now + samples {
            voice::encode(self.codec, self.voice, spoken, &mut payload);
        }
        let payload_type = self.codec.payload_type() | u8::from(marker) << 7;
        self.send(payload_type, &payload, Content::Audio(samples as usize));
        self.pass(samples)
    }

    /// Say nothing for `ms`; timestamps go on.
    pub fn rest(&mut self, ms: u64) -> &mut Self {
        self.pass(self.samples(ms))
    }

    /// Say nothing for so many samples; timestamps go on. What follows is aligned to nothing.
    pub fn skip(&mut self, samples: i64) -> &mut Self {
        self.pass(samples)
    }

    /// Say nothing for `ms`; timestamps stand still, as those of some senders on hold.
    pub fn freeze(&mut self, ms: u64) -> &mut Self {
        self.now += self.samples(ms);
        self.ahead -= self.samples(ms);
        self
    }

    /// Discontinuous transmission: `spurts` times speech of `talk_ms` behind a marker, and a pause of `rest_ms`.
    pub fn spurts(&mut self, spurts: usize, talk_ms: u64, rest_ms: u64) -> &mut Self {
        for _ in 0..spurts {
            self.packet(true).talk(talk_ms).rest(rest_ms);
        }
        self
    }

    /// What Asterisk does when its own clock and the timestamps differ by 640 ticks of 8 kHz: 80 ms are jumped over, and the
    /// next packet has the marker.
    pub fn asterisk_reanchors(&mut self) -> &mut Self {
        self.rest(ASTERISK_REANCHOR_MS).packet(true)
    }

    /// Comfort noise (RFC 3389) from here on.
    pub fn comfort_noise(&mut self) -> &mut Self {
        self.send(COMFORT_NOISE, &[60], Content::Noise)
    }

    /// Press the key of `event` (RFC 4733) for `packets` times 20 ms; `ends` copies of the end, 3 as a rule.
    pub fn press(&mut self, event: u8, packets: u16, ends: u16) -> &mut Self {
        let step = self.samples(20) as u16;
        let begun = self.now;
        for n in 1..=packets + ends.saturating_sub(1) {
            let [high, low] = (step * n.min(packets)).to_be_bytes();
            let end = if n >= packets && ends > 0 { 0x80 } else { 0 };
            self.send(TELEPHONE_EVENT, &[event, end | 10, high, low], Content::Event);
            // All packets of a press carry the timestamp at which it began.
            self.now += i64::from(step);
            self.ahead -= i64::from(step);
        }
        self.jump(self.now - begun)
    }

    /// Another SSRC from here on, with sequence numbers of its own; timestamps go on.
    pub fn change_source(&mut self, ssrc: u32, sequence: u16) -> &mut Self {
        self.restart(sequence);
        self.ssrc = ssrc;
        self
    }

    /// Begin anew at sequence number `sequence`; SSRC and timestamps go on.
    pub fn restart(&mut self, sequence: u16) -> &mut Self {
        self.end_stretch();
        self.sequence = sequence.into();
        self.source += 1;
        self
    }

    /// Whether a packet with these numbers may be one that was sent already or is sent next, late or after loss: within what
    /// the receiver takes for reordering and for loss (`MAX_MISORDER`, `MAX_DROPOUT`), and within its `MAX_LATENESS`; or
    /// [`Sender::repeats`]. No receiver can know from it that the sender began anew.
    ///
    /// That holds for numbers that were seen, with their timestamps or near them, and for those up to 999 lower that were not, with
    /// timestamps of up to half a minute before: as packets they could have been held up for so long. A receiver might
    /// guess after a second of nothing else; it would have to keep late packets back from the recording until then, for
    /// the sake of a restart that by chance (RFC 3550, 5.1) happens once in a million.
    ///
    /// `missing` so many packets around may be lost: where the last ones before and the first ones from here on are, the rest is
    /// nearer than what was sent.
    pub fn is_near(&self, sequence: u16, timestamp: u32, missing: u16) -> bool {
        let step = sequence.wrapping_sub(self.sequence as u16) as i16;
        let ticks = timestamp.wrapping_sub(self.timestamp) as i32;
        let follows = (-MAX_MISORDER - i64::from(missing)..=MAX_DROPOUT).contains(&step.into())
            && ticks.unsigned_abs() <= 30 * self.codec.rtp_clock_rate();
        follows || self.repeats(sequence, timestamp, missing)
    }

    /// Whether a packet with these numbers may be a copy, or a late one, of an earlier stretch of this SSRC, or the next one of it,
    /// held up. Only a sender that goes back twice gets there: between the two it used other numbers.
    ///
    /// What tells a packet from a copy is on the wire or nowhere, and a copy has the same numbers; so has, for all that anybody
    /// knows, a packet with a number and a timestamp from before those of a stretch's end, which was held up. Audio that is sent
    /// so is a duplicate, or late, to whoever receives it, until the numbers pass those of the stretch. (RFC 3550, 5.1, has both
    /// begin at random for this reason among others: by chance a restart gets there once in millions.)
    ///
    /// The packet after a pause may have any timestamp of that pause: nobody but the sender knows when it would have ended.
    ///
    /// Where packets are `missing`, the last ones of the stretch may be: later numbers with earlier timestamps than it ended with
    /// are then those of packets that were held up, too, since nobody has heard how far its timestamps went.
    pub fn repeats(&self, sequence: u16, timestamp: u32, missing: u16) -> bool {
        let rate = self.codec.rtp_clock_rate() as i32;
        self.ended.iter().any(|ended| {
            let step = sequence.wrapping_sub(ended.sequence) as i16;
            let earliest = match step < 0 || missing > 0 {
                true => -30 * rate,
                false => ended.heard.wrapping_sub(ended.timestamp) as i32,
            };
            // Arrivals may be off by a second: so long after the end may something have been said before it.
            let ticks = earliest..=rate;
            ended.ssrc == self.ssrc
                && (-MAX_MISORDER..=MAX_DROPOUT).contains(&step.into())
                && ticks.contains(&(timestamp.wrapping_sub(ended.timestamp) as i32))
        })
    }

    /// Whether a packet with these numbers would be near one that this SSRC has sent, in both: within a minute of loss at 20 ms
    /// (`MAX_DROPOUT`) by its sequence number, and within half a minute by its timestamp.
    pub fn is_among_sent(&self, sequence: u16, timestamp: u32) -> bool {
        let half_a_minute = 30 * self.codec.rtp_clock_rate();
        self.wire.iter().filter_map(|datagram| datagram.sent).any(|sent| {
            let step = sequence.wrapping_sub(sent.sequence as u16) as i16;
            let ticks = timestamp.wrapping_sub(sent.timestamp) as i32;
            sent.ssrc == self.ssrc
                && (-MAX_DROPOUT..=MAX_DROPOUT).contains(&step.into())
                && ticks.unsigned_abs() <= half_a_minute
        })
    }

    /// Timestamps that have nothing to do with those before, from `timestamp` on.
    pub fn begin_timeline(&mut self, timestamp: u32) -> &mut Self {
        self.end_stretch();
        self.timestamp = timestamp;
        self.timeline += 1;
        self.ahead = 0;
        self
    }

    /// Jump by `ticks` without any time passing, as one timeline. For a jump too far to be one, see
    /// [`Sender::leap`].
    pub fn jump(&mut self, ticks: i64) -> &mut Self {
        self.timestamp = self.timestamp.wrapping_add(ticks as u32);
        self.ahead += ticks;
        self
    }

    /// Jump by `ticks` without any time passing, further than arrivals can be off: another timeline.
    pub fn leap(&mut self, ticks: i64) -> &mut Self {
        self.begin_timeline(self.timestamp.wrapping_add(ticks as u32))
    }

    /// Send whatever this is. The low 7 bits of the first argument are its payload type, the highest is the marker.
    pub fn send(&mut self, type_and_marker: u8, payload: &[u8], content: Content) -> &mut Self {
        let mut bytes = Vec::with_capacity(12 + payload.len());
        bytes.extend([0x80, type_and_marker]);
        bytes.extend((self.sequence as u16).to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        let sent = Sent {
            id: self.wire.len(),
            ssrc: self.ssrc,
            source: self.source,
            sequence: self.sequence,
            timestamp: self.timestamp,
            timeline: self.timeline,
            position: self.now + self.ahead,
            spoken: self.now,
            voice: self.voice,
            content,
        };
        self.sequence += 1;
        self.wire.push(Datagram { at: self.nanos_of(self.now), bytes, sent: Some(sent) });
        self
    }

    /// Numbers or timestamps begin anew: remember where those so far ended, if any was sent.
    fn end_stretch(&mut self) {
        if self.stretch().next().is_none() {
            return;
        }
        let (ssrc, sequence, timestamp) = (self.ssrc, self.sequence as u16, self.timestamp);
        let heard = self.timestamp_before(0);
        self.ended.push(Ended { ssrc, sequence, heard, timestamp });
    }

    /// What was sent with numbers and timestamps that go on to the next ones, the last first.
    fn stretch(&self) -> impl Iterator<Item = Sent> + '_ {
        let here = (self.source, self.timeline);
        let sent = self.wire.iter().rev().filter_map(|datagram| datagram.sent);
        sent.take_while(move |sent| (sent.source, sent.timeline) == here)
    }

    fn rate(&self) -> i64 {
        i64::from(self.codec.sample_rate().hz())
    }

    fn pass(&mut self, samples: i64) -> &mut Self {
        self.now += samples;
        self.timestamp = self.timestamp.wrapping_add(samples as u32);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sender: &Sender) -> Vec<Sent> {
        sender.wire.iter().filter_map(|datagram| datagram.sent).collect()
    }

    #[test]
    fn places_follow_timestamps_and_not_the_time_that_passes() {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(20).rest(100).packet(true).freeze(50).packet(false).jump(400).packet(false);
        let places: Vec<_> = sent(&sender).iter().map(|s| (s.position, s.spoken, s.timestamp)).collect();
        assert_eq!(
            places,
            [(0, 0, 160_000), (960, 960, 160_960), (1_120, 1_520, 161_120), (1_680, 1_680, 161_680)]
        );
    }

    #[test]
    fn a_press_is_one_timestamp_with_growing_durations_and_copies_of_the_end() {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.press(5, 3, 3).packet(false);
        let events: Vec<_> = sender.wire.iter().map(|d| d.bytes[12..].to_vec()).take(5).collect();
        let end = [5, 0x8a, 1, 224];
        assert_eq!(
            events,
            [[5, 10, 0, 160].to_vec(), [5, 10, 1, 64].to_vec(), end.into(), end.into(), end.into()]
        );
        let places: Vec<_> = sent(&sender).iter().map(|s| s.position).collect();
        assert_eq!(places, [0, 0, 0, 0, 0, 800]);
        assert_eq!(sent(&sender)[5].spoken, 800);
    }

    #[test]
    fn sequence_numbers_and_timestamps_wrap_on_the_wire() {
        let mut sender = Sender::beginning_at(Codec::Alaw, u16::MAX, u32::MAX - 159);
        sender.talk(40);
        assert_eq!(sender.wire[0].bytes[2..8], [255, 255, 255, 255, 255, 96]);
        assert_eq!(sender.wire[1].bytes[2..8], [0, 0, 0, 0, 0, 0]);
        assert_eq!(sent(&sender)[1].position, 160);
    }

    #[test]
    fn what_may_be_a_copy_of_an_earlier_stretch_repeats_it_and_nothing_else_does() {
        let mut sender = Sender::new(Codec::Ulaw);
        // Numbers from 1000, timestamps from 160000.
        sender.talk(1_000).restart(40_000).begin_timeline(77_000_000).talk(600);
        assert!(sender.repeats(1_000, 160_000, 0) && sender.repeats(1_049, 167_840, 0));
        // Sent before the first one, and held up.
        assert!(sender.repeats(900, 100_000, 0));
        // Beyond its numbers, further below them than anybody reorders, or of another time.
        assert!(!sender.repeats(1_050, 160_000, 0) && !sender.repeats(49, 160_000, 0));
        assert!(
            !sender.repeats(1_000, 177_000, 0)
                && !sender.repeats(1_000, 168_000_u32.wrapping_sub(31 * 8_000), 0)
        );
        // Unless its last packets may be missing.
        assert!(sender.repeats(1_050, 160_000, 1) && !sender.repeats(49, 160_000, 1));
        assert!(!sender.repeats(1_050, 177_000, 1) && !sender.repeats(4_051, 160_000, 1));
        // The present one is no earlier one, and of another source nothing is.
        assert!(!sender.repeats(40_000, 77_000_000, 0));
        sender.change_source(0x2222, 5);
        assert!(!sender.repeats(1_000, 160_000, 0));
    }

    #[test]
    fn what_may_have_come_next_after_a_pause_repeats_the_stretch_before_it() {
        let mut sender = Sender::new(Codec::Ulaw);
        // Number 1052 is next, with timestamp 175360; 1050 is comfort noise, and 1051 a key.
        sender.talk(1_000).comfort_noise().rest(800).press(5, 1, 1).rest(100);
        sender.restart(40_000).begin_timeline(77_000_000).talk(600);
        assert!(sender.repeats(1_052, 175_360, 0) && sender.repeats(1_052, 168_000, 0));
        assert!(!sender.repeats(1_052, 167_999, 0));
    }

    #[test]
    fn the_last_packets_that_are_lost_leave_the_timestamp_before_a_pause() {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(400).rest(1_600).packet(true).press(5, 1, 1);
        assert_eq!([0, 1, 20, 99].map(|n| sender.timestamp_before(n)), [176_160, 163_200, 160_160, 160_160]);
        sender.restart(40_000).begin_timeline(77_000_000);
        assert_eq!(sender.timestamp_before(1), 77_000_000);
    }

    #[test]
    fn what_is_near_in_numbers_or_timestamps_alone_is_not_among_what_was_sent() {
        let mut sender = Sender::new(Codec::Ulaw);
        // Numbers from 1000, timestamps from 160000.
        sender.talk(1_000).restart(40_000).begin_timeline(77_000_000).talk(600);
        for (sequence, timestamp) in
            [(1_000, 160_000), (4_049, 160_000), (63_536, 400_000), (40_000, 76_800_000)]
        {
            assert!(sender.is_among_sent(sequence, timestamp), "{sequence} {timestamp}");
        }
        for (sequence, timestamp) in
            [(4_050, 160_000), (63_535, 160_000), (1_000, 407_841), (1_000, 77_000_000)]
        {
            assert!(!sender.is_among_sent(sequence, timestamp), "{sequence} {timestamp}");
        }
        sender.change_source(0x2222, 5);
        assert!(!sender.is_among_sent(1_000, 160_000));
    }

    #[test]
    fn a_fast_clock_sends_more_in_the_same_time() {
        let sender = Sender::new(Codec::Ulaw).with_ppm(100.0);
        assert_eq!(sender.nanos_of(8_000 * 10_000), 9_999_000_099_990);
    }
}
