//! What can go wrong with a recording.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::Finished;

/// Why a recording could not begin, go on or be finished. Cheap to clone: the call and its event both get it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordingError {
    /// The part file, or a folder on its way, cannot be made or opened.
    #[error("cannot create recording {}: {source}; {}", path.display(), remedy(source))]
    Create {
        /// The `.wav.part`, or the folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A recording of that name exists already; it is not overwritten.
    #[error("recording {} exists already; give the call another id, or move the file away", path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// Too little free disk to begin.
    #[error(
        "{free_mib} MiB free below {}, recordings need {needed_mib} MiB (recording.min_free_mib); free disk space, or \
         move node.data to a larger disk",
        path.display()
    )]
    LowDisk {
        /// The folder of the recording.
        path: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What is asked for.
        needed_mib: u64,
    },
    /// A leg's ring does not run at the call's rate.
    #[error(
        "call {call_id}: leg {leg} has {ring_hz} samples a second, the call's clock {clock_hz}; make both of one rate"
    )]
    RateMismatch {
        /// The call.
        call_id: String,
        /// The leg.
        leg: &'static str,
        /// Rate of the ring.
        ring_hz: u32,
        /// Rate of the clock.
        clock_hz: u32,
    },
    /// The part file to go on with holds something else.
    #[error(
        "cannot go on with {}: it has {found_hz} frames a second, the call {clock_hz}; move it away", path.display()
    )]
    Resume {
        /// The `.wav.part`.
        path: PathBuf,
        /// Rate in its header.
        found_hz: u32,
        /// Rate of the call.
        clock_hz: u32,
    },
    /// Writing failed. What was written before is kept.
    #[error("recording {} failed after {frames} frames: {source}; {}; {}", path.display(), remedy(source), kept_words(kept.as_deref()))]
    Write {
        /// The `.wav.part`.
        path: PathBuf,
        /// Frames written.
        frames: u64,
        /// The valid, finished file of those frames, where it could be finished.
        kept: Option<Box<Finished>>,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The part file was deleted while being written.
    #[error(
        "recording {} was deleted while open, after {frames} frames; keep other programs away from the recordings of \
         running calls",
        path.display()
    )]
    Vanished {
        /// The `.wav.part`.
        path: PathBuf,
        /// Frames written.
        frames: u64,
    },
    /// All is written, but the file could not be made durable or renamed. The next start tries again.
    #[error("cannot finish recording {} ({step}): {source}; {}; the next start mends it", path.display(), remedy(source))]
    Seal {
        /// The `.wav.part`.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The recorder stopped with the recording open; the part file is there to go on with.
    #[error("the recorder stopped; {} waits to be resumed or mended at the next start", path.display())]
    Stopped {
        /// The `.wav.part`.
        path: PathBuf,
    },
    /// A thread of the recorder could not be started.
    #[error("cannot start a recorder thread: {source}; raise the service's limit on tasks (TasksMax)")]
    Thread {
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl RecordingError {
    pub(super) fn create(path: &Path, source: io::Error) -> Self {
        Self::Create { path: path.to_owned(), source: Arc::new(source) }
    }
}

/// What an operator does about `error`.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    // Out of descriptors has no kind of its own.
    if [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        return "raise the service's limit on open files (LimitNOFILE, ulimit -n)";
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free disk space, or move node.data to a larger disk"
        }
        io::ErrorKind::FileTooLarge => "raise the service's file size limit (LimitFSIZE, ulimit -f)",
        io::ErrorKind::PermissionDenied => "let the service's user write there",
        io::ErrorKind::ReadOnlyFilesystem => "mount the file system writable",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is in the way of a folder: move it, or change node.data"
        }
        io::ErrorKind::NotFound => "keep other programs away from the recordings of running calls",
        _ => "see the system log (dmesg) for the disk's condition",
    }
}

fn kept_words(kept: Option<&Finished>) -> String {
    match kept {
        Some(kept) => format!("what there was is in {}", kept.path.display()),
        None => "the part file is mended at the next start".to_owned(),
    }
}
