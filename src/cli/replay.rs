//! `sidetone replay`: a capture through the same media path as live calls, as fast as it goes. Same capture, same bytes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::{SettingsArgs, output};
use crate::config::Settings;
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::media::leg::Leg;
use crate::media::receiver::{LegConfig, LegReceiver};
use crate::media::report::LegStats;
use crate::media::ring::Ring;
use crate::media::time::MediaInstant;
use crate::net::capture::streams::{RtpFlow, StreamFinder};
use crate::net::capture::{Capture, CaptureError, CapturedDatagram};
use crate::recording::report::Report;
use crate::recording::writer::OpenRecording;
use crate::recording::{Finished, RecorderConfig, RecordingSpec};

/// Legs are looked at, and the recording written, this often in the capture's time; a live shard's tick is 5 ms.
const TICK: Duration = Duration::from_millis(10);
/// Beyond the last packet, so that whatever waits for more is settled.
const SETTLE: Duration = Duration::from_secs(1);
const WRITE_BUFFER: usize = 256 << 10;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// pcap or pcapng file.
    capture: PathBuf,
    /// Folder for <name>.wav, <name>.json and, unless --no-transcript, <name>.vtt and <name>.transcript.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write no transcript.
    #[arg(long)]
    no_transcript: bool,
    /// Late packets mend the recording for this long, milliseconds; without it rtp.repair_ms.
    #[arg(long, value_name = "MS")]
    repair_ms: Option<u64>,
}

pub(super) fn run(args: &ReplayArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    crate::telemetry::log::init(&settings.log.level, &settings.log.format)?;
    let name = args.capture.file_stem().and_then(|n| n.to_str()).context("the capture's name is not text")?;
    let flows = find_flows(&args.capture)?;
    let repair = Duration::from_millis(args.repair_ms.unwrap_or(settings.rtp.repair_ms));
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let wav = args.out.join(format!("{name}.wav"));
    if wav.exists() {
        bail!("{} is there already: move it away, or name another folder with --out", wav.display());
    }

    let replay = Replay::new(&settings, flows, repair)?;
    let (finished, stats) = replay.run(&args.capture, name, &wav)?;
    let report = Report::new(name, &settings.calls.tenant, &finished, stats);
    let report_path = Report::path_for(&wav);
    report.write(&report_path).with_context(|| format!("cannot write {}", report_path.display()))?;
    output::line(wav.display())?;
    output::line(report_path.display())?;
    if !args.no_transcript {
        for path in super::transcribe::beside_recording(&settings, &wav, name)? {
            output::line(path.display())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The first two RTP flows, in order of appearance: left and right.
fn find_flows(path: &Path) -> anyhow::Result<Vec<(RtpFlow, Codec)>> {
    let mut finder = StreamFinder::new();
    for_each(path, |datagram| finder.add(datagram), true)?;
    let mut legs = Vec::new();
    for flow in finder.flows() {
        let known = |pt: u8| Codec::from_payload_type(pt).is_some();
        match flow.main_payload_type(known).and_then(Codec::from_payload_type) {
            Some(codec) => legs.push((flow, codec)),
            None => tracing::warn!(src = %flow.src, dst = %flow.dst, types = ?flow.streams[0].payload_types,
                "an RTP stream of no codec that is understood: left out"),
        }
    }
    if legs.len() > 2 {
        tracing::warn!(streams = legs.len(), "more than two RTP streams: the first two are the legs");
        legs.truncate(2);
    }
    let Some((_, first)) = legs.first() else {
        bail!("{}: no RTP stream in it (G.711, slin or slin16)", path.display());
    };
    if let Some((flow, other)) = legs.iter().find(|(_, codec)| codec.sample_rate() != first.sample_rate()) {
        bail!(
            "{}: the legs differ in sample rate ({} and, from {}, {}): replay them one at a time, cut with editcap or tshark",
            path.display(),
            first.name(),
            flow.src,
            other.name()
        );
    }
    Ok(legs)
}

fn for_each(path: &Path, mut each: impl FnMut(&CapturedDatagram), warn: bool) -> anyhow::Result<()> {
    let mut capture = Capture::open(path).map_err(|error| match error {
        CaptureError::Open { .. } => anyhow::Error::new(error),
        other => anyhow::Error::new(other).context(path.display().to_string()),
    })?;
    for datagram in capture.by_ref() {
        match datagram {
            Ok(datagram) => each(&datagram),
            Err(error @ CaptureError::Truncated { packets: 1.., .. }) => {
                if warn {
                    tracing::warn!("{}: {error}", path.display());
                }
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    if capture.counts().packets == 0 {
        bail!("{}: the capture holds no packet: was anything captured?", path.display());
    }
    Ok(())
}

struct Replay {
    legs: Vec<(RtpFlow, LegReceiver)>,
    rings: [Option<Arc<Ring>>; 2],
    clock: Arc<CallClock>,
    config: RecorderConfig,
    now: MediaInstant,
    buffer: Vec<u8>,
}

impl Replay {
    fn new(settings: &Settings, flows: Vec<(RtpFlow, Codec)>, repair: Duration) -> anyhow::Result<Self> {
        let begin = flows.iter().map(|(flow, _)| flow.streams[0].first).min().context("no RTP stream")?;
        let rate = flows[0].1.sample_rate();
        let clock = Arc::new(CallClock::new(begin, rate, flows.len() as u32));
        let mut rings = [None, None];
        let mut legs = Vec::new();
        for ((flow, codec), ring) in flows.into_iter().zip(&mut rings) {
            let mut config = LegConfig::new(codec, clock.clone());
            config.ring_slots = settings.rtp.ring_seconds as usize * 100;
            config.repair_window = repair;
            config.stall_after = Duration::from_millis(settings.rtp.stall_ms);
            let (receiver, shared) = LegReceiver::new(config);
            *ring = Some(shared);
            legs.push((flow, receiver));
        }
        let config = RecorderConfig {
            repair_window: repair,
            checkpoint: Duration::from_millis(settings.recording.checkpoint_ms),
            min_free_mib: settings.recording.min_free_mib,
            ..RecorderConfig::default()
        };
        Ok(Self { legs, rings, clock, config, now: begin, buffer: vec![0; WRITE_BUFFER] })
    }

    fn run(mut self, capture: &Path, name: &str, wav: &Path) -> anyhow::Result<(Finished, [LegStats; 2])> {
        let spec = RecordingSpec {
            call_id: name.to_owned(),
            path: wav.to_owned(),
            clock: self.clock.clone(),
            legs: self.rings.clone(),
            resume: false,
            // Failures come back from `pump`, there is no thread to call this.
            on_failure: Arc::new(|_| {}),
        };
        let mut recording = OpenRecording::begin(&spec, &self.config, self.now)?;
        let mut failed = None;
        for_each(
            capture,
            |datagram| {
                if failed.is_none() {
                    failed = self.take(datagram, &mut recording).err();
                }
            },
            false,
        )?;
        if let Some(error) = failed {
            return Err(error);
        }
        let end = self.now;
        self.advance(end + SETTLE, &mut recording)?;
        // An end before any packet: each leg ends where its packets do.
        let mut legs = std::mem::take(&mut self.legs).into_iter();
        let stats = [legs.next(), legs.next()].map(|leg| match leg {
            Some((_, receiver)) => receiver.finish(MediaInstant::from_nanos(0)),
            None => LegStats::default(),
        });
        recording.finish_at(end);
        while !self.pump(&mut recording)? {}
        let mut finished = recording.seal(None)?;
        // The capture's clock counts from the Unix epoch: the recording began then, not today.
        finished.started_at = wall_clock(self.clock.instant_of(finished.origin));
        Ok((finished, stats))
    }

    fn take(&mut self, datagram: &CapturedDatagram, recording: &mut OpenRecording) -> anyhow::Result<()> {
        self.advance(datagram.at, recording)?;
        let leg = self.legs.iter_mut().find(|(flow, _)| (flow.src, flow.dst) == (datagram.src, datagram.dst));
        if let Some((_, receiver)) = leg {
            receiver.on_packet(datagram.at, &datagram.payload);
        }
        Ok(())
    }

    fn advance(&mut self, to: MediaInstant, recording: &mut OpenRecording) -> anyhow::Result<()> {
        while self.now + TICK <= to {
            self.now = self.now + TICK;
            for (index, (_, receiver)) in self.legs.iter_mut().enumerate() {
                receiver.on_tick(self.now);
                for event in receiver.take_events() {
                    tracing::debug!(leg = Leg::BOTH[index].name(), ?event, "replay");
                }
            }
            self.pump(recording)?;
        }
        Ok(())
    }

    /// True once all is written.
    fn pump(&mut self, recording: &mut OpenRecording) -> anyhow::Result<bool> {
        let turn = recording
            .pump(self.now, &[], &mut self.buffer)
            .map_err(|fault| anyhow::anyhow!("cannot write the recording: {fault:?}"))?;
        Ok(turn.complete)
    }
}

fn wall_clock(at: MediaInstant) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())).unwrap_or_default()
}
