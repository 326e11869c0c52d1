//! Asterisk's folder for call files (pbx_spool): what appears in it is placed at once, and removed when the call is over.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::crash::{self, Step};

/// Where files are written, beside the spool: a file that Asterisk sees must be whole.
const STAGING: &str = "sidetone-tts";
const SUFFIX: &str = ".call";
/// After the name of a file that was taken back. No id has a dot, so that it is no other call's.
const TAKEN: &str = ".taken";
/// Asterisk reads them, and notes in them what it does.
const MODE: u32 = 0o664;
/// What Asterisk writes into a file once it calls.
const BEGUN: &str = "StartRetry:";

/// A file's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jobs::call) enum Filed {
    /// Asterisk has not looked at it.
    Waiting,
    /// The call is under way.
    Begun,
    /// It lies beside the spool, where Asterisk does not look: nobody is called by it.
    Withheld,
    /// There is none: the call is over, or was never filed.
    Gone,
}

/// The folder.
#[derive(Clone, Debug)]
pub(in crate::jobs::call) struct Spool {
    folder: PathBuf,
}

impl Spool {
    pub(in crate::jobs::call) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Put a call file there, in one step. Blocks.
    pub(super) fn put(&self, id: &str, text: &str) -> io::Result<()> {
        self.staging()?;
        if !self.folder.is_dir() {
            let missing = format!("{} is no folder", self.folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, missing));
        }
        let draft = self.draft(id);
        let mut file =
            std::fs::File::options().write(true).create(true).truncate(true).mode(MODE).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        crash::here(Step::Written);
        std::fs::rename(draft, self.path(id))
    }

    /// Take a file back before Asterisk calls; whether nobody will be called by it. Blocks.
    pub(in crate::jobs::call) fn take_back(&self, id: &str) -> io::Result<bool> {
        self.staging()?;
        let taken = self.taken(id);
        match std::fs::rename(self.path(id), &taken) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        let text = std::fs::read_to_string(&taken)?;
        std::fs::remove_file(&taken)?;
        Ok(!text.contains(BEGUN))
    }

    /// Look at a file. Blocks.
    pub(in crate::jobs::call) fn look(&self, id: &str) -> io::Result<Filed> {
        match std::fs::read_to_string(self.path(id)) {
            Ok(text) if text.contains(BEGUN) => Ok(Filed::Begun),
            Ok(_) => Ok(Filed::Waiting),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.look_beside(id),
            Err(error) => Err(error),
        }
    }

    /// A process that died between writing a file and putting it there, or between taking it back and removing it, left it beside.
    fn look_beside(&self, id: &str) -> io::Result<Filed> {
        if self.draft(id).try_exists()? {
            return Ok(Filed::Withheld);
        }
        match std::fs::read_to_string(self.taken(id)) {
            Ok(text) if text.contains(BEGUN) => Ok(Filed::Gone),
            Ok(_) => Ok(Filed::Withheld),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Filed::Gone),
            Err(error) => Err(error),
        }
    }

    /// The calls that have something beside the spool. Blocks.
    pub(in crate::jobs::call) fn withheld(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.beside()).into_iter().flatten().flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        let of =
            |name: String| Some(name.strip_suffix(TAKEN).unwrap_or(&name).strip_suffix(SUFFIX)?.to_owned());
        names.filter_map(of).collect()
    }

    /// Remove what lies beside; it is well if there is nothing. Blocks.
    pub(in crate::jobs::call) fn discard(&self, id: &str) -> io::Result<()> {
        for path in [self.draft(id), self.taken(id)] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(name(id))
    }

    fn draft(&self, id: &str) -> PathBuf {
        self.beside().join(name(id))
    }

    fn taken(&self, id: &str) -> PathBuf {
        self.beside().join(format!("{}{TAKEN}", name(id)))
    }

    fn beside(&self) -> PathBuf {
        self.folder.with_file_name(STAGING)
    }

    /// It is made if need be.
    fn staging(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.beside())
    }
}

fn name(id: &str) -> String {
    format!("{id}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_is_taken_back_while_nobody_was_called() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("outgoing");
        let spool = Spool::new(&folder);
        let error = spool.put("job-1", "Channel: x\n").unwrap_err();
        assert!(error.to_string().contains("outgoing is no folder"), "{error}");
        std::fs::create_dir(&folder).unwrap();
        spool.put("job-1", "Channel: x\n").unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("job-1.call")).unwrap(), "Channel: x\n");
        assert_eq!(spool.look("job-1").unwrap(), Filed::Waiting);
        assert!(spool.take_back("job-1").unwrap());
        assert_eq!(spool.look("job-1").unwrap(), Filed::Gone);
        assert!(!spool.take_back("job-1").unwrap(), "Asterisk was done with it");

        // A process died on the way there, or on the way back.
        let beside = above.path().join(STAGING);
        for (name, text, found) in [
            ("job-3.call", "Channel: x\n", Filed::Withheld),
            ("job-3.call.taken", "Channel: x\n", Filed::Withheld),
            ("job-3.call.taken", "Channel: x\n\nStartRetry: 1 1 (2)\n", Filed::Gone),
        ] {
            std::fs::write(beside.join(name), text).unwrap();
            assert_eq!(spool.look("job-3").unwrap(), found, "{name}");
            assert_eq!(spool.withheld(), ["job-3"]);
            spool.discard("job-3").unwrap();
            assert_eq!(spool.look("job-3").unwrap(), Filed::Gone);
        }

        spool.put("job-2", "Channel: x\n\nStartRetry: 1 1 (2)\n").unwrap();
        assert_eq!(spool.look("job-2").unwrap(), Filed::Begun);
        assert!(!spool.take_back("job-2").unwrap(), "somebody is being called");
        assert_eq!(std::fs::read_dir(beside).unwrap().count(), 0, "nothing is left");
    }
}
