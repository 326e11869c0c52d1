//! What `watch` draws: lines that are finished scroll up, above those being spoken now.

use std::collections::HashMap;
use std::fmt::Write as _;

use console::{Term, measure_text_width};
use serde_json::Value;

use super::note::{joined, note};

const CALLER: &str = "36";
const CALLEE: &str = "33";
const DIM: &str = "2";

/// The screen. It draws nothing itself: [`Screen::show`] tells what to write.
pub(super) struct Screen {
    partials: bool,
    colours: bool,
    open: Vec<OpenLine>,
    /// Columns of each of the open lines as last drawn.
    drawn: Vec<usize>,
    /// Short numbers for calls, since ids are long.
    calls: HashMap<String, usize>,
}

/// An utterance that is being spoken.
struct OpenLine {
    key: (String, String),
    head: String,
    /// The words, and whether each stands.
    words: Vec<(String, bool)>,
}

impl Screen {
    /// Colours and lines that change are for terminals: nothing that is piped holds an escape code.
    pub(super) fn for_terminal(terminal: &Term, partials: bool) -> Self {
        let is_smart = terminal.is_term() && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::new(partials && is_smart, is_smart && !no_colour)
    }

    fn new(partials: bool, colours: bool) -> Self {
        Self { partials, colours, open: Vec::new(), drawn: Vec::new(), calls: HashMap::new() }
    }

    /// What to write for `event`, on a terminal of this size (rows, columns).
    pub(super) fn show(&mut self, event: &Value, size: Option<(u16, u16)>) -> String {
        let (rows, columns) = room(size);
        let call = event["call_id"].as_str().unwrap_or_default().to_owned();
        let leg = event["leg"].as_str().unwrap_or_default().to_owned();
        let key = (call, leg);
        let finished = match event["type"].as_str().unwrap_or_default() {
            "transcript.partial" if !self.partials => return String::new(),
            "transcript.partial" => {
                self.open_line(key, event);
                None
            }
            "transcript.final" => {
                self.open.retain(|line| line.key != key);
                let text = event["text"].as_str().filter(|text| !text.is_empty());
                text.map(|text| self.head(event) + text)
            }
            kind => {
                if kind == "call.ended" {
                    self.open.retain(|line| line.key.0 != key.0);
                }
                let number =
                    if key.0.is_empty() { String::new() } else { format!("call {}  ", self.number(&key.0)) };
                Some(self.paint(DIM, &(number + &note(event))))
            }
        };
        self.redraw(finished.as_deref(), rows, columns)
    }

    /// The call of `event`, if nothing was shown of it before and this is not its beginning.
    pub(super) fn newcomer<'a>(&self, event: &'a Value) -> Option<&'a str> {
        let call = event["call_id"].as_str().filter(|call| !call.is_empty())?;
        (event["type"] != "call.started" && !self.calls.contains_key(call)).then_some(call)
    }

    /// What to write above the first event of a call that was running already; `record` is null if nobody told it.
    pub(super) fn joined(&mut self, call: &str, record: &Value, size: Option<(u16, u16)>) -> String {
        let line = format!("call {}  {}", self.number(call), joined(call, record));
        self.finished(&line, size)
    }

    /// What to write when the connection is lost and another one is tried for.
    pub(super) fn interrupted(&mut self, reason: &str, size: Option<(u16, u16)>) -> String {
        // Their finals come with what is caught up on, if they are not said anew.
        self.open.clear();
        self.finished(&format!("… {reason}: connecting again, to go on from here"), size)
    }

    fn finished(&mut self, line: &str, size: Option<(u16, u16)>) -> String {
        let (rows, columns) = room(size);
        self.redraw(Some(&self.paint(DIM, line)), rows, columns)
    }

    fn open_line(&mut self, key: (String, String), event: &Value) {
        let head = self.head(event);
        let word =
            |word: &Value| (word["text"].as_str().unwrap_or_default().to_owned(), word["stable"] == true);
        let words = event["words"].as_array().into_iter().flatten().map(word).collect();
        match self.open.iter_mut().find(|line| line.key == key) {
            Some(line) => (line.head, line.words) = (head, words),
            None => self.open.push(OpenLine { key, head, words }),
        }
    }

    fn number(&mut self, call: &str) -> usize {
        let next = self.calls.len() + 1;
        *self.calls.entry(call.to_owned()).or_insert(next)
    }

    /// Who speaks, and since when.
    fn head(&mut self, event: &Value) -> String {
        let number = self.number(event["call_id"].as_str().unwrap_or_default());
        let leg = event["leg"].as_str().unwrap_or_default();
        let at = event["start"].as_f64().unwrap_or_default();
        let colour = if leg == "caller" { CALLER } else { CALLEE };
        format!("call {number} {at:7.2} s  {} ", self.paint(colour, &format!("{leg:>6}:")))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Take the open lines away, write what is finished, and the open lines again below it.
    fn redraw(&mut self, finished: Option<&str>, rows: usize, columns: usize) -> String {
        let mut out = String::new();
        // A terminal that became narrower has broken the lines since.
        let up: usize = self.drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        if up > 0 {
            let _ = write!(out, "\x1b[{up}F\x1b[J");
        }
        if let Some(line) = finished {
            let _ = writeln!(out, "{line}");
        }
        self.drawn.clear();
        // One row stays for the cursor: what scrolls out of the screen cannot be taken away again.
        let fits = rows.saturating_sub(1).max(1);
        let hidden = if self.open.len() > fits { self.open.len() - fits + 1 } else { 0 };
        let mut lines: Vec<String> =
            self.open.iter().skip(hidden).map(|line| self.fitted(line, columns)).collect();
        if hidden > 0 {
            lines.insert(0, self.paint(DIM, &format!("… {hidden} more")));
        }
        for line in lines {
            self.drawn.push(measure_text_width(&line));
            let _ = writeln!(out, "{line}");
        }
        out
    }

    /// The line within `columns`, less one, since some terminals go on in the next row when the last column is filled: the
    /// newest words, dim those that may still change.
    fn fitted(&self, line: &OpenLine, columns: usize) -> String {
        let room = columns.saturating_sub(1 + measure_text_width(&line.head));
        // Room for an ellipsis on either side.
        let mut left = room.saturating_sub(4);
        let mut first = line.words.len();
        while let Some((word, _)) = first.checked_sub(1).map(|before| &line.words[before]) {
            let width = measure_text_width(word) + 1;
            if width > left {
                break;
            }
            left -= width;
            first -= 1;
        }
        if first == line.words.len() && !line.words.is_empty() {
            // Too narrow for a single word.
            let all = format!("{}…", line.head);
            return console::truncate_str(&all, columns.saturating_sub(1), "").into_owned();
        }
        let words = line.words[first..]
            .iter()
            .map(|(word, stable)| if *stable { word.clone() } else { self.paint(DIM, word) });
        let words = words.collect::<Vec<_>>().join(" ");
        let cut = if first > 0 { "… " } else { "" };
        format!("{}{cut}{words} …", line.head)
    }
}

/// Rows and columns; of a terminal that does not tell, the usual ones.
fn room(size: Option<(u16, u16)>) -> (usize, usize) {
    size.map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn partial(call: &str, leg: &str, text: &str) -> Value {
        let words: Vec<Value> = text.split(' ').map(|w| json!({ "text": w, "stable": false })).collect();
        json!({ "type": "transcript.partial", "call_id": call, "leg": leg, "start": 1.0, "words": words, "text": text })
    }

    #[test]
    fn a_partial_longer_than_the_terminal_keeps_its_newest_words_on_one_row() {
        let mut screen = Screen::new(true, true);
        for columns in 1..120 {
            let drawn = screen.show(
                &partial("a", "caller", "please enter your password and then the pound key"),
                Some((24, columns)),
            );
            let line = drawn.rsplit("\x1b[J").next().unwrap().trim_end_matches('\n');
            assert!(!line.contains('\n'));
            assert!(measure_text_width(line) < usize::from(columns).max(2), "{columns}: {line:?}");
            if columns > 40 {
                assert!(console::strip_ansi_codes(line).ends_with("key …"), "{columns}: {line:?}");
            }
        }
    }

    #[test]
    fn open_lines_are_taken_away_before_a_final_and_drawn_again_below() {
        let mut screen = Screen::new(true, false);
        screen.show(&partial("a", "caller", "one"), Some((24, 80)));
        screen.show(&partial("b", "callee", "two"), Some((24, 80)));
        let last = json!({ "type": "transcript.final", "call_id": "a", "leg": "caller", "start": 1.0, "text": "One." });
        let drawn = screen.show(&last, Some((24, 80)));
        assert_eq!(drawn, "\x1b[2F\x1b[Jcall 1    1.00 s  caller: One.\ncall 2    1.00 s  callee: two …\n");
    }

    #[test]
    fn a_call_that_runs_already_gets_a_heading_once() {
        let mut screen = Screen::new(true, false);
        let event = partial("a", "caller", "one");
        assert_eq!(screen.newcomer(&event), Some("a"));
        let record = json!({ "channel": { "caller": { "number": "6001" }, "exten": "100" } });
        assert_eq!(screen.joined("a", &record, None), "call 1  running: 6001 → 100  (a)\n");
        assert_eq!(screen.newcomer(&event), None);
        assert_eq!(screen.newcomer(&json!({ "type": "call.started", "call_id": "b" })), None);
        assert_eq!(screen.newcomer(&json!({ "type": "ari.connected", "call_id": "" })), None);
        assert_eq!(screen.joined("c", &Value::Null, None), "call 2  running: unknown  (c)\n");
    }

    #[test]
    fn a_lost_connection_takes_the_open_lines_with_it() {
        let mut screen = Screen::new(true, false);
        screen.show(&partial("a", "caller", "one"), Some((24, 80)));
        let drawn = screen.interrupted("the server stops", Some((24, 80)));
        assert_eq!(drawn, "\x1b[1F\x1b[J… the server stops: connecting again, to go on from here\n");
    }

    #[test]
    fn a_terminal_that_became_narrower_is_cleared_of_all_broken_rows() {
        let mut screen = Screen::new(true, false);
        screen.show(&partial("a", "caller", "seven words that fill more than thirty"), Some((24, 80)));
        let drawn = screen.show(&partial("a", "caller", "next"), Some((24, 30)));
        assert!(drawn.starts_with("\x1b[3F"), "{drawn:?}");
    }

    #[test]
    fn more_speakers_than_rows_never_scroll_the_screen() {
        let mut screen = Screen::new(true, false);
        for call in 0..10 {
            let drawn = screen.show(&partial(&call.to_string(), "caller", "word"), Some((5, 80)));
            assert!(drawn.matches('\n').count() <= 4, "{drawn:?}");
        }
    }

    #[test]
    fn what_is_piped_has_no_escapes_and_no_partials() {
        let mut screen = Screen::new(false, false);
        assert_eq!(screen.show(&partial("a", "caller", "one"), None), "");
        let ended =
            json!({ "type": "call.ended", "call_id": "a", "outcome": "completed", "cause_text": "Normal" });
        assert_eq!(screen.show(&ended, None), "call 1  ended: completed, Normal\n");
        assert_eq!(
            screen.show(&json!({ "type": "ari.connected", "call_id": "" }), None),
            "connected to Asterisk\n"
        );
    }
}
