//! The messages of Riva's speech recognition and synthesis that are used, and of them the fields that are: packages `nvidia.riva.asr` and
//! `nvidia.riva.tts`, as NVIDIA documents them. Written by hand, so that no build needs a compiler of protobufs; a test holds them against NVIDIA's own Python package.
//! Fields that are not here are passed over when read. Two differ between versions of Riva and are left alone: `RecognitionConfig` 26 and
//! `StreamingRecognitionResult` 7.

#![allow(missing_docs, reason = "the fields are NVIDIA's, and documented there")]

use std::collections::HashMap;

/// Bidirectional: requests are a configuration, then audio.
pub const STREAMING_RECOGNIZE: &str = "/nvidia.riva.asr.RivaSpeechRecognition/StreamingRecognize";
/// What models the server has.
pub const GET_CONFIG: &str = "/nvidia.riva.asr.RivaSpeechRecognition/GetRivaSpeechRecognitionConfig";

/// A text, and its audio.
pub const SYNTHESIZE: &str = "/nvidia.riva.tts.RivaSpeechSynthesis/Synthesize";

/// What to say.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SynthesizeSpeechRequest {
    /// Plain, or SSML.
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(string, tag = "2")]
    pub language_code: String,
    #[prost(enumeration = "AudioEncoding", tag = "3")]
    pub encoding: i32,
    #[prost(int32, tag = "4")]
    pub sample_rate_hz: i32,
    #[prost(string, tag = "5")]
    pub voice_name: String,
}

/// What was said: without a header.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SynthesizeSpeechResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub audio: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AudioEncoding {
    EncodingUnspecified = 0,
    /// 16 bit, little-endian.
    LinearPcm = 1,
    Flac = 2,
    Mulaw = 3,
    OggOpus = 4,
    Alaw = 20,
}

/// Phrases to favour.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpeechContext {
    #[prost(string, repeated, tag = "1")]
    pub phrases: Vec<String>,
    #[prost(float, tag = "4")]
    pub boost: f32,
}

/// Times in milliseconds, thresholds 0 to 1.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct EndpointingConfig {
    #[prost(int32, optional, tag = "1")]
    pub start_history: Option<i32>,
    #[prost(float, optional, tag = "2")]
    pub start_threshold: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    pub stop_history: Option<i32>,
    #[prost(float, optional, tag = "4")]
    pub stop_threshold: Option<f32>,
    #[prost(int32, optional, tag = "5")]
    pub stop_history_eou: Option<i32>,
    #[prost(float, optional, tag = "6")]
    pub stop_threshold_eou: Option<f32>,
}

/// How to recognise.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecognitionConfig {
    #[prost(enumeration = "AudioEncoding", tag = "1")]
    pub encoding: i32,
    #[prost(int32, tag = "2")]
    pub sample_rate_hertz: i32,
    #[prost(string, tag = "3")]
    pub language_code: String,
    #[prost(int32, tag = "4")]
    pub max_alternatives: i32,
    #[prost(bool, tag = "5")]
    pub profanity_filter: bool,
    #[prost(message, repeated, tag = "6")]
    pub speech_contexts: Vec<SpeechContext>,
    #[prost(int32, tag = "7")]
    pub audio_channel_count: i32,
    #[prost(bool, tag = "8")]
    pub enable_word_time_offsets: bool,
    #[prost(bool, tag = "11")]
    pub enable_automatic_punctuation: bool,
    #[prost(string, tag = "13")]
    pub model: String,
    #[prost(bool, tag = "14")]
    pub verbatim_transcripts: bool,
    #[prost(message, optional, tag = "25")]
    pub endpointing_config: Option<EndpointingConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingRecognitionConfig {
    #[prost(message, optional, tag = "1")]
    pub config: Option<RecognitionConfig>,
    #[prost(bool, tag = "2")]
    pub interim_results: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingRecognizeRequest {
    #[prost(oneof = "StreamingRequest", tags = "1, 2")]
    pub streaming_request: Option<StreamingRequest>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StreamingRequest {
    /// The first message.
    #[prost(message, tag = "1")]
    StreamingConfig(StreamingRecognitionConfig),
    /// All others.
    #[prost(bytes = "vec", tag = "2")]
    AudioContent(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingRecognizeResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<StreamingRecognitionResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingRecognitionResult {
    /// The best first.
    #[prost(message, repeated, tag = "1")]
    pub alternatives: Vec<SpeechRecognitionAlternative>,
    #[prost(bool, tag = "2")]
    pub is_final: bool,
    /// Of interim results, 0 to 1; 0: not set.
    #[prost(float, tag = "3")]
    pub stability: f32,
    /// Seconds since the start of the stream.
    #[prost(float, tag = "6")]
    pub audio_processed: f32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SpeechRecognitionAlternative {
    #[prost(string, tag = "1")]
    pub transcript: String,
    /// 0: not set. Some versions give a natural logarithm, others a probability.
    #[prost(float, tag = "2")]
    pub confidence: f32,
    #[prost(message, repeated, tag = "3")]
    pub words: Vec<WordInfo>,
    #[prost(string, repeated, tag = "4")]
    pub language_code: Vec<String>,
}

/// Times in milliseconds since the start of the stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WordInfo {
    #[prost(int32, tag = "1")]
    pub start_time: i32,
    #[prost(int32, tag = "2")]
    pub end_time: i32,
    #[prost(string, tag = "3")]
    pub word: String,
    /// As that of the alternative.
    #[prost(float, tag = "4")]
    pub confidence: f32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigRequest {
    /// Empty: all.
    #[prost(string, tag = "1")]
    pub model_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigResponse {
    #[prost(message, repeated, tag = "1")]
    pub model_config: Vec<ModelConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelConfig {
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// Among them `language_code` and `type` (`online`, `offline`).
    #[prost(map = "string, string", tag = "2")]
    pub parameters: HashMap<String, String>,
}
