//! One `StreamingRecognize` call: the only IO there is.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic_prost::ProstCodec;

use super::proto::{
    AudioEncoding, EndpointingConfig, RecognitionConfig, STREAMING_RECOGNIZE, SpeechContext,
    StreamingRecognitionConfig, StreamingRecognizeRequest, StreamingRecognizeResponse, StreamingRequest,
};
use super::{Inner, RivaConfig, answer, language, status};
use crate::speech::RATE;
use crate::speech::remote::{AudioStream, NewsSink, StreamError, StreamNews, StreamRequest};

/// The longest utterance is 28 s; what is sent again late, and the last words, take a little longer.
const LONGEST_CALL: Duration = Duration::from_secs(60);
/// Words come in kilobytes; what is more is no answer.
const LARGEST_ANSWER: usize = 4 << 20;

/// A call under way.
struct RivaStream {
    /// Until no more audio comes.
    requests: Option<UnboundedSender<StreamingRecognizeRequest>>,
    task: Option<AbortHandle>,
}

impl AudioStream for RivaStream {
    fn push(&mut self, pcm: Vec<i16>) {
        let bytes = pcm.into_iter().flat_map(i16::to_le_bytes).collect();
        let streaming_request = Some(StreamingRequest::AudioContent(bytes));
        if let Some(requests) = &self.requests {
            // A call that is over has said so.
            let _ = requests.send(StreamingRecognizeRequest { streaming_request });
        }
    }

    fn close(&mut self) {
        self.requests = None;
    }
}

impl Drop for RivaStream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

pub(super) fn open(inner: &Arc<Inner>, request: &StreamRequest, news: NewsSink) -> Box<dyn AudioStream> {
    let tag = match language::tag_of(&request.language, &inner.config.languages) {
        Ok(tag) => tag,
        Err(reason) => {
            news(StreamNews::Failed(StreamError { is_passing: false, reason }));
            return Box::new(RivaStream { requests: None, task: None });
        }
    };
    let config = streaming_config(&inner.config, tag, request.vocabulary.as_deref());
    let streaming_request = Some(StreamingRequest::StreamingConfig(config));
    let (requests, waiting) = unbounded_channel();
    // Its receiver is at hand.
    let _ = requests.send(StreamingRecognizeRequest { streaming_request });
    let inner = inner.clone();
    let task = inner.runtime.clone().spawn(async move {
        let outcome = match tokio::time::timeout(LONGEST_CALL, call(&inner, waiting, &news)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Status::deadline_exceeded("the call was too long")),
        };
        news(match outcome {
            Ok(()) => StreamNews::Ended,
            Err(refusal) => StreamNews::Failed(status::error(&refusal, &inner.config)),
        });
    });
    Box::new(RivaStream { requests: Some(requests), task: Some(task.abort_handle()) })
}

async fn call(
    inner: &Arc<Inner>,
    waiting: UnboundedReceiver<StreamingRecognizeRequest>,
    news: &NewsSink,
) -> Result<(), Status> {
    let mut answers = begin(inner, waiting).await.inspect_err(|refusal| {
        // Only where nothing was ever heard of it: a connection that breaks is made anew.
        if status::is_about_the_server(refusal) {
            inner.missed(status::in_words(refusal, &inner.config));
        }
    })?;
    while let Some(response) = answers.message().await? {
        inner.link.up();
        news(StreamNews::Heard(answer::heard(response)));
    }
    inner.link.up();
    Ok(())
}

async fn begin(
    inner: &Inner,
    mut waiting: UnboundedReceiver<StreamingRecognizeRequest>,
) -> Result<tonic::Streaming<StreamingRecognizeResponse>, Status> {
    let mut client = inner.client().max_decoding_message_size(LARGEST_ANSWER);
    client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let requests = futures_util::stream::poll_fn(move |context| waiting.poll_recv(context));
    let mut request = inner.request(requests);
    request.set_timeout(LONGEST_CALL);
    let codec = ProstCodec::<StreamingRecognizeRequest, StreamingRecognizeResponse>::default();
    let path = PathAndQuery::from_static(STREAMING_RECOGNIZE);
    client.streaming(request, path, codec).await.map(tonic::Response::into_inner)
}

fn streaming_config(
    config: &RivaConfig,
    tag: String,
    vocabulary: Option<&str>,
) -> StreamingRecognitionConfig {
    let phrases =
        vocabulary.unwrap_or_default().split(',').map(str::trim).filter(|phrase| !phrase.is_empty());
    let phrases: Vec<String> = phrases.map(str::to_owned).collect();
    let contexts = match phrases.is_empty() {
        true => Vec::new(),
        false => vec![SpeechContext { phrases, boost: config.boost }],
    };
    StreamingRecognitionConfig {
        config: Some(RecognitionConfig {
            encoding: AudioEncoding::LinearPcm.into(),
            sample_rate_hertz: RATE as i32,
            language_code: tag,
            max_alternatives: 1,
            profanity_filter: false,
            speech_contexts: contexts,
            audio_channel_count: 1,
            enable_word_time_offsets: true,
            enable_automatic_punctuation: config.punctuation,
            model: config.model.clone(),
            verbatim_transcripts: config.verbatim,
            endpointing_config: config.endpointing.map(|silence| EndpointingConfig {
                stop_history: Some(silence.as_millis().min(i32::MAX as u128) as i32),
                ..EndpointingConfig::default()
            }),
        }),
        interim_results: true,
    }
}
