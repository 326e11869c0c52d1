//! Files fetched from URLs that strangers name: only from where it is allowed, no further than that by redirections, and never from this
//! machine or its private networks unless an address of theirs is named in the settings.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::cause;
use crate::files;

/// A server that says nothing for this long is away.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
const REDIRECTIONS: usize = 5;

/// Fetches files.
#[derive(Clone, Debug)]
pub struct Fetcher {
    allowed: Arc<Allowed>,
    /// For the addresses that the settings name, and for anywhere else.
    named: Client,
    anywhere: Client,
}

#[derive(Debug)]
struct Allowed {
    prefixes: Vec<String>,
    anywhere: bool,
}

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client cannot be made.
    #[error("no HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// Not a URL.
    #[error("`{0}` is no http:// or https:// URL")]
    Url(String),
    /// Not from there.
    #[error("{0}: files are not fetched from there; transcriptions.fetch_from says from where")]
    NotAllowed(String),
    /// The server refuses, or has no such file.
    #[error("{url}: the server answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// What it says.
        status: reqwest::StatusCode,
    },
    /// The file is too large.
    #[error("{url}: more than {most} bytes (jobs.max_file_mib)")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The most.
        most: u64,
    },
    /// The network fails.
    #[error("{url}: {}", cause::innermost(.source))]
    Network {
        /// What was asked for.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The disk fails.
    #[error("{url}: cannot be kept: {source}")]
    Disk {
        /// What was asked for.
        url: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl FetchError {
    /// Whether it may work next time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 429),
            // What the policy of redirections refused stays refused.
            Self::Network { source, .. } => !source.is_redirect(),
            Self::Disk { .. } => true,
            Self::Client(_) | Self::Url(_) | Self::NotAllowed(_) | Self::TooLarge { .. } => false,
        }
    }
}

/// A file without a name.
#[derive(Debug)]
pub struct Fetched(File);

impl Fetched {
    /// A path that leads to it while it is open.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

impl Fetcher {
    /// From where `transcriptions.fetch_from` says.
    ///
    /// # Errors
    /// [`FetchError::Client`].
    pub fn new(from: &[String]) -> Result<Self, FetchError> {
        let allowed = Arc::new(Allowed {
            prefixes: from.iter().filter(|from| *from != "*").cloned().collect(),
            anywhere: from.iter().any(|from| from == "*"),
        });
        let client = |policy: Policy| {
            Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).redirect(policy).no_proxy()
        };
        let (to_named, to_public) = (allowed.clone(), allowed.clone());
        let named = client(Policy::custom(move |attempt| {
            let good = attempt.previous().len() <= REDIRECTIONS && to_named.names(attempt.url());
            if good {
                attempt.follow()
            } else {
                attempt.error("redirected to where files are not fetched from")
            }
        }));
        let anywhere = client(Policy::custom(move |attempt| {
            let good =
                attempt.previous().len() <= REDIRECTIONS && to_public.anywhere && is_public(attempt.url());
            if good {
                attempt.follow()
            } else {
                attempt.error("redirected to where files are not fetched from")
            }
        }));
        Ok(Self {
            allowed,
            named: named.build().map_err(FetchError::Client)?,
            anywhere: anywhere.dns_resolver(Arc::new(PublicOnly)).build().map_err(FetchError::Client)?,
        })
    }

    /// Whether files are fetched from there at all.
    ///
    /// # Errors
    /// [`FetchError::Url`], [`FetchError::NotAllowed`].
    pub fn check(&self, url: &str) -> Result<(), FetchError> {
        self.client_for(url).map(drop)
    }

    fn client_for(&self, url: &str) -> Result<(&Client, Url), FetchError> {
        let parsed =
            Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let parsed = parsed.ok_or_else(|| FetchError::Url(url.to_owned()))?;
        if self.allowed.names(&parsed) {
            return Ok((&self.named, parsed));
        }
        if self.allowed.anywhere && is_public(&parsed) {
            return Ok((&self.anywhere, parsed));
        }
        Err(FetchError::NotAllowed(url.to_owned()))
    }

    /// Fetch `url` into a file of `folder` that has no name; at most `most` bytes.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, url: &str, folder: &Path, most: u64) -> Result<Fetched, FetchError> {
        let (client, parsed) = self.client_for(url)?;
        let network = |source: reqwest::Error| FetchError::Network {
            url: url.to_owned(),
            source: source.without_url(),
        };
        let disk = |source| FetchError::Disk { url: url.to_owned(), source };
        let mut response = client.get(parsed).send().await.map_err(network)?;
        if !response.status().is_success() {
            return Err(FetchError::Status { url: url.to_owned(), status: response.status() });
        }
        let too_large = || FetchError::TooLarge { url: url.to_owned(), most };
        if response.content_length().is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let mut file = files::nameless(folder).map_err(disk)?;
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            bytes += chunk.len() as u64;
            if bytes > most {
                return Err(too_large());
            }
            file.write_all(&chunk).map_err(disk)?;
        }
        Ok(Fetched(file))
    }
}

impl Allowed {
    /// By what a URL says after it was parsed: `https://good@bad/` begins with what is good.
    fn names(&self, url: &Url) -> bool {
        url.username().is_empty()
            && url.password().is_none()
            && self.prefixes.iter().any(|prefix| {
                let Ok(allowed) = Url::parse(prefix) else { return false };
                allowed.scheme() == url.scheme()
                    && allowed.host() == url.host()
                    && allowed.port_or_known_default() == url.port_or_known_default()
                    && url.path().starts_with(allowed.path())
            })
    }
}

/// Whether an address that is written as numbers is anybody's; names are looked at when they are resolved.
fn is_public(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().map_or(!host.is_empty(), is_public_address)
}

fn is_public_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // RFC 6890: this network, carrier's NAT, benchmarks, and what is reserved besides what std knows.
            let special = a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
                || a >= 240
                || (a == 192 && b == 0);
            !(special
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation())
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            // RFC 4291: only 2000::/3 is given to anybody; of it 2002::/16 and 64:ff9b:: lead to IPv4, 2001::/23 to tunnels and tests.
            (first & 0xe000) == 0x2000 && first != 0x2002 && !(first == 0x2001 && v6.segments()[1] < 0x0200)
        }
    }
}

/// A name that leads to a private address leads nowhere.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public_address(address.ip())).collect();
            if public.is_empty() {
                return Err("it has no address outside of private networks".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetcher(from: &[&str]) -> Fetcher {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Fetcher::new(&from.iter().map(|from| (*from).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_what_the_settings_name_is_asked() {
        let fetcher = fetcher(&["https://files.example/calls/"]);
        assert!(fetcher.check("https://files.example/calls/a.wav").is_ok());
        for bad in [
            "https://files.example/other/a.wav",
            "http://files.example/calls/a.wav",
            "https://files.example:8443/calls/a.wav",
            "https://files.example@evil.example/calls/a.wav",
            "https://user@files.example/calls/a.wav",
            "https://files.example/calls/../other/a.wav",
            "https://evil.example/calls/a.wav",
        ] {
            assert!(matches!(fetcher.check(bad), Err(FetchError::NotAllowed(_))), "{bad}");
        }
        for bad in ["file:///etc/passwd", "a.wav", "ftp://files.example/calls/a"] {
            assert!(matches!(fetcher.check(bad), Err(FetchError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn anywhere_is_not_this_machine_nor_a_private_network() {
        let fetcher = fetcher(&["*"]);
        assert!(
            fetcher.check("https://files.example/a.wav").is_ok() && fetcher.check("http://8.8.8.8/a").is_ok()
        );
        for bad in [
            "http://127.0.0.1/a",
            "http://10.1.2.3/a",
            "http://192.168.0.1/",
            "http://169.254.169.254/latest",
            "http://0.0.0.0/",
            "http://[::1]/a",
            "http://[::ffff:10.0.0.1]/a",
            "http://[fd00::1]/a",
            "http://[fe80::1]/a",
            "http://2130706433/",
            "http://100.64.0.1/",
            "http://0x7f.1/",
            "http://[2002:7f00:1::]/",
        ] {
            assert!(matches!(fetcher.check(bad), Err(FetchError::NotAllowed(_))), "{bad}");
        }
        assert!(matches!(fetcher.check("https://x.example/"), Ok(())));
        assert!(matches!(self::fetcher(&[]).check("https://x.example/"), Err(FetchError::NotAllowed(_))));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_resolved() {
        let error =
            fetcher(&["*"]).fetch("http://localhost:9/a", &std::env::temp_dir(), 9).await.unwrap_err();
        let words = format!("{error:?}");
        assert!(words.contains("private networks"), "{words}");
    }
}
