//! What the system lets this process do, set once at the start.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// As many open files as the administrator allows: each call has several, and the usual soft limit of 1024 is old.
pub(super) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "limit on open files raised"),
        Err(error) => tracing::warn!(?current, ?maximum, %error, "cannot raise the limit on open files"),
    }
}

/// A file size limit (`LimitFSIZE`, `ulimit -f`) shall fail the write, and with it one recording. Without a handler its
/// signal kills the process, and with it every call.
pub(super) fn survive_file_size_limit() -> std::io::Result<()> {
    // The handler stays when the stream that reports it goes.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}
