//! The Asterisk Manager Interface: actions, their responses, and events, over one connection that is made anew when it is lost.
//!
//! What to know before using it, all seen on Asterisk 16.28 and 22.10:
//! - An action whose response did not come may have been carried out. What must not happen twice needs an id chosen by us
//!   (`ChannelId` of an Originate) and a look at what is there before it is tried again.
//! - Events that happen while the connection is down are gone: after [`AmiNotice::Connected`] with `first: false`, compare.
//! - Asterisk takes lines of 1,022 bytes and 128 lines an action; [`AmiAction`] refuses more before anything is sent.
//! - Without `Async: true` an Originate holds up every other action of the connection until the party answers.

mod action;
mod client;
mod convert;
mod decode;
mod error;
mod link;
mod message;

pub use action::AmiAction;
pub use client::{AmiClient, AmiConfig, AmiTls};
pub use convert::{FileConvertError, file_convert};
pub use decode::{AmiDecoder, AmiInput};
pub use error::{AmiError, AmiProtocolError};
pub use link::{AmiNotice, AmiNotices};
pub use message::AmiMessage;
