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
    use serde_json::{Value, json};

    use crate::calls::hub::EventKind;
    use crate::media::leg::Leg;
    use crate::speech::engine::LegOverload;
    use crate::speech::ladder::{Rung, RungChange};

    fn schema() -> Value {
        serde_json::from_str(include_str!("page/events.schema.json")).unwrap()
    }

    #[test]
    fn the_schema_knows_every_field_of_overload() {
        let schema = schema();
        let rung = Rung::LiveOff;
        let change = RungChange { rung, name: rung.name(), lag_s: 4.5, utilisation: 1.5, is_climb: true };
        let leg = LegOverload { call_id: "c".into(), leg: Leg::Callee, live: false, from: 0.0 };
        for (definition, body) in [
            ("overload_of_node", serde_json::to_value(change).unwrap()),
            ("overload_of_leg", serde_json::to_value(leg).unwrap()),
        ] {
            let fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
            let known = &schema["$defs"][definition];
            let mut required: Vec<_> =
                known["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            required.sort_unstable();
            assert_eq!(required, fields, "{definition}");
            let described: Vec<_> = known["properties"].as_object().unwrap().keys().collect();
            assert_eq!(described, fields, "{definition}");
        }
        let names = Rung::ALL.map(Rung::name);
        let node = &schema["$defs"]["overload_of_node"]["properties"];
        assert_eq!(node["name"]["enum"], json!(names));
        assert_eq!(node["rung"]["maximum"], json!(names.len() - 1));
    }

    #[test]
    fn the_schema_knows_every_type_of_event() {
        let schema = schema();
        let known = schema["$defs"]["event"]["properties"]["type"]["enum"].as_array().unwrap();
        for kind in EventKind::ALL {
            assert!(known.iter().any(|name| name == kind.as_str()), "{}", kind.as_str());
        }
        assert_eq!(known.len(), EventKind::ALL.len());
    }
}
