//! A call whose tenant is Riva's, beside one that is not, and one that asks for what is not there.

use std::time::Duration;

use serde_json::Value;

use crate::support::callers::Call;
use crate::support::lab::{Lab, Version};
use crate::support::riva_server::{Act, Knows, RivaServer};
use crate::support::server::Sidetone;

const OVER: Duration = Duration::from_secs(60);

fn finals<'a>(events: &'a [Value], leg: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["type"] == "transcript.final" && e["leg"] == leg).collect()
}

/// Utterances and revisions without holes, stable words that stay, one final each.
fn assert_promises(events: &[Value], leg: &str) {
    let of_leg = events.iter().filter(|e| e["leg"] == leg && e["utterance"].is_u64());
    let mut last: std::collections::BTreeMap<u64, &Value> = std::collections::BTreeMap::new();
    for event in of_leg {
        let before = last.insert(event["utterance"].as_u64().unwrap(), event);
        let revision = before.map_or(0, |before| before["revision"].as_u64().unwrap());
        assert_eq!(event["revision"], revision + 1, "{event}");
        if let Some(before) = before {
            assert_eq!(before["type"], "transcript.partial", "{event}");
            let words = |event: &Value| event["words"].as_array().unwrap().clone();
            let stable = words(before).iter().take_while(|word| word["stable"] == true).count();
            assert_eq!(words(before)[..stable], words(event)[..stable]);
        }
    }
    assert!(last.values().all(|event| event["type"] == "transcript.final"), "{last:?}");
    assert!(last.keys().copied().eq(1..=last.len() as u64), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_of_a_tenant_are_heard_by_riva_and_of_another_by_whisper() {
    let lab = Lab::start(Version::V22);
    let words = ["riva", "hears", "this"].iter().enumerate().map(|(i, word)| {
        let start = 0.5 + 0.4 * i as f64;
        ((*word).to_owned(), start, start + 0.3)
    });
    let riva = RivaServer::start(Knows::ByHeart(words.collect())).await;
    // The first stream goes in the middle of what is said.
    riva.act(&[Act::FailAt(1.0, tonic::Code::Unavailable)]);
    let server = Sidetone::start_with(
        &lab,
        &[
            ("riva.url", &riva.url()),
            ("speech.tenants.acme.engine", "riva"),
            ("speech.tenants.acme.vocabulary", "[\"Sidetone\"]"),
        ],
    )
    .await;
    Call::tap().caller(&["agent-pass"]).stasis_args("tenant=acme").place(&lab).await;
    server.ended_calls(1, OVER).await;
    Call::tap().caller(&["vm-goodbye"]).stasis_args("engine=nosuch").place(&lab).await;
    let calls = server.ended_calls(2, OVER).await;
    let of = |tenant: &str| calls.iter().find(|call| call["tenant"] == tenant).expect("its call");

    let call = of("acme");
    assert_eq!((&call["engine"], &call["outcome"]), (&"riva".into(), &"completed".into()), "{call:#}");
    let events = server.events(call);
    assert_promises(&events, "caller");
    let said = finals(&events, "caller");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["text"], "riva hears this");
    let times: Vec<f64> =
        said[0]["words"].as_array().unwrap().iter().map(|word| word["start"].as_f64().unwrap()).collect();
    let apart: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(apart.iter().all(|gap| (gap - 0.4).abs() < 0.005), "{times:?}");
    let partials = events.iter().filter(|e| e["type"] == "transcript.partial").count();
    assert!(partials > 5, "{partials}");
    assert!(riva.seen().len() >= 2, "the broken stream was begun anew");
    let config = riva.seen()[0].config.config.clone().unwrap();
    assert_eq!((config.language_code.as_str(), config.sample_rate_hertz), ("en-US", 16_000));
    assert_eq!(config.speech_contexts[0].phrases, ["Sidetone"]);
    let id = call["call_id"].as_str().unwrap();
    let transcript = server.get(&format!("/api/calls/{id}/transcript?format=json")).await;
    assert_eq!(
        (&transcript["model"], &transcript["complete"]),
        (&"riva".into(), &true.into()),
        "{transcript}"
    );

    let call = of("default");
    assert_eq!(call["engine"], "whisper", "{call:#}");
    let told = call["error"].as_str().expect("a word about it");
    assert!(told.contains("`nosuch`") && told.contains("whisper is used"), "{told}");
    assert_eq!(call["outcome"], "completed", "{call:#}");
    let events = server.events(call);
    assert!(finals(&events, "caller")[0]["text"].as_str().unwrap().contains("goodbye"));

    let ready = server.get("/ready").await;
    assert_eq!(ready["dependencies"]["riva"]["state"], "ok", "{ready:#}");
    assert_eq!(server.metric("sidetone_asr_remote_up").await, 1.0);
    lab.assert_clean().await;
}
