//! Which of many shared trees differ, in one small exchange.
//!
//! The client sends a short digest of its tips for each tree, the server names those that differ.
//! For each equal tree it adds a cursor, so that a watch can begin there.

use eidetica_dag::{DagView, PublicKey, Role, TreeId};
use sha2::{Digest, Sha256};

use crate::answer::{AnswerError, check_access};
use crate::cursor::{Cursor, LogId};
use crate::error::PeerFault;
use crate::message::{CHECKED_TREES_MAX, CheckTrees, Checked, Reply, ResponseHeader};
use crate::source::{ViewError, ViewSource};
use crate::sync_fault::SyncFault;
use crate::tips::TipDigest;

/// How many tips a server reads for one request, in half a second. The trees that follow are left
/// for the client's next request.
pub const CHECK_TIPS_MAX: usize = 65_536;

/// Returns the first eight bytes of the SHA-256 over `seed` and a digest of tips.
pub fn digest(seed: [u8; 8], tips: &TipDigest) -> [u8; 8] {
    let hash = Sha256::new()
        .chain_update(seed)
        .chain_update(tips.as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    *hash.first_chunk().expect("a hash is longer")
}

/// Lists the trees of a check, each with whether the client has anything of it.
pub fn trees_of(request: &CheckTrees) -> impl Iterator<Item = (TreeId, bool)> {
    let nothing = digest(request.seed, &TipDigest::of(&[]));
    let trees = request.trees.iter();
    trees.map(move |(tree, digest)| (*tree, *digest != nothing))
}

/// The answer to a check, and what the request tells of the client.
#[derive(Debug)]
pub struct CheckAnswered {
    /// The answer.
    pub checked: Checked,
    /// The trees that are equal: the client has every entry that arrived here before the number.
    pub equal: Vec<(TreeId, u32)>,
}

/// Answers a check for the client of this key: in the order of the request, until
/// [`CHECK_TIPS_MAX`] tips were read.
///
/// # Errors
/// Those of the store.
pub fn answer_check<S: ViewSource + ?Sized>(
    source: &S,
    log: LogId,
    client: Option<&PublicKey>,
    request: &CheckTrees,
) -> Result<CheckAnswered, ViewError<S>> {
    let mut has = Vec::new();
    let mut checked = Checked {
        looked_at: 0,
        differ: Vec::new(),
        absent: Vec::new(),
        equal: Vec::new(),
    };
    let mut tips_left = CHECK_TIPS_MAX;
    for (index, (tree, theirs)) in request.trees.iter().enumerate().take(CHECKED_TREES_MAX) {
        let view = source.view(*tree)?;
        let tips = view.tips()?.len();
        // The first tree is looked at in any case, or a check would never get past it.
        if tips > tips_left && index > 0 {
            break;
        }
        tips_left = tips_left.saturating_sub(tips.max(1));
        checked.looked_at += 1;
        let index = index as u16;
        match check_access(&*view, client, Role::Read) {
            Ok(()) if digest(request.seed, &TipDigest::of_view(&*view)?) == *theirs => {
                checked.equal.push(Cursor::at_end(log, &*view)?);
                has.push((*tree, view.entry_count()));
            }
            Ok(()) => checked.differ.push(index),
            Err(AnswerError::Refuse(_)) => checked.absent.push(index),
            Err(AnswerError::View(error)) => return Err(error),
        }
        if tips_left == 0 {
            break;
        }
    }
    let equal = has;
    Ok(CheckAnswered { checked, equal })
}

/// What a check found out about one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// Both sides have the same tips; a watch can begin at this cursor.
    Equal(Cursor),
    /// The tips differ: compare.
    Differs,
    /// The peer does not have the tree, or does not let this side read it.
    NotHere,
}

/// Asks about many trees, in as many requests as the peer needs.
///
/// Send [`CheckSession::poll_request`]; hand the answer to [`CheckSession::handle_header`]; until
/// there is no request.
#[derive(Debug)]
pub struct CheckSession {
    seed: [u8; 8],
    /// Ascending.
    trees: Vec<(TreeId, TipDigest)>,
    /// How many of them, from the first on, are answered.
    answered: usize,
}

impl CheckSession {
    /// Asks about these trees, each with the digest of its tips here. The seed is eight random
    /// bytes.
    pub fn new(mut trees: Vec<(TreeId, TipDigest)>, seed: [u8; 8]) -> Self {
        trees.sort_unstable_by_key(|(tree, _)| *tree);
        trees.dedup_by_key(|(tree, _)| *tree);
        Self {
            seed,
            trees,
            answered: 0,
        }
    }

    /// Returns the next request, or `None` if every tree is answered.
    pub fn poll_request(&self) -> Option<CheckTrees> {
        let trees: Vec<(TreeId, [u8; 8])> = self.trees[self.answered..]
            .iter()
            .take(CHECKED_TREES_MAX)
            .map(|(tree, tips)| (*tree, digest(self.seed, tips)))
            .collect();
        let seed = self.seed;
        (!trees.is_empty()).then_some(CheckTrees { seed, trees })
    }

    /// Takes the answer to the last request, and returns what it says.
    ///
    /// # Errors
    /// The peer refuses, or breaks the protocol.
    pub fn handle_header(
        &mut self,
        frame: &[u8],
    ) -> Result<Vec<(TreeId, CheckOutcome)>, SyncFault> {
        let Reply::Checked(checked) = ResponseHeader::decode(frame)?.reply? else {
            return Err(PeerFault::OutOfPlace {
                got: "another answer",
                wanted: "an answer to a check",
            }
            .into());
        };
        let asked = (self.trees.len() - self.answered).min(CHECKED_TREES_MAX);
        let looked_at = checked.looked_at as usize;
        if looked_at > asked || (looked_at == 0 && asked > 0) {
            return Err(PeerFault::BadList("too many or no trees checked").into());
        }
        let mut equal = checked.equal.into_iter();
        let mut outcomes = Vec::with_capacity(looked_at);
        for index in 0..looked_at {
            let (tree, _) = self.trees[self.answered + index];
            let is_in = |list: &[u16]| list.binary_search(&(index as u16)).is_ok();
            let outcome = if is_in(&checked.differ) {
                CheckOutcome::Differs
            } else if is_in(&checked.absent) {
                CheckOutcome::NotHere
            } else {
                // Reading the answer checked that the lists name each tree once.
                let cursor = equal.next().ok_or(PeerFault::Incomplete)?;
                CheckOutcome::Equal(cursor)
            };
            outcomes.push((tree, outcome));
        }
        self.answered += looked_at;
        Ok(outcomes)
    }
}
