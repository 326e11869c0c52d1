//! What producers put into queues, and the settings of older systems.

use sidetone::config::import;
use sidetone::jobs::Message;
use sidetone::store::jobs::JobKind;

/// Any bytes as a message of each kind: what is taken reads back as the same, and its id can be a file's and a channel's.
pub fn job(bytes: &[u8]) {
    for kind in JobKind::ALL {
        let Ok(message) = Message::parse(*kind, bytes) else { continue };
        if let Some(id) = &message.id {
            assert!((1..=64).contains(&id.len()) && !id.contains(['/', '.', '\0']), "{id:?}");
        }
        let again = Message::parse(*kind, message.payload.to_string().as_bytes()).expect("it reads back");
        assert_eq!(again.payload, message.payload);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(imported) = import::transcoding(text)
    {
        let settings = toml::from_str::<toml::Table>(&imported.settings);
        assert!(settings.is_ok(), "{} {settings:?}", imported.settings);
    }
}
