//! What the engine learns from requests of peers.

use std::sync::{Arc, Weak};

use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::message::{
    Alive, CheckTrees, ListTrees, Peers, Request, RequestHeader, Sample, SyncTree, Watch,
};
use eidetica_proto::tips::TipSet;
use eidetica_proto::transport::{Caller, Service};
use eidetica_proto::{Cursor, FrameStream};
use futures::StreamExt;

use super::grants::Grants;
use super::push::PushAcceptor;
use super::push_limit::PushLimit;
use super::request_auth::RequestAuth;
use super::service::Server;
use super::watch::WatchAnswerer;
use super::work_limit::WorkLimit;
use crate::event::Publisher;
use crate::membership::Membership;
use crate::membership::readers::ReaderIndex;
use crate::membership::records::Records;
use crate::news::News;
use crate::platform::clock::WallClock;
use crate::store::writer::Writer;
use crate::store::{MemoryStore, Store};

fn server(news: &News) -> Server {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let writer = Arc::new(Writer::new(
        store.clone(),
        key(0),
        WallClock::default(),
        news.clone(),
    ));
    let reads = Arc::new(WorkLimit::reads());
    Server {
        auth: Arc::new(RequestAuth::new(
            key(0),
            [0; 8],
            &WallClock::default(),
            store.clone(),
        )),
        manager: Weak::new(),
        membership: Arc::new(Membership::new(store.clone(), writer, news.clone())),
        records: Arc::new(Records::new(
            store.clone(),
            key(0),
            WallClock::default(),
            news.clone(),
        )),
        news: news.clone(),
        readers: Arc::new(ReaderIndex::new(store.clone())),
        joins: WorkLimit::joins(),
        questions: WorkLimit::questions(),
        reads: reads.clone(),
        answers: Arc::default(),
        pushes: PushAcceptor {
            grants: Grants::new(store.clone()),
            store: store.clone(),
            news: news.clone(),
            limit: PushLimit::default(),
            reads,
        },
        watches: WatchAnswerer::new(store.clone(), news.clone()),
        store,
    }
}

/// Of which peers, and about which trees, the engine hears after a request.
async fn heard(request: Request) -> (usize, Vec<TreeId>) {
    let news = News::new(Publisher::new());
    let caller = Caller {
        transport: "memory",
        key: Some(key(1).public()),
        remote: String::new(),
    };
    let header = RequestHeader::new(request).encode();
    let request: FrameStream = Box::pin(futures::stream::iter([Ok(header)]));
    let mut answer = server(&news).exchange(caller, request).await;
    let _refused = answer.next().await;
    let facts = news.board().take();
    assert!(facts.heard.iter().all(|peer| *peer == key(1).public()));
    let about = facts.heard_about.into_keys().map(|(_, tree)| tree);
    (facts.heard.len(), about.collect())
}

#[tokio::test]
async fn each_request_about_trees_names_them_though_they_are_absent() {
    let trees = [1, 2].map(|n| TreeId::from_root(EntryId::from_bytes([n; 32])));
    let first = trees[0];
    let sync = Request::SyncTree(SyncTree {
        tree: first,
        tips: TipSet::Listed(vec![]),
        sample: Sample::None,
        wants: vec![],
    });
    assert_eq!(heard(sync).await, (1, vec![first]));
    let records = vec![];
    let peers = Request::Peers(Peers {
        tree: first,
        records,
    });
    assert_eq!(heard(peers).await, (1, vec![first]));
    let check = Request::CheckTrees(CheckTrees {
        seed: [0; 8],
        trees: trees.map(|tree| (tree, [0; 8])).to_vec(),
    });
    assert_eq!(heard(check).await, (1, trees.to_vec()));
    let watch = Request::Watch(Watch {
        trees: trees.map(|tree| (tree, Cursor::NONE)).to_vec(),
    });
    assert_eq!(heard(watch).await, (1, trees.to_vec()));
    let alive = Request::Alive(Alive { epoch: [1; 8] });
    assert_eq!(heard(alive).await, (1, vec![]));
    let list = Request::ListTrees(ListTrees { after: None });
    assert_eq!(heard(list).await, (1, vec![]));
}
