//! The only place that reads a clock.

#![expect(clippy::disallowed_methods, reason = "the one reader of clocks")]

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::media::time::MediaInstant;

/// The machine's monotonic clock (nanoseconds since boot): the same for every process, so that a session's start
/// survives a restart of this one.
pub fn now() -> MediaInstant {
    read(ClockId::Monotonic)
}

/// Nanoseconds since the Unix epoch, to tell kernel stamps from and for times that users see.
pub fn realtime_nanos() -> u64 {
    read(ClockId::Realtime).as_nanos()
}

/// The wall clock, for times that users see.
pub fn timestamp() -> jiff::Timestamp {
    jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// The monotonic instant of wall-clock time `realtime_nanos`, by the offset between the two clocks now.
pub fn instant_of_realtime(realtime_nanos: u64) -> MediaInstant {
    let (mono, real) = (now().as_nanos(), self::realtime_nanos());
    MediaInstant::from_nanos(mono.saturating_add(realtime_nanos).saturating_sub(real))
}

/// Time since `earlier`.
pub fn since(earlier: MediaInstant) -> Duration {
    now().saturating_since(earlier)
}

fn read(clock: ClockId) -> MediaInstant {
    let spec = clock_gettime(clock);
    MediaInstant::from_nanos(spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64)
}
