//! Nothing is allocated a packet: the allocator counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::pace::playout;
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::net::plane::{PlaneConfig, RtpPlane};

fn receiver(start: MediaInstant) -> LegReceiver {
    let clock = Arc::new(CallClock::new(start, SampleRate::NARROWBAND, 1));
    LegReceiver::new(LegConfig::new(Codec::Ulaw, clock)).0
}

struct Counting;

/// Of all threads.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Of this thread.
    static OWN: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    // A thread that is ending has no place for it any more.
    let _ = OWN.try_with(|own| own.set(own.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One datagram of 20 ms, written in place.
fn packet(datagram: &mut [u8; 172], payload_type: u8, sequence: u16, timestamp: u32) {
    datagram[0] = 0x80;
    datagram[1] = payload_type;
    datagram[2..4].copy_from_slice(&sequence.to_be_bytes());
    datagram[4..8].copy_from_slice(&timestamp.to_be_bytes());
    datagram[8..12].copy_from_slice(&7_u32.to_be_bytes());
}

#[test]
fn a_receiver_allocates_nothing_once_it_runs() {
    let mut leg = receiver(MediaInstant::from_nanos(0));
    let mut datagram = [0x55; 172];
    let mut send = |leg: &mut LegReceiver, n: u64, payload_type: u8, len: usize| {
        packet(&mut datagram, payload_type, n as u16, 160 * n as u32);
        leg.on_packet(MediaInstant::from_nanos(1_000_000_000 + n * 20_000_000), &datagram[..len]);
        leg.take_events().count()
    };
    for n in 0..50 {
        send(&mut leg, n, 0, 172);
    }
    // The test harness has a thread, too.
    let before = OWN.get();
    let mut events = 0;
    for n in 50..50_000 {
        // Loss, a duplicate, reordering, a late packet, silence, comfort noise, keys, garbage.
        match n % 50 {
            7 | 8 => {}
            11 => events += send(&mut leg, n, 0, 172) + send(&mut leg, n, 0, 172),
            15 => events += send(&mut leg, n + 1, 0, 172) + send(&mut leg, n, 0, 172),
            16 => {}
            20 => events += send(&mut leg, n - 12, 0, 172),
            30 => events += send(&mut leg, n, 13, 13),
            40 => events += send(&mut leg, n, 101, 16),
            41 => events += send(&mut leg, n, 77, 40),
            _ => events += send(&mut leg, n, 0, 172),
        }
    }
    assert_eq!(OWN.get() - before, 0);
    assert!(events > 1_000, "{events}");
    assert!(leg.counts().repaired > 900);
}

#[test]
fn a_shard_allocates_nothing_while_packets_flow() {
    let plane = RtpPlane::start(PlaneConfig::new("127.0.0.1:0".parse().unwrap(), 1)).unwrap();
    let mut legs = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..40 {
        let seat = plane.seat();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", seat.port())).unwrap();
        let source = socket.local_addr().unwrap();
        legs.push(seat.attach(source, receiver(clock::now()).into(), Arc::new(|_| ())).unwrap());
        senders.push(socket);
    }
    // Callers that are spoken to all the while, in codecs with a memory and without.
    let party = UdpSocket::bind("127.0.0.1:0").unwrap();
    let voices: Vec<_> = [Codec::Ulaw, Codec::Slin, Codec::G722, Codec::Gsm]
        .into_iter()
        .map(|codec| {
            let (mut player, pacer) = playout(codec.sample_rate(), Duration::from_secs(30));
            player.push(&[1_000; 200_000]);
            (plane.seat().speak(party.local_addr().unwrap(), codec, pacer).unwrap(), player)
        })
        .collect();
    let mut datagram = [0x55; 172];
    let mut n = 0;
    let mut round = || {
        packet(&mut datagram, 0, n as u16, 160 * n);
        n += 1;
        for sender in &senders {
            sender.send(&datagram).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    (0..50).for_each(|_| round());
    let (before, received) = (ALLOCATIONS.load(Ordering::Relaxed), plane.totals().received);
    (0..100).for_each(|_| round());
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(plane.totals().received - received >= 40 * 90, "{:?}", plane.totals());
    assert_eq!(after - before, 0);
    for (_voice, player) in &voices {
        assert!(player.played() > 100 * 160, "{} samples", player.played());
    }
}
