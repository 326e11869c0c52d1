//! One number of streams, for a few seconds.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use super::machine;
use crate::clock;
use crate::config::{Cpus, Settings};
use crate::emulator::voice;
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::media::receiver::{LegConfig, LegReceiver};
use crate::media::ring::Ring;
use crate::media::slot::SlotState;
use crate::media::time::SampleRate;
use crate::net::load::{Load, PACKET_TIME};
use crate::net::plane::{LegHandle, PlaneConfig, RtpPlane};
use crate::recording::{Recorder, RecorderConfig, RecordingHandle, RecordingSpec};

const CODEC: Codec = Codec::Ulaw;
/// What is on its way at the end comes within this.
const ARRIVAL: Duration = Duration::from_millis(100);
/// A sender further behind its timetable than this sends bursts that no phone does.
const MAX_BEHIND: Duration = Duration::from_millis(100);
/// Memory that a leg takes at most beside its ring: packets held back, and what the plane keeps.
const LEG_KIB: u64 = 250;
/// Of a recording: its part file and its journal.
const FILES_PER_CALL: u64 = 2;
/// Files that everything else needs.
const OTHER_FILES: u64 = 100;

/// What more streams meet with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Nothing: no more were asked for.
    Asked,
    /// Receiving: packets were lost though they were sent in time.
    Receiver,
    /// The load generator did not keep to its timetable.
    Sender,
    /// Recording: files lack audio that was received.
    Recorder,
    /// Open files (`ulimit -n`).
    Descriptors,
    /// Memory.
    Memory,
}

impl Limit {
    /// For people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Asked => "none met: --max or --streams asks for more",
            Self::Receiver => {
                "receiving: packets were lost though they were sent in time (more rtp.shards, a larger rtp.receive_buffer)"
            }
            Self::Sender => {
                "the load generator, which did not keep to its timetable: the machine may carry more"
            }
            Self::Recorder => {
                "recording: files lack audio that was received (a faster disk, more recording.writers)"
            }
            Self::Descriptors => "open files: raise `ulimit -n`",
            Self::Memory => "memory (a shorter rtp.ring_seconds needs less)",
        }
    }
}

/// What a number of streams did and cost.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Streams.
    pub streams: usize,
    /// Seconds for which they were sent.
    pub seconds: f64,
    /// Packets.
    pub sent: u64,
    /// Of them those that no leg received.
    pub lost: u64,
    /// Of them those that the kernel dropped for want of buffer.
    pub kernel_drops: u64,
    /// By how much the sender was behind its timetable at most.
    pub sender_behind_ms: f64,
    /// Percent of one core for sending.
    pub send_percent: f64,
    /// Percent of one core, a stream, for receiving: the receive threads' own time.
    pub receive_percent_per_stream: f64,
    /// Packets that one core would receive in a second of its time.
    pub packets_per_core_second: f64,
    /// Percent of one core, a stream, for recording.
    pub record_percent_per_stream: f64,
    /// Resident memory by which the process grew, a leg.
    pub kib_per_leg: f64,
    /// Files recorded.
    pub recordings: usize,
    /// Stereo frames that files lack, or have as lost.
    pub frames_lost: u64,
    /// Why this is more than the machine carries.
    pub limit: Option<Limit>,
}

/// What every step needs.
pub struct Bench {
    shards: usize,
    receive_buffer: usize,
    cpus: Cpus,
    ring_slots: usize,
    repair: Duration,
    writers: usize,
    length: Duration,
    folder: Option<PathBuf>,
}

impl Bench {
    pub fn new(
        settings: &Settings,
        shards: usize,
        length: Duration,
        record: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let folder = record.map(|folder| {
            if !folder.is_dir() {
                bail!("--record: {} is no folder: make it first, or name another", folder.display());
            }
            let own = folder.join(format!("sidetone-bench-{}", std::process::id()));
            std::fs::create_dir(&own)
                .with_context(|| format!("--record: cannot write to {}", folder.display()))?;
            Ok(own)
        });
        Ok(Self {
            shards,
            receive_buffer: settings.receive_buffer(),
            cpus: settings.rtp.cpus.parse()?,
            ring_slots: settings.rtp.ring_seconds as usize * 100,
            repair: Duration::from_millis(settings.rtp.repair_ms),
            writers: settings.recording.writers,
            length,
            folder: folder.transpose()?,
        })
    }

    /// KiB of one ring.
    pub fn ring_kib(&self) -> u64 {
        let slots = self.ring_slots.next_power_of_two() as u64;
        let slot = SampleRate::NARROWBAND.slot_samples() as u64;
        slots * slot * size_of::<i16>() as u64 / 1_024
    }

    /// Why so many are not even tried.
    pub fn beyond(&self, streams: usize) -> Option<Limit> {
        let streams = streams as u64;
        if self.folder.is_some() && streams / 2 * FILES_PER_CALL + OTHER_FILES > machine::open_files() {
            return Some(Limit::Descriptors);
        }
        (streams * (self.ring_kib() + LEG_KIB) > machine::available_kib()).then_some(Limit::Memory)
    }

    /// Try `streams`.
    pub async fn run(&mut self, streams: usize) -> anyhow::Result<Step> {
        let memory = machine::resident_kib();
        let load = Load::new().context("no socket to send from")?;
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (shards, receive_buffer, cpus) = (self.shards, self.receive_buffer, self.cpus.clone());
        let plane = RtpPlane::start(PlaneConfig { bind, shards, receive_buffer, cpus })?;
        let recorder = self.recorder()?;
        let mut calls = Calls::default();
        let mut ports = Vec::with_capacity(streams);
        let mut legs = Vec::with_capacity(streams);
        for n in 0..streams {
            let clock = calls.clock_of(n);
            let (leg, ring) = LegReceiver::new(self.leg_config(clock));
            let seat = plane.seat();
            ports.push(SocketAddrV4::new(Ipv4Addr::LOCALHOST, seat.port()));
            let attached = seat.attach(load.source(n), leg.into(), Arc::new(|_| ()));
            legs.push(attached.map_err(|refused| refused.error)?);
            calls.add(ring, n + 1 == streams, |clock, rings, n| {
                self.begin(recorder.as_ref(), clock, rings, n)
            })?;
        }
        let mut payload = Vec::new();
        (0..160).for_each(|spoken| voice::encode(CODEC, 0, spoken, &mut payload));

        let threads = ["load", "rtp-", "rec-"];
        let before = threads.map(machine::time_of_threads);
        let begun = clock::now();
        let running = load.start(ports, payload).context("the load cannot start")?;
        tokio::time::sleep(self.length).await;
        // Before the threads end, and with them what is known of their time.
        let spent = threads.map(machine::time_of_threads);
        let seconds = clock::since(begun).as_secs_f64();
        let grown = machine::resident_kib().saturating_sub(memory);
        let sent =
            tokio::task::spawn_blocking(|| running.stop()).await?.context("the load cannot be sent")?;
        tokio::time::sleep(ARRIVAL).await;
        let received = finish(legs).await;
        let totals = plane.totals();
        let handles = std::mem::take(&mut calls.handles);
        let recordings = handles.len();
        let frames_lost = self.check(handles, sent.rounds).await?;

        let spent: Vec<f64> =
            spent.iter().zip(before).map(|(&after, before)| (after - before).as_secs_f64()).collect();
        let percent = |spent: f64| 100.0 * spent / seconds;
        let packets = streams as u64 * sent.rounds;
        let mut step = Step {
            streams,
            seconds,
            sent: packets,
            lost: packets.saturating_sub(received),
            kernel_drops: totals.kernel_drops,
            sender_behind_ms: sent.behind.as_secs_f64() * 1_000.0,
            send_percent: percent(spent[0]),
            receive_percent_per_stream: percent(spent[1]) / streams as f64,
            packets_per_core_second: received as f64 / spent[1].max(1e-9),
            record_percent_per_stream: percent(spent[2]) / streams as f64,
            kib_per_leg: grown as f64 / streams as f64,
            recordings,
            frames_lost,
            limit: None,
        };
        step.limit = step.limit_met(sent.rounds, self.length);
        Ok(step)
    }

    fn recorder(&self) -> anyhow::Result<Option<Recorder>> {
        let config =
            RecorderConfig { writers: self.writers, repair_window: self.repair, ..RecorderConfig::default() };
        Ok(self.folder.is_some().then(|| Recorder::start(config)).transpose()?)
    }

    fn leg_config(&self, clock: Arc<CallClock>) -> LegConfig {
        let (ring_slots, repair_window) = (self.ring_slots, self.repair);
        LegConfig { ring_slots, repair_window, ..LegConfig::new(CODEC, clock) }
    }

    fn begin(
        &self,
        recorder: Option<&Recorder>,
        clock: Arc<CallClock>,
        legs: [Option<Arc<Ring>>; 2],
        n: usize,
    ) -> anyhow::Result<Option<RecordingHandle>> {
        let (Some(recorder), Some(folder)) = (recorder, &self.folder) else { return Ok(None) };
        let call_id = format!("bench-{n}");
        let path = folder.join(format!("{call_id}.wav"));
        let spec = RecordingSpec { call_id, path, clock, legs, resume: false, on_failure: Arc::new(|_| ()) };
        Ok(Some(recorder.begin(spec)?))
    }

    /// The frames that finished files lack, or have as lost; each file is removed.
    async fn check(&self, handles: Vec<RecordingHandle>, rounds: u64) -> anyhow::Result<u64> {
        let endings: Vec<_> = handles.into_iter().map(|handle| tokio::spawn(handle.finish())).collect();
        let mut lost = 0;
        for ending in endings {
            let finished = ending.await?.context("a recording failed")?;
            let frames = rounds * SampleRate::NARROWBAND.samples_in(PACKET_TIME);
            // A leg that begins a millisecond after the other has silence before it.
            let gaps = finished.gaps.iter().flatten().filter(|gap| gap.kind == SlotState::Lost);
            let gaps: u64 = gaps.map(|gap| gap.samples).sum();
            lost += frames.saturating_sub(finished.frames) + gaps;
            std::fs::remove_file(&finished.path)
                .with_context(|| format!("cannot remove {}", finished.path.display()))?;
        }
        Ok(lost)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(error) = std::fs::remove_dir_all(folder)
        {
            super::output::tell(format_args!("{} is left behind: {error}", folder.display()));
        }
    }
}

impl Step {
    fn limit_met(&self, rounds: u64, length: Duration) -> Option<Limit> {
        let due = length.as_millis() as u64 / PACKET_TIME.as_millis() as u64;
        let too_slow =
            Duration::from_secs_f64(self.sender_behind_ms / 1_000.0) > MAX_BEHIND || rounds + 5 < due;
        if too_slow {
            Some(Limit::Sender)
        } else if self.lost > 0 {
            Some(Limit::Receiver)
        } else if self.frames_lost > 0 {
            Some(Limit::Recorder)
        } else {
            None
        }
    }
}

/// Legs on their way into calls of two.
#[derive(Default)]
struct Calls {
    clock: Option<Arc<CallClock>>,
    rings: Vec<Arc<Ring>>,
    handles: Vec<RecordingHandle>,
    calls: usize,
}

impl Calls {
    fn clock_of(&mut self, n: usize) -> Arc<CallClock> {
        if n.is_multiple_of(2) {
            self.clock = None;
        }
        let new = || Arc::new(CallClock::new(clock::now(), SampleRate::NARROWBAND, 2));
        self.clock.get_or_insert_with(new).clone()
    }

    /// Leg by leg; a call begins with its second one, or with the last of all.
    fn add(
        &mut self,
        ring: Arc<Ring>,
        is_last: bool,
        begin: impl FnOnce(
            Arc<CallClock>,
            [Option<Arc<Ring>>; 2],
            usize,
        ) -> anyhow::Result<Option<RecordingHandle>>,
    ) -> anyhow::Result<()> {
        self.rings.push(ring);
        if self.rings.len() < 2 && !is_last {
            return Ok(());
        }
        let mut rings = std::mem::take(&mut self.rings).into_iter();
        if let Some(clock) = &self.clock {
            self.handles.extend(begin(clock.clone(), [rings.next(), rings.next()], self.calls)?);
        }
        self.calls += 1;
        Ok(())
    }
}

/// End all legs; the packets that they received.
async fn finish(legs: Vec<LegHandle>) -> u64 {
    let end = clock::now();
    let endings: Vec<_> = legs.into_iter().map(|leg| leg.finish(end)).collect();
    let mut received = 0;
    for ending in endings {
        received += ending.await.packets_received;
    }
    received
}
