//! Files to text, by path, upload and URL, over HTTP and RabbitMQ.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::routing::get;
use serde_json::json;

use super::Bench;

async fn bench(more: &[(&str, &str)]) -> Bench {
    let mut settings = vec![("speech.model", "auto"), ("speech.workers", "1")];
    settings.extend(more);
    Bench::start(&settings).await
}

/// A stock prompt, whose words the built-in model knows.
pub fn speech() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/speech/hello-world.ulaw"))
        .unwrap()
}

pub async fn upload(bench: &Bench, file: &[u8], fields: &[(&str, &str)]) -> u16 {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes(),
        );
    }
    body.extend(b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"call.ulaw\"\r\n\r\n");
    body.extend(file);
    body.extend(b"\r\n--x--\r\n");
    let request = reqwest::Client::new().post(bench.url("/api/transcriptions"));
    let request = request.header("content-type", "multipart/form-data; boundary=x").body(body);
    request.send().await.map_or(0, |response| response.status().as_u16())
}

#[tokio::test]
async fn a_file_is_transcribed_in_the_format_asked_for() {
    let bench = bench(&[]).await;
    std::fs::write(bench.at("a.ulaw"), speech()).unwrap();
    let jobs = json!([
        { "id": "json", "path": bench.at("a.ulaw"), "language": "en" },
        { "id": "text", "path": bench.at("a.ulaw"), "format": "text" },
        { "id": "srt", "path": bench.at("a.ulaw"), "format": "srt" },
    ]);
    let (status, answer) = bench.post("/api/transcriptions", &jobs).await;
    assert_eq!((status, answer["jobs"].as_array().unwrap().len()), (202, 3), "{answer}");
    let job = bench.over("json").await;
    assert_eq!(job["status"], "completed", "{job:#}");
    let path = PathBuf::from(job["result"]["transcript_path"].as_str().unwrap());
    assert!(path.is_absolute() && path.ends_with("json.json"), "{path:?}");
    let transcript = bench.get("/api/jobs/json/transcript").await;
    assert_eq!(transcript["duration"], job["result"]["seconds"]);
    assert_eq!(job["result"]["text"], "hello world", "{job:#}");
    assert_eq!(transcript["utterances"][0]["words"].as_array().unwrap().len(), 2);
    for (id, begins) in [("text", "["), ("srt", "1\n")] {
        assert_eq!(bench.over(id).await["status"], "completed");
        let text = reqwest::get(bench.url(&format!("/api/jobs/{id}/transcript")))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(text.starts_with(begins), "{id}: {text}");
    }
    for (bad, status) in [
        (json!({ "language": "en" }), 400),
        (json!({ "path": bench.at("a.ulaw"), "url": "http://x/" }), 400),
        (json!({ "path": bench.at("none.wav") }), 422),
        (json!({ "url": "http://127.0.0.1/a.ulaw" }), 422),
        (json!({ "path": bench.at("a.ulaw"), "format": "docx" }), 400),
        (json!({ "upload": { "file": "../../sidetone.db", "name": "x.ulaw" } }), 400),
    ] {
        assert_eq!(bench.post("/api/transcriptions", &bad).await.0, status, "{bad}");
    }
}

#[tokio::test]
async fn an_upload_is_kept_until_it_is_transcribed() {
    let bench = bench(&[]).await;
    assert_eq!(upload(&bench, &speech(), &[("id", "up"), ("format", "vtt")]).await, 202);
    assert_eq!(bench.over("up").await["status"], "completed");
    let uploads = bench.server.data().join("jobs/uploads");
    let deadline = tokio::time::Instant::now() + super::SOON;
    while std::fs::read_dir(&uploads).unwrap().count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "it is not removed");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let text = reqwest::get(bench.url("/api/jobs/up/transcript")).await.unwrap().text().await.unwrap();
    assert!(text.starts_with("WEBVTT"), "{text}");
    // Not audio at all: the job says so, and the file is there for whoever looks.
    assert_eq!(upload(&bench, b"RIFF, and nothing of the kind behind it", &[("id", "bad")]).await, 202);
    let bad = bench.over("bad").await;
    assert_eq!(bad["status"], "failed");
    assert!(bad["error"].as_str().unwrap().contains("call.ulaw"), "{bad:#}");
}

#[tokio::test]
async fn a_file_elsewhere_is_fetched_from_where_it_is_allowed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let away = axum::response::Redirect::temporary("http://127.0.0.1:9/secret.wav");
    let router = Router::new()
        .route("/calls/a.ulaw", get(async || speech()))
        .route("/calls/away.wav", get(async move || away));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let allowed = json!([format!("{at}/calls/")]).to_string();
    let bench = bench(&[("transcriptions.fetch_from", &allowed)]).await;
    let jobs = json!([
        { "id": "a", "url": format!("{at}/calls/a.ulaw") },
        { "id": "none", "url": format!("{at}/calls/none.wav") },
        { "id": "away", "url": format!("{at}/calls/away.wav") },
    ]);
    assert_eq!(bench.post("/api/transcriptions", &jobs).await.0, 202);
    assert_eq!(bench.over("a").await["status"], "completed");
    for (id, says) in [("none", "404"), ("away", "redirect")] {
        let job = bench.over(id).await;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job:#}");
        assert!(job["error"].as_str().unwrap().contains(says), "{job:#}");
    }
    assert_eq!(bench.post("/api/transcriptions", &json!({ "url": format!("{at}/other.wav") })).await.0, 422);
}
