//! Every metric, once: its name, type and help. Prefix `sidetone_`, base units, never a call id in a label.
//!
//! Nothing else names a metric: a new one is a line here. Nothing here is called once a packet: the shards add up and
//! report every tick.

/// A value that only grows.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    help: &'static str,
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
}

impl Gauge {
    /// Set to `value`.
    pub fn set(&self, value: f64) {
        metrics::gauge!(self.name).set(value);
    }

    /// Add `delta`, which may be negative.
    pub fn add(&self, delta: f64) {
        metrics::gauge!(self.name).increment(delta);
    }
}

impl Histogram {
    /// Record one value.
    pub fn record(&self, value: f64) {
        metrics::histogram!(self.name).record(value);
    }
}

macro_rules! table {
    ($($kind:ident $ident:ident = $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub static $ident: $kind = $kind { name: concat!("sidetone_", $name), help: $help };)*

        /// Tell the recorder the help text of every metric, and create those without labels so that they show as 0.
        pub fn describe() {
            $(table!(@describe $kind $ident);)*
        }
    };
    (@describe Counter $ident:ident) => {
        metrics::describe_counter!($ident.name, $ident.help);
    };
    (@describe Gauge $ident:ident) => {
        metrics::describe_gauge!($ident.name, $ident.help);
    };
    (@describe Histogram $ident:ident) => {
        metrics::describe_histogram!($ident.name, $ident.help);
    };
}

table! {
    Gauge CALLS_ACTIVE = "calls_active", "Calls being heard now.";
    Counter CALLS = "calls_total", "Calls that ended, by outcome.";
    Histogram CALL_SETUP = "call_setup_seconds", "StasisStart until both directions are wired.";
    Counter RTP_RECEIVED = "rtp_packets_received_total", "RTP packets accepted.";
    Counter RTP_LOST = "rtp_packets_lost_total", "RTP packets that never came.";
    Counter RTP_LATE = "rtp_packets_late_total", "RTP packets that came after live readers had passed their place.";
    Counter RTP_DUPLICATE = "rtp_packets_duplicate_total", "RTP packets that came once more.";
    Counter RTP_REPAIRED = "rtp_packets_repaired_total", "Late RTP packets that still mended the recording.";
    Counter RTP_UNROUTABLE = "rtp_packets_unroutable_total", "Datagrams from unknown senders.";
    Counter RTP_INVALID = "rtp_packets_invalid_total", "Datagrams from known senders that were not usable RTP.";
    Counter RTP_KERNEL_DROPS = "rtp_kernel_drops_total", "Datagrams that the kernel dropped for want of buffer.";
    Counter RTP_RING_OVERRUNS = "rtp_ring_overruns_total", "Slots that a reader missed because the writer lapped it.";
    Histogram LEG_JITTER = "leg_jitter_seconds", "Interarrival jitter of a leg, at its end.";
    Histogram LEG_MOS = "leg_mos", "Listening quality estimate of a leg, at its end.";
    Counter LEG_STALLS = "leg_stalls_total", "Times a leg went without packets for the stall time.";
    Counter RECORDING_BYTES = "recording_bytes_total", "Bytes of audio written.";
    Counter RECORDINGS = "recordings_total", "Recordings, by outcome.";
    Gauge RECORDING_LAG = "recording_lag_seconds", "How far the slowest writer is behind what it could write.";
    Gauge ASR_LAG = "asr_lag_seconds", "Age of the oldest speech that waits to be recognised.";
    Histogram ASR_FINAL_LATENCY = "asr_final_latency_seconds", "End of an utterance until its final.";
    Counter ASR_PARTIALS_SHED = "asr_partials_shed_total", "Partials skipped for want of time.";
    Counter ASR_SECONDS = "asr_seconds_processed_total", "Seconds of audio recognised.";
    Counter ASR_COMPUTE_SECONDS = "asr_compute_seconds_total", "Seconds of processor time spent recognising.";
    Gauge ASR_QUEUE = "asr_queue_depth", "Recognition tasks waiting.";
    Gauge WS_SUBSCRIBERS = "ws_subscribers", "Open WebSocket subscriptions.";
    Counter WS_DROPPED = "ws_messages_dropped_total", "Messages that a slow subscriber did not get.";
    Counter CALL_FILE_ERRORS = "call_file_errors_total", "Attempts to write a call's record or event journal that failed.";
    Counter ARI_RECONNECTS = "ari_reconnects_total", "Times the ARI event socket was opened again.";
    Counter ORPHANS_REMOVED = "orphans_removed_total", "Channels and bridges of ours that no call owned any more.";
    Counter HTTP_REQUESTS = "http_requests_total", "HTTP requests, by route and status.";
}
