//! A body in which texts are replaced while it passes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::mask_headers;
use super::replace::{Held, Replacements};

/// A body whose texts are replaced.
pub(super) struct Replaced<B> {
    inner: B,
    replacements: Arc<Replacements>,
    held: Held,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl<B> Replaced<B> {
    /// `held` may have counted some already.
    pub(super) fn new(inner: B, replacements: Arc<Replacements>, held: Held) -> Self {
        Self { inner, replacements, held, trailers: None, ended: false }
    }

    /// What was held back, then the trailers, then nothing.
    fn rest<E>(&mut self) -> Option<Result<Frame<Bytes>, E>> {
        let rest = self.replacements.finish(&mut self.held);
        if !rest.is_empty() {
            return Some(Ok(Frame::data(rest)));
        }
        self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Replaced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        while !self.ended {
            let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    break;
                }
            };
            match frame.into_data() {
                Ok(piece) => {
                    let this = &mut *self;
                    let passed = this.replacements.push(&mut this.held, &piece);
                    if !passed.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(passed))));
                    }
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    mask_headers(&self.replacements, &mut trailers);
                    self.trailers = Some(trailers);
                    self.ended = true;
                }
            }
        }
        Poll::Ready(self.rest())
    }
}
