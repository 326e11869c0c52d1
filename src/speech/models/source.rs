//! Where models are pulled from: a server, or a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;

/// A place that has models as `ggml-NAME.bin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They lie below this URL.
    Server(Url),
    /// They lie in this folder.
    Folder(PathBuf),
}

/// What is written where a source should be is none.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not a URL.
    #[error("{text} is no URL to pull models from ({reason}): write it as https://host/folder")]
    Url {
        /// As written, without a password.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// No such folder.
    #[error("{} is no folder to pull models from, nor a URL: name a folder that has them, or write https://host/folder", path.display())]
    Folder {
        /// As written.
        path: PathBuf,
    },
}

impl Source {
    /// Read `text`: what begins with `http://` or `https://` is a server, anything else a folder, also as `file://`.
    ///
    /// # Errors
    /// [`SourceError`] for what is neither.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.starts_with("http://") || text.starts_with("https://") {
            let bad = |reason: String| SourceError::Url {
                // What cannot be taken apart may have a password anywhere before its last `@`.
                text: text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned(),
                reason,
            };
            return text.parse::<Url>().map(Self::Server).map_err(|e| bad(e.to_string()));
        }
        let path = PathBuf::from(text.strip_prefix("file://").unwrap_or(text));
        if path.is_dir() { Ok(Self::Folder(path)) } else { Err(SourceError::Folder { path }) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(url) => f.write_str(&shown(url)),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

/// The URL of `file` below `base`, whose query, a key perhaps, goes with it.
pub(super) fn below(base: &Url, file: &str) -> Url {
    let mut url = base.clone();
    // A URL of http always has a path.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(file);
    }
    url
}

/// `url` without what is nobody else's business.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for http.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// The model's file in `folder`, by either form of its name.
pub(super) fn in_folder(folder: &Path, name: &str) -> Option<PathBuf> {
    [format!("ggml-{name}.bin"), format!("{name}.bin")].iter().map(|n| folder.join(n)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_folders_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(Source::parse(path).unwrap(), Source::Folder(path.into()));
        assert_eq!(Source::parse(&format!("file://{path}")).unwrap(), Source::Folder(path.into()));
        assert!(matches!(Source::parse(" https://host/a "), Ok(Source::Server(_))));
        let none = Source::parse("/nowhere/at/all").unwrap_err().to_string();
        assert!(none.contains("/nowhere/at/all") && none.contains("https://host/folder"), "{none}");
        let bad = Source::parse("https://me:secret@ho st/").unwrap_err().to_string();
        assert!(bad.contains("ho st") && !bad.contains("secret"), "{bad}");
    }

    #[test]
    fn a_file_lies_below_its_base_with_the_bases_key() {
        let file = |base: &str| below(&base.parse().unwrap(), "ggml-base.en.bin").to_string();
        assert_eq!(file("https://host"), "https://host/ggml-base.en.bin");
        assert_eq!(file("https://host/a/b/"), "https://host/a/b/ggml-base.en.bin");
        assert_eq!(file("https://host/a/b?key=1"), "https://host/a/b/ggml-base.en.bin?key=1");
    }

    #[test]
    fn secrets_are_not_shown() {
        let source = Source::parse("https://me:secret@host/a?sig=hidden#x").unwrap();
        assert_eq!(source.to_string(), "https://host/a");
    }
}
