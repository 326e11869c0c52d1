//! A SIP phone whose media is the test's own: every packet that it hears is kept as it came, and it says what it is told,
//! packet by packet. SIPp does the signalling.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sidetone::clock;
use sidetone::media::rtp::RtpPacket;
use sidetone::media::time::MediaInstant;

use super::callers::{SipCall, SipPhones};
use super::lab::{FRAME, Lab, ulaw_decode, ulaw_encode};

/// A packet that the phone heard.
#[derive(Clone, Debug)]
pub struct Heard {
    pub sequence: u16,
    pub timestamp: u32,
    pub payload_type: u8,
    pub payload: Vec<u8>,
}

/// A phone that has called.
pub struct Phone {
    socket: Arc<UdpSocket>,
    heard: Arc<Mutex<(Vec<Heard>, Option<SocketAddr>)>>,
    ended: Arc<AtomicBool>,
    ear: Option<JoinHandle<()>>,
    signalling: Option<SipPhones>,
    sequence: u16,
    timestamp: u32,
    /// When the next packet is due.
    due: Option<MediaInstant>,
}

impl Phone {
    /// Calls `number`, and hangs up after `stays` unless it is hung up on.
    pub fn call(lab: &Lab, number: &str, stays: Duration) -> Phone {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let port = socket.local_addr().expect("its port").port();
        let signalling = SipCall::to(number).media_at(port).stays(stays).place(lab);
        let heard = Arc::<Mutex<(Vec<Heard>, Option<SocketAddr>)>>::default();
        let ended = Arc::<AtomicBool>::default();
        let (ear_socket, kept, done) = (socket.clone(), heard.clone(), ended.clone());
        let ear = std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !done.load(Ordering::Relaxed) {
                let Ok((length, from)) = ear_socket.recv_from(&mut buffer) else { continue };
                let Ok(packet) = RtpPacket::parse(&buffer[..length]) else { continue };
                let mut kept = kept.lock().expect("nobody panicked");
                kept.1 = Some(from);
                kept.0.push(Heard {
                    sequence: packet.sequence().0,
                    timestamp: packet.timestamp().0,
                    payload_type: packet.payload_type(),
                    payload: packet.payload().to_vec(),
                });
            }
        });
        Phone {
            socket,
            heard,
            ended,
            ear: Some(ear),
            signalling: Some(signalling),
            sequence: 100,
            timestamp: 16_000,
            due: None,
        }
    }

    /// The port of its media.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("its address").port()
    }

    /// Waits until the phone hears anything, silence included.
    pub async fn hears(&self) {
        for _ in 0..500 {
            if self.heard.lock().expect("nobody panicked").1.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the phone hears nothing");
    }

    /// What it has heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("nobody panicked").0.clone()
    }

    /// What it has heard so far, each u-law packet in the place of its timestamp.
    pub fn audio(&self) -> Vec<i16> {
        laid_out(&self.heard())
    }

    /// Says `samples` in packets of 20 ms; returns when the last is due to be over. Blocks.
    pub fn say(&mut self, samples: &[i16]) {
        for frame in samples.chunks_exact(FRAME) {
            let payload: Vec<u8> = frame.iter().map(|&sample| ulaw_encode(sample)).collect();
            self.send(0, &payload);
            self.pass(FRAME as u32);
        }
    }

    /// Sends one packet now, which takes no time of its own.
    pub fn send(&mut self, payload_type: u8, payload: &[u8]) {
        let to = self.heard.lock().expect("nobody panicked").1.expect("the phone has heard something before");
        let due = *self.due.get_or_insert_with(clock::now);
        std::thread::sleep(due.saturating_since(clock::now()));
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(7_u32.to_be_bytes());
        packet.extend(payload);
        self.socket.send_to(&packet, to).expect("sent");
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// So many samples of time pass.
    pub fn pass(&mut self, samples: u32) {
        self.timestamp = self.timestamp.wrapping_add(samples);
        let due = *self.due.get_or_insert_with(clock::now);
        self.due = Some(due + Duration::from_micros(u64::from(samples) * 125));
    }

    /// Waits until the call is over.
    pub async fn ended(&mut self, limit: Duration) {
        if let Some(signalling) = self.signalling.take() {
            signalling.ended(limit).await;
        }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(ear) = self.ear.take() {
            let _ = ear.join();
        }
    }
}

/// u-law packets as they follow each other, a pause where their timestamps leave one. A jump of over ten seconds is another
/// stream's beginning, and no pause.
pub fn laid_out(packets: &[Heard]) -> Vec<i16> {
    const PAUSE: i32 = 10 * 8_000;
    let (mut samples, mut next) = (Vec::new(), None);
    for packet in packets.iter().filter(|packet| packet.payload_type == 0) {
        let ahead = next.map_or(0, |next| packet.timestamp.wrapping_sub(next) as i32);
        // The loopback reorders nothing.
        if (1..PAUSE).contains(&ahead) {
            samples.resize(samples.len() + ahead as usize, 0);
        }
        samples.extend(packet.payload.iter().map(|&byte| ulaw_decode(byte)));
        next = Some(packet.timestamp.wrapping_add(packet.payload.len() as u32));
    }
    samples
}
