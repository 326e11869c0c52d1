//! Jobs as they are kept: what is to be done, by whom, how often it was tried and what came of it.
//!
//! A job is one row, known by tenant and id. Whoever inserts an id that is there already gets the job that is there: that is what
//! makes "at least once" on the way here "once" in effect. It is *claimed* by one process, which renews its lease while it works; what
//! that process writes counts only while the claim is its own, so that whoever was thought dead and was not cannot
//! undo what came after it.

macro_rules! names {
    ($(#[doc = $doc:literal])* $Name:ident { $($(#[doc = $variant_doc:literal])* $Variant:ident = $name:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $Name {
            $($(#[doc = $variant_doc])* #[serde(rename = $name)] $Variant,)*
        }

        impl $Name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),*];

            /// As users see it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name,)* }
            }

            /// By its name.
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.name() == name)
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

mod claim;
mod insert;
mod outbox;
mod query;
mod row;
mod settle;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Store;

pub use claim::Wanted;
pub use insert::{Inserted, NewJob};
pub use outbox::{Letter, NewLetter, Transport};
pub use query::{Counts, Filter};
pub use settle::{Cancelled, Settled};

/// Milliseconds since 1970.
pub type Millis = i64;

names! {
    /// What a job is about.
    JobKind {
        /// A file of one kind to a file of another.
        Conversion = "conversion",
        /// A file to text.
        Transcription = "transcription",
        /// A text spoken to whoever answers a telephone.
        TtsCall = "tts-call",
    }
}

names! {
    /// How far a job is.
    JobState {
        /// Waits: for a worker, or for its time.
        Queued = "queued",
        /// Somebody works on it.
        Processing = "processing",
        /// Done, with its result.
        Completed = "completed",
        /// Given up, with the reason: the dead letters.
        Failed = "failed",
        /// Not wanted any more.
        Cancelled = "cancelled",
    }
}

impl JobState {
    /// Whether nothing more comes.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

names! {
    /// Who goes first.
    Priority {
        /// In the order of acceptance.
        Normal = "normal",
        /// Before those.
        High = "high",
    }
}

/// What a job is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The producer's id, or ours: 1 to 64 letters, digits, `-` and `_`.
    pub id: Arc<str>,
}

impl std::fmt::Display for JobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.tenant, self.id)
    }
}

/// Where a job came from and where its result goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The broker's queue that it lies in; without one the database alone has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The broker's queue that results go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<String>,
    /// Where the result is POSTed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// `correlation_id` of the message that it came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What it is known by.
    pub key: JobKey,
    /// What it is about.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// Who goes first.
    pub priority: Priority,
    /// Place in the order of acceptance; no two jobs of a process have the same.
    pub place: i64,
    /// Not before this time.
    pub run_after: Millis,
    /// How often it was begun, this time included.
    pub attempts: u32,
    /// What is asked for.
    pub payload: Value,
    /// Where it came from and where its result goes.
    pub route: Route,
    /// What an earlier attempt noted for the case of a crash.
    pub memo: Option<Value>,
    /// The share that is done, 0 to 1, where that is known.
    pub progress: Option<f64>,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it failed, or the last attempt did.
    pub error: Option<String>,
    /// When it was accepted.
    pub created_at: Millis,
    /// When it last changed.
    pub updated_at: Millis,
    /// When the last attempt began.
    pub started_at: Option<Millis>,
    /// When nothing more was to come.
    pub finished_at: Option<Millis>,
}

/// The jobs of a database; cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    store: Store,
    insert: insert::Inserter,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Jobs {
    pub(super) fn of(store: Store) -> Self {
        Self { insert: insert::Inserter::start(store.clone()), store }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
