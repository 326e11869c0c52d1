//! `/health`, `/ready`, `/metrics`: for probes, which have no key.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::state::AppState;
use crate::telemetry::metric;
use crate::telemetry::readiness::Health;

/// The process runs and answers. Its name tells `sidetone check` whose port it is.
pub(super) async fn health() -> Response {
    Json(json!({ "status": "ok", "service": "sidetone", "version": env!("CARGO_PKG_VERSION") }))
        .into_response()
}

/// 503 if any dependency has failed. The state of each is shown either way.
pub(super) async fn ready(State(state): State<AppState>) -> Response {
    let readiness = state.readiness.snapshot();
    let status = match readiness.status {
        Health::Ok | Health::Degraded => StatusCode::OK,
        Health::Failed => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(readiness)).into_response()
}

/// Prometheus text format.
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metric::render(&state.metrics))
        .into_response()
}
