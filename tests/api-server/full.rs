//! What clients of live audio are told where there is no room for them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use sidetone::api::{LivePolicy, LiveSpeech};
use sidetone::speech::ladder::Rung;
use sidetone::speech::{SpeechConfig, SpeechEngine};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::live::{KEY, bytes, embedded, speech, until, with};
use super::slowed::Slowed;
use super::support::{Setup, next};

/// How a socket is refused: status, `Retry-After`, `dg-error`, and what it says.
async fn refusal(url: &str) -> (u16, String, Option<String>, serde_json::Value) {
    let Err(Error::Http(response)) = tokio_tungstenite::connect_async(url).await else {
        panic!("{url} is let in, or broken")
    };
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let problem = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
    (response.status().as_u16(), header("retry-after").unwrap(), header("dg-error"), problem)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_room_both_sockets_answer_503_and_let_in_again_once_there_is() {
    // With this, one leg takes half of the one worker as a rule, and two are more than it can do.
    let (model, _) = Slowed::by(Duration::from_secs(2), embedded());
    let config = SpeechConfig { workers: 1, ..SpeechConfig::default() };
    let engine = Arc::new(SpeechEngine::start(config, model).unwrap());
    let live = Arc::new(LiveSpeech::new(engine.clone(), LivePolicy::new(8, "en")));
    let data = tempfile::tempdir().unwrap();
    let (server, live) = with(data.path(), live, Setup::default()).await;
    let listen = format!("ws://{}/v1/listen?encoding=linear16&sample_rate=8000&token={KEY}", server.addr);
    let vosk = format!("ws://{}/?token={KEY}", server.vosk.unwrap());

    // The first one comes while nothing is known; with its first words it is known what a leg costs.
    let (mut first, _) = tokio_tungstenite::connect_async(&listen).await.unwrap();
    first.send(Message::Binary(bytes(&speech(&["hello-world"])).into())).await.unwrap();
    assert_eq!(next(&mut first).await.unwrap()["channel"]["alternatives"][0]["transcript"], "hello world");
    for (url, has_dg_error) in [(&listen, true), (&vosk, false)] {
        let (status, again, dg_error, problem) = refusal(url).await;
        assert_eq!((status, again.as_str(), dg_error.is_some()), (503, "5", has_dg_error), "{problem}");
        assert_eq!(problem["status"], 503, "{problem}");
        assert!(problem["type"].as_str().unwrap().ends_with("overloaded"), "{problem}");
        assert!(problem["remedy"].as_str().unwrap().contains("/ready"), "{problem}");
    }
    assert_eq!(live.channels(), 1, "who is refused takes no place");

    drop(first);
    until("it is gone", || live.channels() == 0).await;
    until("the ladder is down again", || engine.rung() < Rung::LiveOff).await;
    for url in [&listen, &vosk] {
        // What was measured beside other work makes legs dear for a while.
        let deadline = sidetone::clock::now() + Duration::from_secs(30);
        while let Err(error) = tokio_tungstenite::connect_async(url).await {
            assert!(sidetone::clock::now() < deadline, "there is room: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        until("it is gone", || live.channels() == 0).await;
    }
    server.stop().await;
}
