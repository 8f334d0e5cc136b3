//! What the cases share: servers, frames that tell their number, and signals between the two
//! sides.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::stream::{self, StreamExt};

use super::Fixture;
use crate::address::Address;
use crate::testing::frames_of;
use crate::testing::pipe::lock;
use crate::transport::{
    FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

/// Starts a server and returns its best address.
pub(super) async fn serve<T: SyncTransport>(transport: &T, service: Arc<dyn Service>) -> Address {
    transport.start_server(service).await.expect("starts");
    let addresses = transport.server_addresses().await;
    addresses.first().expect("a server that runs").clone()
}

/// Makes two transports, and starts the server of the second.
pub(super) async fn pair<F: Fixture>(
    fixture: &F,
    service: Arc<dyn Service>,
) -> (F::Transport, F::Transport, Address) {
    let (client, server) = (fixture.transport().await, fixture.transport().await);
    let address = serve(&server, service).await;
    (client, server, address)
}

/// Sends one frame and returns the whole answer.
pub(super) async fn ask<T: SyncTransport>(
    client: &T,
    address: &Address,
    question: &'static str,
) -> Result<Vec<Bytes>, TransportError> {
    let response = client.exchange(address, frames_of([question])).await?;
    super::super::collect_frames(response.frames).await
}

/// Closes both, which must go well after every case.
pub(super) async fn close<T: SyncTransport>(transports: impl IntoIterator<Item = T>) {
    for transport in transports {
        transport.close().await.expect("closes");
    }
}

/// Returns the kind of the error that an exchange failed with.
pub(super) fn kind_of(result: Result<Response, TransportError>) -> TransportErrorKind {
    match result {
        Ok(_) => panic!("the exchange should have failed"),
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error says what happened");
            error.kind()
        }
    }
}

/// Reads frames until the stream fails, and returns how many there were. An end is a failure of
/// the case.
pub(super) async fn read_to_error(mut frames: FrameStream) -> (usize, TransportError) {
    let mut count = 0;
    loop {
        match frames.next().await {
            Some(Ok(_)) => count += 1,
            Some(Err(error)) => return (count, error),
            None => panic!("a stream that was cut after {count} frames looks complete"),
        }
    }
}

/// Makes the frame with this number, `bytes` long.
pub(super) fn numbered(number: u32, bytes: usize) -> Bytes {
    let mut frame = vec![number as u8; bytes];
    frame[..4].copy_from_slice(&number.to_le_bytes());
    frame.into()
}

/// An endless stream of numbered frames that counts what was taken from it.
pub(super) fn endless(bytes: usize) -> (FrameStream, Count) {
    let count = Count::default();
    let counting = count.clone();
    let frames = stream::repeat_with(move || Ok(numbered(counting.next(), bytes)));
    (frames.boxed(), count)
}

#[derive(Clone, Default)]
pub(super) struct Count(Arc<std::sync::atomic::AtomicU32>);

impl Count {
    pub(super) fn next(&self) -> u32 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    }

    pub(super) fn get(&self) -> u32 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Something that happens once on one side, and that the other side waits for.
pub(super) fn signal() -> (Signal, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    (Signal(Arc::new(Mutex::new(Some(sender)))), receiver)
}

#[derive(Clone)]
pub(super) struct Signal(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Signal {
    pub(super) fn fire(&self) {
        if let Some(sender) = lock(&self.0).take() {
            // The waiting side may have seen enough.
            let _ = sender.send(());
        }
    }

    /// Fires when the stream is dropped.
    pub(super) fn on_drop(self, frames: FrameStream) -> FrameStream {
        struct Fire(Signal);
        impl Drop for Fire {
            fn drop(&mut self) {
                self.0.fire();
            }
        }
        let guard = Fire(self);
        frames
            .inspect(move |_| {
                let _held = &guard;
            })
            .boxed()
    }
}

/// A value that is made before the service and taken by its first exchange.
pub(super) struct Once<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Once<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(Some(value))))
    }

    pub(super) fn take(&self) -> T {
        lock(&self.0).take().expect("only one exchange takes it")
    }
}

/// How a request ended at the service: `Ok` with the frames, or how many there were before the
/// error.
pub(super) type Seen = Result<usize, usize>;

/// Makes a channel by which services tell what they saw.
#[expect(
    clippy::disallowed_methods,
    reason = "one report for each exchange that a test begins"
)]
pub(super) fn reports() -> (mpsc::UnboundedSender<Seen>, mpsc::UnboundedReceiver<Seen>) {
    mpsc::unbounded()
}

/// A stream that says nothing and never ends.
pub(super) fn silence() -> FrameStream {
    stream::pending().boxed()
}
