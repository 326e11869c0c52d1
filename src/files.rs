//! Files of people's calls: strangers cannot read them, and a crash leaves the old one or the new one, never half of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::crash::{self, Step};

/// Options that make files which only the service's user and group can read.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o640);
    options
}

/// A file in `folder` (which is made) that has no name: nothing of it is left once it is closed, however that comes.
///
/// # Errors
/// What the file system says.
pub fn nameless(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!(".sidetone-{}", uuid::Uuid::now_v7()));
    let file = private().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Write `contents` to `path` in one step. Does not wait for the disk: a power cut may bring the old file back.
///
/// # Errors
/// What the file system says; what was there before is there still.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    private().write(true).truncate(true).open(&draft)?.write_all(contents)?;
    std::fs::rename(draft, path)
}

/// The same, and have it survive a power cut.
///
/// # Errors
/// As [`replace`].
pub fn replace_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    let mut file = private().write(true).truncate(true).open(&draft)?;
    file.write_all(contents)?;
    file.sync_all()?;
    rename_durably(&draft, path)
}

/// Rename, and make the new name survive a power cut.
///
/// # Errors
/// What the file system says.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    crash::here(Step::Written);
    std::fs::rename(from, to)?;
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    draft.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_kept_from_strangers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for write in [replace, replace_durably] {
            write(&path, b"a long first version").unwrap();
            write(&path, b"second").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"second");
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_replaced_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, b"first").unwrap();
        std::fs::create_dir(folder.path().join("a.json.tmp")).unwrap();
        assert!(replace(&path, b"second").is_err() && replace_durably(&path, b"second").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }
}
