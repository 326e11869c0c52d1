//! Room on the disk.

use std::io;
use std::path::Path;

/// What users other than root may still write below `folder`, MiB.
///
/// # Errors
/// There is no such folder, or its file system cannot say.
pub fn free_mib(folder: &Path) -> io::Result<u64> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}
