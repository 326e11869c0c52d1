//! Makes what was written durable, once a checkpoint for a whole file system: one call, however many recordings.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock;
use crate::media::time::MediaInstant;

/// The file systems with open recordings on them.
#[derive(Debug, Default)]
pub struct Syncer {
    systems: Mutex<HashMap<u64, System>>,
    /// When the last complete round began; what was written before is durable.
    durable_ns: AtomicU64,
    failing: AtomicBool,
}

#[derive(Debug)]
struct System {
    file: Arc<File>,
    recordings: usize,
}

impl Syncer {
    /// A recording began, with `file` open. Returns what to hand to [`Syncer::release`].
    pub fn enlist(&self, file: &File) -> io::Result<u64> {
        let device = file.metadata()?.dev();
        let file = Arc::new(file.try_clone()?);
        let mut systems = self.systems.lock();
        if systems.is_empty() {
            self.durable_ns.store(clock::now().as_nanos(), Ordering::Relaxed);
        }
        systems.entry(device).or_insert(System { file, recordings: 0 }).recordings += 1;
        Ok(device)
    }

    /// A recording was sealed.
    pub fn release(&self, device: u64) {
        let mut systems = self.systems.lock();
        if let Some(system) = systems.get_mut(&device) {
            system.recordings -= 1;
            if system.recordings == 0 {
                systems.remove(&device);
            }
        }
    }

    /// Whether anything is being recorded.
    pub fn is_idle(&self) -> bool {
        self.systems.lock().is_empty()
    }

    /// Make everything written so far durable. Takes as long as the disks do.
    pub fn sync(&self) {
        let began = clock::now();
        let files: Vec<Arc<File>> = self.systems.lock().values().map(|system| system.file.clone()).collect();
        for file in files {
            if let Err(error) = rustix::fs::syncfs(&*file) {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the disk did not take what was recorded; see the system log (dmesg)");
                }
                return;
            }
        }
        self.failing.store(false, Ordering::Relaxed);
        self.durable_ns.store(began.as_nanos(), Ordering::Relaxed);
    }

    /// What was written before this instant is durable.
    pub fn durable_until(&self) -> MediaInstant {
        MediaInstant::from_nanos(self.durable_ns.load(Ordering::Relaxed))
    }
}
