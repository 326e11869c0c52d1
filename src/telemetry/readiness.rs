//! Whether the process can do its work, dependency by dependency. Any part may report; `/ready` shows it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

/// State of a dependency, or of them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Works.
    Ok,
    /// Works, but worse than it should.
    Degraded,
    /// Does not work: calls cannot be handled as configured.
    Failed,
}

/// What is known of one dependency.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dependency {
    /// Its state.
    pub state: Health,
    /// In words: what it is, or what is wrong and what to do.
    pub message: String,
    /// Something that works and that an operator should know nevertheless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// More, by name: the model's name and size, Asterisk's version.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

impl Dependency {
    /// One in `state`, with `message`.
    pub fn new(state: Health, message: impl Into<String>) -> Self {
        Self { state, message: message.into(), warning: None, detail: Map::new() }
    }

    /// With a warning.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warning = Some(warning.into());
        self
    }

    /// With a detail. The names `state`, `message` and `warning` are taken.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.into(), value.into());
        self
    }
}

/// The dependencies and their states at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readiness {
    /// The worst state of any.
    pub status: Health,
    /// By name.
    pub dependencies: BTreeMap<&'static str, Dependency>,
}

/// Where parts report their state. Shared by reference counting.
#[derive(Debug, Default)]
pub struct ReadinessBoard {
    dependencies: Mutex<BTreeMap<&'static str, Dependency>>,
}

impl ReadinessBoard {
    /// A board on which each of `names` has failed until it reports: what has not started is not ready.
    pub fn expecting(names: impl IntoIterator<Item = &'static str>) -> Self {
        let starting = |name| (name, Dependency::new(Health::Failed, "starting"));
        Self { dependencies: Mutex::new(names.into_iter().map(starting).collect()) }
    }

    /// Expect one more, without which calls go on. That it is not there yet is no news, and not logged.
    pub fn expect(&self, name: &'static str, message: impl Into<String>) {
        self.dependencies.lock().insert(name, Dependency::new(Health::Degraded, message));
    }

    /// Report a state with a message.
    pub fn set(&self, name: &'static str, state: Health, message: impl Into<String>) {
        self.put(name, Dependency::new(state, message));
    }

    /// Report all there is to say. A change of state is logged.
    pub fn put(&self, name: &'static str, dependency: Dependency) {
        let (state, message) = (dependency.state, dependency.message.clone());
        let before = self.dependencies.lock().insert(name, dependency).map(|old| old.state);
        if before == Some(state) {
            return;
        }
        match state {
            Health::Ok => tracing::info!(dependency = name, detail = message, "ok"),
            Health::Degraded => tracing::warn!(dependency = name, detail = message, "degraded"),
            Health::Failed => tracing::warn!(dependency = name, detail = message, "failed"),
        }
    }

    /// All of it.
    pub fn snapshot(&self) -> Readiness {
        let dependencies = self.dependencies.lock().clone();
        let status = dependencies.values().map(|dependency| dependency.state).max().unwrap_or(Health::Ok);
        Readiness { status, dependencies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_dependency_decides_and_none_is_ready_before_it_says_so() {
        let board = ReadinessBoard::expecting(["ari", "model"]);
        assert_eq!(board.snapshot().status, Health::Failed);
        board.set("ari", Health::Ok, "Asterisk 22");
        board.put(
            "model",
            Dependency::new(Health::Degraded, "built in").warn("for demos").with("model", "tiny"),
        );
        let now = board.snapshot();
        assert_eq!(now.status, Health::Degraded);
        let json = serde_json::to_value(&now).unwrap();
        assert_eq!(json["dependencies"]["model"]["warning"], "for demos");
        assert_eq!(json["dependencies"]["model"]["model"], "tiny");
    }
}
