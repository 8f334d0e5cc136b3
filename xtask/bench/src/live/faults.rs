//! A peer that was away, and peers that cannot be reached among others that can.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eidetica_dag::TreeId;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::proto::Address;
use eidetica_sync::store::{MemoryStore, Store};
use eidetica_sync::{Node, Peer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use xtask_support::figures::quantile_ms;
use xtask_support::report::{Report, Table, Target, decimals};
use xtask_support::{failed, now};

use super::counted::Counts;
use super::latency::follow;
use super::{entries, in_memory, open_tree, rest, sync, until, until_all};
use crate::nodes::{key, start_with};

/// Entries that are written while a peer is away.
const WRITTEN_AWAY: usize = 1_000;

/// Followed peers, three of which are replaced by the faulty ones.
const PEERS: usize = 10;

pub async fn away(time: Duration) -> Result<Report, String> {
    let headings = &["who follows", "equal after ms", "by hand ms", "asked"];
    let mut table = Table::new(
        "1,000 entries written while one side was away, over HTTP, in memory",
        headings,
    );
    let mut target = Target::new("equal within 2 s of the return");
    for way in ["the one that was away", "the one that wrote"] {
        let counts = Counts::default();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let start_b = |port| {
            let builder = HttpTransport::builder().bind(([127, 0, 0, 1], port).into());
            start_with(store.clone(), key("b"), builder.build())
        };
        let (a, mut b) = (in_memory("a").await?, start_b(0)?);
        let (at_a, at_b) = (counts.listen(&a).await?, counts.listen(&b).await?);
        let port = at_b.as_str().trim_end_matches('/').rsplit(':').next();
        let port = port
            .and_then(|port| port.parse().ok())
            .ok_or("the address has no port")?;
        let tree = open_tree(&a).await?;
        let mut walls = Vec::new();
        for is_live in [false, true] {
            sync(&b, tree, &at_a).await?;
            if is_live && way == "the one that wrote" {
                follow(&a, &b, tree, at_b.clone()).await?;
            }
            b.shutdown().await.map_err(failed)?;
            for _ in 0..WRITTEN_AWAY / 100 {
                let data = (0..100).map(|_| Bytes::from_static(b"away")).collect();
                a.append_all(tree, data).await.map_err(failed)?;
                tokio::time::sleep(time / 10 * u32::from(is_live)).await;
            }
            counts.take();
            let began = now();
            b = start_b(port)?;
            counts.listen(&b).await?;
            match (is_live, way) {
                (false, _) => sync(&b, tree, &at_a).await?,
                (true, "the one that was away") => {
                    drop(b.follow(tree, at_a.clone()).await.map_err(failed)?)
                }
                (true, _) => {}
            }
            until(&b, tree, entries(&a, tree)?).await?;
            walls.push(began.elapsed());
        }
        let cost = counts.take();
        target.check(walls[1] <= Duration::from_secs(2), || {
            format!("{way}: {:?}", walls[1])
        });
        let [by_hand, live] = [0, 1].map(|at| decimals(quantile_ms(&walls[at..=at], 0.5), 1));
        table.push(vec![way.into(), live, by_hand, cost.kinds()]);
        for node in [&a, &b] {
            node.shutdown().await.map_err(failed)?;
        }
    }
    Ok(Report {
        tables: vec![table],
        targets: vec![target],
    })
}

pub async fn peers(writes: usize) -> Result<Report, String> {
    let headings = &[
        "peers",
        "median ms",
        "p99 ms",
        "by hand median ms",
        "stale address, first ms",
        "asked",
    ];
    let mut table = Table::new(
        "ten followed peers, until those without a fault have a write",
        headings,
    );
    let mut target =
        Target::new("with faulty peers, the others have a write within 1.5 × of without");
    let mut without = [0.0; 2];
    for has_faults in [false, true] {
        let counts = Counts::default();
        let writer = in_memory("writer").await?;
        let tree = open_tree(&writer).await?;
        let at_writer = counts.listen(&writer).await?;
        let (mut good, mut addresses, mut held) = (Vec::new(), Vec::new(), Faulty::default());
        for at in 0..if has_faults { PEERS - 2 } else { PEERS } {
            let peer = in_memory(&format!("peer {at}")).await?;
            sync(&peer, tree, &at_writer).await?;
            addresses.push(counts.listen(&peer).await?);
            good.push(peer);
        }
        let others = PEERS - 3;
        let by_hand = by_hand(&writer, &good[..others], tree, &addresses).await?;
        let began = now();
        for (at, address) in addresses.iter().enumerate() {
            let mut ways = vec![address.clone()];
            if has_faults && at == others {
                ways.insert(0, Address::new("http", "127.0.0.1:9").map_err(failed)?);
                ways.insert(0, held.mute().await?);
            }
            let peer = Peer {
                key: Some(good[at].key()),
                addresses: ways,
            };
            writer.follow(tree, peer).await.map_err(failed)?;
        }
        if has_faults {
            for (name, at) in [
                ("mute", held.mute().await?),
                ("hole", held.black_hole().await?),
            ] {
                let peer = Peer {
                    key: Some(key(name).public()),
                    addresses: vec![at],
                };
                writer.follow(tree, peer).await.map_err(failed)?;
            }
        }
        let count = entries(&writer, tree)? + 1;
        writer.append(tree, "first").await.map_err(failed)?;
        until_all(&good[others..=others], tree, count).await?;
        let first = began.elapsed();
        rest(&counts).await;
        counts.take();
        let mut walls = Vec::new();
        for round in 1..=writes as u32 {
            let began = now();
            writer.append(tree, "more").await.map_err(failed)?;
            until_all(&good[..others], tree, count + round).await?;
            walls.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let figures = [quantile_ms(&walls, 0.5), quantile_ms(&walls, 0.99)];
        if has_faults {
            let is_met = figures
                .iter()
                .zip(without)
                .all(|(with, without)| *with <= without * 1.5);
            target.check(is_met, || format!("{figures:.1?} after {without:.1?} ms"));
        }
        without = figures;
        table.push(vec![
            if has_faults {
                "one mute, one black hole, one stale"
            } else {
                "all well"
            }
            .into(),
            decimals(figures[0], 2),
            decimals(figures[1], 2),
            decimals(quantile_ms(&by_hand, 0.5), 2),
            decimals(quantile_ms(&[first], 0.5), 1),
            counts.take().kinds(),
        ]);
        for node in good.iter().chain([&writer]) {
            node.shutdown().await.map_err(failed)?;
        }
    }
    Ok(Report {
        tables: vec![table],
        targets: vec![target],
    })
}

/// One write, then a sync with each peer, one after another.
async fn by_hand(
    writer: &Node,
    peers: &[Node],
    tree: TreeId,
    at: &[Address],
) -> Result<Vec<Duration>, String> {
    let mut walls = Vec::new();
    for _ in 0..10 {
        let began = now();
        writer.append(tree, "by hand").await.map_err(failed)?;
        for (_, address) in peers.iter().zip(at) {
            sync(writer, tree, address).await?;
        }
        walls.push(began.elapsed());
    }
    Ok(walls)
}

/// Servers that are no use, for as long as this lives.
#[derive(Default)]
struct Faulty {
    listeners: Vec<TcpListener>,
    streams: Vec<TcpStream>,
}

impl Faulty {
    /// Returns an address at which connections are accepted, by the system, and never answered.
    async fn mute(&mut self) -> Result<Address, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        self.keep(listener)
    }

    /// Returns an address at which connections are not even accepted: its queue is full.
    async fn black_hole(&mut self) -> Result<Address, String> {
        let socket = TcpSocket::new_v4().map_err(failed)?;
        socket.bind(([127, 0, 0, 1], 0).into()).map_err(failed)?;
        let listener = socket.listen(1).map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        let connect = || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(at));
        while let Ok(Ok(stream)) = connect().await {
            self.streams.push(stream);
        }
        self.keep(listener)
    }

    fn keep(&mut self, listener: TcpListener) -> Result<Address, String> {
        let at = listener.local_addr().map_err(failed)?;
        self.listeners.push(listener);
        Address::new("http", &at.to_string()).map_err(failed)
    }
}
