//! What a session shows and takes of utterances that are recognised while they are spoken, elsewhere: not by orders over what
//! was said, but by a stream of it.

use std::sync::Arc;
use std::time::Duration;

use super::{Asked, Order, Session};
use crate::speech::recogniser::Hypothesis;
use crate::speech::scheduler::Class;

/// An utterance that is being spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSpeech {
    /// Position of its first sample.
    pub audio_start: u64,
    /// Of what was heard so far, what is voiced.
    pub voiced: Duration,
    /// It may be music.
    pub is_unclear: bool,
}

/// An utterance that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedSpeech {
    /// Position of its first sample.
    pub audio_start: u64,
    /// All of it: mono, 16 kHz.
    pub audio: Arc<[f32]>,
    /// It was cut for its length; the speaker went on.
    pub is_cut: bool,
}

impl Session {
    /// The utterance that is being spoken, if one is.
    pub fn open_speech(&self) -> Option<OpenSpeech> {
        let open = self.pending.back().filter(|pending| pending.closed.is_none())?;
        let (voiced, is_unclear) = (self.segmenter.voiced(), self.segmenter.is_unclear());
        Some(OpenSpeech { audio_start: open.audio_start, voiced, is_unclear })
    }

    /// Whether the final of the utterance at `audio_start` is still to come.
    pub fn is_pending(&self, audio_start: u64) -> bool {
        self.pending.iter().any(|pending| pending.audio_start == audio_start)
    }

    /// The audio from `position` on, as far as it has been heard. To be asked only for what belongs to the open utterance.
    pub fn audio_from(&self, position: u64) -> Arc<[f32]> {
        self.segmenter.slice(position, self.segmenter.position())
    }

    /// Position of the utterance that waits for the outcome of an order.
    pub fn waits_at(&self, ticket: u64) -> Option<u64> {
        self.pending.iter().find(|pending| pending.waits_for(ticket)).map(|pending| pending.audio_start)
    }

    /// The whole utterance that waits for the outcome of a final order.
    pub fn closed_speech(&self, ticket: u64) -> Option<ClosedSpeech> {
        let pending = self.pending.iter().find(|pending| pending.final_ticket() == Some(ticket))?;
        let utterance = &pending.closed.as_ref()?.utterance;
        Some(ClosedSpeech {
            audio_start: pending.audio_start,
            audio: utterance.audio.clone(),
            is_cut: utterance.cut,
        })
    }

    /// Take those of the orders that `claim` wants; the rest stay for [`take_orders`](Session::take_orders).
    pub fn claim_orders(&mut self, mut claim: impl FnMut(&Session, &Order) -> bool) -> Vec<Order> {
        let orders = std::mem::take(&mut self.orders);
        let (claimed, rest) = orders.into_iter().partition(|order| claim(self, order));
        self.orders = rest;
        claimed
    }

    /// A claimed order for a final comes to nothing: let it be carried out like any other.
    pub fn give_back(&mut self, ticket: u64) {
        if let Some(ClosedSpeech { audio, .. }) = self.closed_speech(ticket) {
            self.orders.push(Order::Recognise { ticket, class: Class::Final, audio });
        }
    }

    /// Whether the words of the open utterance come without being asked for: no partial is due then.
    pub fn set_elsewhere(&mut self, on: bool) {
        self.elsewhere = on;
    }

    /// What is known of the open utterance that began at `audio_start`, up to position `end`. Words that end 0.2 s before
    /// `certain` or later do not become stable yet.
    pub fn on_heard(&mut self, audio_start: u64, end: u64, certain: u64, hypothesis: &Hypothesis) {
        let open = |pending: &super::Pending| pending.audio_start == audio_start && pending.closed.is_none();
        if let Some(index) = self.pending.iter().position(open) {
            let asked = Asked { ticket: u64::MAX, end: end.max(audio_start), detects: false };
            self.publish_partial(index, &asked, certain, hypothesis);
        }
    }
}
