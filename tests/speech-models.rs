//! Models are pulled whole or not at all, whatever server and network do; and the commands that show them.

#[path = "../fuzz/src/tiny_model.rs"]
mod tiny_model;

#[path = "support/model_server.rs"]
mod model_server;

#[path = "speech-models/commands.rs"]
mod commands;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use model_server::{Fault, ModelServer};
use sha2::{Digest, Sha256};
use sidetone::speech::models::{
    Expected, Fault as Flaw, Patience, Proof, Pull, PullError, Pulled, Record, Shelf, Source, Step, verify,
};
use tempfile::TempDir;
use tiny_model::TinyModel;

/// Longest a server may say nothing: for ever, where that is not what is tested.
const PATIENT: Duration = Duration::from_secs(120);
/// Long enough for a busy machine to send what it has.
const IMPATIENT: Duration = Duration::from_secs(3);

static TINY: LazyLock<Vec<u8>> = LazyLock::new(|| TinyModel::new().bytes);

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the catalogue would say of the model that is served.
fn listed() -> Expected {
    let sha256 = Some((sha256(&TINY), "the catalogue"));
    Expected { shape: None, bytes: Some(TINY.len() as u64), sha256 }
}

struct Place {
    folder: TempDir,
    shelf: Shelf,
    stall: Duration,
    steps: Vec<Step>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shelf =
            Shelf { folder: folder.path().join("models"), language: "en".into(), states: 1, memory: None };
        Self { folder, shelf, stall: PATIENT, steps: Vec::new() }
    }

    fn model(&self) -> PathBuf {
        self.shelf.path("test")
    }

    fn part(&self) -> PathBuf {
        self.shelf.folder.join("ggml-test.bin.part")
    }

    fn pull(&mut self, from: &str, expected: Expected) -> Result<Pulled, PullError> {
        self.steps.clear();
        let (shelf, steps) = (self.shelf.clone(), &mut self.steps);
        let source = Source::parse(from).unwrap();
        let mut pull = Pull::new("test", &shelf, &source);
        pull.expected = expected;
        pull.patience = Patience {
            stall: self.stall,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
            attempts: 4,
        };
        runtime().block_on(pull.run(&mut |step| match (&step, steps.last_mut()) {
            (Step::At(_), Some(last @ Step::At(_))) => *last = step,
            _ => steps.push(step),
        }))
    }

    /// All is there, nothing else is, and it says what it is.
    #[track_caller]
    fn is_whole(&self) {
        assert_eq!(fs::read(self.model()).unwrap(), *TINY);
        let mut names: Vec<_> = fs::read_dir(&self.shelf.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["ggml-test.bin", "ggml-test.bin.pulled.json"]);
        let record = Record::of(&self.model()).unwrap();
        assert_eq!((record.bytes, record.sha256), (TINY.len() as u64, sha256(&TINY)));
    }

    fn said(&self, words: &str) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Afresh(why) | Step::Again { why, .. } => why.contains(words),
            _ => false,
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn range(from: usize) -> Option<String> {
    Some(format!("bytes={from}-"))
}

#[test]
fn a_model_comes_whole_and_a_second_pull_leaves_it() {
    let server = ModelServer::start(TINY.clone(), []);
    let mut place = Place::new();
    assert_eq!(place.pull(&server.url(), listed()).unwrap(), Pulled::Now(Proof::Checksum));
    place.is_whole();
    let total = TINY.len() as u64;
    let steps = [Step::Begin { have: 0, total: Some(total) }, Step::At(total), Step::Checking];
    assert_eq!(place.steps, steps);
    assert_eq!(server.asked()[0].target, "/models/ggml-test.bin");
    assert!(Record::of(&place.model()).unwrap().from.ends_with("/models/ggml-test.bin"));

    assert!(matches!(place.pull(&server.url(), listed()), Ok(Pulled::AlreadyHere(_))));
    assert_eq!(server.asked().len(), 1);
    place.is_whole();
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let server = ModelServer::start(TINY.clone(), [Fault::Cut(1_000_000), Fault::Cut(700_000)]);
    let mut place = Place::new();
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert_eq!(server.ranges(), [None, range(1_000_000), range(1_700_000)]);
    assert_eq!(server.asked()[2].if_range.as_deref(), Some("\"one\""));
    assert!(place.steps.contains(&Step::Begin { have: 1_700_000, total: Some(TINY.len() as u64) }));
}

#[test]
fn a_later_command_goes_on_where_an_earlier_one_gave_up() {
    let faults = [Fault::Cut(500_000), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)];
    let server = ModelServer::start(TINY.clone(), faults);
    let mut place = Place::new();
    let gave_up = place.pull(&server.url(), listed()).unwrap_err();
    assert!(matches!(gave_up, PullError::GaveUp { kept: 500_000, .. }), "{gave_up}");
    let words = gave_up.to_string();
    assert!(words.contains("500000 bytes are kept") && words.contains("the same command goes on"), "{words}");
    assert!(!place.model().exists());
    assert_eq!(place.shelf.partial("test"), Some(500_000));

    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert_eq!(server.ranges().last().unwrap(), &range(500_000));
}

#[test]
fn a_stalled_server_is_left_and_asked_again() {
    let server = ModelServer::start(TINY.clone(), [Fault::Stall(800_000)]);
    let mut place = Place::new();
    place.stall = IMPATIENT;
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert!(place.said("the server sends nothing"), "{:?}", place.steps);
    assert_eq!(server.ranges(), [None, range(800_000)]);
}

#[test]
fn a_server_that_cannot_resume_is_asked_for_all_of_it() {
    let server = ModelServer::start(TINY.clone(), [Fault::Cut(900_000), Fault::WithoutRanges]);
    let mut place = Place::new();
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert!(place.said("cannot be resumed"), "{:?}", place.steps);
    assert_eq!(server.ranges(), [None, range(900_000)]);
}

#[test]
fn a_file_that_changed_there_in_between_is_taken_anew() {
    let mut other = TINY.clone();
    let place_of_ln = other.len() - 10;
    other[place_of_ln] = 1;
    let faults = [Fault::Cut(900_000), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)];
    let server = ModelServer::start(other, faults);
    let mut place = Place::new();
    // Of a model without a checksum, two halves of two files would be taken for one.
    place.pull(&server.url(), Expected::default()).unwrap_err();
    assert_eq!(place.shelf.partial("test"), Some(900_000));
    *server.state.lock() = model_server::State {
        file: TINY.clone(),
        etag: Some("\"two\""),
        faults: [].into(),
        asked: Vec::new(),
        released: false,
    };
    assert_eq!(place.pull(&server.url(), Expected::default()).unwrap(), Pulled::Now(Proof::Structure));
    place.is_whole();
    let asked = server.asked();
    assert_eq!((&asked[0].range, asked[0].if_range.as_deref()), (&range(900_000), Some("\"one\"")));
    assert!(place.said("it changed there"), "{:?}", place.steps);
}

#[test]
fn without_tag_and_checksum_nothing_is_pieced_together() {
    let server = ModelServer::start(TINY.clone(), [Fault::Cut(900_000)]);
    server.state.lock().etag = None;
    let mut place = Place::new();
    place.pull(&server.url(), Expected::default()).unwrap();
    place.is_whole();
    assert_eq!(server.ranges(), [None, None]);

    // With a checksum it can be: it tells whether it came out right.
    let server = ModelServer::start(TINY.clone(), [Fault::Cut(900_000)]);
    server.state.lock().etag = None;
    let mut place = Place::new();
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert_eq!(server.ranges(), [None, range(900_000)]);
}

#[test]
fn a_mirror_goes_on_where_another_stopped() {
    let faults = [Fault::Cut(900_000), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)];
    let first = ModelServer::start(TINY.clone(), faults);
    let mut place = Place::new();
    place.pull(&first.url(), listed()).unwrap_err();
    assert_eq!(place.shelf.partial("test"), Some(900_000));
    let second = ModelServer::start(TINY.clone(), []);
    second.state.lock().etag = Some("\"another\"");
    place.pull(&second.url(), listed()).unwrap();
    place.is_whole();
    assert_eq!(second.ranges(), [range(900_000)]);
    assert_eq!(second.asked()[0].if_range, None, "its tags are its own");
}

#[test]
fn bytes_that_are_all_there_are_only_checked() {
    let server = ModelServer::start(TINY.clone(), []);
    for expected in [listed(), Expected::default()] {
        let mut place = Place::new();
        fs::create_dir_all(&place.shelf.folder).unwrap();
        fs::write(place.part(), &*TINY).unwrap();
        let origin = format!("{{\"url\":\"{}/ggml-test.bin\",\"validator\":\"\\\"one\\\"\"}}", server.url());
        fs::write(place.shelf.folder.join("ggml-test.bin.part.json"), origin).unwrap();
        place.pull(&server.url(), expected).unwrap();
        place.is_whole();
    }
    // The one without a known length had to ask, and was told that there is no more.
    assert_eq!(server.ranges(), [range(TINY.len())]);
}

#[test]
fn a_part_other_than_the_missing_one_is_not_taken() {
    let server = ModelServer::start(TINY.clone(), [Fault::Cut(900_000), Fault::OtherPart]);
    let mut place = Place::new();
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert_eq!(server.ranges(), [None, range(900_000), None]);
}

#[test]
fn damaged_bytes_are_fetched_again_once() {
    let server = ModelServer::start(TINY.clone(), [Fault::Corrupt(2_000_000)]);
    let mut place = Place::new();
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert!(place.said("what came is damaged"), "{:?}", place.steps);
    assert_eq!(server.ranges(), [None, None]);

    let server = ModelServer::start(TINY.clone(), vec![Fault::Corrupt(2_000_000); 2]);
    let mut place = Place::new();
    let error = place.pull(&server.url(), listed()).unwrap_err();
    let words = error.to_string();
    assert!(
        matches!(&error, PullError::Damaged { fault, .. } if matches!(**fault, Flaw::Checksum { .. })),
        "{words}"
    );
    assert!(words.contains(&sha256(&TINY)) && words.contains("another mirror"), "{words}");
    assert!(!place.model().exists());
    assert_eq!(place.shelf.partial("test"), Some(0), "nothing of it is taken for good later");
}

#[test]
fn a_model_that_is_there_stays_until_a_good_one_replaces_it() {
    let mut place = Place::new();
    fs::create_dir_all(&place.shelf.folder).unwrap();
    fs::write(place.model(), b"what was there").unwrap();
    let server = ModelServer::start(TINY.clone(), vec![Fault::Corrupt(2_000_000); 2]);
    place.pull(&server.url(), listed()).unwrap_err();
    assert_eq!(fs::read(place.model()).unwrap(), b"what was there");
    place.pull(&server.url(), listed()).unwrap();
    assert!(place.said("the file that is there is no good"), "{:?}", place.steps);
    place.is_whole();
}

#[test]
fn answers_that_are_no_file_are_told_with_their_remedy() {
    let told = |fault: Fault, words: &[&str]| {
        let server = ModelServer::start(TINY.clone(), [fault]);
        let mut place = Place::new();
        let error = place.pull(&server.url(), listed()).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
        assert!(!place.model().exists());
        assert_eq!(server.asked().len(), 1, "asking again helps nothing");
    };
    told(
        Fault::Status("404 Not Found", ""),
        &["ggml-test.bin", "HTTP 404", "sidetone models list", "--from"],
    );
    told(Fault::Status("403 Forbidden", ""), &["HTTP 403", "https://user:password@host"]);
    told(Fault::Status("407 Proxy Authentication Required", ""), &["the proxy", "HTTPS_PROXY"]);
    told(Fault::Status("400 Bad Request", ""), &["HTTP 400", "speech.models_url"]);
    told(
        Fault::Page(b"<!DOCTYPE html> please log in"),
        &["is 29 bytes long", &TINY.len().to_string(), "another mirror"],
    );
}

#[test]
fn a_page_in_place_of_a_model_is_seen_at_its_first_bytes() {
    let page = b"<!DOCTYPE html> please log in";
    let server = ModelServer::start(TINY.clone(), [Fault::Page(page)]);
    let mut place = Place::new();
    let error = place.pull(&server.url(), Expected::default()).unwrap_err();
    assert!(matches!(error, PullError::NoModel { .. }), "{error}");
    assert!(error.to_string().contains("\"<!DOCTYPE html> \""), "{error}");
    assert_eq!(place.shelf.partial("test"), Some(0));
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let busy = Fault::Status("503 Service Unavailable", "Retry-After: 1\r\n");
    let many = Fault::Status("429 Too Many Requests", "");
    let server = ModelServer::start(TINY.clone(), [busy, many]);
    let mut place = Place::new();
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    let again: Vec<_> = place.steps.iter().filter(|step| matches!(step, Step::Again { .. })).collect();
    // No longer than the longest pause.
    let pause = Duration::from_millis(20);
    assert_eq!(again[0], &Step::Again { why: "HTTP 503 Service Unavailable".into(), pause });
    assert_eq!(again.len(), 2);
}

#[test]
fn a_redirection_is_followed() {
    let there = ModelServer::start(TINY.clone(), [Fault::Cut(900_000)]);
    let to = format!("{}/elsewhere", there.url());
    let server = ModelServer::start(Vec::new(), vec![Fault::Redirect(to); 2]);
    let mut place = Place::new();
    place.pull(&server.url(), listed()).unwrap();
    place.is_whole();
    assert_eq!(there.asked()[1].target, "/models/elsewhere");
    assert_eq!(there.ranges(), [None, range(900_000)], "the range goes along");

    let server = ModelServer::start(Vec::new(), vec![Fault::Redirect("/models/again".into()); 30]);
    let error = Place::new().pull(&server.url(), listed()).unwrap_err();
    assert!(matches!(error, PullError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("it leads in circles"), "{error}");
}

#[test]
fn an_answer_without_a_length_is_judged_by_what_came() {
    let length = TINY.len();
    let server = ModelServer::start(TINY.clone(), [Fault::Unsized(length)]);
    let mut place = Place::new();
    place.pull(&server.url(), Expected::default()).unwrap();
    place.is_whole();

    let faults = [Fault::Unsized(length - 1_000), Fault::Unsized(length - 1_000)];
    let server = ModelServer::start(TINY.clone(), faults);
    let mut place = Place::new();
    let error = place.pull(&server.url(), Expected::default()).unwrap_err();
    assert!(
        matches!(&error, PullError::Damaged { fault, .. } if matches!(**fault, Flaw::Flaw(_))),
        "{error}"
    );
    assert!(!place.model().exists());
}

#[test]
fn nobody_there_is_told_after_some_attempts() {
    let server = ModelServer::start(TINY.clone(), []);
    let url = server.url();
    drop(server);
    let mut place = Place::new();
    let error = place.pull(&url, listed()).unwrap_err();
    assert!(matches!(error, PullError::GaveUp { kept: 0, .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert_eq!(place.steps.iter().filter(|step| matches!(step, Step::Again { .. })).count(), 3);
}

#[test]
fn of_two_pulls_at_once_one_is_refused() {
    let server = ModelServer::start(TINY.clone(), [Fault::Hold(600_000)]);
    let mut first = Place::new();
    let mut second = Place::new();
    second.shelf = first.shelf.clone();
    let (shelf, url) = (first.shelf.clone(), server.url());
    let first = std::thread::spawn(move || {
        first.pull(&url, Expected::default()).unwrap();
        first
    });
    until(|| shelf.partial("test") == Some(600_000));
    let error = second.pull(&server.url(), listed()).unwrap_err();
    assert!(matches!(error, PullError::Busy { .. }), "{error}");
    assert!(error.to_string().contains("another pull of test is under way"), "{error}");
    server.state.lock().released = true;
    let first = first.join().unwrap();
    first.is_whole();
    assert!(matches!(second.pull(&server.url(), listed()), Ok(Pulled::AlreadyHere(_))));
    first.is_whole();
}

#[test]
fn a_folder_is_as_good_as_a_server() {
    let other = tempfile::tempdir().unwrap();
    let from = other.path().to_str().unwrap();
    let mut place = Place::new();
    let error = place.pull(from, listed()).unwrap_err().to_string();
    assert!(error.contains("ggml-test.bin") && error.contains(from), "{error}");
    fs::write(other.path().join("test.bin"), &TINY[..1_000]).unwrap();
    let error = place.pull(from, listed()).unwrap_err();
    assert!(matches!(error, PullError::WrongSize { have: 1_000, .. }), "{error}");
    fs::write(other.path().join("test.bin"), &*TINY).unwrap();
    place.pull(from, listed()).unwrap();
    place.is_whole();
    assert_eq!(Record::of(&place.model()).unwrap().from, from);
}

/// A model that the catalogue does not know is trusted as it was first pulled, and no other takes its place unasked.
#[test]
fn what_is_not_listed_is_remembered() {
    let server = ModelServer::start(TINY.clone(), []);
    let mut place = Place::new();
    assert_eq!(place.pull(&server.url(), Expected::default()).unwrap(), Pulled::Now(Proof::Structure));
    assert_eq!(verify("test", &place.model()).unwrap(), Proof::SameAsPulled);

    let mut other = TINY.clone();
    let at = other.len() - 10;
    other[at] = 1;
    fs::write(place.model(), &other).unwrap();
    let fault = verify("test", &place.model()).unwrap_err();
    assert!(matches!(fault, Flaw::Checksum { .. }), "{fault}");

    let changed = ModelServer::start(other, []);
    let expected = Expected::of("test", &place.model());
    let error = place.pull(&changed.url(), expected).unwrap_err();
    assert!(matches!(error, PullError::Changed { .. }), "{error}");
    let record = Record::path(&place.model());
    assert!(error.to_string().contains(&format!("remove {} and pull again", record.display())), "{error}");
    changed.state.lock().file.push(0);
    let expected = Expected::of("test", &place.model());
    let error = place.pull(&changed.url(), expected).unwrap_err();
    assert!(
        matches!(&error, PullError::Changed { fault, .. } if matches!(**fault, Flaw::Length { .. })),
        "{error}"
    );
    let expected = Expected::of("test", &place.model());
    place.pull(&server.url(), expected).unwrap();
    place.is_whole();
}

#[test]
fn another_models_file_under_a_listed_name_is_no_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ggml-base.en.bin");
    fs::write(&path, &*TINY).unwrap();
    let fault = verify("base.en", &path).unwrap_err();
    assert!(matches!(fault, Flaw::Other { .. }), "{fault}");
    fs::write(&path, &TINY[..2_000_000]).unwrap();
    let fault = verify("base.en", &path).unwrap_err().to_string();
    assert!(fault.contains("it ends after 2000000 bytes"), "{fault}");
}

/// A tmpfs of 2 MiB, unmounted when dropped. `None` where mounting is not allowed.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "sidetone-test"]).arg(folder.path());
        mount.output().ok()?.status.success().then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_disk_without_room_is_told_before_anything_comes() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("mounting is not allowed here: not tested with a small disk");
        return;
    };
    let server = ModelServer::start(TINY.clone(), []);
    let mut place = Place::new();
    place.shelf.folder = disk.0.path().join("models");
    let error = place.pull(&server.url(), listed()).unwrap_err();
    assert!(matches!(error, PullError::NoRoom { .. }), "{error}");
    let words = error.to_string();
    assert!(words.contains("are missing") && words.contains("speech.models_dir"), "{words}");
    assert_eq!(place.shelf.partial("test"), Some(0));

    // A server that does not say how long it is: the disk is full in the middle, and what is there stays.
    let server = ModelServer::start(TINY.clone(), [Fault::Unsized(TINY.len())]);
    let error = place.pull(&server.url(), Expected::default()).unwrap_err();
    assert!(matches!(error, PullError::Write { .. }), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert!(place.shelf.partial("test").unwrap() > 1_000_000);
}

#[test]
fn room_for_recordings_is_left() {
    let server = ModelServer::start(TINY.clone(), []);
    let place = Place::new();
    let source = Source::parse(&server.url()).unwrap();
    let mut pull = Pull::new("test", &place.shelf, &source);
    pull.spare = 1 << 60;
    let error = runtime().block_on(pull.run(&mut |_| {})).unwrap_err();
    assert!(error.to_string().contains("stay free for recordings"), "{error}");
    assert!(place.folder.path().exists());
}

#[allow(clippy::disallowed_methods, reason = "tests run on the real clock")]
#[track_caller]
fn until(mut done: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
