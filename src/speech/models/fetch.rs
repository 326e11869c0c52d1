//! A model from a server: one request, which goes on where the one before stopped (RFC 9110, sections 13.1.5 and 14).

use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::part::{Origin, Part};
use super::pull::{Hitch, LONGEST, Patience, Pull, PullError, Step, Tell};
use super::source::{below, shown};
use crate::cause;

/// Longest time until a connection stands, through whatever proxy.
const CONNECT: Duration = Duration::from_secs(15);
/// A model is behind a redirection or two.
const REDIRECTIONS: usize = 10;

/// A client that takes the proxies of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) and the system's
/// certificates.
pub(super) fn client(patience: &Patience) -> Result<Client, PullError> {
    let redirections = redirect::Policy::custom(|attempt| {
        let downgraded = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
            && attempt.url().scheme() != "https";
        if downgraded {
            attempt.error("it leads from an encrypted connection to one that is not")
        } else if attempt.previous().len() > REDIRECTIONS {
            attempt.error("it leads in circles")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .user_agent(concat!("sidetone/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT.min(patience.stall))
        .read_timeout(patience.stall)
        .redirect(redirections)
        .build()
        .map_err(|error| PullError::Tls(cause::innermost(&error)))
}

/// One attempt at what is missing of the file.
pub(super) async fn attempt(
    pull: &Pull<'_>,
    client: &Client,
    base: &Url,
    part: &mut Part,
    tell: Tell<'_>,
) -> Result<(), Hitch> {
    let url = below(base, &pull.file_name());
    let place = shown(&url);
    let have = part.length();
    if have > 0 && pull.expected.bytes == Some(have) {
        return Ok(());
    }
    let request = client.get(url).header(ACCEPT_ENCODING, "identity");
    let same_place = part.origin.url == place;
    let request = match (&part.origin.validator, have) {
        (_, 0) => request,
        (Some(validator), _) if same_place => {
            request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, validator)
        }
        // The checksum will tell whether the two halves are of one file.
        _ if pull.expected.sha256.is_some() => request.header(RANGE, format!("bytes={have}-")),
        _ => request,
    };
    let response = request.send().await.map_err(|error| hitch(&error, &place))?;
    let origin = Origin { url: place.clone(), validator: validator(response.headers()) };
    let total = match place_of(&response, have) {
        Answer::From { total } => total,
        Answer::All { total } => {
            if have > 0 {
                tell(Step::Afresh(
                    "the server sends all of it: it changed there, or cannot be resumed".into(),
                ));
            }
            restart(part, origin)?;
            total
        }
        Answer::Complete => return Ok(()),
        Answer::Elsewhere => {
            restart(part, Origin::default())?;
            let why = "the server has another part of it than what is missing: from the start".into();
            return Err(Hitch::Passing { why, after: Some(Duration::ZERO) });
        }
        Answer::None => return Err(refusal(&response, pull, &place)),
    };
    if let Some(total) = total {
        pull.fits(total, part.length())?;
    }
    let total = total.or(pull.expected.bytes);
    tell(Step::Begin { have: part.length(), total });
    take(pull, response, part, total, tell).await
}

async fn take(
    pull: &Pull<'_>,
    mut response: Response,
    part: &mut Part,
    total: Option<u64>,
    tell: Tell<'_>,
) -> Result<(), Hitch> {
    let place = pull.place();
    while let Some(bytes) = response.chunk().await.map_err(|error| hitch(&error, &place))? {
        let room = total.unwrap_or(LONGEST).saturating_sub(part.length());
        if bytes.len() as u64 > room {
            if total.is_none() {
                restart(part, Origin::default())?;
                return Err(PullError::TooLong { place }.into());
            }
            let (have, should) = (part.length() + bytes.len() as u64, part.length() + room);
            restart(part, Origin::default())?;
            return Err(pull.wrong_size(have, should).into());
        }
        pull.keep(part, &bytes)?;
        tell(Step::At(part.length()));
    }
    match total {
        Some(total) if part.length() < total => {
            let why = format!("the connection ended after {} of {total} bytes", part.length());
            Err(Hitch::Passing { why, after: None })
        }
        _ => Ok(()),
    }
}

fn restart(part: &mut Part, origin: Origin) -> Result<(), PullError> {
    part.restart(origin).map_err(|error| PullError::Write { path: part.path.clone(), error })
}

/// What an answer brings.
enum Answer {
    /// What comes after the bytes that are there.
    From { total: Option<u64> },
    /// The whole file.
    All { total: Option<u64> },
    /// Nothing: all is there.
    Complete,
    /// Some other part of the file.
    Elsewhere,
    /// No file.
    None,
}

fn place_of(response: &Response, have: u64) -> Answer {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    match response.status() {
        StatusCode::PARTIAL_CONTENT => match range.and_then(content_range) {
            Some((Some(from), total)) if from == have => Answer::From { total },
            _ => Answer::Elsewhere,
        },
        StatusCode::RANGE_NOT_SATISFIABLE => match range.and_then(content_range) {
            Some((None, Some(total))) if total == have => Answer::Complete,
            _ if have > 0 => Answer::Elsewhere,
            _ => Answer::None,
        },
        status if status.is_success() => Answer::All { total: response.content_length() },
        _ => Answer::None,
    }
}

/// First byte and length of the file: `bytes 5-9/10`, `bytes */10`, `bytes 5-9/*`.
fn content_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let from = match range.trim() {
        "*" => None,
        range => Some(range.split_once('-')?.0.trim().parse().ok()?),
    };
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((from, total))
}

/// A weak ETag does not say that every byte is the same.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

fn refusal(response: &Response, pull: &Pull<'_>, place: &str) -> Hitch {
    let status = response.status();
    let answer = format!("HTTP {status}");
    let refused =
        |remedy| Hitch::Final(PullError::Refused { url: place.to_owned(), answer: answer.clone(), remedy });
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Hitch::Final(PullError::NotThere {
            file: pull.file_name(),
            place: place.strip_suffix(&pull.file_name()).unwrap_or(place).to_owned(),
            answer,
        }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => refused(
            "it wants to know who asks; write the URL as https://user:password@host/…, or take another mirror",
        ),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            refused("the proxy wants to know who asks; set HTTPS_PROXY=http://user:password@proxy:port")
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Hitch::Passing { why: answer, after: retry_after(response) }
        }
        status if status.is_server_error() => Hitch::Passing { why: answer, after: retry_after(response) },
        _ => refused("correct --from or speech.models_url, or take another mirror"),
    }
}

/// In seconds. That it may be a date as well is no matter: the own pause will do then.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

fn hitch(error: &reqwest::Error, place: &str) -> Hitch {
    if error.is_redirect() {
        let remedy = "correct --from or speech.models_url, or take another mirror";
        return Hitch::Final(PullError::Refused {
            url: place.to_owned(),
            answer: cause::innermost(error),
            remedy,
        });
    }
    let why =
        if error.is_timeout() { "the server sends nothing".to_owned() } else { cause::innermost(error) };
    Hitch::Passing { why, after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(content_range("bytes */10"), Some((None, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((Some(5), None)));
        for none in ["", "bytes", "bytes 5/10", "items 5-9/10", "bytes -9/10", "bytes 5-9/x"] {
            assert_eq!(content_range(none), None, "{none}");
        }
    }

    #[test]
    fn a_weak_tag_is_no_ground_to_resume() {
        let headers = |pairs: &[(HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        assert_eq!(validator(&headers(&[(ETAG, "\"a\"")])).as_deref(), Some("\"a\""));
        assert_eq!(validator(&headers(&[(ETAG, "W/\"a\"")])), None);
        let date = "Wed, 22 Mar 2023 00:00:00 GMT";
        assert_eq!(validator(&headers(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, date)])).as_deref(), Some(date));
    }
}
