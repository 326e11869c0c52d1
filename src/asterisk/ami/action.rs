//! An action, and how it is written. Sans-IO.

use super::error::AmiError;

/// Bytes of a line without its end: what Asterisk 16 and 22 take, measured (`MAX_LINE` in their manager.c is 1,024 with it).
pub(super) const MOST_LINE: usize = 1_022;
/// Lines of an action, measured.
pub(super) const MOST_LINES: usize = 128;

/// An action: its name and headers. Line breaks and NUL in values become spaces, so that no value can begin a header of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmiAction {
    name: String,
    headers: Vec<(&'static str, String)>,
}

impl AmiAction {
    /// An action without headers.
    pub fn new(name: &str) -> Self {
        Self { name: clean(name), headers: Vec::new() }
    }

    /// Add a header; several of one name are allowed where Asterisk takes them (`Variable`).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.headers.push((name, clean(value.as_ref())));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it goes over the wire.
    ///
    /// # Errors
    /// [`AmiError::TooLong`]: Asterisk would not take it.
    pub(super) fn encode(&self, action_id: &str) -> Result<Vec<u8>, AmiError> {
        if self.headers.len() + 2 > MOST_LINES {
            return Err(AmiError::TooLong {
                action: self.name.clone(),
                what: "action",
                most: MOST_LINES,
                unit: "lines",
            });
        }
        let mut text = format!("Action: {}\r\nActionID: {action_id}\r\n", self.name);
        for (name, value) in &self.headers {
            if name.len() + 2 + value.len() > MOST_LINE {
                let (action, what) = (self.name.clone(), *name);
                return Err(AmiError::TooLong {
                    action,
                    what,
                    most: MOST_LINE - name.len() - 2,
                    unit: "bytes",
                });
            }
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Ok(text.into_bytes())
    }
}

fn clean(value: &str) -> String {
    value.chars().map(|c| if matches!(c, '\r' | '\n' | '\0') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_begin_a_header_of_its_own() {
        let action =
            AmiAction::new("Originate").with("Variable", "a=1\r\nApplication: System\r\n\r\nAction: Command");
        let text = String::from_utf8(action.encode("7").unwrap()).unwrap();
        assert_eq!(
            text,
            "Action: Originate\r\nActionID: 7\r\nVariable: a=1  Application: System    Action: Command\r\n\r\n"
        );
    }

    #[test]
    fn what_asterisk_would_not_take_is_refused_with_the_header_that_is_too_long() {
        let fits = AmiAction::new("Ping").with("X", "a".repeat(MOST_LINE - 3));
        assert!(fits.encode("1").is_ok());
        let error = AmiAction::new("Ping").with("X", "a".repeat(MOST_LINE - 2)).encode("1").unwrap_err();
        assert!(error.to_string().contains("Ping") && error.to_string().contains('X'), "{error}");
        let many = |n| (0..n).fold(AmiAction::new("Ping"), |action, _| action.with("Variable", "a=1"));
        assert!(many(MOST_LINES - 2).encode("1").is_ok());
        assert!(many(MOST_LINES - 1).encode("1").is_err());
    }
}
