//! What is sent to a party: frames of 20 ms on an ideal clock, from whatever a producer has ready, and silence when it has
//! nothing. It never stops: Asterisk's AudioSocket waits for a peer that is silent (asterisk#2089), and a whisper ends with it.
//!
//! Frame n is due at the start plus n times 20 ms, so nothing drifts. Who wakes late catches up on [`MAX_CATCH_UP`] frames at
//! most; the turns before them are skipped and counted. The producer's audio is not skipped with them, it comes later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

use super::time::{MediaInstant, SampleRate};

/// Length of a frame: Asterisk's own.
pub const FRAME: Duration = Duration::from_millis(20);
/// Frames sent at once after a late wake-up: what a jitter buffer of 60 ms, a usual size, still takes in without dropping any.
pub const MAX_CATCH_UP: u64 = 3;

/// A producer's end: audio to be played to a party. Its samples are numbered from 0 in the order in which they are pushed.
#[derive(Debug)]
pub struct Player {
    queue: Producer<i16>,
    shared: Arc<Shared>,
    pushed: u64,
}

/// The sender's end.
#[derive(Debug)]
pub struct Pacer {
    queue: Consumer<i16>,
    shared: Arc<Shared>,
    rate: SampleRate,
    start: Option<MediaInstant>,
    /// Turns taken or skipped since the start.
    turn: u64,
    /// Samples taken from the queue, be it to drop them.
    passed: u64,
    stats: PaceStats,
}

#[derive(Debug, Default)]
struct Shared {
    /// What was pushed before this sample is not to be played.
    clear_to: AtomicU64,
    passed: AtomicU64,
    played: AtomicU64,
}

/// What a pacer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaceStats {
    /// Frames handed out.
    pub frames: u64,
    /// Of these, frames without a sample of a producer's.
    pub silent: u64,
    /// Frames in which a producer's audio ended or began too late: part of it is silence.
    pub short: u64,
    /// Turns that were skipped because nobody asked for them in time.
    pub skipped: u64,
}

/// Both ends of a queue of at most `room` of PCM at `rate`.
pub fn playout(rate: SampleRate, room: Duration) -> (Player, Pacer) {
    let samples = usize::try_from(rate.samples_in(room)).unwrap_or(usize::MAX).max(frame_samples(rate));
    let (producer, consumer) = RingBuffer::new(samples);
    let shared = Arc::<Shared>::default();
    let player = Player { queue: producer, shared: shared.clone(), pushed: 0 };
    let stats = PaceStats::default();
    (player, Pacer { queue: consumer, shared, rate, start: None, turn: 0, passed: 0, stats })
}

/// Samples of a frame at `rate`.
pub const fn frame_samples(rate: SampleRate) -> usize {
    2 * rate.slot_samples()
}

impl Player {
    /// Queue as much of `pcm` as there is room for, and return how many samples that was.
    pub fn push(&mut self, pcm: &[i16]) -> usize {
        let room = pcm.len().min(self.queue.slots());
        let Ok(mut chunk) = self.queue.write_chunk(room) else { return 0 };
        let (first, second) = chunk.as_mut_slices();
        let (head, tail) = pcm[..room].split_at(first.len());
        first.copy_from_slice(head);
        second.copy_from_slice(tail);
        chunk.commit_all();
        self.pushed += room as u64;
        room
    }

    /// Number of the sample that is pushed next: a mark behind all that was pushed so far.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Number of the first sample that still waits to be played. What lies before a mark is over once this has reached it.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Acquire)
    }

    /// Samples for which there is room.
    pub fn room(&self) -> usize {
        self.queue.slots()
    }

    /// Samples that have been played: taken by the sender for their turn.
    pub fn played(&self) -> u64 {
        self.shared.played.load(Ordering::Acquire)
    }

    /// Drop, with the next frame, what was pushed so far and is not played yet: someone began to speak.
    pub fn clear(&self) {
        self.shared.clear_to.store(self.pushed, Ordering::Release);
    }
}

impl Pacer {
    /// When the next frame is due; before the first [`Self::take`], at once.
    pub fn next_due(&self) -> MediaInstant {
        self.start.map_or(MediaInstant::default(), |start| start + self.time_of(self.turn))
    }

    /// Samples of a frame.
    pub fn frame_samples(&self) -> usize {
        frame_samples(self.rate)
    }

    /// Write the frame that is due at `now` to `frame`, which has [`Self::frame_samples`] samples; false if none is. To be
    /// called until then.
    pub fn take(&mut self, now: MediaInstant, frame: &mut [i16]) -> bool {
        if !self.turn_has_come(now) {
            return false;
        }
        let cleared = self.shared.clear_to.load(Ordering::Acquire).saturating_sub(self.passed);
        // All of it is in the queue: it was pushed before the mark was set.
        if let Ok(chunk) = self.queue.read_chunk(cleared as usize) {
            chunk.commit_all();
            self.passed += cleared;
        }
        let ready = frame.len().min(self.queue.slots());
        if let Ok(chunk) = self.queue.read_chunk(ready) {
            let (first, second) = chunk.as_slices();
            frame[..first.len()].copy_from_slice(first);
            frame[first.len()..ready].copy_from_slice(second);
            chunk.commit_all();
        }
        frame[ready..].fill(0);
        self.passed += ready as u64;
        self.shared.played.fetch_add(ready as u64, Ordering::AcqRel);
        self.shared.passed.store(self.passed, Ordering::Release);
        self.stats.frames += 1;
        self.stats.silent += u64::from(ready == 0);
        self.stats.short += u64::from((1..frame.len()).contains(&ready));
        true
    }

    /// Let the turn that is due at `now` pass without a frame, because the other side takes none now; false if none is. The
    /// queue keeps what it has.
    pub fn pass(&mut self, now: MediaInstant) -> bool {
        let due = self.turn_has_come(now);
        self.stats.skipped += u64::from(due);
        due
    }

    /// What was done so far.
    pub fn stats(&self) -> PaceStats {
        self.stats
    }

    fn turn_has_come(&mut self, now: MediaInstant) -> bool {
        let start = *self.start.get_or_insert(now);
        let due = (now.saturating_since(start).as_nanos() / FRAME.as_nanos()) as u64 + 1;
        let waiting = due.saturating_sub(self.turn);
        let skipped = waiting.saturating_sub(MAX_CATCH_UP);
        self.turn += skipped;
        self.stats.skipped += skipped;
        self.turn += u64::from(waiting > 0);
        waiting > 0
    }

    fn time_of(&self, turn: u64) -> Duration {
        FRAME * u32::try_from(turn).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: SampleRate = SampleRate::NARROWBAND;

    fn at(ms: u64) -> MediaInstant {
        MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    fn taken(pacer: &mut Pacer, now: MediaInstant) -> Vec<i16> {
        let (mut all, mut frame) = (Vec::new(), [0; 160]);
        while pacer.take(now, &mut frame) {
            all.extend(frame);
        }
        all
    }

    #[test]
    fn a_frame_comes_every_20_ms_with_audio_or_without() {
        let (mut player, mut pacer) = playout(RATE, Duration::from_secs(1));
        let audio: Vec<i16> = (1..=400).collect();
        assert_eq!(player.push(&audio), 400);
        let mut out = Vec::new();
        for ms in 0..100 {
            let frames = taken(&mut pacer, at(ms));
            assert_eq!(frames.len(), if ms % 20 == 0 { 160 } else { 0 }, "{ms}");
            assert_eq!(pacer.next_due(), at(ms / 20 * 20 + 20));
            out.extend(frames);
        }
        assert_eq!(out[..400], audio);
        assert_eq!(out[400..], [0; 400]);
        assert_eq!(player.played(), 400);
        assert_eq!(pacer.stats(), PaceStats { frames: 5, silent: 2, short: 1, skipped: 0 });
    }

    #[test]
    fn a_late_wake_up_neither_drifts_nor_bursts_nor_loses_audio() {
        let (mut player, mut pacer) = playout(RATE, Duration::from_secs(10));
        let audio: Vec<i16> = (1..=8_000).collect();
        player.push(&audio);
        let mut out = taken(&mut pacer, at(0));
        out.extend(taken(&mut pacer, at(33)));
        assert_eq!(pacer.next_due(), at(40), "the next turn is where it was");
        out.extend(taken(&mut pacer, at(47)));
        // 500 ms of nothing: turns 60 to 547 were due, of which the last three are caught up on.
        let late = taken(&mut pacer, at(547));
        assert_eq!(late.len(), 3 * 160);
        assert_eq!(pacer.next_due(), at(560));
        out.extend(late);
        assert_eq!(pacer.stats().skipped, 22);
        assert_eq!(out[..], audio[..out.len()], "nothing is lost, it only comes later");
    }

    #[test]
    fn the_queue_is_bounded_and_can_be_cleared() {
        let (mut player, mut pacer) = playout(RATE, Duration::from_millis(40));
        assert_eq!(player.push(&[7; 400]), 320);
        assert_eq!((player.push(&[7; 400]), player.room()), (0, 0));
        assert_eq!(taken(&mut pacer, at(0)), [7; 160]);
        player.clear();
        assert_eq!(taken(&mut pacer, at(20)), [0; 160]);
        assert_eq!((player.played(), player.passed(), player.pushed()), (160, 320, 320));
        assert_eq!(player.push(&[8; 160]), 160);
        assert!(pacer.pass(at(40)) && !pacer.pass(at(40)));
        assert_eq!(taken(&mut pacer, at(60)), [8; 160], "a turn that was passed keeps its audio");
        assert_eq!(player.push(&[9; 160]), 160);
        player.clear();
        assert_eq!(player.push(&[10; 160]), 160);
        assert_eq!(taken(&mut pacer, at(80)), [10; 160], "what is pushed after it was cleared is played");
        assert_eq!((player.played(), player.passed()), (480, player.pushed()));
    }
}
