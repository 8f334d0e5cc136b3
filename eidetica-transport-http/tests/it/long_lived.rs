//! Long-lived answers: an hour of heartbeats on a virtual clock, and proxies in between.

use std::time::Duration;

use eidetica_proto::testing::conformance::long_lived::heartbeats_keep_an_answer_alive;
use eidetica_proto::testing::{frames_of, service_fn};
use eidetica_proto::{Address, SyncTransport};
use eidetica_transport_http::{HttpTransport, HttpVersion};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::conformance::HttpFixture;
use crate::stage::{EXCHANGE_HEAD, loopback, serve};

/// The heartbeats of an hour.
const HOUR: u32 = 240;

/// Moves the clock, and lets everything that is due happen.
async fn advance(duration: Duration) {
    tokio::time::advance(duration).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Runs a case whose clock moves only when the case moves it.
fn frozen(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    // While work blocks, the runtime does not move the clock by itself.
    let (done, block) = std::sync::mpsc::sync_channel::<()>(1);
    let blocked = runtime.spawn_blocking(move || block.recv());
    runtime.block_on(case);
    drop(done);
    let _ = runtime.block_on(blocked).expect("no panic");
}

#[test]
fn heartbeats_keep_an_answer_alive_over_http1() {
    frozen(heartbeats_keep_an_answer_alive(
        &HttpFixture::plain(HttpVersion::Http1),
        HOUR,
        advance,
    ));
}

#[test]
fn heartbeats_keep_an_answer_alive_over_http2() {
    frozen(heartbeats_keep_an_answer_alive(
        &HttpFixture::plain(HttpVersion::Http2),
        HOUR,
        advance,
    ));
}

#[cfg(feature = "tls")]
#[test]
fn heartbeats_keep_an_answer_alive_over_tls() {
    frozen(heartbeats_keep_an_answer_alive(
        &HttpFixture::tls(HttpVersion::Http1),
        HOUR,
        advance,
    ));
}

#[tokio::test]
async fn proxies_are_asked_not_to_hold_answers_back() {
    let (server, address) = serve(loopback(), service_fn(|_, _| async { frames_of(["x"]) })).await;
    let mut stream = TcpStream::connect(address.value()).await.expect("connects");
    let request = format!("{EXCHANGE_HEAD}4\r\n\u{7f}\u{7f}\u{7f}\u{7f}\r\n0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    while !answer.ends_with(b"0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.expect("arrives"), 0);
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("\r\nx-accel-buffering: no\r\n"), "{answer}");
    let no_store = "\r\ncache-control: no-store, no-transform\r\n";
    assert!(answer.contains(no_store), "{answer}");
    server.close().await.expect("closes");
}

/// Forwards one connection. Of the answer it holds back everything after the last whole chunk, and
/// then passes it on byte by byte.
async fn buffering_proxy(listener: TcpListener, to: String) {
    let (caller, _) = listener.accept().await.expect("accepts");
    let server = TcpStream::connect(to).await.expect("connects");
    caller.set_nodelay(true).expect("is open");
    let (mut caller_reads, mut caller_writes) = caller.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    let requests = tokio::io::copy(&mut caller_reads, &mut server_writes);
    let answers = async {
        let mut held = Vec::new();
        while server_reads.read_buf(&mut held).await.is_ok_and(|n| n > 0) {
            let whole = match held.windows(2).rposition(|bytes| bytes == b"\r\n") {
                Some(at) => at + 2,
                None => continue,
            };
            for byte in held.drain(..whole) {
                caller_writes.write_all(&[byte]).await.expect("is taken");
            }
        }
    };
    // Either side ends it.
    tokio::select! {
        _ = requests => {}
        () = answers => {}
    }
}

#[tokio::test]
async fn frames_pass_a_proxy_that_buffers_and_a_caller_that_leaves_is_noticed_through_it() {
    let (news, frames) = mpsc::channel::<&'static str>(1);
    let frames = std::sync::Mutex::new(Some(frames));
    let service = service_fn(move |_, _| {
        let frames = frames.lock().expect("no panic").take().expect("one asks");
        let frames = futures::stream::unfold(frames, |mut frames| async {
            let frame = frames.recv().await?;
            Some((Ok(frame.into()), frames))
        });
        async { frames.boxed() }
    });
    let (server, address) = serve(loopback(), service).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = listener.local_addr().expect("is bound").to_string();
    let proxying = tokio::spawn(buffering_proxy(listener, address.value().to_owned()));
    let client = HttpTransport::builder().build();
    let proxy = Address::new("http", &proxy).expect("an address");
    let (response, sent) = tokio::join!(
        client.exchange(&proxy, frames_of(["watch"])),
        news.send("first")
    );
    sent.expect("the service is there");
    let mut response = response.expect("begins");
    let first = response.frames.next().await.expect("a frame");
    assert_eq!(first.expect("arrives"), "first");
    for frame in ["second", "third"] {
        news.send(frame).await.expect("the service is there");
        let arrived = response.frames.next().await.expect("a frame");
        assert_eq!(arrived.expect("arrives"), frame);
    }
    drop(response);
    news.closed().await;
    proxying.await.expect("no panic");
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}
