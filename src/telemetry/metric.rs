//! Every metric, once: its name, type and help. Prefix `sidetone_`, base units, never a call id in a label.
//!
//! Nothing else names a metric: a new one is a line here. Nothing here is called once a packet: the shards add up and
//! report every tick.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// A value that only grows.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    help: &'static str,
    /// Name and known values of the label by which it is split; they show as 0 from the start.
    split: Option<(&'static str, &'static [&'static str])>,
}

/// A value that goes up and down.
#[derive(Debug)]
pub struct Gauge {
    name: &'static str,
    help: &'static str,
}

/// A distribution.
#[derive(Debug)]
pub struct Histogram {
    name: &'static str,
    help: &'static str,
    buckets: &'static [f64],
}

impl Counter {
    /// Add `n`.
    pub fn add(&self, n: u64) {
        metrics::counter!(self.name).increment(n);
    }

    /// Add `n` to the series with this label.
    pub fn add_labelled(&self, label: &'static str, value: &str, n: u64) {
        metrics::counter!(self.name, label => value.to_owned()).increment(n);
    }

    /// Add `n` to the series with these two labels.
    pub fn add_labelled_twice(&self, first: (&'static str, &str), second: (&'static str, &str), n: u64) {
        metrics::counter!(self.name, first.0 => first.1.to_owned(), second.0 => second.1.to_owned())
            .increment(n);
    }

    fn create(&self) {
        metrics::describe_counter!(self.name, self.help);
        match self.split {
            None => self.add(0),
            Some((label, values)) => values.iter().for_each(|value| self.add_labelled(label, value, 0)),
        }
    }
}

impl Gauge {
    /// Set to `value`.
    pub fn set(&self, value: f64) {
        metrics::gauge!(self.name).set(value);
    }

    /// Set the series with these two labels to `value`.
    pub fn set_labelled_twice(&self, first: (&'static str, &str), second: (&'static str, &str), value: f64) {
        metrics::gauge!(self.name, first.0 => first.1.to_owned(), second.0 => second.1.to_owned()).set(value);
    }

    /// Add `delta`, which may be negative.
    pub fn add(&self, delta: f64) {
        metrics::gauge!(self.name).increment(delta);
    }

    fn create(&self) {
        metrics::describe_gauge!(self.name, self.help);
        self.add(0.0);
    }
}

impl Histogram {
    /// Record one value.
    pub fn record(&self, value: f64) {
        metrics::histogram!(self.name).record(value);
    }

    /// Record one value in the series with this label.
    pub fn record_labelled(&self, label: &'static str, label_value: &str, value: f64) {
        metrics::histogram!(self.name, label => label_value.to_owned()).record(value);
    }

    fn create(&self) {
        metrics::describe_histogram!(self.name, self.help);
        // Asking for the handle creates the series, empty.
        let _ = metrics::histogram!(self.name);
    }
}

/// Install the recorder for the process, with every metric described and, but for those whose labels cannot be known
/// beforehand, present. The handle renders them; its `run_upkeep` must run every few seconds. Once installed, further
/// calls give the same handle.
///
/// # Errors
/// [`InstallError`] if another recorder is installed already.
pub fn install() -> Result<PrometheusHandle, InstallError> {
    static INSTALLED: OnceLock<Result<PrometheusHandle, InstallError>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let handle = builder().and_then(PrometheusBuilder::install_recorder);
        let handle = handle.map_err(|error| InstallError(error.to_string()))?;
        describe();
        Ok(handle)
    });
    installed.clone()
}

/// All metrics as Prometheus' text, in the same order every time: by name, then by label.
pub fn render(handle: &PrometheusHandle) -> String {
    sorted(&handle.render())
}

/// The exporter walks hash maps, so its order means nothing; within a histogram it does.
fn sorted(text: &str) -> String {
    let mut metrics: Vec<Vec<&str>> =
        text.split_terminator("\n\n").map(|one| one.lines().collect()).collect();
    for lines in &mut metrics {
        if !lines.iter().any(|line| line.starts_with("# TYPE ") && line.ends_with(" histogram")) {
            lines.sort_unstable();
        }
    }
    metrics.sort_unstable();
    metrics.iter().map(|lines| lines.join("\n") + "\n\n").collect()
}

/// Metrics cannot be recorded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot install the metrics recorder: {0}")]
pub struct InstallError(String);

/// Setup of a call, seconds.
const SETUP: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Interarrival jitter, seconds: a packet is 0.02.
const JITTER: &[f64] = &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16];
/// Listening quality: G.711 that loses nothing has 4.41.
const MOS: &[f64] = &[1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.3, 4.4, 4.5];
/// End of speech to its text, seconds.
const RECOGNITION: &[f64] = &[0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// A job, seconds.
const JOB: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0];

macro_rules! table {
    ($($kind:ident $ident:ident = $name:literal, $help:literal $(, $extra:expr)?;)*) => {
        $(#[doc = $help] pub static $ident: $kind = table!(@make $kind $name, $help $(, $extra)?);)*

        /// The name of every metric.
        pub const NAMES: &[&str] = &[$(concat!("sidetone_", $name)),*];

        /// Tell the recorder the help text of every metric, and create those that can be, so that they show as 0.
        pub fn describe() {
            $($ident.create();)*
        }

        fn builder() -> Result<PrometheusBuilder, BuildError> {
            let builder = PrometheusBuilder::new();
            $(let builder = table!(@buckets $kind $ident builder);)*
            Ok(builder)
        }
    };
    (@make Counter $name:literal, $help:literal) => {
        Counter { name: concat!("sidetone_", $name), help: $help, split: None }
    };
    (@make Counter $name:literal, $help:literal, $split:expr) => {
        Counter { name: concat!("sidetone_", $name), help: $help, split: Some($split) }
    };
    (@make Gauge $name:literal, $help:literal) => {
        Gauge { name: concat!("sidetone_", $name), help: $help }
    };
    (@make Histogram $name:literal, $help:literal, $buckets:expr) => {
        Histogram { name: concat!("sidetone_", $name), help: $help, buckets: $buckets }
    };
    (@buckets Histogram $ident:ident $builder:ident) => {
        $builder.set_buckets_for_metric(Matcher::Full($ident.name.to_owned()), $ident.buckets)?
    };
    (@buckets $kind:ident $ident:ident $builder:ident) => {
        $builder
    };
}

table! {
    Gauge CALLS_ACTIVE = "calls_active", "Calls being heard now.";
    Counter CALLS = "calls_total", "Calls that ended, by outcome.",
        ("outcome", &["completed", "partial", "failed", "rejected", "released"]);
    Counter CALLS_DETECTED = "calls_detected_total", "Calls that the Manager told of, by whether they came to Sidetone (taken) or ended without (passed).", ("outcome", &["taken", "passed"]);
    Histogram CALL_DETECTION_LEAD = "call_detection_lead_seconds", "A channel's first moment in Asterisk until its StasisStart, where the Manager told of it.", SETUP;
    Histogram CALL_SETUP = "call_setup_seconds", "StasisStart until both directions are wired.", SETUP;
    Counter RTP_RECEIVED = "rtp_packets_received_total", "RTP packets accepted.";
    Counter RTP_LOST = "rtp_packets_lost_total", "RTP packets that had not come by the end of the repair window.";
    Counter RTP_LATE = "rtp_packets_late_total", "RTP packets that came after live readers had passed their place.";
    Counter RTP_DUPLICATE = "rtp_packets_duplicate_total", "RTP packets that came once more.";
    Counter RTP_REPAIRED = "rtp_packets_repaired_total", "Late RTP packets that still mended the recording.";
    Counter RTP_UNROUTABLE = "rtp_packets_unroutable_total", "Datagrams from unknown senders.";
    Counter RTP_INVALID = "rtp_packets_invalid_total", "Datagrams from known senders that were not usable RTP.";
    Counter RTCP_RECEIVED = "rtcp_packets_received_total", "RTCP datagrams read.";
    Counter RTCP_SENT = "rtcp_packets_sent_total", "RTCP reports sent to peers that report to us.";
    Counter RTCP_DROPPED = "rtcp_packets_dropped_total", "RTCP datagrams from unknown senders, and such as were not valid.",
        ("reason", &["invalid", "unroutable"]);
    Counter RTP_KERNEL_DROPS = "rtp_kernel_drops_total", "Datagrams that the kernel dropped for want of buffer.";
    Counter RTP_SENT = "rtp_packets_sent_total", "RTP packets of audio, or silence, sent to callers.";
    Counter RTP_SKIPPED = "rtp_packets_skipped_total", "RTP packets not sent to callers: woken too late, or the system took none.";
    Counter RTP_RING_OVERRUNS = "rtp_ring_overruns_total", "Slots that a reader missed because the writer lapped it.";
    Counter STREAM_RECEIVED = "stream_frames_received_total", "Frames of audio received over AudioSocket and WebSocket.";
    Counter STREAM_SENT = "stream_frames_sent_total", "Frames of audio, or silence, sent over AudioSocket and WebSocket.";
    Counter STREAM_SKIPPED = "stream_frames_skipped_total", "Frames not sent: woken too late, or the other side took none.";
    Counter STREAMS_REFUSED = "stream_connections_refused_total", "Media connections that were not let in, by reason.",
        ("reason", &["crowded", "late", "protocol", "unknown"]);
    Histogram LEG_JITTER = "leg_jitter_seconds", "Interarrival jitter of a leg, at its end.", JITTER;
    Histogram LEG_MOS = "leg_mos", "Listening quality estimate of a leg, at its end.", MOS;
    Counter LEG_STALLS = "leg_stalls_total", "Times a leg went without packets for the stall time.";
    Counter RECORDING_BYTES = "recording_bytes_total", "Bytes of audio written.";
    Counter RECORDINGS = "recordings_total", "Recordings, by outcome.", ("outcome", &["saved", "failed", "repaired", "broken"]);
    Gauge RECORDING_LAG = "recording_lag_seconds", "How far the slowest writer is behind what it could write.";
    Gauge ASR_LAG = "asr_lag_seconds", "Age of the oldest speech that waits to be recognised.";
    Histogram ASR_FINAL_LATENCY = "asr_final_latency_seconds", "End of an utterance until its final.", RECOGNITION;
    Counter ASR_PARTIALS_SHED = "asr_partials_shed_total", "Partials skipped for want of time.";
    Counter ASR_SUPPRESSED = "asr_suppressed_total", "Sounds that were no speech, and words that were not believed, by reason.",
        ("reason", &["tone", "keys", "echo", "unlikely", "no_speech", "repetition", "flood", "phrase"]);
    Counter ASR_SECONDS = "asr_seconds_processed_total", "Seconds of audio recognised.";
    Counter ASR_COMPUTE_SECONDS = "asr_compute_seconds_total", "Seconds of processor time spent recognising.";
    Gauge ASR_RUNG = "asr_ladder_rung", "How far overload has gone: 0 calm, 1 longer step, 2 partials off, 3 finals late, 4 live off, 5 calls refused.";
    Counter ASR_RUNG_CHANGES = "asr_ladder_changes_total", "Rungs of the overload ladder climbed or descended.", ("direction", &["up", "down"]);
    Gauge ASR_LEGS = "asr_legs_live", "Legs that are transcribed while they last.";
    Counter ASR_LEGS_LEFT = "asr_legs_left_total", "Legs left to their recordings, by reason.", ("reason", &["not_admitted", "late"]);
    Counter ASR_OWED = "asr_owed_seconds_total", "Seconds of legs that ended without live words, to be transcribed from the recording.";
    Counter ASR_REMOTE = "asr_remote_total", "Utterances and streams of a speech service elsewhere (Riva), by what became of them.",
        ("outcome", &["completed", "failed", "taken_over", "owed"]);
    Gauge ASR_REMOTE_UP = "asr_remote_up", "1 while the speech service elsewhere can be reached, 0 while not.";
    Gauge ASR_QUEUE = "asr_queue_depth", "Recognition tasks waiting.";
    Gauge ASR_CATCH_UP_BACKLOG = "asr_catch_up_backlog_seconds", "Seconds of recorded speech, or silence, of calls that are over that wait to be transcribed.";
    Gauge ASR_OWING_CALLS = "asr_owing_calls", "Calls that are over and whose transcripts are pending.";
    Counter ASR_CAUGHT_UP = "asr_caught_up_seconds_total", "Seconds of recordings gone through for what live transcription left out.";
    Gauge LISTEN_CHANNELS = "listen_channels", "Channels of live audio that clients push, being transcribed now.";
    Counter LISTEN_REFUSED = "listen_refused_total", "Clients with live audio that were told to come again.";
    Gauge WS_SUBSCRIBERS = "ws_subscribers", "Open WebSocket subscriptions.";
    Counter WS_DROPPED = "ws_messages_dropped_total", "Messages that a slow subscriber did not get.";
    Counter CALL_FILE_ERRORS = "call_file_errors_total", "Attempts to write a call's record or event journal that failed.";
    Counter CALLS_FILED = "calls_filed_total", "Calls that are over put into the database, each time that something of them was new.";
    Gauge CALLS_TO_FILE = "calls_to_file", "Calls that are over and wait on disk for the database.";
    Counter CALL_FILING_ERRORS = "call_filing_errors_total", "Attempts to put calls into the database that failed.";
    Counter ARI_RECONNECTS = "ari_reconnects_total", "Times the ARI event socket was opened again.";
    Counter AMI_RECONNECTS = "ami_reconnects_total", "Times the connection to the Asterisk Manager Interface was made again.";
    Counter ORPHANS_REMOVED = "orphans_removed_total", "Channels and bridges of ours that no call owned any more.";
    Gauge JOBS = "jobs", "Jobs, by kind and state.";
    Histogram JOB_SECONDS = "job_seconds", "An attempt at a job, by kind.", JOB;
    Counter BROKER_RECONNECTS = "broker_reconnects_total", "Times the connection to the message broker was made again.";
    Counter LETTERS = "job_results_total", "Results of jobs and messages to the broker, by what became of them.", ("outcome", &["sent", "failed", "given_up"]);
    Counter REDIS_UNANSWERED = "redis_unanswered_total", "What Redis was told or asked in vain, by why. Nothing failed because of it.", ("why", &["away", "slow", "refused", "full"]);
    Counter SPEECH_TEXTS = "tts_texts_total", "Texts spoken, by where the audio came from.", ("from", &["folder", "redis", "engine"]);
    Counter HTTP_REQUESTS = "http_requests_total", "HTTP requests, by route and status.", ("route", &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_come_in_one_order_and_buckets_stay_in_theirs() {
        let text = "# HELP b_total B.\n# TYPE b_total counter\nb_total{x=\"2\"} 0\nb_total{x=\"1\"} 0\n\n\
                    # HELP a A.\n# TYPE a histogram\na_bucket{le=\"5\"} 1\na_bucket{le=\"10\"} 1\na_sum 4\na_count 1\n\n";
        let wanted = "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"5\"} 1\na_bucket{le=\"10\"} 1\na_sum 4\na_count 1\n\n\
                      # HELP b_total B.\n# TYPE b_total counter\nb_total{x=\"1\"} 0\nb_total{x=\"2\"} 0\n\n";
        assert_eq!(sorted(text), wanted);
    }
}
