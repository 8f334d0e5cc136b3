//! Choosing what goes into a filter, without scanning the history.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use eidetica_dag::view::LANDMARK_INTERVAL;
use eidetica_dag::{Arrival, DagView, EntryId, Node};

use super::golomb::{code_bits_max, encode, fingerprint};
use super::sampling::{density_needed, depth};
use super::{DECLARED_HEIGHTS_MAX, DENSITY_MAX, FILTER_ENTRIES_MAX, Filter, height_steps};

/// How many entries [`Filter::build`] reads one by one at most. On a line it reads three for each
/// entry of the filter; a tree that wants more than this is so wide that its dense zone is hardly
/// worth completing.
pub const FILTER_VISITS_MAX: usize = 65_536;

/// What a request takes in bytes with up to eight tips, authentication not counted.
const REQUEST_BYTES_MAX: usize = 700;

/// What a request takes in bytes beside its tips and its filter: the tree's id and a header.
const REQUEST_HEAD_BYTES: usize = 32 + 24;

/// What a listed tip takes in bytes.
const TIP_BYTES: usize = 32;

/// Up to this many tips share [`REQUEST_BYTES_MAX`] with the filter.
const FEW_TIPS_MAX: usize = 8;

/// How many entries a filter holds at most with few tips.
const FEW_TIPS_ENTRIES_MAX: usize = 256;

/// How many entries a filter holds for each tip where there are many.
const ENTRIES_PER_TIP: usize = 8;

/// How large a filter may become. Both limits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterBudget {
    /// How many entries it may hold.
    pub entries: usize,
    /// How many bytes it may take in a message, its parameters included.
    pub bytes: usize,
}

impl FilterBudget {
    /// Returns the budget for a request that lists this many tips: what 700 bytes leave room for
    /// with up to eight tips, else eight entries for each tip, with room for 256 and for at most
    /// [`FILTER_ENTRIES_MAX`].
    pub fn for_tips(tip_count: usize) -> Self {
        if tip_count <= FEW_TIPS_MAX {
            return Self {
                entries: FEW_TIPS_ENTRIES_MAX,
                bytes: REQUEST_BYTES_MAX - REQUEST_HEAD_BYTES - TIP_BYTES * tip_count,
            };
        }
        let entries = tip_count.saturating_mul(ENTRIES_PER_TIP);
        Self {
            entries: entries.clamp(FEW_TIPS_ENTRIES_MAX, FILTER_ENTRIES_MAX),
            bytes: usize::MAX,
        }
    }

    /// Returns how many entries fit beside parameters of `parameter_bytes`, whatever their
    /// fingerprints turn out to be.
    fn entries_beside(self, parameter_bytes: usize) -> usize {
        let room_bits = self.bytes.saturating_sub(parameter_bytes) as u64 * 8;
        // The code grows with the number of entries, so the numbers that fit are the low ones.
        let (mut fits, mut beyond) = (0, self.entries.min(FILTER_ENTRIES_MAX) + 1);
        while beyond - fits > 1 {
            let middle = fits.midpoint(beyond);
            if code_bits_max(middle as u32) <= room_bits {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        fits
    }
}

impl Filter {
    /// Samples what is in view, with the highest density that keeps the filter within `budget`.
    /// Returns `None` for an empty tree, of which there is nothing to say.
    ///
    /// `seed` must be drawn at random for each request.
    ///
    /// What is sampled near a declared height is found by walking down from the tips, what is
    /// sampled below by the [landmarks](DagView::landmarks): the cost grows with the budget and the
    /// number of tips, not with the history. At most [`FILTER_VISITS_MAX`] entries are read; what
    /// would be found beyond is left out. So are entries in the dense zone of a low declared height
    /// that lie on branches which the walk does not come down to.
    ///
    /// # Errors
    /// Those of the view.
    pub fn build<V: DagView + ?Sized>(
        view: &V,
        seed: [u8; 8],
        budget: FilterBudget,
    ) -> Result<Option<Self>, V::Error> {
        let tips = view.tips()?;
        let tips = tips
            .into_iter()
            .rev()
            .take(FILTER_VISITS_MAX)
            .map(|tip| Ok((tip, view.node(tip)?)))
            .collect::<Result<Vec<_>, _>>()?;
        let heights = heights_to_declare(tips.iter().map(|(_, node)| node.height));
        if heights.is_empty() {
            return Ok(None);
        }
        let mut filter = Self {
            seed,
            height_steps: height_steps(&heights),
            density: DENSITY_MAX,
            count: FILTER_ENTRIES_MAX as u32,
            bits: Vec::new(),
        };
        // The length of the bits takes up to three bytes, of which one is counted already.
        let room = budget.entries_beside(filter.encoded_bytes() + 2);
        let mut sampler = Sampler::new(view, heights);
        for (tip, node) in tips {
            sampler.find(tip, node);
        }
        let (density, ids) = sampler.sample(room)?;
        filter.density = density;
        filter.count = ids.len() as u32;
        let mut fingerprints: Vec<u64> = ids
            .iter()
            .map(|id| fingerprint(seed, id, filter.count))
            .collect();
        fingerprints.sort_unstable();
        filter.bits = encode(&fingerprints);
        Ok(Some(filter))
    }
}

/// Chooses the heights to declare, given those of the tips from the latest arrival to the first:
/// the highest, and the latest others. Returns them strictly descending.
fn heights_to_declare(latest_first: impl Iterator<Item = u32> + Clone) -> Vec<u32> {
    let mut heights: Vec<u32> = latest_first.clone().max().into_iter().collect();
    for height in latest_first {
        if heights.len() == DECLARED_HEIGHTS_MAX {
            break;
        }
        if !heights.contains(&height) {
            heights.push(height);
        }
    }
    heights.sort_unstable_by_key(|height| Reverse(*height));
    heights
}

/// Finds entries in the order of the density that they need.
///
/// One heap holds everything that can be done next, by the density from which on it matters.
/// Taking the least again and again grows the density step by step until the filter is full.
struct Sampler<'a, V: ?Sized> {
    view: &'a V,
    /// Declared heights, strictly descending.
    heights: Vec<u32>,
    seen: HashSet<Arrival>,
    /// What the walk has found.
    found: Vec<Node>,
    ahead: BinaryHeap<Reverse<(u64, Step)>>,
}

/// What can be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Put this found entry in.
    Take(usize),
    /// Look at the parents of this found entry.
    Descend(usize),
    /// Put the landmarks of this height in, and go on with the next lower height that has as many
    /// trailing zero bits and the same declared height above it.
    Landmarks { zone: usize, height: u32 },
}

impl<'a, V: DagView + ?Sized> Sampler<'a, V> {
    /// Starts without tips. `heights` are the declared ones.
    fn new(view: &'a V, heights: Vec<u32>) -> Self {
        let mut sampler = Self {
            view,
            heights,
            seen: HashSet::new(),
            found: Vec::new(),
            ahead: BinaryHeap::new(),
        };
        for zone in 0..sampler.heights.len() {
            for zeros in LANDMARK_INTERVAL.ilog2()..u32::BITS {
                let top = sampler.heights[zone] >> zeros;
                // The highest odd multiple that is not above the declared height.
                if let Some(odd) = top.checked_sub(u32::from(top.is_multiple_of(2))) {
                    sampler.plan_landmarks(zone, odd << zeros);
                }
            }
        }
        sampler
    }

    /// Notes an entry that the walk came to.
    fn find(&mut self, at: Arrival, node: Node) {
        if !self.seen.insert(at) {
            return;
        }
        let Some(depth) = depth(&self.heights, node.height) else {
            debug_assert!(false, "the highest tip is declared");
            return;
        };
        let index = self.found.len();
        // The root needs no fingerprint, and landmarks are found by their index.
        if !node.height.is_multiple_of(LANDMARK_INTERVAL) {
            let needed = density_needed(node.height, depth);
            self.ahead.push(Reverse((needed, Step::Take(index))));
        }
        // What lies deeper than this is found by its landmarks alone until the density is such that
        // heights with the most trailing zeros that a landmark lacks are sampled here.
        let needed = density_needed(LANDMARK_INTERVAL / 2, depth);
        self.ahead.push(Reverse((needed, Step::Descend(index))));
        self.found.push(node);
    }

    /// Plans to look at the landmarks of a height, if it lies in the zone.
    fn plan_landmarks(&mut self, zone: usize, height: u32) {
        let below = self.heights.get(zone + 1).copied().unwrap_or(0);
        if height > below {
            let needed = density_needed(height, self.heights[zone] - height);
            let step = Step::Landmarks { zone, height };
            self.ahead.push(Reverse((needed, step)));
        }
    }

    /// Returns the highest density at which there are no more than `room` entries, and these.
    fn sample(mut self, room: usize) -> Result<(u32, Vec<EntryId>), V::Error> {
        let mut taken: Vec<(u64, EntryId)> = Vec::new();
        while let Some(Reverse((density, step))) = self.ahead.pop() {
            if taken.len() > room || density > u64::from(DENSITY_MAX) {
                break;
            }
            match step {
                Step::Take(index) => taken.push((density, self.found[index].id)),
                Step::Descend(index) => self.descend(index)?,
                Step::Landmarks { zone, height } => {
                    let ids = self.view.landmarks(height, room + 1 - taken.len())?;
                    taken.extend(ids.into_iter().map(|id| (density, id)));
                    let step = 2_u64 << height.trailing_zeros();
                    if let Some(next) = u64::from(height).checked_sub(step) {
                        self.plan_landmarks(zone, next as u32);
                    }
                }
            }
        }
        if taken.len() > room {
            // One step too far: without the density that was too much, or, where even the declared
            // heights have more entries than there is room for, with some of these.
            let last = taken.iter().map(|(density, _)| *density).max();
            let beyond = last.unwrap_or(0).max(1);
            taken.retain(|(density, _)| *density < beyond);
            taken.truncate(room);
        }
        let density = taken.iter().map(|(density, _)| *density).max();
        let ids = taken.into_iter().map(|(_, id)| id).collect();
        Ok((density.unwrap_or(0) as u32, ids))
    }

    /// Finds the parents of a found entry.
    fn descend(&mut self, index: usize) -> Result<(), V::Error> {
        let parents = std::mem::take(&mut self.found[index].parents);
        for parent in parents {
            if self.found.len() >= FILTER_VISITS_MAX {
                break;
            }
            if !self.seen.contains(&parent) {
                let node = self.view.node(parent)?;
                self.find(parent, node);
            }
        }
        Ok(())
    }
}
