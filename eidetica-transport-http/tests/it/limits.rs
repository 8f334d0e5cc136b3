//! Each limit is reached, and callers that keep within it are served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eidetica_proto::testing::{collect_frames, echo, frames_of, service_fn};
use eidetica_proto::{Address, Caller, Service, SyncTransport, TransportErrorKind};
use eidetica_transport_http::{HttpTransport, HttpVersion};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::stage::{EXCHANGE_HEAD, ask, loopback, serve};

const EXCHANGES_PER_CONNECTION: usize = 16;

/// A deadline that tests wait for. Those that they do not wait for are the usual ones.
const HASTY: Duration = Duration::from_millis(300);

/// A connection that speaks HTTP by hand.
struct Hand(TcpStream);

impl Hand {
    async fn connect(to: &Address) -> Self {
        Self(TcpStream::connect(to.value()).await.expect("connects"))
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("is taken");
    }

    /// Sends this much of a frame of `frame_bytes`, in one chunk.
    async fn say_part(&mut self, frame_bytes: u32, bytes: usize) {
        let chunk = format!("{:x}\r\n", 4 + bytes);
        self.say(chunk.as_bytes()).await;
        self.say(&frame_bytes.to_le_bytes()).await;
        self.say(&vec![7; bytes]).await;
        self.say(b"\r\n").await;
    }

    /// Asks for what is not there, and reads the answer, which leaves the connection open.
    async fn is_answered(&mut self) -> bool {
        let asked = b"GET /eidetica/v2/x HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let mut answer = Vec::new();
        let mut asked = self.0.write_all(asked).await;
        // The body is a JSON object on a line.
        while asked.is_ok() && !answer.ends_with(b"}\n") {
            match self.0.read_buf(&mut answer).await {
                Ok(1..) => {}
                Ok(0) => asked = Err(std::io::ErrorKind::UnexpectedEof.into()),
                Err(error) => asked = Err(error),
            }
        }
        asked.is_ok()
    }

    /// Waits until the server closes the connection, and returns what it said before.
    async fn ended(mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        // It may be reset: then not all that was said has been read.
        let _ = self.0.read_to_end(&mut answer).await;
        answer
    }
}

#[tokio::test]
async fn the_oldest_newcomer_makes_room() {
    let (server, address) = serve(loopback().newcomers_max(2), echo()).await;
    let mut old = Hand::connect(&address).await;
    assert!(old.is_answered().await);
    let mut stalled = Vec::new();
    for said in ["", "POST /eid", EXCHANGE_HEAD] {
        let mut hand = Hand::connect(&address).await;
        hand.say(said.as_bytes()).await;
        stalled.push(hand);
    }
    // A caller that asks is served; the first of those that stall is not. The last of them keeps
    // its place: no other connection needs it.
    for _ in 0..3 {
        ask(&address).await;
    }
    for hand in stalled.drain(..2) {
        assert_eq!(hand.ended().await, b"");
    }
    assert!(old.is_answered().await, "it had an answer before");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn beyond_the_limit_answered_connections_count_as_newcomers() {
    let builder = loopback().connections_max(1).newcomers_max(1);
    let (server, address) = serve(builder, echo()).await;
    let mut first = Hand::connect(&address).await;
    assert!(first.is_answered().await);
    let mut second = Hand::connect(&address).await;
    assert!(second.is_answered().await);
    ask(&address).await;
    second.ended().await;
    assert!(first.is_answered().await, "it has the only place");
    // Which is free when it leaves.
    drop(first);
    ask(&address).await;
    server.close().await.expect("closes");
}

/// Returns a service that tells the kind of each error in a request, as often as one comes.
fn reporting() -> (Arc<dyn Service>, mpsc::Receiver<TransportErrorKind>) {
    let (report, seen) = mpsc::channel(8);
    let service = service_fn(move |_, mut request| {
        let report = report.clone();
        async move {
            while let Some(frame) = request.next().await {
                if let Err(error) = frame {
                    report.send(error.kind()).await.expect("the test waits");
                    break;
                }
            }
            frames_of(["answer"])
        }
    });
    (service, seen)
}

#[tokio::test]
async fn a_caller_that_stalls_is_cut_long_before_it_is_idle() {
    let (service, mut seen) = reporting();
    let (server, address) = serve(loopback().stall_timeout(HASTY), service).await;
    let whole = "5\r\n\u{1}\0\0\0a\r\n";
    for said in [
        EXCHANGE_HEAD.to_owned(),
        format!("{EXCHANGE_HEAD}2\r\n\u{5}\0\r\n"),
        format!("{EXCHANGE_HEAD}6\r\n\u{5}\0\0\0ab\r\n"),
        format!("{EXCHANGE_HEAD}{whole}6\r\n\u{5}\0\0\0ab\r\n"),
    ] {
        let mut hand = Hand::connect(&address).await;
        hand.say(said.as_bytes()).await;
        let kind = seen.recv().await;
        assert_eq!(kind, Some(TransportErrorKind::TimedOut), "{said}");
        hand.ended().await;
    }
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_caller_may_pause_between_frames() {
    let (begun, mut first) = mpsc::channel(1);
    let service = service_fn(move |_, request: eidetica_proto::FrameStream| {
        let begun = begun.clone();
        async move {
            request
                .inspect(move |_| {
                    // The second is not looked at.
                    let _ = begun.try_send(());
                })
                .boxed()
        }
    });
    let (server, address) = serve(loopback().stall_timeout(HASTY), service).await;
    let client = HttpTransport::builder().build();
    let thinking = async move {
        first.recv().await;
        tokio::time::sleep(2 * HASTY).await;
        Ok("second".into())
    };
    let request = frames_of(["first"]).chain(futures::stream::once(thinking));
    let response = client.exchange(&address, request.boxed()).await;
    let frames = collect_frames(response.expect("begins").frames).await;
    assert_eq!(frames.expect("whole"), ["first", "second"]);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn the_oldest_unfinished_frame_makes_room() {
    // In memory it takes up to twice that: one has room in any case, and three never.
    const PART_BYTES: usize = 40 << 10;
    let builder = loopback().unfinished_bytes_max(2 * PART_BYTES);
    let (server, address) = serve(builder, echo()).await;
    let mut hands = Vec::new();
    for _ in 0..3 {
        let mut hand = Hand::connect(&address).await;
        hand.say(EXCHANGE_HEAD.as_bytes()).await;
        hand.say_part(100 << 10, PART_BYTES).await;
        hands.push(hand);
    }
    hands.remove(0).ended().await;
    // A short frame takes nothing of it, a long one takes it from the others.
    ask(&address).await;
    let client = HttpTransport::builder().build();
    for _ in 0..10 {
        let frame = vec![9; PART_BYTES];
        let request = frames_of([frame.clone()]);
        let response = client.exchange(&address, request).await.expect("has room");
        let frames = collect_frames(response.frames).await.expect("whole");
        assert_eq!(frames, [frame]);
    }
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

/// A reader that takes nothing costs memory for a while, not for as long as it likes.
#[tokio::test]
async fn the_answer_that_is_not_taken_for_longest_makes_room() {
    // Neither the system nor the connection holds all of it.
    const FRAMES: usize = 40;
    const FRAME_BYTES: usize = 256 << 10;
    let frames = || vec![vec![9; FRAME_BYTES]; FRAMES];
    let service = service_fn(move |_, _| async move { frames_of(frames()) });
    let (server, address) = serve(loopback().untaken_bytes_max(2 * FRAME_BYTES), service).await;
    let mut hands = Vec::new();
    for _ in 0..3 {
        let mut hand = Hand::connect(&address).await;
        hand.say(EXCHANGE_HEAD.as_bytes()).await;
        hand.say_part(0, 0).await;
        hands.push(hand);
    }
    // One of them is cut, so that the answer never ends with its mark; readers are not.
    let client = HttpTransport::builder().build();
    for _ in 0..3 {
        let response = client.exchange(&address, frames_of(["ask"])).await;
        let taken = collect_frames(response.expect("begins").frames).await;
        assert_eq!(taken.expect("whole").len(), FRAMES);
    }
    let answer = hands.remove(0).ended().await;
    assert!(answer.len() < FRAMES * FRAME_BYTES, "it was cut");
    drop(hands);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn an_announced_frame_that_is_too_large_is_refused_on_its_prefix() {
    let (service, mut seen) = reporting();
    let (server, address) = serve(loopback(), service).await;
    let mut hand = Hand::connect(&address).await;
    hand.say(EXCHANGE_HEAD.as_bytes()).await;
    hand.say_part(u32::MAX - 1, 0).await;
    assert_eq!(seen.recv().await, Some(TransportErrorKind::FrameTooLarge));
    let answer = String::from_utf8_lossy(&hand.ended().await).into_owned();
    assert!(answer.contains("\u{6}\0\0\0answer"), "{answer:?}");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_connection_carries_sixteen_exchanges() {
    const CONNECTIONS: usize = 4;
    let (open, gate) = watch::channel(false);
    let (begun, mut begins) = mpsc::channel(64);
    let counts = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let service = {
        let counts = Arc::clone(&counts);
        service_fn(move |caller: Caller, _| {
            let (mut gate, begun) = (gate.clone(), begun.clone());
            *counts
                .lock()
                .expect("no panic")
                .entry(caller.remote)
                .or_default() += 1;
            async move {
                begun.send(()).await.expect("the test waits");
                gate.wait_for(|open| *open).await.expect("opened");
                frames_of(["answer"])
            }
        })
    };
    let (server, address) = serve(loopback(), service).await;
    let client = HttpTransport::builder().version(HttpVersion::Http2).build();
    let exchanges = (0..CONNECTIONS * EXCHANGES_PER_CONNECTION + 1).map(|_| {
        let (client, address) = (&client, &address);
        async move {
            let response = client.exchange(address, frames_of(["ask"])).await;
            collect_frames(response.expect("begins").frames).await
        }
    });
    let opening = async {
        for _ in 0..CONNECTIONS * EXCHANGES_PER_CONNECTION {
            begins.recv().await.expect("begins");
        }
        let each = vec![EXCHANGES_PER_CONNECTION; CONNECTIONS];
        let counts: Vec<usize> = counts.lock().expect("no panic").values().copied().collect();
        assert_eq!(counts, each, "the last one waits");
        open.send_replace(true);
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(exchanges), opening);
    for answer in answers {
        assert_eq!(answer.expect("whole"), ["answer"]);
    }
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}
