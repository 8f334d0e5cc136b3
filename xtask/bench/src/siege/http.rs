//! Attackers that speak HTTP/2 by hand.

use bytes::{BufMut, Bytes, BytesMut};
use eidetica_sync::proto::message::{Request, RequestHeader};
use eidetica_sync::proto::proof;
use futures::future::join_all;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use hyper::http;
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep};
use xtask_support::failed;

use super::{RESTING, STREAMS_PER_CONNECTION, Target};
use crate::hostile::put_frame;

/// What ends a body of frames.
const END_MARK: u32 = u32::MAX;

/// How many requests are reset before the connection is let breathe.
const RESETS_AT_ONCE: usize = 64;

/// A connection, while it is driven. It ends with this value.
struct Connected {
    asking: SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<()>,
    authority: String,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connected {
    async fn new(to: &str, window: u32) -> Result<Self, String> {
        let stream = TcpStream::connect(to).await.map_err(failed)?;
        let mut builder = Builder::new();
        builder.initial_window_size(window);
        let (asking, connection) = builder.handshake(stream).await.map_err(failed)?;
        let driver = tokio::spawn(async move {
            let _ended_or_broke = connection.await;
        });
        Ok(Self {
            asking,
            driver,
            authority: to.to_owned(),
        })
    }

    /// Sends a request whole, and returns the answer's body when it begins.
    async fn exchange(&mut self, body: Bytes) -> Result<RecvStream, String> {
        let (response, mut send) = self.begin().await?;
        send.send_data(body, true).map_err(failed)?;
        Ok(response.await.map_err(failed)?.into_body())
    }

    /// Begins a request.
    async fn begin(&mut self) -> Result<(ResponseFuture, SendStream<Bytes>), String> {
        let path = format!("http://{}/eidetica/v2/exchange", self.authority);
        let request = http::Request::post(path)
            .header("content-type", "application/vnd.eidetica.frames")
            .body(())
            .map_err(failed)?;
        self.asking = self.asking.clone().ready().await.map_err(failed)?;
        self.asking.send_request(request, false).map_err(failed)
    }
}

/// Returns the body of a request whose caller proves no key.
fn body(request: Request, more: &[Bytes], ends: bool) -> Bytes {
    let mut bytes = BytesMut::new();
    put_frame(&mut bytes, &proof::anonymous());
    put_frame(&mut bytes, &RequestHeader::new(request).encode());
    for frame in more {
        put_frame(&mut bytes, frame);
    }
    if ends {
        bytes.put_u32_le(END_MARK);
    }
    bytes.freeze()
}

/// Asks for a large tree on many streams and reads nothing, again and again.
pub(super) async fn unread(target: Target, streams: usize, windows: Vec<u32>) {
    let connections = (0..streams / STREAMS_PER_CONNECTION).map(|number| {
        let (target, window) = (target.clone(), windows[number % windows.len()]);
        tokio::spawn(async move {
            loop {
                let _closed = unread_on_one(&target, window).await;
                sleep(RESTING).await;
            }
        })
    });
    join_all(connections.collect::<Vec<_>>()).await;
}

async fn unread_on_one(target: &Target, window: u32) -> Result<(), String> {
    let mut connected = Connected::new(target.address.value(), window).await?;
    let body = body(target.whole_tree(), &[], true);
    let mut held = Vec::new();
    for _ in 0..STREAMS_PER_CONNECTION {
        held.push(connected.exchange(body.clone()).await?);
    }
    let _ended = (&mut connected.driver).await;
    Ok(())
}

/// Asks for the list of trees and takes it back, as fast as the connections allow.
pub(super) async fn resets(target: Target) {
    let connections = (0..4).map(|_| {
        let target = target.clone();
        tokio::spawn(async move {
            loop {
                let _closed = resets_on_one(&target).await;
                sleep(Duration::from_millis(1)).await;
            }
        })
    });
    join_all(connections.collect::<Vec<_>>()).await;
}

async fn resets_on_one(target: &Target) -> Result<(), String> {
    let mut connected = Connected::new(target.address.value(), 65_535).await?;
    loop {
        for _ in 0..RESETS_AT_ONCE {
            let path = format!("http://{}/eidetica/v2/trees", connected.authority);
            let request = http::Request::get(path).body(()).map_err(failed)?;
            let asking = connected.asking.clone().ready().await.map_err(failed)?;
            connected.asking = asking;
            let asked = connected.asking.send_request(request, true);
            let (response, mut send) = asked.map_err(failed)?;
            send.send_reset(Reason::CANCEL);
            drop(response);
        }
        tokio::task::yield_now().await;
        if connected.driver.is_finished() {
            return Ok(());
        }
    }
}

/// Pushes one known entry again and again, slowly, on many streams.
pub(super) async fn pushes(target: Target) {
    let streams = (0..super::PUSHES).map(|_| {
        let target = target.clone();
        tokio::spawn(async move {
            loop {
                let _closed = push(&target).await;
                sleep(RESTING).await;
            }
        })
    });
    join_all(streams.collect::<Vec<_>>()).await;
}

async fn push(target: &Target) -> Result<(), String> {
    let mut connected = Connected::new(target.address.value(), 65_535).await?;
    let request = target.endless_push();
    let (response, mut send) = connected.begin().await?;
    let first = body(request, std::slice::from_ref(&target.known), false);
    send.send_data(first, false).map_err(failed)?;
    let mut again = BytesMut::new();
    put_frame(&mut again, &target.known);
    let again = again.freeze();
    let trickle = async {
        loop {
            sleep(RESTING).await;
            if send.send_data(again.clone(), false).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = response => {}
        () = trickle => {}
    }
    Ok(())
}
