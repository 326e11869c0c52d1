//! Events other than words, each as a line.

use serde_json::Value;

/// What happened, for people. Events of types that are not known here show their type and what plain values they carry.
pub(super) fn note(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let seconds = |name: &str| event[name].as_f64().unwrap_or_default();
    let leg = text("leg");
    match event["type"].as_str().unwrap_or_default() {
        "ari.connected" => "connected to Asterisk".to_owned(),
        "ari.disconnected" => format!("no connection to Asterisk: {}", text("reason")),
        "call.started" => {
            let channel = &event["channel"];
            let from = [&channel["caller_number"], &channel["caller_name"], &channel["name"]];
            format!("started: {}  ({})", parties(from, &channel["dialled"]), text("call_id"))
        }
        "call.detected" => {
            let channel = &event["channel"];
            let from = [&channel["caller_number"], &channel["caller_name"], &channel["name"]];
            format!("in Asterisk: {}", parties(from, &channel["dialled"]))
        }
        "call.answered" => "answered".to_owned(),
        "call.rejected" => format!("not taken: {}", text("reason")),
        "call.ended" => {
            let pending = if event["transcript"] == "pending" { "; its transcript is caught up" } else { "" };
            format!("ended: {}{}{pending}", text("outcome"), after(", ", &text("cause_text")))
        }
        "leg.started" => format!("{leg} is heard"),
        "leg.stalled" => format!("{leg}: no packets"),
        "leg.resumed" => format!("{leg}: packets again after {:.1} s", seconds("silent_ms") / 1_000.0),
        "leg.interrupted" => format!("{leg} is interrupted{}", after(": ", &text("reason"))),
        "leg.failed" => format!("{leg} is not heard{}", after(": ", &text("reason"))),
        "leg.gap" => {
            format!("{leg}: {:.2} s {} at {:.2} s", seconds("duration"), text("kind"), seconds("start"))
        }
        "dtmf" => format!("{leg} pressed {}", text("digit")),
        "playback.started" => format!("the caller hears {:.1} s of audio", seconds("duration")),
        "playback.finished" => {
            format!("the caller heard {:.1} s of audio: {}", seconds("played"), text("reason"))
        }
        "recording.saved" => format!("recorded: {:.1} s  {}", seconds("duration_s"), text("path")),
        "transcript.saved" => {
            let complete = if event["complete"] == true { "" } else { "not complete, " };
            format!("transcribed: {complete}{:.1} s  {}", seconds("duration"), text("path"))
        }
        "recording.failed" => format!("not recorded: {}", text("error")),
        "overload" if leg.is_empty() => {
            format!("load of speech to text: {}, finals wait {:.1} s", text("name"), seconds("lag_s"))
        }
        "overload" => {
            let live = event["live"].as_bool().unwrap_or_default();
            let is = if live { "has words again" } else { "has no words while it lasts" };
            format!("{leg} {is}, from {:.1} s on", seconds("from"))
        }
        "gap" => match event["missed"].as_u64() {
            Some(missed) => format!(
                "… {missed} events missed: this terminal was too slow, or the server was started again"
            ),
            None => "… events missed: this terminal was too slow, or the server was started again".to_owned(),
        },
        other => format!("{other}{}", plain_values(event)),
    }
}

/// Who speaks in a call that began before one looked, by its record as the API has it.
pub(super) fn joined(call: &str, record: &Value) -> String {
    let channel = &record["channel"];
    let from = [&channel["caller"]["number"], &channel["caller"]["name"], &channel["name"]];
    format!("running: {}  ({call})", parties(from, &channel["exten"]))
}

/// The first of `from` that is known, and whom it called.
fn parties(from: [&Value; 3], to: &Value) -> String {
    let known = |part: &Value| part.as_str().filter(|part| !part.is_empty()).map(ToOwned::to_owned);
    let who = from.into_iter().find_map(known).unwrap_or_else(|| "unknown".to_owned());
    let dialled = known(to).map(|to| format!(" → {to}")).unwrap_or_default();
    who + &dialled
}

fn after(separator: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{separator}{text}") }
}

fn plain_values(event: &Value) -> String {
    let envelope = ["v", "seq", "position", "time", "tenant", "call_id", "type"];
    let body = event.as_object().into_iter().flatten().filter(|(name, _)| !envelope.contains(&name.as_str()));
    body.filter_map(|(name, value)| match value {
        Value::String(text) => Some(format!("  {name} {text}")),
        Value::Number(number) => Some(format!("  {name} {number}")),
        Value::Bool(flag) => Some(format!("  {name} {flag}")),
        _ => None,
    })
    .collect()
}
