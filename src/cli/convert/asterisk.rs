//! Conversion by Asterisk's own codecs.

use std::path::Path;

use anyhow::{Context, bail};
use tokio::runtime::Runtime;

use super::{ConvertArgs, Job, keep_what_is_there};
use crate::asterisk::ami::{AmiClient, AmiNotice, file_convert};
use crate::audio::convert::{Converted, Target, read_back};
use crate::config::Settings;

/// A connection to Asterisk.
pub(super) struct Asterisk {
    runtime: Runtime,
    client: AmiClient,
}

impl Asterisk {
    pub(super) fn connect(args: &ConvertArgs, settings: &Settings) -> anyhow::Result<Self> {
        if args.channel.is_some() || args.rate.is_some() || args.from.is_some() {
            bail!("Asterisk goes by the names of the files: leave out --channel, --rate and --from");
        }
        let config = crate::cli::serve::ami_config(settings).context(
            "ami.user is empty: name the user of manager.conf that may run commands, and its password",
        )?;
        let runtime = crate::cli::runtime()?;
        let client = runtime.block_on(async {
            let (client, mut notices) = AmiClient::connect(config)?;
            match notices.next().await {
                Some(AmiNotice::Disconnected { reason }) => Err(anyhow::Error::from(reason)),
                _ => Ok(client),
            }
        })?;
        Ok(Self { runtime, client })
    }

    /// Whatever Asterisk says, what counts is the file.
    pub(super) fn convert(&self, args: &ConvertArgs, job: &Job) -> anyhow::Result<Converted> {
        keep_what_is_there(args, job)?;
        let input = std::fs::canonicalize(&job.input).with_context(|| "cannot be opened".to_owned())?;
        let folder =
            job.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder =
            std::fs::canonicalize(folder).with_context(|| format!("cannot use {}", folder.display()))?;
        let name = job.output.file_name().context("OUT is a folder: name a file")?;
        // Asterisk knows GSM in WAV by `WAV` alone.
        let extension = if job.target == Target::Wav49 { "WAV" } else { job.target.extension() };
        let draft = folder.join(format!(".sidetone-{}.{extension}", uuid::Uuid::now_v7()));
        let done =
            self.runtime.block_on(file_convert(&self.client, &input, &draft)).map_err(anyhow::Error::from);
        let done = done
            .and_then(|_| read_back(&draft, None).context("Asterisk wrote a file that cannot be read back"));
        let done = done.and_then(|converted| {
            let output = folder.join(name);
            std::fs::rename(&draft, &output)
                .with_context(|| format!("cannot name it {}", output.display()))?;
            Ok(converted)
        });
        if done.is_err() {
            // Asterisk may not have begun one.
            let _ = std::fs::remove_file(&draft);
        }
        done
    }
}
