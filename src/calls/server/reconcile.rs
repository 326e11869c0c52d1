//! What there is in Asterisk against what we know: calls of an earlier process are taken up, what nobody owns goes.

use super::{CallServer, LIST_AGAIN, info_of};
use crate::calls::adoption::{self, Plan, SessionRecord, Stranded};
use crate::calls::ids::CallId;
use crate::calls::machine::Input;
use crate::calls::session::Message;
use crate::calls::translate;

impl CallServer {
    /// Compare what Asterisk has with what we know, and make them agree.
    pub(super) async fn reconcile(&self, first: bool) {
        let snapshot = loop {
            match translate::snapshot(&self.services.ari).await {
                Ok(snapshot) => break snapshot,
                Err(error) => {
                    tracing::debug!(%error, "cannot list Asterisk's channels yet");
                    tokio::time::sleep(LIST_AGAIN).await;
                }
            }
        };
        let records: &[SessionRecord] = if first { &self.left.sessions } else { &[] };
        let (running, channels) = self.table.running();
        self.table.broadcast(|| Message::Machine(Input::Reconnected(snapshot.clone())));
        let Plan { adopt, end, stranded, orphans } =
            adoption::plan(&snapshot, &self.services.node, &running, &channels, records);
        tracing::info!(
            adopt = adopt.len(),
            ended = end.len(),
            stranded = stranded.len(),
            orphans = orphans.len(),
            "compared with Asterisk"
        );
        let by_call = |call: &CallId| records.iter().find(|r| r.call == *call);
        for record in adopt.iter().filter_map(by_call) {
            self.adopt(record, &snapshot);
        }
        if first {
            self.close_books(&adopt, &end);
        }
        for Stranded { channel, args } in stranded {
            match args {
                Some(args) => self.begin(channel.clone(), info_of(&channel), &args),
                None => self.let_go(channel.id),
            }
        }
        self.sweeper.remove(orphans);
    }
}
