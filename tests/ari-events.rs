//! Events as real Asterisks write them, and as nobody should.

use proptest::prelude::*;
use sidetone::asterisk::ari::{AriEvent, ChannelState};

/// Captured from a real Asterisk: a call, a snoop, a media leg, a playback, a busy call, and another client at the end.
fn captured(version: &str) -> Vec<(String, AriEvent)> {
    let path = format!("{}/tests/fixtures/ari/asterisk-{version}.json", env!("CARGO_MANIFEST_DIR"));
    let events: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let parsed = |event: &serde_json::Value| {
        (event["type"].as_str().unwrap().to_owned(), AriEvent::parse(&event.to_string()))
    };
    events.iter().map(parsed).collect()
}

#[test]
fn every_captured_event_that_we_use_is_understood() {
    for version in ["16", "22"] {
        let events = captured(version);
        assert!(events.len() > 40, "{}", events.len());
        for (kind, event) in &events {
            if let AriEvent::Other { .. } = event {
                assert_eq!(kind, "ChannelConnectedLine", "Asterisk {version}");
            }
        }
        for used in [
            "StasisStart",
            "StasisEnd",
            "ChannelDestroyed",
            "ChannelHangupRequest",
            "ChannelStateChange",
            "ChannelDtmfReceived",
            "ChannelEnteredBridge",
            "ChannelLeftBridge",
            "BridgeDestroyed",
            "Dial",
            "ApplicationReplaced",
            "PlaybackFinished",
            "ChannelVarset",
            "ChannelDialplan",
            "ChannelCallerId",
        ] {
            assert!(events.iter().any(|(kind, _)| kind == used), "no {used} from Asterisk {version}");
        }
    }
}

#[test]
fn captured_fields_are_read() {
    for version in ["16", "22"] {
        let events: Vec<_> = captured(version).into_iter().map(|(_, event)| event).collect();
        let start = events.iter().find_map(|event| match event {
            AriEvent::StasisStart { channel, args, replace_channel: None } if channel.id == "callee" => {
                Some((channel, args))
            }
            _ => None,
        });
        let (channel, args) = start.unwrap();
        assert_eq!(args, &["answer", "tenant=acme", "label=a b"]);
        assert_eq!(channel.state, ChannelState::Ring);
        assert_eq!((channel.caller.name.as_str(), channel.caller.number.as_str()), ("Ann Example", "100"));
        assert_eq!(
            (channel.dialplan.context.as_str(), channel.dialplan.exten.as_str()),
            ("lab-pbx", "answer")
        );
        assert_eq!(channel.dialplan.priority, 1);
        assert!(channel.creationtime.starts_with("2026-"), "{}", channel.creationtime);

        assert!(events.iter().any(|event| matches!(
            event, AriEvent::ChannelDestroyed { channel, cause: 17, cause_txt } if channel.id == "busy" && cause_txt == "User busy"
        )), "{version}: {:?}", events.iter().filter(|e| matches!(e, AriEvent::ChannelDestroyed { .. })).collect::<Vec<_>>());
        assert!(events.iter().any(|event| matches!(
            event, AriEvent::ChannelDtmfReceived { digit, duration_ms, .. } if digit == "5" && *duration_ms > 0
        )));
        assert!(events.iter().any(|event| matches!(
            event, AriEvent::ChannelEnteredBridge { bridge, channel: Some(channel) }
                if bridge.channels.contains(&channel.id) && bridge.name == "sidetone-fix"
        )));
        assert!(events.iter().any(|event| matches!(
            event, AriEvent::PlaybackFinished { playback } if playback.id == "pb1" && playback.state == "done"
        )));
        assert_eq!(events.last(), Some(&AriEvent::ApplicationReplaced));
    }
}

#[test]
fn what_is_missing_or_unknown_is_tolerated() {
    let event =
        AriEvent::parse(r#"{"type":"StasisStart","channel":{"id":"1","state":"Levitating","news":[1]}}"#);
    let AriEvent::StasisStart { channel, args, replace_channel: None } = event else { panic!("{event:?}") };
    assert_eq!((channel.id.as_str(), channel.state, args.len()), ("1", ChannelState::Other, 0));

    let event = AriEvent::parse(
        r#"{"type":"StasisStart","args":["tap"],"channel":{"id":"2"},"replace_channel":{"id":"1"}}"#,
    );
    assert!(matches!(event, AriEvent::StasisStart { replace_channel: Some(old), .. } if old.id == "1"));

    for (text, kind) in [
        (r#"{"type":"RecordingStarted","recording":{}}"#, "RecordingStarted"),
        (r#"{"type":"StasisStart","channel":7}"#, "StasisStart"),
        (r#"{"type":"StasisStart"}"#, "StasisStart"),
        (r#"{"type":7}"#, ""),
        ("[1]", ""),
        ("", ""),
        ("{", ""),
    ] {
        assert_eq!(AriEvent::parse(text), AriEvent::Other { kind: kind.to_owned() }, "{text}");
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let words = prop_oneof![
        Just("type".to_owned()),
        Just("channel".to_owned()),
        Just("StasisStart".to_owned()),
        Just("bridge".to_owned()),
        Just("ChannelDestroyed".to_owned()),
        Just("Dial".to_owned()),
        Just("args".to_owned()),
        Just("cause".to_owned()),
        Just("state".to_owned()),
        Just("channelvars".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        words.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(words.clone(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_is_too_much(value in any_json()) {
        AriEvent::parse(&value.to_string()).channel();
    }

    #[test]
    fn no_text_is_too_much(text in ".{0,200}") {
        AriEvent::parse(&text);
    }

    /// A captured event with one value anywhere replaced by any other.
    #[test]
    fn no_mutation_is_too_much(pick in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), with in any_json()) {
        let path = format!("{}/tests/fixtures/ari/asterisk-22.json", env!("CARGO_MANIFEST_DIR"));
        let events: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut event = pick.get(&events).clone();
        let mut places = Vec::new();
        pointers(&event, String::new(), &mut places);
        *event.pointer_mut(&places[place.index(places.len())]).unwrap() = with;
        AriEvent::parse(&event.to_string());
    }
}

fn pointers(value: &serde_json::Value, here: String, out: &mut Vec<String>) {
    if let serde_json::Value::Object(map) = value {
        map.iter().for_each(|(name, value)| pointers(value, format!("{here}/{name}"), out));
    }
    out.push(here);
}
