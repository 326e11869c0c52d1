//! A model from a folder.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::part::{Origin, Part};
use super::proof::PIECE;
use super::pull::{Hitch, Pull, PullError, Step, Tell};
use super::source::in_folder;

/// Copy all of it: from its beginning, for reading what is there takes as long.
pub(super) async fn copy(
    pull: &Pull<'_>,
    folder: &Path,
    part: &mut Part,
    tell: Tell<'_>,
) -> Result<(), Hitch> {
    let Some(path) = in_folder(folder, pull.name) else {
        return Err(PullError::NotThere {
            file: pull.file_name(),
            place: folder.display().to_string(),
            answer: "no such file".into(),
        }
        .into());
    };
    let cannot_read = |error: io::Error| PullError::Read { path: path.clone(), error };
    let mut file = File::open(&path).map_err(cannot_read)?;
    let total = file.metadata().map_err(cannot_read)?.len();
    pull.fits(total, 0)?;
    let note = Origin { url: path.display().to_string(), validator: None };
    part.restart(note).map_err(|error| PullError::Write { path: part.path.clone(), error })?;
    tell(Step::Begin { have: 0, total: Some(total) });
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(cannot_read)?;
        if read == 0 {
            return Ok(());
        }
        pull.keep(part, &piece[..read])?;
        tell(Step::At(part.length()));
        // Gigabytes take seconds: let an interrupt through.
        tokio::task::yield_now().await;
    }
}
