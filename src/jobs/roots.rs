//! Files that messages name: inside the folders of `jobs.roots`, and nowhere else.
//!
//! Names are not trusted to lead where they seem to: the kernel resolves them below the root and refuses what leads out (`openat2` with
//! `RESOLVE_BENEATH`, Linux 5.6), so that nobody can exchange a folder for a link between the look and the use. What is
//! opened so is used by its descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use super::error::JobError;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};

/// The folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    roots: Vec<String>,
}

/// Why a path is not used.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Nothing is allowed.
    #[error("{}: no folder is open to jobs: name those that are in jobs.roots", .0.display())]
    NoRoots(PathBuf),
    /// Not absolute, or with `..`.
    #[error("{}: paths are absolute and without `..`", .0.display())]
    Form(PathBuf),
    /// Elsewhere.
    #[error("{}: outside of what is open to jobs (jobs.roots)", .0.display())]
    Outside(PathBuf),
    /// A link leads elsewhere.
    #[error("{}: a link leads out of what is open to jobs (jobs.roots)", .0.display())]
    LeadsOut(PathBuf),
    /// It does not exist.
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    /// A folder or a device.
    #[error("{}: not a file", .0.display())]
    NotAFile(PathBuf),
    /// Larger than what is taken.
    #[error("{}: {bytes} bytes are more than jobs.max_file_mib allows ({most})", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest.
        most: u64,
    },
    /// It cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl PathError {
    /// Whether it may be otherwise next time: a disk that fails, a file that is not there *yet* is not among them.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { source, .. } if !matches!(source.kind(), io::ErrorKind::PermissionDenied))
    }
}

impl From<PathError> for JobError {
    fn from(error: PathError) -> Self {
        if error.is_transient() { Self::transient(error) } else { Self::permanent(error) }
    }
}

/// An input: open, and found again by [`InputFile::path`] whatever becomes of its name.
#[derive(Debug)]
pub struct InputFile {
    file: File,
}

impl InputFile {
    /// A path that leads to the open file, and to nothing else.
    pub fn path(&self) -> PathBuf {
        descriptor(self.file.as_raw_fd())
    }
}

/// An output's folder: open, and found again by [`OutputPlace::path`] whatever becomes of its name.
#[derive(Debug)]
pub struct OutputPlace {
    folder: OwnedFd,
    name: PathBuf,
}

impl OutputPlace {
    /// A path of the output that leads into the open folder, and nowhere else.
    pub fn path(&self) -> PathBuf {
        self.folder_path().join(&self.name)
    }

    /// A path of the open folder.
    pub fn folder_path(&self) -> PathBuf {
        descriptor(self.folder.as_raw_fd())
    }
}

fn descriptor(fd: i32) -> PathBuf {
    format!("/proc/self/fd/{fd}").into()
}

/// Missing folders on an output's way are made like this; the umask takes away what it does.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

impl Roots {
    /// From `jobs.roots`, in each of which `{tenant}` stands for the tenant's name.
    pub fn new<S: Into<String>>(roots: impl IntoIterator<Item = S>) -> Self {
        Self { roots: roots.into_iter().map(Into::into).collect() }
    }

    /// Open a file of `tenant`'s to read, of at most `most` bytes.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn open(&self, tenant: &str, path: &Path, most: u64) -> Result<InputFile, PathError> {
        let (root, below) = self.split(tenant, path)?;
        // Non-blocking: a pipe of that name must not hold the worker.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(beneath(&root, &below, flags, path)?);
        let meta = file.metadata().map_err(|source| PathError::Io { path: path.into(), source })?;
        if !meta.is_file() {
            return Err(PathError::NotAFile(path.into()));
        }
        if meta.len() > most {
            return Err(PathError::TooLarge { path: path.into(), bytes: meta.len(), most });
        }
        Ok(InputFile { file })
    }

    /// Open the folder that `tenant`'s output `path` is to lie in; folders that are missing below the root are made.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn place(&self, tenant: &str, path: &Path) -> Result<OutputPlace, PathError> {
        let (root, below) = self.split(tenant, path)?;
        let name = below.file_name().map(PathBuf::from).ok_or_else(|| PathError::NotAFile(path.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = open_root(&root, path)?;
        for part in below.parent().into_iter().flat_map(Path::components) {
            let part = Path::new(part.as_os_str());
            match mkdirat(&folder, part, FOLDER_MODE) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(io_error(path, errno)),
            }
            folder = beneath_folder(&folder, part, flags, path)?;
        }
        Ok(OutputPlace { folder, name })
    }

    /// The root that the path lies in, and the rest of it.
    fn split(&self, tenant: &str, path: &Path) -> Result<(PathBuf, PathBuf), PathError> {
        if self.roots.is_empty() {
            return Err(PathError::NoRoots(path.into()));
        }
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        let has_nul = path.as_os_str().as_encoded_bytes().contains(&0);
        if !path.is_absolute() || !path.components().all(plain) || has_nul {
            return Err(PathError::Form(path.into()));
        }
        self.roots
            .iter()
            .find_map(|root| {
                let root = PathBuf::from(root.replace("{tenant}", tenant));
                let below = path.strip_prefix(&root).ok()?.to_owned();
                (!below.as_os_str().is_empty()).then_some((root, below))
            })
            .ok_or_else(|| PathError::Outside(path.into()))
    }
}

fn open_root(root: &Path, path: &Path) -> Result<OwnedFd, PathError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, root, flags, Mode::empty()).map_err(|errno| io_error(path, errno))
}

fn beneath(root: &Path, below: &Path, flags: OFlags, path: &Path) -> Result<OwnedFd, PathError> {
    beneath_folder(&open_root(root, path)?, below, flags, path)
}

fn beneath_folder(folder: &OwnedFd, below: &Path, flags: OFlags, path: &Path) -> Result<OwnedFd, PathError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(folder, below, flags, Mode::empty(), resolve).map_err(|errno| match errno {
        rustix::io::Errno::XDEV => PathError::LeadsOut(path.into()),
        errno => io_error(path, errno),
    })
}

fn io_error(path: &Path, errno: rustix::io::Errno) -> PathError {
    match errno {
        rustix::io::Errno::NOENT => PathError::Missing(path.into()),
        rustix::io::Errno::NOTDIR => PathError::NotAFile(path.into()),
        errno => PathError::Io { path: path.into(), source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_inside_is_opened_and_its_descriptor_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("acme")).unwrap();
        let path = folder.path().join("acme/a.gsm");
        std::fs::write(&path, b"gsm").unwrap();
        let roots = Roots::new([format!("{}/{{tenant}}", folder.path().display())]);
        let input = roots.open("acme", &path, 3).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(std::fs::read(input.path()).unwrap(), b"gsm");
        assert!(matches!(roots.open("other", &path, 3), Err(PathError::Outside(_))));
        assert!(matches!(roots.open("acme", &path, 3), Err(PathError::Missing(_))));
    }

    #[test]
    fn nothing_leads_out() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), b"s").unwrap();
        symlink(outside.path(), root.path().join("folder")).unwrap();
        symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
        symlink(
            "../".to_owned() + outside.path().file_name().unwrap().to_str().unwrap(),
            root.path().join("up"),
        )
        .unwrap();
        symlink("/proc/self/root", root.path().join("magic")).unwrap();
        let roots = Roots::new([root.path().to_str().unwrap()]);
        for bad in ["folder/secret", "file", "up/secret", "magic/etc/passwd"] {
            let path = root.path().join(bad);
            let error = roots.open("t", &path, 9).unwrap_err();
            assert!(matches!(error, PathError::LeadsOut(_)), "{bad}: {error:?}");
        }
        assert!(matches!(roots.place("t", &root.path().join("folder/out.wav")), Err(PathError::LeadsOut(_))));
        let dots = format!("{}/../{}", root.path().display(), "x");
        assert!(matches!(roots.open("t", Path::new(&dots), 9), Err(PathError::Form(_))));
        for bad in ["relative.gsm", "", "/a\0b"] {
            assert!(matches!(roots.open("t", Path::new(bad), 9), Err(PathError::Form(_))), "{bad:?}");
        }
        assert!(matches!(roots.open("t", Path::new("/etc/passwd"), 9), Err(PathError::Outside(_))));
        assert!(matches!(roots.open("t", root.path(), 9), Err(PathError::Outside(_))));
        assert!(matches!(Roots::default().open("t", Path::new("/a"), 9), Err(PathError::NoRoots(_))));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let roots = Roots::new([root.path().to_str().unwrap()]);
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir(path("folder.gsm")).unwrap();
        rustix::fs::mknodat(CWD, path("pipe.gsm"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        for bad in ["folder.gsm", "pipe.gsm"] {
            assert!(matches!(roots.open("t", &path(bad), 9), Err(PathError::NotAFile(_))), "{bad}");
        }
        File::create(path("big.gsm")).unwrap().set_len(2 << 30).unwrap();
        let error = roots.open("t", &path("big.gsm"), 1 << 30).unwrap_err();
        assert!(error.to_string().contains("jobs.max_file_mib"), "{error}");
    }

    #[test]
    fn an_output_has_its_folders_made() {
        let root = tempfile::tempdir().unwrap();
        let roots = Roots::new([root.path().to_str().unwrap()]);
        let place = roots.place("t", &root.path().join("a/b/out.wav")).unwrap();
        std::fs::write(place.path(), b"x").unwrap();
        assert_eq!(std::fs::read(root.path().join("a/b/out.wav")).unwrap(), b"x");
    }
}
