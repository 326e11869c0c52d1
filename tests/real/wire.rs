//! What Asterisk really sent: a capture of the loopback, laid out by RTP timestamp, to hold recordings against.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sidetone::media::codec::{Codec, Decoder};
use sidetone::net::capture::Capture;
use tempfile::TempDir;

use crate::support::lab::{FRAME, ulaw_decode};
use crate::support::server::Recorded;

/// A running capture of everything sent to one UDP port. Needs the right to capture; without it there is none.
pub struct Wire {
    tcpdump: Child,
    folder: TempDir,
}

/// What one SSRC sent.
#[derive(Debug, Default)]
pub struct Sent {
    pub first_timestamp: u32,
    /// In the order in which they came: RTP ticks since the first timestamp, and the samples.
    pub packets: Vec<(u32, Vec<i16>)>,
    pub datagrams: u64,
}

impl Wire {
    /// `None`, said aloud, where this user may not capture.
    pub async fn tap(port: u16) -> Option<Wire> {
        Wire::tap_only(port, "udp").await
    }

    /// The same, for what also fits the filter `only`.
    pub async fn tap_only(port: u16, only: &str) -> Option<Wire> {
        Wire::tap_whole(port, only, 400).await
    }

    /// The same, for packets of `codec`, of 20 ms.
    pub async fn tap_for(port: u16, codec: Codec) -> Option<Wire> {
        // Two bytes a sample at most, and headers.
        Wire::tap_whole(port, "udp", 200 + 4 * codec.sample_rate().slot_samples()).await
    }

    async fn tap_whole(port: u16, only: &str, bytes: usize) -> Option<Wire> {
        Wire::tap_filter(&format!("udp dst port {port} and {only}"), bytes).await
    }

    /// The same, for the first `bytes` bytes of what fits a filter of one's own.
    pub async fn tap_filter(filter: &str, bytes: usize) -> Option<Wire> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("wire.pcap");
        let mut tcpdump = Command::new("tcpdump")
            .args([
                "-i",
                "lo",
                "-B",
                "65536",
                "-s",
                &bytes.to_string(),
                "-U",
                "--immediate-mode",
                "-Z",
                "root",
            ])
            .arg("-w")
            .arg(&file)
            .arg(filter)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // The file's header is there once it listens.
        for _ in 0..250 {
            if file.metadata().is_ok_and(|m| m.len() >= 24) {
                return Some(Wire { tcpdump, folder });
            }
            if tcpdump.try_wait().ok()?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("no right to capture: the recordings are not held against the wire");
        None
    }

    /// Stop; the file, which lives as long as this does.
    pub fn stop(&mut self) -> PathBuf {
        if self.tcpdump.try_wait().expect("tcpdump's state").is_none() {
            let pid = self.tcpdump.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
            self.tcpdump.wait().expect("tcpdump's end");
        }
        self.folder.path().join("wire.pcap")
    }

    /// Stop, and lay out what was seen, by SSRC. Decoded by nothing of Sidetone's.
    pub fn sent(self) -> BTreeMap<u32, Sent> {
        let ulaw = |payload: &[u8], _: u32| {
            assert_eq!(payload.len(), FRAME, "not as chan_rtp sends u-law");
            payload.iter().map(|&byte| ulaw_decode(byte)).collect()
        };
        self.laid_out(Codec::Ulaw, ulaw)
    }

    /// The same of packets of `codec`, decoded in the order in which they came: no network is in between that could change it.
    pub fn sent_as(self, codec: Codec) -> BTreeMap<u32, Sent> {
        let mut decoders = BTreeMap::new();
        self.laid_out(codec, move |payload, ssrc| {
            let decoder = decoders.entry(ssrc).or_insert_with(|| Decoder::new(codec).expect("a decoder"));
            let mut pcm = vec![0; codec.samples_in(payload).expect("a payload of whole samples")];
            assert_eq!(decoder.decode(payload, &mut pcm), Ok(pcm.len()));
            pcm
        })
    }

    fn laid_out(
        mut self,
        codec: Codec,
        mut decode: impl FnMut(&[u8], u32) -> Vec<i16>,
    ) -> BTreeMap<u32, Sent> {
        let file = self.stop();
        let mut sent = BTreeMap::<u32, Sent>::new();
        for datagram in Capture::open(&file).expect("a capture") {
            let rtp = datagram.expect("a whole packet").payload;
            let word = |at: usize| u32::from_be_bytes([rtp[at], rtp[at + 1], rtp[at + 2], rtp[at + 3]]);
            assert_eq!((rtp[0], rtp[1] & 0x7f), (0x80, codec.payload_type()), "not as chan_rtp sends");
            let (timestamp, ssrc) = (word(4), word(8));
            let mine =
                sent.entry(ssrc).or_insert_with(|| Sent { first_timestamp: timestamp, ..Sent::default() });
            mine.datagrams += 1;
            let at = timestamp.wrapping_sub(mine.first_timestamp);
            mine.packets.push((at, decode(&rtp[12..], ssrc)));
        }
        sent
    }
}

/// The first SSRC of a leg in a report.
pub fn ssrc(leg: &Value) -> u32 {
    leg["ssrcs"][0].as_u64().expect("an SSRC") as u32
}

/// The recording is what was sent, every sample at the place that its timestamp says and nothing else anywhere, and ends
/// with it, to a slot. With `holes`, what the report lists as lost is left out.
pub fn assert_samples_as_sent(call: &Value, recorded: &Recorded, wire: &BTreeMap<u32, Sent>, holes: bool) {
    assert_recorded_as_sent(Codec::Ulaw, call, recorded, wire, holes);
}

/// The same for any codec.
pub fn assert_recorded_as_sent(
    codec: Codec,
    call: &Value,
    recorded: &Recorded,
    wire: &BTreeMap<u32, Sent>,
    holes: bool,
) {
    let (rate, ticks) = (u64::from(codec.sample_rate().hz()), u64::from(codec.rtp_clock_rate()));
    let samples_in = |span: u32| (u64::from(span) * rate / ticks) as usize;
    let id = &call["call_id"];
    let mut longest = 0;
    for (samples, leg) in recorded.legs.iter().zip(recorded.report["legs"].as_array().expect("legs")) {
        let sent = &wire[&ssrc(leg)];
        let segment = &leg["segments"][0];
        // After a crash the report's first segment may begin later than the first packet on the wire.
        let skipped = (segment["first_rtp_timestamp"].as_u64().expect("a timestamp") as u32)
            .wrapping_sub(sent.first_timestamp);
        let first = segment["first_sample"].as_u64().expect("a sample") as usize - samples_in(skipped);
        let mut expected = vec![0; samples.len()];
        // Where Asterisk is late by more than 640 ticks, its timestamps jump to the wall clock, and back when it has caught up: of
        // two samples for one place the first to come stays.
        for (at, packet) in sent.packets.iter().rev() {
            let at = first + samples_in(*at);
            longest = longest.max(at + packet.len());
            for (to, &sample) in expected.iter_mut().skip(at).zip(packet) {
                *to = sample;
            }
        }
        let lost: Vec<_> =
            leg["gaps"].as_array().expect("gaps").iter().filter(|gap| gap["kind"] == "lost").collect();
        assert!(holes || lost.is_empty(), "{id}: {leg:#}");
        let in_hole = |at: usize| {
            let number = |gap: &Value, key: &str| gap[key].as_u64().expect("a number") as usize;
            lost.iter().any(|g| {
                (number(g, "start_sample")..number(g, "start_sample") + number(g, "samples")).contains(&at)
            })
        };
        let differs = |&at: &usize| expected[at] != samples[at] && !in_hole(at);
        let wrong = (0..samples.len()).filter(differs).count();
        assert_eq!(wrong, 0, "{id}: {wrong} of {} samples are not as sent: {leg:#}", samples.len());
    }
    let length = recorded.legs[0].len();
    assert!(
        length.abs_diff(longest) <= codec.sample_rate().slot_samples(),
        "{id}: {length} samples, the last packet ends at {longest}"
    );
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}
