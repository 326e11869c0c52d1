//! When calls may be placed. Sans-IO: hours are those of a clock on the wall, and clocks on walls are moved twice a year.

use jiff::civil::{DateTime, Time};
use jiff::{Span, Timestamp};

use crate::config::tts_calls::Hours;

/// Days looked ahead. A week has every day of the week; more, because a span may lie in the hour that is left out in spring.
const AHEAD: i64 = 30;

/// Whether calls may be placed then.
pub fn is_allowed(hours: &Hours, at: Timestamp) -> bool {
    let wall = at.to_zoned(hours.zone.clone()).datetime();
    let minute = u16::from(wall.hour().unsigned_abs()) * 60 + u16::from(wall.minute().unsigned_abs());
    hours.days.has(wall.weekday()) && hours.spans.iter().any(|span| (span.from..span.until).contains(&minute))
}

/// The first instant from `now` on at which calls may be placed: `now` itself where they may.
pub fn next_allowed(hours: &Hours, now: Timestamp) -> Timestamp {
    if is_allowed(hours, now) {
        return now;
    }
    let today = now.to_zoned(hours.zone.clone()).date();
    for ahead in 0..AHEAD {
        let Ok(day) = today.checked_add(Span::new().days(ahead)) else { break };
        let begins = hours.spans.iter().filter_map(|span| {
            let (hour, minute) = (i8::try_from(span.from / 60).ok()?, i8::try_from(span.from % 60).ok()?);
            Some(DateTime::from_parts(day, Time::new(hour, minute, 0, 0).ok()?))
        });
        // A time that there is twice may be allowed from its second coming on, if the first is over. One that there is not comes
        // when the clock is moved: from then on it is past it.
        let instants = begins.flat_map(|begin| {
            let begin = hours.zone.to_ambiguous_timestamp(begin);
            [begin.earlier(), begin.later()].into_iter().flatten()
        });
        let day_begins = DateTime::from_parts(day, Time::midnight());
        let moved = hours.zone.to_ambiguous_timestamp(day_begins).earlier().ok();
        let moved = moved.and_then(|from| hours.zone.following(from).next().map(|moved| moved.timestamp()));
        let moved = moved.filter(|at| at.to_zoned(hours.zone.clone()).date() == day);
        let first = instants.chain(moved).filter(|at| *at >= now && is_allowed(hours, *at)).min();
        if let Some(first) = first {
            return first;
        }
    }
    // No clock is moved every day: some day has the hours.
    Timestamp::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn hours(zone: &str, days: &str, hours: &str) -> Hours {
        let mut settings = Settings::default();
        settings.tts_calls.time_zone = zone.into();
        settings.tts_calls.days = days.into();
        settings.tts_calls.hours = hours.into();
        settings.call_rules("default").unwrap().hours
    }

    fn next(hours: &Hours, now: &str) -> String {
        next_allowed(hours, now.parse().unwrap())
            .to_zoned(hours.zone.clone())
            .strftime("%a %F %H:%M %z")
            .to_string()
    }

    #[test]
    fn calls_wait_for_the_next_hour_and_day() {
        let office = hours("America/Bogota", "mon-fri", "08:00-12:00,14:00-18:00");
        // 2026-11-27 is a Friday; Bogota is five hours behind.
        assert_eq!(next(&office, "2026-11-27T14:30:00Z"), "Fri 2026-11-27 09:30 -0500", "now");
        assert_eq!(next(&office, "2026-11-27T12:59:59Z"), "Fri 2026-11-27 08:00 -0500");
        assert_eq!(
            next(&office, "2026-11-27T17:00:00Z"),
            "Fri 2026-11-27 14:00 -0500",
            "the end is not within"
        );
        assert_eq!(next(&office, "2026-11-27T23:00:00Z"), "Mon 2026-11-30 08:00 -0500");
        let always = hours("UTC", "mon-sun", "00:00-24:00");
        assert_eq!(next(&always, "2026-11-27T23:59:59Z"), "Fri 2026-11-27 23:59 +0000");
        let night = hours("UTC", "sat", "22:00-24:00,00:00-06:00");
        assert_eq!(next(&night, "2026-11-28T06:00:00Z"), "Sat 2026-11-28 22:00 +0000");
        assert_eq!(next(&night, "2026-11-29T00:00:00Z"), "Sat 2026-12-05 00:00 +0000");
    }

    #[test]
    fn hours_that_are_left_out_begin_when_the_clock_is_moved() {
        // 2026-03-29, a Sunday: at 02:00 +0100 it is 03:00 +0200.
        let berlin = |span: &str, days: &str| hours("Europe/Berlin", days, span);
        let eve = "2026-03-29T00:30:00Z";
        assert_eq!(next(&berlin("02:30-04:00", "sun"), eve), "Sun 2026-03-29 03:00 +0200");
        assert_eq!(
            next(&berlin("02:00-02:30", "sun"), eve),
            "Sun 2026-04-05 02:00 +0200",
            "there is no such time"
        );
        assert_eq!(next(&berlin("03:00-04:00", "sun"), eve), "Sun 2026-03-29 03:00 +0200");
        assert_eq!(next(&berlin("08:00-20:00", "sun"), eve), "Sun 2026-03-29 08:00 +0200");
    }

    #[test]
    fn hours_that_come_twice_are_there_twice() {
        // 2026-10-25, a Sunday: at 03:00 +0200 it is 02:00 +0100.
        let night = hours("Europe/Berlin", "sun", "02:00-02:30");
        assert_eq!(next(&night, "2026-10-24T23:00:00Z"), "Sun 2026-10-25 02:00 +0200");
        assert_eq!(next(&night, "2026-10-25T00:30:00Z"), "Sun 2026-10-25 02:00 +0100", "again");
        assert_eq!(next(&night, "2026-10-25T01:30:00Z"), "Sun 2026-11-01 02:00 +0100");
        let day = hours("Europe/Berlin", "sun", "02:45-09:00");
        assert_eq!(
            next(&day, "2026-10-25T01:10:00Z"),
            "Sun 2026-10-25 02:45 +0100",
            "the clock is before it again"
        );
    }

    #[test]
    fn a_zone_that_leaves_out_a_day_leaves_out_its_hours() {
        // Samoa had no 2011-12-30, a Friday.
        let apia = hours("Pacific/Apia", "fri", "09:00-10:00");
        assert_eq!(next(&apia, "2011-12-29T20:30:00Z"), "Fri 2012-01-06 09:00 +1400");
    }
}
