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

#[test]
fn nonsense_is_refused_with_words() {
    for (arguments, words) in [
        (&["--streams", "0"][..], "use 1 to 16711679"),
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
