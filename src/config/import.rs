//! Settings of systems that Sidetone takes the place of.

use std::collections::BTreeMap;

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Settings of ours, as TOML to begin a file with.
    pub settings: String,
    /// The secret that has to go into `ami.password_file`, if there is one: it stands in no file that others may read.
    pub secret: Option<String>,
    /// What the file says that has no meaning here, and so is left out.
    pub left_out: Vec<String>,
}

/// Why a file cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Neither a section, nor a setting, nor a remark.
    #[error("line {0} is no `[Section]` and no `Name = value`")]
    Line(usize),
    /// A port that is none.
    #[error("line {line}: `{value}` is no port")]
    Port {
        /// Which line.
        line: usize,
        /// What it says.
        value: String,
    },
    /// Nothing in it means anything here.
    #[error("there is no [RabbitMQ] and no [AsteriskAMI] in it: is it a transcoding.conf?")]
    Nothing,
}

/// The `transcoding.conf` of a conversion worker: an INI with `[RabbitMQ]`, `[AsteriskAMI]` and `[Logging]`.
///
/// # Errors
/// [`ImportError`].
pub fn transcoding(text: &str) -> Result<Imported, ImportError> {
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = name.0.trim().to_owned();
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(ImportError::Line(n + 1))?;
        found.insert((section.clone(), name.trim().to_owned()), (n + 1, plain(value)));
    }
    let mut taken = |section: &str, name: &str| {
        let key = found
            .keys()
            .find(|(s, k)| s.eq_ignore_ascii_case(section) && k.eq_ignore_ascii_case(name))?
            .clone();
        found.remove(&key)
    };
    let host = taken("RabbitMQ", "HostName");
    let rabbit_port = port(taken("RabbitMQ", "Port"), 5_672)?;
    let (user, password) = (taken("RabbitMQ", "UserName"), taken("RabbitMQ", "Password"));
    let queue = taken("RabbitMQ", "QueueName");
    let address = taken("AsteriskAMI", "Addr");
    let ami_port = port(taken("AsteriskAMI", "Port"), 5_038)?;
    let ami_user = taken("AsteriskAMI", "User");
    let secret = taken("AsteriskAMI", "Secret").map(|(_, secret)| secret);
    let level = taken("Logging", "MinimumLevel");
    if host.is_none() && queue.is_none() && address.is_none() && ami_user.is_none() {
        return Err(ImportError::Nothing);
    }
    let mut tables = toml::Table::new();
    let mut set = |section: &str, key: &str, value: String| {
        let table = tables.entry(section.to_owned()).or_insert_with(|| toml::Table::new().into());
        if let Some(table) = table.as_table_mut() {
            table.insert(key.to_owned(), value.into());
        }
    };
    if let Some((_, host)) = host {
        let of = |value: Option<(usize, String)>| {
            value.map_or_else(|| "guest".to_owned(), |(_, value)| encoded(&value))
        };
        set("jobs", "engine", "rabbitmq".into());
        set("rabbitmq", "url", format!("amqp://{}:{}@{host}:{rabbit_port}/%2f", of(user), of(password)));
    }
    if let Some((_, queue)) = queue {
        set("conversions", "queue", queue);
    }
    if let Some((_, address)) = address {
        set("ami", "url", format!("tcp://{address}:{ami_port}"));
    }
    if let Some((_, user)) = ami_user {
        set("ami", "user", user);
        if secret.is_some() {
            set("ami", "password_file", "ami-password".into());
        }
    }
    if let Some((_, level)) = level {
        let level = match level.to_ascii_uppercase().as_str() {
            "DEBUG" => "debug",
            "INFO" => "info",
            "WARNING" | "WARN" => "warn",
            _ => "error",
        };
        set("log", "level", level.into());
    }
    let left_out = found.into_iter().map(|((section, name), _)| format!("[{section}] {name}")).collect();
    Ok(Imported { settings: tables.to_string(), secret, left_out })
}

/// A value without its quotes, and without a remark behind it.
fn plain(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inside.to_owned();
        }
    }
    value.split([';', '#']).next().unwrap_or_default().trim_end().to_owned()
}

fn port(value: Option<(usize, String)>, usual: u16) -> Result<u16, ImportError> {
    match value {
        None => Ok(usual),
        Some((line, value)) => value.parse().map_err(|_| ImportError::Port { line, value }),
    }
}

/// For the user's part of a URL (RFC 3986, section 3.2.1).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const SEED: &str = include_str!("../../fuzz/corpus/job/transcoding.conf");

    #[test]
    fn the_settings_of_a_conversion_worker_are_taken_over() {
        let imported = transcoding(SEED).unwrap();
        let mut settings: Settings = toml::from_str(&imported.settings).unwrap();
        assert_eq!(
            (&*settings.jobs.engine, &*settings.rabbitmq.url),
            ("rabbitmq", "amqp://guest:guest@localhost:5672/%2f")
        );
        assert_eq!((&*settings.ami.url, &*settings.ami.user), ("tcp://127.0.0.1:5038", "auditorai"));
        assert_eq!((&*settings.conversions.queue, &*settings.log.level), ("Asterisk.Transcoding", "error"));
        assert_eq!(imported.secret.as_deref(), Some("Tu6...JYL"));
        assert!(!imported.settings.contains("Tu6"), "the secret stands elsewhere");
        assert_eq!(imported.left_out, ["[GitHub] RepoOwner"]);
        settings.ami.password_file = None;
        assert_eq!(crate::config::validate::validate(&settings), Ok(()));
    }

    #[test]
    fn odd_files_are_told_by_the_line() {
        assert_eq!(transcoding("[RabbitMQ]\nHostName localhost"), Err(ImportError::Line(2)));
        let port = transcoding("[AsteriskAMI]\nAddr = pbx\nPort = many");
        assert_eq!(port, Err(ImportError::Port { line: 3, value: "many".into() }));
        assert_eq!(transcoding("[ari]\nurl = \"x\""), Err(ImportError::Nothing));
        let odd =
            transcoding("\u{feff}[rabbitmq]\nhostname = 'mq' ; ours\nUserName = a:b@c\npassword = p/w # x\n")
                .unwrap();
        assert!(odd.settings.contains("amqp://a%3Ab%40c:p%2Fw@mq:5672/%2f"), "{}", odd.settings);
    }
}
