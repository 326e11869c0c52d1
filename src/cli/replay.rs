//! `sidetone replay`: a capture through the same media path as live calls, as fast as it goes. Same capture, same bytes.

mod streams;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, value_parser};

use streams::Chosen;

use super::{SettingsArgs, output};
use crate::config::{MIN_REPAIR_MS, Settings};
use crate::media::clock::CallClock;
use crate::media::leg::Leg;
use crate::media::receiver::{LegConfig, LegReceiver};
use crate::media::report::LegStats;
use crate::media::ring::Ring;
use crate::media::slot::SLOT_MS;
use crate::media::time::MediaInstant;
use crate::net::capture::{Capture, CaptureError, CapturedDatagram};
use crate::recording::report::Report;
use crate::recording::writer::OpenRecording;
use crate::recording::{Finished, RecorderConfig, RecordingSpec};
use crate::speech::ModelChoice;

/// Legs are looked at, and the recording written, this often in the capture's time; a live shard's tick is 5 ms.
const TICK: Duration = Duration::from_millis(10);
/// Beyond the last packet, so that whatever waits for more is settled.
const SETTLE: Duration = Duration::from_secs(1);
const WRITE_BUFFER: usize = 256 << 10;
/// The ring holds this much more than the repair window, as rtp.ring_seconds has to.
const RING_MARGIN: Duration = Duration::from_secs(2);
/// What the longest ring that rtp.ring_seconds may ask for, 120 s, leaves for repair.
const MAX_REPAIR_MS: u64 = 118_000;
/// Between two packets of the legs nothing takes longer: no call rests for a day, and what lies between two is written as
/// silence, 115 MB an hour for two legs at 8 kHz.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// pcap or pcapng file.
    capture: PathBuf,
    /// Folder for <name>.wav, <name>.json and, unless --no-transcript or speech.model is off, <name>.vtt and
    /// <name>.transcript.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write no transcript.
    #[arg(long)]
    no_transcript: bool,
    /// Late packets mend the recording for this long, milliseconds; without it rtp.repair_ms.
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(MIN_REPAIR_MS..=MAX_REPAIR_MS))]
    repair_ms: Option<u64>,
    /// Stream of the left leg and, given twice, of the right one; without it the first two streams of the capture.
    #[arg(long, value_name = "HEX", value_parser = streams::ssrc)]
    ssrc: Vec<u32>,
}

pub(super) fn run(args: &ReplayArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    super::init_quiet_log(&settings)?;
    if args.ssrc.len() > 2 || matches!(args.ssrc[..], [left, right] if left == right) {
        output::tell("--ssrc: a recording has two legs, name two streams at most, each once");
        return Ok(ExitCode::from(2));
    }
    let name = args.capture.file_stem().and_then(|n| n.to_str()).context("the capture's name is not text")?;
    let chosen = streams::choose(&args.capture, &args.ssrc)?;
    check_times(&args.capture, &chosen)?;
    let repair = Duration::from_millis(args.repair_ms.unwrap_or(settings.rtp.repair_ms));
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let wav = args.out.join(format!("{name}.wav"));
    if wav.exists() {
        bail!("{} is there already: move it away, or name another folder with --out", wav.display());
    }

    let replay = Replay::new(&settings, chosen, repair)?;
    let (finished, stats) = replay.run(&args.capture, name, &wav)?;
    for (leg, stats) in Leg::BOTH.into_iter().zip(&stats).filter(|(_, stats)| stats.packets_expected > 0) {
        output::tell(format_args!("{}: {}", leg.name(), summary(stats)));
    }
    let report = Report::new(name, &settings.calls.tenant, &finished, stats);
    let report_path = Report::path_for(&wav);
    report.write(&report_path).with_context(|| format!("cannot write {}", report_path.display()))?;
    output::line(wav.display())?;
    output::line(report_path.display())?;
    if !args.no_transcript && ModelChoice::parse(&settings.speech.model) != ModelChoice::Off {
        for path in super::transcribe::beside_recording(&settings, &wav, name)? {
            output::line(path.display())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuse a capture in which two packets of the legs are further apart than [`MAX_PAUSE`], before anything is written.
fn check_times(capture: &Path, legs: &[Chosen]) -> anyhow::Result<()> {
    let (mut last, mut pause) = (None, None);
    for_each(
        capture,
        |datagram| {
            if legs.iter().any(|leg| leg.has(datagram)) {
                let before = last.replace(datagram.at).unwrap_or(datagram.at);
                let (early, late) = (before.min(datagram.at), before.max(datagram.at));
                if late.saturating_since(early) > MAX_PAUSE {
                    pause.get_or_insert((before, datagram.at));
                }
            }
        },
        false,
    )?;
    let Some((before, after)) = pause else { return Ok(()) };
    let [from, to] = [before, after].map(|at| format!("{:.0}", wall_clock(at)));
    bail!(
        "{}: the legs' packets are of {from} and then of {to}: what lies between, more than a day, would be written as silence. \
         Keep one of the two with `editcap -A START -B STOP IN OUT`",
        capture.display()
    )
}

/// What came of a leg, and what did not.
fn summary(stats: &LegStats) -> String {
    let &LegStats { packets_expected: expected, packets_received: received, packets_lost: lost, .. } = stats;
    let percent = 100.0 * lost as f64 / expected.max(1) as f64;
    let and = |count: u64, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    format!(
        "{} {received} of {expected} packets, {lost} lost ({percent:.2} %){}{}{}",
        stats.codec,
        and(stats.packets_late, "late"),
        and(stats.packets_duplicate, "duplicate"),
        and(stats.packets_invalid, "invalid")
    )
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
                    output::tell(format_args!("{}: {error}", path.display()));
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
    legs: Vec<(Chosen, LegReceiver)>,
    rings: [Option<Arc<Ring>>; 2],
    clock: Arc<CallClock>,
    config: RecorderConfig,
    now: MediaInstant,
    buffer: Vec<u8>,
}

impl Replay {
    fn new(settings: &Settings, chosen: Vec<Chosen>, repair: Duration) -> anyhow::Result<Self> {
        let begin = chosen.iter().map(|leg| leg.flow.streams[0].first).min().context("no RTP stream")?;
        let rate = chosen[0].codec.sample_rate();
        let clock = Arc::new(CallClock::new(begin, rate, chosen.len() as u32));
        let mut rings = [None, None];
        let mut legs = Vec::new();
        for (leg, ring) in chosen.into_iter().zip(&mut rings) {
            let mut config = LegConfig::new(leg.codec, clock.clone());
            let held = Duration::from_secs(settings.rtp.ring_seconds.into()).max(repair + RING_MARGIN);
            config.ring_slots = held.as_millis() as usize / SLOT_MS as usize;
            config.repair_window = repair;
            config.live_lag = Duration::from_millis(settings.rtp.live_lag_ms);
            config.conceal = settings.rtp.conceal;
            config.stall_after = Duration::from_millis(settings.rtp.stall_ms);
            let (receiver, shared) = LegReceiver::new(config);
            *ring = Some(shared);
            legs.push((leg, receiver));
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
        let Some(leg) = self.legs.iter().position(|(chosen, _)| chosen.has(datagram)) else { return Ok(()) };
        self.advance(datagram.at, recording)?;
        self.legs[leg].1.on_packet(datagram.at, &datagram.payload);
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
