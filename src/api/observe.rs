//! Every request is counted, and every answer told not to be guessed at.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::clock;
use crate::telemetry::metric;

/// Count the request by its route, never by its path, which has ids in it; nor log the query, which may have a key.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let began = clock::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let status = response.status();
    metric::HTTP_REQUESTS.add_labelled_twice(("route", route), ("status", status.as_str()), 1);
    tracing::debug!(%method, route, status = status.as_u16(), took = ?clock::since(began), "request");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
