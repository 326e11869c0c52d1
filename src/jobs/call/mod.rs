//! A text-to-speech call: placed, followed to its end, and told of, whatever happens to the connection or to this process in
//! between. It knows no queue and no database: who keeps the jobs is its [`Journal`].
//!
//! A call's channel has an id of ours, `<job>-<attempt>`, kept before Asterisk is told. So it is found again, and never placed
//! twice: a live channel is followed, one that has ended meanwhile is told of by the dialplan's report in Asterisk's database, and
//! one of which nothing is left is [`Verdict::Unknown`].

mod audio;
mod caller;
mod do_not_call;
mod error;
mod events;
mod follow;
mod number;
mod outcome;
mod pace;
mod place;
mod report;
mod retry;
mod window;

pub use audio::CallAudio;
pub use caller::{AMI_EVENTS, CallId, CallRequest, Caller, Journal, Leftover, Progress};
pub use do_not_call::{DoNotCall, DoNotCallError};
pub use error::{CallError, JournalError};
pub use number::{Number, NumberError};
pub use outcome::{Cause, EndedBy, Outcome, Playback, Played, Verdict};
pub use pace::{Limits, Pace, Place, Turn};
pub use retry::next_attempt;
pub use window::{is_allowed, next_allowed};
