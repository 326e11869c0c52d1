//! Bytes of the connection to messages. Sans-IO.

use super::error::AmiProtocolError;
use super::message::AmiMessage;

/// The longest line that is taken. Asterisk's own events stay below 64 KiB (its string fields of a channel do); a dialplan variable
/// may be as long as its value.
const MOST_LINE: usize = 1 << 20;
/// The most that one message may hold: the output of `core show channels` with 20,000 channels is 2 MB.
const MOST_MESSAGE: usize = 16 << 20;
const GREETING: &str = "Asterisk Call Manager/";

/// What the connection brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmiInput {
    /// The first line: the version of the interface, such as `11.0.0`.
    Greeting(String),
    /// A response or an event.
    Message(AmiMessage),
}

/// Turns what is read, in pieces of any size, into messages.
#[derive(Debug, Default)]
pub struct AmiDecoder {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where no line end is.
    searched: usize,
    greeted: bool,
    message: AmiMessage,
    held: usize,
}

impl AmiDecoder {
    /// Take in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` until more is pushed. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// [`AmiProtocolError`]: what is there is no Asterisk, or has no end. Nothing that follows can be read.
    pub fn take(&mut self) -> Result<Option<AmiInput>, AmiProtocolError> {
        while let Some(line) = self.line()? {
            if !self.greeted {
                let version = line
                    .strip_prefix(GREETING)
                    .ok_or(AmiProtocolError::Greeting { line: line.chars().take(80).collect() })?;
                self.greeted = true;
                return Ok(Some(AmiInput::Greeting(version.to_owned())));
            }
            if line.is_empty() {
                if !self.message.is_empty() {
                    self.held = 0;
                    return Ok(Some(AmiInput::Message(std::mem::take(&mut self.message))));
                }
                continue;
            }
            self.held += line.len();
            if self.held > MOST_MESSAGE {
                return Err(AmiProtocolError::TooLong { what: "message", most: MOST_MESSAGE });
            }
            match line.split_once(':') {
                Some((name, value)) if is_name(name) => {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    self.message.push(name.to_owned(), value.to_owned());
                }
                _ => self.message.go_on(&line),
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<String>, AmiProtocolError> {
        let from = self.searched.max(self.start);
        let Some(at) = self.buffer[from..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            if self.buffer.len() - self.start > MOST_LINE {
                return Err(AmiProtocolError::TooLong { what: "line", most: MOST_LINE });
            }
            return Ok(None);
        };
        let line = &self.buffer[self.start..from + at];
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        self.start = from + at + 1;
        self.searched = self.start;
        Ok(Some(line))
    }
}

/// Asterisk's header names; `ChanVariable(SIP/a-1)` has brackets and `SIP/a-1` in it.
fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(decoder: &mut AmiDecoder) -> Vec<AmiInput> {
        std::iter::from_fn(|| decoder.take().unwrap()).collect()
    }

    const STREAM: &str = "Asterisk Call Manager/11.0.0\r\nResponse: Success\r\nActionID: 1\r\nMessage: Authentication \
                          accepted\r\n\r\nEvent: VarSet\r\nVariable: note\r\nValue: two\nlines: no\r\nUniqueid: \
                          1.2\r\n\r\n\r\nResponse: Success\r\nActionID: 2\r\nMessage:\r\nOutput: System uptime: 4 seconds\r\nOutput: \r\n\r\n";

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_messages() {
        let mut whole = AmiDecoder::default();
        whole.push(STREAM.as_bytes());
        let expected = all(&mut whole);
        assert_eq!(expected.len(), 4);
        for cut in 0..STREAM.len() {
            let mut decoder = AmiDecoder::default();
            let mut got = Vec::new();
            for part in [&STREAM.as_bytes()[..cut], &STREAM.as_bytes()[cut..]] {
                decoder.push(part);
                got.extend(all(&mut decoder));
            }
            assert_eq!(got, expected, "cut at {cut}");
        }
        let mut decoder = AmiDecoder::default();
        let mut got = Vec::new();
        for byte in STREAM.bytes() {
            decoder.push(&[byte]);
            got.extend(all(&mut decoder));
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn headers_are_found_whatever_their_case_and_repeated_ones_are_kept() {
        let mut decoder = AmiDecoder::default();
        decoder.push(STREAM.as_bytes());
        let messages = all(&mut decoder);
        assert_eq!(messages[0], AmiInput::Greeting("11.0.0".into()));
        let AmiInput::Message(accepted) = &messages[1] else { panic!("{messages:?}") };
        assert_eq!((accepted.response(), accepted.action_id()), (Some("Success"), Some("1")));
        assert_eq!(accepted.get("actionid"), Some("1"));
        let AmiInput::Message(output) = &messages[3] else { panic!("{messages:?}") };
        assert_eq!(output.output().collect::<Vec<_>>(), ["System uptime: 4 seconds", ""]);
        assert_eq!(output.message(), "");
    }

    #[test]
    fn a_value_with_a_line_break_stays_one_value_unless_it_looks_like_a_header() {
        let mut decoder = AmiDecoder { greeted: true, ..AmiDecoder::default() };
        decoder.push(b"Event: VarSet\r\nValue: first line\nsecond line, said: so\n: third\r\nX: 1\r\n\r\n");
        let AmiInput::Message(message) = decoder.take().unwrap().unwrap() else { panic!() };
        assert_eq!(message.get("Value"), Some("first line\nsecond line, said: so\n: third"));
        assert_eq!(message.get("X"), Some("1"));
    }

    #[test]
    fn what_is_no_asterisk_and_what_has_no_end_is_refused() {
        let mut decoder = AmiDecoder::default();
        decoder.push(b"SSH-2.0-OpenSSH_9.2\r\n");
        let error = decoder.take().unwrap_err();
        assert!(error.to_string().contains("SSH-2.0"), "{error}");

        let mut decoder = AmiDecoder { greeted: true, ..AmiDecoder::default() };
        decoder.push(&vec![b'a'; MOST_LINE + 1]);
        assert_eq!(decoder.take(), Err(AmiProtocolError::TooLong { what: "line", most: MOST_LINE }));

        let mut decoder = AmiDecoder { greeted: true, ..AmiDecoder::default() };
        let line = [b"X: ".to_vec(), vec![b'a'; MOST_LINE / 2], b"\r\n".to_vec()].concat();
        let outcome = (0..40).find_map(|_| {
            decoder.push(&line);
            decoder.take().err()
        });
        assert_eq!(outcome, Some(AmiProtocolError::TooLong { what: "message", most: MOST_MESSAGE }));
    }
}
