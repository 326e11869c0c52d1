//! Hours and days, as they are written.

use std::str::FromStr;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// From one minute of a day to before another, by the clock on the wall; 1,440 is midnight at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First minute.
    pub from: u16,
    /// The one behind the last.
    pub until: u16,
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days([bool; 7]);

impl Days {
    /// Whether it is one of them.
    pub fn has(self, day: Weekday) -> bool {
        usize::try_from(day.to_monday_zero_offset()).is_ok_and(|day| self.0.get(day) == Some(&true))
    }
}

/// When calls may be placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    /// In each day.
    pub spans: Vec<Span>,
    /// On which days.
    pub days: Days,
    /// By whose clock.
    pub zone: TimeZone,
}

pub(super) fn spans(text: &str) -> Result<Vec<Span>, String> {
    let bad = || {
        format!("`{text}`: write it as 08:00-20:00, or several such with commas between; 24:00 is midnight")
    };
    text.split(',')
        .map(|span| {
            let (from, until) = span.split_once('-').ok_or_else(bad)?;
            let (from, until) = (minute(from).ok_or_else(bad)?, minute(until).ok_or_else(bad)?);
            if from >= until {
                return Err(format!(
                    "`{}` ends before it begins: over midnight, write 22:00-24:00,00:00-06:00",
                    span.trim()
                ));
            }
            Ok(Span { from, until })
        })
        .collect()
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())?
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
}

impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}`: write it as mon-fri, or mon,wed,sat; there are {}", NAMES.join(", "));
        let day = |name: &str| {
            NAMES.iter().position(|known| name.trim().eq_ignore_ascii_case(known)).ok_or_else(bad)
        };
        let mut days = [false; 7];
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            // From Friday to Monday goes over the end of the week.
            let count = (last + 7 - first) % 7;
            (0..=count).for_each(|n| days[(first + n) % 7] = true);
        }
        Ok(Self(days))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_to_the_minute() {
        let read =
            |text| spans(text).map(|spans| spans.iter().map(|s| (s.from, s.until)).collect::<Vec<_>>());
        assert_eq!(read("08:00-20:30"), Ok(vec![(480, 1_230)]));
        assert_eq!(read("09:00-12:00, 14:00-24:00"), Ok(vec![(540, 720), (840, 1_440)]));
        for bad in ["", "8-20", "08:00", "08:00-24:01", "08:60-09:00", "ab:00-09:00", "+8:00-09:00"] {
            assert!(read(bad).unwrap_err().contains("08:00-20:00"), "{bad}");
        }
        assert!(read("22:00-06:00").unwrap_err().contains("00:00-06:00"));
    }

    #[test]
    fn days_are_ranges_and_lists() {
        let read = |text: &str| text.parse::<Days>().map(|days| days.0.map(u8::from));
        assert_eq!(read("mon-fri"), Ok([1, 1, 1, 1, 1, 0, 0]));
        assert_eq!(read("Mon, wed,sat"), Ok([1, 0, 1, 0, 0, 1, 0]));
        assert_eq!(read("fri-mon"), Ok([1, 0, 0, 0, 1, 1, 1]));
        assert_eq!(read("sun"), Ok([0, 0, 0, 0, 0, 0, 1]));
        for bad in ["", "monday", "mon-", "1-5"] {
            assert!(read(bad).unwrap_err().contains("mon-fri"), "{bad}");
        }
        assert!("sat".parse::<Days>().unwrap().has(Weekday::Saturday));
    }
}
