//! What a client of vosk-server's protocol says besides audio.

use std::sync::Arc;

use serde_json::Value;

use crate::api::live::{RATES, is_rate};

/// Of a prompt, Whisper takes 224 tokens; the rest would be cut off from the front.
const MOST_VOCABULARY: usize = 800;

/// A text message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How it wants to be heard, and answered.
    Config(Box<Config>),
    /// Nothing more comes: the last final, please.
    Eof,
    /// Another round begins: the final of all that came, please.
    Reset,
}

/// What a client sets; what it leaves out stays. What vosk-server has besides (`model`) is ignored: it never changed anything for
/// this client alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub(super) sample_rate: Option<u32>,
    pub(super) words: Option<bool>,
    pub(super) partial_words: Option<bool>,
    pub(super) max_alternatives: Option<u32>,
    pub(super) vocabulary: Option<Arc<str>>,
}

impl Message {
    /// From the text.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("a text message is no JSON: {error}"))?;
        if let Some(config) = value.get("config") {
            return Config::of(config).map(|config| Self::Config(Box::new(config)));
        }
        match (value.get("eof").is_some_and(is_set), value.get("reset").is_some_and(is_set)) {
            (true, _) => Ok(Self::Eof),
            (false, true) => Ok(Self::Reset),
            _ => {
                Err("a text message has neither config nor eof nor reset; audio comes in binary ones"
                    .to_owned())
            }
        }
    }
}

impl Config {
    fn of(value: &Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err("config is no object: send {\"config\":{\"sample_rate\":8000}}".to_owned());
        }
        let flag = |name| value.get(name).filter(|value| !value.is_null()).map(is_set);
        Ok(Self {
            sample_rate: value.get("sample_rate").map(rate).transpose()?,
            words: flag("words"),
            partial_words: flag("partial_words"),
            max_alternatives: value.get("max_alternatives").map(alternatives).transpose()?,
            vocabulary: value.get("phrase_list").map(vocabulary).transpose()?.flatten(),
        })
    }
}

/// As Python sees it: clients write 1, true, "1".
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

/// Clients write 8000, 8000.0 and "8000".
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn rate(value: &Value) -> Result<u32, String> {
    let hz = number(value).filter(|hz| hz.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(hz));
    hz.map(|hz| hz as u32).filter(|hz| is_rate(*hz)).ok_or_else(|| {
        format!("sample_rate is {}: use {} to {}, a multiple of 25", shown(value), RATES.start(), RATES.end())
    })
}

fn alternatives(value: &Value) -> Result<u32, String> {
    let wrong = || format!("max_alternatives is {}: use a whole number from 0 on", shown(value));
    let count = number(value).filter(|n| n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(n));
    count.map(|n| n as u32).ok_or_else(wrong)
}

/// A grammar for vosk, which knows no other words then; words to lean on here. `[unk]` is vosk's for any other.
fn vocabulary(value: &Value) -> Result<Option<Arc<str>>, String> {
    let wrong = || format!("phrase_list is {}: use a list of texts", shown(value));
    let phrases = value.as_array().ok_or_else(wrong)?;
    let phrases = phrases.iter().map(|phrase| phrase.as_str().map(str::trim).ok_or_else(wrong));
    let phrases: Vec<&str> = phrases.collect::<Result<_, _>>()?;
    let known = phrases.into_iter().filter(|phrase| !phrase.is_empty() && *phrase != "[unk]");
    let mut text = String::new();
    for phrase in known {
        // A long grammar has its first phrases leant on: leaning is all that is lost.
        if text.len() + phrase.len() + 2 > MOST_VOCABULARY {
            break;
        }
        text += if text.is_empty() { "" } else { ", " };
        text += phrase;
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_write_the_same_in_many_ways() {
        for text in [r#"{"eof" : 1}"#, r#"{"eof":1}"#, r#"{"eof":true}"#, r#"{"eof":"1"}"#] {
            assert_eq!(Message::parse(text), Ok(Message::Eof), "{text}");
        }
        assert_eq!(Message::parse(r#"{"reset" : 1}"#), Ok(Message::Reset));
        let config = |text| match Message::parse(text) {
            Ok(Message::Config(config)) => *config,
            other => panic!("{other:?}"),
        };
        for text in [
            r#"{"config":{"sample_rate":16000.0,"words":0,"model":"/etc/passwd","phrase_list":["one two","[unk]"]}}"#,
            r#"{"config":{"sample_rate":"16000","words":false,"phrase_list":["one two"],"new":{}}}"#,
        ] {
            let expected = Config {
                sample_rate: Some(16_000),
                words: Some(false),
                vocabulary: Some("one two".into()),
                ..Config::default()
            };
            assert_eq!(config(text), expected, "{text}");
        }
        assert_eq!(config(r#"{"config":{"words":null,"phrase_list":[]}}"#), Config::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, name) in [
            ("", "JSON"),
            ("{", "JSON"),
            ("[1]", "config"),
            ("{}", "config"),
            (r#"{"eof":0}"#, "config"),
            (r#"{"config":8000}"#, "config"),
            (r#"{"config":{"sample_rate":7}}"#, "sample_rate"),
            (r#"{"config":{"sample_rate":16000.5}}"#, "sample_rate"),
            (r#"{"config":{"max_alternatives":-1}}"#, "max_alternatives"),
            (r#"{"config":{"phrase_list":"one"}}"#, "phrase_list"),
            (r#"{"config":{"phrase_list":[1]}}"#, "phrase_list"),
        ] {
            assert!(Message::parse(text).unwrap_err().contains(name), "{text}");
        }
        let long = vec!["word"; 1_000];
        let text = serde_json::json!({ "config": { "phrase_list": long } }).to_string();
        assert!(
            matches!(Message::parse(&text), Ok(Message::Config(c)) if c.vocabulary.as_ref().is_some_and(|v| v.len() <= 800))
        );
    }
}
