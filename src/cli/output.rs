//! Standard output and error, whose reader may have gone and whose disk may be full: `print!` would panic then.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(super) struct OutputError(io::Error);

impl OutputError {
    /// Whoever read it has what it wanted (`| head -1`): nothing is wrong.
    pub(super) fn is_reader_gone(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Write `text` to standard output, all of it, now.
///
/// # Errors
/// [`OutputError`], after which a command has nobody to work for.
pub(super) fn text(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OutputError)
}

/// Write a line to standard output.
///
/// # Errors
/// [`OutputError`].
pub(super) fn line(line: impl Display) -> Result<(), OutputError> {
    text(&format!("{line}\n"))
}

/// Tell the user on standard error. There is nobody to tell if that fails.
pub(super) fn tell(message: impl Display) {
    let _ = writeln!(io::stderr(), "sidetone: {message}");
}
