//! What lies behind an error: an HTTP client says "error sending request", and the reason that helps stands at the end of the chain.

use std::error::Error;
use std::iter::successors;

/// The innermost cause, in its words.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The error and all its causes, in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("error sending request")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_reason_stands_at_the_end() {
        let error = Outer(std::io::Error::other("connection refused"));
        assert_eq!(innermost(&error), "connection refused");
        assert_eq!(chain(&error), "error sending request: connection refused");
    }
}
