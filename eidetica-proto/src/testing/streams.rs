//! Short ways to make and to read streams of frames.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::transport::{Caller, FrameStream, Service, TransportError};

/// Makes a stream of these frames, with a clean end.
pub fn frames_of<I>(frames: I) -> FrameStream
where
    I: IntoIterator,
    I::Item: Into<Bytes>,
    I::IntoIter: Send + 'static,
{
    stream::iter(frames.into_iter().map(|frame| Ok(frame.into()))).boxed()
}

/// Reads a stream to its end.
///
/// # Errors
/// The error that the stream ends with, if it does.
pub async fn collect_frames(frames: FrameStream) -> Result<Vec<Bytes>, TransportError> {
    frames.try_collect().await
}

/// Makes a service from a function.
pub fn service_fn<H, F>(handler: H) -> Arc<dyn Service>
where
    H: Fn(Caller, FrameStream) -> F + Send + Sync + 'static,
    F: Future<Output = FrameStream> + Send + 'static,
{
    Arc::new(ServiceFn(handler))
}

/// Makes a service that reads the whole request, then sends it back.
pub fn echo() -> Arc<dyn Service> {
    service_fn(|_, request| async {
        match collect_frames(request).await {
            Ok(frames) => frames_of(frames),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    })
}

struct ServiceFn<H>(H);

#[async_trait]
impl<H, F> Service for ServiceFn<H>
where
    H: Fn(Caller, FrameStream) -> F + Send + Sync + 'static,
    F: Future<Output = FrameStream> + Send + 'static,
{
    async fn exchange(&self, caller: Caller, request: FrameStream) -> FrameStream {
        (self.0)(caller, request).await
    }
}
