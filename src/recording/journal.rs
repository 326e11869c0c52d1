//! The gaps of an open recording, on disk beside it: `<call>.wav.part.gaps`, JSON lines.
//!
//! A line is written before the samples that it speaks of, and only when there is something to say: when a gap begins
//! (without a length) and when it has ended (the same start, with its length; the later line counts). A gap without an end
//! reaches to the end of the file. The journal stays until the report is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::gaps::{GapTrack, Tracks};
use crate::files;
use crate::media::slot::SlotState;

/// What is known of a recording besides its samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// Call sample of frame 0.
    pub origin: Option<i64>,
    /// Wall-clock time of frame 0.
    pub started_at: Option<jiff::Timestamp>,
    /// Gaps and pauses.
    pub tracks: Tracks,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Gap {
        track: usize,
        start: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        samples: Option<u64>,
        kind: SlotState,
    },
    Start {
        origin: i64,
        started_at: jiff::Timestamp,
    },
    /// The gaps of what is written ahead of frame `certain`, up to frame `until`: the last such line counts, as long as
    /// there is nothing behind that.
    Ahead {
        certain: u64,
        until: u64,
        gaps: Vec<(usize, u64, u64, SlotState)>,
    },
}

/// Where the journal of `part` (`<call>.wav.part`) is.
pub fn path_of(part: &Path) -> PathBuf {
    let mut path = part.as_os_str().to_owned();
    path.push(".gaps");
    path.into()
}

/// Read the journal of `part`, whose file holds `frames` frames. Lines that make no sense, torn ones among them, are
/// skipped; no journal reads as an empty one.
pub fn read(part: &Path, frames: u64) -> io::Result<Notes> {
    let text = match std::fs::read(path_of(part)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut notes = Notes::default();
    let mut ahead = None;
    let mut gaps: [BTreeMap<u64, (Option<u64>, SlotState)>; Tracks::COUNT] = Default::default();
    for line in text.split(|&b| b == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Line::Start { origin, started_at }) => {
                notes.origin = Some(origin);
                notes.started_at = Some(started_at);
            }
            Ok(Line::Gap { track, start, samples, kind }) if track < Tracks::COUNT && start < frames => {
                gaps[track].insert(start, (samples, kind));
            }
            Ok(Line::Ahead { certain, until, gaps }) => ahead = Some((certain, until, gaps)),
            _ => {}
        }
    }
    // What lies behind it was not written ahead. Then all before it was written for good since, with lines of its own.
    if let Some((certain, until, ahead)) = ahead
        && frames <= until
    {
        close_at(&mut gaps, certain);
        for (track, start, samples, kind) in ahead {
            if track < Tracks::COUNT && start < frames {
                gaps[track].entry(start).or_insert((Some(samples), kind));
            }
        }
    }
    for (track, gaps) in notes.tracks.all_mut().into_iter().zip(gaps) {
        let mut end = 0;
        for (start, (samples, kind)) in gaps {
            // Overlaps do not come from us; whoever wrote them, gaps stay in order.
            let from = start.max(end);
            end = samples.map_or(frames, |n| start.saturating_add(n).min(frames)).max(end);
            track.note(from, end - from, kind);
        }
    }
    Ok(notes)
}

/// Gaps that were open at frame `certain` end there: how they go on stands with what is written ahead. One that began
/// later is among that, too.
fn close_at(gaps: &mut [BTreeMap<u64, (Option<u64>, SlotState)>; Tracks::COUNT], certain: u64) {
    for track in gaps {
        track.retain(|&start, (samples, _)| samples.is_some() || start < certain);
        for (start, (samples, _)) in track {
            samples.get_or_insert_with(|| certain - start);
        }
    }
}

/// Delete the journal of `part`, if there is one.
pub fn remove(part: &Path) -> io::Result<()> {
    match std::fs::remove_file(path_of(part)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the journal of an open recording. The file is open only while a line is written: most calls have few, and a
/// process has only so many descriptors.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Gaps of each track that are on disk with their length.
    ended: [usize; Tracks::COUNT],
    /// Start of the gap that is on disk without one.
    open: [Option<u64>; Tracks::COUNT],
    /// What was told last of the gaps ahead was that there are some.
    ahead: bool,
    lines: Vec<u8>,
}

impl Journal {
    /// Open the journal of `part`, going on behind what it holds.
    pub fn open(part: &Path) -> io::Result<Self> {
        let path = path_of(part);
        let mut file = append_to(&path)?;
        if file.metadata()?.len() > 0 {
            // The last line may be torn.
            file.write_all(b"\n")?;
        }
        Ok(Self {
            path,
            // What is known is told again: of some of it only a line on what was ahead speaks, which the next one undoes.
            ended: [0; Tracks::COUNT],
            open: [None; Tracks::COUNT],
            ahead: false,
            lines: Vec::new(),
        })
    }

    /// Say where frame 0 lies.
    pub fn start(&mut self, origin: i64, started_at: jiff::Timestamp) {
        self.line(&Line::Start { origin, started_at });
    }

    /// Write what is new in `tracks`, a recording of `frames` frames.
    pub fn write(&mut self, tracks: &Tracks, frames: u64) -> io::Result<()> {
        for (index, track) in tracks.all().into_iter().enumerate() {
            let gaps = track.as_slice();
            for gap in &gaps[self.ended[index].min(gaps.len())..] {
                let ended = gap.start_sample + gap.samples < frames;
                if ended {
                    self.ended[index] += 1;
                } else if self.open[index] == Some(gap.start_sample) {
                    continue;
                } else {
                    self.open[index] = Some(gap.start_sample);
                }
                self.line(&Line::Gap {
                    track: index,
                    start: gap.start_sample,
                    samples: ended.then_some(gap.samples),
                    kind: gap.kind,
                });
            }
        }
        self.flush()
    }

    /// Write the gaps `ahead` of the frames `span`, which are written ahead, where those in `tracks` end: if there are any,
    /// were any, or one in `tracks` goes on.
    pub fn write_ahead(&mut self, ahead: &Tracks, tracks: &Tracks, span: Range<u64>) -> io::Result<()> {
        let Range { start: certain, end: until } = span;
        let of_track = |(index, track): (usize, &GapTrack)| -> Vec<_> {
            track.as_slice().iter().map(|gap| (index, gap.start_sample, gap.samples, gap.kind)).collect()
        };
        let gaps: Vec<_> = ahead.all().into_iter().enumerate().flat_map(of_track).collect();
        let ends = tracks.all().into_iter().filter_map(|track| track.as_slice().last());
        let open = ends.map(|gap| gap.start_sample + gap.samples).any(|end| end >= certain);
        if gaps.is_empty() && !open && !self.ahead {
            return Ok(());
        }
        self.ahead = !gaps.is_empty();
        self.line(&Line::Ahead { certain, until, gaps });
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        append_to(&self.path)?.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }

    fn line(&mut self, line: &Line) {
        // A Vec takes everything, and the line's fields all have a JSON form.
        if serde_json::to_writer(&mut self.lines, line).is_ok() {
            self.lines.push(b'\n');
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    files::private().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_survive_with_the_open_one_reaching_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("a.wav.part");
        let mut tracks = Tracks::default();
        let mut journal = Journal::open(&part).unwrap();
        journal.start(-40, jiff::Timestamp::UNIX_EPOCH);
        tracks.legs[0].note(0, 100, SlotState::Silence);
        journal.write(&tracks, 100).unwrap();
        tracks.legs[0].note(100, 20, SlotState::Silence);
        tracks.legs[1].note(150, 10, SlotState::Lost);
        tracks.paused.note(190, 10, SlotState::Silence);
        journal.write(&tracks, 200).unwrap();

        tracks.paused.note(200, 30, SlotState::Silence);
        let notes = read(&part, 230).unwrap();
        assert_eq!(notes.tracks, tracks);
        assert_eq!((notes.origin, notes.started_at), (Some(-40), Some(jiff::Timestamp::UNIX_EPOCH)));

        let mut shorter = tracks.clone();
        shorter.truncate(155);
        assert_eq!(read(&part, 155).unwrap().tracks, shorter);
    }

    #[test]
    fn gaps_ahead_end_open_ones_and_the_last_word_on_them_counts() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("a.wav.part");
        let mut certain = Tracks::default();
        let mut journal = Journal::open(&part).unwrap();
        // Lost up to the boundary and 20 frames beyond it; then whole, but for one gap on the other leg.
        certain.legs[0].note(80, 20, SlotState::Lost);
        journal.write(&certain, 100).unwrap();
        let mut ahead = Tracks::default();
        ahead.legs[0].note(100, 20, SlotState::Lost);
        ahead.legs[1].note(150, 10, SlotState::Lost);
        journal.write_ahead(&ahead, &certain, 100..200).unwrap();
        let notes = read(&part, 200).unwrap();
        assert_eq!(
            notes.tracks.legs[0].as_slice().iter().map(|g| (g.start_sample, g.samples)).collect::<Vec<_>>(),
            [(80, 40)]
        );
        assert_eq!(notes.tracks.legs[1].as_slice().len(), 1);

        // All of it was mended meanwhile.
        journal.write(&certain, 200).unwrap();
        journal.write_ahead(&Tracks::default(), &certain, 200..300).unwrap();
        let notes = read(&part, 300).unwrap();
        assert_eq!(
            notes.tracks.legs[0].as_slice().iter().map(|g| (g.start_sample, g.samples)).collect::<Vec<_>>(),
            [(80, 20)]
        );
        assert_eq!(notes.tracks.legs[1].as_slice().len(), 0);
    }

    #[test]
    fn gaps_ahead_are_forgotten_once_more_than_that_is_written_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("a.wav.part");
        let mut journal = Journal::open(&part).unwrap();
        let mut ahead = Tracks::default();
        ahead.legs[0].note(120, 30, SlotState::Lost);
        journal.write_ahead(&ahead, &Tracks::default(), 100..200).unwrap();
        // That was mended, and silence has begun, which goes on.
        let mut certain = Tracks::default();
        certain.legs[1].note(180, 70, SlotState::Silence);
        journal.write(&certain, 250).unwrap();
        assert_eq!(read(&part, 250).unwrap().tracks, certain);
    }

    #[test]
    fn a_resumed_journal_and_torn_lines_read_well() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("a.wav.part");
        std::fs::write(
            path_of(&part),
            "{\"track\":0,\"start\":10,\"kind\":\"lost\"}\n\u{1}\n{\"track\":9,\"start\":1,\"kind\":\"lost\"}\n{\"tra",
        )
        .unwrap();
        let mut tracks = read(&part, 50).unwrap().tracks;
        let mut journal = Journal::open(&part).unwrap();
        tracks.legs[0].note(50, 10, SlotState::Lost);
        journal.write(&tracks, 80).unwrap();
        tracks.legs[0].note(90, 10, SlotState::Silence);
        journal.write(&tracks, 110).unwrap();
        assert_eq!(read(&part, 110).unwrap().tracks, tracks);
    }
}
