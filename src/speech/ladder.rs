//! What is given up under overload, and in which order. Pure: time is a parameter.
//!
//! The rungs are those of the contract: first words come less often, then later, and only then are calls transcribed after they are
//! over instead of while they last. Audio is not on the ladder. It climbs at once when its causes are there, a rung at a time, and
//! descends a rung when they have been gone for a while. That while is short, so that it is down soon after the pressure is gone, and
//! doubles each time that it turns out to have been too short, so that it does not swing.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::media::time::MediaInstant;

/// How far overload has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Everything in time.
    #[default]
    Calm,
    /// More time between two partials of a leg.
    LongerStep,
    /// No partials of the legs whose partials came too late.
    PartialsOff,
    /// Finals come late; nothing is recognised on suspicion.
    FinalsLate,
    /// New legs are not transcribed while they last, but from their recording.
    LiveOff,
    /// New calls are refused, where the settings say so.
    CallsRefused,
}

impl Rung {
    /// All of them, lowest first.
    pub const ALL: [Self; 6] = [
        Self::Calm,
        Self::LongerStep,
        Self::PartialsOff,
        Self::FinalsLate,
        Self::LiveOff,
        Self::CallsRefused,
    ];

    /// Number, from 0.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::LongerStep => "longer_step",
            Self::PartialsOff => "partials_off",
            Self::FinalsLate => "finals_late",
            Self::LiveOff => "live_off",
            Self::CallsRefused => "calls_refused",
        }
    }

    fn above(self) -> Self {
        Self::ALL.get(usize::from(self.number()) + 1).copied().unwrap_or(self)
    }

    fn below(self) -> Self {
        Self::ALL[usize::from(self.number()).saturating_sub(1)]
    }
}

impl Serialize for Rung {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// What the ladder looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Work asked for while it is worth asking for, as a share of what all workers can do.
    pub utilisation: f64,
    /// The same with one more leg, and partials as rare as they can be.
    pub predicted: f64,
    /// How many times longer than wished the step between partials is: 1 to [`MOST_STRETCH`].
    pub stretch: f64,
    /// What 95 of 100 partials waited for a worker lately, at most.
    pub partial_wait: Duration,
    /// The longest wait of a final at the moment, or of 95 of 100 lately.
    pub final_wait: Duration,
    /// What a worker may be busy with before it is free for a final.
    pub window: Duration,
    /// Step between partials that is wished for.
    pub step: Duration,
    /// A leg has just not been taken in: it will be transcribed from its recording.
    pub turned_away: bool,
}

/// The step between partials is at most this many times the one wished for.
pub const MOST_STRETCH: f64 = 8.0;
/// More than this asked of the workers, and waits begin to grow without end: the first rung, at once.
pub const FULL: f64 = 0.85;
/// Less than this is calm.
pub const EASY: f64 = 0.6;
/// With more than this predicted, no more legs are taken in.
pub const ADMITTED: f64 = 0.9;
/// And again from here down.
pub const ADMITTED_AGAIN: f64 = 0.8;
/// A final may wait for what its worker is at, and this much longer.
const FINAL_LATE: Duration = Duration::from_secs(1);
/// And from here on, new legs would only make it worse.
const FINAL_TOO_LATE: Duration = Duration::from_secs(3);
/// Finals come so late for this long before calls are refused.
const REFUSE_AFTER: Duration = Duration::from_secs(5);
/// Time for a rung to take effect before the next one is climbed.
const CLIMB_PAUSE: Duration = Duration::from_millis(500);
/// The causes of a rung have to be gone for this long: waits are looked at over three seconds, so that calm is old by then.
const CALM_FOR: Duration = Duration::from_secs(2);
/// A rung that is climbed so soon after one was descended was left too early: from then on calm has to last twice as long for the first
/// rung down, half of that for the next, and so on,
const TOO_EARLY: Duration = Duration::from_secs(30);
/// this at most: 20 s for four rungs,
const LONGEST_CALM: Duration = Duration::from_secs(10);
/// until nothing was climbed for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The ladder was climbed or descended by a rung.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RungChange {
    /// Where it stands now.
    pub rung: Rung,
    /// That rung's name.
    pub name: &'static str,
    /// How long finals, or where there are none partials, wait for a worker, seconds.
    pub lag_s: f64,
    /// Work asked for as a share of what can be done.
    pub utilisation: f64,
    /// Whether things got worse.
    #[serde(skip)]
    pub is_climb: bool,
}

/// The ladder.
#[derive(Clone, Debug)]
pub struct Ladder {
    rung: Rung,
    /// Whether the last rung exists.
    refuses: bool,
    changed: Option<MediaInstant>,
    climbed: Option<MediaInstant>,
    descended: Option<MediaInstant>,
    /// Since when the causes of this rung are gone.
    calm: Option<MediaInstant>,
    /// How long they have to be for the first rung down.
    patience: Duration,
    /// Rungs descended since one was climbed.
    down: u32,
}

impl Ladder {
    /// At its foot. `refuses`: it has the last rung.
    pub fn new(refuses: bool) -> Self {
        Self {
            rung: Rung::Calm,
            refuses,
            changed: None,
            climbed: None,
            descended: None,
            calm: None,
            patience: CALM_FOR,
            down: 0,
        }
    }

    /// Where it stands.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Look at `pressure` at `now`.
    pub fn look(&mut self, pressure: &Pressure, now: MediaInstant) -> Option<RungChange> {
        let passed = self.changed.map_or(Duration::MAX, |at| now.saturating_since(at));
        let above = self.rung.above();
        if above != self.rung && self.is_due(above, pressure, passed) {
            self.calm = None;
            return (passed >= CLIMB_PAUSE).then(|| self.change(above, pressure, now));
        }
        if self.rung == Rung::Calm || !is_over(self.rung, pressure) {
            self.calm = None;
            return None;
        }
        let calm = *self.calm.get_or_insert(now);
        let wanted = (self.patience / 2_u32.pow(self.down)).max(CALM_FOR);
        (now.saturating_since(calm) >= wanted).then(|| {
            self.calm = None;
            self.change(self.rung.below(), pressure, now)
        })
    }

    fn change(&mut self, rung: Rung, pressure: &Pressure, now: MediaInstant) -> RungChange {
        let is_climb = rung > self.rung;
        if is_climb {
            self.learn(now);
        } else {
            self.descended = Some(now);
            self.down += 1;
        }
        self.rung = rung;
        self.changed = Some(now);
        let lag = if pressure.final_wait.is_zero() { pressure.partial_wait } else { pressure.final_wait };
        RungChange {
            rung,
            name: rung.name(),
            lag_s: (lag.as_secs_f64() * 1_000.0).round() / 1_000.0,
            utilisation: (pressure.utilisation * 1_000.0).round() / 1_000.0,
            is_climb,
        }
    }

    /// It climbs: whether it had come down too early.
    fn learn(&mut self, now: MediaInstant) {
        let since = |at: Option<MediaInstant>| at.map_or(Duration::MAX, |at| now.saturating_since(at));
        if since(self.climbed) > FORGOTTEN_AFTER {
            self.patience = CALM_FOR;
        }
        // Of several rungs that are climbed again in one go the first has told.
        if since(self.descended.take()) < TOO_EARLY {
            self.patience = (self.patience * 2).min(LONGEST_CALM);
        }
        self.climbed = Some(now);
        self.down = 0;
    }

    /// Whether there is reason to climb to `rung` from the one below it, which was reached `passed` ago.
    fn is_due(&self, rung: Rung, p: &Pressure, passed: Duration) -> bool {
        let is_late = p.final_wait > FINAL_LATE + p.window;
        let is_too_late = p.final_wait > FINAL_TOO_LATE + 2 * p.window;
        match rung {
            Rung::Calm => false,
            Rung::LongerStep => p.stretch > 1.0 || is_late || p.turned_away,
            Rung::PartialsOff => {
                let is_full = p.utilisation > FULL || p.partial_wait > p.step;
                p.stretch >= MOST_STRETCH && is_full || is_late || p.turned_away
            }
            Rung::FinalsLate => is_late || p.turned_away,
            Rung::LiveOff => is_too_late || is_late && p.predicted >= ADMITTED || p.turned_away,
            Rung::CallsRefused => self.refuses && is_too_late && passed >= REFUSE_AFTER,
        }
    }
}

/// Whether the causes of `rung` are gone: by more than it took to climb to it.
fn is_over(rung: Rung, p: &Pressure) -> bool {
    let in_time = p.final_wait <= FINAL_LATE / 2 + p.window;
    match rung {
        Rung::Calm => false,
        Rung::LongerStep => p.stretch <= 1.0 && in_time,
        Rung::PartialsOff => p.utilisation < FULL && p.stretch < MOST_STRETCH && in_time,
        Rung::FinalsLate | Rung::CallsRefused => in_time,
        Rung::LiveOff => in_time && p.predicted < ADMITTED_AGAIN && !p.turned_away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Pressure = Pressure {
        utilisation: 0.3,
        predicted: 0.3,
        stretch: 1.0,
        partial_wait: Duration::ZERO,
        final_wait: Duration::ZERO,
        window: Duration::from_millis(200),
        step: Duration::from_millis(500),
        turned_away: false,
    };
    const FLOODED: Pressure = Pressure {
        utilisation: 3.0,
        predicted: 3.2,
        stretch: MOST_STRETCH,
        partial_wait: Duration::from_secs(2),
        final_wait: Duration::from_secs(8),
        ..CALM
    };

    /// Look ten times a second for so many seconds; the changes, each with its second.
    fn watch(ladder: &mut Ladder, from: u64, seconds: u64, pressure: &Pressure) -> Vec<(f64, u8)> {
        let mut changes = Vec::new();
        for tick in from * 10..(from + seconds) * 10 {
            let now = MediaInstant::from_nanos(1_000_000_000 + tick * 100_000_000);
            if let Some(change) = ladder.look(pressure, now) {
                assert_eq!(change.rung, ladder.rung());
                changes.push(((tick - from * 10) as f64 / 10.0, change.rung.number()));
            }
        }
        changes
    }

    #[test]
    fn it_is_climbed_rung_by_rung_within_seconds_and_descended_in_calm() {
        let mut ladder = Ladder::new(true);
        assert!(watch(&mut ladder, 0, 10, &CALM).is_empty());
        assert_eq!(
            watch(&mut ladder, 10, 10, &FLOODED),
            [(0.0, 1), (0.5, 2), (1.0, 3), (1.5, 4), (6.5, 5)],
            "calls are refused only after a while"
        );
        assert_eq!(watch(&mut ladder, 20, 30, &CALM), [(2.0, 4), (4.1, 3), (6.2, 2), (8.3, 1), (10.4, 0)]);
    }

    #[test]
    fn calls_are_refused_only_where_the_settings_say_so() {
        let mut ladder = Ladder::new(false);
        watch(&mut ladder, 0, 60, &FLOODED);
        assert_eq!(ladder.rung(), Rung::LiveOff);
    }

    #[test]
    fn a_leg_that_is_not_taken_in_is_what_the_fourth_rung_is_for() {
        let mut ladder = Ladder::new(true);
        let full = Pressure { predicted: 0.95, turned_away: true, ..CALM };
        assert_eq!(watch(&mut ladder, 0, 60, &full), [(0.0, 1), (0.5, 2), (1.0, 3), (1.5, 4)]);
    }

    #[test]
    fn what_longer_steps_mend_goes_no_further() {
        let mut ladder = Ladder::new(false);
        let mended = Pressure { utilisation: 0.8, stretch: 3.4, ..CALM };
        assert_eq!(watch(&mut ladder, 0, 60, &mended), [(0.0, 1)]);
        // Partials off for some is what comes next, not finals late.
        let full = Pressure { utilisation: 0.9, stretch: MOST_STRETCH, ..CALM };
        assert_eq!(watch(&mut ladder, 60, 60, &full), [(0.0, 2)]);
    }

    #[test]
    fn pressure_that_comes_and_goes_does_not_make_it_swing() {
        let mut ladder = Ladder::new(false);
        let mut changes = 0;
        for second in 0..60 {
            let pressure = if second % 4 == 0 { FLOODED } else { CALM };
            changes += watch(&mut ladder, second, 1, &pressure).len();
        }
        // Four up; one down and up again, which taught it to wait longer than three seconds of calm.
        assert_eq!((ladder.rung(), changes), (Rung::LiveOff, 6));
        // A longer calm is one, though,
        let down = watch(&mut ladder, 60, 30, &CALM);
        assert_eq!(down.iter().map(|(_, rung)| *rung).collect::<Vec<_>>(), [3, 2, 1, 0]);
        // and what happened is forgotten in the end.
        watch(&mut ladder, 90, 60, &CALM);
        watch(&mut ladder, 150, 5, &FLOODED);
        assert_eq!(watch(&mut ladder, 155, 20, &CALM)[0], (2.0, 3));
    }

    #[test]
    fn pressure_that_comes_again_and_again_is_told_of_ever_less_often() {
        let mut ladder = Ladder::new(false);
        let mut changes = Vec::new();
        for second in 0..600 {
            let pressure = if second % 10 < 2 { FLOODED } else { CALM };
            let moved = watch(&mut ladder, second, 1, &pressure).len();
            changes.extend(std::iter::repeat_n(second / 120, moved));
        }
        let of = |part: u64| changes.iter().filter(|at| **at == part).count();
        assert!(of(0) < 40 && of(4) == 0, "{changes:?}");
    }

    #[test]
    fn between_the_thresholds_it_stays() {
        let mut ladder = Ladder::new(false);
        watch(&mut ladder, 0, 5, &FLOODED);
        let between = Pressure { final_wait: Duration::from_millis(900), predicted: 0.85, ..CALM };
        assert!(watch(&mut ladder, 5, 60, &between).is_empty());
        let admissible = Pressure { final_wait: Duration::from_millis(600), predicted: 0.85, ..CALM };
        assert!(watch(&mut ladder, 65, 60, &admissible).is_empty(), "one more leg is still too many");
    }

    #[test]
    fn an_event_says_rung_name_lag_and_utilisation() {
        let mut ladder = Ladder::new(false);
        let change = ladder.look(&FLOODED, MediaInstant::from_nanos(1)).unwrap();
        assert!(change.is_climb);
        let wanted =
            serde_json::json!({ "rung": 1, "name": "longer_step", "lag_s": 8.0, "utilisation": 3.0 });
        assert_eq!(serde_json::to_value(change).unwrap(), wanted);
    }
}
