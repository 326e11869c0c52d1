//! What a leg has besides when a service elsewhere recognises it: its streams.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::{Command, LegAudio};
use crate::media::time::MediaInstant;
use crate::speech::remote::leg::{RemoteLeg, StreamOrder};
use crate::speech::remote::{AudioStream, StreamNews, StreamRequest, StreamingService};
use crate::speech::session::Session;
use crate::telemetry::metric;

pub(super) struct RemoteRun {
    service: Arc<dyn StreamingService>,
    machine: RemoteLeg,
    streams: HashMap<u64, Box<dyn AudioStream>>,
    warned: bool,
}

impl RemoteRun {
    pub(super) fn new(service: Arc<dyn StreamingService>) -> Self {
        let machine = RemoteLeg::new(service.config(), service.engine().name());
        Self { service, machine, streams: HashMap::new(), warned: false }
    }

    /// See what the session has new, before its orders are carried out.
    pub(super) fn follow(
        &mut self,
        session: &mut Session,
        owner: u64,
        audio: &LegAudio,
        now: MediaInstant,
        outbox: &Sender<Command>,
    ) {
        self.machine.follow(session, now, self.service.is_up());
        for order in self.machine.take_orders() {
            match order {
                StreamOrder::Open { stream } => {
                    let outbox = outbox.clone();
                    let sink = move |news| drop(outbox.send(Command::Heard { owner, stream, news }));
                    let (language, vocabulary) = (audio.language.clone(), audio.vocabulary.clone());
                    let request = StreamRequest { language, vocabulary };
                    self.streams.insert(stream, self.service.open(&request, Box::new(sink)));
                }
                StreamOrder::Audio { stream, pcm } => {
                    if let Some(open) = self.streams.get_mut(&stream) {
                        open.push(pcm);
                    }
                }
                StreamOrder::Close { stream } => {
                    if let Some(open) = self.streams.get_mut(&stream) {
                        open.close();
                    }
                }
                StreamOrder::Drop { stream } => drop(self.streams.remove(&stream)),
            }
        }
        self.report(audio);
    }

    /// The session is over: whatever is under way is of no interest any more.
    pub(super) fn forget(&mut self) {
        self.machine.forget();
        self.streams.clear();
    }

    /// What came of a stream.
    pub(super) fn on_news(
        &mut self,
        session: &mut Session,
        stream: u64,
        news: StreamNews,
        now: MediaInstant,
    ) {
        if !matches!(news, StreamNews::Heard(_)) {
            self.streams.remove(&stream);
        }
        self.machine.on_news(session, stream, news, now);
    }

    fn report(&mut self, audio: &LegAudio) {
        let tally = self.machine.take_tally();
        let engine = self.service.engine().name();
        let count = |outcome, n| {
            if n > 0 {
                metric::ASR_REMOTE.add_labelled("outcome", outcome, n);
            }
        };
        count("completed", tally.completed);
        count("failed", tally.failed);
        count("taken_over", tally.taken_over);
        count("owed", tally.owed);
        let (call, leg) = (&audio.call_id, audio.leg.name());
        for error in tally.errors {
            // Once a leg; that the service is away is told once for all of them, by whoever connects to it.
            match std::mem::replace(&mut self.warned, true) || !self.service.is_up() {
                false => tracing::warn!(call, leg, engine, %error, "speech is not recognised there"),
                true => tracing::debug!(call, leg, engine, %error, "speech is not recognised there"),
            }
        }
    }
}
