//! What the fields of the form ask for.

use super::error::{Failure, Param};
use crate::calls::speech::Expected;
use crate::config;

/// What to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    Json,
    Text,
    Srt,
    VerboseJson,
    Vtt,
}

/// What is asked of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) language: String,
    /// The request names it, so that it had better be one that the model knows.
    pub(super) language_asked: bool,
    /// The tenant's vocabulary, and behind it what the request has: of too long a text the model takes the end.
    pub(super) prompt: Option<String>,
    pub(super) format: ResponseFormat,
    pub(super) words: bool,
    pub(super) segments: bool,
    pub(super) stream: bool,
}

/// Names by which clients of OpenAI's ask for a model; here they mean the one there is.
const ALIASES: [&str; 4] = ["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "whisper"];

impl Ask {
    /// From the form's fields, in the order in which they came; the last of a name counts. What is not known is ignored: later versions
    /// of the clients send more. `model` is the one there is, `expected` what holds for the tenant.
    pub(super) fn of(fields: &[(String, String)], model: &str, expected: &Expected) -> Result<Self, Failure> {
        let get = |name: &str| {
            let value = fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.trim());
            value.filter(|value| !value.is_empty())
        };
        if let Some(asked) = get("model")
            && asked != model
            && !ALIASES.contains(&asked)
        {
            return Err(Failure::no_such_model(asked, model));
        }
        let asked = get("language").map(|code| config::language(&code.to_ascii_lowercase()));
        let asked = asked.transpose().map_err(|words| Failure::bad(Param::Language, words))?;
        if let Some(temperature) = get("temperature") {
            // Decoding is greedy; the range is OpenAI's.
            let good = temperature.parse::<f64>().is_ok_and(|t| (0.0..=1.0).contains(&t));
            if !good {
                return Err(Failure::bad(Param::Temperature, "`temperature` has to be from 0 to 1."));
            }
        }
        let format = match get("response_format") {
            None | Some("json") => ResponseFormat::Json,
            Some("text") => ResponseFormat::Text,
            Some("srt") => ResponseFormat::Srt,
            Some("verbose_json") => ResponseFormat::VerboseJson,
            Some("vtt") => ResponseFormat::Vtt,
            Some(other) => {
                let words = format!(
                    "`response_format` is `{other}`: use json, text, srt, verbose_json or vtt. Of a stereo file, verbose_json says \
                     who speaks."
                );
                return Err(Failure::bad(Param::ResponseFormat, words));
            }
        };
        let stream = match get("stream").map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(other) => {
                return Err(Failure::bad(
                    Param::Stream,
                    format!("`stream` is `{other}`: use true or false."),
                ));
            }
        };
        if stream && matches!(format, ResponseFormat::Srt | ResponseFormat::Vtt) {
            return Err(Failure::bad(
                Param::Stream,
                "Subtitles are not streamed: leave out `stream`, or ask for json.",
            ));
        }
        let (words, segments) = granularities(fields, format)?;
        let prompt = [expected.vocabulary.as_deref(), get("prompt")];
        let prompt = prompt.into_iter().flatten().collect::<Vec<_>>().join(" ");
        Ok(Self {
            language_asked: asked.is_some(),
            language: asked.unwrap_or_else(|| expected.language.clone()),
            prompt: (!prompt.is_empty()).then_some(prompt),
            format,
            words,
            segments,
            stream,
        })
    }
}

/// Whether words, and whether segments are wanted.
fn granularities(fields: &[(String, String)], format: ResponseFormat) -> Result<(bool, bool), Failure> {
    let named = |key: &str| key == "timestamp_granularities[]" || key == "timestamp_granularities";
    let asked: Vec<&str> = fields.iter().filter(|(key, _)| named(key)).map(|(_, v)| v.trim()).collect();
    if let Some(other) = asked.iter().find(|name| !["word", "segment"].contains(name)) {
        let words = format!("`timestamp_granularities` has `{other}`: use word and segment.");
        return Err(Failure::bad(Param::Granularities, words));
    }
    if asked.is_empty() {
        return Ok((false, true));
    }
    if format != ResponseFormat::VerboseJson {
        let words = "`timestamp_granularities` needs `response_format` verbose_json.";
        return Err(Failure::bad(Param::Granularities, words));
    }
    Ok((asked.contains(&"word"), asked.contains(&"segment")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(fields: &[(&str, &str)]) -> Result<Ask, Failure> {
        let fields: Vec<_> = fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ask::of(&fields, "base.en", &Expected { language: "en".into(), vocabulary: None })
    }

    #[test]
    fn what_a_request_has_to_lean_on_comes_behind_the_vocabulary_of_its_tenant() {
        let expected = Expected { language: "auto".into(), vocabulary: Some("Sidetone, Ms. Okafor".into()) };
        let prompt = |fields: &[(String, String)]| Ask::of(fields, "base.en", &expected).unwrap().prompt;
        assert_eq!(prompt(&[]).as_deref(), Some("Sidetone, Ms. Okafor"));
        let own = [("prompt".to_owned(), "Frau Özgür".to_owned())];
        assert_eq!(prompt(&own).as_deref(), Some("Sidetone, Ms. Okafor Frau Özgür"));
        assert_eq!(Ask::of(&[], "base.en", &expected).unwrap().language, "auto");
    }

    #[test]
    fn what_is_left_out_is_as_with_openai() {
        let asked = ask(&[("model", "whisper-1"), ("prompt", " "), ("chunking_strategy", "auto")]).unwrap();
        let expected = Ask {
            language: "en".into(),
            language_asked: false,
            prompt: None,
            format: ResponseFormat::Json,
            words: false,
            segments: true,
            stream: false,
        };
        assert_eq!(asked, expected);
    }

    #[test]
    fn every_field_counts() {
        let asked = ask(&[
            ("model", "base.en"),
            ("language", "DE"),
            ("prompt", "Frau Özgür"),
            ("response_format", "verbose_json"),
            ("timestamp_granularities[]", "word"),
            ("temperature", "0.2"),
            ("stream", "True"),
        ])
        .unwrap();
        let expected = Ask {
            language: "de".into(),
            language_asked: true,
            prompt: Some("Frau Özgür".into()),
            format: ResponseFormat::VerboseJson,
            words: true,
            segments: false,
            stream: true,
        };
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_value_that_is_none_is_refused_by_the_name_of_its_field() {
        for (field, value) in [
            ("model", "gpt-5"),
            ("language", "klingon"),
            ("response_format", "docx"),
            ("temperature", "hot"),
            ("temperature", "NaN"),
            ("stream", "maybe"),
            ("timestamp_granularities[]", "letter"),
            ("timestamp_granularities[]", "word"),
        ] {
            let body = ask(&[(field, value)]).unwrap_err().body();
            assert_eq!(body["error"]["param"], field.trim_end_matches("[]"), "{body}");
        }
        assert!(ask(&[("stream", "true"), ("response_format", "srt")]).is_err());
    }
}
