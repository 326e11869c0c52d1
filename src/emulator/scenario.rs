//! A whole run in one small value: what a sender does, what the network does to it, and how to make it smaller.

use std::sync::Arc;
use std::time::Duration;

use super::{Choice, Datagram, Jitter, Line, Loss, MS, Network, Reception, Rng, Sender, Stop, instant};
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::media::receiver::LegConfig;

/// Scenarios looked at while one is made smaller.
const SHRINKING_STEPS: usize = 600;

/// How often in one run a sender begins anew near numbers *and* timestamps of its own ([`Sender::is_among_sent`]).
///
/// RFC 3550 (5.1) has both begin at random. A restart lands within 3,000 of given numbers and within 30 s of their timestamps with a
/// chance of 6,001 in 2^16 times 480,001 in 2^32 (8 kHz), one in 10^5. That is worth being told apart once; twice in one call, one
/// in 10^10, nobody will meet, and among three stretches in one place no receiver can tell late packets and copies of each from
/// what the others send. So all others begin away from what was sent by one of the two, however near they are by the other.
const MAX_AMONG_SENT: u32 = 1;

/// Packets that loss may take around the point where a sender begins anew: a dozen bursts of 8.
const MISSING: u16 = 100;
/// Packets that loss may take in a row: bursts of 8 are as long once in thirty times.
const IN_A_ROW: usize = 25;

/// A thing that a sender does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// Speak for so many milliseconds.
    Talk(u64),
    /// Nothing for so many milliseconds (discontinuous transmission, a hold), then a packet with the marker.
    Rest(u64),
    /// Comfort noise for so many milliseconds.
    Noise(u64),
    /// A key: event, packets before the end, copies of the end.
    Press(u8, u16, u16),
    /// Milliseconds in a packet from here on.
    Ptime(u64),
    /// So many samples are left out, so that what follows is aligned to nothing.
    Skip(i64),
    /// Asterisk's 640 ticks.
    Reanchor,
    /// Another SSRC that begins at this sequence number; timestamps go on, or begin anew at this one.
    Source(u16, Option<u32>),
    /// The same SSRC begins anew, with these sequence numbers and timestamps; with other sequence numbers where nobody could
    /// know it from these ([`Sender::is_near`]), or where it would be the run's second to begin among its own ([`MAX_AMONG_SENT`]).
    Restart(u16, u32),
    /// Timestamps leap by so many ticks; further where that would be such a second one.
    Leap(i64),
}

impl Act {
    fn begins_anew(self) -> bool {
        matches!(self, Self::Source(..) | Self::Restart(..) | Self::Leap(_))
    }
}

/// A run: deterministic, printable, and small.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Format of the audio.
    pub codec: Codec,
    /// Who speaks.
    pub voice: u64,
    /// First sequence number.
    pub sequence: u16,
    /// First timestamp.
    pub timestamp: u32,
    /// Parts per million by which the sender's clock is fast.
    pub ppm: i32,
    /// Milliseconds before it begins.
    pub begins_ms: u64,
    /// What the sender does, after 400 ms of speech and before 200 ms more.
    pub acts: Vec<Act>,
    /// Seed of the network.
    pub seed: u64,
    /// How packets get lost.
    pub loss: Loss,
    /// How they are delayed.
    pub jitter: Jitter,
    /// Share of packets that are held back for 45 ms.
    pub reordered: f64,
    /// Share of packets that come twice.
    pub duplicates: f64,
    /// Share of packets behind which garbage comes.
    pub garbage: f64,
    /// Where the network stands still.
    pub stops: Vec<Stop>,
    /// How far behind the head the recorder stays, milliseconds.
    pub repair_ms: u64,
    /// Whether short losses are concealed.
    pub conceal: bool,
}

impl Scenario {
    /// The scenario of seed `seed`.
    pub fn of_seed(seed: u64) -> Self {
        Self::draw(&mut Rng(seed))
    }

    /// A scenario as `choice` has it.
    pub fn draw(choice: &mut impl Choice) -> Self {
        let stops = draw_stops(choice);
        let mut anew = choice.one_in(2);
        let count = choice.between(0, 6);
        let mut acts = Vec::new();
        for _ in 0..count {
            let act = draw_act(choice, anew);
            // Of a sender that begins anew twice in one queue, nothing tells where its second timeline of the three belongs:
            // all of it was delayed, and nobody knows by how much.
            anew &= stops.is_empty() || !act.begins_anew();
            acts.push(act);
        }
        let mut scenario = Self {
            codec: choice.one_of(&[Codec::Ulaw, Codec::Alaw, Codec::Slin, Codec::Slin16]),
            voice: 0,
            sequence: choice.one_of(&[1_000, 0, u16::MAX - 20, u16::MAX]),
            timestamp: choice.one_of(&[160_000, 0, u32::MAX - 4_000, u32::MAX]),
            ppm: choice.one_of(&[0, 0, 50, -50, 200, -200]),
            begins_ms: choice.one_of(&[0, 0, 7, 90, 1_000]),
            acts,
            seed: choice.below(1 << 32),
            loss: draw_loss(choice),
            jitter: draw_jitter(choice),
            reordered: choice.one_of(&[0.0, 0.0, 0.02, 0.2]),
            duplicates: choice.one_of(&[0.0, 0.0, 0.1, 1.0]),
            garbage: choice.one_of(&[0.0, 0.0, 0.0, 0.1]),
            stops,
            repair_ms: choice.one_of(&[2_000, 2_000, 1_000, 500]),
            conceal: choice.one_in(2),
        };
        scenario.let_queues_drain();
        scenario
    }

    /// A queue that fills as fast as it drains makes all that comes from then on late. Where that is later than a packet in
    /// sequence is believed to be, nobody knows it from timestamps that jumped back.
    fn let_queues_drain(&mut self) {
        let shortest = self.acts.iter().fold(20, |ms, act| match *act {
            Act::Ptime(ptime) => ptime.min(ms),
            _ => ms,
        });
        let fills_in = (shortest * MS) as f64 / (1.0 + self.duplicates);
        for stop in self.stops.iter_mut().filter(|stop| stop.spacing as f64 >= fills_in) {
            stop.spacing = MS;
        }
    }

    /// What the sender sends.
    pub fn sender(&self) -> Sender {
        let mut sender = Sender::beginning_at(self.codec, self.sequence, self.timestamp)
            .with_voice(self.voice)
            .with_ppm(self.ppm.into());
        sender.now = sender.samples(self.begins_ms);
        sender.talk(400);
        let mut among_sent = 0;
        for act in &self.acts {
            perform(self, &mut sender, *act, &mut among_sent);
        }
        sender.talk(200);
        sender
    }

    /// What lies between.
    pub fn network(&self) -> Network {
        Network {
            rng: Rng(self.seed),
            loss: self.loss,
            delay: 5 * MS,
            jitter: self.jitter,
            reordered: self.reordered,
            held_back: 45 * MS,
            duplicates: self.duplicates,
            stops: self.stops.clone(),
            garbage: self.garbage,
        }
    }

    /// What comes in, and when the call ends: 400 ms after the sender's last sample, nanoseconds.
    pub fn arrivals(&self) -> (Vec<Datagram>, u64) {
        let sender = self.sender();
        let end = sender.nanos_of(sender.now) + 400 * MS;
        let mut arrived = self.network().carry(&sender.wire);
        arrived.retain(|datagram| datagram.at < end);
        (arrived, end)
    }

    /// The leg on its way, on the call's `clock`, and when it ends.
    pub fn line(&self, clock: &Arc<CallClock>) -> (Line, u64) {
        let config = LegConfig {
            repair_window: Duration::from_millis(self.repair_ms),
            conceal: self.conceal,
            ..LegConfig::new(self.codec, clock.clone())
        };
        let (arrived, end) = self.arrivals();
        (Line::new(config, arrived), end)
    }

    /// Receive it, on a clock of its own.
    pub fn run(&self) -> Reception {
        let clock = Arc::new(CallClock::new(instant(0), self.codec.sample_rate(), 1));
        let (line, end) = self.line(&clock);
        line.finish(end)
    }

    /// Scenarios that are a little simpler.
    pub fn simpler(&self) -> Vec<Self> {
        let mut simpler = Vec::new();
        for at in 0..self.acts.len() {
            let mut acts = self.acts.clone();
            acts.remove(at);
            simpler.push(Self { acts, ..self.clone() });
        }
        for at in 0..self.stops.len() {
            let mut stops = self.stops.clone();
            stops.remove(at);
            simpler.push(Self { stops, ..self.clone() });
        }
        simpler.extend([
            Self { garbage: 0.0, ..self.clone() },
            Self { duplicates: 0.0, ..self.clone() },
            Self { loss: Loss::None, ..self.clone() },
            Self { jitter: Jitter::None, ..self.clone() },
            Self { reordered: 0.0, ..self.clone() },
            Self { ppm: 0, ..self.clone() },
            Self { begins_ms: 0, ..self.clone() },
            Self { codec: Codec::Ulaw, ..self.clone() },
            Self { sequence: 1_000, ..self.clone() },
            Self { timestamp: 160_000, ..self.clone() },
            Self { repair_ms: 2_000, ..self.clone() },
            Self { conceal: false, ..self.clone() },
        ]);
        for (at, act) in self.acts.iter().enumerate() {
            if let Some(shorter) = shortened(*act) {
                let mut acts = self.acts.clone();
                acts[at] = shorter;
                simpler.push(Self { acts, ..self.clone() });
            }
        }
        simpler.retain(|scenario| scenario != self);
        simpler
    }

    /// The simplest scenario found from here that still `fails`.
    pub fn shrink(self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut smallest = self;
        let mut steps = SHRINKING_STEPS;
        'search: loop {
            for simpler in smallest.simpler() {
                if steps == 0 {
                    return smallest;
                }
                steps -= 1;
                if fails(&simpler) {
                    smallest = simpler;
                    continue 'search;
                }
            }
            return smallest;
        }
    }
}

fn draw_act(choice: &mut impl Choice, anew: bool) -> Act {
    match choice.below(if anew { 16 } else { 12 }) {
        0..=3 => Act::Talk(choice.between(1, 60) * 20),
        4 => Act::Rest(choice.between(1, 800)),
        5 => Act::Rest(choice.between(1, 2_500)),
        6 => Act::Noise(choice.between(1, 1_000)),
        7 => Act::Press(choice.below(16) as u8, choice.between(1, 9) as u16, choice.below(4) as u16),
        8 | 9 => Act::Ptime(choice.one_of(&[20, 10, 30, 40, 60])),
        10 => Act::Skip(choice.between(1, 159) as i64),
        11 => Act::Reanchor,
        12 => Act::Source(choice.below(1 << 16) as u16, None),
        13 => Act::Source(choice.below(1 << 16) as u16, Some(choice.below(1 << 32) as u32)),
        14 => Act::Restart(choice.below(1 << 16) as u16, choice.below(1 << 32) as u32),
        _ => Act::Leap(choice.one_of(&[3_600 * 8_000, -3_600 * 8_000, 20 * 16_000, -20 * 16_000])),
    }
}

fn draw_loss(choice: &mut impl Choice) -> Loss {
    match choice.below(4) {
        0 | 1 => Loss::None,
        2 => Loss::Random(choice.between(1, 20) as f64 / 100.0),
        _ => Loss::Bursty {
            share: choice.between(1, 20) as f64 / 100.0,
            burst: choice.between(15, 80) as f64 / 10.0,
        },
    }
}

fn draw_jitter(choice: &mut impl Choice) -> Jitter {
    match choice.below(6) {
        0 | 1 => Jitter::None,
        2 => Jitter::Uniform(choice.between(1, 150) * MS),
        3 => Jitter::Exponential(choice.between(1, 20) * MS),
        4 => Jitter::Normal(choice.between(1, 20) * MS),
        _ => Jitter::Spikes {
            share: choice.between(1, 10) as f64 / 100.0,
            height: choice.between(10, 700) * MS,
        },
    }
}

fn draw_stops(choice: &mut impl Choice) -> Vec<Stop> {
    if !choice.one_in(5) {
        return Vec::new();
    }
    // Not while the leg is anchored: of what waited before its very first packet came, nobody knows how long it did.
    let from = choice.between(1_300, 4_000) * MS;
    let length = choice.between(50, 3_000) * MS;
    vec![Stop { from, length, spacing: choice.one_of(&[0, MS / 10, MS, 5 * MS]) }]
}

/// Eighths of a circle: half of it first. A run has fewer stretches, and each is near one of them at most.
const TURNS: [u16; 8] = [0, 4, 2, 6, 1, 5, 3, 7];

/// Whether `sender` may begin anew here, having done so `times` among what it had sent.
fn may_be_among(sender: &Sender, sequence: u16, timestamp: u32, times: u32) -> bool {
    times < MAX_AMONG_SENT || !sender.is_among_sent(sequence, timestamp)
}

/// A timestamp with which `sender` can begin anew: `timestamp`, or one half a circle away. What waits in a queue of the network is
/// late by nobody knows how much. Timestamps a little ahead of those before may be theirs, behind a pause, as late as the queue
/// makes them, or others that are not late at all.
fn begun_at(scenario: &Scenario, sender: &Sender, timestamp: u32) -> u32 {
    let rate = sender.codec.rtp_clock_rate() as i32;
    let ahead = timestamp.wrapping_sub(sender.timestamp()) as i32;
    // Those that come, the first ones lost, may be as late by the timestamps before as the last one was, which a spike held up:
    // 700 ms at most, and the seam.
    let unheard = sender.timestamp_before(IN_A_ROW).wrapping_sub(sender.timestamp()) as i32;
    let may_be_held_up = scenario.loss != Loss::None || matches!(scenario.jitter, Jitter::Spikes { .. });
    let in_doubt = match (scenario.stops.is_empty(), may_be_held_up) {
        (true, false) => return timestamp,
        (true, true) => -rate..=0,
        // A stop is 3 s at most, and its queue takes some time to drain; the last packets before may be lost.
        (false, false) => -rate / 2..=5 * rate,
        // So may all that came behind a pause.
        (false, true) => unheard.min(-rate)..=5 * rate,
    };
    if in_doubt.contains(&ahead) { timestamp ^ 0x8000_0000 } else { timestamp }
}

fn perform(scenario: &Scenario, sender: &mut Sender, act: Act, among_sent: &mut u32) {
    let missing = if scenario.loss == Loss::None { 0 } else { MISSING };
    match act {
        Act::Talk(ms) => sender.talk(ms),
        Act::Rest(ms) => sender.rest(ms).packet(true),
        Act::Noise(ms) => sender.comfort_noise().rest(ms),
        Act::Press(event, packets, ends) => sender.press(event, packets, ends),
        Act::Ptime(ms) => {
            sender.ptime_ms = ms;
            sender
        }
        Act::Skip(samples) => sender.skip(samples),
        Act::Reanchor => sender.asterisk_reanchors(),
        Act::Source(sequence, timestamp) => {
            let ssrc = sender.ssrc() + 0x1111;
            sender.change_source(ssrc, sequence);
            if let Some(timestamp) = timestamp {
                sender.begin_timeline(begun_at(scenario, sender, timestamp));
            }
            sender.talk(600)
        }
        Act::Restart(sequence, timestamp) => {
            let timestamp = begun_at(scenario, sender, timestamp);
            // Numbers that go on or come again are those of packets that were late or sent twice: nothing tells that the
            // sender began anew. From half a circle away they do, or from one of these: no stretch of numbers is near two.
            let numbers = TURNS.map(|turn| sequence ^ (turn << 13));
            let may_begin = |&number: &u16| {
                !sender.is_near(number, timestamp, missing)
                    && may_be_among(sender, number, timestamp, *among_sent)
            };
            let sequence = numbers.into_iter().find(may_begin).unwrap_or(sequence);
            *among_sent += u32::from(sender.is_among_sent(sequence, timestamp));
            sender.restart(sequence).begin_timeline(timestamp).talk(600)
        }
        Act::Leap(ticks) => {
            let (number, timestamp) = (sender.sequence(), sender.timestamp());
            let turned = TURNS.map(|turn| ticks + (i64::from(turn) << 29));
            let may_begin = |&ticks: &i64| {
                let target = timestamp.wrapping_add(ticks as u32);
                !sender.repeats(number, target, missing) && may_be_among(sender, number, target, *among_sent)
            };
            let ticks = [ticks, -ticks].into_iter().chain(turned).find(may_begin).unwrap_or(ticks);
            let target = timestamp.wrapping_add(ticks as u32);
            *among_sent += u32::from(sender.is_among_sent(number, target));
            sender.leap(ticks).talk(600)
        }
    };
}

fn shortened(act: Act) -> Option<Act> {
    Some(match act {
        Act::Talk(ms) if ms > 20 => Act::Talk(ms / 40 * 20),
        Act::Rest(ms) if ms > 1 => Act::Rest(ms / 2),
        Act::Noise(ms) if ms > 1 => Act::Noise(ms / 2),
        Act::Press(event, packets, ends) if packets > 1 => Act::Press(event, packets / 2, ends),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::emulator::{Bytes, Sent};

    #[test]
    fn a_seed_is_a_run_and_bytes_are_one_too() {
        assert_eq!(Scenario::of_seed(7), Scenario::of_seed(7));
        assert_ne!(Scenario::of_seed(7), Scenario::of_seed(8));
        let (arrived, end) = Scenario::draw(&mut Bytes(&[])).arrivals();
        assert!(!arrived.is_empty() && end > 0);
    }

    #[test]
    fn a_restart_never_sends_the_numbers_of_what_went_before() {
        let plain = Scenario::draw(&mut Bytes(&[]));
        let first = Act::Restart(plain.sequence, plain.timestamp);
        // Right before the timestamps of another stretch, and behind an hour's leap and back.
        let close = Act::Restart(40_000, 77_000_000);
        let closer = Act::Restart(40_000, 77_000_000 - 2_286);
        let [there, back] = [3_600 * 8_000, -3_600 * 8_000].map(Act::Leap);
        for acts in
            [vec![first; 6], vec![close, closer, close, closer], vec![there, first, back, first, back]]
        {
            let wire = Scenario { acts, ..plain.clone() }.sender().wire;
            let sent: HashSet<_> = wire.iter().map(|datagram| datagram.bytes[2..8].to_vec()).collect();
            assert_eq!(sent.len(), wire.len());
        }
    }

    #[test]
    fn a_run_begins_anew_near_numbers_and_timestamps_of_its_own_at_most_once() {
        let plain = Scenario::draw(&mut Bytes(&[]));
        let near = Act::Restart(plain.sequence.wrapping_sub(1_500), plain.timestamp.wrapping_add(40_000));
        let [there, back] = [3_600 * 8_000, -3_600 * 8_000].map(Act::Leap);
        let far = Act::Restart(30_000, 2_000_000_000);
        for acts in
            [vec![near; 6], vec![far, near, far, near, far, near], vec![there, back, there, back, near]]
        {
            let wire = Scenario { acts, ..plain.clone() }.sender().wire;
            let sent: Vec<_> = wire.iter().filter_map(|datagram| datagram.sent).collect();
            let is_near = |a: &Sent, b: &Sent| {
                (a.sequence as u16).wrapping_sub(b.sequence as u16).cast_signed().unsigned_abs() <= 3_000
                    && a.timestamp.wrapping_sub(b.timestamp).cast_signed().unsigned_abs() <= 240_000
            };
            let among = (1..sent.len()).filter(|&n| {
                let stretch = |sent: &Sent| (sent.source, sent.timeline);
                stretch(&sent[n]) != stretch(&sent[n - 1])
                    && sent[..n].iter().any(|old| is_near(&sent[n], old))
            });
            assert_eq!(among.count(), 1);
        }
    }

    #[test]
    fn timestamps_in_doubt_are_half_a_circle_away_whatever_puts_them_there() {
        let plain = Scenario::draw(&mut Bytes(&[]));
        let stops = vec![Stop { from: 2_000 * MS, length: 1_000 * MS, spacing: MS }];
        let spikes = Jitter::Spikes { share: 0.1, height: 600 * MS };
        // Half a second before those that would follow, and half a second after.
        for (ahead, stopped, held_up, in_doubt) in [
            (-4_100, false, false, false),
            (-4_100, true, false, false),
            (-4_100, false, true, true),
            (-4_100, true, true, true),
            (4_100, false, true, false),
            (4_100, true, true, true),
        ] {
            let timestamp = 160_000_u32.wrapping_add_signed(3_200 + ahead);
            let scenario = Scenario {
                timestamp: 160_000,
                acts: vec![Act::Restart(40_000, timestamp)],
                stops: if stopped { stops.clone() } else { Vec::new() },
                jitter: if held_up { spikes } else { Jitter::None },
                ..plain.clone()
            };
            let wire = scenario.sender().wire;
            let first = wire.iter().filter_map(|datagram| datagram.sent).find(|sent| sent.source == 1);
            let turned = first.map(|first| first.timestamp != timestamp);
            assert_eq!(turned, Some(in_doubt), "{ahead} {stopped} {held_up}");
        }
    }

    #[test]
    fn shrinking_keeps_what_fails_and_drops_what_does_not_matter() {
        let found =
            (0..).map(Scenario::of_seed).find(|s| s.acts.len() > 3 && s.acts.contains(&Act::Reanchor));
        let smallest = found.map(|found| found.shrink(|s| s.acts.contains(&Act::Reanchor)));
        let smallest = smallest.unwrap_or_else(|| unreachable!("the search has no end"));
        assert_eq!(smallest.acts, [Act::Reanchor]);
        assert_eq!((smallest.loss, smallest.jitter, smallest.duplicates), (Loss::None, Jitter::None, 0.0));
    }
}
