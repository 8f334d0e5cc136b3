//! One sync of two replicas over a link in memory, counted frame by frame.

use eidetica_dag::DagView;
use eidetica_proto::SyncOptions;
use eidetica_proto::frame::FRAME_PREFIX_BYTES;
use eidetica_proto::message::{Part, Request, RequestHeader};
use eidetica_proto::testing::{Link, Way};

use crate::world::World;

/// What one sync cost. Bytes are those of frames with their prefixes.
#[derive(Debug, Default, Clone)]
pub struct Exchange {
    /// Tips of the client before the sync.
    pub client_tips: usize,
    /// Entries that only the server had.
    pub missing: u64,
    /// Requests until the client had everything.
    pub round_trips: u32,
    /// Bytes of each of these requests.
    pub request_bytes: Vec<u64>,
    /// Bytes of the responses to these requests that are no entries.
    pub response_bytes: u64,
    /// Entries that the client received and had.
    pub redundant: u64,
    /// Entries that the server received and had.
    pub redundant_pushed: u64,
}

/// Syncs two replicas, each given by its heads, and checks that both have everything at the end.
///
/// # Errors
/// What went wrong: one of the two misbehaves, or they differ at the end.
pub fn sync(
    world: &World,
    [client, server]: [&[u32]; 2],
    options: SyncOptions,
    seed: [u8; 8],
) -> Result<Exchange, String> {
    let (client, server) = (world.closure(client), world.closure(server));
    let (mut a, mut b) = (world.replica(&client), world.replica(&server));
    let pairs = || client.iter().zip(&server);
    let Ok(tips) = a.tips();
    let mut exchange = Exchange {
        client_tips: tips.len(),
        missing: pairs().filter(|(here, there)| !**here && **there).count() as u64,
        ..Exchange::default()
    };

    let (mut pulling, mut is_header) = (true, false);
    let watch = |way, _, frame: bytes::Bytes| {
        let bytes = (FRAME_PREFIX_BYTES + frame.len()) as u64;
        match way {
            Way::Asks if pulling => {
                let header = RequestHeader::decode(&frame).map(|header| header.request);
                pulling = matches!(header, Ok(Request::SyncTree(_)));
                if pulling {
                    exchange.request_bytes.push(bytes);
                    is_header = true;
                }
            }
            Way::Answers if pulling => {
                if is_header || !matches!(Part::decode(&frame), Ok(Part::Batch(_))) {
                    exchange.response_bytes += bytes;
                }
                is_header = false;
            }
            _ => {}
        }
        vec![frame]
    };
    let run = Link::new(&mut a, &mut b)
        .options(options, seed)
        .tamper(watch)
        .run();
    let stats = run
        .result
        .map_err(|broken| format!("the sync broke: {broken:?}"))?
        .stats;
    exchange.round_trips = stats.pull_round_trips;
    exchange.redundant = stats.redundant;
    exchange.redundant_pushed = stats.sent - stats.peer_stored;

    // Ids are computed from content, so that equal counts are equal sets of the world's entries.
    let union = pairs().filter(|(here, there)| **here || **there).count();
    let had = server.iter().filter(|had| **had).count();
    let [a, b] = [a, b].map(|replica| replica.entry_count() as usize);
    match a == union && b == if options.push { union } else { had } {
        true => Ok(exchange),
        false => Err("entries are missing after the sync".to_owned()),
    }
}
