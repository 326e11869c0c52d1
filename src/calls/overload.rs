//! Who is told of overload: subscribers, by events, and whoever asks `/ready`.

use std::sync::Arc;

use super::hub::{EventHub, EventKind};
use crate::speech::SpeechEngine;
use crate::speech::engine::Overload;
use crate::speech::ladder::Rung;
use crate::telemetry::readiness::{Dependency, Health, ReadinessBoard};

/// From now on, have `hub` and `readiness` told of what `engine` gives up; `known` is what `/ready` says of it in calm. What is only
/// less prompt is no reason to send calls elsewhere: the state is `degraded` from [`Rung::FinalsLate`] on.
pub fn tell(engine: &SpeechEngine, hub: Arc<EventHub>, readiness: Arc<ReadinessBoard>, known: Dependency) {
    engine.on_overload(Arc::new(move |overload| match overload {
        Overload::Leg(leg) => drop(hub.publish(&leg.call_id, EventKind::Overload, overload)),
        Overload::Ladder(change) => {
            hub.publish_node(EventKind::Overload, overload);
            let mut now = known.clone().with("rung", change.rung.number());
            match change.rung {
                Rung::Calm => {}
                Rung::LongerStep | Rung::PartialsOff => {
                    now.message = "transcribing; words are shown less often (more cores, or a smaller model)".into();
                }
                Rung::FinalsLate | Rung::LiveOff | Rung::CallsRefused => {
                    now.state = Health::Degraded;
                    now.message = format!(
                        "overloaded ({}): words come late, or after the call. More cores or a smaller model help",
                        change.name
                    );
                }
            }
            readiness.put("speech", now);
        }
    }));
}
