//! The network in memory keeps the rules, and its faults are what they say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use eidetica_dag::PublicKey;
use futures::StreamExt;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::pending;

use super::conformance::Fixture;
use super::{
    ExchangeInfo, Fault, MemoryNetwork, MemoryTransport, Wait, collect_frames, echo, frames_of,
    service_fn,
};
use crate::address::Address;
use crate::transport::{SyncTransport, TransportError, TransportErrorKind};

/// Waits without an executor's clock: a thread sleeps instead.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no runtime here whose clock could wait"
)]
async fn pause(duration: Duration) {
    let (wake, woken) = oneshot::channel::<()>();
    thread::spawn(move || {
        thread::sleep(duration);
        drop(wake);
    });
    woken.await.expect_err("nothing is sent");
}

#[derive(Default)]
struct MemoryFixture {
    network: MemoryNetwork,
    made: AtomicU64,
    keys: bool,
}

impl MemoryFixture {
    fn make(&self, name: &str, deadline: Duration) -> MemoryTransport {
        let number = self.made.fetch_add(1, Ordering::Relaxed) as u8;
        let builder = self.network.transport(name).timer(move |_| pause(deadline));
        match self.keys {
            true => builder.key(PublicKey::from_bytes([number; 32])).build(),
            false => builder.build(),
        }
    }

    fn fresh_name(&self) -> String {
        format!("node-{}", self.made.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Fixture for MemoryFixture {
    type Transport = MemoryTransport;

    async fn transport(&self) -> MemoryTransport {
        self.make(&self.fresh_name(), Duration::from_secs(30))
    }

    async fn hasty_transport(&self) -> MemoryTransport {
        self.make(&self.fresh_name(), Duration::from_millis(50))
    }

    async fn transport_at(&self, taken: &Address) -> Result<MemoryTransport, TransportError> {
        Ok(self.make(taken.value(), Duration::from_secs(30)))
    }

    async fn deserted_address(&self) -> Address {
        "memory:deserted".parse().expect("an address")
    }

    fn malformed_addresses(&self) -> Vec<Address> {
        let texts = ["memory:?", "memory:a/b"];
        texts.map(|text| text.parse().expect("an address")).into()
    }

    fn proves_keys(&self) -> bool {
        self.keys
    }

    async fn pause(&self, duration: Duration) {
        pause(duration).await;
    }
}

mod without_keys {
    use super::{MemoryFixture, block_on};
    crate::transport_conformance!(fixture: MemoryFixture::default(), run: block_on);
}

mod with_keys {
    use super::{MemoryFixture, block_on};
    crate::transport_conformance!(
        fixture: MemoryFixture { keys: true, ..MemoryFixture::default() },
        run: block_on,
    );
}

/// What the caller gets from an echo of three frames, when this fault is injected: how many
/// frames, and how they end.
fn with_fault(fault: Fault) -> (usize, Option<TransportErrorKind>) {
    let network = MemoryNetwork::new();
    let impatient = |wait| async move {
        match wait {
            Wait::Answer => {}
            Wait::Grace => pending().await,
        }
    };
    let a = network.transport("a").timer(impatient).build();
    let b = network.transport("b").build();
    let to: Address = "memory:b".parse().expect("an address");
    block_on(async {
        b.start_server(echo()).await.expect("starts");
        let expected = ExchangeInfo {
            number: 0,
            from: "a".into(),
            to: to.clone(),
        };
        network.inject(move |info| {
            assert_eq!(*info, expected);
            Some(fault)
        });
        let request = frames_of(["one", "two", "three"]);
        let mut frames = match a.exchange(&to, request).await {
            Ok(response) => response.frames,
            Err(error) => return (0, Some(error.kind())),
        };
        let mut count = 0;
        let error = loop {
            match frames.next().await {
                Some(Ok(_)) => count += 1,
                Some(Err(error)) => break Some(error.kind()),
                None => break None,
            }
        };
        network.heal();
        let response = a.exchange(&to, frames_of(["x"])).await.expect("healed");
        let answer = collect_frames(response.frames).await;
        assert_eq!(answer.expect("ends well"), ["x"]);
        (count, error)
    })
}

#[test]
fn each_fault_is_what_it_says() {
    use TransportErrorKind::{Busy, ConnectionLost, Refused, TimedOut};
    let cut_request = |after_frames| with_fault(Fault::CutRequest { after_frames });
    let cut_response = |after_frames| with_fault(Fault::CutResponse { after_frames });
    let stall_response = |after_frames| with_fault(Fault::StallResponse { after_frames });
    assert_eq!(with_fault(Fault::Refuse), (0, Some(Refused)));
    assert_eq!(with_fault(Fault::Busy), (0, Some(Busy)));
    assert_eq!(with_fault(Fault::Stall), (0, Some(TimedOut)));
    for after_frames in 0..3 {
        let broken = (after_frames, Some(ConnectionLost));
        assert_eq!(cut_request(after_frames), (0, Some(ConnectionLost)));
        assert_eq!(cut_response(after_frames), broken);
        assert_eq!(stall_response(after_frames), (after_frames, Some(TimedOut)));
    }
    // Even the end of the stream is lost if the connection breaks before it.
    assert_eq!(cut_request(3), (0, Some(ConnectionLost)));
    assert_eq!(cut_response(3), (3, Some(ConnectionLost)));
    assert_eq!(cut_request(4), (3, None));
    assert_eq!(cut_response(4), (3, None));
}

#[test]
fn a_cut_request_gives_the_service_what_came_before() {
    let network = MemoryNetwork::new();
    let (a, b) = (
        network.transport("a").build(),
        network.transport("b").build(),
    );
    let to: Address = "memory:b".parse().expect("an address");
    let (report, reported) = std::sync::mpsc::sync_channel(16);
    let service = service_fn(move |_, mut request| {
        let report = report.clone();
        async move {
            while let Some(frame) = request.next().await {
                let seen = frame.map_err(|error| error.kind());
                report.send(seen).expect("the test listens");
            }
            frames_of(["read"])
        }
    });
    block_on(async {
        b.start_server(service).await.expect("starts");
        network.inject(|_| Some(Fault::CutRequest { after_frames: 1 }));
        let request = frames_of(["one", "two"]);
        let failed = a.exchange(&to, request).await.map(|_| ());
        let kind = failed.expect_err("cut").kind();
        assert_eq!(kind, TransportErrorKind::ConnectionLost);
    });
    drop(b);
    let seen: Vec<_> = reported.try_iter().collect();
    let lost = Err(TransportErrorKind::ConnectionLost);
    assert_eq!(seen, [Ok("one".into()), lost]);
    assert_eq!(network.exchanges(), 1);
}
