//! The reference: one big array into which every packet is written at its place.
//!
//! [`receive`] drives a [`LegReceiver`] with a recorder at its side, as the server does. [`Reception::check`] compares
//! what that recorder has with the array.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::receiver::{LegConfig, LegReceiver, PacketOutcome};
use sidetone::media::report::{LegEvent, LegStats};
use sidetone::media::ring::{RingReader, SlotRead};
use sidetone::media::slot::SlotState;

use super::emulator::{Audio, Datagram, Sender, instant, spoken_sample};

/// Time alone moves the head no nearer to the present than 200 ms, and a slot is 10 ms.
const SLACK: Duration = Duration::from_millis(220);

/// What a recorder got of a leg.
pub struct Reception {
    pub codec: Codec,
    pub repair: Duration,
    /// Call sample of the first element.
    pub base: i64,
    pub pcm: Vec<i16>,
    pub states: Vec<SlotState>,
    /// Slots that the recorder missed.
    pub overrun: u64,
    pub stats: LegStats,
    pub events: Vec<LegEvent>,
    pub outcomes: Vec<PacketOutcome>,
    pub arrived: Vec<Datagram>,
}

/// Receive `arrived` with the defaults; the call ends at `end` nanoseconds.
pub fn receive(codec: Codec, arrived: Vec<Datagram>, end: u64) -> Reception {
    receive_with(codec, arrived, end, |_| {})
}

pub fn receive_with(
    codec: Codec,
    arrived: Vec<Datagram>,
    end: u64,
    adjust: impl FnOnce(&mut LegConfig),
) -> Reception {
    let clock = Arc::new(CallClock::new(instant(0), codec.sample_rate(), 1));
    let mut config = LegConfig::new(codec, clock);
    // What is lost is zeros in the array, too.
    config.conceal = false;
    adjust(&mut config);
    let repair = config.repair_window;
    let lag = codec.sample_rate().samples_in(repair);
    let (mut leg, ring) = LegReceiver::new(config);
    let mut recorder = Recorder::new(ring.reader());
    let (mut events, mut outcomes) = (Vec::new(), Vec::new());
    let mut tick = 0;
    for datagram in &arrived {
        while tick < datagram.at {
            leg.on_tick(instant(tick));
            recorder.read(lag);
            tick += 10_000_000;
        }
        outcomes.push(leg.on_packet(instant(datagram.at), &datagram.bytes));
        recorder.read(lag);
        events.extend(leg.take_events());
    }
    while tick < end {
        leg.on_tick(instant(tick));
        recorder.read(lag);
        tick += 10_000_000;
        events.extend(leg.take_events());
    }
    leg.flush(instant(end));
    events.extend(leg.take_events());
    let stats = leg.finish(instant(end));
    recorder.read(lag);
    assert!(recorder.ended);
    let Recorder { pcm, states, overrun, .. } = recorder;
    Reception { codec, repair, base: ring.base(), pcm, states, overrun, stats, events, outcomes, arrived }
}

struct Recorder {
    reader: RingReader,
    pcm: Vec<i16>,
    states: Vec<SlotState>,
    overrun: u64,
    ended: bool,
}

impl Recorder {
    fn new(reader: RingReader) -> Self {
        Self { reader, pcm: Vec::new(), states: Vec::new(), overrun: 0, ended: false }
    }

    fn read(&mut self, lag: u64) {
        let mut slot = vec![0; self.reader.ring().slot_samples()];
        loop {
            match self.reader.read_slot(lag, &mut slot) {
                SlotRead::Ready { state, len } => {
                    self.pcm.extend_from_slice(&slot[..len]);
                    self.states.push(state);
                }
                SlotRead::Missed { slots } => {
                    self.overrun += slots;
                    self.pcm.resize(self.pcm.len() + slots as usize * slot.len(), 0);
                    self.states.resize(self.states.len() + slots as usize, SlotState::Lost);
                }
                SlotRead::Pending => return,
                SlotRead::End => {
                    self.ended = true;
                    return;
                }
            }
        }
    }
}

impl Reception {
    /// Samples from the first one of the leg's first segment to the end of the recording.
    pub fn length(&self) -> usize {
        (self.base + self.pcm.len() as i64 - self.stats.segments[0].first_sample) as usize
    }

    /// The states of the slots that cover `from..to` ms after the first sample of the leg.
    pub fn states(&self, from: u64, to: u64) -> &[SlotState] {
        let first = (self.stats.segments[0].first_sample - self.base) as usize / self.slot();
        &self.states[first + from as usize / 10..first + to as usize / 10]
    }

    pub fn count(&self, outcome: PacketOutcome) -> usize {
        self.outcomes.iter().filter(|&&one| one == outcome).count()
    }

    fn slot(&self) -> usize {
        self.codec.sample_rate().slot_samples()
    }

    /// By how many samples each segment's place is later than the moment at which it was spoken.
    pub fn displacements(&self) -> Vec<i64> {
        let starts = self.stats.segments.iter().map(|segment| {
            let mut header = segment.first_rtp_timestamp.to_be_bytes().to_vec();
            header.extend(segment.ssrc.to_be_bytes());
            let is_first =
                |d: &&Datagram| d.bytes.get(4..12) == Some(&header[..]) && d.bytes[1] & 0x7f != 101;
            let first =
                self.arrived.iter().find(is_first).expect("a segment begins with a packet that was sent");
            segment.first_sample - first.spoken
        });
        starts.collect()
    }

    /// Compare everything with the array. For each SSRC there must be one segment.
    pub fn check(&self) {
        let displacements = self.displacements();
        self.check_displaced(|audio| {
            let at = self.stats.segments.iter().position(|segment| segment.ssrc == audio.ssrc)?;
            Some(displacements[at])
        });
    }

    /// Compare everything with the array, if all audio is displaced by as much.
    pub fn check_displaced_by(&self, displacement: i64) {
        self.check_displaced(|_| Some(displacement));
    }

    fn check_displaced(&self, displacement: impl Fn(&Audio) -> Option<i64>) {
        let mut seen = HashSet::new();
        // Call sample to its value, and whether the recorder must have it.
        let mut array: HashMap<i64, (i16, bool)> = HashMap::new();
        let rate = self.codec.sample_rate();
        let must = rate.samples_in(self.repair - SLACK) as i64;
        let may = rate.samples_in(self.repair + SLACK) as i64;
        for datagram in &self.arrived {
            let Some(audio) = datagram.audio else { continue };
            if !seen.insert((audio.ssrc, audio.sequence)) {
                continue;
            }
            let Some(displacement) = displacement(&audio) else { continue };
            let place = audio.spoken + displacement;
            let lateness = rate.samples_in(Duration::from_nanos(datagram.at)) as i64 - place;
            if lateness > may {
                continue;
            }
            for i in 0..audio.samples as i64 {
                let value = spoken_sample(self.codec, audio.spoken + i);
                array.entry(place + i).or_insert((value, lateness < must));
            }
        }
        for (n, &pcm) in self.pcm.iter().enumerate() {
            let sample = self.base + n as i64;
            match array.get(&sample) {
                Some(&(value, true)) => assert_eq!(pcm, value, "call sample {sample}"),
                Some(&(value, false)) => assert!(pcm == value || pcm == 0, "call sample {sample}"),
                None => assert_eq!(pcm, 0, "call sample {sample} should be silent"),
            }
        }
        let slot = self.slot();
        for (n, state) in self.states.iter().enumerate() {
            let samples = &self.pcm[n * slot..self.pcm.len().min((n + 1) * slot)];
            let whole = samples.iter().all(|&pcm| pcm != 0);
            assert_eq!(whole, state.is_audio(), "slot {n} is {state:?}");
        }
        let end = self.base + self.pcm.len() as i64;
        for (&sample, &(_, must)) in &array {
            assert!(!must || sample < end, "call sample {sample} is not in the recording");
        }
    }
}

/// Have `sender`'s wire carried perfectly and received until the end of what it says.
pub fn perfectly(sender: &Sender) -> Reception {
    let arrived = super::emulator::Network::perfect().carry(&sender.wire);
    receive(sender.codec, arrived, sender.nanos_of(sender.now))
}
