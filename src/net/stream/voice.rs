//! What is said to a party over a connection: its task plays what a producer has, and drops what comes.

use tokio::sync::mpsc;

use super::leg::arrival;
use super::link::{Item, Link, LinkEnd};
use super::outlet::Outlet;
use super::{StreamError, Way};
use crate::clock;
use crate::media::codec::Codec;
use crate::media::pace::Pacer;

/// A stream that is sent over a connection; what comes over it is dropped: it is the caller, whom the legs hear already. Dropping it
/// closes the connection.
pub struct StreamVoice {
    ways: mpsc::UnboundedSender<Way>,
}

impl StreamVoice {
    /// Send over `way` what `pacer` has, in `codec`; silence when it has nothing. Needs a tokio runtime.
    pub fn speak(way: Way, codec: Codec, pacer: Pacer) -> Self {
        let (ways, inbox) = mpsc::unbounded_channel();
        let task = Task { codec, outlet: Outlet::new(codec, pacer), inbox, way: Some(way), link: None };
        tokio::spawn(task.run());
        Self { ways }
    }

    /// Send over `way` from now on; the connection before is closed.
    pub fn move_to(&self, way: Way) {
        // The task only ends with this handle.
        let _ = self.ways.send(way);
    }
}

struct Task {
    codec: Codec,
    outlet: Outlet,
    inbox: mpsc::UnboundedReceiver<Way>,
    way: Option<Way>,
    link: Option<Link>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let due = self.link.as_ref().map(|_| self.outlet.next_due().saturating_since(clock::now()));
            tokio::select! {
                biased;
                way = self.inbox.recv() => match way {
                    Some(way) => (self.way, self.link) = (Some(way), None),
                    None => break,
                },
                came = drain(&mut self.link, self.codec, &mut self.outlet) => {
                    if let Err(end) = came {
                        self.lost(&end);
                    }
                }
                link = arrival(&mut self.way), if self.way.is_some() => self.arrived(link),
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
            }
            if let Some(link) = &mut self.link
                && let Err(end) = self.outlet.send_due(clock::now(), link)
            {
                self.lost(&end);
            }
            if self.outlet.should_report() {
                self.outlet.report();
            }
        }
        self.outlet.report();
    }

    fn arrived(&mut self, link: Result<Link, StreamError>) {
        self.way = None;
        match link {
            Ok(link) => {
                self.outlet.on_connected();
                self.link = Some(link);
            }
            // Its channel does not become complete without it: that is noticed, and mended, where it is made.
            Err(error) => tracing::warn!(%error, "a voice has no connection"),
        }
    }

    fn lost(&mut self, end: &LinkEnd) {
        end.log("a voice");
        self.link = None;
    }
}

/// Take what comes: a peer that is not read from stops, or hangs up.
async fn drain(link: &mut Option<Link>, codec: Codec, outlet: &mut Outlet) -> Result<(), LinkEnd> {
    let Some(link) = link else { return std::future::pending().await };
    let take = |item: Item<'_>| {
        if let Item::Hold(hold) = item {
            outlet.hold(hold);
        }
    };
    link.receive(codec, take).await
}
