//! `multipart/form-data` (RFC 7578, RFC 2046), piece by piece. Sans-IO.
//!
//! Of a body of any length no more is held than what was last pushed, a boundary and the head of one part.

use thiserror::Error;

/// Longest head of a part, and longest text before the first one.
const MOST_HEAD: usize = 8 << 10;
/// RFC 2046, 5.1.1.
const MOST_BOUNDARY: usize = 70;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A field begins.
    Begin { name: String, file_name: Option<String> },
    /// Bytes of it.
    Data(Vec<u8>),
    /// It is whole.
    End,
    /// There are no more fields.
    Done,
}

/// A body that is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum FormError {
    #[error("the body is no form: send multipart/form-data with its boundary in the header Content-Type")]
    NoBoundary,
    #[error("the form does not keep to its boundary")]
    Malformed,
    #[error("the head of a field is longer than 8 KiB")]
    LongHead,
    #[error("a field has no name")]
    NoName,
    #[error("the form is cut off")]
    CutOff,
}

enum State {
    Preamble,
    /// Behind a delimiter.
    Delimited,
    Head,
    Body,
    Ended,
    Done,
}

/// The parser.
pub(super) struct Multipart {
    /// A line break, two hyphens and the boundary.
    delimiter: Vec<u8>,
    held: Vec<u8>,
    state: State,
    skipped: usize,
}

impl Multipart {
    /// For a body of this content type.
    ///
    /// # Errors
    /// [`FormError::NoBoundary`].
    pub(super) fn new(content_type: &str) -> Result<Self, FormError> {
        let (kind, parameters) = content_type.split_once(';').ok_or(FormError::NoBoundary)?;
        let boundary = parameter(parameters, "boundary").ok_or(FormError::NoBoundary)?;
        let good = (1..=MOST_BOUNDARY).contains(&boundary.len());
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") || !good {
            return Err(FormError::NoBoundary);
        }
        // The first delimiter may stand at the very start, without its line break.
        let held = b"\r\n".to_vec();
        Ok(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            held,
            state: State::Preamble,
            skipped: 0,
        })
    }

    /// More of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// What comes next; `None` until more is pushed.
    ///
    /// # Errors
    /// [`FormError`], after which there is no way back.
    pub(super) fn next(&mut self) -> Result<Option<Event>, FormError> {
        loop {
            match self.state {
                State::Preamble => {
                    let found = find(&self.held, &self.delimiter);
                    let gone = found.map_or_else(|| self.safe(), |at| at + self.delimiter.len());
                    self.held.drain(..gone);
                    self.skipped += gone;
                    if found.is_none() {
                        return if self.skipped > MOST_HEAD { Err(FormError::Malformed) } else { Ok(None) };
                    }
                    self.state = State::Delimited;
                }
                State::Delimited => {
                    let padding = self.held.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                    match &self.held[padding..] {
                        [b'-', b'-', ..] if padding == 0 => self.state = State::Done,
                        [b'\r', b'\n', ..] => {
                            // The line break stays: a head may be empty.
                            self.held.drain(..padding);
                            self.state = State::Head;
                        }
                        [] | [b'\r' | b'-'] if padding <= MOST_BOUNDARY => return Ok(None),
                        _ => return Err(FormError::Malformed),
                    }
                }
                State::Head => {
                    let Some(end) = find(&self.held, b"\r\n\r\n") else {
                        return if self.held.len() > MOST_HEAD { Err(FormError::LongHead) } else { Ok(None) };
                    };
                    if end > MOST_HEAD {
                        return Err(FormError::LongHead);
                    }
                    let event = begin(&String::from_utf8_lossy(&self.held[..end]))?;
                    self.held.drain(..end + 4);
                    self.state = State::Body;
                    return Ok(Some(event));
                }
                State::Body => {
                    let found = find(&self.held, &self.delimiter);
                    let data = found.unwrap_or_else(|| self.safe());
                    if data > 0 {
                        return Ok(Some(Event::Data(self.held.drain(..data).collect())));
                    }
                    if found.is_none() {
                        return Ok(None);
                    }
                    self.held.drain(..self.delimiter.len());
                    self.state = State::Ended;
                }
                State::Ended => {
                    self.state = State::Delimited;
                    return Ok(Some(Event::End));
                }
                State::Done => {
                    // What follows belongs to nobody.
                    self.held.clear();
                    return Ok(Some(Event::Done));
                }
            }
        }
    }

    /// Bytes that cannot be part of a delimiter that is still coming.
    fn safe(&self) -> usize {
        self.held.len().saturating_sub(self.delimiter.len() - 1)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == wanted[0]) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn begin(head: &str) -> Result<Event, FormError> {
    let is_disposition = |line: &&str| {
        line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
    };
    let line = head.split("\r\n").find(is_disposition).ok_or(FormError::NoName)?;
    let (_, parameters) = line.split_once(';').ok_or(FormError::NoName)?;
    let name = parameter(parameters, "name").ok_or(FormError::NoName)?;
    Ok(Event::Begin { name, file_name: parameter(parameters, "filename") })
}

/// A parameter of a header's value, quoted or not.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (name, value) = rest.split_once('=')?;
        let name = name.trim_matches([';', ' ', '\t']);
        let (value, tail) = match value.trim_start().strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = tail;
    }
}

/// What stands before the closing quotation mark, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return Some((value, &text[at + 1..])),
            '\\' if !escaped => escaped = true,
            _ => {
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: &str = "multipart/form-data; boundary=\"--xy\"";

    /// All events of `body`, pushed in pieces of `piece` bytes; data joined.
    fn parsed(body: &[u8], piece: usize) -> Result<Vec<Event>, FormError> {
        let mut form = Multipart::new(KIND)?;
        let mut events = Vec::new();
        for bytes in body.chunks(piece.max(1)) {
            form.push(bytes);
            while let Some(event) = form.next()? {
                match (events.last_mut(), event) {
                    (_, Event::Done) => {
                        events.push(Event::Done);
                        return Ok(events);
                    }
                    (Some(Event::Data(before)), Event::Data(more)) => before.extend(more),
                    (_, event) => events.push(event),
                }
                assert!(form.held.len() < MOST_HEAD + 2 * piece + 256, "{}", form.held.len());
            }
        }
        Err(FormError::CutOff)
    }

    fn field(name: &str, head: &str, data: &[u8]) -> Vec<u8> {
        let head = format!("----xy\r\nContent-Disposition: form-data; name=\"{name}\"{head}\r\n\r\n");
        [head.as_bytes(), data, b"\r\n"].concat()
    }

    #[test]
    fn fields_and_files_come_apart_however_they_are_cut() {
        let data = b"RIFF\r\n----x\r\n\r\n--\r\n";
        let body = [
            b"nobody reads this\r\n".to_vec(),
            field("model", "", b"whisper-1"),
            field("file", "; filename=\"a \\\"b\\\".wav\"\r\nContent-Type: audio/wav", data),
            field("empty", "", b""),
            b"----xy--\r\nnor this".to_vec(),
        ]
        .concat();
        let begin = |name: &str, file: Option<&str>| Event::Begin {
            name: name.into(),
            file_name: file.map(str::to_owned),
        };
        let expected = [
            begin("model", None),
            Event::Data(b"whisper-1".to_vec()),
            Event::End,
            begin("file", Some("a \"b\".wav")),
            Event::Data(data.to_vec()),
            Event::End,
            begin("empty", None),
            Event::End,
            Event::Done,
        ];
        for piece in [1, 2, 3, 7, 50, 10_000] {
            assert_eq!(parsed(&body, piece).unwrap(), expected, "in pieces of {piece}");
        }
        for end in 0..body.len() - 10 {
            assert_eq!(parsed(&body[..end], 9), Err(FormError::CutOff));
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for kind in
            ["", "multipart/form-data", "multipart/form-data; boundary=", "application/json; boundary=a"]
        {
            assert_eq!(Multipart::new(kind).err(), Some(FormError::NoBoundary), "{kind}");
        }
        assert_eq!(parsed(&vec![b'x'; 20_000], 100), Err(FormError::Malformed));
        assert_eq!(parsed(b"----xyz\r\n", 100), Err(FormError::Malformed));
        assert_eq!(parsed(b"----xy\r\n\r\n", 100), Err(FormError::NoName));
        assert_eq!(parsed(b"----xy\r\nContent-Disposition: form-data\r\n\r\n", 100), Err(FormError::NoName));
        let long = [&b"----xy\r\nX: "[..], &vec![b'x'; 9_000]].concat();
        assert_eq!(parsed(&long, 100), Err(FormError::LongHead));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_form_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..50usize) {
            let _ = parsed(&[b"----xy\r\n".to_vec(), bytes].concat(), piece);
        }

        #[test]
        fn what_was_sent_comes_back(data in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 1..200), piece in 1..50usize) {
            prop_assume!(find(&data, b"\r\n----xy").is_none());
            let body = [field("file", "", &data), b"----xy--".to_vec()].concat();
            let events = parsed(&body, piece).unwrap();
            prop_assert_eq!(&events[1], &Event::Data(data));
        }
    }
}
