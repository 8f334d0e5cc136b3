//! Requests made by hand, frame by frame, over every kind of connection.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eidetica_dag::{PublicKey, SecretKey};
use eidetica_proto::message::{Hello, Reply, Request, RequestHeader, ResponseHeader};
use eidetica_proto::proof::{ProofFault, Proving, anonymous};
use eidetica_proto::testing::{MemoryNetwork, MemoryTransport};
use eidetica_proto::{Address, FrameStream, PROTOCOL_VERSION, SyncTransport, WireError};
use eidetica_sync::Node;
use futures::{StreamExt, stream};

use super::at;

/// How requests reach a server.
pub(crate) trait Way {
    type Transport: SyncTransport;

    /// A transport of a peer that holds this key, to ask or to serve with.
    async fn transport(&self, name: &str, key: &SecretKey) -> Self::Transport;
}

/// A network in memory whose connections prove keys, or do not.
pub(crate) struct InMemory {
    network: MemoryNetwork,
    proves: bool,
}

impl InMemory {
    pub(crate) fn new(proves: bool) -> Self {
        let network = MemoryNetwork::new();
        Self { network, proves }
    }
}

impl Way for InMemory {
    type Transport = MemoryTransport;

    async fn transport(&self, name: &str, key: &SecretKey) -> MemoryTransport {
        let transport = self.network.transport(name);
        match self.proves {
            true => transport.key(key.public()).build(),
            false => transport.build(),
        }
    }
}

/// HTTP on loopback.
#[cfg(feature = "http")]
pub(crate) struct Http;

#[cfg(feature = "http")]
impl Way for Http {
    type Transport = eidetica_sync::http::HttpTransport;

    async fn transport(&self, _: &str, _: &SecretKey) -> Self::Transport {
        let bind = "127.0.0.1:0".parse().expect("an address");
        Self::Transport::builder().bind(bind).build()
    }
}

/// iroh on loopback.
#[cfg(feature = "iroh")]
pub(crate) struct Iroh;

#[cfg(feature = "iroh")]
impl Way for Iroh {
    type Transport = eidetica_sync::iroh::IrohTransport;

    async fn transport(&self, _: &str, key: &SecretKey) -> Self::Transport {
        use eidetica_sync::iroh::Relays;
        let transport = Self::Transport::builder()
            .secret_key(key.clone())
            .relays(Relays::Disabled)
            .address_lookup(false)
            .bind_addr("127.0.0.1:0".parse().expect("an address"))
            .bind();
        transport.await.expect("loopback")
    }
}

/// Who asks.
pub(crate) enum As<'a> {
    /// A caller that holds this key and proves it.
    Key(&'a SecretKey),
    /// A caller that proves no key.
    Anonymous,
    /// A caller that holds a key and says that it holds another one.
    Liar(&'a SecretKey, PublicKey),
}

/// No two requests have the same nonce.
static NONCES: AtomicU64 = AtomicU64::new(0);

/// Returns where a node serves.
pub(crate) async fn address_of(node: &Node) -> Address {
    let addresses = node.get_all_server_addresses_async().await;
    addresses
        .into_iter()
        .next()
        .map_or(at("server"), |(_, address)| address)
}

/// Sends a request, a header and parts, as a caller. Returns the frames of the answer without its
/// proof, which is checked.
pub(crate) async fn ask(
    way: &impl Way,
    server: &Node,
    who: As<'_>,
    frames: &[Bytes],
) -> Vec<Bytes> {
    let Asked { transport, frames } = begin(way, server, who, frames).await;
    let frames: Vec<_> = frames.collect().await;
    transport.close().await.expect("nothing is left running");
    let frames = frames.into_iter().map(|frame| frame.expect("whole"));
    frames.collect()
}

/// An answer that may last, and the transport that it comes over.
pub(crate) struct Asked<T> {
    pub(crate) transport: T,
    /// Without the proof.
    pub(crate) frames: FrameStream,
}

impl<T: SyncTransport> Asked<T> {
    /// Returns the next frame.
    pub(crate) async fn next(&mut self) -> Bytes {
        let frame = self.frames.next().await.expect("the answer lasts");
        frame.expect("whole")
    }
}

/// Sends a request like [`ask`], and returns the answer as it begins.
pub(crate) async fn begin<W: Way>(
    way: &W,
    server: &Node,
    who: As<'_>,
    frames: &[Bytes],
) -> Asked<W::Transport> {
    let unproven = SecretKey::from_bytes(&[99; 32]);
    let key = match who {
        As::Key(key) | As::Liar(key, _) => key,
        As::Anonymous => &unproven,
    };
    let transport = way.transport("client", key).await;
    let frames = exchange(&transport, server, key, who, frames).await;
    Asked { transport, frames }
}

/// Sends a request over a transport.
pub(crate) async fn exchange(
    transport: &impl SyncTransport,
    server: &Node,
    key: &SecretKey,
    who: As<'_>,
    frames: &[Bytes],
) -> FrameStream {
    let address = address_of(server).await;
    let (header, parts) = frames.split_first().expect("a header");
    let send = async |request: Vec<Bytes>| {
        let request: FrameStream = Box::pin(stream::iter(request).map(Ok));
        let response = transport.exchange(&address, request).await;
        response.expect("it answers").frames
    };
    if transport.proves_keys() {
        return send(frames.to_vec()).await;
    }
    // As a stranger does it: greet, then sign.
    let now_ms = 1_000;
    let hello = RequestHeader::new(Request::Hello(Hello {
        key: key.public(),
        versions: (PROTOCOL_VERSION, PROTOCOL_VERSION),
        addresses: vec![],
    }));
    let greeting = Proving::challenge([1; 16], Some(server.key()), hello.encode());
    let mut answer = send(greeting.frames().into()).await;
    let [proof, hello] = first_two(&mut answer).await;
    let met = greeting.check(&proof, &hello, now_ms);
    let met = met.expect("it proves who it is");
    let number = NONCES.fetch_add(1, Ordering::Relaxed);
    let nonce = [number.to_le_bytes(), [3; 8]].concat();
    let nonce = nonce.try_into().expect("16 bytes");
    let signed = Proving::sign(key, &met, now_ms, nonce, header.clone());
    let [mut proof, header] = signed.frames();
    match who {
        As::Key(_) => {}
        As::Anonymous => proof = anonymous(),
        As::Liar(_, claimed) => {
            let mut lie = proof.to_vec();
            lie[2..34].copy_from_slice(claimed.as_bytes());
            proof = lie.into();
        }
    }
    let mut answer = send([vec![proof, header], parts.to_vec()].concat()).await;
    if let As::Anonymous = who {
        return answer;
    }
    let [proof, first] = first_two(&mut answer).await;
    let checked = signed.check(&proof, &first, now_ms);
    match who {
        // The answer to the liar is none to the one whose request it altered.
        As::Liar(..) => assert_eq!(checked, Err(ProofFault::BadSignature)),
        _ => assert_eq!(checked.expect("it proves who it is").key, server.key()),
    }
    Box::pin(stream::iter([Ok(first)]).chain(answer))
}

async fn first_two(frames: &mut FrameStream) -> [Bytes; 2] {
    let mut next = async || frames.next().await.expect("two frames").expect("whole");
    [next().await, next().await]
}

/// Reads the first frame of an answer.
pub(crate) fn reply(answer: &[Bytes]) -> Result<Reply, WireError> {
    let header = ResponseHeader::decode(answer.first().expect("a header"));
    header.expect("a reply").reply
}
