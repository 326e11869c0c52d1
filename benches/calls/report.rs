//! The table that goes into BENCHMARKS.md.

use crate::measure::{Errors, Measured, Spread, percentile};

/// Streaming may be worse than `sidetone transcribe` by so much: half a point.
const MORE_ERRORS: f64 = 0.005;
/// Seconds. Until the first partial, and until the final: the median, and 95 of 100.
const FIRST_PARTIAL: f64 = 0.7;
const FINAL: f64 = 0.7;
const MOST_FINALS: f64 = 1.2;

/// Rows, and whether all is as it should be.
#[derive(Default)]
pub struct Report {
    rows: String,
    missed: bool,
}

impl Report {
    pub fn row(&mut self, what: &str, measured: impl AsRef<str>, target: &str, met: bool) {
        let mark = if met { "" } else { " **missed**" };
        self.rows += &format!("| {what} | {}{mark} | {target} |\n", measured.as_ref());
        self.missed |= !met;
    }

    /// What was heard, how well and how soon.
    pub fn of_speech(&mut self, all: &mut Measured) {
        let offline = all.transcribe_wer.rate();
        let met = |wer: Errors| wer.words > 0 && wer.rate() <= offline + MORE_ERRORS;
        let target = "`sidetone transcribe` + 0.5 points";
        self.errors("words wrong (WER): finals", all.finals_wer, target, met(all.finals_wer));
        self.errors("… words as first shown stable", all.stable_wer, target, met(all.stable_wer));
        self.errors("… of those stable before their final, wrong", all.early_wer, "", true);
        self.errors("… offline: `sidetone transcribe`", all.transcribe_wer, "", true);
        self.errors("… offline: each prompt in one piece", all.prompts_wer, "", true);
        self.errors("… offline: each leg in one piece", all.legs_wer, "", true);
        self.spread(
            "first partial after the first word begins",
            &mut all.first_partials,
            &[(0.5, FIRST_PARTIAL)],
        );
        self.spread("a word's end to its first showing", &mut all.shown, &[]);
        self.spread("a word's end to its being stable", &mut all.stable, &[]);
        self.spread("final after the utterance's end", &mut all.finals, &[(0.5, FINAL), (0.95, MOST_FINALS)]);
        self.spread("longest pause between events of an utterance", &mut all.pauses, &[]);
        self.row("stable words revised", all.revised.to_string(), "0", all.revised == 0);
        let disorder = "revisions out of order, utterances without one final";
        self.row(disorder, all.disorder.to_string(), "0", all.disorder == 0);
        self.row("prompts without a word heard", all.unheard.to_string(), "0", all.unheard == 0);
        let untimed = format!(
            "{} nowhere told as said, {} misheard even in their prompt alone",
            all.untold, all.unplaced
        );
        self.row("words without a time", untimed, "", true);
    }

    fn errors(&mut self, what: &str, errors: Errors, target: &str, met: bool) {
        let measured = match errors.words {
            0 => "–".to_owned(),
            words => format!("{:.2} % of {words} words", errors.rate() * 100.0),
        };
        self.row(what, measured, target, met);
    }

    fn spread(&mut self, what: &str, seconds: &mut Spread, most: &[(f64, f64)]) {
        seconds.sort_by(f64::total_cmp);
        let at = |share| percentile(seconds, share);
        let measured = format!(
            "p50 {:.2} s, p95 {:.2} s, p99 {:.2} s, most {:.2} s ({} of them)",
            at(0.5),
            at(0.95),
            at(0.99),
            at(1.0),
            seconds.len()
        );
        let targets: Vec<String> =
            most.iter().map(|(share, most)| format!("p{:.0} ≤ {most} s", share * 100.0)).collect();
        let met = most.iter().all(|(share, most)| at(*share) <= *most);
        self.row(what, measured, &targets.join(", "), met);
    }

    /// Markdown.
    pub fn table(&self) -> String {
        format!("| | measured | target |\n|---|---|---|\n{}", self.rows)
    }

    pub fn is_missed(&self) -> bool {
        self.missed
    }
}
