//! What came of a job, told to whoever asked for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Bench, SOON, gsm};

#[derive(Default)]
pub struct Hook {
    /// Refused so often before anything is taken.
    refuse: AtomicUsize,
    /// `Idempotency-Key` and body.
    pub taken: Mutex<Vec<(String, Value)>>,
}

impl Hook {
    /// Listens from now on; its URL.
    pub async fn open(refuse: usize) -> (Arc<Self>, String) {
        let hook = Arc::new(Self { refuse: AtomicUsize::new(refuse), ..Self::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (hook, url)
    }
}

async fn take(State(hook): State<Arc<Hook>>, headers: HeaderMap, Json(body): Json<Value>) -> StatusCode {
    if hook.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    hook.taken.lock().push((headers["idempotency-key"].to_str().unwrap().to_owned(), body));
    StatusCode::NO_CONTENT
}

#[tokio::test]
async fn a_webhook_is_sent_until_it_is_taken_once_a_job() {
    let (hook, url) = Hook::open(1).await;
    let bench = Bench::start(&[]).await;
    gsm(&bench.at("a.gsm"), 50, 1);
    std::fs::write(bench.at("bad.wav"), b"RIFFnothing").unwrap();
    let jobs = json!([
        { "id": "good", "input": bench.at("a.gsm"), "output": bench.at("a.wav"), "webhook": url },
        { "id": "bad", "input": bench.at("bad.wav"), "output": bench.at("b.gsm"), "webhook": url },
    ]);
    assert_eq!(bench.post("/api/conversions", &jobs).await.0, 202);
    let deadline = Instant::now() + SOON;
    while hook.taken.lock().len() < 2 {
        assert!(Instant::now() < deadline, "{:?}\n{}", hook.taken.lock(), bench.server.log());
        sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut taken = hook.taken.lock().clone();
    taken.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!((&*taken[0].0, &taken[0].1["status"]), ("bad", &json!("failed")));
    assert_eq!(
        (&*taken[1].0, &taken[1].1["status"], &taken[1].1["seconds"]),
        ("good", &json!("completed"), &json!(1.0))
    );
    let bad = json!({ "input": bench.at("a.gsm"), "output": bench.at("c.wav"), "webhook": "gopher://x" });
    assert_eq!(bench.post("/api/conversions", &bad).await.0, 400);
}
