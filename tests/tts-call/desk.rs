//! Who places the calls: a caller with its connection to a lab, a journal that notes everything, and what is asked of both.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sidetone::asterisk::ami::{AmiClient, AmiConfig};
use sidetone::asterisk::ari::{AriClient, AriConfig};
use sidetone::config::Settings;
use sidetone::config::settings::TtsCalls;
use sidetone::jobs::call::{
    AMI_EVENTS, CallAudio, CallError, CallId, CallRequest, Caller, Journal, JournalError, Outcome, Progress,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::lab::Lab;

pub const PATIENCE: Duration = Duration::from_secs(40);
/// What the calls say: long enough to be cut off.
pub const TEXT: &str = "vm-goodbye";
pub const LONG_TEXT: &str = "demo-congrats";

/// What a job store would keep.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, line: String) {
        self.0.lock().expect("nobody panicked").push(line);
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("nobody panicked").clone()
    }
}

impl Journal for Notes {
    fn intends<'a>(&'a self, id: &'a CallId, _at: Timestamp) -> BoxFuture<'a, Result<(), JournalError>> {
        async move {
            self.note(format!("intends {id}"));
            Ok(())
        }
        .boxed()
    }

    fn concluded<'a>(
        &'a self,
        id: &'a CallId,
        outcome: &'a Outcome,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        async move {
            self.note(format!("concluded {id} {}", outcome.outcome.name()));
            Ok(())
        }
        .boxed()
    }

    fn progress(&self, id: &CallId, progress: Progress) {
        self.note(format!("{id} {progress:?}"));
    }
}

/// A caller of a lab.
pub struct Desk {
    pub caller: Caller,
    pub notes: Notes,
    pub cancel: CancellationToken,
    pub folder: TempDir,
}

/// Settings for the lab's phones, which are extensions.
pub fn settings(lab: &Lab, folder: &TempDir, change: impl FnOnce(&mut TtsCalls)) -> Settings {
    let mut settings = Settings::default();
    let tts = &mut settings.tts_calls;
    tts.channel = "Local/{national}@lab-phones/n".into();
    tts.region = "CO".into();
    tts.allow_extensions = true;
    tts.audio_folder = Some(folder.path().join("audio"));
    tts.spool = std::path::Path::new(lab.env("LAB_SPOOL")).join("outgoing");
    change(tts);
    settings
}

impl Desk {
    /// At the lab's own port.
    pub async fn at(lab: &Lab, change: impl FnOnce(&mut TtsCalls)) -> Desk {
        Desk::through(lab, &lab.ami_addr().to_string(), Duration::from_millis(20), change).await
    }

    /// By another address, with pauses between attempts to connect.
    pub async fn through(
        lab: &Lab,
        address: &str,
        backoff: Duration,
        change: impl FnOnce(&mut TtsCalls),
    ) -> Desk {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(lab, &folder, change);
        let caller = connect(lab, &settings, address, backoff);
        let desk = Desk { caller, notes: Notes::default(), cancel: CancellationToken::new(), folder };
        timeout(PATIENCE, desk.caller.connected()).await.expect("a connection to the Manager");
        desk
    }

    /// Another process, as it were: a caller that knows nothing of the calls of this one.
    pub fn reborn(self, lab: &Lab, change: impl FnOnce(&mut TtsCalls)) -> Desk {
        let Desk { caller, folder, .. } = self;
        drop(caller);
        let settings = settings(lab, &folder, change);
        let caller = connect(lab, &settings, &lab.ami_addr().to_string(), Duration::from_millis(20));
        Desk { caller, notes: Notes::default(), cancel: CancellationToken::new(), folder }
    }

    pub fn request(&self, lab: &Lab, job: &str, number: &str, text: &str) -> CallRequest {
        CallRequest {
            id: CallId::new(job, 1).expect("an id"),
            tenant: "default".into(),
            number: number.into(),
            audio: CallAudio::Samples(lab.prompt_samples(text)),
        }
    }

    pub async fn call(&self, lab: &Lab, job: &str, number: &str, text: &str) -> Outcome {
        let outcome = self.try_call(lab, job, number, text).await;
        outcome.unwrap_or_else(|error| panic!("{number}: {error}"))
    }

    pub async fn try_call(
        &self,
        lab: &Lab,
        job: &str,
        number: &str,
        text: &str,
    ) -> Result<Outcome, CallError> {
        let request = self.request(lab, job, number, text);
        timeout(PATIENCE, self.caller.call(&request, &self.notes, &self.cancel))
            .await
            .expect("an outcome in time")
    }

    pub async fn resume(&self, job: &str) -> Outcome {
        let id = CallId::new(job, 1).expect("an id");
        let resumed = self.caller.resume(&id, "default", None, &self.notes, &self.cancel);
        timeout(PATIENCE, resumed).await.expect("an outcome in time").expect("an outcome")
    }

    /// Nothing of a call is left: no report, no audio.
    pub async fn assert_nothing_left(&self) {
        assert_eq!(self.caller.leftovers().await.expect("the database"), []);
    }

    /// Waits until the journal has that.
    pub async fn noted(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.notes.all().iter().any(|noted| noted == line) {
            assert!(Instant::now() < deadline, "not noted: {line}, but {:?}", self.notes.all());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn connect(lab: &Lab, settings: &Settings, address: &str, backoff: Duration) -> Caller {
    let config = AmiConfig {
        url: format!("tcp://{address}"),
        user: lab.ami_user().into(),
        password: lab.ami_password().into(),
        events: AMI_EVENTS.into(),
        backoff_min: backoff,
        backoff_max: backoff,
        ..AmiConfig::default()
    };
    let (client, notices) = AmiClient::connect(config).expect("a client");
    let ari = AriClient::new(AriConfig {
        url: lab.ari_url().into(),
        user: lab.ari_user().into(),
        password: lab.ari_password().into(),
        app: lab.app().into(),
        request_timeout: Duration::from_secs(5),
        media_address: None,
    });
    Caller::new(settings, client, notices, Some(ari.expect("a client"))).expect("settings that work")
}

/// Waits until Asterisk has no channel any more.
pub async fn quiet(lab: &Lab) {
    let deadline = Instant::now() + PATIENCE;
    while !lab.everything().await.0.is_empty() {
        assert!(Instant::now() < deadline, "channels are left: {:?}", lab.everything().await.0);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Hangs the called party of a call up, as if it had itself.
pub async fn party_hangs_up(lab: &Lab, job: &str) {
    let reply = lab.ari_delete(&format!("/channels/{job}-1%3B2")).await;
    assert_eq!(reply.status, 204, "{:?}", reply.body);
}
