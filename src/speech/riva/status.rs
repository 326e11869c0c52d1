//! What Riva's refusals mean.

use std::error::Error;

use tonic::{Code, Status};

use super::RivaConfig;
use crate::speech::remote::StreamError;

/// Whether it may go better if tried again: the same request is not understood any better the second time.
pub(super) fn is_passing(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::FailedPrecondition
            | Code::OutOfRange
    )
}

/// Whether it concerns all streams: nobody is there, or nobody lets us in.
pub(super) fn is_about_the_server(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented
    )
}

/// What happened, and what to do about it.
pub(super) fn in_words(status: &Status, config: &RivaConfig) -> String {
    let mut said = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    // gRPC has the cause of a broken connection further down.
    let mut cause = status.source();
    while let Some(deeper) = cause {
        let text = deeper.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = deeper.source();
    }
    let url = &config.url;
    match status.code() {
        Code::Unavailable => format!("no Riva at {url} ({said}): does it run, and is riva.url right?"),
        Code::Unauthenticated | Code::PermissionDenied => {
            format!("Riva at {url} does not let us in ({said}): see riva.metadata_file and the certificates")
        }
        Code::InvalidArgument | Code::NotFound => {
            format!(
                "Riva at {url} refuses the request ({said}): see riva.model and riva.languages; `sidetone check` lists its models"
            )
        }
        Code::Unimplemented => format!("what answers at {url} is no Riva with speech recognition ({said})"),
        Code::ResourceExhausted => format!("Riva at {url} has no room for one more stream ({said})"),
        code => format!("Riva at {url}: {said} ({code:?})"),
    }
}

/// For the leg whose stream it was.
pub(super) fn error(status: &Status, config: &RivaConfig) -> StreamError {
    StreamError { is_passing: is_passing(status), reason: in_words(status, config) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_setting_and_only_what_may_pass_is_tried_again() {
        let config = RivaConfig { url: "http://riva:50051".into(), ..RivaConfig::default() };
        let words = |code: Code| in_words(&Status::new(code, "said so"), &config);
        assert!(words(Code::Unavailable).contains("riva.url"));
        assert!(words(Code::Unauthenticated).contains("riva.metadata_file"));
        assert!(words(Code::InvalidArgument).contains("riva.languages"));
        for code in [Code::Unavailable, Code::Unknown, Code::ResourceExhausted, Code::Internal, Code::Aborted]
        {
            assert!(is_passing(&Status::new(code, "")), "{code:?}");
            assert!(words(code).contains("said so") && words(code).contains("http://riva:50051"));
        }
        for code in [Code::InvalidArgument, Code::Unauthenticated, Code::Unimplemented] {
            assert!(!is_passing(&Status::new(code, "")), "{code:?}");
        }
    }
}
