//! The status page, and the schema of events.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

/// Scripts and styles are in the page itself; it talks to its own server and to nobody else.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      media-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Calls and transcripts as they happen.
pub(super) async fn index() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("page/index.html"))).into_response()
}

/// JSON Schema of what the event WebSockets send.
pub(super) async fn event_schema() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], include_str!("page/events.schema.json"))
        .into_response()
}

#[cfg(test)]
mod tests {
    use crate::calls::hub::EventKind;

    #[test]
    fn the_schema_knows_every_type_of_event() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("page/events.schema.json")).unwrap();
        let known = schema["$defs"]["event"]["properties"]["type"]["enum"].as_array().unwrap();
        for kind in EventKind::ALL {
            assert!(known.iter().any(|name| name == kind.as_str()), "{}", kind.as_str());
        }
        assert_eq!(known.len(), EventKind::ALL.len());
    }
}
