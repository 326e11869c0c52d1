//! A simulated sender and network. Time is a number, chance has a seed.
//!
//! Every sample that is sent has a value of its own, made from the moment at which it was spoken; so what comes out of a
//! recording says where it belongs.

use sidetone::media::codec::Codec;
use sidetone::media::time::MediaInstant;

/// Nanoseconds of the simulation's zero on the media clock.
pub const EPOCH: u64 = 1_000_000_000_000;

/// The media instant `nanos` into the simulation.
pub fn instant(nanos: u64) -> MediaInstant {
    MediaInstant::from_nanos(EPOCH + nanos)
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The bytes of the sample spoken at sample `spoken` of the call.
fn encoded(codec: Codec, spoken: i64) -> Vec<u8> {
    let hash = mix(spoken as u64 ^ 0x5eed);
    match codec {
        // No code that decodes to 0: silence must be tellable from audio.
        Codec::Ulaw => vec![(hash as u8 & 0x7f).min(0x7e)],
        Codec::Alaw => vec![hash as u8],
        _ => (hash as i16 | 1).to_be_bytes().to_vec(),
    }
}

/// The PCM of the sample spoken at sample `spoken` of the call; never 0.
pub fn spoken_sample(codec: Codec, spoken: i64) -> i16 {
    codec.decode(&encoded(codec, spoken), 0)
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// When it was sent or, once carried, when it comes in: nanoseconds.
    pub at: u64,
    pub bytes: Vec<u8>,
    /// The moment that its timestamp stands for, in samples of the sender's clock.
    pub spoken: i64,
    /// The audio that it carries.
    pub audio: Option<Audio>,
}

/// What a datagram carries, as the sender knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audio {
    pub ssrc: u32,
    pub sequence: u64,
    pub timestamp: u32,
    /// When its first sample was spoken, in samples of the sender's clock.
    pub spoken: i64,
    pub samples: usize,
}

/// A sender of one leg. Its methods let time pass for it, and put what it says on the wire.
#[derive(Clone, Debug)]
pub struct Sender {
    pub codec: Codec,
    pub ssrc: u32,
    /// Low 16 bits go on the wire.
    pub sequence: u64,
    pub timestamp: u32,
    pub ptime_ms: u64,
    /// Parts per million by which its clock is fast.
    pub ppm: f64,
    /// Samples of its clock since the simulation's zero.
    pub now: i64,
    pub wire: Vec<Datagram>,
}

impl Sender {
    pub fn new(codec: Codec) -> Self {
        let (sequence, timestamp) = (1_000, 160_000);
        Self { codec, ssrc: 0x1111, sequence, timestamp, ptime_ms: 20, ppm: 0.0, now: 0, wire: Vec::new() }
    }

    fn rate(&self) -> i64 {
        i64::from(self.codec.sample_rate().hz())
    }

    /// Nanoseconds of the simulation at sample `sample` of the sender's clock.
    pub fn nanos_of(&self, sample: i64) -> u64 {
        (sample as f64 * 1e9 / (self.rate() as f64 * (1.0 + self.ppm * 1e-6))).round() as u64
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
        let audio = Audio {
            ssrc: self.ssrc,
            sequence: self.sequence,
            timestamp: self.timestamp,
            spoken: self.now,
            samples: samples as usize,
        };
        let payload: Vec<u8> =
            (self.now..self.now + samples).flat_map(|spoken| encoded(self.codec, spoken)).collect();
        let payload_type = self.codec.payload_type() | u8::from(marker) << 7;
        self.send(payload_type, &payload, Some(audio));
        self.pass(samples)
    }

    /// Say nothing for `ms`; timestamps go on.
    pub fn rest(&mut self, ms: u64) -> &mut Self {
        self.pass(self.samples(ms))
    }

    /// Say nothing for `ms`; timestamps stand still.
    pub fn freeze(&mut self, ms: u64) -> &mut Self {
        self.now += self.samples(ms);
        self
    }

    /// Comfort noise (RFC 3389) from here on.
    pub fn comfort_noise(&mut self) -> &mut Self {
        self.send(13, &[60], None)
    }

    /// Press the key of `event` for `packets` times 20 ms; `ends` copies of the end.
    pub fn press(&mut self, event: u8, packets: u16, ends: u16) -> &mut Self {
        for n in 1..=packets + ends.saturating_sub(1) {
            let [high, low] = (160 * n.min(packets)).to_be_bytes();
            let end = if n >= packets && ends > 0 { 0x80 } else { 0 };
            self.send(101, &[event, end | 10, high, low], None);
            self.now += self.samples(20);
        }
        let ticks = self.samples(20) * i64::from(packets + ends.saturating_sub(1));
        self.timestamp = self.timestamp.wrapping_add(ticks as u32);
        self
    }

    /// Send whatever this is.
    pub fn send(&mut self, type_and_marker: u8, payload: &[u8], audio: Option<Audio>) -> &mut Self {
        let mut bytes = vec![0x80, type_and_marker];
        bytes.extend((self.sequence as u16).to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        self.sequence += 1;
        self.wire.push(Datagram { at: self.nanos_of(self.now), bytes, spoken: self.now, audio });
        self
    }

    /// Jump by `ticks` without any time passing.
    pub fn jump(&mut self, ticks: i64) -> &mut Self {
        self.timestamp = self.timestamp.wrapping_add(ticks as u32);
        self
    }

    pub fn samples(&self, ms: u64) -> i64 {
        ms as i64 * self.rate() / 1_000
    }

    fn pass(&mut self, samples: i64) -> &mut Self {
        self.now += samples;
        self.jump(samples)
    }
}

/// How packets get lost.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    None,
    /// Each with this probability.
    Random(f64),
    /// In bursts of this mean length (Gilbert): the share that is lost, and the mean.
    Bursty(f64, f64),
}

/// What lies between sender and receiver.
#[derive(Clone, Debug)]
pub struct Network {
    pub rng: Rng,
    pub loss: Loss,
    /// Added to every packet, nanoseconds.
    pub delay: u64,
    /// Uniform, added to the delay, nanoseconds; more than the packet spacing reorders.
    pub jitter: u64,
    /// Share of packets that come twice, the copy within the next 100 ms.
    pub duplicates: f64,
}

impl Network {
    /// Nothing but 5 ms.
    pub fn perfect() -> Self {
        Self { rng: Rng(1), loss: Loss::None, delay: 5_000_000, jitter: 0, duplicates: 0.0 }
    }

    /// Carry what was sent: what comes in, in the order in which it comes in.
    pub fn carry(&mut self, wire: &[Datagram]) -> Vec<Datagram> {
        let mut lost = false;
        let mut arrived = Vec::with_capacity(wire.len());
        for datagram in wire {
            lost = match self.loss {
                Loss::None => false,
                Loss::Random(share) => self.rng.unit() < share,
                Loss::Bursty(_, mean) if lost => self.rng.unit() >= 1.0 / mean,
                Loss::Bursty(share, mean) => self.rng.unit() < share / (1.0 - share) / mean,
            };
            if lost {
                continue;
            }
            let at = datagram.at + self.delay + self.rng.below(self.jitter + 1);
            arrived.push(Datagram { at, ..datagram.clone() });
            if self.rng.unit() < self.duplicates {
                let at = at + self.rng.below(100_000_000);
                arrived.push(Datagram { at, ..datagram.clone() });
            }
        }
        arrived.sort_by_key(|datagram| datagram.at);
        arrived
    }
}
