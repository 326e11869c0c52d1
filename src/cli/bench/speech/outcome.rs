//! What the speech bench found, for people and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::legs::{Heard, Told};
use crate::speech::SpeechConfig;

/// Finals come so long after the silence that ends an utterance, 95 of 100 of them: with the default of `speech.hangover_ms` that is
/// 1.2 s after the last word.
const FINALS: Duration = Duration::from_millis(800);
/// Text goes on at least so often while somebody speaks, 95 of 100 times: what is older is no live transcript.
const PAUSES: Duration = Duration::from_secs(2);
/// A machine that is this late in playing 20 ms of audio is too busy for it to be a measure.
const BEHIND: Duration = Duration::from_millis(100);

/// What more legs meet with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Nothing: no more were asked for.
    Asked,
    /// Finals came late.
    Finals,
    /// Text did not go on while people spoke.
    Partials,
    /// Something was not transcribed.
    Missing,
    /// The machine was too busy to play the audio.
    Machine,
}

impl Limit {
    /// For people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Asked => "none met: --max or --legs asks for more",
            Self::Finals => {
                "finals come later than 0.8 s after the silence that ends an utterance (a smaller model, more processors)"
            }
            Self::Partials => {
                "text stands still for more than 2 s while people speak (a smaller model, a longer speech.partial_ms)"
            }
            Self::Missing => "speech was not transcribed",
            Self::Machine => "the machine is too busy to play audio in time",
        }
    }
}

/// What recognising a piece of audio takes.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// Its length.
    pub seconds: f64,
    /// Milliseconds, one recogniser alone.
    pub alone_ms: f64,
    /// Milliseconds, with all recognisers at it.
    pub together_ms: f64,
}

/// What a leg costs on which nobody speaks: percent of one core.
#[derive(Clone, Debug, Serialize)]
pub struct Silent {
    /// Digital silence.
    pub silence_percent_per_leg: f64,
    /// Noise at -50 dB.
    pub noise_percent_per_leg: f64,
}

/// What a number of legs did and cost.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Legs.
    pub legs: usize,
    /// Seconds for which they spoke.
    pub seconds: f64,
    /// Utterances that got their final, and those that did not.
    pub finals: u64,
    pub unfinished: u64,
    /// Audio of which the engine was too late, in slots of 10 ms.
    pub missed_slots: u64,
    /// Milliseconds from the end of an utterance's speech to its final.
    pub final_p50_ms: f64,
    pub final_p95_ms: f64,
    pub final_p99_ms: f64,
    /// Milliseconds from the start of an utterance to its first text, and from one event of it to the next.
    pub pause_p50_ms: f64,
    pub pause_p95_ms: f64,
    /// Partials.
    pub partials: u64,
    /// Percent of one core, a leg: listening and recognising.
    pub cpu_percent_per_leg: f64,
    /// Seconds of processor time a second of speech.
    pub cpu_per_speech_second: f64,
    /// Milliseconds by which the audio was late at most.
    pub audio_behind_ms: f64,
    /// Why this is more than the machine carries.
    pub limit: Option<Limit>,
}

impl Step {
    /// Of legs that speak for the share `talks` of the time.
    pub fn new(heard: &Heard, legs: usize, talks: f64, config: &SpeechConfig) -> Self {
        let stopped = heard.stopped;
        // What ends with the audio ends early: its silence need not be waited for.
        let was_live = |told: &&Told| stopped.is_none_or(|stopped| told.end + config.hangover * 2 < stopped);
        let finals = heard.told.iter().filter(|told| told.is_final).filter(was_live);
        let finals = sorted(finals.map(|told| told.at.saturating_since(told.end)));
        let mut last: BTreeMap<(usize, u64), &Told> = BTreeMap::new();
        let mut pauses = Vec::new();
        for told in &heard.told {
            pauses.push(match last.insert((told.leg, told.utterance), told) {
                // Nothing is to be told after the last word but that it was the last.
                Some(before) if told.is_final => {
                    told.at.min(before.at.max(told.end)).saturating_since(before.at)
                }
                Some(before) => told.at.saturating_since(before.at),
                // Where partials are shed, nobody reads a word before the final.
                None => told.at.saturating_since(told.start),
            });
        }
        let pauses = sorted(pauses.into_iter());
        let sum = |of: fn(&crate::speech::FinishReport) -> u64| heard.reports.iter().map(of).sum::<u64>();
        let spent = (heard.listening + heard.recognising).as_secs_f64();
        let seconds = heard.length.as_secs_f64();
        let mut step = Self {
            legs,
            seconds,
            finals: sum(|report| report.finals),
            unfinished: sum(|report| report.unfinished + report.failed + u64::from(!report.complete)),
            missed_slots: sum(|report| report.missed_slots),
            final_p50_ms: percentile(&finals, 0.5),
            final_p95_ms: percentile(&finals, 0.95),
            final_p99_ms: percentile(&finals, 0.99),
            pause_p50_ms: percentile(&pauses, 0.5),
            pause_p95_ms: percentile(&pauses, 0.95),
            partials: sum(|report| report.partials),
            cpu_percent_per_leg: 100.0 * spent / seconds / legs as f64,
            cpu_per_speech_second: spent / (seconds * legs as f64 * talks).max(f64::MIN_POSITIVE),
            audio_behind_ms: heard.behind.as_secs_f64() * 1_000.0,
            limit: None,
        };
        step.limit = step.limit_met(config.hangover);
        step
    }

    fn limit_met(&self, hangover: Duration) -> Option<Limit> {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        if self.unfinished > 0 || self.missed_slots > 0 {
            Some(Limit::Missing)
        } else if self.final_p95_ms > ms(hangover + FINALS) {
            Some(Limit::Finals)
        } else if self.pause_p95_ms > ms(PAUSES) {
            Some(Limit::Partials)
        } else if self.audio_behind_ms > ms(BEHIND) {
            Some(Limit::Machine)
        } else {
            None
        }
    }
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times
}

/// Milliseconds; 0 of nothing.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * share).ceil() as usize;
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Live legs in real time.
    pub legs: usize,
    /// What they cost; absent if not even the fewest were carried.
    pub carried: Option<Step>,
    /// The fewest that were not; absent if all were.
    pub failed: Option<Step>,
    /// What more legs would have met with.
    pub limit: Limit,
    /// The model.
    pub model: String,
    /// What recognising costs.
    pub windows: Vec<Window>,
    /// What a leg costs on which nobody speaks.
    pub silent: Silent,
    /// Share of a leg's time in which the detector hears a voice.
    pub talks: f64,
    /// The settings.
    pub partial_ms: u64,
    pub hangover_ms: u64,
    /// Recognising threads.
    pub workers: usize,
    /// Processors.
    pub processors: usize,
}

impl Outcome {
    /// For people.
    pub fn in_words(&self) -> String {
        let legs = if self.legs == 1 { "leg" } else { "legs" };
        let mut text =
            format!("{} live {legs} with the model {}, transcribed while speaking\n", self.legs, self.model);
        if let Some(step) = &self.carried {
            text += &format!(
                "  finals         {:.2} s after the last word, {:.2} s in 95 of 100 ({} ms of that is speech.hangover_ms); {} of them\n",
                step.final_p50_ms / 1_000.0,
                step.final_p95_ms / 1_000.0,
                self.hangover_ms,
                step.finals
            );
            text += &format!(
                "  text goes on   every {:.2} s, {:.2} s in 95 of 100 (speech.partial_ms is {})\n",
                step.pause_p50_ms / 1_000.0,
                step.pause_p95_ms / 1_000.0,
                self.partial_ms
            );
            text += &format!(
                "  cost           {:.1} % of one core a leg, {:.2} s a second of speech\n",
                step.cpu_percent_per_leg, step.cpu_per_speech_second
            );
        }
        let silent = &self.silent;
        text += &format!(
            "  a silent leg   {:.3} % of one core, {:.3} % with noise on the line\n",
            silent.silence_percent_per_leg, silent.noise_percent_per_leg
        );
        let windows: Vec<String> = self
            .windows
            .iter()
            .map(|window| format!("{:.0} s in {:.0} ms", window.seconds, window.together_ms))
            .collect();
        text += &format!("  recognising    {}, with all at it\n", windows.join(", "));
        text += &format!("  limit          {}\n", self.limit.in_words());
        if let Some(step) = &self.failed {
            text += &format!(
                "  at {} legs      finals {:.2} s after the last word in 95 of 100, text every {:.2} s; {} utterances without a final\n",
                step.legs,
                step.final_p95_ms / 1_000.0,
                step.pause_p95_ms / 1_000.0,
                step.unfinished
            );
        }
        text += &format!(
            "  load           a leg speaks {:.0} % of its time; neither packets nor recording: those `sidetone bench` measures\n",
            self.talks * 100.0
        );
        text += &format!("  machine        {} processors, {} recognisers\n", self.processors, self.workers);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::time::MediaInstant;

    fn at(ms: u64) -> MediaInstant {
        MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    /// The first utterance starts at 0.5 s, the second at 19.5 s.
    fn told(ms: u64, utterance: u64, is_final: bool, end: u64) -> Told {
        let start = at(500 + 19_000 * (utterance - 1));
        Told { at: at(ms), leg: 0, utterance, is_final, start, end: at(end) }
    }

    fn heard(told: Vec<Told>) -> Heard {
        Heard { told, length: Duration::from_secs(20), stopped: Some(at(20_000)), ..Heard::default() }
    }

    #[test]
    fn finals_count_from_the_last_word_and_pauses_only_while_someone_speaks() {
        let all = vec![
            told(1_000, 1, false, 900),
            told(1_700, 1, false, 1_600),
            // The last word ended 100 ms behind the last partial: the rest is the hangover.
            told(2_400, 1, true, 1_800),
            // Ends with the audio: no measure.
            told(20_010, 2, true, 19_900),
        ];
        let step = Step::new(&heard(all), 1, 0.5, &SpeechConfig::default());
        assert_eq!((step.final_p50_ms, step.final_p95_ms), (600.0, 600.0));
        assert_eq!((step.pause_p50_ms, step.pause_p95_ms), (510.0, 700.0));
        assert_eq!(step.limit, None);
    }

    #[test]
    fn each_limit_is_met() {
        let config = SpeechConfig::default();
        let limit = |told, change: fn(&mut Heard)| {
            let mut heard = heard(told);
            change(&mut heard);
            Step::new(&heard, 1, 0.5, &config).limit
        };
        assert_eq!(limit(vec![told(3_100, 1, true, 1_800)], |_| ()), Some(Limit::Finals));
        let still =
            vec![told(1_000, 1, false, 900), told(3_100, 1, false, 3_000), told(4_000, 1, true, 3_500)];
        assert_eq!(limit(still, |_| ()), Some(Limit::Partials));
        let silent = vec![told(3_000, 1, true, 2_400)];
        assert_eq!(limit(silent, |_| ()), Some(Limit::Partials), "nothing but a final, 2.5 s after it began");
        let missing = |heard: &mut Heard| {
            heard.reports.push(crate::speech::FinishReport {
                complete: true,
                unfinished: 1,
                ..Default::default()
            });
        };
        assert_eq!(limit(Vec::new(), missing), Some(Limit::Missing));
        assert_eq!(
            limit(Vec::new(), |heard| heard.behind = Duration::from_millis(150)),
            Some(Limit::Machine)
        );
        assert_eq!(limit(Vec::new(), |_| ()), None);
    }
}
