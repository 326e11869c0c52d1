//! Versions of Asterisk and what each can do.
//!
//! A feature is given by the first release of every branch that has it, as Asterisk back-ports features.

use std::fmt;

use thiserror::Error;

/// A version as Asterisk states it: `22.10.1`, `16.28.0~dfsg-0+deb11u4`, `certified/18.9-cert3`, `GIT-22-1a2b3c4`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsteriskVersion {
    text: String,
    release: Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// Certified ones count as the release that they branched from, though some fixes of later ones are in them.
    Numbered(u16, u16, u16),
    /// Built from a branch: taken for its newest.
    Branch(u16),
    Unknown,
}

/// First releases, in ascending order, one a branch.
type Since = &'static [(u16, u16, u16)];

const EXTERNAL_MEDIA: Since = &[(16, 6, 0), (17, 1, 0)];
const SNOOP_ID: Since = &[(12, 2, 0)];
const SLIN: Since = &[(18, 21, 0), (20, 6, 0), (21, 1, 0), (22, 0, 0)];
const AUDIOSOCKET: Since = &[(18, 0, 0)];
const AUDIOSOCKET_RATES: Since = &[(20, 17, 0), (21, 12, 0), (22, 7, 0), (23, 1, 0)];
const CHAN_WEBSOCKET: Since = &[(20, 18, 0), (22, 8, 0), (23, 2, 0)];

/// What is wrong before a release, and the release.
const KNOWN_BAD: &[(Since, &str)] = &[
    (&[(18, 17, 0), (20, 2, 0)], "a snoop can crash Asterisk (ASTERISK-29604)"),
    (
        &[(18, 25, 0), (20, 10, 0), (21, 5, 0)],
        "adding a channel to a bridge takes 200 ms longer (asterisk#801)",
    ),
    (
        &[(20, 15, 0), (21, 10, 0), (22, 5, 0)],
        "a snoop's audio can be short or crackle (asterisk#1276, #1279)",
    ),
    (
        &[(20, 20, 0), (22, 10, 0), (23, 4, 0)],
        "a hangup can block every ARI and AMI request (asterisk#1907, #1928)",
    ),
    (
        &[(20, 20, 1), (21, 12, 3), (22, 10, 1), (23, 4, 1)],
        "a read-only ARI user can write (GHSA-wcvv-g26m-wx5c), and live_dangerously=no does not bind ARI \
         (GHSA-vrfp-mg3q-3959)",
    ),
];

/// A feature is missing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{feature} needs Asterisk {needed}; this is {have}. {remedy}")]
pub struct Missing {
    /// The feature.
    pub feature: &'static str,
    /// The releases that have it, in words.
    pub needed: String,
    /// This Asterisk.
    pub have: String,
    /// What to do.
    pub remedy: &'static str,
}

/// What an Asterisk can do, judged by its version alone; whether the modules are loaded is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// RTP legs (`POST /channels/externalMedia`): without them there is nothing to hear.
    pub external_media: Result<(), Missing>,
    /// Snoops with ids of our own.
    pub snoop_id: Result<(), Missing>,
    /// RTP legs in `slin`; before, `ulaw` came instead (asterisk#394, seen on 16.28; `slin16` was right there).
    pub slin: Result<(), Missing>,
    /// AudioSocket legs.
    pub audiosocket: Result<(), Missing>,
    /// AudioSocket legs of other rates than 8 kHz; before, all audio was tagged as such.
    pub audiosocket_rates: Result<(), Missing>,
    /// chan_websocket legs, from where their worst faults are mended.
    pub chan_websocket: Result<(), Missing>,
    /// What to expect of this version that is mended in later ones.
    pub known_bad: Vec<&'static str>,
}

impl AsteriskVersion {
    /// Read a version. Never fails: a text that says nothing is taken for a new version of unknown number.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let release = numbered(text).or_else(|| branch(text)).unwrap_or(Release::Unknown);
        Self { text: text.to_owned(), release }
    }

    /// Major number, where it is known.
    pub fn major(&self) -> Option<u16> {
        match self.release {
            Release::Numbered(major, ..) | Release::Branch(major) => Some(major),
            Release::Unknown => None,
        }
    }

    /// What this version can do.
    pub fn capabilities(&self) -> Capabilities {
        const UPGRADE: &str = "Upgrade Asterisk.";
        Capabilities {
            external_media: self.need("ExternalMedia", EXTERNAL_MEDIA, UPGRADE),
            snoop_id: self.need("a snoop with an id", SNOOP_ID, UPGRADE),
            slin: self.need("slin over RTP", SLIN, "Use `ulaw`, `alaw` or `slin16` as `rtp.format`."),
            audiosocket: self.need("AudioSocket", AUDIOSOCKET, "Set media.transport to `rtp`."),
            audiosocket_rates: self.need(
                "AudioSocket at more than 8 kHz",
                AUDIOSOCKET_RATES,
                "Use `slin` as `audiosocket.format`.",
            ),
            chan_websocket: self.need(
                "a media WebSocket that works (chan_websocket)",
                CHAN_WEBSOCKET,
                "Set media.transport to `rtp`.",
            ),
            known_bad: KNOWN_BAD
                .iter()
                .filter(|(since, _)| !self.has(since))
                .map(|(_, what)| *what)
                .collect(),
        }
    }

    fn need(&self, feature: &'static str, since: Since, remedy: &'static str) -> Result<(), Missing> {
        if self.has(since) {
            return Ok(());
        }
        let releases: Vec<_> = since.iter().map(|(a, b, c)| format!("{a}.{b}.{c}")).collect();
        let needed = format!("{} or later in its branch", releases.join(", "));
        Err(Missing { feature, needed, have: self.text.clone(), remedy })
    }

    fn has(&self, since: Since) -> bool {
        let newest_branch = since.last().map_or(0, |(major, ..)| *major);
        match self.release {
            Release::Unknown => true,
            Release::Branch(major) => major > newest_branch || since.iter().any(|first| first.0 == major),
            Release::Numbered(major, minor, patch) => {
                major > newest_branch
                    || since.iter().any(|first| first.0 == major && (major, minor, patch) >= *first)
            }
        }
    }
}

impl fmt::Display for AsteriskVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Capabilities {
    /// Whether RTP legs in `format`, by Asterisk's name of it, come as asked.
    ///
    /// # Errors
    /// [`Missing`] where there are no RTP legs, or another format would come.
    pub fn legs_in(&self, format: &str) -> Result<(), Missing> {
        self.external_media.clone()?;
        if format == "slin" { self.slin.clone() } else { Ok(()) }
    }
}

impl Capabilities {
    /// Whether AudioSocket legs in `format` come as asked.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn audiosocket_in(&self, format: &str) -> Result<(), Missing> {
        self.audiosocket.clone()?;
        if format == "slin" { Ok(()) } else { self.audiosocket_rates.clone() }
    }
}

fn numbered(text: &str) -> Option<Release> {
    let text = text.strip_prefix("Asterisk ").unwrap_or(text);
    let text = text.strip_prefix("certified").map_or(text, |rest| rest.trim_start_matches(['/', '-']));
    let number = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = number.split('.').map(str::parse::<u16>);
    let major = parts.next()?.ok()?;
    let mut part = || parts.next().and_then(Result::ok).unwrap_or(0);
    Some(Release::Numbered(major, part(), part()))
}

fn branch(text: &str) -> Option<Release> {
    let rest = text.strip_prefix("GIT-").or_else(|| text.strip_prefix("SVN-branch-"))?;
    let rest = rest.strip_prefix("certified-").unwrap_or(rest);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    // A commit's name may begin with digits too; a branch's number ends at a dash.
    let ends_well = rest[end..].is_empty() || rest[end..].starts_with(['-', '.']);
    rest[..end].parse().ok().filter(|major| ends_well && *major < 100).map(Release::Branch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        AsteriskVersion::parse(text).release
    }

    #[test]
    fn versions_in_the_field() {
        for (text, expected) in [
            ("22.10.1", Release::Numbered(22, 10, 1)),
            ("22.10.1+dfsg+~cs6.17.60671434-1", Release::Numbered(22, 10, 1)),
            ("16.28.0~dfsg-0+deb11u4", Release::Numbered(16, 28, 0)),
            ("18.26.4-vici", Release::Numbered(18, 26, 4)),
            ("certified/18.9-cert3", Release::Numbered(18, 9, 0)),
            ("certified-20.7-cert4", Release::Numbered(20, 7, 0)),
            ("18.9-cert3", Release::Numbered(18, 9, 0)),
            ("Asterisk 20.5.0", Release::Numbered(20, 5, 0)),
            ("20.20.0-rc1", Release::Numbered(20, 20, 0)),
            ("GIT-18-1a2b3c4", Release::Branch(18)),
            ("GIT-22-6d5c4b3M", Release::Branch(22)),
            ("GIT-master-1a2b3c4", Release::Unknown),
            ("GIT-1a2b3c4", Release::Unknown),
            ("UNKNOWN__and_probably_unsupported", Release::Unknown),
            ("", Release::Unknown),
            ("99999999.1", Release::Unknown),
        ] {
            assert_eq!(release(text), expected, "{text}");
        }
    }

    #[test]
    fn features_follow_their_branches() {
        let can = |text: &str| AsteriskVersion::parse(text).capabilities();
        assert!(can("16.5.1").external_media.is_err());
        assert!(can("16.28.0~dfsg-0+deb11u4").external_media.is_ok());
        assert!(can("17.0.1").external_media.is_err());
        assert!(can("18.0.0").external_media.is_ok());
        assert!(can("16.28.0").slin.is_err());
        assert!(can("19.8.0").slin.is_err());
        assert!(can("18.26.4-vici").slin.is_ok());
        assert!(can("16.28.0").audiosocket.is_err());
        assert!(can("21.12.3").chan_websocket.is_err());
        assert!(can("22.8.0").chan_websocket.is_ok());
        assert!(can("24.0.0").chan_websocket.is_ok());
        assert!(can("GIT-22-1a2b3c4").chan_websocket.is_ok());
        assert!(can("GIT-21-1a2b3c4").chan_websocket.is_err());
    }

    #[test]
    fn a_format_is_refused_where_another_one_would_come() {
        let legs = |text: &str, format| AsteriskVersion::parse(text).capabilities().legs_in(format);
        assert!(legs("16.28.0", "slin").is_err());
        assert!(legs("22.10.1", "slin").is_ok());
        for format in ["ulaw", "alaw", "gsm", "g722", "slin12", "slin16", "slin24", "slin48"] {
            assert!(legs("16.28.0", format).is_ok());
            assert!(legs("16.5.1", format).unwrap_err().to_string().contains("ExternalMedia"));
        }
    }

    #[test]
    fn transports_are_refused_where_asterisk_has_none_with_the_remedy() {
        let can = |text: &str| AsteriskVersion::parse(text).capabilities();
        let refusal = can("16.28.0").audiosocket_in("slin").unwrap_err().to_string();
        assert!(refusal.contains("this is 16.28.0") && refusal.contains("media.transport"), "{refusal}");
        assert!(can("18.9.0").audiosocket_in("slin").is_ok());
        assert!(
            can("22.6.0").audiosocket_in("slin16").unwrap_err().to_string().contains("audiosocket.format")
        );
        assert!(can("22.7.0").audiosocket_in("slin16").is_ok());
        assert!(can("22.7.0").chan_websocket.unwrap_err().to_string().contains("22.8.0"));
    }

    #[test]
    fn a_refusal_names_version_and_remedy() {
        let refusal = AsteriskVersion::parse("16.28.0").capabilities().slin.unwrap_err().to_string();
        assert_eq!(
            refusal,
            "slin over RTP needs Asterisk 18.21.0, 20.6.0, 21.1.0, 22.0.0 or later in its branch; this is 16.28.0. \
             Use `ulaw`, `alaw` or `slin16` as `rtp.format`."
        );
    }

    #[test]
    fn known_bad_versions() {
        assert!(AsteriskVersion::parse("22.10.1").capabilities().known_bad.is_empty());
        assert_eq!(AsteriskVersion::parse("22.10.0").capabilities().known_bad.len(), 1);
        assert_eq!(AsteriskVersion::parse("16.28.0").capabilities().known_bad.len(), KNOWN_BAD.len());
    }
}
