//! How to reach the server and what to ask of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::RivaError;
use crate::cause;
use crate::config::{Settings, pair};
use crate::speech::remote::{Fallback, RemoteConfig};

/// A connection that answers no ping for so long is none.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything about a server.
#[derive(Clone, Debug, PartialEq)]
pub struct RivaConfig {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Certificates of whom to trust, PEM; `None`: the usual ones.
    pub authorities: Option<Vec<u8>>,
    /// Our own certificate and its key, PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Name in the server's certificate, where it is not that of the URL.
    pub tls_name: Option<String>,
    /// Sent with every call.
    pub metadata: Vec<(String, String)>,
    /// Name of the model; empty: the server's choice.
    pub model: String,
    /// Tags by Whisper's language code, besides the usual ones.
    pub languages: HashMap<String, String>,
    /// Have it write capitals and punctuation.
    pub punctuation: bool,
    /// Have it write numbers as they are spoken.
    pub verbatim: bool,
    /// How much phrases of the vocabulary are favoured.
    pub boost: f32,
    /// Silence after which it calls words final; `None`: as it is configured.
    pub endpointing: Option<Duration>,
    /// HTTP/2 connections.
    pub connections: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// A connection with streams that is silent for this long is pinged.
    pub keepalive: Duration,
    /// How legs use it.
    pub remote: RemoteConfig,
}

impl Default for RivaConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            authorities: None,
            identity: None,
            tls_name: None,
            metadata: Vec::new(),
            model: String::new(),
            languages: HashMap::new(),
            punctuation: true,
            verbatim: false,
            boost: 10.0,
            endpointing: None,
            connections: 4,
            connect_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(30),
            remote: RemoteConfig::default(),
        }
    }
}

impl RivaConfig {
    /// As the settings have it; `None` if they name no server.
    ///
    /// # Errors
    /// [`RivaError::File`].
    pub fn of(settings: &Settings) -> Result<Option<Self>, RivaError> {
        let riva = &settings.riva;
        if riva.url.is_empty() {
            return Ok(None);
        }
        let read = |setting, path: &Option<PathBuf>| match path {
            None => Ok(None),
            Some(path) => match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(source) => Err(RivaError::File { setting, path: path.clone(), source }),
            },
        };
        let pairs = |list: &[String]| -> Vec<(String, String)> {
            list.iter().filter_map(|entry| pair(entry)).map(|(a, b)| (a.into(), b.into())).collect()
        };
        let millis = Duration::from_millis;
        Ok(Some(Self {
            url: riva.url.clone(),
            authorities: read("riva.ca_file", &riva.ca_file)?,
            identity: read("riva.cert_file", &riva.cert_file)?.zip(read("riva.key_file", &riva.key_file)?),
            tls_name: riva.tls_name.clone(),
            metadata: pairs(&riva.metadata),
            model: riva.model.clone(),
            languages: pairs(&riva.languages).into_iter().collect(),
            punctuation: riva.punctuation,
            verbatim: riva.verbatim,
            boost: riva.boost,
            endpointing: (riva.endpointing_ms > 0).then(|| millis(riva.endpointing_ms)),
            connections: riva.connections,
            connect_timeout: millis(riva.connect_timeout_ms),
            keepalive: millis(riva.keepalive_ms),
            remote: RemoteConfig {
                fallback: if riva.fallback == "none" { Fallback::None } else { Fallback::Local },
                final_timeout: millis(riva.final_timeout_ms),
                retry_for: millis(riva.retry_ms),
                ..RemoteConfig::default()
            },
        }))
    }

    pub(super) fn endpoint(&self) -> Result<Endpoint, RivaError> {
        let url = |reason: String| RivaError::Url { url: self.url.clone(), reason };
        let endpoint = Endpoint::from_shared(self.url.clone()).map_err(|error| url(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_keepalive(Some(self.keepalive))
            .http2_keep_alive_interval(self.keepalive)
            .keep_alive_timeout(PING_TIMEOUT)
            // Servers of gRPC cut off whoever pings a connection without streams.
            .keep_alive_while_idle(false);
        match endpoint.uri().scheme_str() {
            Some("http") => Ok(endpoint),
            Some("https") => endpoint
                .tls_config(self.tls())
                .map_err(|error| RivaError::Tls { url: self.url.clone(), reason: cause::chain(&error) }),
            _ => Err(url("neither http nor https".into())),
        }
    }

    fn tls(&self) -> ClientTlsConfig {
        let mut tls = ClientTlsConfig::new().assume_http2(true);
        tls = match &self.authorities {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_webpki_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        match &self.tls_name {
            Some(name) => tls.domain_name(name),
            None => tls,
        }
    }

    pub(super) fn headers(&self) -> Result<Vec<(AsciiMetadataKey, AsciiMetadataValue)>, RivaError> {
        let header = |(name, value): &(String, String)| {
            let wrong = || RivaError::Metadata { name: name.clone() };
            let key: AsciiMetadataKey = name.to_ascii_lowercase().parse().map_err(|_| wrong())?;
            let mut value: AsciiMetadataValue = value.parse().map_err(|_| wrong())?;
            value.set_sensitive(true);
            Ok((key, value))
        };
        self.metadata.iter().map(header).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(config: RivaConfig) -> String {
        config.endpoint().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn addresses_and_headers_that_cannot_be_are_named() {
        let with = |url: &str| RivaConfig { url: url.into(), ..RivaConfig::default() };
        assert_eq!(wrong(with("http://riva:50051")), "");
        assert_eq!(wrong(with("https://grpc.nvcf.nvidia.com:443")), "");
        for url in ["riva:50051", "ftp://riva", "http://a b"] {
            assert!(wrong(with(url)).contains("riva.url"), "{url}: {}", wrong(with(url)));
        }
        let metadata = vec![("a b".to_owned(), "x".to_owned())];
        let refused = RivaConfig { metadata, ..with("http://riva:50051") }.headers().unwrap_err();
        assert!(refused.to_string().contains("`a b`"));
        let authorities = Some(b"no certificate".to_vec());
        let refused = wrong(RivaConfig { authorities, ..with("https://riva:50051") });
        assert!(refused.is_empty() || refused.contains("riva.ca_file"), "{refused}");
    }
}
