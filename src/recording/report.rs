//! `<call>.json`: what is in a recording, and what is missing from it.
//!
//! ```json
//! {"call_id":"0198…","tenant":"default","started_at":"2026-01-31T12:00:00.25Z","duration_s":61.5,"sample_rate":8000,
//!  "sha256":"9f86…","repaired":false,"paused":[{"start_sample":80000,"samples":16000}],
//!  "legs":[{"name":"caller","codec":"ulaw","ssrcs":[305419896],"packets_expected":3075,"packets_received":3074,
//!    "packets_lost":1,"packets_late":0,"packets_duplicate":0,"packets_repaired":0,"packets_invalid":0,
//!    "packets_lost_in_bursts":0,"loss_bursts":1,"burst_ratio":1.0,
//!    "jitter_ms":0.4,"max_jitter_ms":1.9,"mean_jitter_ms":0.5,"max_delta_ms":40.2,"round_trip_ms":null,
//!    "mos":4.4,"mos_basis":"listening","mos_scale":"narrowband","clock_ppm":-11.0,
//!    "segments":[{"ssrc":305419896,"first_sample":0,"first_rtp_timestamp":160,"first_sequence":1}],"resumed":false,
//!    "gaps":[{"start_sample":12000,"samples":160,"kind":"lost"}]}, …]}
//! ```
//!
//! Samples count from the file's first frame; kinds are those of [`SlotState`](crate::media::slot::SlotState), save
//! `received` and `repaired`, which are no gaps.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::part::part_path;
use super::{Finished, journal};
use crate::files;
use crate::media::leg::Leg;
use crate::media::report::{Gap, LegStats};
use crate::media::slot::{SLOT_MS, SlotState};

/// The integrity report of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The call.
    pub call_id: String,
    /// Whose call it is.
    pub tenant: String,
    /// Wall-clock time of the first frame.
    pub started_at: jiff::Timestamp,
    /// Length in seconds.
    pub duration_s: f64,
    /// Frames a second.
    pub sample_rate: u32,
    /// Of the whole WAV file, lower-case hexadecimal.
    pub sha256: String,
    /// Whether the file was mended after a crash; then the legs' packet counts are unknown, and 0, and their `mos` is null.
    #[serde(default)]
    pub repaired: bool,
    /// Where recording was paused.
    #[serde(default)]
    pub paused: Vec<Span>,
    /// Left, then right.
    pub legs: Vec<LegReport>,
}

/// A stretch of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First sample.
    pub start_sample: u64,
    /// Length in samples.
    pub samples: u64,
}

/// One leg in the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegReport {
    /// `caller` or `callee`.
    pub name: String,
    /// What the media path counted; segments begin at samples of the recording.
    #[serde(flatten)]
    pub stats: LegStats,
    /// What is not received audio, in order.
    pub gaps: Vec<Gap>,
}

impl Report {
    /// The report of `finished`, with what the media path says of each leg (segments in call samples).
    pub fn new(call_id: &str, tenant: &str, finished: &Finished, stats: [LegStats; 2]) -> Self {
        let [left, right] = stats;
        let leg = |leg: Leg, mut stats: LegStats| {
            for segment in &mut stats.segments {
                segment.first_sample -= finished.origin;
            }
            let gaps =
                finished.gaps[leg.index()].iter().filter(|gap| !is_edge(gap, finished)).cloned().collect();
            LegReport { name: leg.name().to_owned(), stats, gaps }
        };
        Self {
            call_id: call_id.to_owned(),
            tenant: tenant.to_owned(),
            started_at: finished.started_at,
            duration_s: finished.frames as f64 / f64::from(finished.sample_rate),
            sample_rate: finished.sample_rate,
            sha256: finished.sha256.clone(),
            repaired: false,
            paused: finished.paused.clone(),
            legs: vec![leg(Leg::Caller, left), leg(Leg::Callee, right)],
        }
    }

    /// Where the report of the recording at `wav` belongs.
    pub fn path_for(wav: &Path) -> PathBuf {
        wav.with_extension("json")
    }

    /// Write to `path`, all or nothing, durably. The journal of the recording beside it (`<call>.wav.part.gaps`) has
    /// served its purpose then and goes.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::replace_durably(path, &text)?;
        journal::remove(&part_path(&path.with_extension("wav")))
    }
}

/// Two legs never begin and end at the very same sample: less than a slot of silence at either end is no gap.
fn is_edge(gap: &Gap, finished: &Finished) -> bool {
    let at_an_end = gap.start_sample == 0 || gap.start_sample + gap.samples == finished.frames;
    let slot = u64::from(finished.sample_rate) * SLOT_MS / 1_000;
    gap.kind == SlotState::Silence && at_an_end && gap.samples < slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::report::Segment;

    #[test]
    fn a_report_is_flat_and_counts_from_the_first_frame() {
        let finished = Finished {
            path: "a.wav".into(),
            frames: 12_000,
            sample_rate: 8_000,
            sha256: "00".into(),
            origin: 640,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            gaps: [
                vec![
                    Gap { start_sample: 0, samples: 2, kind: SlotState::Silence },
                    Gap { start_sample: 5, samples: 80, kind: SlotState::ComfortNoise },
                ],
                vec![],
            ],
            paused: vec![],
        };
        let segment = Segment { ssrc: 7, first_sample: 800, first_rtp_timestamp: 1, first_sequence: 2 };
        let stats = LegStats { codec: "ulaw".into(), segments: vec![segment], ..LegStats::default() };
        let report = Report::new("c", "t", &finished, [stats, LegStats::default()]);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(dir.path().join("a.wav.part.gaps"), "").unwrap();
        report.write(&path).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["duration_s"], 1.5);
        assert_eq!(json["legs"][0]["name"], "caller");
        assert_eq!(json["legs"][0]["codec"], "ulaw");
        assert_eq!(json["legs"][0]["segments"][0]["first_sample"], 160);
        assert_eq!(json["legs"][0]["gaps"][0]["kind"], "comfort_noise");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
