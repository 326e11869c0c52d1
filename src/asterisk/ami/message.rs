//! A message of Asterisk's: headers in order.

/// Headers in the order in which they came; names are compared without regard to case, as Asterisk's own parser does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmiMessage {
    headers: Vec<(String, String)>,
}

impl AmiMessage {
    /// As it comes over the wire, in lines, for tests of what is made of messages.
    #[cfg(test)]
    pub(crate) fn read(lines: &str) -> Self {
        let mut decoder = super::AmiDecoder::default();
        decoder.push(b"Asterisk Call Manager/11.0.0\r\n");
        decoder.push(lines.replace('\n', "\r\n").as_bytes());
        decoder.push(b"\r\n\r\n");
        loop {
            if let super::AmiInput::Message(message) = decoder.take().unwrap().expect("a message") {
                return message;
            }
        }
    }

    pub(super) fn push(&mut self, name: String, value: String) {
        self.headers.push((name, value));
    }

    /// A line without a name goes on with the value before it: values of dialplan variables may hold line breaks.
    pub(super) fn go_on(&mut self, line: &str) {
        if let Some((_, value)) = self.headers.last_mut() {
            value.push('\n');
            value.push_str(line);
        }
    }

    /// Number of headers.
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of `name`, in order: lines of a command's output, variables.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Name of the event; `None` for a response.
    pub fn event(&self) -> Option<&str> {
        self.get("Event")
    }

    /// `Success`, `Error`, `Goodbye`; `None` for an event (of which `OriginateResponse` has a header of this name as well).
    pub fn response(&self) -> Option<&str> {
        if self.event().is_some() { None } else { self.get("Response") }
    }

    /// Id of the action that this belongs to.
    pub fn action_id(&self) -> Option<&str> {
        self.get("ActionID")
    }

    /// What Asterisk says of it in words; empty if nothing.
    pub fn message(&self) -> &str {
        self.get("Message").unwrap_or_default()
    }

    /// Output of `Action: Command`, a line each.
    pub fn output(&self) -> impl Iterator<Item = &str> {
        self.all("Output")
    }

    /// Whether more follows as events with the same ActionID, up to one that says `EventList: Complete`.
    pub fn starts_list(&self) -> bool {
        self.get("EventList").is_some_and(|value| value.eq_ignore_ascii_case("start"))
    }

    /// Whether this event is the last of a list.
    pub fn ends_list(&self) -> bool {
        let ends =
            |value: &str| value.eq_ignore_ascii_case("Complete") || value.eq_ignore_ascii_case("cancelled");
        self.event().is_some() && self.get("EventList").is_some_and(ends)
    }
}
