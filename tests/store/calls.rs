//! Calls that are over, in the database: made from their files, listed, reconciled.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sidetone::calls::archive::{Archive, NotRemoved};
use sidetone::calls::directory::{CallDirectory, CallPage, CallQuery, RemoveError};
use sidetone::calls::hub::{EventHub, EventKind, HubConfig};
use sidetone::calls::record::{CallMode, CallRecord, CallState, FileInfo, FileStatus};
use sidetone::store::{Dialect, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::support::services::Postgres;

const NODE: &str = "node1";
/// Longest wait for what happens in a moment.
const SOON: Duration = Duration::from_secs(30);
/// Ended calls that are kept in memory.
const RECENT: usize = 4;

/// A data folder whose calls are filed.
struct House {
    directory: Arc<CallDirectory>,
    hub: Arc<EventHub>,
    archive: Arc<Archive>,
    store: Store,
    stop: CancellationToken,
    filing: JoinHandle<()>,
}

impl House {
    fn open(data: &Path, store: &Store) -> Self {
        Self::of_node(data, store, NODE)
    }

    fn of_node(data: &Path, store: &Store, node: &str) -> Self {
        let directory = Arc::new(CallDirectory::open(data, RECENT).unwrap());
        let hub = Arc::new(EventHub::new(HubConfig::default(), Some(directory.clone())).unwrap());
        let archive = Arc::new(Archive::new(directory.clone(), store, node));
        let stop = CancellationToken::new();
        let filing = tokio::spawn(archive.clone().keep_filing(stop.clone()));
        Self { directory, hub, archive, store: store.clone(), stop, filing }
    }

    async fn close(self) {
        self.directory.flush();
        self.stop.cancel();
        self.filing.await.unwrap();
    }

    /// A call with all its files, begun `minutes` after midnight.
    fn end_call(&self, id: &str, tenant: &str, minutes: i64) {
        self.end_call_heard(id, tenant, minutes, [Some(4.4), None]);
    }

    /// The same, with the scores of its legs.
    fn end_call_heard(&self, id: &str, tenant: &str, minutes: i64, mos: [Option<f64>; 2]) {
        let started_at = "2026-03-01T00:00:00.000000001Z".parse::<jiff::Timestamp>().unwrap();
        let started_at = started_at + jiff::SignedDuration::from_mins(minutes);
        let mut record = CallRecord::new(id, tenant, CallMode::Tap, started_at);
        record.state = CallState::Live;
        record.channel.caller.number = format!("+49{id}");
        record.label = Some("50%_Größe".into());
        let record = self.directory.insert(record).unwrap();
        let files = self.directory.files(&record).unwrap();
        self.hub.open_call(tenant, id, Some(files.events())).unwrap();
        self.hub.publish(id, EventKind::CallStarted, json!({}));
        self.hub.publish(id, EventKind::TranscriptPartial, said("hel", 1));
        self.hub.publish(id, EventKind::TranscriptFinal, said("hello \u{0}world", 2));
        std::fs::create_dir_all(files.folder()).unwrap();
        std::fs::write(files.recording(), "RIFF").unwrap();
        std::fs::write(files.report(), report(id, tenant).to_string()).unwrap();
        let path = files.recording().strip_prefix(self.directory.data()).unwrap().to_owned();
        let legs = json!([{ "name": "caller", "codec": "ulaw", "packets_received": 99, "packets_lost": 1, "jitter_ms": 0.5, "mos": mos[0] },
            { "name": "callee", "codec": "ulaw", "packets_received": 0, "packets_lost": 0, "jitter_ms": 0.0, "mos": mos[1] }]);
        self.directory.update(id, |record| {
            record.state = CallState::Ended;
            record.outcome = Some("completed".into());
            record.duration_s = Some(2.5);
            record.recording =
                FileInfo { status: FileStatus::Ready, path: Some(path), sha256: Some("ab".into()) };
            record.report.status = FileStatus::Ready;
            record.legs = serde_json::from_value(legs).unwrap();
        });
        self.hub.publish(id, EventKind::CallEnded, json!({ "outcome": "completed" }));
        self.hub.close_call(id);
    }

    async fn page(&self, query: CallQuery) -> CallPage {
        self.archive.list(&query).await.unwrap()
    }

    /// Every id, page by page.
    async fn walk(&self, query: CallQuery) -> Vec<String> {
        let (mut query, mut all) = (query, Vec::new());
        loop {
            let page = self.page(query.clone()).await;
            assert!(page.calls.len() <= query.limit);
            all.extend(page.calls.iter().map(|record| record.call_id.clone()));
            match page.next {
                // A cursor survives its text form.
                Some(next) => query.before = Some(next.to_string().parse().unwrap()),
                None => return all,
            }
        }
    }

    /// Wait until the rows of all calls on disk, and no others of this node, are what their files say.
    async fn until_filed(&self, count: usize) {
        self.directory.flush();
        let rows = self.store.calls();
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let days = rows.days(NODE).await.unwrap();
            let mut good = 0;
            for (tenant, day) in days {
                for version in rows.versions(NODE, &tenant, day).await.unwrap() {
                    let events = rows.events(&tenant, &version.id, 0, i64::MAX).await.unwrap();
                    good += usize::from(events.last().is_some_and(|event| event.kind == "call.ended"));
                }
            }
            if good == count {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{good} of {count} calls are filed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn file(&self, id: &str, suffix: &str) -> PathBuf {
        let record = self.directory.get(id).unwrap();
        self.directory.files(&record).unwrap().folder().join(format!("{id}.{suffix}"))
    }
}

fn said(text: &str, revision: u64) -> Value {
    let word = json!({ "text": text, "start": 0.5, "end": 0.9, "confidence": 0.75, "stable": true });
    json!({ "leg": "caller", "utterance": 1, "revision": revision, "start": 0.5, "end": 1.0, "text": text, "language": "en", "words": [word] })
}

fn report(id: &str, tenant: &str) -> Value {
    let leg = |name: &str, lost: u64| {
        json!({ "name": name, "codec": "ulaw", "ssrcs": [7], "packets_expected": 100, "packets_received": 99, "packets_lost": lost,
            "packets_late": 3, "packets_duplicate": 4, "packets_repaired": 5, "packets_invalid": 0, "packets_lost_in_bursts": 0,
            "loss_bursts": 1, "burst_ratio": 1.0, "jitter_ms": 0.5, "max_jitter_ms": 1.0, "mean_jitter_ms": 0.5, "max_delta_ms": 40.0,
            "round_trip_ms": null, "mos": 4.4, "mos_basis": "listening", "mos_scale": "narrowband", "clock_ppm": -11.0,
            "segments": [], "resumed": false, "gaps": [] })
    };
    json!({ "call_id": id, "tenant": tenant, "started_at": "2026-03-01T00:00:00Z", "duration_s": 2.5, "sample_rate": 8000, "sha256": "ab",
        "legs": [leg("caller", 1), leg("callee", 1)] })
}

fn everything() -> CallQuery {
    CallQuery { limit: 100, ..CallQuery::default() }
}

fn ids(page: &CallPage) -> Vec<&str> {
    page.calls.iter().map(|record| record.call_id.as_str()).collect()
}

on_both! {
    async fn a_call_that_ends_is_there_with_legs_recording_words_and_events(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        house.end_call("c1", "acme", 0);
        house.until_filed(1).await;
        let rows = store.calls();
        let call = rows.get(NODE, "c1").await.unwrap().unwrap();
        let record: CallRecord = serde_json::from_str(&call.record).unwrap();
        assert_eq!(record, *house.directory.get("c1").unwrap(), "as GET shows it");
        assert_eq!(rows.get("other", "c1").await.unwrap(), None, "another node has no such call");
        let legs = rows.legs("acme", "c1").await.unwrap();
        assert_eq!(legs.iter().map(|leg| (&*leg.name, leg.packets_received, leg.mos)).collect::<Vec<_>>(),
            [("caller", 99, Some(4.4)), ("callee", 0, None)]);
        let of_report = legs[0].report.as_ref().unwrap();
        assert_eq!((of_report.packets_expected, of_report.packets_late, of_report.packets_repaired, of_report.clock_ppm), (100, 3, 5, Some(-11.0)));
        let recording = rows.recording("acme", "c1").await.unwrap().unwrap();
        assert_eq!((&*recording.status, recording.sample_rate, recording.duration_s, recording.gone_at), ("ready", Some(8_000), Some(2.5), None));
        assert!(recording.path.ends_with("acme/2026/03/01/c1.wav") && recording.report.unwrap().contains("packets_expected"));
        let transcript = rows.transcript("acme", "c1").await.unwrap().unwrap();
        assert!(!transcript.complete, "there is no file of it that says so");
        let said = &transcript.utterances[0];
        assert_eq!((&*said.leg, said.utterance, said.start, said.end, said.confidence), ("caller", 1, 0.5, 1.0, Some(0.75)));
        assert_eq!((transcript.utterances.len(), said.words.len(), said.words[0].end), (1, 1, 0.9));
        // PostgreSQL takes no NUL in a text.
        assert_eq!(said.text, "hello \u{fffd}world");
        let events = rows.events("acme", "c1", 0, 1_000).await.unwrap();
        let shown: Vec<_> = events.iter().map(|event| (event.seq, &*event.kind)).collect();
        assert_eq!(shown, [(1, "call.started"), (3, "transcript.final"), (4, "call.ended")], "partials are not kept");
        let body: Value = serde_json::from_str(&events[2].body).unwrap();
        assert_eq!((&body["seq"], &body["call_id"], &body["outcome"]), (&json!(4), &json!("c1"), &json!("completed")));
        assert_eq!(rows.events("other", "c1", 0, 1_000).await.unwrap(), [], "another tenant's call is another");
        // And page by page, as GET shows them of a call whose files have gone.
        let record = house.directory.get("c1").unwrap();
        let page = async |after, most| {
            let events = house.archive.events(&record, after, most).await.unwrap();
            events.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>()
        };
        assert_eq!((page(0, 2).await, page(3, 2).await, page(4, 2).await), (vec![1, 3], vec![4], vec![]));
        assert_eq!(page(u64::MAX, 2).await, [0; 0]);
        house.close().await;
    }

    async fn what_one_call_does_not_know_the_next_one_may(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        for (id, mos) in [("c1", [None, Some(4.4)]), ("c2", [Some(4.1), None]), ("c3", [None, None])] {
            house.end_call_heard(id, "acme", 0, mos);
            house.until_filed(id[1..].parse().unwrap()).await;
            let legs = store.calls().legs("acme", id).await.unwrap();
            assert_eq!(legs.iter().map(|leg| leg.mos).collect::<Vec<_>>(), mos, "{id}");
        }
        house.close().await;
    }

    async fn what_is_said_later_replaces_what_was_filed(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        house.end_call("c1", "acme", 0);
        house.until_filed(1).await;
        let transcript = json!({ "v": 1, "call_id": "c1", "duration": 2.5, "complete": true, "speakers": 2, "model": "base.en", "utterances": [
            { "speaker": "callee", "utterance": 1, "start": 0.1, "end": 0.2, "text": "later", "language": "en", "words": [] }] });
        std::fs::write(house.file("c1", "transcript.json"), transcript.to_string()).unwrap();
        house.directory.update("c1", |record| record.transcript.status = FileStatus::Ready);
        house.directory.flush();
        let deadline = tokio::time::Instant::now() + SOON;
        let stored = loop {
            let stored = store.calls().transcript("acme", "c1").await.unwrap().unwrap();
            if stored.complete {
                break stored;
            }
            assert!(tokio::time::Instant::now() < deadline, "{stored:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((&*stored.model, stored.utterances.len(), &*stored.utterances[0].text), ("base.en", 1, "later"));
        house.close().await;
    }

    async fn calls_are_listed_by_page_tenant_state_and_text_and_memory_stays_bounded(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        for n in 0..20 {
            house.end_call(&format!("c{n:02}"), if n % 2 == 0 { "acme" } else { "other" }, n * 100);
        }
        house.until_filed(20).await;
        let live = CallRecord::new("live", "acme", CallMode::Tap, "2026-03-01T05:30:00Z".parse().unwrap());
        house.directory.insert(live).unwrap();
        let in_memory = (0..20).filter(|n| house.directory.get_recent(&format!("c{n:02}")).is_some()).count();
        assert!(in_memory <= RECENT, "{in_memory} ended calls are in memory");
        let mut all: Vec<_> = (0..20).rev().map(|n| format!("c{n:02}")).collect();
        all.insert(16, "live".into());
        for limit in [1, 2, 3, 7, 21, 100] {
            assert_eq!(house.walk(CallQuery { limit, ..CallQuery::default() }).await, all, "pages of {limit}");
        }
        let of_acme = CallQuery { tenant: Some("acme".into()), limit: 3, ..CallQuery::default() };
        assert_eq!(house.walk(of_acme).await.len(), 11);
        let ended = CallQuery { state: Some(CallState::Ended), limit: 9, ..CallQuery::default() };
        assert_eq!(house.walk(ended).await.len(), 20);
        let live = CallQuery { state: Some(CallState::SettingUp), ..everything() };
        assert_eq!(ids(&house.page(live).await), ["live"]);
        let text = |text: &str| CallQuery { text: Some(text.into()), limit: 4, ..CallQuery::default() };
        assert_eq!(house.walk(text("+49C0")).await.len(), 10, "whatever the case");
        assert_eq!(house.walk(text("GRÖSSE")).await.len(), 0);
        assert_eq!(house.walk(text("größe")).await.len(), 20);
        assert_eq!(house.walk(text("0%_")).await.len(), 20, "a percent sign is one");
        assert_eq!(house.walk(text("5%0")).await.len() + house.walk(text("9_0")).await.len(), 0);
        house.close().await;
    }

    async fn a_database_that_is_behind_or_new_is_made_again_from_the_files(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        house.end_call("c1", "acme", 0);
        house.until_filed(1).await;
        house.close().await;
        // Ends while nobody files: and a crash before anything of it is.
        let house = House::open(data.path(), &store);
        house.stop.cancel();
        house.end_call("c2", "acme", 3_000);
        house.end_call("c3", "other", 3_001);
        house.directory.update("c1", |record| record.label = Some("late".into()));
        house.close().await;
        store.calls().remove("acme", "c1").await.unwrap();

        let house = House::open(data.path(), &store);
        house.until_filed(3).await;
        assert_eq!(ids(&house.page(everything()).await), ["c3", "c2", "c1"]);
        let first = store.calls().get(NODE, "c1").await.unwrap().unwrap();
        assert!(first.record.contains("late"));
        // Done again, it changes nothing.
        let before = store.calls().versions(NODE, "acme", 20_513).await.unwrap();
        house.close().await;
        let house = House::open(data.path(), &store);
        house.until_filed(3).await;
        assert_eq!(store.calls().versions(NODE, "acme", 20_513).await.unwrap(), before);
        assert_eq!(before.len(), 1);
        house.close().await;
    }

    async fn rows_whose_files_have_gone_say_so_and_say_the_opposite_when_they_are_back(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        for (n, id) in ["moved", "thinned", "whole"].into_iter().enumerate() {
            house.end_call(id, "acme", n as i64);
        }
        house.until_filed(3).await;
        let thinned = house.file("thinned", "wav");
        house.close().await;
        let day = data.path().join("recordings/acme/2026/03/01");
        let elsewhere = TempDir::new().unwrap();
        let of_moved = || std::fs::read_dir(&day).unwrap().flatten().map(|entry| entry.path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("moved.")).collect::<Vec<_>>();
        assert!(of_moved().len() >= 4);
        for path in of_moved() {
            std::fs::copy(&path, elsewhere.path().join(path.file_name().unwrap())).unwrap();
            std::fs::remove_file(path).unwrap();
        }
        std::fs::remove_file(&thinned).unwrap();

        let house = House::open(data.path(), &store);
        let until = async |what: &str, holds: &dyn Fn(&CallPage) -> bool| {
            let deadline = tokio::time::Instant::now() + SOON;
            loop {
                let page = house.page(everything()).await;
                if holds(&page) {
                    return page;
                }
                assert!(tokio::time::Instant::now() < deadline, "{what}: {page:#?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let page = until("it is marked", &|page| page.calls[2].files_gone_at.is_some()).await;
        assert_eq!(ids(&page), ["whole", "thinned", "moved"], "nothing is forgotten");
        assert!(page.calls[..2].iter().all(|call| call.files_gone_at.is_none()));
        let known = house.archive.get("moved").await.unwrap().unwrap();
        assert!(known.files_gone_at.is_some());
        assert_eq!(house.archive.transcript(&known).await.unwrap().unwrap().utterances[0].words[0].text, "hello \u{0}world");
        assert!(house.archive.report(&known).await.unwrap().unwrap().contains("\"moved\""));
        let recording = async |id: &str| store.calls().recording("acme", id).await.unwrap().unwrap();
        let deadline = tokio::time::Instant::now() + SOON;
        while recording("thinned").await.gone_at.is_none() {
            assert!(tokio::time::Instant::now() < deadline, "the recording that is not there is marked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(recording("whole").await.gone_at, None);
        house.close().await;

        for entry in std::fs::read_dir(elsewhere.path()).unwrap().flatten() {
            std::fs::copy(entry.path(), day.join(entry.file_name())).unwrap();
        }
        let house = House::open(data.path(), &store);
        let deadline = tokio::time::Instant::now() + SOON;
        while store.calls().get(NODE, "moved").await.unwrap().unwrap().files_gone_at.is_some() {
            assert!(tokio::time::Instant::now() < deadline, "it is back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        house.close().await;
    }

    async fn a_call_that_is_removed_leaves_no_row_and_does_not_come_back(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        house.end_call("c1", "acme", 0);
        house.end_call("c2", "acme", 1);
        house.until_filed(2).await;
        house.directory.insert(CallRecord::new("live", "acme", CallMode::Tap, "2026-03-01T05:30:00Z".parse().unwrap())).unwrap();
        let not_ended = house.archive.remove("live").await.unwrap_err();
        assert!(matches!(not_ended, NotRemoved::Directory(RemoveError::NotEnded(_))), "{not_ended}");
        let unknown = house.archive.remove("nope").await.unwrap_err();
        assert!(matches!(unknown, NotRemoved::Directory(RemoveError::Unknown(_))), "{unknown}");
        // While it is written again and again.
        for n in 0..20 {
            house.directory.update("c1", |record| record.label = Some(n.to_string()));
        }
        house.archive.remove("c1").await.unwrap();
        assert!(house.archive.get("c1").await.unwrap().is_none());
        house.end_call("c3", "acme", 2);
        house.until_filed(2).await;
        assert_eq!(ids(&house.page(everything()).await), ["live", "c3", "c2"]);
        let rows = store.calls();
        assert!(rows.events("acme", "c1", 0, 1_000).await.unwrap().is_empty() && rows.transcript("acme", "c1").await.unwrap().is_none());
        assert!(rows.legs("acme", "c1").await.unwrap().is_empty() && rows.recording("acme", "c1").await.unwrap().is_none());
        house.close().await;
    }

    async fn one_call_that_cannot_be_filed_does_not_hold_up_the_others(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        house.stop.cancel();
        for n in 0..5 {
            house.end_call(&format!("c{n}"), "acme", n);
        }
        // A folder where a file should be.
        std::fs::create_dir(house.file("c2", "transcript.json")).unwrap();
        house.close().await;
        let house = House::open(data.path(), &store);
        house.until_filed(4).await;
        assert!(house.page(everything()).await.calls.len() >= 4);
        house.close().await;
    }

    async fn nodes_that_share_a_database_see_their_own_calls(store: Store) {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let house = House::open(data.path(), &store);
        house.end_call("c1", "acme", 0);
        house.until_filed(1).await;
        let neighbour = House::of_node(other.path(), &store, "node2");
        neighbour.end_call("c2", "acme", 1);
        neighbour.directory.flush();
        let deadline = tokio::time::Instant::now() + SOON;
        while store.calls().get("node2", "c2").await.unwrap().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "it is filed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(ids(&house.page(everything()).await), ["c1"]);
        assert_eq!(ids(&neighbour.page(everything()).await), ["c2"]);
        let own = store.calls().get(NODE, "c1").await.unwrap().unwrap();
        assert_eq!(own.files_gone_at, None, "another's start says nothing of them");
        neighbour.close().await;
        house.close().await;
    }

    async fn thousands_of_events_and_words_are_filed_in_order(store: Store) {
        let data = tempfile::tempdir().unwrap();
        let house = House::open(data.path(), &store);
        let mut record = CallRecord::new("long", "acme", CallMode::Tap, "2026-03-01T05:30:00Z".parse().unwrap());
        record.state = CallState::Live;
        let record = house.directory.insert(record).unwrap();
        house.hub.open_call("acme", "long", Some(house.directory.files(&record).unwrap().events())).unwrap();
        for n in 1..=1_500_u64 {
            let mut event = said(&format!("word{n}"), 1);
            (event["utterance"], event["start"]) = (n.into(), (n as f64).into());
            house.hub.publish("long", EventKind::TranscriptFinal, event);
        }
        house.hub.publish("long", EventKind::CallEnded, json!({}));
        house.directory.update("long", |record| record.state = CallState::Ended);
        house.hub.close_call("long");
        house.until_filed(1).await;
        let events = store.calls().events("acme", "long", 0, 100_000).await.unwrap();
        assert!(events.iter().enumerate().all(|(at, event)| event.seq == at as i64 + 1));
        let transcript = store.calls().transcript("acme", "long").await.unwrap().unwrap();
        assert_eq!((events.len(), transcript.utterances.len()), (1_501, 1_500));
        assert!(transcript.utterances.iter().enumerate().all(|(at, said)| said.text == format!("word{}", at + 1)));
        assert!(matches!(store.dialect(), Dialect::Sqlite | Dialect::Postgres));
        house.close().await;
    }
}

#[tokio::test]
async fn calls_that_end_while_the_database_is_away_wait_on_disk() {
    let mut server = Postgres::start();
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(&server.url(), Path::new("/nowhere")).await.unwrap();
    let house = House::open(data.path(), &store);
    house.end_call("before", "acme", 0);
    house.until_filed(1).await;
    server.stop();
    let begun = std::time::Instant::now();
    for n in 0..50 {
        house.end_call(&format!("c{n:02}"), "acme", n + 1);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waited: {:?}", begun.elapsed());
    house.directory.flush();
    let live = CallQuery { state: Some(CallState::Live), ..everything() };
    assert!(house.archive.list(&live).await.unwrap().calls.is_empty(), "what runs needs no database");
    assert_eq!(house.archive.get("c00").await.unwrap().unwrap().outcome.as_deref(), Some("completed"));
    let error = house.archive.list(&everything()).await.unwrap_err();
    assert!(error.to_string().contains("listing calls"), "{error}");
    assert!(matches!(house.archive.remove("before").await, Err(NotRemoved::Store(_))));
    assert!(house.file("before", "call.json").exists(), "what the database would show on stays");
    server.run();
    house.until_filed(51).await;
    assert_eq!(house.walk(CallQuery { limit: 20, ..CallQuery::default() }).await.len(), 51);
    house.close().await;
}
