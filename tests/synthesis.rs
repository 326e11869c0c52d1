//! Text to speech: espeak-ng itself, servers of the shapes of OpenAI's and Google Translate's, and one of NVIDIA's own stubs of Riva.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::Value;
use sidetone::audio::wav::header;
use sidetone::speech::synthesis::{Engine, SpeechRequest, SynthesisConfig, SynthesisError, Synthesiser};

fn config(engine: Engine, folder: &Path) -> SynthesisConfig {
    SynthesisConfig {
        engine,
        voice: String::new(),
        language: "en".into(),
        most_chars: 2_000,
        timeout: Duration::from_secs(20),
        level_dbov: -20.0,
        cache: folder.join("tts"),
        cache_bytes: 10 << 20,
        at_once: 2,
    }
}

fn espeak(folder: &Path) -> Synthesiser {
    Synthesiser::new(config(Engine::Espeak { program: "espeak-ng".into() }, folder)).unwrap()
}

fn text(text: &str) -> SpeechRequest {
    SpeechRequest { text: text.into(), ..SpeechRequest::default() }
}

/// Root mean square of the loudest second, dB below full scale.
fn level(pcm: &[i16], rate: u32) -> f64 {
    let power = |part: &[i16]| {
        part.iter().map(|&s| (f64::from(s) / 32_768.0).powi(2)).sum::<f64>() / part.len() as f64
    };
    let loudest = pcm.chunks(rate as usize / 2).map(power).fold(0.0, f64::max);
    10.0 * loudest.log10()
}

#[tokio::test]
async fn espeak_speaks_at_the_level_and_pace_asked_for_and_is_not_asked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let voice = espeak(folder.path());
    let sentence =
        "Your call is important to us. Please hold the line, and somebody will be with you shortly.";
    let spoken = voice.speak(&text(sentence)).await.unwrap();
    assert!(!spoken.cached);
    let seconds = spoken.duration().as_secs_f64();
    assert!((3.0..10.0).contains(&seconds), "{seconds}");
    let level = level(&spoken.pcm, spoken.rate_hz);
    assert!((-24.0..=-16.0).contains(&level), "{level}");
    assert_eq!(spoken.at(8_000).unwrap().len(), (seconds * 8_000.0).round() as usize);

    let again = voice.speak(&text(sentence)).await.unwrap();
    assert!(again.cached && again.pcm == spoken.pcm);
    let restarted = espeak(folder.path()).speak(&text(sentence)).await.unwrap();
    assert!(restarted.cached, "kept over a restart");
    let slow = SpeechRequest { speed: Some(0.5), ..text(sentence) };
    let slow = voice.speak(&slow).await.unwrap().duration().as_secs_f64();
    assert!(slow > 1.5 * seconds, "{slow} at half the pace, {seconds} before");
    let spanish = SpeechRequest { language: Some("es".into()), ..text(sentence) };
    assert_ne!(voice.speak(&spanish).await.unwrap().pcm, spoken.pcm);
}

#[tokio::test]
async fn what_cannot_be_spoken_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let voice = espeak(folder.path());
    let refused = async |request: SpeechRequest| voice.speak(&request).await.unwrap_err();
    assert!(matches!(refused(text(" \n\t")).await, SynthesisError::NoText));
    assert!(matches!(
        refused(text(&"a".repeat(2_001))).await,
        SynthesisError::TextTooLong { chars: 2_001, .. }
    ));
    let fast = SpeechRequest { speed: Some(9.0), ..text("a") };
    assert!(matches!(refused(fast).await, SynthesisError::Speed { .. }));
    for name in ["../../etc/passwd", "-w/tmp/x", "a\nb", &"x".repeat(200)] {
        let odd = SpeechRequest { voice: Some(name.into()), ..text("a") };
        assert!(matches!(refused(odd).await, SynthesisError::BadName { what: "voice", .. }), "{name}");
    }
    let unknown = refused(SpeechRequest { voice: Some("nobody".into()), ..text("a") }).await;
    assert!(matches!(unknown, SynthesisError::UnknownVoice { .. }) && unknown.is_request(), "{unknown}");
    // What looks like an option is a text like any other.
    voice.speak(&text("--help; rm -rf /")).await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_there_hangs_or_says_rubbish_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, body: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let attempt = async |program: std::path::PathBuf| {
        let timeout = Duration::from_millis(700);
        let config = SynthesisConfig { timeout, ..config(Engine::Espeak { program }, folder.path()) };
        Synthesiser::new(config).unwrap().speak(&text("hello")).await.unwrap_err()
    };
    let error = attempt("no-such-program".into()).await;
    assert!(
        matches!(error, SynthesisError::NoProgram { .. }) && error.to_string().contains("espeak-ng"),
        "{error}"
    );
    let error = attempt(script("hangs", "sleep 60")).await;
    assert!(matches!(error, SynthesisError::Timeout { .. }), "{error}");
    let error = attempt(script("fails", "cat >/dev/null; echo out of voice >&2; exit 3")).await;
    assert!(matches!(&error, SynthesisError::Failed { reason, .. } if reason == "out of voice"), "{error}");
    let error = attempt(script("rubbish", "cat >/dev/null; echo hello")).await;
    assert!(matches!(error, SynthesisError::NotAudio { .. }), "{error}");
    let error = attempt(script("silent", "cat >/dev/null")).await;
    assert!(matches!(error, SynthesisError::NotAudio { .. }), "{error}");
    // It is done before it has read all of it.
    let wav = folder.path().join("tone.wav");
    std::fs::write(&wav, tone(22_050, 2_000)).unwrap();
    let quick = script("quick", &format!("cat {}", wav.display()));
    let config = config(Engine::Espeak { program: quick }, folder.path());
    Synthesiser::new(config).unwrap().speak(&text(&"long ".repeat(399))).await.unwrap();
}

#[tokio::test]
async fn piper_is_asked_as_its_command_line_wants_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (voices, program) = (folder.path().join("voices"), folder.path().join("piper"));
    std::fs::create_dir(&voices).unwrap();
    std::fs::write(voices.join("en_US-amy-low.onnx"), "a voice").unwrap();
    std::fs::write(folder.path().join("tone.wav"), tone(16_000, 8_000)).unwrap();
    std::fs::write(
        &program,
        "#!/bin/sh\necho \"$@\" >\"$0.args\"\ncat >\"$0.text\"\ncat \"${0%/*}/tone.wav\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let engine = Engine::Piper { program: program.clone(), voices };
    let piper = Synthesiser::new(config(engine, folder.path())).unwrap();
    let request =
        |voice: &str| SpeechRequest { voice: Some(voice.into()), speed: Some(2.0), ..text("Hello there.") };
    let spoken = piper.speak(&request("en_US-amy-low")).await.unwrap();
    assert_eq!((spoken.rate_hz, spoken.pcm.len()), (16_000, 8_000));
    let args = std::fs::read_to_string(program.with_extension("args")).unwrap();
    assert!(args.contains("en_US-amy-low.onnx --length-scale 0.5 --output-file -"), "{args}");
    assert_eq!(std::fs::read_to_string(program.with_extension("text")).unwrap(), "Hello there.");
    let error = piper.speak(&request("de_DE-nobody")).await.unwrap_err();
    assert!(
        matches!(&error, SynthesisError::UnknownVoice { .. }) && error.to_string().contains("voices_dir"),
        "{error}"
    );
}

fn tone(hz: u32, samples: usize) -> Vec<u8> {
    let pcm: Vec<u8> =
        (0..samples).flat_map(|n| ((8_000.0 * (n as f64 * 0.3).sin()) as i16).to_le_bytes()).collect();
    [&header(hz, 1, pcm.len() as u64)[..], &pcm].concat()
}

/// What a server was asked, and how often.
#[derive(Clone, Default)]
struct Asked(Arc<parking_lot::Mutex<Vec<(HeaderMap, Value)>>>, Arc<AtomicUsize>);

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

#[tokio::test]
async fn a_server_of_openais_shape_is_asked_as_it_wants_and_its_errors_are_passed_on() {
    let asked = Asked::default();
    let answer = |State(asked): State<Asked>, headers: HeaderMap, body: Bytes| async move {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let input = body["input"].as_str().unwrap().to_owned();
        asked.0.lock().push((headers, body));
        match input.as_str() {
            "busy" => (StatusCode::SERVICE_UNAVAILABLE, "come again").into_response(),
            "wrong" => (StatusCode::BAD_REQUEST, "no such voice").into_response(),
            "html" => "<html>login</html>".into_response(),
            _ => {
                asked.1.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
                tone(24_000, 12_000).into_response()
            }
        }
    };
    let url = serve(Router::new().route("/v1/audio/speech", post(answer)).with_state(asked.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::OpenAi { url: format!("{url}/v1/"), key: "sk-secret".into(), model: "tts-1".into() };
    let voice = Synthesiser::new(config(engine, folder.path())).unwrap();
    let request = SpeechRequest { voice: Some("nova".into()), ..text("hello") };
    let many = (0..20).map(|_| voice.speak(&request));
    for spoken in futures_util::future::join_all(many).await {
        let spoken = spoken.unwrap();
        assert_eq!((spoken.rate_hz, spoken.pcm.len()), (24_000, 12_000));
    }
    assert_eq!(asked.1.load(Ordering::Relaxed), 1, "twenty at once, spoken once");
    let (headers, body) = asked.0.lock()[0].clone();
    assert_eq!(headers["authorization"], "Bearer sk-secret");
    assert_eq!(
        body,
        serde_json::json!({ "model": "tts-1", "input": "hello", "voice": "nova", "speed": 1.0, "response_format": "wav" })
    );
    let failed = async |words: &str| voice.speak(&text(words)).await.unwrap_err();
    let busy = failed("busy").await;
    assert!(matches!(busy, SynthesisError::Unavailable { .. }) && busy.is_transient(), "{busy}");
    let wrong = failed("wrong").await;
    assert!(
        matches!(&wrong, SynthesisError::Failed { reason, .. } if reason.contains("no such voice")),
        "{wrong}"
    );
    assert!(matches!(failed("html").await, SynthesisError::NotAudio { .. }));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_without_what_was_to_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Google { url: "http://127.0.0.1:9/translate_tts".into() };
    let error =
        Synthesiser::new(config(engine, folder.path())).unwrap().speak(&text("my secret")).await.unwrap_err();
    assert!(error.is_transient() && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn google_is_asked_piece_by_piece_and_the_pieces_are_put_together() {
    let asked = Asked::default();
    let answer = |State(asked): State<Asked>, Query(query): Query<Value>| async move {
        asked.0.lock().push((HeaderMap::new(), query));
        include_bytes!("fixtures/speech/tone.mp3").to_vec()
    };
    let url = serve(Router::new().route("/translate_tts", get(answer)).with_state(asked.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Google { url: format!("{url}/translate_tts") };
    let voice = Synthesiser::new(config(engine, folder.path())).unwrap();
    let sentence = "Esta es una prueba del sistema. ".repeat(12);
    let spanish = SpeechRequest { language: Some("es".into()), ..text(&sentence) };
    let spoken = voice.speak(&spanish).await.unwrap();
    let queries: Vec<Value> = asked.0.lock().drain(..).map(|(_, query)| query).collect();
    let said: Vec<&str> = queries.iter().map(|query| query["q"].as_str().unwrap()).collect();
    assert_eq!(said.len(), 2);
    assert!(said.iter().all(|piece| piece.chars().count() <= 200));
    assert_eq!(said.join(" "), sentence.trim());
    assert_eq!(queries[0]["tl"], "es");
    let one = voice.speak(&text("short")).await.unwrap();
    assert_eq!(spoken.pcm.len(), 2 * one.pcm.len());
}

#[cfg(feature = "riva")]
#[tokio::test(flavor = "multi_thread")]
async fn riva_is_asked_as_nvidias_own_stubs_read_it() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use sidetone::speech::riva::{RivaConfig, RivaService};

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("build/tools/python/bin/python");
    assert!(python.exists(), "no Python with the package nvidia-riva-client: run scripts/setup");
    let mut command = Command::new(python);
    command.arg(root.join("tests/riva/server.py")).arg("none");
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let url = format!("http://127.0.0.1:{}", lines.next().unwrap().unwrap());
    let mut told = move || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let speaker = |url: &str| {
        let riva = RivaConfig { url: url.into(), ..RivaConfig::default() };
        let riva = RivaService::new(riva, tokio::runtime::Handle::current()).unwrap();
        let engine = Engine::Riva { url: url.into() };
        Synthesiser::new(config(engine, folder.path())).unwrap().with_remote(Arc::new(riva))
    };
    let voice = speaker(&url);
    let spoken = voice.speak(&text("hello")).await.unwrap();
    assert_eq!((spoken.rate_hz, spoken.pcm.len()), (22_050, 5 * 2_205));
    let asked = serde_json::json!({
        "text": "hello", "language_code": "en-US", "encoding": "LINEAR_PCM", "sample_rate_hz": 22_050
    });
    assert_eq!(told(), asked);

    let sentence = "Esta es una prueba del sistema. ".repeat(20);
    let request = SpeechRequest {
        language: Some("es".into()),
        voice: Some("Spanish-US.Female-1".into()),
        speed: Some(1.5),
        ..text(&sentence)
    };
    voice.speak(&request).await.unwrap();
    let pieces = [told(), told()];
    assert!(pieces.iter().all(|piece| piece["language_code"] == "es-US"), "{pieces:?}");
    assert!(
        pieces[0]["text"].as_str().unwrap().starts_with("<speak><prosody rate=\"150%\">Esta es"),
        "{pieces:?}"
    );

    let refused =
        async |voice: &Synthesiser, request: SpeechRequest| voice.speak(&request).await.unwrap_err();
    let named = |name: &str| SpeechRequest { voice: Some(name.into()), ..text("hello") };
    let nobody = refused(&voice, named("nobody")).await;
    assert!(nobody.is_request() && nobody.to_string().contains("Voice nobody not found"), "{nobody}");
    let busy = refused(&voice, named("busy")).await;
    assert!(busy.is_transient() && busy.to_string().contains("riva.url"), "{busy}");
    let fast = refused(&voice, SpeechRequest { speed: Some(3.0), ..text("hello") }).await;
    assert!(matches!(fast, SynthesisError::Speed { most: 2.5, .. }), "{fast}");
    let away = refused(&speaker("http://127.0.0.1:9"), text("my secret")).await;
    assert!(away.is_transient() && !away.to_string().contains("secret"), "{away}");
    drop(server.stdin.take());
    server.wait().unwrap();
}
