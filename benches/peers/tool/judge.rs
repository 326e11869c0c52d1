//! The judge: of the audio that was delivered, how much is in the recordings, and where.
//!
//! The manifest has one line a call: `{"legs": [{"stream": 0, "path": "0.wav", "channel": 0}, …], "together": true}`.
//! Each leg's packets are measured against the first of them that is there. `together` says that the recorder gives the legs
//! one time: then it is also measured how far apart the legs are that were sent at once. A path that ends in `.pcap` holds
//! packets and no audio: only what is missing from it is counted.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::json;
use sidetone::media::codec::g711::ULAW;
use sidetone::net::capture::Capture;
use sidetone::recording::wav::WavReader;

use crate::Run;
use crate::content::{PACKETS_A_SECOND, SAMPLES, samples};
use crate::line::Fate;
use crate::place::{Found, find};

const RATE_HZ: u32 = 8_000;
const SAMPLES_A_MS: f64 = RATE_HZ as f64 / 1e3;
const RTP_HEADER: usize = 12;

#[derive(Debug, Deserialize)]
struct Call {
    legs: Vec<Leg>,
    together: bool,
}

#[derive(Debug, Deserialize)]
struct Leg {
    stream: usize,
    path: PathBuf,
    #[serde(default)]
    channel: usize,
}

#[derive(Debug, Default)]
struct Verdict {
    legs: u64,
    unreadable: u64,
    delivered: u64,
    lost: u64,
    /// How many packets are how many samples from where they belong.
    errors: BTreeMap<u64, u64>,
    /// Calls by how many samples their legs are apart.
    apart: BTreeMap<u64, u64>,
}

pub fn run(manifest: &Path, run: &Run, verbose: bool) -> anyhow::Result<()> {
    let calls =
        BufReader::new(File::open(manifest).with_context(|| format!("cannot read {}", manifest.display()))?);
    let mut verdict = Verdict::default();
    for (number, line) in calls.lines().enumerate() {
        let call: Call = serde_json::from_str(&line?).with_context(|| format!("manifest line {number}"))?;
        judge(&call, run, verbose, &mut verdict);
    }
    let errors = &verdict.errors;
    let ms = |samples: u64| samples as f64 / SAMPLES_A_MS;
    println!(
        "{}",
        json!({
            "legs": verdict.legs,
            "unreadable": verdict.unreadable,
            "delivered_samples": verdict.delivered,
            "lost_samples": verdict.lost,
            "lost_ms_a_minute": 60e3 * verdict.lost as f64 / verdict.delivered.max(1) as f64,
            "error_ms_max": errors.keys().next_back().map(|&most| ms(most)),
            "error_ms_median": quantile(errors, 0.5).map(ms),
            "error_ms_p99": quantile(errors, 0.99).map(ms),
            "apart_ms_median": quantile(&verdict.apart, 0.5).map(ms),
            "apart_ms_max": verdict.apart.keys().next_back().map(|&most| ms(most)),
        })
    );
    Ok(())
}

fn quantile(errors: &BTreeMap<u64, u64>, share: f64) -> Option<u64> {
    let total: u64 = errors.values().sum();
    let mut below = 0;
    errors.iter().find_map(|(&error, &count)| {
        below += count;
        (below as f64 >= share * total as f64).then_some(error)
    })
}

fn judge(call: &Call, run: &Run, verbose: bool, verdict: &mut Verdict) {
    let mut begins = Vec::new();
    let mut recordings = Recordings::default();
    for leg in &call.legs {
        let delivered: Vec<u32> = (0..run.seconds * PACKETS_A_SECOND)
            .filter(|&packet| {
                matches!(run.line.fate(leg.stream, packet, run.seconds), Fate::Delivered { .. })
            })
            .collect();
        verdict.legs += 1;
        verdict.delivered += (delivered.len() * SAMPLES) as u64;
        let found = match leg.find(&delivered, &mut recordings) {
            Ok(found) => found,
            Err(error) => {
                eprintln!("stream {}, {}: {error:#}", leg.stream, leg.path.display());
                verdict.unreadable += 1;
                verdict.lost += (delivered.len() * SAMPLES) as u64;
                continue;
            }
        };
        let there: usize = found.iter().flatten().map(|found| found.samples).sum();
        let lost = (delivered.len() * SAMPLES - there) as u64;
        verdict.lost += lost;
        if verbose && lost > 0 {
            let missing = found.iter().zip(&delivered).filter(|(found, _)| found.is_none());
            let first: Vec<_> = missing.map(|(_, packet)| packet).take(8).collect();
            eprintln!("stream {}: {lost} samples lost, packets missing from {first:?}", leg.stream);
        }
        if leg.is_capture() {
            continue;
        }
        let Some(begin) = found.iter().flatten().map(|found| found.offset).next() else { continue };
        begins.push(begin);
        for found in found.iter().flatten() {
            *verdict.errors.entry((found.offset - begin).unsigned_abs()).or_default() += 1;
        }
    }
    if let [left, right] = begins[..]
        && call.together
    {
        *verdict.apart.entry((left - right).unsigned_abs()).or_default() += 1;
    }
}

/// The recording read last: a stereo file is asked for once a leg.
#[derive(Default)]
struct Recordings {
    path: PathBuf,
    channels: Vec<Vec<i16>>,
}

impl Recordings {
    fn channels(&mut self, path: &Path) -> anyhow::Result<&[Vec<i16>]> {
        if self.path != path {
            let mut wav = WavReader::open(path)?;
            let format = wav.format();
            anyhow::ensure!(format.rate_hz == RATE_HZ, "{} Hz, expected {RATE_HZ}", format.rate_hz);
            let (frames, count) = (wav.read_all()?, usize::from(format.channels));
            self.channels =
                (0..count).map(|n| frames.iter().skip(n).step_by(count).copied().collect()).collect();
            path.clone_into(&mut self.path);
        }
        Ok(&self.channels)
    }
}

impl Leg {
    fn is_capture(&self) -> bool {
        self.path.extension().is_some_and(|kind| kind == "pcap")
    }

    fn find(&self, delivered: &[u32], recordings: &mut Recordings) -> anyhow::Result<Vec<Option<Found>>> {
        if self.is_capture() {
            return self.find_captured(delivered);
        }
        let channels = recordings.channels(&self.path)?;
        let recorded = channels
            .get(self.channel)
            .with_context(|| format!("{} channels, no number {}", channels.len(), self.channel))?;
        Ok(find(recorded, self.stream, delivered))
    }

    fn find_captured(&self, delivered: &[u32]) -> anyhow::Result<Vec<Option<Found>>> {
        let index: HashMap<_, _> = delivered
            .iter()
            .enumerate()
            .map(|(index, &packet)| (samples(self.stream, packet), index))
            .collect();
        let mut found = vec![None; delivered.len()];
        for datagram in Capture::open(&self.path)? {
            let Some(payload) = datagram?.payload.get(RTP_HEADER..).map(<[u8]>::to_vec) else { continue };
            let Ok(codes) = <[u8; SAMPLES]>::try_from(payload) else { continue };
            if let Some(&index) = index.get(&codes.map(|code| ULAW[usize::from(code)])) {
                found[index] = Some(Found { offset: 0, samples: SAMPLES });
            }
        }
        Ok(found)
    }
}
