//! Automerge's sync protocol, on documents whose changes have the shape of the history.
//!
//! The changes are empty, which spares Automerge the work on their content.

use automerge::sync::{Message, State, SyncDoc};
use automerge::{ActorId, Automerge, Change, ChangeHash, ExpandedChange};

use xtask_support::failed;

use crate::pair::{Cost, Pair, Peer};

/// Messages after which a sync is given up.
const ROUND_TRIPS_MAX: u64 = 100;

/// What comes before each chunk of changes: magic bytes and checksum.
const CHUNK_PREFIX_BYTES: usize = 8;

/// The kind of chunk that holds a whole document.
const DOCUMENT_CHUNK: u8 = 0;

/// With nothing remembered, and with the state kept that both had when they were last equal.
pub struct Changes;

impl Peer for Changes {
    fn names(&self) -> &'static [&'static str] {
        &[
            "automerge, nothing remembered",
            "automerge, state kept for each peer",
        ]
    }

    fn fetch(&self, pair: &Pair<'_>) -> Result<Vec<Cost>, String> {
        let changes = changes_of(pair);
        let doc = |order: &[u32]| -> Result<Automerge, String> {
            let mut doc = Automerge::new();
            let own = order.iter().map(|entry| changes[*entry as usize].clone());
            doc.apply_changes(own).map_err(failed)?;
            Ok(doc)
        };
        let tips = |entries: &[u32]| -> Vec<ChangeHash> {
            pair.tips_of(entries)
                .iter()
                .map(|entry| changes[*entry as usize].hash())
                .collect()
        };
        let b = doc(&pair.orders[1])?;
        let kept = State {
            shared_heads: tips(&pair.shared),
            ..State::new()
        };
        let fetch = |state: State| {
            let b_changes = pair.orders[1].len() as u64;
            let (received, cost) = (0, Cost::default());
            let mut link = Link {
                a: doc(&pair.orders[0])?,
                b: b.clone(),
                b_changes,
                received,
                cost,
            };
            link.sync(state, &tips(&pair.orders[1]))?;
            let redundant = link.received.checked_sub(pair.missing);
            link.cost.redundant = redundant.ok_or("automerge: changes came uncounted")?;
            Ok(link.cost)
        };
        [State::new(), kept].map(fetch).into_iter().collect()
    }
}

struct Link {
    a: Automerge,
    b: Automerge,
    b_changes: u64,
    received: u64,
    cost: Cost,
}

impl Link {
    /// Exchanges messages until A has all that was wanted.
    fn sync(&mut self, state: State, wanted: &[ChangeHash]) -> Result<(), String> {
        let (mut a_state, mut b_state) = (state.clone(), state);
        while self.cost.round_trips < ROUND_TRIPS_MAX {
            if let Some(question) = self.a.generate_sync_message(&mut a_state) {
                let question = self.carry(question)?.0;
                let taken = self.b.receive_sync_message(&mut b_state, question);
                taken.map_err(failed)?;
            }
            self.cost.round_trips += 1;
            if let Some(answer) = self.b.generate_sync_message(&mut b_state) {
                let (answer, changes) = self.carry(answer)?;
                self.received += changes;
                let taken = self.a.receive_sync_message(&mut a_state, answer);
                taken.map_err(failed)?;
            }
            let has = |hash| self.a.get_change_meta_by_hash(hash).is_some();
            if wanted.iter().all(has) {
                return Ok(());
            }
        }
        Err(format!(
            "automerge: not done after {ROUND_TRIPS_MAX} round trips"
        ))
    }

    /// Encodes and decodes a message; says how many changes are in it.
    fn carry(&mut self, message: Message) -> Result<(Message, u64), String> {
        let (mut changes, mut bytes) = (0, 0);
        for chunks in message.changes.iter() {
            bytes += chunks.len();
            changes += self.count(chunks).ok_or("automerge: a chunk that is cut")?;
        }
        let encoded = message.encode();
        self.cost.bytes += (encoded.len() - bytes) as u64;
        let message = Message::decode(&encoded).map_err(failed)?;
        Ok((message, changes))
    }

    /// Counts the changes in chunks: a document holds all that its sender has, and the sender of
    /// one is B.
    fn count(&self, mut chunks: &[u8]) -> Option<u64> {
        let mut changes = 0;
        while !chunks.is_empty() {
            let (kind, rest) = chunks.get(CHUNK_PREFIX_BYTES..)?.split_first()?;
            changes += if *kind == DOCUMENT_CHUNK {
                self.b_changes
            } else {
                1
            };
            let length_bytes = 1 + rest.iter().position(|byte| byte & 0x80 == 0)?;
            let length = rest[..length_bytes].iter().rev();
            let length = length.fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
            chunks = rest.get(length_bytes + length..)?;
        }
        Some(changes)
    }
}

/// Makes a change of each entry of the world. An actor's changes must follow on each other, so an
/// entry belongs to the actor of a parent that is not continued yet, or to a new one.
fn changes_of(pair: &Pair<'_>) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::with_capacity(pair.world.parents.len());
    // The actor of each entry, and whether that actor has continued it.
    let mut actors: Vec<(u64, bool)> = Vec::new();
    let mut next_actor = 0;
    for (parents, clock) in pair.world.parents.iter().zip(&pair.world.clock) {
        let before = parents.iter().find(|parent| !actors[**parent as usize].1);
        let (actor, seq) = match before.map(|parent| *parent as usize) {
            Some(parent) => {
                actors[parent].1 = true;
                (actors[parent].0, changes[parent].seq() + 1)
            }
            None => {
                next_actor += 1;
                (next_actor, 1)
            }
        };
        actors.push((actor, false));
        let mut deps: Vec<ChangeHash> = parents
            .iter()
            .map(|parent| changes[*parent as usize].hash())
            .collect();
        deps.sort_unstable();
        changes.push(Change::from(ExpandedChange {
            operations: vec![],
            actor_id: ActorId::from(actor.to_be_bytes()),
            hash: None,
            seq,
            start_op: std::num::NonZeroU64::MIN,
            time: i64::from(*clock),
            message: None,
            deps,
            extra_bytes: vec![],
            author: None,
        }));
    }
    changes
}
