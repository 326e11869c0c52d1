//! Numbers that must not be called: a file, read again when it has changed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::number::Number;
use crate::config::tts_calls::{CallRules, Countries};

/// The list cannot be known, and so nobody is called.
#[derive(Debug, thiserror::Error)]
pub enum DoNotCallError {
    /// It cannot be read.
    #[error(
        "cannot read the numbers that must not be called, {}: {source}. Nobody is called until it can be read (tts_calls.do_not_call)",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line is no number: who it is about would be called.
    #[error(
        "{}, line {line}: {reason}. Nobody is called until it is mended (tts_calls.do_not_call)",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// When a file was written, and how long it is: what changes with it.
type Stamp = (SystemTime, u64);

#[derive(Debug)]
struct List {
    stamp: Stamp,
    /// Region that its numbers were read by.
    region: String,
    numbers: HashSet<String>,
}

/// The lists of all tenants.
#[derive(Debug, Default)]
pub struct DoNotCall {
    lists: Mutex<HashMap<PathBuf, Arc<List>>>,
}

impl DoNotCall {
    /// Whether `number` is on the tenant's list. Reads the file if it has changed.
    ///
    /// # Errors
    /// [`DoNotCallError`]: then nobody may be called.
    pub fn has(&self, number: &Number, rules: &CallRules) -> Result<bool, DoNotCallError> {
        let Some(path) = &rules.do_not_call else { return Ok(false) };
        Ok(self.list(path, rules)?.numbers.contains(&number.to_string()))
    }

    fn list(&self, path: &Path, rules: &CallRules) -> Result<Arc<List>, DoNotCallError> {
        let unreadable = |source| DoNotCallError::Unreadable { path: path.to_owned(), source };
        let data = std::fs::metadata(path).map_err(unreadable)?;
        let stamp = (data.modified().map_err(unreadable)?, data.len());
        let region = rules.region.map(|region| region.to_string()).unwrap_or_default();
        let known = self.lists.lock().get(path).cloned();
        if let Some(list) = known.filter(|list| list.stamp == stamp && list.region == region) {
            return Ok(list);
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let bad = |line, reason| DoNotCallError::Line { path: path.to_owned(), line, reason };
        let numbers = parse(&text, rules).map_err(|(line, reason)| bad(line, reason))?;
        let list = Arc::new(List { stamp, region, numbers });
        self.lists.lock().insert(path.to_owned(), list.clone());
        Ok(list)
    }
}

/// One number a line; `#` begins a remark at the beginning of a line or after a space, so that `*21#` stays an extension.
fn parse(text: &str, rules: &CallRules) -> Result<HashSet<String>, (usize, String)> {
    // A list may name whom one may not call anyway.
    let rules = CallRules { countries: Countries::Any, allow_extensions: true, ..rules.clone() };
    let mut numbers = HashSet::new();
    for (index, line) in text.lines().enumerate() {
        let end = line
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|&at| at == 0 || line[..at].ends_with(char::is_whitespace));
        let line = line[..end.unwrap_or(line.len())].trim();
        if line.is_empty() {
            continue;
        }
        match Number::parse(line, &rules) {
            Ok(number) => drop(numbers.insert(number.to_string())),
            // Nobody calls these, list or not.
            Err(super::NumberError::Emergency { .. } | super::NumberError::Premium { .. }) => {}
            Err(error) => return Err((index + 1, error.to_string())),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn rules(file: &Path) -> CallRules {
        let mut settings = Settings::default();
        settings.tts_calls.region = "CO".into();
        settings.tts_calls.allow_extensions = true;
        settings.tts_calls.do_not_call = Some(file.to_owned());
        settings.call_rules("default").unwrap()
    }

    #[test]
    fn a_number_is_found_however_it_is_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let list = "# wishes of customers\n\n300 505 0149   # since May\n+1 201-555-0123\n100\n*21#\n";
        std::fs::write(file.path(), list).unwrap();
        let (rules, lists) = (rules(file.path()), DoNotCall::default());
        let has = |given: &str| {
            let number =
                Number::parse(given, &CallRules { countries: Countries::Any, ..rules.clone() }).unwrap();
            lists.has(&number, &rules).unwrap()
        };
        for given in ["+573005050149", "3005050149", "+12015550123", "100", "*21#"] {
            assert!(has(given), "{given}");
        }
        assert!(!has("3005050148") && !has("101"));
        let none = CallRules { do_not_call: None, ..rules.clone() };
        assert!(!lists.has(&Number::parse("100", &none).unwrap(), &none).unwrap());
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "3005050149\n").unwrap();
        let (rules, lists) = (rules(file.path()), DoNotCall::default());
        let number = Number::parse("3005050148", &rules).unwrap();
        assert!(!lists.has(&number, &rules).unwrap());
        std::fs::write(file.path(), "3005050149\n3005050148\n").unwrap();
        assert!(lists.has(&number, &rules).unwrap());
    }

    #[test]
    fn a_list_that_cannot_be_read_stops_everything() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "3005050149\nMr Perez\n").unwrap();
        let (rules, lists) = (rules(file.path()), DoNotCall::default());
        let number = Number::parse("3005050148", &rules).unwrap();
        let error = lists.has(&number, &rules).unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("Mr Perez") && error.contains("do_not_call"),
            "{error}"
        );
        let gone = CallRules { do_not_call: Some("/nowhere/list".into()), ..rules };
        assert!(lists.has(&number, &gone).unwrap_err().to_string().contains("/nowhere/list"));
    }
}
