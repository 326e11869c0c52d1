//! From file, environment and flags to [`Settings`]: later ones win, and every complaint names the key and the remedy.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::settings::{SECTIONS, SectionDoc, Settings, TABLES};

/// Environment variables with this prefix are settings: `SIDETONE__ARI__PASSWORD` is `ari.password`.
pub const ENV_PREFIX: &str = "SIDETONE__";

/// What all variables begin with that are meant for us.
pub const ENV_OURS: &str = "SIDETONE_";

/// Variables of the command line's own, which are no settings.
const ENV_NO_SETTINGS: [&str; 3] = ["SIDETONE_CONFIG", "SIDETONE_KEY", "SIDETONE_URL"];

/// Where settings are looked for when no file is named, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["config/sidetone.toml", "/etc/sidetone/sidetone.toml"];

/// Why there are no settings. Each says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("cannot read the settings file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that a setting names for its secret is not there or not readable.
    #[error("cannot read {}, which `{key}` names: {source}; correct the setting, or let this user read the file", path.display())]
    Secret {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{origin}: {message}")]
    Malformed {
        /// File, variable or flag.
        origin: String,
        /// What is wrong, with its place.
        message: String,
    },
    /// No such setting.
    #[error("{origin}: there is no setting `{key}`{}", nearest_hint(.nearest))]
    UnknownKey {
        /// File, variable or flag.
        origin: String,
        /// As written.
        key: String,
        /// The right name, if one is near.
        nearest: Option<String>,
    },
    /// Values that cannot work, all of them at once.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

fn nearest_hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(
        || "; `sidetone config example` lists them all".to_owned(),
        |name| format!("; did you mean `{name}`?"),
    )
}

/// Where settings come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file named on the command line; without one, the first of [`DEFAULT_FILES`] that exists, or none.
    pub file: Option<PathBuf>,
    /// `KEY=VALUE` of the environment, those with [`ENV_OURS`] in front.
    pub environment: Vec<(String, String)>,
    /// `section.key=value` of the command line.
    pub flags: Vec<String>,
}

impl Sources {
    /// Read everything, resolve secrets kept in files, and validate.
    ///
    /// # Errors
    /// [`ConfigError`], which names the origin, the key and the remedy.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        let mut merged = Table::new();
        if let Some(path) = self.file.clone().or_else(first_default_file) {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
            merge(&mut merged, parse_file(&path.display().to_string(), &text)?);
        }
        for (name, raw) in &self.environment {
            check_form(name)?;
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            merge(&mut merged, parse_assignment(&format!("environment variable {name}"), &key, raw)?);
        }
        for flag in &self.flags {
            let origin = format!("--set {flag}");
            let (key, raw) = flag.split_once('=').ok_or_else(|| ConfigError::Malformed {
                origin: origin.clone(),
                message: "write it as section.key=value".into(),
            })?;
            merge(&mut merged, parse_assignment(&origin, key.trim(), raw.trim())?);
        }
        let mut settings: Settings = Value::Table(merged)
            .try_into()
            .map_err(|e: toml::de::Error| malformed("settings", e.message()))?;
        read_secrets(&mut settings)?;
        super::validate::validate(&settings).map_err(ConfigError::Invalid)?;
        Ok(settings)
    }
}

fn first_default_file() -> Option<PathBuf> {
    DEFAULT_FILES.iter().map(PathBuf::from).find(|p| p.is_file())
}

fn malformed(origin: &str, message: &str) -> ConfigError {
    ConfigError::Malformed { origin: origin.to_owned(), message: for_people(message.trim()) }
}

const COUNT: &str = "expected a whole number, 0 or more";

/// How messages of serde and the standard library about a value end, and the same without names of Rust's.
const FOR_PEOPLE: [(&str, &str); 12] = [
    ("expected usize", COUNT),
    ("expected u8", COUNT),
    ("expected u16", COUNT),
    ("expected u32", COUNT),
    ("expected u64", COUNT),
    ("expected f32", "expected a number"),
    ("expected f64", "expected a number"),
    ("expected a boolean", "expected true or false"),
    ("expected a sequence", "expected a list, such as [\"one\", \"two\"]"),
    ("expected path string", "expected a path in quotes"),
    (
        "invalid socket address syntax",
        "write it as ADDRESS:PORT, such as 127.0.0.1:8090; a name is no address",
    ),
    ("invalid IP address syntax", "write it as an IP address, such as 127.0.0.1; a name is none"),
];

fn for_people(message: &str) -> String {
    let known = FOR_PEOPLE.iter().find_map(|(end, words)| Some((message.strip_suffix(end)?, words)));
    known.map_or_else(|| message.to_owned(), |(rest, words)| format!("{rest}{words}"))
}

fn parse_file(origin: &str, text: &str) -> Result<Table, ConfigError> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| malformed(origin, &e.to_string()))?;
    for key in keys_of(&table) {
        check_known(origin, &key)?;
    }
    // Typed once on its own, for the sake of messages that show the line.
    toml::from_str::<Settings>(text).map_err(|e| malformed(origin, &e.to_string()))?;
    Ok(table)
}

/// The full names of all that a file sets.
fn keys_of(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (section, value) in table {
        let Value::Table(fields) = value else {
            keys.push(section.clone());
            continue;
        };
        for (field, value) in fields {
            let name = format!("{section}.{field}");
            match value {
                // Tables with names that the user gives, of which there are any number.
                Value::Table(named) if tables().any(|(above, _)| above == name) => {
                    for (name_of_one, value) in named {
                        match value {
                            Value::Table(inner) => {
                                keys.extend(inner.keys().map(|key| format!("{name}.{name_of_one}.{key}")));
                            }
                            _ => keys.push(format!("{name}.{name_of_one}")),
                        }
                    }
                }
                _ => keys.push(name),
            }
        }
    }
    keys
}

/// What the tables of any name lie below (`speech.tenants`), and their settings.
fn tables() -> impl Iterator<Item = (&'static str, &'static SectionDoc)> {
    TABLES.iter().filter_map(|table| Some((table.name.strip_suffix(".NAME")?, table)))
}

/// `key` in the table of a name of its own: what that lies below, the name, and the setting in it.
fn named(key: &str) -> Option<(&'static SectionDoc, [&str; 3])> {
    tables().find_map(|(above, table)| {
        let (name, field) = key.strip_prefix(above)?.strip_prefix('.')?.rsplit_once('.')?;
        Some((table, [above, name, field]))
    })
}

fn parse_assignment(origin: &str, key: &str, raw: &str) -> Result<Table, ConfigError> {
    check_known(origin, key)?;
    let path: Vec<&str> = match named(key) {
        Some((_, [above, name, field])) => above.split('.').chain([name, field]).collect(),
        None => key.splitn(2, '.').collect(),
    };
    let single = |value: Value| {
        let nested = path
            .iter()
            .rev()
            .fold(value, |value, part| Value::Table(Table::from_iter([((*part).to_owned(), value)])));
        match nested {
            Value::Table(table) => table,
            _ => Table::new(),
        }
    };
    // Text needs no quotes here: what does not work as a TOML value is taken as a string.
    let typed = raw.parse::<Value>().ok().map(single);
    let text = single(Value::String(raw.to_owned()));
    let fits = |t: &Table| Value::Table(t.clone()).try_into::<Settings>().map(|_: Settings| ());
    let as_typed = typed.map(|table| fits(&table).map(|()| table));
    match (as_typed, fits(&text)) {
        (Some(Ok(table)), _) => Ok(table),
        (_, Ok(())) => Ok(text),
        (Some(Err(error)), _) | (None, Err(error)) => {
            Err(malformed(origin, &format!("`{key}`: {}", error.message())))
        }
    }
}

/// Refuse a variable that spells a setting in another form than that of settings: it would do nothing, without a word. Names
/// that come near to no setting are let be: Kubernetes, for one, gives containers `SIDETONE_PORT` for a service of this name.
fn check_form(name: &str) -> Result<(), ConfigError> {
    let Some(rest) = name.strip_prefix(ENV_OURS).filter(|_| !ENV_NO_SETTINGS.contains(&name)) else {
        return Ok(());
    };
    let flat =
        rest.to_ascii_lowercase().split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
    // With the right prefix the name was meant for a setting: the check for unknown ones knows more of typing errors.
    let far = if name.starts_with(ENV_PREFIX) { 0 } else { flat.len() / 6 };
    let right = |key: &str| format!("{ENV_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase());
    let distance = |key: &String| strsim::osa_distance(&flat, &key.replace('.', "_"));
    match known_keys().min_by_key(distance) {
        Some(key) if distance(&key) <= far && right(&key) != name => Err(malformed(
            &format!("environment variable {name}"),
            &format!("no setting is spelt like that; for `{key}` it is {}", right(&key)),
        )),
        _ => Ok(()),
    }
}

fn known_keys() -> impl Iterator<Item = String> {
    SECTIONS.iter().flat_map(|s| s.fields.iter().map(move |f| format!("{}.{}", s.name, f.name)))
}

fn check_known(origin: &str, key: &str) -> Result<(), ConfigError> {
    if known_keys().any(|k| k == key) {
        return Ok(());
    }
    let unknown =
        |nearest| ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), nearest };
    if let Some((table, [above, name, wanted])) = named(key) {
        if table.fields.iter().any(|field| field.name == wanted) {
            return Ok(());
        }
        let far = (wanted.chars().count() / 3).max(1);
        let near =
            table.fields.iter().map(|field| (strsim::osa_distance(wanted, field.name), field.name)).min();
        let near = near.filter(|(distance, _)| *distance <= far);
        return Err(unknown(near.map(|(_, field)| format!("{above}.{name}.{field}"))));
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(key);
    // One letter of three may be wrong: `ari.foo` is not nearly `ari.app` for having the section in common.
    let far = (wanted.chars().count() / 3).max(1);
    let nearest = known_keys()
        .map(|k| {
            let whole = strsim::osa_distance(key, &k);
            (whole.min(strsim::osa_distance(&wanted, &last(&k))), whole, k)
        })
        .min()
        .filter(|(distance, ..)| *distance <= far)
        .map(|(.., k)| k);
    Err(unknown(nearest))
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn read_secrets(settings: &mut Settings) -> Result<(), ConfigError> {
    if let Some(path) = settings.ari.password_file.clone() {
        let text = read_secret("ari.password_file", &path)?;
        settings.ari.password = text.trim_end_matches(['\r', '\n']).to_owned();
    }
    if let Some(path) = settings.ami.password_file.clone() {
        let text = read_secret("ami.password_file", &path)?;
        settings.ami.password = text.trim_end_matches(['\r', '\n']).to_owned();
    }
    if let Some(path) = settings.websocket.password_file.clone() {
        let text = read_secret("websocket.password_file", &path)?;
        settings.websocket.password = text.trim_end_matches(['\r', '\n']).to_owned();
    }
    if let Some(path) = settings.tts.api_key_file.clone() {
        let text = read_secret("tts.api_key_file", &path)?;
        settings.tts.api_key = text.trim().to_owned();
    }
    if let Some(path) = settings.store.url_file.clone() {
        settings.store.url = read_secret("store.url_file", &path)?.trim().to_owned();
    }
    if let Some(path) = settings.rabbitmq.url_file.clone() {
        settings.rabbitmq.url = read_secret("rabbitmq.url_file", &path)?.trim().to_owned();
    }
    if let Some(path) = settings.redis.url_file.clone() {
        settings.redis.url = read_secret("redis.url_file", &path)?.trim().to_owned();
    }
    if let Some(path) = settings.http.keys_file.clone() {
        let text = read_secret("http.keys_file", &path)?;
        settings.http.keys.extend(listed(&text));
    }
    if let Some(path) = settings.riva.metadata_file.clone() {
        let text = read_secret("riva.metadata_file", &path)?;
        settings.riva.metadata.extend(listed(&text));
    }
    if let Some(path) = settings.speech.vocabulary_file.clone() {
        let text = read_secret("speech.vocabulary_file", &path)?;
        settings.speech.vocabulary.extend(listed(&text));
    }
    for tenant in settings.speech.tenants.values_mut() {
        if let Some(path) = tenant.vocabulary_file.clone() {
            let text = read_secret("speech.tenants.NAME.vocabulary_file", &path)?;
            tenant.vocabulary.get_or_insert_default().extend(listed(&text));
        }
    }
    Ok(())
}

/// The lines of a list kept in a file.
fn listed(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned)
}

fn read_secret(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Secret { key, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Result<Settings, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Sources { file: Some(file.path().to_owned()), ..Sources::default() }.load()
    }

    #[test]
    fn later_sources_win_over_earlier_ones() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[rtp]\nshards = 2\nrepair_ms = 1500\n[ari]\nuser = \"file\"\n").unwrap();
        let settings = Sources {
            file: Some(file.path().to_owned()),
            environment: vec![
                ("SIDETONE__ARI__USER".into(), "env".into()),
                ("SIDETONE__RTP__SHARDS".into(), "3".into()),
            ],
            flags: vec!["rtp.shards=4".into(), "ari.password=12345".into()],
        }
        .load()
        .unwrap();
        assert_eq!(settings.rtp.shards, 4);
        assert_eq!(settings.rtp.repair_ms, 1_500);
        assert_eq!(settings.ari.user, "env");
        assert_eq!(settings.ari.password, "12345", "a number is a good password");
    }

    #[test]
    fn what_a_value_should_be_is_said_in_words() {
        let by_flag = |flag: &str| {
            Sources { flags: vec![flag.into()], ..Sources::default() }.load().unwrap_err().to_string()
        };
        for (flag, words) in [
            ("rtp.shards=two", "string \"two\", expected a whole number"),
            ("rtp.shards=-1", "integer `-1`, expected a whole number, 0 or more"),
            ("tts.level_dbov=loud", "expected a number"),
            ("calls.record=maybe", "expected true or false"),
            ("jobs.roots=/calls", "expected a list, such as [\"one\", \"two\"]"),
            ("http.bind=localhost:8090", "write it as ADDRESS:PORT, such as 127.0.0.1:8090"),
            ("rtp.asterisk_address=pbx", "write it as an IP address"),
        ] {
            let error = by_flag(flag);
            assert!(error.contains(words), "{error}");
        }
        let error = from_text("[rtp]\nshards = \"two\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.ends_with("expected a whole number, 0 or more"), "{error}");
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        let error = from_text("[rtp]\nshard = 2\n").unwrap_err().to_string();
        assert!(error.contains("no setting `rtp.shard`; did you mean `rtp.shards`?"), "{error}");
        let error = from_text("[speech]\nshards = 2\n").unwrap_err().to_string();
        assert!(error.contains("did you mean `rtp.shards`?"), "{error}");
        let by_flag = |key: &str| {
            let flags = vec![format!("{key}=1")];
            Sources { flags, ..Sources::default() }.load().unwrap_err().to_string()
        };
        for (wrong, right) in
            [("ari.pasword", "ari.password"), ("arri.url", "ari.url"), ("ari.uesr", "ari.user")]
        {
            let error = by_flag(wrong);
            assert!(error.contains(&format!("did you mean `{right}`?")), "{error}");
        }
        for far in ["foo", "ari.foo", "rtp.x", "call.foobar"] {
            let error = by_flag(far);
            assert!(
                error.contains("`sidetone config example`") && !error.contains("did you mean"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_tenant_has_a_table_of_its_own() {
        let settings = from_text(
            "[speech]\nlanguage = \"de\"\n[speech.tenants.acme]\nengine = \"whisper\"\nvocabulary = [\"Ms. Okafor\"]\n",
        );
        let tenants = settings.unwrap().speech.tenants;
        assert_eq!(tenants["acme"].engine.as_deref(), Some("whisper"));
        assert_eq!(tenants["acme"].vocabulary.as_deref(), Some(["Ms. Okafor".to_owned()].as_slice()));
        assert_eq!(tenants["acme"].language, None);

        let flags = vec!["speech.tenants.e.language=fr".into()];
        let environment = vec![("SIDETONE__SPEECH__TENANTS__ACME__LANGUAGE".into(), "es".into())];
        let tenants = Sources { flags, environment, ..Sources::default() }.load().unwrap().speech.tenants;
        assert_eq!(tenants["e"].language.as_deref(), Some("fr"));
        assert_eq!(tenants["acme"].language.as_deref(), Some("es"));

        let error = from_text("[speech.tenants.acme]\nlanguge = \"de\"\n").unwrap_err().to_string();
        let wanted = "no setting `speech.tenants.acme.languge`; did you mean `speech.tenants.acme.language`?";
        assert!(error.contains(wanted), "{error}");
        for wrong in ["speech.tenants.acme=1", "speech.tenant.acme.engine=riva"] {
            let flags = vec![wrong.into()];
            assert!(Sources { flags, ..Sources::default() }.load().is_err(), "{wrong}");
        }
        let error = from_text("[speech.tenants.\"a.b\"]\nlanguage = \"de\"\n").unwrap_err().to_string();
        assert!(error.contains("speech.tenants.a.b"), "{error}");
    }

    #[test]
    fn lists_may_be_kept_in_files() {
        let list = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(list.path(), "# names\nOkafor\n\nSidetone\n").unwrap();
        let path = list.path();
        let settings = from_text(&format!(
            "[speech]\nvocabulary = [\"first\"]\nvocabulary_file = {path:?}\n[speech.tenants.acme]\nvocabulary_file = {path:?}\n"
        ));
        let speech = settings.unwrap().speech;
        assert_eq!(speech.vocabulary, ["first", "Okafor", "Sidetone"]);
        assert_eq!(speech.tenants["acme"].vocabulary.as_deref().unwrap(), ["Okafor", "Sidetone"]);
    }

    #[test]
    fn a_variable_that_is_not_of_the_form_of_settings_is_refused_with_the_right_one() {
        let with = |name: &str| {
            let environment = vec![(name.to_owned(), "5".to_owned())];
            Sources { environment, ..Sources::default() }.load()
        };
        for (wrong, right) in [
            ("SIDETONE_ARI_PASSWORD", "SIDETONE__ARI__PASSWORD"),
            ("SIDETONE__ARI_PASSWORD", "SIDETONE__ARI__PASSWORD"),
            ("SIDETONE_ARI__PASWORD", "SIDETONE__ARI__PASSWORD"),
            ("SIDETONE_RTP_RING_SECONDS", "SIDETONE__RTP__RING_SECONDS"),
        ] {
            let error = with(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains(right), "{error}");
        }
        for good in ["SIDETONE_CONFIG", "SIDETONE_KEY", "SIDETONE_PORT", "SIDETONE_LAB_ROOTS"] {
            assert!(with(good).is_ok(), "{good}");
        }
        assert_eq!(with("SIDETONE__RTP__RING_SECONDS").unwrap().rtp.ring_seconds, 5);
    }

    #[test]
    fn wrong_types_show_the_line_or_the_variable() {
        let error = from_text("[rtp]\nshards = \"many\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("shards"), "{error}");
        let sources = Sources {
            environment: vec![("SIDETONE__RTP__SHARDS".into(), "many".into())],
            ..Sources::default()
        };
        let error = sources.load().unwrap_err().to_string();
        assert!(error.contains("SIDETONE__RTP__SHARDS") && error.contains("rtp.shards"), "{error}");
    }

    #[test]
    fn secrets_come_from_files_without_the_line_end() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "pass word\n").unwrap();
        let settings = from_text(&format!("[ari]\npassword_file = {:?}\n", secret.path())).unwrap();
        assert_eq!(settings.ari.password, "pass word");
        for key in ["ari.password_file", "http.keys_file"] {
            let sources = Sources { flags: vec![format!("{key}=/nowhere/secret")], ..Sources::default() };
            let error = sources.load().unwrap_err().to_string();
            assert!(error.contains("/nowhere/secret") && error.contains(key), "{error}");
        }
    }

    #[test]
    fn keys_from_a_file_come_after_those_of_the_settings() {
        let keys = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(keys.path(), "# dashboard\nst_a_1\n\n  sha256:00  \r\n").unwrap();
        let settings =
            from_text(&format!("[http]\nkeys = [\"st_b_2\"]\nkeys_file = {:?}\n", keys.path())).unwrap();
        assert_eq!(settings.http.keys, ["st_b_2", "st_a_1", "sha256:00"]);
    }
}
