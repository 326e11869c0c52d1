//! Calls, and the files that they leave.

use serde_json::{Value, json};
use sidetone::calls::hub::EventKind;
use sidetone::calls::record::{CallFiles, CallState, FileStatus};
use sidetone::store::Store;

use crate::support::{Server, problem};

/// An ended call with a recording of 1,000 bytes.
fn recorded(server: &Server, call_id: &str) -> (CallFiles, Vec<u8>) {
    let record = server.live_call("acme", call_id);
    server.end_call(call_id);
    server.directory.update(call_id, |record| record.recording.status = FileStatus::Ready);
    server.directory.flush();
    let files = server.directory.files(&record).unwrap();
    let wav: Vec<u8> = (0..1_000u32).map(|n| n as u8).collect();
    std::fs::write(files.recording(), &wav).unwrap();
    (files, wav)
}

#[tokio::test]
async fn calls_are_listed_paged_and_searched() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    for n in 0..5 {
        server.live_call(if n == 0 { "other" } else { "acme" }, &format!("c{n}"));
    }
    server.directory.update("c4", |record| record.label = Some("Sales".into()));
    let first = server.json("/api/calls?limit=3").await;
    let ids = |page: &Value| -> Vec<String> {
        page["calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| call["call_id"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(ids(&first), ["c4", "c3", "c2"]);
    let rest = server.json(&format!("/api/calls?limit=3&before={}", first["next"].as_str().unwrap())).await;
    assert_eq!(ids(&rest), ["c1", "c0"]);
    assert!(rest["next"].is_null());
    assert_eq!(ids(&server.json("/api/calls?q=sAlEs").await), ["c4"]);
    assert_eq!(ids(&server.json("/api/calls?q=%2B49c2").await), ["c2"]);
    assert_eq!(ids(&server.json("/api/calls?tenant=other").await), ["c0"]);
    server.directory.update("c1", |record| record.state = CallState::Ended);
    assert_eq!(ids(&server.json("/api/calls?state=ended").await), ["c1"]);
    assert_eq!(server.json("/api/calls/c4").await["label"], "Sales");
}

#[tokio::test]
async fn events_come_by_page_without_partials_live_over_and_when_the_files_have_gone() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "c1");
    for n in 0..3 {
        server.hub.publish("c1", EventKind::TranscriptPartial, json!({ "n": n }));
        server.hub.publish("c1", EventKind::Dtmf, json!({ "digit": n.to_string() }));
    }
    let walk = async |limit: usize| {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = server.json(&format!("/api/calls/c1/events?limit={limit}&after={after}")).await;
            let events = page["events"].as_array().unwrap();
            assert!(events.len() <= limit, "{page:#}");
            all.extend(events.iter().map(|event| (event["seq"].as_u64().unwrap(), event["type"].clone())));
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    };
    let live = walk(500).await;
    assert_eq!(live.iter().filter(|(_, kind)| kind == "dtmf").count(), 3, "{live:?}");
    assert!(live.iter().all(|(_, kind)| kind != "transcript.partial"), "{live:?}");
    for limit in [1, 2, live.len()] {
        assert_eq!(walk(limit).await, live, "pages of {limit}");
    }
    server.hub.publish("c1", EventKind::CallEnded, json!({ "outcome": "completed" }));
    server.hub.close_call("c1");
    let record = server.directory.update("c1", |record| record.state = CallState::Ended).unwrap();
    server.directory.flush();
    let over = walk(2).await;
    assert_eq!((over.len(), over.last().unwrap().1.as_str()), (live.len() + 1, Some("call.ended")));
    // Once it is in the database, whatever becomes of its files.
    let store = Store::open("", data.path()).await.unwrap();
    let filed = async {
        while store.calls().events("acme", "c1", 0, 1_000).await.unwrap().len() < over.len() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), filed).await.expect("rows of its events");
    store.close().await;
    std::fs::remove_file(server.directory.files(&record).unwrap().events()).unwrap();
    assert_eq!(walk(2).await, over);
}

#[tokio::test]
async fn bad_input_is_a_problem_with_a_remedy() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "c1");
    for (path, status) in [
        ("/api/calls?limit=0", 400),
        ("/api/calls?limit=x", 400),
        ("/api/calls?limit=100000", 400),
        ("/api/calls?state=dead", 400),
        ("/api/calls?status=live", 400),
        ("/api/calls?before=junk", 400),
        ("/api/calls/c1/events?before=3", 400),
        ("/api/calls/c1/events?after=-1", 400),
        ("/api/calls/c1/events?limit=501", 400),
        ("/api/calls/none/events", 404),
        ("/api/calls/nope", 404),
        ("/api/calls/..%2F..%2Fetc%2Fpasswd", 400),
        ("/api/calls/%2e%2e/recording", 404),
        ("/api/calls/a.b/recording", 400),
        ("/api/calls/%ff", 400),
        ("/api/calls/c1/transcript?format=doc", 400),
        ("/api/calls/c1/transcript", 404),
        ("/api/calls/c1/report", 404),
        ("/nothing/here", 404),
    ] {
        problem(server.get(path).await, status).await;
    }
    let told = problem(server.get("/api/calls?state=dead").await, 400).await;
    assert!(told["detail"].as_str().unwrap().contains("`setting_up`, `live`, `ending`, `ended`"), "{told}");
    let wrong_method = server.request("DELETE", "/api/calls").send().await.unwrap();
    assert!(wrong_method.headers().contains_key("allow"));
    problem(wrong_method, 405).await;
}

#[tokio::test]
async fn a_recording_comes_whole_in_parts_and_by_its_head() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let (_, wav) = recorded(&server, "c1");
    let path = "/api/calls/c1/recording";
    let whole = server.get(path).await;
    assert_eq!(whole.headers()["content-type"], "audio/wav");
    assert_eq!(whole.headers()["content-length"], "1000");
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(whole.bytes().await.unwrap(), wav);

    let head = server.request("HEAD", path).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"1000".parse().unwrap()));
    assert!(head.bytes().await.unwrap().is_empty());

    for (range, wanted) in [("bytes=0-99", 0..100), ("bytes=990-", 990..1_000), ("bytes=-10", 990..1_000)] {
        let part = server.request("GET", path).header("range", range).send().await.unwrap();
        assert_eq!(part.status(), 206);
        let described = format!("bytes {}-{}/1000", wanted.start, wanted.end - 1);
        assert_eq!(part.headers()["content-range"], described.as_str());
        assert_eq!(part.headers()["content-length"], wanted.len().to_string().as_str());
        assert_eq!(part.bytes().await.unwrap(), wav[wanted]);
    }
    let outside = server.request("GET", path).header("range", "bytes=1000-").send().await.unwrap();
    assert_eq!(outside.headers()["content-range"], "bytes */1000");
    problem(outside, 416).await;

    let conditional = |name, value: &str| {
        server.request("GET", path).header(name, value).header("range", "bytes=0-9").send()
    };
    assert_eq!(conditional("if-range", &tag).await.unwrap().status(), 206);
    assert_eq!(conditional("if-range", "\"other\"").await.unwrap().status(), 200);
    assert_eq!(conditional("if-none-match", &tag).await.unwrap().status(), 304);
}

#[tokio::test]
async fn what_is_still_written_is_refused_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "c1");
    server.directory.update("c1", |record| {
        record.recording.status = FileStatus::Open;
        record.report.status = FileStatus::Open;
    });
    for file in ["recording", "report"] {
        let told = problem(server.get(&format!("/api/calls/c1/{file}")).await, 409).await;
        assert!(told["remedy"].as_str().unwrap().contains("recording.saved"), "{file}: {told}");
    }
}

#[tokio::test]
async fn nobody_is_told_to_wait_for_a_recording_that_never_comes() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "unrecorded");
    server.live_call("acme", "rejected");
    server.directory.update("rejected", |record| record.outcome = Some("rejected".into()));
    for (call, remedy) in [("unrecorded", "calls.record"), ("rejected", "`error`")] {
        for file in ["recording", "report"] {
            let told = problem(server.get(&format!("/api/calls/{call}/{file}")).await, 404).await;
            let told = told["remedy"].as_str().unwrap();
            assert!(told.contains(remedy) && !told.contains("recording.saved"), "{call}, {file}: {told}");
        }
    }
}

#[tokio::test]
async fn a_transcript_grows_with_the_call_and_comes_in_four_forms() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let record = server.live_call("acme", "c1");
    let said = |leg, start: f64, text: &str| {
        json!({"leg": leg, "utterance": 1, "revision": 2, "start": start, "end": start + 1.0, "text": text, "language": "en",
               "words": [{"text": text, "start": start, "end": start + 1.0, "confidence": 0.9, "stable": true}]})
    };
    server.hub.publish("c1", EventKind::TranscriptFinal, said("callee", 2.0, "Hi."));
    let first = server.get("/api/calls/c1/transcript.txt").await.text().await.unwrap();
    assert_eq!(
        first, "[00:02.000] callee: Hi.\n",
        "the form is that of two speakers before the other one speaks"
    );
    server.hub.publish("c1", EventKind::TranscriptPartial, said("callee", 4.0, "not yet"));
    server.hub.publish("c1", EventKind::TranscriptFinal, said("caller", 0.5, "Hello?"));
    let live = server.json("/api/calls/c1/transcript").await;
    assert_eq!((&live["complete"], &live["utterances"][0]["text"]), (&json!(false), &json!("Hello?")));
    assert_eq!((&live["model"], &live["speakers"]), (&json!("base.en"), &json!(2)));
    assert_eq!(live["utterances"].as_array().unwrap().len(), 2);
    assert_eq!(live["utterances"][1]["speaker"], "callee", "as in a stored transcript");

    let text = server.get("/api/calls/c1/transcript?format=txt").await.text().await.unwrap();
    assert_eq!(text, "[00:00.500] caller: Hello?\n[00:02.000] callee: Hi.\n");
    let by_extension = server.get("/api/calls/c1/transcript.srt").await;
    assert!(
        by_extension.text().await.unwrap().starts_with("1\n00:00:00,500 --> 00:00:01,500\ncaller: Hello?\n")
    );
    let by_accept =
        server.request("GET", "/api/calls/c1/transcript").header("accept", "text/vtt, */*").send();
    let by_accept = by_accept.await.unwrap();
    assert_eq!(by_accept.headers()["content-type"], "text/vtt; charset=utf-8");
    assert!(by_accept.text().await.unwrap().starts_with("WEBVTT"));

    let utterance = json!({"speaker": "caller", "utterance": 1, "start": 1.0, "end": 2.0, "text": "Stored.",
        "language": "en", "words": []});
    let stored = json!({"v": 1, "call_id": "c1", "duration": 9.0, "complete": true, "speakers": 2,
        "model": "m", "utterances": [utterance]});
    let files = server.directory.files(&record).unwrap();
    files.create_folder().unwrap();
    std::fs::write(files.transcript(), stored.to_string()).unwrap();
    assert_eq!(server.json("/api/calls/c1/transcript.json").await, stored);
    assert!(server.get("/api/calls/c1/transcript.txt").await.text().await.unwrap().contains("Stored."));
}

#[tokio::test]
async fn only_ended_calls_can_be_deleted_and_their_files_go_with_them() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "live");
    problem(server.request("DELETE", "/api/calls/live").send().await.unwrap(), 409).await;
    let (files, _) = recorded(&server, "over");
    std::fs::write(files.report(), "{\"call_id\":\"over\"}").unwrap();
    // What crashes and failed writes leave, and a file of another call.
    let left = ["wav.part", "wav.part.gaps", "wav.broken", "wav.broken.2", "json.tmp", "vtt.tmp"];
    for suffix in left {
        std::fs::write(files.folder().join(format!("over.{suffix}")), "").unwrap();
    }
    let others = files.folder().join("over-2.wav");
    std::fs::write(&others, "").unwrap();
    assert_eq!(server.json("/api/calls/over/report").await["call_id"], "over");
    assert_eq!(server.request("DELETE", "/api/calls/over").send().await.unwrap().status(), 204);
    problem(server.get("/api/calls/over").await, 404).await;
    let names = std::fs::read_dir(files.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let of_the_call: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("over.")).collect();
    assert!(of_the_call.is_empty() && others.exists(), "{of_the_call:?}");
    problem(server.request("DELETE", "/api/calls/over").send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn commands_reach_the_driver_and_its_refusals_the_user() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    for call in ["c1", "gone", "waiting", "unrecorded", "broken"] {
        server.live_call("acme", call);
    }
    for (path, status) in [("c1/hangup", 204), ("c1/recording/pause", 204), ("c1/recording/resume", 204)] {
        assert_eq!(
            server.request("POST", &format!("/api/calls/{path}")).send().await.unwrap().status(),
            status
        );
    }
    let mut wav = sidetone::recording::wav::header(8_000, 1, 8_000).to_vec();
    wav.resize(wav.len() + 8_000, 0);
    let play = |call: &str, body: Vec<u8>| {
        server.request("POST", &format!("/api/calls/{call}/play")).body(body).send()
    };
    let played = play("c1", wav.clone()).await.unwrap();
    assert_eq!(played.status(), 202);
    assert_eq!(played.json::<Value>().await.unwrap(), json!({ "playback": 1, "duration": 0.5 }));
    assert_eq!(server.request("POST", "/api/calls/c1/play/stop").send().await.unwrap().status(), 204);
    let asked = ["hangup c1", "pause c1", "resume c1", "play c1", "stop playing c1"];
    assert_eq!(*server.control.asked.lock(), asked);
    problem(play("unrecorded", wav.clone()).await.unwrap(), 409).await;
    problem(play("c1", b"no audio".to_vec()).await.unwrap(), 415).await;
    problem(play("c1", wav[..80].to_vec()).await.unwrap(), 400).await;
    problem(play("c1", vec![0; (32 << 20) + 1]).await.unwrap(), 413).await;
    problem(server.request("POST", "/api/calls/gone/play/stop").send().await.unwrap(), 409).await;
    problem(server.request("POST", "/api/calls/gone/hangup").send().await.unwrap(), 409).await;
    problem(server.request("POST", "/api/calls/waiting/hangup").send().await.unwrap(), 503).await;
    problem(server.request("POST", "/api/calls/unrecorded/recording/pause").send().await.unwrap(), 409).await;
    problem(server.request("POST", "/api/calls/broken/hangup").send().await.unwrap(), 502).await;
    problem(server.request("POST", "/api/calls/none/hangup").send().await.unwrap(), 404).await;
}
