//! What is left unread of a request's body is read on before its answer goes out.
//!
//! A connection that is closed while something is still coming is reset, and then the client may never see the answer (RFC 9112,
//! section 9.6); most look at it only when they have sent everything. A refusal would be a broken connection to them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

/// What is still coming is read for this long, as far as it goes.
const DRAIN: Duration = Duration::from_secs(10);

/// Answer when everything has come that the client has to send. Whoever asks before it sends is answered before it does.
pub(super) async fn read_on(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let asks_first = request.headers().contains_key(header::EXPECT);
    let left = Left::default();
    let response = next.run(request.map(|body| Body::new(Lent::new(body, &left)))).await;
    let unread = left.lock().take();
    if let Some(Unread { body, is_begun }) = unread
        && (is_begun || !asks_first)
    {
        let mut body = body.into_data_stream();
        let rest = async { while let Some(Ok(_)) = body.next().await {} };
        if tokio::time::timeout(DRAIN, rest).await.is_err() {
            tracing::debug!("a client still sends what nobody reads; it may not see its answer");
        }
    }
    response
}

/// Where a body comes back to.
type Left = Arc<Mutex<Option<Unread>>>;

struct Unread {
    body: Body,
    /// Whether something of it was asked for; the client sends from then on.
    is_begun: bool,
}

/// A body that comes back if it is dropped before its end.
struct Lent {
    unread: Option<Unread>,
    left: Left,
}

impl Lent {
    fn new(body: Body, left: &Left) -> Self {
        Self { unread: Some(Unread { body, is_begun: false }), left: Arc::clone(left) }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(unread) = &mut self.unread else { return Poll::Ready(None) };
        unread.is_begun = true;
        let frame = Pin::new(&mut unread.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.unread = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.unread.as_ref().is_none_or(|unread| unread.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.unread.as_ref().map_or(SizeHint::with_exact(0), |unread| unread.body.size_hint())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let unread = self.unread.take().filter(|unread| !unread.body.is_end_stream());
        *self.left.lock() = unread;
    }
}
