//! Engines that are servers.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::json;

use super::{SynthesisError, Wanted, text};
use crate::cause;

/// Characters that Google Translate's endpoint takes at a time.
const GOOGLE_CHARS: usize = 200;
/// The longest answer: an hour of MP3 at 128 kbit/s is 58 MB.
const MOST_BYTES: usize = 64 << 20;
/// Of an error's body, so much is passed on.
const MOST_WORDS: usize = 300;

pub(super) fn client(timeout: Duration) -> Result<Client, SynthesisError> {
    // Only the first call installs; whoever installed one before did just the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .timeout(timeout)
        .user_agent(concat!("sidetone/", env!("CARGO_PKG_VERSION")))
        .build();
    client.map_err(|error| SynthesisError::Failed { engine: "http", reason: error.to_string() })
}

pub(super) async fn openai(
    http: &Client,
    url: &str,
    key: &str,
    model: &str,
    wanted: &Wanted,
) -> Result<Vec<Vec<u8>>, SynthesisError> {
    let Wanted { text, voice, speed, .. } = wanted;
    // The one voice that all of OpenAI's models have.
    let voice = if voice.is_empty() { "alloy" } else { voice };
    let body =
        json!({ "model": model, "input": text, "voice": voice, "speed": speed, "response_format": "wav" });
    let mut request = http.post(format!("{}/audio/speech", url.trim_end_matches('/'))).json(&body);
    if !key.is_empty() {
        request = request.bearer_auth(key);
    }
    Ok(vec![fetch("openai", request).await?])
}

pub(super) async fn google(
    http: &Client,
    url: &str,
    wanted: &Wanted,
) -> Result<Vec<Vec<u8>>, SynthesisError> {
    let pieces = text::pieces(&wanted.text, GOOGLE_CHARS);
    let total = pieces.len().to_string();
    let speed = wanted.speed.to_string();
    let mut spoken = Vec::with_capacity(pieces.len());
    for (n, piece) in pieces.into_iter().enumerate() {
        let (number, length) = (n.to_string(), piece.chars().count().to_string());
        let query = [
            ("ie", "UTF-8"),
            ("client", "tw-ob"),
            ("tl", &wanted.language),
            ("q", piece),
            ("idx", &number),
            ("total", &total),
            ("textlen", &length),
            ("ttsspeed", &speed),
        ];
        spoken.push(fetch("google", http.get(url).query(&query)).await?);
    }
    Ok(spoken)
}

async fn fetch(engine: &'static str, request: RequestBuilder) -> Result<Vec<u8>, SynthesisError> {
    let lost = |error: reqwest::Error| {
        // The address may hold what was to be said: it does not belong into logs.
        let reason = cause::chain(&error.without_url());
        SynthesisError::Unavailable { engine, reason }
    };
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > MOST_BYTES {
            let reason = format!("it answered with more than {} MiB", MOST_BYTES >> 20);
            return Err(SynthesisError::Failed { engine, reason });
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    let words: String = String::from_utf8_lossy(&body).chars().take(MOST_WORDS).collect();
    let reason = format!("{status} {}", words.split_whitespace().collect::<Vec<_>>().join(" "));
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            SynthesisError::Unavailable { engine, reason }
        }
        status if status.is_server_error() => SynthesisError::Unavailable { engine, reason },
        _ => SynthesisError::Failed { engine, reason },
    })
}
