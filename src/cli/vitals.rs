//! What `/ready` says of the parts that can fail under way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{sleep, timeout};

use crate::calls::catch_up::Backlog;
use crate::calls::services::Services;
use crate::config::Settings;
use crate::recording::{Lag, free_mib};
use crate::telemetry::readiness::{Dependency, Health, ReadinessBoard};

/// The parts are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// A disk that has not told its free space by now does not take recordings either.
const DISK_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a recording's frame: 16 bits a leg.
const FRAME_BYTES: u64 = 4;
/// Beyond the checkpoint, what was written may wait this long for the disk to confirm it.
const SYNC_PATIENCE: Duration = Duration::from_secs(5);

/// Report media, recordings and disk from now on, for as long as the runtime lives.
pub(super) fn watch(services: &Arc<Services>, readiness: &Arc<ReadinessBoard>) {
    tokio::spawn(parts(services.clone(), readiness.clone()));
    tokio::spawn(data_folder(services.clone(), readiness.clone()));
}

async fn parts(services: Arc<Services>, readiness: Arc<ReadinessBoard>) {
    let settings = &services.settings;
    loop {
        readiness.put("media", media(services.plane.is_healthy(), settings));
        readiness.put("recording", recording(services.recorder.lag(), settings));
        readiness.put("transcripts", transcripts(&services.catch_up.backlog()));
        sleep(TICK).await;
    }
}

async fn data_folder(services: Arc<Services>, readiness: Arc<ReadinessBoard>) {
    let (ask, asked) = crossbeam_channel::bounded(1);
    let (answer, mut answers) = unbounded_channel();
    let data = services.settings.node.data.clone();
    // A thread of its own: a question a second would keep alive every thread that the runtime's pool ever had.
    let looks = move || while asked.recv().is_ok() && answer.send(free_mib(&data)).is_ok() {};
    if let Err(error) = std::thread::Builder::new().name("data-folder".into()).spawn(looks) {
        return readiness.put("disk", disk(Err(error), 0, 0));
    }
    while ask.send(()).is_ok() {
        let free = loop {
            match timeout(DISK_PATIENCE, answers.recv()).await {
                Ok(Some(free)) => break free,
                Ok(None) => return,
                Err(_) => {
                    readiness.set("disk", Health::Failed, "the disk of node.data does not answer");
                }
            }
        };
        let rate = u64::from(services.codec.sample_rate().hz());
        let running = services.hub.open_calls().saturating_sub(services.catch_up.backlog().calls);
        let hour = running.max(1) as u64 * rate * FRAME_BYTES * 3_600;
        readiness.put("disk", disk(free, services.settings.recording.min_free_mib, hour >> 20));
        sleep(TICK).await;
    }
}

fn media(healthy: bool, settings: &Settings) -> Dependency {
    match healthy {
        true => Dependency::new(Health::Ok, format!("RTP on {}", settings.rtp.bind)),
        false => Dependency::new(
            Health::Failed,
            "an RTP shard has stopped: its calls hear nothing; the log says why, restart sidetone",
        ),
    }
}

fn recording(lag: Lag, settings: &Settings) -> Dependency {
    // Recordings are read the repair window behind the head; what the ring holds beyond it they may be late.
    let held = Duration::from_secs(settings.rtp.ring_seconds.into());
    let slack = held.saturating_sub(Duration::from_millis(settings.rtp.repair_ms));
    let behind = format!(
        "{:.1} s behind: the disk is too slow, or recording.writers too few",
        lag.write.as_secs_f64()
    );
    let confirmed = Duration::from_millis(settings.recording.checkpoint_ms) + SYNC_PATIENCE;
    if lag.write > slack {
        Dependency::new(Health::Failed, format!("audio is lost, {behind}"))
    } else if lag.is_alarming() {
        Dependency::new(Health::Degraded, behind)
    } else if lag.durable > confirmed {
        let seconds = lag.durable.as_secs_f64();
        let message = format!("a power cut would take the last {seconds:.1} s: the disk is slow to confirm");
        Dependency::new(Health::Degraded, message)
    } else {
        Dependency::new(Health::Ok, "keeping up")
    }
}

/// A backlog is no fault: that is what it is for.
fn transcripts(backlog: &Backlog) -> Dependency {
    let Backlog { calls, seconds, trouble } = backlog;
    let told = match (calls, trouble) {
        (_, Some(trouble)) => {
            Dependency::new(Health::Degraded, format!("a transcript stays pending: {trouble}"))
        }
        (0, None) => Dependency::new(Health::Ok, "none is pending"),
        (calls, None) => {
            Dependency::new(Health::Ok, format!("{calls} pending, {seconds:.0} s of audio to go through"))
        }
    };
    told.with("pending", *calls).with("seconds", seconds.round() as u64)
}

/// `floor_mib` is the least with which recordings begin, `hour_mib` what the running calls write in an hour: 110 MiB a
/// call at 8 kHz.
fn disk(free: io::Result<u64>, floor_mib: u64, hour_mib: u64) -> Dependency {
    let remedy = "free disk space, or move node.data to a larger disk";
    match free {
        Err(error) => Dependency::new(Health::Failed, format!("node.data cannot be looked at: {error}")),
        Ok(free) if free < floor_mib.max(1) => Dependency::new(
            Health::Failed,
            format!(
                "{free} MiB free, recordings need {floor_mib} MiB (recording.min_free_mib): none begins; {remedy}"
            ),
        ),
        Ok(free) if free < floor_mib.saturating_add(hour_mib) => Dependency::new(
            Health::Degraded,
            format!("{free} MiB free, the running calls write {hour_mib} MiB in an hour: {remedy}"),
        ),
        Ok(free) => Dependency::new(Health::Ok, format!("{free} MiB free")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_has_stopped_is_no_media() {
        let settings = Settings::default();
        assert_eq!(media(true, &settings).state, Health::Ok);
        let stopped = media(false, &settings);
        assert!(stopped.state == Health::Failed && stopped.message.contains("restart"), "{stopped:?}");
    }

    #[test]
    fn a_recorder_is_late_before_audio_is_lost() {
        let settings = Settings::default();
        let of = |write_ms, durable_s| {
            let write = Duration::from_millis(write_ms);
            recording(Lag { write, durable: Duration::from_secs(durable_s) }, &settings)
        };
        assert_eq!(of(300, 2).state, Health::Ok);
        assert!(of(300, 7).state == Health::Degraded && of(300, 7).message.contains("7.0 s"));
        assert!(of(3_000, 2).state == Health::Degraded && of(3_000, 2).message.starts_with("3.0 s behind"));
        assert_eq!(of(8_001, 2).state, Health::Failed, "the ring of 10 s less the repair window of 2 s");
    }

    #[test]
    fn transcripts_that_wait_are_told_and_only_one_that_is_stuck_is_a_fault() {
        let of = |calls, trouble: Option<&str>| {
            let backlog = Backlog { calls, seconds: 61.4, trouble: trouble.map(str::to_owned) };
            let told = transcripts(&backlog);
            (told.state, told.message, told.detail["pending"].clone())
        };
        assert_eq!(of(0, None), (Health::Ok, "none is pending".into(), 0.into()));
        assert_eq!(of(2, None), (Health::Ok, "2 pending, 61 s of audio to go through".into(), 2.into()));
        assert!(of(2, Some("disk full")).1.ends_with("disk full") && of(2, Some("x")).0 == Health::Degraded);
    }

    #[test]
    fn a_disk_is_full_where_no_recording_begins_and_short_an_hour_before() {
        let of = |free| disk(Ok(free), 64, 110).state;
        assert_eq!(
            [of(63), of(64), of(173), of(174)],
            [Health::Failed, Health::Degraded, Health::Degraded, Health::Ok]
        );
        assert_eq!(disk(Ok(0), 0, 0).state, Health::Failed, "whatever the settings say");
        assert!(disk(Ok(63), 64, 110).message.starts_with("63 MiB free, recordings need 64 MiB"));
        assert_eq!(disk(Err(io::ErrorKind::NotFound.into()), 64, 110).state, Health::Failed);
    }
}
