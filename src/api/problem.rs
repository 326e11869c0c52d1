//! Errors as users see them: RFC 9457 problem details, each with what to do about it.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::store::StoreError;

/// An `application/problem+json` answer.
#[derive(Debug)]
pub struct Problem(Box<Details>);

#[derive(Debug)]
struct Details {
    status: StatusCode,
    /// Last part of the `type` URN: stable, for programs.
    kind: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    remedy: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this kind: `detail` says what is wrong with this request, `remedy` what to do.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        // Words of errors end without one, and are read together with the remedy.
        let mut detail = detail.into();
        if !detail.ends_with(['.', '!', '?']) {
            detail.to_mut().push('.');
        }
        Self(Box::new(Details { status, kind, title, detail, remedy: remedy.into(), header: None }))
    }

    /// Its status, and what is wrong and to do as a text: for routes whose errors have another shape.
    pub(super) fn in_words(&self) -> (StatusCode, String) {
        (self.0.status, format!("{} {}", self.0.detail, self.0.remedy))
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// 400.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood", detail, remedy)
    }

    /// 404 for a call that is not there, or is another tenant's: nobody can tell which.
    pub fn no_such_call(call_id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-call",
            "No such call",
            format!("There is no call `{call_id}`."),
            "List the calls with GET /api/calls.",
        )
    }

    /// 404 for a file that a call does not have.
    pub fn no_such_file(detail: impl Into<Cow<'static, str>>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-file", "The call has no such file", detail, remedy)
    }

    /// 409.
    pub fn conflict(
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::CONFLICT, kind, title, detail, remedy)
    }

    /// 500, logged with its cause: a disk that fails is worth waking someone.
    pub fn internal(what: &'static str, error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%error, "{what}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something failed here",
            what,
            "The server's log has the cause; try again, and look at /ready.",
        )
    }
}

/// 503, or 507 for a full disk.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let StoreError::Full { .. } = error {
            let (words, remedy) = (error.to_string(), "Make room, then try again.");
            return Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk-full",
                "The disk is full",
                words,
                remedy,
            );
        }
        tracing::warn!(%error, "a request needs the database, which fails");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database-away",
            "The database does not answer",
            "Calls that are over are listed from the database, which does not answer or fails.",
            "Calls that are not over can be listed by their state (`?state=live`); /ready shows how the database stands.",
        )
        .with_header(RETRY_AFTER, HeaderValue::from_static("5"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Details { status, kind, title, detail, remedy, header } = *self.0;
        let body = json!({
            "type": format!("urn:sidetone:problem:{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
            "remedy": remedy,
        });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(header);
        response
    }
}
