//! Sidetone without an Asterisk: its receive shards and its recorder, on stereo calls that the sender feeds.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use sidetone::clock;
use sidetone::config::Settings;
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::time::SampleRate;
use sidetone::net::load::source;
use sidetone::net::plane::{LegHandle, PlaneConfig, RtpPlane};
use sidetone::recording::{Recorder, RecorderConfig, RecordingHandle, RecordingSpec};

use crate::spent;

const RING_SLOTS: usize = 1_000;
const FRAME_BYTES: u64 = 4;
const LOOK: Duration = Duration::from_millis(50);

pub struct Options {
    pub calls: usize,
    pub out: PathBuf,
    pub shards: usize,
    pub writers: usize,
    pub port: u16,
}

struct Call {
    legs: [LegHandle; 2],
    recording: RecordingHandle,
}

/// How far the recorder was behind at worst, milliseconds.
#[derive(Default)]
struct Worst {
    write: AtomicU64,
    durable: AtomicU64,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let bind = "127.0.0.1:0".parse()?;
    // As the server has them for so many calls.
    let mut settings = Settings::default();
    (settings.calls.max, settings.rtp.shards) = (options.calls, options.shards);
    let receive_buffer = settings.receive_buffer();
    let plane = RtpPlane::start(PlaneConfig { receive_buffer, ..PlaneConfig::new(bind, options.shards) })?;
    let config = RecorderConfig { writers: options.writers, ..RecorderConfig::default() };
    let recorder = Arc::new(Recorder::start(config)?);
    let (before, disk_before) = (spent::resident(), spent::written());
    let (mut calls, mut targets, mut manifest) = (Vec::new(), String::new(), String::new());
    for number in 0..options.calls {
        let path = options.out.join(format!("{number}.wav"));
        let (call, ports) = begin(&plane, &recorder, number, &path, options.port)?;
        let legs: Vec<_> = (0..2)
            .map(|leg| {
                let (stream, port) = (2 * number + leg, ports[leg]);
                let _ = writeln!(targets, "127.0.0.1:{port}");
                json!({ "stream": stream, "path": path, "channel": leg })
            })
            .collect();
        let _ = writeln!(manifest, "{}", json!({ "legs": legs, "together": true }));
        calls.push(call);
    }
    std::fs::write(options.out.join("targets"), targets).context("cannot write the targets")?;
    let granted: Vec<usize> = plane.sockets().map(|(_, granted)| granted).collect();
    println!("{}", json!({ "idle_bytes": before, "receive_buffers": granted }));

    let worst = Arc::new(Worst::default());
    let watch = tokio::spawn(watch(recorder.clone(), worst.clone()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    let (threads, resident, totals) = (spent::by_thread(), spent::resident(), plane.totals());
    let disk = spent::written();
    watch.abort();

    let sealing = clock::now();
    let (mut lost, mut late, mut frames, mut failed) = (0, 0, 0, Vec::new());
    let endings: Vec<_> = calls
        .into_iter()
        .map(|Call { legs, recording }| async {
            let [left, right] = legs.map(|leg| leg.finish(sealing));
            let (left, right) = tokio::join!(left, right);
            ([left, right], recording.finish().await)
        })
        .collect();
    for (stats, finished) in futures_util::future::join_all(endings).await {
        lost += stats.iter().map(|leg| leg.packets_lost).sum::<u64>();
        late += stats.iter().map(|leg| leg.packets_late - leg.packets_repaired).sum::<u64>();
        match finished {
            Ok(finished) => frames += finished.frames,
            Err(error) => failed.push(error.to_string()),
        }
    }
    std::fs::write(options.out.join("manifest"), manifest).context("cannot write the manifest")?;
    println!(
        "{}",
        json!({
            "packets": totals.received,
            "kernel_drops": totals.kernel_drops,
            "unroutable": totals.unroutable,
            "packets_lost": lost,
            "packets_too_late": late,
            "recordings_failed": failed,
            "audio_mib": (frames * FRAME_BYTES) >> 20,
            "disk_write_mib": disk.saturating_sub(disk_before) >> 20,
            "resident_a_call": resident.saturating_sub(before) / options.calls.max(1) as u64,
            "write_lag_ms": worst.write.load(Ordering::Relaxed),
            "durable_lag_ms": worst.durable.load(Ordering::Relaxed),
            "sealing_s": clock::since(sealing).as_secs_f64(),
            "cpu_s": threads.into_iter().map(|(name, time)| (name, time.as_secs_f64())).collect::<Vec<_>>(),
        })
    );
    Ok(())
}

fn begin(
    plane: &RtpPlane,
    recorder: &Recorder,
    number: usize,
    path: &Path,
    port: u16,
) -> anyhow::Result<(Call, [u16; 2])> {
    let clock = Arc::new(CallClock::new(clock::now(), SampleRate::NARROWBAND, 2));
    let seats = [plane.seat(), plane.seat()];
    let ports = seats.each_ref().map(|seat| seat.port());
    let receivers = [(); 2].map(|()| {
        let mut config = LegConfig::new(Codec::Ulaw, clock.clone());
        config.ring_slots = RING_SLOTS;
        LegReceiver::new(config)
    });
    let spec = RecordingSpec {
        call_id: number.to_string(),
        path: path.to_owned(),
        clock: clock.clone(),
        legs: receivers.each_ref().map(|(_, ring)| Some(ring.clone())),
        resume: false,
        // `finish` tells.
        on_failure: Arc::new(|_| ()),
    };
    let recording = recorder.begin(spec)?;
    let mut legs = Vec::new();
    for (leg, (seat, (receiver, _))) in seats.into_iter().zip(receivers).enumerate() {
        let from = source(2 * number + leg, port);
        legs.push(seat.attach(from, receiver.into(), Arc::new(|_| ())).map_err(|refused| refused.error)?);
    }
    let legs = legs.try_into().unwrap_or_else(|_| unreachable!("two seats"));
    Ok((Call { legs, recording }, ports))
}

async fn watch(recorder: Arc<Recorder>, worst: Arc<Worst>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let lag = recorder.lag();
        worst.write.fetch_max(lag.write.as_millis() as u64, Ordering::Relaxed);
        worst.durable.fetch_max(lag.durable.as_millis() as u64, Ordering::Relaxed);
    }
}
