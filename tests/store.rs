//! The database: the same promises on SQLite and on PostgreSQL.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

use std::sync::Arc;

use serde_json::{Value, json};
use sidetone::store::jobs::{
    Cancelled, Filter, Inserted, Job, JobKey, JobKind, JobState, Jobs, NewJob, NewLetter, Priority, Route,
    Settled, Transport, Wanted,
};
use sidetone::store::{Store, StoreError};
use tempfile::TempDir;

mod support;

use support::services::Postgres;

const LEASE: i64 = 1_000;

fn key(id: &str) -> JobKey {
    JobKey { tenant: "acme".into(), id: id.into() }
}

fn new(id: &str) -> NewJob {
    NewJob {
        key: key(id),
        kind: JobKind::Conversion,
        priority: Priority::Normal,
        payload: json!({ "input": format!("/{id}") }),
        route: Route::default(),
        run_after: 0,
        holder: String::new(),
        letter: None,
    }
}

fn wanted(owner: &str) -> Wanted<'_> {
    Wanted { kind: JobKind::Conversion, priority: None, not_of: &[], owner, lease_ms: LEASE }
}

fn letter(address: &str, body: &str) -> NewLetter {
    NewLetter {
        transport: Transport::Queue,
        address: address.into(),
        headers: [("message_id".to_owned(), "x".to_owned())].into(),
        body: body.into(),
        run_after: 0,
    }
}

async fn claimed(jobs: &Jobs, owner: &str, now: i64) -> Option<Job> {
    jobs.claim(wanted(owner), now).await.unwrap()
}

async fn ids(jobs: &Jobs, owner: &str, now: i64) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(job) = claimed(jobs, owner, now).await {
        ids.push(job.key.id.to_string());
    }
    ids
}

const DONE: fn() -> Settled = || Settled::Completed { result: json!({ "bytes": 3 }) };

/// What a test is about, of a database.
trait Of {
    fn of(store: Store) -> Self;
}

impl Of for Jobs {
    fn of(store: Store) -> Self {
        store.jobs()
    }
}

impl Of for Store {
    fn of(store: Store) -> Self {
        store
    }
}

/// Each test twice, by the name of the database.
macro_rules! on_both {
    ($($(#[doc = $doc:literal])* async fn $name:ident($subject:ident: $Subject:ident) $body:block)*) => {
        $(async fn $name($subject: $Subject) $body)*

        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::Store::open("", folder.path()).await.unwrap();
                super::$name(crate::Of::of(store.clone())).await;
                // Before the folder goes: a connection that came about meanwhile would make the file anew.
                store.close().await;
            })*
        }

        /// One server for all: it takes a second to start.
        #[tokio::test]
        async fn postgres() {
            let server = Postgres::start();
            $({
                println!("{}", stringify!($name));
                let store = Store::open(&server.url(), std::path::Path::new("/nowhere")).await.unwrap();
                $name(crate::Of::of(store.clone())).await;
                store.close().await;
            })*
        }
    };
}

#[path = "store/calls.rs"]
mod calls;

on_both! {
    async fn a_job_is_taken_in_once_and_comes_out_as_it_went_in(jobs: Jobs) {
        let route = Route { webhook: Some("http://x/".into()), ..Route::default() };
        let job = NewJob { route: route.clone(), priority: Priority::High, ..new("a") };
        assert_eq!(jobs.insert(job.clone(), 7).await.unwrap(), Inserted::New);
        let changed = NewJob { payload: json!({ "input": "/other" }), ..job };
        assert_eq!(jobs.insert(changed, 8).await.unwrap(), Inserted::Known);
        let other = NewJob { key: JobKey { tenant: "other".into(), id: "a".into() }, ..new("a") };
        assert_eq!(jobs.insert(other, 9).await.unwrap(), Inserted::New, "another tenant's is another job");
        let stored = jobs.get(&key("a")).await.unwrap().unwrap();
        assert_eq!((stored.payload, stored.route, stored.created_at), (json!({ "input": "/a" }), route, 7));
        assert_eq!((stored.state, stored.priority, stored.attempts), (JobState::Queued, Priority::High, 0));
        assert_eq!(jobs.get(&key("b")).await.unwrap(), None);
    }

    async fn jobs_go_by_priority_and_then_in_the_order_in_which_they_came(jobs: Jobs) {
        for n in 0..6 {
            let priority = if n % 3 == 2 { Priority::High } else { Priority::Normal };
            jobs.insert(NewJob { priority, ..new(&n.to_string()) }, 5).await.unwrap();
        }
        assert_eq!(ids(&jobs, "n/1", 5).await, ["2", "5", "0", "1", "3", "4"]);
        assert_eq!(jobs.next_due(JobKind::Conversion, "n/1", 5).await.unwrap(), None);
    }

    async fn a_job_waits_for_its_time(jobs: Jobs) {
        jobs.insert(NewJob { run_after: 100, ..new("late") }, 0).await.unwrap();
        assert!(claimed(&jobs, "n/1", 99).await.is_none());
        assert_eq!(jobs.next_due(JobKind::Conversion, "n/1", 99).await.unwrap(), Some(100));
        assert_eq!(claimed(&jobs, "n/1", 100).await.unwrap().attempts, 1);
    }

    async fn two_claims_never_get_one_job(jobs: Jobs) {
        for n in 0..40 {
            jobs.insert(new(&n.to_string()), 0).await.unwrap();
        }
        let workers = (0..4).map(|n| {
            let jobs = jobs.clone();
            tokio::spawn(async move { ids(&jobs, &format!("n{n}/1"), 1).await })
        });
        let mut all = Vec::new();
        for worker in workers.collect::<Vec<_>>() {
            all.extend(worker.await.unwrap());
        }
        all.sort_by_key(|id| id.parse::<u32>().unwrap());
        assert_eq!(all, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    async fn a_tenant_that_has_enough_is_passed_over(jobs: Jobs) {
        jobs.insert(new("a"), 0).await.unwrap();
        jobs.insert(NewJob { key: JobKey { tenant: "other".into(), id: "b".into() }, ..new("b") }, 0).await.unwrap();
        let not_of = ["acme".to_owned(), "third".to_owned()];
        let job = jobs.claim(Wanted { not_of: &not_of, ..wanted("n/1") }, 0).await.unwrap().unwrap();
        assert_eq!(&*job.key.tenant, "other");
        assert_eq!(jobs.claim(Wanted { not_of: &not_of, ..wanted("n/1") }, 0).await.unwrap(), None);
    }

    async fn what_came_of_a_job_counts_only_from_whoever_has_it(jobs: Jobs) {
        jobs.insert(new("a"), 0).await.unwrap();
        claimed(&jobs, "n/1", 0).await.unwrap();
        // Thought dead, it goes to another.
        assert_eq!(jobs.take_back("other", "other/1", LEASE + 1).await.unwrap(), 1);
        assert_eq!(claimed(&jobs, "m/1", LEASE + 1).await.unwrap().attempts, 2);
        assert!(!jobs.settle(&key("a"), "n/1", &DONE(), &[letter("q", "{}")], LEASE + 2).await.unwrap());
        assert!(!jobs.note(&key("a"), "n/1", &json!(1), LEASE + 2).await.unwrap());
        assert_eq!(jobs.letters(Transport::Queue, 9, i64::MAX).await.unwrap(), [], "no letter either");
        assert!(jobs.settle(&key("a"), "m/1", &DONE(), &[letter("q", "{}")], LEASE + 3).await.unwrap());
        let job = jobs.get(&key("a")).await.unwrap().unwrap();
        assert_eq!((job.state, job.result, job.finished_at), (JobState::Completed, Some(json!({ "bytes": 3 })), Some(LEASE + 3)));
        assert_eq!(job.progress, Some(1.0));
        assert!(!jobs.settle(&key("a"), "m/1", &Settled::Cancelled, &[], LEASE + 4).await.unwrap(), "over is over");
    }

    async fn a_lease_that_is_renewed_is_not_taken(jobs: Jobs) {
        jobs.insert(new("a"), 0).await.unwrap();
        claimed(&jobs, "n/1", 0).await.unwrap();
        assert_eq!(jobs.renew("n/1", LEASE, LEASE).await.unwrap(), []);
        assert_eq!(jobs.take_back("other", "other/1", LEASE + 1).await.unwrap(), 0);
        // The next run of the same node knows that the one before is dead.
        assert_eq!(jobs.take_back("n", "n/1", LEASE + 1).await.unwrap(), 0, "this run is not another");
        assert_eq!(jobs.take_back("n", "n/2", LEASE + 1).await.unwrap(), 1);
    }

    async fn a_job_that_is_tried_again_keeps_its_memory_and_its_place(jobs: Jobs) {
        jobs.insert(new("a"), 0).await.unwrap();
        jobs.insert(new("b"), 0).await.unwrap();
        claimed(&jobs, "n/1", 0).await.unwrap();
        assert!(jobs.note(&key("a"), "n/1", &json!({ "channel": "x" }), 1).await.unwrap());
        jobs.progress(&key("a"), "n/1", 0.25, 1).await.unwrap();
        let again = |counts| Settled::Again { after: 50, error: Some("busy".into()), counts };
        assert!(jobs.settle(&key("a"), "n/1", &again(true), &[], 2).await.unwrap());
        let job = jobs.get(&key("a")).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempts, job.run_after), (JobState::Queued, 1, 50));
        assert_eq!((job.memo, job.error.as_deref()), (Some(json!({ "channel": "x" })), Some("busy")));
        assert_eq!(ids(&jobs, "n/1", 49).await, ["b"]);
        assert_eq!(claimed(&jobs, "n/1", 50).await.unwrap().attempts, 2);
        assert!(jobs.settle(&key("a"), "n/1", &again(false), &[], 51).await.unwrap());
        assert_eq!(jobs.get(&key("a")).await.unwrap().unwrap().attempts, 1, "that was no attempt");
    }

    async fn a_job_of_the_brokers_is_whoevers_has_its_message(jobs: Jobs) {
        jobs.insert(NewJob { holder: "broker".into(), ..new("a") }, 0).await.unwrap();
        assert!(claimed(&jobs, "n/1", 0).await.is_none(), "nobody was given it");
        assert_eq!(jobs.hold(&key("a"), "n/1", 0).await.unwrap().unwrap().state, JobState::Queued);
        assert!(claimed(&jobs, "m/1", 0).await.is_none(), "another was given it");
        assert!(claimed(&jobs, "n/1", 0).await.is_some());
        assert_eq!(jobs.take_back("n", "n/2", 1).await.unwrap(), 1);
        assert!(claimed(&jobs, "n/1", 1).await.is_none(), "its message comes again, to whomever");
        jobs.hold(&key("a"), "m/1", 1).await.unwrap();
        jobs.let_go("m/1", JobKind::Conversion, 1).await.unwrap();
        assert!(claimed(&jobs, "m/1", 1).await.is_none(), "given back");
        jobs.insert(new("own"), 1).await.unwrap();
        jobs.hold(&key("own"), "m/1", 1).await.unwrap();
        assert!(claimed(&jobs, "n/1", 1).await.is_some(), "what lies here is everybody's");
        assert_eq!(jobs.hold(&key("none"), "m/1", 1).await.unwrap(), None);
    }

    async fn a_job_is_cancelled_at_once_or_its_worker_is_told(jobs: Jobs) {
        jobs.insert(new("waits"), 0).await.unwrap();
        let done = jobs.cancel(&key("waits"), &[letter("q", "gone")], 1).await.unwrap();
        assert!(matches!(done, Cancelled::Done(job) if job.state == JobState::Cancelled));
        assert_eq!(jobs.letters(Transport::Queue, 9, 1).await.unwrap().len(), 1);
        assert!(matches!(jobs.cancel(&key("waits"), &[], 2).await.unwrap(), Cancelled::Over(_)));
        assert!(matches!(jobs.cancel(&key("none"), &[], 2).await.unwrap(), Cancelled::Unknown));
        jobs.insert(new("runs"), 0).await.unwrap();
        claimed(&jobs, "n/1", 0).await.unwrap();
        assert!(matches!(jobs.cancel(&key("runs"), &[], 2).await.unwrap(), Cancelled::Asked(_)));
        assert_eq!(jobs.renew("n/1", LEASE, 3).await.unwrap(), [key("runs")]);
        assert!(jobs.settle(&key("runs"), "n/1", &Settled::Cancelled, &[], 4).await.unwrap());
        let again = jobs.retry(&key("runs"), "", None, 5).await.unwrap().unwrap();
        assert_eq!((again.state, again.attempts), (JobState::Queued, 0));
        claimed(&jobs, "n/1", 5).await.unwrap();
        assert_eq!(jobs.renew("n/1", LEASE, 6).await.unwrap(), [], "the wish to cancel was the last time's");
        assert_eq!(jobs.retry(&key("runs"), "", None, 6).await.unwrap(), None, "it runs");
    }

    async fn letters_are_written_with_what_causes_them_and_wait_until_they_arrive(jobs: Jobs) {
        let job = NewJob { holder: "broker".into(), letter: Some(letter("work", "{\"a\":1}")), ..new("a") };
        jobs.insert(job.clone(), 0).await.unwrap();
        jobs.insert(job, 0).await.unwrap();
        let waiting = jobs.letters(Transport::Queue, 9, 0).await.unwrap();
        assert_eq!(waiting.len(), 1, "a known job writes none");
        assert_eq!((&waiting[0].key, &waiting[0].letter), (&key("a"), &letter("work", "{\"a\":1}")));
        jobs.send_later(waiting[0].place, 500).await.unwrap();
        assert_eq!(jobs.letters(Transport::Queue, 9, 499).await.unwrap(), []);
        assert_eq!(jobs.next_letter(Transport::Queue).await.unwrap(), Some(500));
        assert_eq!(jobs.letters(Transport::Queue, 9, 500).await.unwrap()[0].attempts, 1);
        assert_eq!(jobs.letters(Transport::Webhook, 9, 500).await.unwrap(), []);
        jobs.arrived(&[waiting[0].place]).await.unwrap();
        assert_eq!(jobs.next_letter(Transport::Queue).await.unwrap(), None);
    }

    async fn jobs_are_listed_newest_first_by_page_and_filter(jobs: Jobs) {
        for n in 0..5 {
            jobs.insert(new(&n.to_string()), n).await.unwrap();
        }
        jobs.insert(NewJob { key: JobKey { tenant: "other".into(), id: "x".into() }, kind: JobKind::TtsCall, ..new("x") }, 9)
            .await
            .unwrap();
        let shown = async |filter: Filter| {
            let jobs = jobs.list(&filter).await.unwrap();
            (jobs.iter().map(|job| job.key.id.to_string()).collect::<Vec<_>>(), jobs.last().map(|job| job.place))
        };
        let of_acme = Filter { tenant: Some("acme".into()), limit: 2, ..Filter::default() };
        let (first, before) = shown(of_acme.clone()).await;
        assert_eq!(first, ["4", "3"]);
        assert_eq!(shown(Filter { before, ..of_acme.clone() }).await.0, ["2", "1"]);
        let mut all = Vec::new();
        jobs.each(of_acme, |job| all.push(job.key.id.to_string())).await.unwrap();
        assert_eq!(all, ["4", "3", "2", "1", "0"]);
        let calls = Filter { kind: Some(JobKind::TtsCall), state: Some(JobState::Queued), limit: 9, ..Filter::default() };
        assert_eq!(shown(calls).await.0, ["x"]);
        let counts = jobs.counts(Some("acme")).await.unwrap();
        assert_eq!((counts.len(), counts[0].count, counts[0].oldest), (1, 5, 0));
        assert_eq!(jobs.counts(None).await.unwrap().len(), 2);
        let last = jobs.get(&key("3")).await.unwrap().unwrap();
        assert_eq!(jobs.ahead_of(&last).await.unwrap(), 3);
        assert_eq!(&*jobs.find("x").await.unwrap().unwrap().key.tenant, "other");
    }

    async fn what_is_over_for_long_is_forgotten(jobs: Jobs) {
        for id in ["old", "new", "waits"] {
            jobs.insert(new(id), 0).await.unwrap();
        }
        for (id, at) in [("old", 10), ("new", 20)] {
            assert_eq!(&*claimed(&jobs, "n/1", 0).await.unwrap().key.id, id);
            assert!(jobs.settle(&key(id), "n/1", &DONE(), &[], at).await.unwrap());
        }
        assert_eq!(jobs.forget(15, 100).await.unwrap(), 1);
        assert_eq!(jobs.forget(15, 100).await.unwrap(), 0);
        assert!(jobs.get(&key("old")).await.unwrap().is_none() && jobs.get(&key("new")).await.unwrap().is_some());
    }

    async fn jobs_that_come_together_are_all_on_the_disk_when_they_are_answered(jobs: Jobs) {
        let jobs = Arc::new(jobs);
        let many = (0..600).map(|n| {
            let jobs = jobs.clone();
            tokio::spawn(async move { jobs.insert(new(&format!("j{}", n % 500)), n).await.unwrap() })
        });
        let mut known = 0;
        for one in many.collect::<Vec<_>>() {
            known += usize::from(one.await.unwrap() == Inserted::Known);
        }
        assert_eq!(known, 100);
        assert_eq!(jobs.counts(None).await.unwrap()[0].count, 500);
    }
}

#[tokio::test]
async fn a_second_start_finds_what_the_first_one_left() {
    let folder = TempDir::with_prefix("a place?with %20 odd names").unwrap();
    let store = Store::open("", folder.path()).await.unwrap();
    store.jobs().insert(new("a"), 0).await.unwrap();
    store.close().await;
    let again = Store::open("", folder.path()).await.unwrap();
    assert!(again.jobs().get(&key("a")).await.unwrap().is_some());
    assert!(folder.path().join("sidetone.db").exists());
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let of = async |url: &str| Store::open(url, folder.path()).await.unwrap_err().to_string();
    assert!(of("mysql://x").await.contains("postgres://"));
    let refused = of("postgres://user:hush@127.0.0.1:1/x?sslmode=nosuch").await;
    assert!(refused.contains("127.0.0.1:1") && refused.contains("store.url"), "{refused}");
    assert!(!refused.contains("hush"), "{refused}");
    // One that is away is none to wait for, and may come.
    let away = Store::open("postgres://user:hush@127.0.0.1:1/x", folder.path()).await.unwrap();
    assert!(away.ping().await.is_err());
    std::fs::write(
        folder.path().join("sidetone.db"),
        "this is no database, and it is long enough to be looked at",
    )
    .unwrap();
    let broken = of("").await;
    assert!(broken.contains("sidetone.db"), "{broken}");
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_and_nothing_is_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("", folder.path()).await.unwrap();
    let jobs = store.jobs();
    jobs.insert(new("before"), 0).await.unwrap();
    store.limit_pages_for_tests().await;
    let big = Value::String("x".repeat(1 << 20));
    let error = jobs.insert(NewJob { payload: big, ..new("big") }, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("node.data"));
    assert_eq!(jobs.get(&key("big")).await.unwrap(), None);
    assert!(claimed(&jobs, "n/1", 1).await.is_some(), "what needs no room goes on");
}
