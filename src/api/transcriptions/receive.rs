//! The form of a request: its file to the disk, its fields to memory.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::blocking;
use super::error::{Failure, Param};
use super::multipart::{Event, Multipart};
use crate::audio::Format;
use crate::{files, recording};

/// What is taken, and where it is kept.
#[derive(Clone, Debug)]
pub(in crate::api) struct UploadPolicy {
    /// Folder for uploads; ours alone.
    pub(in crate::api) folder: PathBuf,
    /// Largest file, bytes.
    pub(in crate::api) most_bytes: u64,
    /// Disk that is left to recordings, MiB.
    pub(in crate::api) min_free_mib: u64,
}

/// How long a file stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Keep {
    /// While it is open: it has no name, so that nothing of it is left however the request ends.
    WhileOpen,
    /// Until somebody removes it; on the disk, a power cut notwithstanding, once it is received.
    Named,
}

/// A file, at its start, and what its name says it is.
pub(in crate::api) struct Upload {
    pub(in crate::api) file: File,
    pub(in crate::api) hint: Option<Format>,
    /// Its name in the folder, where it has one.
    pub(in crate::api) name: String,
    /// Its name where it came from.
    pub(in crate::api) client_name: Option<String>,
}

/// All fields but the file may have so many bytes together.
const MOST_FIELDS: usize = 64 << 10;
const MOST_FIELD_COUNT: usize = 64;
/// Whoever sends nothing for so long has gone.
const STALL: Duration = Duration::from_secs(30);
/// The disk is looked at each time so many bytes have come.
const SPACE_CHECK: u64 = 16 << 20;

/// The file and the other fields.
pub(in crate::api) async fn form(
    policy: &UploadPolicy,
    keep: Keep,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Upload, Vec<(String, String)>), Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let parser = Multipart::new(kind).map_err(|error| Failure::bad_form(error.to_string()))?;
    let most = policy.most_bytes;
    let told =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let mut incoming = Incoming { body: body.into_data_stream(), parser };
    let name = uuid::Uuid::now_v7().to_string();
    let mut receiver = Receiver {
        policy,
        keep,
        name,
        received: false,
        file: None,
        hint: None,
        client_name: None,
        bytes: 0,
        fields: Vec::new(),
        in_fields: 0,
    };
    // Nothing of it need be kept to know, and whoever asks before sending is told before.
    if told.is_some_and(|length| length > most.saturating_add(2 * MOST_FIELDS as u64)) {
        return Err(Failure::too_large(most));
    }
    receiver.take(&mut incoming).await?;
    let Some(file) = receiver.file.take() else {
        return Err(Failure::bad(Param::File, "The form has no file: send it as the field `file`."));
    };
    let mut file = file.into_std().await;
    file.rewind().map_err(|error| Failure::internal("cannot read the upload", &error))?;
    receiver.received = true;
    let (hint, name, client_name) = (receiver.hint, receiver.name.clone(), receiver.client_name.take());
    Ok((Upload { file, hint, name, client_name }, std::mem::take(&mut receiver.fields)))
}

struct Incoming {
    body: axum::body::BodyDataStream,
    parser: Multipart,
}

impl Incoming {
    async fn bytes(&mut self) -> Result<Option<Bytes>, Failure> {
        let next = tokio::time::timeout(STALL, self.body.next()).await;
        match next.map_err(|_| Failure::too_slow(STALL.as_secs()))? {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(error)) => Err(Failure::bad_form(format!("the upload broke off: {error}"))),
        }
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            match self.parser.next() {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => return Err(Failure::bad_form(error.to_string())),
            }
            let Some(bytes) = self.bytes().await? else {
                return Err(Failure::bad_form(super::multipart::FormError::CutOff.to_string()));
            };
            self.parser.push(&bytes);
        }
    }
}

struct Receiver<'a> {
    policy: &'a UploadPolicy,
    keep: Keep,
    name: String,
    received: bool,
    file: Option<tokio::fs::File>,
    hint: Option<Format>,
    client_name: Option<String>,
    bytes: u64,
    fields: Vec<(String, String)>,
    in_fields: usize,
}

impl Drop for Receiver<'_> {
    /// Nothing stays of a file that was not received, whoever gave up.
    fn drop(&mut self) {
        if self.keep == Keep::Named && !self.received {
            // It may never have been made.
            let _ = std::fs::remove_file(self.policy.folder.join(&self.name));
        }
    }
}

impl Receiver<'_> {
    async fn take(&mut self, incoming: &mut Incoming) -> Result<(), Failure> {
        loop {
            match incoming.next().await? {
                Event::Begin { name, file_name } if name == Param::File.name() => {
                    if self.file.is_some() {
                        return Err(Failure::bad(Param::File, "Send one file at a time."));
                    }
                    self.hint = file_name.as_ref().and_then(|name| Format::of_name(Path::new(name)));
                    self.client_name = file_name;
                    self.keep_file(incoming).await?;
                }
                Event::Begin { name, .. } => {
                    let value = self.keep_field(incoming, name.len()).await?;
                    self.fields.push((name, value));
                }
                Event::Done => return Ok(()),
                Event::Data(_) | Event::End => {}
            }
        }
    }

    async fn keep_file(&mut self, incoming: &mut Incoming) -> Result<(), Failure> {
        self.check_space().await?;
        let spool = self.spool().map_err(|error| Failure::internal("cannot keep the upload", &error))?;
        let mut file = tokio::fs::File::from_std(spool);
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull => Failure::disk_full(),
            _ => Failure::internal("cannot keep the upload", &error),
        };
        loop {
            let Event::Data(data) = incoming.next().await? else { break };
            let before = self.bytes;
            self.bytes += data.len() as u64;
            if self.bytes > self.policy.most_bytes {
                return Err(Failure::too_large(self.policy.most_bytes));
            }
            if self.bytes / SPACE_CHECK != before / SPACE_CHECK {
                self.check_space().await?;
            }
            file.write_all(&data).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        if self.keep == Keep::Named {
            file.sync_all().await.map_err(failed)?;
        }
        self.file = Some(file);
        Ok(())
    }

    fn spool(&self) -> std::io::Result<File> {
        let folder = &self.policy.folder;
        if self.keep == Keep::WhileOpen {
            return files::nameless(folder);
        }
        std::fs::create_dir_all(folder)?;
        let path = folder.join(&self.name);
        let file = files::private().read(true).write(true).create_new(true).open(&path)?;
        File::open(folder)?.sync_all()?;
        Ok(file)
    }

    async fn keep_field(&mut self, incoming: &mut Incoming, name: usize) -> Result<String, Failure> {
        let mut value = Vec::new();
        self.in_fields += name;
        while let Event::Data(data) = incoming.next().await? {
            self.in_fields += data.len();
            if self.in_fields > MOST_FIELDS {
                return Err(Failure::bad_form("The fields of the form have more than 64 KiB."));
            }
            value.extend(data);
        }
        if self.fields.len() >= MOST_FIELD_COUNT {
            return Err(Failure::bad_form("The form has more than 64 fields."));
        }
        String::from_utf8(value).map_err(|_| Failure::bad_form("A field of the form is no UTF-8."))
    }

    /// Recordings come first.
    async fn check_space(&self) -> Result<(), Failure> {
        let folder = self.policy.folder.clone();
        let free = blocking(move || recording::free_mib(&folder)).await?;
        match free {
            Ok(free) if free >= self.policy.min_free_mib + (SPACE_CHECK >> 20) => Ok(()),
            Ok(_) => Err(Failure::disk_full()),
            Err(error) => Err(Failure::internal("cannot see how much room the disk has", &error)),
        }
    }
}
