//! What lies between sender and receiver.

use super::chance::{Choice, Rng, exponential, normal};
use super::sender::Datagram;

/// Copies come within this of the original.
const COPY_WITHIN: u64 = 100_000_000;
/// Garbage comes this long after the packet before it.
const GARBAGE_AFTER: u64 = 3_000_000;
/// Reserved by RFC 3551.
const UNUSED_PAYLOAD_TYPE: u8 = 77;

/// How packets get lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// None is.
    None,
    /// Each with this probability, 0 to 1.
    Random(f64),
    /// In bursts: the model of Gilbert (Bell System Technical Journal 39, 1960), with everything lost in the bad state. The
    /// share that is lost and the mean length of a burst in packets are those stated: the bad state is left with probability
    /// 1/`burst` and entered with `share`/(1-`share`)/`burst`.
    Bursty {
        /// Of all packets, 0 to `burst`/(`burst`+1).
        share: f64,
        /// Packets, 1 or more.
        burst: f64,
    },
    /// Gilbert's and Elliott's: a good and a bad state, each of which loses some.
    GilbertElliott {
        /// Probability that the good state is left, a packet.
        fail: f64,
        /// Probability that the bad state is left, a packet; the mean length of a bad stretch is the inverse.
        recover: f64,
        /// Share lost in the good state.
        good: f64,
        /// Share lost in the bad state.
        bad: f64,
    },
}

/// What comes on top of the constant delay, a packet; nanoseconds. More than the packets' spacing reorders them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Nothing.
    None,
    /// Anything from nothing up to this.
    Uniform(u64),
    /// Exponential with this mean, cut off at eight times that.
    Exponential(u64),
    /// Normal around three of these deviations, cut off at nothing.
    Normal(u64),
    /// Nothing, but for this share of packets this much: a radio link, or a busy machine.
    Spikes {
        /// 0 to 1.
        share: f64,
        /// Nanoseconds.
        height: u64,
    },
}

impl Jitter {
    fn draw(self, rng: &mut Rng) -> u64 {
        match self {
            Self::None => 0,
            Self::Uniform(width) => rng.below(width + 1),
            Self::Exponential(mean) => exponential(rng, mean as f64).min(8.0 * mean as f64) as u64,
            Self::Normal(deviation) => ((normal(rng) + 3.0) * deviation as f64).max(0.0) as u64,
            Self::Spikes { share, height } => u64::from(rng.unit() < share) * height,
        }
    }

    /// The most that it can add, nanoseconds.
    pub fn most(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Uniform(width) => width,
            Self::Exponential(mean) => 8 * mean,
            Self::Normal(deviation) => 9 * deviation,
            Self::Spikes { height, .. } => height,
        }
    }
}

/// The network stands still, and what queued up meanwhile comes in a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// From here on nothing comes: nanoseconds.
    pub from: u64,
    /// For so long.
    pub length: u64,
    /// Then the queue comes, a packet each so many nanoseconds.
    pub spacing: u64,
}

/// What lies between sender and receiver. Losses first, then delays, copies, and what never was a packet of the sender.
#[derive(Clone, Debug)]
pub struct Network {
    /// Where chance comes from.
    pub rng: Rng,
    /// How packets get lost.
    pub loss: Loss,
    /// Added to every packet, nanoseconds.
    pub delay: u64,
    /// Added to the delay.
    pub jitter: Jitter,
    /// Share of packets that are held back by `held_back` more, and so change places.
    pub reordered: f64,
    /// Nanoseconds.
    pub held_back: u64,
    /// Share of packets that come twice, the copy within the next 100 ms.
    pub duplicates: f64,
    /// Where it stands still, in order.
    pub stops: Vec<Stop>,
    /// Share of packets behind which garbage comes, or a packet cut off within its header.
    pub garbage: f64,
}

impl Network {
    /// Nothing but 5 ms.
    pub fn perfect() -> Self {
        Self {
            rng: Rng(1),
            loss: Loss::None,
            delay: 5_000_000,
            jitter: Jitter::None,
            reordered: 0.0,
            held_back: 0,
            duplicates: 0.0,
            stops: Vec::new(),
            garbage: 0.0,
        }
    }

    /// Carry what was sent: what comes in, in the order in which it comes in.
    pub fn carry(&mut self, wire: &[Datagram]) -> Vec<Datagram> {
        let mut bad = false;
        let mut arrived = Vec::with_capacity(wire.len());
        for datagram in wire {
            if self.is_lost(&mut bad) {
                continue;
            }
            let mut at = datagram.at + self.delay + self.jitter.draw(&mut self.rng);
            if self.rng.unit() < self.reordered {
                at += self.held_back;
            }
            arrived.push(Datagram { at, ..datagram.clone() });
            if self.rng.unit() < self.duplicates {
                let at = at + self.rng.below(COPY_WITHIN);
                arrived.push(Datagram { at, ..datagram.clone() });
            }
            if self.rng.unit() < self.garbage {
                let bytes = self.garbage_for(datagram);
                arrived.push(Datagram { at: at + GARBAGE_AFTER, bytes, sent: None });
            }
        }
        arrived.sort_by_key(|datagram| datagram.at);
        for stop in &self.stops {
            stop.apply(&mut arrived);
        }
        arrived.sort_by_key(|datagram| datagram.at);
        arrived
    }

    fn is_lost(&mut self, bad: &mut bool) -> bool {
        let (fail, recover, in_good, in_bad) = match self.loss {
            Loss::None => return false,
            Loss::Random(share) => return self.rng.unit() < share,
            Loss::Bursty { share, burst } => (share / (1.0 - share) / burst, 1.0 / burst, 0.0, 1.0),
            Loss::GilbertElliott { fail, recover, good, bad } => (fail, recover, good, bad),
        };
        let leaves = self.rng.unit() < if *bad { recover } else { fail };
        *bad ^= leaves;
        self.rng.unit() < if *bad { in_bad } else { in_good }
    }

    fn garbage_for(&mut self, datagram: &Datagram) -> Vec<u8> {
        if self.rng.one_in(2) {
            return datagram.bytes[..self.rng.below(12) as usize].to_vec();
        }
        let mut bytes: Vec<u8> = (0..self.rng.below(200)).map(|_| self.rng.next() as u8).collect();
        if let [version, payload_type, ..] = &mut bytes[..]
            && *version >> 6 == 2
        {
            // RTP by chance, but nobody's: one packet in thousands would otherwise be a source that nobody meant.
            *payload_type = *payload_type & 0x80 | UNUSED_PAYLOAD_TYPE;
        }
        bytes
    }
}

impl Stop {
    /// What comes in when the network stands still, of what would come in `arrived` otherwise.
    pub fn queue(&self, mut arrived: Vec<Datagram>) -> Vec<Datagram> {
        self.apply(&mut arrived);
        arrived.sort_by_key(|datagram| datagram.at);
        arrived
    }

    fn apply(&self, arrived: &mut [Datagram]) {
        let mut next = self.from + self.length;
        for datagram in arrived.iter_mut().filter(|datagram| datagram.at >= self.from) {
            // Until the queue is empty, what comes behind it waits too.
            if datagram.at >= next {
                break;
            }
            datagram.at = next;
            next += self.spacing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{MS, Sender};
    use crate::media::codec::Codec;

    fn wire(ms: u64) -> Vec<Datagram> {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(ms);
        sender.wire
    }

    fn ids(arrived: &[Datagram]) -> Vec<usize> {
        arrived.iter().filter_map(|datagram| Some(datagram.sent?.id)).collect()
    }

    /// Lost packets, and bursts of them.
    fn losses(loss: Loss, packets: usize) -> (f64, f64) {
        let mut network = Network { loss, rng: Rng(3), ..Network::perfect() };
        let arrived = ids(&network.carry(&wire(20 * packets as u64)));
        let bursts = arrived.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
        ((packets - arrived.len()) as f64, bursts as f64)
    }

    #[test]
    fn losses_have_the_rate_and_the_burst_length_that_they_state() {
        let (lost, bursts) = losses(Loss::Random(0.05), 100_000);
        assert!((lost / 100_000.0 - 0.05).abs() < 0.003, "{lost}");
        assert!((lost / bursts - 1.0 / 0.95).abs() < 0.02, "{}", lost / bursts);

        let (lost, bursts) = losses(Loss::Bursty { share: 0.05, burst: 4.0 }, 100_000);
        assert!((lost / 100_000.0 - 0.05).abs() < 0.004, "{lost}");
        assert!((lost / bursts - 4.0).abs() < 0.2, "{}", lost / bursts);

        // Half of all time is bad, and loses a half; the good half loses a tenth.
        let loss = Loss::GilbertElliott { fail: 0.1, recover: 0.1, good: 0.1, bad: 0.5 };
        let (lost, _) = losses(loss, 100_000);
        assert!((lost / 100_000.0 - 0.3).abs() < 0.01, "{lost}");
    }

    #[test]
    fn jitter_stays_below_its_most_and_reorders_when_it_is_wider_than_the_spacing() {
        let spikes = Jitter::Spikes { share: 0.05, height: 90 * MS };
        for jitter in
            [Jitter::Uniform(60 * MS), Jitter::Exponential(20 * MS), Jitter::Normal(15 * MS), spikes]
        {
            let mut network = Network { jitter, rng: Rng(8), ..Network::perfect() };
            let wire = wire(60_000);
            let arrived = network.carry(&wire);
            let late = |d: &Datagram| d.at - wire[d.sent.map_or(0, |sent| sent.id)].at - 5 * MS;
            assert!(arrived.iter().all(|d| late(d) <= jitter.most()), "{jitter:?}");
            assert!(arrived.iter().any(|d| late(d) > jitter.most() / 3), "{jitter:?}");
            assert!(!ids(&arrived).is_sorted(), "{jitter:?}");
        }
    }

    #[test]
    fn a_stop_queues_what_comes_and_lets_it_go_in_order() {
        let stop = Stop { from: 1_000 * MS, length: 1_000 * MS, spacing: MS };
        let mut network = Network { stops: vec![stop], ..Network::perfect() };
        let arrived = network.carry(&wire(4_000));
        assert!(ids(&arrived).is_sorted());
        assert_eq!(arrived.iter().filter(|d| (1_000 * MS..2_000 * MS).contains(&d.at)).count(), 0);
        let burst: Vec<_> = arrived.iter().filter(|d| (2_000 * MS..2_050 * MS).contains(&d.at)).collect();
        assert_eq!(burst.len(), 50);
        assert_eq!(burst[49].at - burst[0].at, 49 * MS);
        // What came while the queue drained waited for its end, and after that nothing does.
        assert_eq!(arrived.iter().find(|d| d.at > 2_100 * MS).map(|d| d.at % (20 * MS)), Some(5 * MS));
    }

    #[test]
    fn every_packet_twice_and_garbage_behind_each() {
        let mut network = Network { duplicates: 1.0, garbage: 1.0, ..Network::perfect() };
        let arrived = network.carry(&wire(2_000));
        assert_eq!(ids(&arrived).len(), 200);
        assert_eq!(arrived.iter().filter(|d| d.sent.is_none()).count(), 100);
    }
}
