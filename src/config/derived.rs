//! What follows from several settings.

use std::path::PathBuf;

use super::settings::Settings;

/// A shard may be kept from running for so long, milliseconds, without losing a packet: a scheduler under load, a slow disk.
const SERVICE_GAP_MS: usize = 100;
/// Packets of 20 ms a second.
const PACKETS_A_SECOND: usize = 50;
/// Kernel memory that a packet of 20 ms takes: 768 bytes for G.711 up to 2,304 for `slin48`, socket buffer header and the
/// allocator's rounding with it. The kernel books double of what it is asked for, so that half of the largest will do.
const PACKET_BYTES: usize = 1_152;
/// Streams that come of a call: its two legs, and what Asterisk sends to the voice of one that is answered.
const STREAMS_A_CALL: usize = 3;
/// For few calls, too: a burst after the network stood still.
const LEAST: usize = 1 << 20;

/// How a tenant's calls are transcribed, where the dialplan does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeechOf<'a> {
    /// `whisper` or `riva`.
    pub engine: &'a str,
    /// Language code, or `auto`.
    pub language: &'a str,
    /// Words and phrases to expect.
    pub vocabulary: &'a [String],
}

/// The two sides of an entry `name=value`; `None` if it has no `=`, or nothing before or behind it.
pub fn pair(entry: &str) -> Option<(&str, &str)> {
    let (name, value) = entry.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

impl Settings {
    /// What `speech` and the tenant's own table in it say.
    pub fn speech_of(&self, tenant: &str) -> SpeechOf<'_> {
        let own = self.speech.tenants.get(tenant);
        SpeechOf {
            engine: own.and_then(|own| own.engine.as_deref()).unwrap_or(&self.speech.engine),
            language: own.and_then(|own| own.language.as_deref()).unwrap_or(&self.speech.language),
            vocabulary: own.and_then(|own| own.vocabulary.as_deref()).unwrap_or(&self.speech.vocabulary),
        }
    }

    /// Where pulled models are: `speech.models_dir`, or else `models` in `node.data`.
    pub fn models_folder(&self) -> PathBuf {
        self.speech.models_dir.clone().unwrap_or_else(|| self.node.data.join("models"))
    }

    /// Receive buffer to ask the kernel for, bytes a shard: `rtp.receive_buffer`, or what `calls.max` calls need.
    pub fn receive_buffer(&self) -> usize {
        if self.rtp.receive_buffer > 0 {
            return self.rtp.receive_buffer;
        }
        let streams = (STREAMS_A_CALL * self.calls.max).div_ceil(self.rtp.shards.max(1));
        let packets = (streams * PACKETS_A_SECOND * SERVICE_GAP_MS).div_ceil(1_000);
        (packets * PACKET_BYTES).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_table_wins_over_the_section_in_what_it_says() {
        let mut settings = Settings::default();
        settings.speech.vocabulary = vec!["Sidetone".into()];
        settings.speech.tenants.entry("acme".into()).or_default().language = Some("fr".into());
        let all = vec!["Sidetone".to_owned()];
        let of = |tenant| settings.speech_of(tenant);
        assert_eq!(of("acme"), SpeechOf { engine: "whisper", language: "fr", vocabulary: &all });
        assert_eq!(of("other"), SpeechOf { engine: "whisper", language: "en", vocabulary: &all });
    }

    #[test]
    fn the_receive_buffer_follows_from_the_calls_unless_it_is_set() {
        let mut settings = Settings::default();
        // 3,000 streams of 5 packets in 100 ms.
        assert_eq!(settings.receive_buffer(), 15_000 * 1_152);
        settings.rtp.shards = 4;
        assert_eq!(settings.receive_buffer(), 3_750 * 1_152);
        settings.calls.max = 10;
        assert_eq!(settings.receive_buffer(), LEAST);
        settings.rtp.receive_buffer = 4_096;
        assert_eq!(settings.receive_buffer(), 4_096);
    }
}
