//! Commands that ask a running server, over its API.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;

use crate::cause;
use crate::config::Settings;

/// Longest wait for an answer: a server that is busy with calls answers all the same.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Which server, and what it wants to be shown.
#[derive(Clone, Debug, Args)]
pub(super) struct ServerArgs {
    /// Address of the server; without it, the one in the settings.
    #[arg(
        long,
        global = true,
        value_name = "http://HOST:PORT",
        env = "SIDETONE_URL",
        help_heading = "Server"
    )]
    url: Option<String>,
    /// API key, where the server asks for one.
    #[arg(long, global = true, env = "SIDETONE_KEY", hide_env_values = true, help_heading = "Server")]
    pub(super) key: Option<String>,
}

impl ServerArgs {
    pub(super) fn address(&self, settings: &Settings) -> String {
        self.url.clone().unwrap_or_else(|| settings.http.bind.to_string())
    }
}

/// A running server.
pub(super) struct Client {
    base: Url,
    key: Option<String>,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(args: &ServerArgs, settings: &Settings) -> anyhow::Result<Self> {
        let address = args.address(settings);
        let address = if address.contains("://") { address } else { format!("http://{address}") };
        let base = Url::parse(&address).ok().filter(Url::has_host);
        let base = base.with_context(|| {
            format!("{address} is not an address of a server: write it as http://HOST:PORT")
        })?;
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { base, key: args.key.clone(), http })
    }

    pub(super) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Value> {
        self.send(self.request(Method::GET, path)?.query(query)).await
    }

    pub(super) async fn post(&self, path: &[&str], body: &Value) -> anyhow::Result<Value> {
        self.send(self.request(Method::POST, path)?.json(body)).await
    }

    fn request(&self, method: Method, path: &[&str]) -> anyhow::Result<RequestBuilder> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        Ok(match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let response = request.send().await.map_err(|error| {
            anyhow::anyhow!("{}: {}: is `sidetone serve` running there?", self.base, cause::innermost(&error))
        })?;
        let status = response.status();
        let text = response.text().await.context("the answer broke off")?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let words = |name: &str| answer[name].as_str().unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED {
            bail!("{}: an API key is needed: --key, or SIDETONE_KEY", self.base);
        }
        match words("detail") {
            "" => bail!("{}: the server answers {status}", self.base),
            detail => bail!("{detail} {}", words("remedy")),
        }
    }
}
