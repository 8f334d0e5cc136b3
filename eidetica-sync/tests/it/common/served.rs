//! A service around a node's own that counts what each side receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eidetica_dag::{EntryId, PublicKey, TreeId};
use eidetica_proto::batch::unpack;
use eidetica_proto::message::{Part, Request, RequestHeader, WatchFrame};
use eidetica_proto::{Caller, FrameStream, Service};
use eidetica_sync::Node;
use futures::{StreamExt, stream};

/// How often each node has received each entry, over any number of servers.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<BTreeMap<(PublicKey, EntryId), usize>>>);

impl Received {
    /// Lets a node serve, counted. Its connections prove keys.
    pub(crate) async fn serve(&self, node: &Node) {
        self.serve_to(node, None).await;
    }

    /// Lets a node serve, counted. Where connections prove no keys, this is its only client.
    pub(crate) async fn serve_to(&self, node: &Node, client: Option<PublicKey>) {
        let transport = node.transports().get("net").expect("the only one");
        let counted = Counted {
            inner: node.service(),
            server: node.key(),
            client,
            header: usize::from(!transport.proves_keys()),
            received: self.clone(),
        };
        start(node, counted).await;
    }

    fn note(&self, receiver: PublicKey, tree: TreeId, batch: &[u8]) {
        let entries = unpack(tree, batch).expect("nodes are honest");
        let mut received = self.0.lock().expect("not poisoned");
        for entry in entries {
            *received.entry((receiver, entry.id())).or_default() += 1;
        }
    }

    /// Returns how often a node has received an entry.
    pub(crate) fn count(&self, node: &Node, entry: EntryId) -> usize {
        let received = self.0.lock().expect("not poisoned");
        received.get(&(node.key(), entry)).copied().unwrap_or(0)
    }

    /// Returns how often an entry was received by the node that received it most often.
    pub(crate) fn most(&self) -> usize {
        let received = self.0.lock().expect("not poisoned");
        received.values().copied().max().unwrap_or(0)
    }
}

/// Serves for a node by this service instead of its own.
pub(super) async fn start(node: &Node, service: impl Service) {
    let transport = node.transports().get("net").expect("the only one");
    let started = transport.start_server(Arc::new(service)).await;
    started.expect("the address is free");
}

struct Counted {
    inner: Arc<dyn Service>,
    server: PublicKey,
    client: Option<PublicKey>,
    /// The index of the header: where connections prove no keys, a proof precedes it.
    header: usize,
    received: Received,
}

/// The trees of which a request or its answer brings entries.
enum Asked {
    Nothing,
    One(TreeId),
    Watched(Vec<TreeId>),
}

impl Asked {
    fn of(header: &[u8]) -> Self {
        match RequestHeader::decode(header).map(|header| header.request) {
            Ok(Request::SendEntries(push)) => Self::One(push.tree),
            Ok(Request::SyncTree(sync)) => Self::One(sync.tree),
            Ok(Request::Watch(watch)) => {
                Self::Watched(watch.trees.iter().map(|(tree, _)| *tree).collect())
            }
            _ => Self::Nothing,
        }
    }

    /// Notes the entries of a frame after the header.
    fn note(&self, received: &Received, receiver: PublicKey, frame: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::One(tree) => {
                if let Ok(Part::Batch(batch)) = Part::decode(frame) {
                    received.note(receiver, *tree, batch);
                }
            }
            Self::Watched(trees) => {
                if let Ok(WatchFrame::Entries { tree, batch, .. }) = WatchFrame::decode(frame) {
                    received.note(receiver, trees[usize::from(tree)], batch);
                }
            }
        }
    }
}

#[async_trait]
impl Service for Counted {
    async fn exchange(&self, caller: Caller, mut request: FrameStream) -> FrameStream {
        let mut first = Vec::new();
        while first.len() <= self.header {
            match request.next().await {
                Some(Ok(frame)) => first.push(Ok(frame)),
                _ => return Box::pin(stream::empty()),
            }
        }
        let header = first.last().and_then(|frame| frame.as_ref().ok());
        let asked = Arc::new(Asked::of(header.expect("it is the last")));
        let client = caller.key.or(self.client).expect("it is known");
        let (server, header) = (self.server, self.header);
        let (received, of_request) = (self.received.clone(), asked.clone());
        let parts = request.inspect(move |frame| {
            if let Ok(frame) = frame {
                of_request.note(&received, server, frame);
            }
        });
        let request = stream::iter(first).chain(parts);
        let answer = self.inner.exchange(caller, Box::pin(request)).await;
        let received = self.received.clone();
        Box::pin(answer.enumerate().map(move |(index, frame)| {
            if let (true, Ok(frame)) = (index > header, &frame) {
                asked.note(&received, client, frame);
            }
            frame
        }))
    }
}
