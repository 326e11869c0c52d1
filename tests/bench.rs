//! `sidetone bench`, small.

use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sidetone"))
        .args(["bench"])
        .args(arguments)
        .args(["--set", "rtp.receive_buffer=4194304", "--set", "rtp.ring_seconds=5"])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn twenty_streams_are_carried_recorded_and_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, out, err) = bench(&["--streams", "20", "--step", "1", "--json", "--record", path]);
    assert_eq!(code, Some(0), "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["streams"], 20);
    assert_eq!(report["limit"], "asked");
    assert_eq!(report["recorded"], true);
    let step = &report["carried"];
    assert_eq!((&step["streams"], &step["lost"], &step["kernel_drops"]), (&20.into(), &0.into(), &0.into()));
    assert_eq!((&step["recordings"], &step["frames_lost"]), (&10.into(), &0.into()));
    let number = |name: &str| step[name].as_f64().unwrap();
    let rounds = number("sent") / 20.0;
    assert!((45.0..=60.0).contains(&rounds), "{rounds} packets a stream in a second");
    for name in ["receive_percent_per_stream", "packets_per_core_second", "kib_per_leg", "send_percent"] {
        assert!(number(name) > 0.0, "{name}: {step}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files are left behind");
}

#[test]
fn an_odd_leg_is_a_call_too_and_people_can_read_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, out, err) = bench(&["--max", "3", "--step", "1", "--record", path]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(
        out.starts_with("3 G.711 streams, recorded, 50 packets a second each, without a loss\n"),
        "{out}"
    );
    for word in ["receiving", "recording", "memory", "limit", "none met: --max"] {
        assert!(out.contains(word), "{word}: {out}");
    }
}

#[cfg(feature = "embedded-model")]
mod speech {
    use super::*;

    const MODEL: &str = "--model=sidetone-prompts-en";

    #[test]
    fn two_live_legs_are_transcribed_while_they_speak() {
        let (code, out, err) = bench(&["--speech", MODEL, "--legs", "2", "--step", "8", "--json"]);
        assert_eq!(code, Some(0), "{out}{err}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&report["legs"], &report["limit"]), (&2.into(), &"asked".into()));
        assert_eq!(report["model"], "sidetone-prompts-en");
        let step = &report["carried"];
        let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or_else(|| panic!("{name}: {of}"));
        // Of a track with a prompt of 1 to 5 s in twice that.
        assert!(number(step, "finals") >= 2.0 && number(step, "partials") >= 4.0, "{step}");
        assert_eq!((number(step, "unfinished"), number(step, "missed_slots")), (0.0, 0.0));
        // An utterance's end is known no sooner than its silence is over.
        assert!((400.0..1_200.0).contains(&number(step, "final_p95_ms")), "{step}");
        assert!((300.0..2_000.0).contains(&number(step, "pause_p50_ms")), "{step}");
        assert!(number(step, "cpu_percent_per_leg") > 0.1, "{step}");
        let windows = report["windows"].as_array().unwrap();
        let costs: Vec<f64> = windows.iter().map(|window| number(window, "alone_ms")).collect();
        assert!(costs.len() == 4 && costs.iter().all(|&ms| ms > 0.0), "{costs:?}");
        assert!(costs[3] > costs[0], "8 s cost no more than 1 s: {costs:?}");
        let silent = &report["silent"];
        assert!((0.001..5.0).contains(&number(silent, "noise_percent_per_leg")), "{silent}");
        assert!((0.3..0.45).contains(&number(&report, "talks")), "{report}");
    }

    #[test]
    fn own_audio_is_said_and_people_can_read_the_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.ulaw");
        let prompt = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/speech/invalid.ulaw");
        std::fs::copy(prompt, &path).unwrap();
        let audio = format!("--audio={}", path.display());
        let (code, out, err) = bench(&["--speech", MODEL, "--max", "1", "--step", "4", &audio]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.starts_with("1 live leg with the model sidetone-prompts-en, "), "{out}");
        for word in ["finals", "text goes on", "a silent leg", "recognising", "none met: --max"] {
            assert!(out.contains(word), "{word}: {out}");
        }
        let (code, _, err) = bench(&["--speech", MODEL, "--audio", "/nowhere.wav"]);
        assert_eq!(code, Some(1));
        assert!(err.contains("--audio: /nowhere.wav"), "{err}");
    }

    #[test]
    fn a_model_that_is_not_there_is_named() {
        let (code, _, err) = bench(&["--speech", "--model", "off"]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("speech.model is off"), "{err}");
    }
}

#[test]
fn nonsense_is_refused_with_words() {
    for (arguments, words) in [
        (&["--legs", "5"][..], "--speech"),
        (&["--speech", "--legs", "0"], "0 is not in 1..=2000"),
        (&["--speech", "--streams", "5"], "cannot be used with"),
        (&["--streams", "0"], "use 1 to 16711679"),
        (&["--streams", "many"], "a number of streams is expected"),
        (&["--step", "0"], "0 is not in 1..=600"),
        (&["--shards", "17"], "17 is not in 1..=16"),
        (&["--streams", "5", "--max", "9"], "cannot be used with"),
    ] {
        let (code, _, err) = bench(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    let (code, _, err) = bench(&["--record", "/nowhere/at/all"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("--record: /nowhere/at/all is no folder: make it first"), "{err}");
}
