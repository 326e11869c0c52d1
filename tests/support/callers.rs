//! Who calls in the lab: parties on Local channels, and SIP phones (SIPp).

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::lab::{FRAME, Lab, lab_script, path_text, ulaw_encode};

/// A call between two speaking parties. What they say is a list: a prompt's name, or seconds to wait (`"0.5"`).
#[derive(Clone)]
pub struct Call {
    exten: &'static str,
    caller: String,
    callee: String,
    variables: Vec<(&'static str, String)>,
    caller_id: String,
    formats: &'static str,
}

impl Call {
    /// `Stasis(app,tap)`, then Dial to the called party.
    pub fn tap() -> Call {
        Call::to("tap")
    }

    /// Answer, then `Stasis(app,tap)`, then Dial.
    pub fn tap_when_up() -> Call {
        Call::to("tap-up")
    }

    /// `Stasis(app,tap)`, then the dialplan itself plays what the called party says: no bridge, no second leg.
    pub fn tap_playback() -> Call {
        Call::to("tap-play")
    }

    /// `Stasis(app,answer)`: only the caller speaks.
    pub fn answer() -> Call {
        Call::to("answer")
    }

    /// Dial alone, Stasis never sees it.
    pub fn plain() -> Call {
        Call::to("plain")
    }

    /// `Stasis(app,tap)`, then a conference.
    pub fn conference(room: &str) -> Call {
        Call::to("conf").with("ROOM", room)
    }

    /// A conference that Stasis never sees.
    pub fn plain_conference(room: &str) -> Call {
        Call::to("conf-plain").with("ROOM", room)
    }

    /// `Stasis(app,tap)`, then an echo: what the caller says is what it hears.
    pub fn echo_tapped() -> Call {
        Call::to("echo-tap")
    }

    /// Answered by an echo.
    pub fn echo() -> Call {
        Call::to("echo")
    }

    fn to(exten: &'static str) -> Call {
        Call {
            exten,
            caller: String::new(),
            callee: String::new(),
            variables: Vec::new(),
            caller_id: "1000".into(),
            // Without this a Local channel is 192 kHz, and resampling changes every sample.
            formats: "slin",
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.variables.push((name, value.into()));
        self
    }

    pub fn caller(mut self, says: &[&str]) -> Call {
        self.caller = says.join("&");
        self
    }

    pub fn callee(mut self, says: &[&str]) -> Call {
        self.callee = says.join("&");
        self
    }

    /// The called party hangs up after its list, not the caller.
    pub fn callee_hangs_up(self) -> Call {
        self.with("HANGUP_BY", "b")
    }

    /// Nobody hangs up: `PlacedCall::hang_up` does.
    pub fn nobody_hangs_up(self) -> Call {
        self.with("HANGUP_BY", "none")
    }

    /// Seconds of silence between the last word and the hangup (0.5 if not set).
    pub fn tail(self, seconds: f64) -> Call {
        self.with("TAIL", seconds.to_string())
    }

    /// Further arguments of Stasis, e.g. `tenant=acme,record=no`.
    pub fn stasis_args(self, args: &str) -> Call {
        self.with("STASIS_ARGS", format!(",{args}"))
    }

    pub fn caller_id(mut self, number: &str) -> Call {
        self.caller_id = number.to_owned();
        self
    }

    /// What the caller's channel carries (`slin` if not set): its own rate, and with it the rate of what is heard of it.
    pub fn formats(mut self, formats: &'static str) -> Call {
        self.formats = formats;
        self
    }

    /// Originates it and returns at once.
    pub async fn place<'a>(&self, lab: &'a Lab) -> PlacedCall<'a> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (caller, main) = (format!("{name}-caller"), format!("{name}-main"));
        let mut variables = json!({ "PROMPTS_A": self.caller, "PROMPTS_B": self.callee });
        for (key, value) in &self.variables {
            variables[*key] = json!(value);
        }
        let query = [
            ("endpoint", &*format!("Local/{}@lab-pbx/n", self.exten)),
            ("context", "lab-party"),
            ("extension", "a"),
            ("priority", "1"),
            ("callerId", &self.caller_id),
            ("channelId", &caller),
            ("otherChannelId", &main),
            ("timeout", "30"),
            ("formats", self.formats),
        ];
        lab.ari_post("/channels", &query, Some(json!({ "variables": variables }))).await.ok();
        PlacedCall { lab, caller, main }
    }
}

/// A call under way.
pub struct PlacedCall<'a> {
    lab: &'a Lab,
    /// The channel of the party that calls.
    pub caller: String,
    /// The channel that runs through the dialplan: the one Sidetone taps or answers.
    pub main: String,
}

impl PlacedCall<'_> {
    pub async fn hang_up(&self) {
        let reply = self.lab.ari_delete(&format!("/channels/{}", self.caller)).await;
        assert!(matches!(reply.status, 204 | 404), "hangup answered {}: {}", reply.status, reply.body);
    }

    pub async fn is_over(&self) -> bool {
        self.lab.ari_get(&format!("/channels/{}", self.main)).await.status == 404
    }

    /// Waits until its main channel is gone.
    pub async fn ended(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.is_over().await {
            assert!(Instant::now() < deadline, "the call {} still runs after {limit:?}", self.main);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A SIP phone (SIPp) that calls the lab, speaks u-law over RTP, and hangs up.
pub struct SipCall {
    number: String,
    says: Vec<i16>,
    stays: Duration,
    calls: u32,
    headers: Vec<(&'static str, String)>,
    media: Option<u16>,
}

impl SipCall {
    /// `number` is a name in the lab's dialplan: `tap`, `tap-up`, `answer`, `plain`, `conf`, `echo`.
    pub fn to(number: &str) -> SipCall {
        SipCall {
            number: number.to_owned(),
            says: Vec::new(),
            stays: Duration::ZERO,
            calls: 1,
            headers: Vec::new(),
            media: None,
        }
    }

    /// The media is somebody else's, who has this port: SIPp does the signalling alone.
    pub fn media_at(mut self, port: u16) -> SipCall {
        self.media = Some(port);
        self
    }

    /// What the phone says, 8 kHz. Unless `stays` is set it hangs up half a second later.
    pub fn says(mut self, samples: &[i16]) -> SipCall {
        self.says = samples.to_vec();
        self
    }

    pub fn stays(mut self, time: Duration) -> SipCall {
        self.stays = time;
        self
    }

    /// That many phones at once, started within a second.
    pub fn times(mut self, calls: u32) -> SipCall {
        self.calls = calls;
        self
    }

    /// What the called party says.
    pub fn callee(mut self, says: &[&str]) -> SipCall {
        self.headers.push(("X-Prompts-B", says.join("&")));
        self
    }

    pub fn callee_hangs_up(mut self) -> SipCall {
        self.headers.push(("X-Hangup-By", "b".into()));
        self
    }

    pub fn stasis_args(mut self, args: &str) -> SipCall {
        self.headers.push(("X-Stasis-Args", format!(",{args}")));
        self
    }

    /// Starts the phones; they end by themselves or when dropped.
    pub fn place(self, lab: &Lab) -> SipPhones {
        let folder =
            tempfile::Builder::new().prefix("sipp-").tempdir_in(lab.folder()).expect("a folder for SIPp");
        let audio = folder.path().join("says.ul");
        // SIPp wants something to play: a frame of silence if nothing is said.
        let samples = if self.says.is_empty() { &[0; FRAME][..] } else { &self.says };
        fs::write(&audio, samples.iter().map(|&sample| ulaw_encode(sample)).collect::<Vec<_>>())
            .expect("SIPp's audio");
        let spoken = Duration::from_millis(samples.len() as u64 / 8 + 500);
        let stays = if self.stays.is_zero() { spoken } else { self.stays };
        let mut headers = String::from("User-Agent: lab");
        for (name, value) in &self.headers {
            write!(headers, "\n      {name}: {value}").expect("a string takes text");
        }
        let port = self.media.map(|port| port.to_string());
        let (begin, end) = if self.media.is_some() { ("<!--", "-->") } else { ("", "") };
        let scenario = include_str!("sipp/speak.xml")
            .replace("[rtpstream_audio_port]", port.as_deref().unwrap_or("[rtpstream_audio_port]"))
            .replace("<nop>", &format!("{begin}<nop>"))
            .replace("</nop>", &format!("</nop>{end}"))
            .replacen("@AUDIO@", "AUDIO", 1) // in the comment
            .replace("@AUDIO@", path_text(&audio))
            .replace("@MILLISECONDS@", &stays.as_millis().to_string())
            .replace("@HEADERS@", &headers);
        let file = folder.path().join("scenario.xml");
        fs::write(&file, scenario).expect("SIPp's scenario");
        let log = fs::File::create(folder.path().join("sipp.log")).expect("SIPp's log");
        let child = lab_script()
            .args(["sipp", &lab.sip_addr().to_string(), "-sf", path_text(&file), "-s", &self.number])
            .args([
                "-i",
                "127.0.0.1",
                "-mi",
                "127.0.0.1",
                "-m",
                &self.calls.to_string(),
                "-l",
                &self.calls.to_string(),
            ])
            .args(["-r", &self.calls.to_string(), "-timeout", "120", "-timeout_error", "-nostdin"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("SIPp's log"))
            .stdout(log)
            .spawn()
            .expect("SIPp");
        SipPhones { child, folder }
    }
}

/// Phones under way.
pub struct SipPhones {
    child: Child,
    folder: tempfile::TempDir,
}

impl SipPhones {
    /// Waits until all calls are over; fails if one went wrong.
    pub async fn ended(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("SIPp's status") {
                let log = fs::read_to_string(self.folder.path().join("sipp.log")).unwrap_or_default();
                assert!(status.success(), "SIPp failed ({status}):\n{log}");
                return;
            }
            assert!(Instant::now() < deadline, "SIPp still runs after {limit:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for SipPhones {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
