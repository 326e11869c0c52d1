//! From a request to the call it may see.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::auth::Principal;
use super::problem::Problem;
use super::state::AppState;
use crate::calls::record::{CallRecord, is_valid_name};

/// The call named in the path, if the caller may see it.
pub(super) struct VisibleCall(pub(super) Arc<CallRecord>);

impl FromRequestParts<AppState> for VisibleCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let principal = Principal::from_request_parts(parts, state).await?;
        let Path(call_id) = Path::<String>::from_request_parts(parts, state).await?;
        if !is_valid_name(&call_id) {
            return Err(Problem::bad_request(
                "This is not a call id.",
                "Call ids have 1 to 64 letters, digits, `-` and `_`; list them with GET /api/calls.",
            ));
        }
        let record = state.archive.get(&call_id).await?;
        let visible = record.filter(|record| principal.may_see(&record.tenant));
        visible.map(Self).ok_or_else(|| Problem::no_such_call(&call_id))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Absent only on a route that forgot to ask for a key: nothing is shown then.
        let principal = parts.extensions.get::<Self>().cloned();
        principal
            .ok_or_else(|| Problem::internal("no principal on this route", &"route without authentication"))
    }
}

/// Query parameters; what does not parse is a [`Problem`].
#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(Problem))]
pub(super) struct Params<T>(pub(super) T);

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let words = rejection.body_text();
        let words = words.strip_prefix("Failed to deserialize query string: ").unwrap_or(&words);
        Self::bad_request(words.to_owned(), "Correct the query parameters.")
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        let problem = Self::bad_request(rejection.body_text(), "Correct the path.");
        match rejection.status() {
            StatusCode::BAD_REQUEST => problem,
            _ => Self::internal("the path of a route has no id", &rejection),
        }
    }
}

/// Entries of a page unless asked otherwise, and at most.
const PAGE: usize = 50;
const LONGEST_PAGE: usize = 500;

/// How many entries a page of `what` has.
pub(super) fn page_length(asked: Option<usize>, what: &str) -> Result<usize, Problem> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=LONGEST_PAGE => Ok(limit),
        limit => Err(Problem::bad_request(
            format!("`limit` is {limit}."),
            format!("Ask for 1 to {LONGEST_PAGE} {what}, and page on with `next`."),
        )),
    }
}

/// Whose entries a list has for `principal`, who asked for those of the tenant `asked`: `None` for nobody's, since a tenant that asks for
/// another's sees what there is for it; else of one tenant, or of all.
pub(super) fn listed(principal: &Principal, asked: Option<String>) -> Option<Option<String>> {
    if asked.as_deref().is_some_and(|tenant| !principal.may_see(tenant)) {
        return None;
    }
    Some(principal.tenant.as_deref().map(Into::into).or(asked))
}

/// Run what reads a disk where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(what, &error))
}
