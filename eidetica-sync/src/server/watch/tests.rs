//! What the engine learns of watches.

use eidetica_dag::testing::{draw, key};
use eidetica_dag::{AccessChange, Role, Subject};
use eidetica_proto::Cursor;

use super::*;
use crate::event::Publisher;
use crate::news::Facts;
use crate::platform::clock::WallClock;
use crate::store::MemoryStore;
use crate::store::writer::Writer;

/// A node's parts that answer watches, with a private tree.
struct Answering {
    writer: Writer,
    news: News,
    watches: WatchAnswerer,
    store: Arc<dyn Store>,
    tree: TreeId,
    stops: watch::Sender<u64>,
}

fn answering() -> Answering {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let news = News::new(Publisher::new());
    let writer = Writer::new(store.clone(), key(0), WallClock::default(), news.clone());
    let genesis = eidetica_dag::Genesis {
        access_rule: eidetica_dag::AccessRule::SENIORITY,
        nonce: [0; 16],
        name: "tree".into(),
        access: vec![AccessChange::grant(
            Subject::Key(key(1).public()),
            Role::Read,
        )],
    };
    let tree = writer.create(genesis);
    let tree = tree.expect("well formed");
    Answering {
        watches: WatchAnswerer::new(store.clone(), news.clone()),
        writer,
        news,
        store,
        tree,
        stops: watch::Sender::new(0),
    }
}

impl Answering {
    async fn watch(&self, trees: Vec<(TreeId, Cursor)>) -> FrameStream {
        let caller = Caller {
            transport: "memory",
            key: Some(key(1).public()),
            remote: String::new(),
        };
        let request = Watch { trees };
        let stops = self.stops.subscribe();
        self.watches.answer(&caller, request, stops).await
    }

    fn end(&self) -> Cursor {
        let snapshot = self.store.snapshot(self.tree).expect("in memory");
        Cursor::at_end(self.store.log_id(), &*snapshot).expect("in memory")
    }

    /// The watches of which something changed: how many trees each has, and whether it is closed.
    fn changes(&self) -> Vec<(Option<usize>, bool)> {
        let Facts { watches, .. } = self.news.board().take();
        let changes = watches.values();
        changes
            .map(|it| (it.opened.as_ref().map(|trees| trees.len()), it.closed))
            .collect()
    }
}

/// A cursor of another store.
fn foreign() -> Cursor {
    Cursor::from_bytes(&[9; 20]).expect("short enough")
}

#[tokio::test(start_paused = true)]
async fn the_engine_learns_which_trees_are_watched() {
    let here = answering();
    let absent = draw("A-B").tree();
    let mut trees = vec![(here.tree, here.end()), (absent, foreign())];
    trees.sort_unstable();
    let mut frames = here.watch(trees).await;
    assert_eq!(here.changes(), [(Some(2), false)]);
    for _ in 0..2 {
        frames.next().await.expect("a frame").expect("it lasts");
    }
    assert_eq!(here.changes(), [], "the watch has more to say");
    // While it waits, it covers what there is.
    let heartbeat = frames.next().await.expect("a frame").expect("it lasts");
    assert_eq!(heartbeat, WatchFrame::Heartbeat.encode());
    assert_eq!(here.changes(), [(None, true), (Some(1), false)]);
    drop(frames);
    assert_eq!(here.changes(), [(None, true)]);
}

#[tokio::test(start_paused = true)]
async fn news_at_the_moment_of_covering_are_not_lost() {
    let here = answering();
    let absent = draw("A-B").tree();
    let mut trees = vec![(here.tree, here.end()), (absent, foreign())];
    trees.sort_unstable();
    let mut frames = here.watch(trees).await;
    for _ in 0..2 {
        frames.next().await.expect("a frame").expect("it lasts");
    }
    let body = eidetica_dag::Body::Data(Bytes::from_static(b"news"));
    for _ in 0..3 {
        here.writer
            .append(here.tree, vec![body.clone()])
            .expect("own tree");
        let frame = frames.next().await.expect("a frame").expect("it lasts");
        let frame = WatchFrame::decode(&frame).expect("a frame of a watch");
        assert!(matches!(frame, WatchFrame::Entries { .. }), "{frame:?}");
    }
}

/// The watch of an awaited tree brings no entries, so the engine may push it; and it lasts.
#[tokio::test(start_paused = true)]
async fn an_awaited_tree_keeps_a_watch_open_and_is_not_covered() {
    let here = answering();
    let began = Instant::now();
    let mut frames = here.watch(vec![(draw("A-B").tree(), Cursor::NONE)]).await;
    frames.next().await.expect("a header").expect("it lasts");
    for n in 1..=4 {
        let heartbeat = frames.next().await.expect("a frame").expect("it lasts");
        assert_eq!(heartbeat, WatchFrame::Heartbeat.encode());
        assert_eq!(began.elapsed(), Duration::from_secs(15 * n));
    }
    assert_eq!(here.changes(), [(Some(0), false)]);
    // One that can be read is announced at once, and only once.
    let mut frames = here.watch(vec![(here.tree, Cursor::NONE)]).await;
    frames.next().await.expect("a header").expect("it lasts");
    let announced = frames.next().await.expect("a frame").expect("it lasts");
    assert_eq!(announced, WatchFrame::CompareFirst { tree: 0 }.encode());
    assert!(frames.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_trees_gives_its_place_back() {
    let here = answering();
    let mut frames = here.watch(vec![(draw("A-B").tree(), foreign())]).await;
    let began = Instant::now();
    let mut count = 0;
    while frames.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 2, "a header, and that the tree is gone");
    assert_eq!(began.elapsed(), Duration::from_secs(15));
    drop(frames);
    assert_eq!(here.changes(), [(Some(1), true), (Some(0), true)]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_the_servers_stop() {
    let here = answering();
    let mut frames = here.watch(vec![(here.tree, here.end())]).await;
    frames.next().await.expect("a header").expect("it lasts");
    let began = Instant::now();
    let stop = async { here.stops.send_modify(|stops| *stops += 1) };
    let (next, ()) = tokio::join!(frames.next(), stop);
    assert!(next.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// A cursor says what its holder has, so it need not be asked.
#[tokio::test(start_paused = true)]
async fn the_engine_learns_what_a_watcher_has() {
    let here = answering();
    let mut frames = here.watch(vec![(here.tree, here.end())]).await;
    for _ in 0..2 {
        // A header, and a heartbeat.
        frames.next().await.expect("a frame").expect("it lasts");
    }
    let Facts { has, .. } = here.news.board().take();
    let has: Vec<_> = has.into_iter().collect();
    assert_eq!(has, [((key(1).public(), here.tree), 1)]);
}
