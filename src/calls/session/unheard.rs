//! Legs that are wired and bring nothing: told while there is time to mend it, and where the call's end is read.

use serde_json::json;

use super::Session;
use crate::calls::hub::EventKind;
use crate::calls::machine::Input;
use crate::calls::transport::Transport;
use crate::clock;
use crate::media::leg::Leg;

impl Session {
    /// Audio comes from `leg`.
    pub(super) fn heard(&mut self, leg: Leg) {
        self.unheard[leg.index()] = None;
        self.machine.handle(clock::now(), Input::MediaHeard { leg });
    }

    /// Nothing of use has come from `leg` since it was attached, for the stall time; `invalid` datagrams were of none.
    pub(super) fn not_heard(&mut self, leg: Leg, invalid: u64) {
        self.unheard[leg.index()] = Some(invalid);
        tracing::warn!(call = %self.call, "{}", self.remedy(leg, invalid));
        self.publish(EventKind::LegStalled, json!({ "leg": leg }));
        self.machine.handle(clock::now(), Input::MediaUnheard { leg });
    }

    /// The call is over: whoever reads its record is told why a side of it is silent.
    pub(super) fn note_unheard(&self) {
        for (leg, unheard) in Leg::BOTH.into_iter().zip(self.unheard) {
            if let Some(invalid) = unheard {
                let remedy = self.remedy(leg, invalid);
                self.update(|record| record.add_error(&remedy));
            }
        }
    }

    fn remedy(&self, leg: Leg, invalid: u64) -> String {
        let (name, address) = (leg.name(), self.services.advertised(self.ports[leg.index()]));
        let since = if self.adopted { " since this process took the call up" } else { "" };
        if self.services.transport != Transport::Rtp {
            let transport = &self.services.settings.media.transport;
            return format!(
                "{name} leg: no audio came{since} ({invalid} frames were none of {}). Check Asterisk's log for what it says of \
                 {transport} (media.transport), and that its module is loaded: `sidetone check`",
                self.codec.name()
            );
        }
        if invalid == 0 {
            format!(
                "{name} leg: no RTP came{since}. Asterisk was told to send it to {address}: check that it can reach \
                 this address (rtp.advertise), and that no firewall on the way drops UDP"
            )
        } else {
            let format = self.codec.name();
            format!(
                "{name} leg: packets came{since}, and none was {format} audio. Check that Asterisk can send {format} \
                 (rtp.format, its codec modules), and that nothing but Asterisk sends to {address}"
            )
        }
    }
}
