//! Values that cannot work are found before anything binds, all in one go.

use super::settings::Settings;

/// Formats in which Asterisk can be asked to send, by Asterisk's names.
const FORMATS: [&str; 10] =
    ["ulaw", "alaw", "g722", "gsm", "opus", "slin", "slin12", "slin16", "slin24", "slin48"];

/// Those that travel over WebSockets. The rest save bandwidth, which a local connection has, at the price of exactness.
const STREAM_FORMATS: [&str; 7] = ["ulaw", "alaw", "slin", "slin12", "slin16", "slin24", "slin48"];

/// What speaks.
const VOICES: [&str; 6] = ["espeak", "piper", "openai", "google", "riva", "off"];

/// Least of `rtp.repair_ms`: the first packets of a doubtful sender are held for up to a second (`media::receiver`), and still
/// have to find their place open.
pub const MIN_REPAIR_MS: u64 = 1_000;

/// How media can travel.
const TRANSPORTS: [&str; 3] = ["rtp", "audiosocket", "websocket"];
/// What AudioSocket carries, of the formats at hand.
const LINEAR: [&str; 2] = ["slin", "slin16"];

/// What recognises speech.
const ENGINES: [&str; 2] = ["whisper", "riva"];

/// Both engines get the words of a vocabulary in one text, separated by commas.
const VOCABULARY: &str =
    "each word or phrase takes 1 to 100 characters without commas, and there may be 1000 of them";

fn is_vocabulary(words: &[String]) -> bool {
    let fits = |word: &String| {
        !word.trim().is_empty()
            && word.chars().count() <= 100
            && !word.contains(|c: char| c == ',' || c.is_control())
    };
    words.len() <= 1_000 && words.iter().all(fits)
}

/// What brings jobs to workers.
const JOB_ENGINES: [&str; 2] = ["embedded", "rabbitmq"];
/// Who converts files.
const CONVERTERS: [&str; 3] = ["sidetone", "asterisk", "dialplan"];
/// Most workers of a kind.
pub const MOST_WORKERS: usize = 256;

fn jobs(s: &Settings, check: &mut dyn FnMut(bool, String)) {
    let is_queue = |name: &str| !name.is_empty() && name.len() <= 200 && !name.starts_with("amq.");
    let url = &s.store.url;
    check(
        url.is_empty() || url.starts_with("postgres://") || url.starts_with("postgresql://"),
        "store.url: leave it out for SQLite, or write it as postgres://user:password@host/database".into(),
    );
    check(
        JOB_ENGINES.contains(&s.jobs.engine.as_str()),
        format!("jobs.engine is `{}`: use one of {}", s.jobs.engine, JOB_ENGINES.join(", ")),
    );
    for root in &s.jobs.roots {
        check(
            root.starts_with('/')
                && root.trim_end_matches('/').len() > 1
                && !root.split('/').any(|part| part == ".."),
            format!("jobs.roots has `{root}`: name folders below `/`, absolute and without `..`"),
        );
    }
    check(
        s.jobs.max_file_mib > 0,
        "jobs.max_file_mib is 0: no file could be used, 2048 is a good value".into(),
    );
    check(
        (1..=100).contains(&s.jobs.attempts),
        format!("jobs.attempts is {}: use 1 to 100", s.jobs.attempts),
    );
    check(s.jobs.retry_ms > 0, "jobs.retry_ms is 0: give whatever failed some time, 5000 say".into());
    check(
        s.rabbitmq.url.starts_with("amqp://") || s.rabbitmq.url.starts_with("amqps://"),
        "rabbitmq.url: write it as amqp://user:password@host:port/vhost".into(),
    );
    check(
        ["classic", "quorum"].contains(&s.rabbitmq.queue_type.as_str()),
        format!("rabbitmq.queue_type is `{}`: use classic or quorum", s.rabbitmq.queue_type),
    );
    check(
        is_tenant(&s.rabbitmq.tenant),
        format!(
            "rabbitmq.tenant is `{}`: use letters, digits, `-` and `_`, the first a letter or digit",
            s.rabbitmq.tenant
        ),
    );
    check(s.rabbitmq.backoff_ms > 0, "rabbitmq.backoff_ms is 0: 500 is a good value".into());
    let redis = &s.redis;
    check(
        redis.url.is_empty() || redis.url.starts_with("redis://") || redis.url.starts_with("rediss://"),
        "redis.url: write it as redis://user:password@host:6379/0 (rediss:// for TLS), or leave it out"
            .into(),
    );
    check(
        (1..=10_000).contains(&redis.timeout_ms),
        format!("redis.timeout_ms is {}: use 1 to 10000; jobs wait for it", redis.timeout_ms),
    );
    check(
        redis.job_key.is_empty() || redis.job_key.contains("{id}"),
        format!("redis.job_key is `{}`, one key for all jobs: put {{id}} into it", redis.job_key),
    );
    for (name, value) in [
        ("max_audio_kib", redis.max_audio_kib),
        ("audio_days", redis.audio_days.into()),
        ("job_hours", redis.job_hours.into()),
    ] {
        let most = 1 << 19;
        check((1..=most).contains(&value), format!("redis.{name} is {value}: use 1 to {most}"));
    }
    check(
        CONVERTERS.contains(&s.conversions.by.as_str()),
        format!("conversions.by is `{}`: use one of {}", s.conversions.by, CONVERTERS.join(", ")),
    );
    check(
        s.conversions.by == "sidetone" || !s.ami.user.is_empty(),
        format!(
            "conversions.by is `{}`, which needs the Asterisk Manager Interface: set ami.user",
            s.conversions.by
        ),
    );
    check(
        s.conversions.timeout_s > 0,
        "conversions.timeout_s is 0: give the dialplan some time, 60 say".into(),
    );
    for (key, queue) in [
        ("conversions.queue", &s.conversions.queue),
        ("transcriptions.queue", &s.transcriptions.queue),
        ("tts_calls.queue", &s.tts_calls.queue),
        ("tts_calls.priority_queue", &s.tts_calls.priority_queue),
    ] {
        check(
            is_queue(queue),
            format!("{key} is `{queue}`: use 1 to 200 characters that do not begin with `amq.`"),
        );
    }
    for (key, queue) in [
        ("conversions.results", &s.conversions.results),
        ("transcriptions.results", &s.transcriptions.results),
    ] {
        check(
            queue.is_empty() || is_queue(queue),
            format!("{key} is `{queue}`: use at most 200 characters that do not begin with `amq.`"),
        );
    }
    for (key, workers) in [
        ("conversions.workers", s.conversions.workers),
        ("transcriptions.workers", s.transcriptions.workers),
        ("tts_calls.workers", s.tts_calls.workers),
    ] {
        check(workers <= MOST_WORKERS, format!("{key} is {workers}: use {MOST_WORKERS} at most"));
    }
    let is_address =
        |from: &String| from == "*" || from.starts_with("http://") || from.starts_with("https://");
    for from in s.transcriptions.fetch_from.iter().filter(|from| !is_address(from)) {
        check(false, format!("transcriptions.fetch_from has `{from}`: write the beginning of a URL, or `*`"));
    }
}

/// Check every value.
///
/// # Errors
/// One line a complaint: the key, what is wrong, what to write instead.
pub fn validate(s: &Settings) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    let mut check = |good: bool, complaint: String| {
        if !good {
            wrong.push(complaint);
        }
    };
    check(
        (1..=32).contains(&s.node.name.len()) && s.node.name.chars().all(|c| c.is_ascii_alphanumeric()),
        format!("node.name is `{}`: use 1 to 32 letters and digits", s.node.name),
    );
    check(
        s.ari.url.starts_with("http://") || s.ari.url.starts_with("https://"),
        format!("ari.url is `{}`: write it as http://host:port", s.ari.url),
    );
    check(
        !s.ari.app.is_empty() && s.ari.app.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        format!("ari.app is `{}`: use letters, digits, `-`, `_` and `.`", s.ari.app),
    );
    check(
        s.ari.request_timeout_ms > 0,
        "ari.request_timeout_ms is 0: give replies some time, 5000 say".into(),
    );
    check(s.ari.ping_interval_ms > 0, "ari.ping_interval_ms is 0: 5000 is a good value".into());
    check(
        0 < s.ari.backoff_min_ms && s.ari.backoff_min_ms <= s.ari.backoff_max_ms,
        "ari.backoff_min_ms must be above 0 and at most ari.backoff_max_ms".into(),
    );
    check(
        s.ami.url.starts_with("tcp://") || s.ami.url.starts_with("tls://"),
        format!("ami.url is `{}`: write it as tcp://host:port or tls://host:port", s.ami.url),
    );
    check(
        s.ami.request_timeout_ms > 0,
        "ami.request_timeout_ms is 0: give responses some time, 5000 say".into(),
    );
    check((1..=16).contains(&s.rtp.shards), format!("rtp.shards is {}: use 1 to 16", s.rtp.shards));
    check(
        s.rtp.cpus.parse::<super::Cpus>().is_ok(),
        format!("rtp.cpus is `{}`: say `auto`, `off`, or processors such as `2,4-7`", s.rtp.cpus),
    );
    check(
        s.rtp.bind.port() != 0 && usize::from(s.rtp.bind.port()) + 2 * s.rtp.shards <= 65_536,
        format!("rtp.bind is `{}`: its port must be fixed, with room for 2 ports a shard", s.rtp.bind),
    );
    check(
        s.rtp.advertise.is_some() || !s.rtp.bind.ip().is_unspecified(),
        format!("rtp.bind is `{}`: set rtp.advertise to the address that Asterisk shall send to", s.rtp.bind),
    );
    check(
        s.rtp.asterisk_address.is_none_or(|ip| !ip.is_unspecified()),
        "rtp.asterisk_address is no address that packets come from: leave it out, or name one".into(),
    );
    check(
        FORMATS.contains(&s.rtp.format.as_str()),
        format!("rtp.format is `{}`: use one of {}", s.rtp.format, FORMATS.join(", ")),
    );
    check(
        TRANSPORTS.contains(&s.media.transport.as_str()),
        format!("media.transport is `{}`: use one of {}", s.media.transport, TRANSPORTS.join(", ")),
    );
    check(
        LINEAR.contains(&s.audiosocket.format.as_str()),
        format!(
            "audiosocket.format is `{}`: AudioSocket carries linear audio alone, use one of {}",
            s.audiosocket.format,
            LINEAR.join(", ")
        ),
    );
    check(
        s.audiosocket.bind.port() != 0
            && (s.audiosocket.advertise.is_some() || !s.audiosocket.bind.ip().is_unspecified()),
        format!(
            "audiosocket.bind is `{}`: give it a fixed port, and audiosocket.advertise if it is no address to connect to",
            s.audiosocket.bind
        ),
    );
    check(
        s.audiosocket.advertise.is_none_or(|a| a.port() != 0 && !a.ip().is_unspecified()),
        "audiosocket.advertise is no address to connect to: write it as address:port".into(),
    );
    check(
        ["incoming", "outgoing"].contains(&s.websocket.direction.as_str()),
        format!("websocket.direction is `{}`: use incoming or outgoing", s.websocket.direction),
    );
    check(
        STREAM_FORMATS.contains(&s.websocket.format.as_str()),
        format!("websocket.format is `{}`: use one of {}", s.websocket.format, STREAM_FORMATS.join(", ")),
    );
    check(s.websocket.bind.port() != 0, "websocket.bind: its port must be fixed".into());
    check(
        !s.websocket.client.is_empty()
            && s.websocket.client.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        format!("websocket.client is `{}`: use letters, digits, `-`, `_` and `.`", s.websocket.client),
    );
    jobs(s, &mut check);
    check(
        VOICES.contains(&s.tts.engine.as_str()),
        format!("tts.engine is `{}`: use one of {}", s.tts.engine, VOICES.join(", ")),
    );
    check(
        s.tts.engine != "riva" || !s.riva.url.is_empty(),
        "tts.engine is `riva`: say where it is, riva.url".into(),
    );
    check(
        s.tts.url.is_empty() || s.tts.url.starts_with("http://") || s.tts.url.starts_with("https://"),
        format!("tts.url is `{}`: write it as http://host:port/path", s.tts.url),
    );
    check(
        (1..=100_000).contains(&s.tts.max_chars),
        format!("tts.max_chars is {}: use 1 to 100000", s.tts.max_chars),
    );
    check(s.tts.timeout_ms > 0, "tts.timeout_ms is 0: give the engine some time, 30000 say".into());
    check(
        (-60.0..=-6.0).contains(&s.tts.level_dbov),
        format!("tts.level_dbov is {}: use -60 to -6", s.tts.level_dbov),
    );
    check((1..=256).contains(&s.tts.at_once), format!("tts.at_once is {}: use 1 to 256", s.tts.at_once));
    check(
        s.websocket.user.is_empty() == s.websocket.password.is_empty(),
        "websocket.user and websocket.password: give both, or neither".into(),
    );
    check(
        u64::from(s.rtp.ring_seconds) * 1_000 >= s.rtp.repair_ms + 2_000 && s.rtp.ring_seconds <= 120,
        format!(
            "rtp.ring_seconds is {}: it must exceed rtp.repair_ms by 2 s at least, and be at most 120",
            s.rtp.ring_seconds
        ),
    );
    check(
        s.rtp.repair_ms >= MIN_REPAIR_MS,
        format!(
            "rtp.repair_ms is {}: use {MIN_REPAIR_MS} or more (2000 is a good value); the first packets of a doubtful sender wait \
             for a second, and would come too late for the recording",
            s.rtp.repair_ms
        ),
    );
    check(
        s.rtp.live_lag_ms <= s.rtp.repair_ms,
        "rtp.live_lag_ms is longer than rtp.repair_ms: live readers come first".into(),
    );
    check(
        is_tenant(&s.calls.tenant),
        format!(
            "calls.tenant is `{}`: use letters, digits, `-` and `_`, the first a letter or digit",
            s.calls.tenant
        ),
    );
    check(
        s.calls.setup_timeout_ms >= 100,
        "calls.setup_timeout_ms is under 100: 5000 is a good value".into(),
    );
    check((1..=64).contains(&s.recording.writers), "recording.writers: use 1 to 64".into());
    check(
        (100..=60_000).contains(&s.recording.checkpoint_ms),
        "recording.checkpoint_ms: use 100 to 60000".into(),
    );
    let language = super::language(&s.speech.language);
    check(language.is_ok(), format!("speech.language: {}", language.err().unwrap_or_default()));
    let tenants = s.speech.tenants.iter().map(|(name, tenant)| (format!("speech.tenants.{name}"), tenant));
    for (name, tenant) in tenants {
        let own = name.rsplit_once("tenants.").map_or("", |(_, own)| own);
        check(
            is_tenant(own),
            format!("{name}: `{own}` is no tenant's name: use letters, digits, `-` and `_`"),
        );
        if let Some(code) = &tenant.language {
            let language = super::language(code);
            check(language.is_ok(), format!("{name}.language: {}", language.err().unwrap_or_default()));
        }
        if let Some(engine) = &tenant.engine {
            check(
                ENGINES.contains(&engine.as_str()),
                format!("{name}.engine is `{engine}`: use whisper or riva"),
            );
            check(
                engine != "riva" || !s.riva.url.is_empty(),
                format!("{name}.engine is `riva`: set riva.url to the server's address"),
            );
        }
        let words = tenant.vocabulary.as_deref().unwrap_or_default();
        check(is_vocabulary(words), format!("{name}.vocabulary: {VOCABULARY}"));
    }
    check(
        ENGINES.contains(&s.speech.engine.as_str()),
        format!("speech.engine is `{}`: use whisper or riva", s.speech.engine),
    );
    check(
        s.speech.engine != "riva" || !s.riva.url.is_empty(),
        "speech.engine is `riva`: set riva.url to the server's address".into(),
    );
    check(is_vocabulary(&s.speech.vocabulary), format!("speech.vocabulary: {VOCABULARY}"));
    check(
        s.riva.url.is_empty() || ["http://", "https://"].iter().any(|scheme| s.riva.url.starts_with(scheme)),
        format!("riva.url is `{}`: write it as http://host:50051, or https://… for TLS", s.riva.url),
    );
    check(
        s.riva.cert_file.is_some() == s.riva.key_file.is_some(),
        "riva.cert_file and riva.key_file: give both, or neither".into(),
    );
    // What is behind the `=` may be a secret.
    let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in s.riva.metadata.iter().filter(|entry| super::pair(entry).is_none()) {
        check(false, format!("riva.metadata: write `{}…` as name=value", name_of(entry)));
    }
    for entry in s.riva.languages.iter().filter(|entry| super::pair(entry).is_none()) {
        check(false, format!("riva.languages: write `{entry}` as code=tag, such as en=en-GB"));
    }
    check((1..=64).contains(&s.riva.connections), "riva.connections: use 1 to 64".into());
    check((0.0..=100.0).contains(&s.riva.boost), "riva.boost: use 0 to 100".into());
    check(s.riva.endpointing_ms <= 10_000, "riva.endpointing_ms: use at most 10000".into());
    for (name, value) in [
        ("connect_timeout_ms", s.riva.connect_timeout_ms),
        ("final_timeout_ms", s.riva.final_timeout_ms),
        ("keepalive_ms", s.riva.keepalive_ms),
    ] {
        check((100..=600_000).contains(&value), format!("riva.{name}: use 100 to 600000"));
    }
    check(s.riva.retry_ms <= 60_000, "riva.retry_ms: use at most 60000".into());
    check(
        ["whisper", "none"].contains(&s.riva.fallback.as_str()),
        format!("riva.fallback is `{}`: use whisper or none", s.riva.fallback),
    );
    check(
        s.riva.url.is_empty() || s.riva.fallback == "none" || s.speech.model.trim() != "off",
        "riva.fallback is `whisper`, but speech.model is `off`: choose a model, or set riva.fallback to `none`".into(),
    );
    check(
        !s.speech.models_url.trim().is_empty(),
        "speech.models_url is empty: leave it out, or name a URL or a folder".into(),
    );
    check((100..=10_000).contains(&s.speech.partial_ms), "speech.partial_ms: use 100 to 10000".into());
    check((200..=5_000).contains(&s.speech.hangover_ms), "speech.hangover_ms: use 200 to 5000".into());
    check(
        (2_000..=28_000).contains(&s.speech.max_utterance_ms),
        "speech.max_utterance_ms: use 2000 to 28000 (Whisper's window is 30 s)".into(),
    );
    check((2_000..=600_000).contains(&s.speech.max_lag_ms), "speech.max_lag_ms: use 2000 to 600000".into());
    check(
        !s.http.keys.is_empty() || s.http.bind.ip().is_loopback(),
        format!(
            "http.bind is `{}` without a key: set http.keys or http.keys_file, or bind to 127.0.0.1",
            s.http.bind
        ),
    );
    check(
        (1..=1 << 20).contains(&s.http.max_upload_mib),
        "http.max_upload_mib: use 1 to 1048576 (a TiB)".into(),
    );
    check(
        (1..=100 * 60).contains(&s.http.max_audio_minutes),
        "http.max_audio_minutes: use 1 to 6000 (100 hours)".into(),
    );
    check((1..=10_000).contains(&s.http.max_live_channels), "http.max_live_channels: use 1 to 10000".into());
    check(
        s.vosk.bind.is_none_or(|bind| !s.http.keys.is_empty() || bind.ip().is_loopback()),
        "vosk.bind is an address that others can reach, without a key: set http.keys or http.keys_file, or bind to 127.0.0.1".into(),
    );
    check(
        s.vosk.bind.is_none_or(|bind| bind.port() != 0 && bind != s.http.bind),
        "vosk.bind: give it a fixed port of its own, 2700 say".into(),
    );
    check(["text", "json"].contains(&s.log.format.as_str()), "log.format: use text or json".into());
    wrong.extend(super::tts_calls::complaints(&s.tts_calls));
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Tenant names are path components and label values: letters, digits, `-` and `_`, at most 64, the first a letter or
/// digit.
pub fn is_tenant(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(validate(&Settings::default()), Ok(()));
    }

    #[test]
    fn languages_are_those_of_whisper() {
        let with = |code: &str| {
            let mut s = Settings::default();
            s.speech.language = code.into();
            validate(&s)
        };
        for good in ["auto", "en", "de", "haw", "yue"] {
            assert_eq!(with(good), Ok(()), "{good}");
        }
        for bad in ["zz", "", "english", "EN", "de-DE"] {
            let wrong = with(bad).unwrap_err();
            assert!(wrong[0].contains("speech.language") && wrong[0].contains(" de, "), "{wrong:?}");
        }
    }

    #[test]
    fn voices_of_others_need_a_key_and_a_port_of_their_own() {
        let with = |bind: &str, keys: &[&str]| {
            let mut s = Settings::default();
            s.vosk.bind = Some(bind.parse().unwrap());
            s.http.keys = keys.iter().map(|key| (*key).to_owned()).collect();
            validate(&s)
        };
        assert_eq!(with("127.0.0.1:2700", &[]), Ok(()));
        assert_eq!(with("0.0.0.0:2700", &["st_a_0123456789abcdef"]), Ok(()));
        for bad in ["0.0.0.0:2700", "127.0.0.1:0", "127.0.0.1:8090"] {
            assert!(with(bad, &[]).unwrap_err()[0].starts_with("vosk.bind"), "{bad}");
        }
    }

    #[test]
    fn a_repair_window_shorter_than_the_wait_for_doubtful_senders_is_refused() {
        let with = |repair_ms| {
            let mut s = Settings::default();
            s.rtp.repair_ms = repair_ms;
            validate(&s)
        };
        assert_eq!(with(1_000), Ok(()));
        for short in [0, 999] {
            let wrong = with(short).unwrap_err();
            assert!(wrong[0].contains("rtp.repair_ms") && wrong[0].contains("2000"), "{wrong:?}");
        }
    }

    #[test]
    fn engines_have_to_be_there_and_words_have_to_be_words() {
        let complaint = |change: fn(&mut Settings)| {
            let mut s = Settings::default();
            change(&mut s);
            validate(&s).unwrap_err().join(" ")
        };
        assert!(complaint(|s| s.speech.engine = "vosk".into()).contains("whisper or riva"));
        assert!(complaint(|s| s.speech.engine = "riva".into()).contains("riva.url"));
        let tenant =
            complaint(|s| s.speech.tenants.entry("acme".into()).or_default().engine = Some("riva".into()));
        assert!(tenant.contains("speech.tenants.acme.engine") && tenant.contains("riva.url"), "{tenant}");
        assert!(complaint(|s| s.riva.url = "riva:50051".into()).contains("http://host:50051"));
        assert!(complaint(|s| s.riva.metadata = vec!["secret".into()]).contains("name=value"));
        assert!(complaint(|s| s.riva.languages = vec!["en".into()]).contains("code=tag"));
        assert!(complaint(|s| s.speech.vocabulary = vec!["a, b".into()]).contains("without commas"));
        let off = complaint(|s| (s.riva.url, s.speech.model) = ("http://riva:50051".into(), "off".into()));
        assert!(off.contains("riva.fallback"), "{off}");
    }

    #[test]
    fn all_complaints_come_at_once_and_name_key_and_remedy() {
        let mut s = Settings::default();
        s.node.name = "a b".into();
        s.rtp.shards = 0;
        s.http.bind = "0.0.0.0:8090".parse().unwrap();
        let wrong = validate(&s).unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[2].contains("http.keys"));
    }
}
