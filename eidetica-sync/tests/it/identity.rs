//! Request authentication: nodes over connections that prove no keys.

use std::sync::{Arc, Mutex};

use crate::common::{assert_equal, at, seed, texts, write};
use async_trait::async_trait;
use bytes::Bytes;
use eidetica_dag::{AccessChange, PublicKey, Role, SecretKey, Subject, TreeId};
use eidetica_proto::message::{Request, RequestHeader, ResponseHeader};
use eidetica_proto::testing::{MemoryNetwork, MemoryTransport};
use eidetica_proto::transport::Service;
use eidetica_proto::{
    Address, ErrorCode, FrameStream, Response, SyncOutcome, SyncTransport, TransportError,
    TransportErrorKind,
};
use eidetica_sync::store::{MemoryStore, Store};
use eidetica_sync::{Node, Peer, SyncError};
use futures::{StreamExt, stream};

/// A node whose connections prove nothing. Its key follows from its name, what is random in it from
/// `start`.
async fn node(
    network: &MemoryNetwork,
    name: &str,
    store: &Arc<dyn Store>,
    start: u8,
) -> (Node, Recorder) {
    let transport = Recorder::new(network.transport(name).build());
    let key = SecretKey::from_bytes(&seed(name));
    let node = Node::builder_with(store.clone(), key)
        .with_seed([start; 32])
        .without_following()
        .transport("net", transport.clone())
        .expect("the first of its name")
        .start();
    node.accept_connections()
        .await
        .expect("the address is free");
    (node, transport)
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn key_of(name: &str) -> eidetica_dag::PublicKey {
    SecretKey::from_bytes(&seed(name)).public()
}

/// A tree that a and b may write to, and no other key may read.
async fn private_tree(a: &Node) -> TreeId {
    let b = AccessChange::grant(Subject::Key(key_of("b")), Role::Write);
    let tree = a
        .create_tree("private", vec![b])
        .await
        .expect("well formed");
    write(a, tree, "one").await;
    tree
}

/// A transport that writes down the frames of the requests which it carries.
#[derive(Clone)]
struct Recorder {
    inner: Arc<MemoryTransport>,
    requests: Arc<Mutex<Vec<Vec<Bytes>>>>,
}

impl Recorder {
    fn new(inner: MemoryTransport) -> Self {
        Self {
            inner: Arc::new(inner),
            requests: Arc::default(),
        }
    }

    fn requests(&self) -> Vec<Vec<Bytes>> {
        self.requests.lock().expect("no test panics").clone()
    }

    /// The requests for entries and with entries. A node makes others by itself, at times of its
    /// own.
    fn about_entries(&self) -> Vec<Vec<Bytes>> {
        let is_about_entries = |request: &Vec<Bytes>| {
            let kind = kind_of(request);
            matches!(kind, Request::SyncTree(_) | Request::SendEntries(_))
        };
        self.requests()
            .into_iter()
            .filter(is_about_entries)
            .collect()
    }
}

/// Returns a recorded request. A proof may be before its header.
fn kind_of(frames: &[Bytes]) -> Request {
    let headers = frames
        .iter()
        .take(2)
        .map(|frame| RequestHeader::decode(frame));
    headers.flatten().next().expect("a header").request
}

#[async_trait]
impl SyncTransport for Recorder {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn proves_keys(&self) -> bool {
        self.inner.proves_keys()
    }

    fn key_in(&self, address: &Address) -> Option<PublicKey> {
        let names_keys = self.inner.proves_keys();
        names_keys.then(|| key_of(address.value()))
    }

    async fn start_server(&self, service: Arc<dyn Service>) -> Result<(), TransportError> {
        self.inner.start_server(service).await
    }

    async fn stop_server(&self) -> Result<(), TransportError> {
        self.inner.stop_server().await
    }

    fn is_server_running(&self) -> bool {
        self.inner.is_server_running()
    }

    async fn server_addresses(&self) -> Vec<Address> {
        self.inner.server_addresses().await
    }

    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError> {
        let requests = self.requests.clone();
        let number = {
            let mut requests = requests.lock().expect("no test panics");
            requests.push(Vec::new());
            requests.len() - 1
        };
        let request = request.inspect(move |frame| {
            if let Ok(frame) = frame {
                requests.lock().expect("no test panics")[number].push(frame.clone());
            }
        });
        self.inner.exchange(address, Box::pin(request)).await
    }

    async fn close(&self) -> Result<(), TransportError> {
        self.inner.close().await
    }
}

/// Sends frames as they are, and returns why they are refused.
async fn resend(network: &MemoryNetwork, to: &str, frames: &[Bytes]) -> ErrorCode {
    let transport = network.transport("replayer").build();
    let request = stream::iter(frames.to_vec()).map(Ok);
    let response = transport.exchange(&at(to), Box::pin(request)).await;
    let frames: Vec<_> = response.expect("it answers").frames.collect().await;
    let header = frames.last().expect("an answer").as_ref().expect("whole");
    let reply = ResponseHeader::decode(header).expect("a reply").reply;
    reply.expect_err("it is refused").code
}

#[tokio::test]
async fn a_private_tree_syncs_and_only_the_first_contact_costs_a_greeting() {
    let network = MemoryNetwork::new();
    let (store_a, store_b) = (memory(), memory());
    let (a, _) = node(&network, "a", &store_a, 1).await;
    let (b, by_b) = node(&network, "b", &store_b, 2).await;
    let tree = private_tree(&a).await;

    b.sync(tree, at("a")).await.expect("b may read");
    let requests = by_b.requests();
    assert!(matches!(kind_of(&requests[0]), Request::Hello(_)));
    assert!(matches!(kind_of(&requests[1]), Request::SyncTree(_)));
    assert_eq!(by_b.about_entries().len(), 1, "all there is");
    write(&a, tree, "two").await;
    write(&b, tree, "three").await;
    let report = b.sync(tree, at("a")).await.expect("b may write");
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!(by_b.about_entries().len() - 1, 2, "one to get, one to give");
    assert_equal(&a, &b, tree).await;

    // Whom b met is in its store.
    b.shutdown().await.expect("nothing is left running");
    let (b, by_b) = node(&network, "b", &store_b, 3).await;
    b.sync(tree, at("a")).await.expect("b may read");
    assert!(matches!(kind_of(&by_b.requests()[0]), Request::SyncTree(_)));
    assert_eq!(by_b.about_entries().len(), 1);

    let (stranger, _) = node(&network, "c", &memory(), 4).await;
    let error = stranger.sync(tree, at("a")).await.expect_err("a stranger");
    assert!(matches!(*error, SyncError::Peer { .. }), "{error}");
}

/// Where an address names the peer's key, as iroh's do, there is nothing to ask before an exchange,
/// which proves the key.
#[tokio::test]
async fn a_peer_whose_address_names_its_key_is_not_greeted() {
    let network = MemoryNetwork::new();
    let start = |name: &str, key: PublicKey| {
        let transport = network.transport(name).key(key).build();
        let key = SecretKey::from_bytes(&seed(name));
        let transport = Recorder::new(transport);
        let node = Node::builder_with(memory(), key)
            .transport("net", transport.clone())
            .expect("the first of its name")
            .without_following()
            .start();
        (node, transport)
    };
    let ((a, _), (b, by_b)) = (start("a", key_of("a")), start("b", key_of("b")));
    let (stranger, _) = start("c", key_of("another"));
    for node in [&a, &stranger] {
        let listening = node.accept_connections().await;
        listening.expect("the address is free");
    }
    let tree = private_tree(&a).await;

    let report = b.sync(tree, at("a")).await.expect("b may read");
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert!(matches!(kind_of(&by_b.requests()[0]), Request::SyncTree(_)));
    assert_eq!(by_b.about_entries().len(), 1, "all there is");
    assert_equal(&a, &b, tree).await;

    let error = b.sync(tree, at("c")).await.expect_err("another peer");
    let SyncError::Transport { source, .. } = &*error else {
        panic!("not a matter of the connection: {error}");
    };
    assert_eq!(source.kind(), TransportErrorKind::WrongPeer);
}

#[tokio::test]
async fn the_first_request_after_a_restart_is_signed_again() {
    let network = MemoryNetwork::new();
    let (store_a, store_b) = (memory(), memory());
    let (a, _) = node(&network, "a", &store_a, 1).await;
    let (b, by_b) = node(&network, "b", &store_b, 2).await;
    let tree = private_tree(&a).await;
    b.sync(tree, at("a")).await.expect("b may read");
    a.shutdown().await.expect("nothing is left running");
    let (a, _) = node(&network, "a", &store_a, 3).await;
    write(&a, tree, "after the restart").await;
    let begun = by_b.about_entries().len();
    let report = b.sync(tree, at("a")).await.expect("b may read");
    assert_eq!(
        (report.outcome, report.stats.stored),
        (SyncOutcome::Equal, 1)
    );
    assert_eq!(
        by_b.about_entries().len() - begun,
        2,
        "refused once, signed again"
    );
    let begun = by_b.about_entries().len();
    b.sync(tree, at("a")).await.expect("b may read");
    assert_eq!(by_b.about_entries().len() - begun, 1);
}

#[tokio::test]
async fn recorded_requests_cannot_be_replayed() {
    let network = MemoryNetwork::new();
    let (store_a, store_b) = (memory(), memory());
    let (a, _) = node(&network, "a", &store_a, 1).await;
    let (b, overheard) = node(&network, "b", &store_b, 2).await;
    let tree = private_tree(&a).await;
    b.sync(tree, at("a")).await.expect("b may read");
    write(&b, tree, "pushed").await;
    b.sync(tree, at("a")).await.expect("b may write");
    let greeting = overheard.requests().swap_remove(0);
    let requests = overheard.about_entries();
    assert_eq!(requests.len(), 3, "two pulls and a push");

    // a copy of the tree at another server, to which b may write as well
    let (elsewhere, _) = node(&network, "elsewhere", &memory(), 5).await;
    elsewhere
        .sync(tree, at("a"))
        .await
        .expect_err("it may not read yet");
    a.grant(tree, Subject::Key(elsewhere.key()), Role::Read)
        .await
        .expect("a is admin");
    elsewhere.sync(tree, at("a")).await.expect("it may read");

    for request in &requests {
        assert_eq!(resend(&network, "a", request).await, ErrorCode::Unproven);
        let refused = resend(&network, "elsewhere", request).await;
        assert_eq!(refused, ErrorCode::StaleProof, "another epoch");
    }
    a.shutdown().await.expect("nothing is left running");
    let (_a, _) = node(&network, "a", &store_a, 3).await;
    for request in &requests {
        assert_eq!(resend(&network, "a", request).await, ErrorCode::StaleProof);
    }
    // The same proof before another header.
    let (_, mixed) = node(&network, "d", &memory(), 6).await;
    drop(mixed);
    let swapped = [requests[0][0].clone(), greeting[1].clone()];
    assert_eq!(resend(&network, "a", &swapped).await, ErrorCode::StaleProof);
}

/// A node that is given no seed begins another epoch at each start, so that nothing recorded before
/// a restart is accepted after it.
#[tokio::test]
async fn a_restart_begins_another_epoch_by_itself() {
    let network = MemoryNetwork::new();
    let (store_a, store_b) = (memory(), memory());
    let serve = async || {
        let node = Node::builder_with(store_a.clone(), SecretKey::from_bytes(&seed("a")))
            .transport("net", network.transport("a").build())
            .expect("the first of its name")
            .start();
        node.accept_connections()
            .await
            .expect("the address is free");
        node
    };
    let a = serve().await;
    let (b, recorded) = node(&network, "b", &store_b, 2).await;
    let tree = private_tree(&a).await;
    b.sync(tree, at("a")).await.expect("b may read");
    a.shutdown().await.expect("nothing is left running");
    let _a = serve().await;
    let requests = recorded.about_entries();
    let last = requests.last().expect("b has asked");
    assert_eq!(resend(&network, "a", last).await, ErrorCode::StaleProof);
}

#[tokio::test]
async fn the_first_peer_at_an_address_is_pinned() {
    let network = MemoryNetwork::new();
    let (store_a, store_b) = (memory(), memory());
    let (a, _) = node(&network, "a", &store_a, 1).await;
    let (b, _) = node(&network, "b", &store_b, 2).await;
    let tree = private_tree(&a).await;
    b.sync(tree, at("a")).await.expect("b may read");
    a.shutdown().await.expect("nothing is left running");

    // An impostor has the tree, and the address.
    let transport = network.transport("a").build();
    let impostor = Node::builder_with(store_a.clone(), SecretKey::from_bytes(&[66; 32]))
        .with_seed([6; 32])
        .transport("net", transport)
        .expect("the first of its name")
        .start();
    impostor.accept_connections().await.expect("it is free");
    write(&b, tree, "secret").await;
    let error = b
        .sync(tree, at("a"))
        .await
        .expect_err("the key is another one");
    let SyncError::Transport { source, .. } = &*error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), TransportErrorKind::WrongPeer);
    assert!(!error.is_transient(), "the engine does not retry it");
    assert_eq!(texts(&impostor, tree).await, ["one"]);
    // Restarting does not help the impostor.
    b.shutdown().await.expect("nothing is left running");
    let (b, _) = node(&network, "b", &store_b, 3).await;
    b.sync(tree, at("a")).await.expect_err("still another key");

    b.forget_address(&at("a")).await.expect("in memory");
    let report = b.sync(tree, at("a")).await.expect("b was told to");
    assert_eq!(
        report.outcome,
        SyncOutcome::PeerMayNotRead,
        "believed, and still not told what it may not read"
    );
    assert_eq!(texts(&impostor, tree).await, ["one"]);
}

#[tokio::test]
async fn the_key_of_a_ticket_overrides_a_pinned_one() {
    let network = MemoryNetwork::new();
    let (store_a, store_b) = (memory(), memory());
    let (a, _) = node(&network, "a", &store_a, 1).await;
    let (b, _) = node(&network, "b", &store_b, 2).await;
    let tree = private_tree(&a).await;
    let peer = |key| Peer {
        key: Some(key),
        addresses: vec![at("a")],
    };
    let other = SecretKey::from_bytes(&[9; 32]).public();
    let error = b.sync(tree, peer(other)).await;
    let error = error.expect_err("a is not that one");
    assert!(error.to_string().contains(&a.key().to_string()), "{error}");
    b.sync(tree, peer(a.key())).await.expect("a is that one");
    assert_equal(&a, &b, tree).await;
}

/// A peer in the middle that alters answers cannot impersonate the server.
#[tokio::test]
async fn an_altered_answer_is_refused() {
    struct Meddler(Arc<dyn Service>);
    #[async_trait]
    impl Service for Meddler {
        async fn exchange(
            &self,
            caller: eidetica_proto::Caller,
            request: FrameStream,
        ) -> FrameStream {
            let frames: Vec<_> = self.0.exchange(caller, request).await.collect().await;
            let meddle = |(number, frame): (usize, Result<Bytes, TransportError>)| {
                let mut frame = frame?.to_vec();
                if number == 1 {
                    *frame.last_mut().expect("a header is not empty") ^= 1;
                }
                Ok(frame.into())
            };
            Box::pin(stream::iter(frames).enumerate().map(meddle))
        }
    }
    let network = MemoryNetwork::new();
    let (a, _) = node(&network, "a", &memory(), 1).await;
    let (b, _) = node(&network, "b", &memory(), 2).await;
    let tree = private_tree(&a).await;
    let middle = network.transport("middle").build();
    let meddler = Arc::new(Meddler(a.service()));
    middle.start_server(meddler).await.expect("it is free");
    let error = b.sync(tree, at("middle")).await.expect_err("altered");
    let SyncError::Transport { source, .. } = &*error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), TransportErrorKind::WrongPeer, "{error}");
    assert_eq!(b.trees().await.expect("in memory"), []);
}
