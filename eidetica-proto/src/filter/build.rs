//! Choosing what goes into a filter, without scanning the history.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use eidetica_dag::{Arrival, DagView, EntryId, LANDMARK_INTERVAL, Node};

use super::format::{DECLARED_HEIGHTS_MAX, FILTER_ENTRIES_MAX, Filter, height_steps};
use super::golomb::{Code, encode};
use super::sampling::density_needed;

/// Most entries that [`Filter::build`] reads one by one. It reads three to five for each entry of
/// the filter; a tree that needs more than this is so wide that its dense zone is hardly worth
/// completing.
pub const FILTER_VISITS_MAX: usize = 65_536;

/// Most bytes of a request with up to eight tips, authentication not counted.
const REQUEST_BYTES_MAX: usize = 700;

/// Bytes of a request beside its tips and its filter: the tree's id and a header.
const REQUEST_HEAD_BYTES: usize = 32 + 24;

/// Bytes of a listed tip, or of another id in the same request.
const ID_BYTES: usize = 32;

/// Least bytes of a filter beside other ids: about fifty entries. Fewer would hardly help.
const FILTER_BYTES_MIN: usize = 128;

/// Up to this many tips share [`REQUEST_BYTES_MAX`] with the filter.
const FEW_TIPS_MAX: usize = 8;

/// Most entries in a filter with few tips.
const FEW_TIPS_ENTRIES_MAX: usize = 256;

/// Entries in a filter for each tip where there are many.
const ENTRIES_PER_TIP: usize = 8;

/// Least entries in a small filter, if there are enough tips. They take 6 kB. With up to 256 tips the
/// small filter is the full one, so that those always take one round trip.
const SMALL_ENTRIES_MIN: usize = 2_048;

/// How large a filter may become. Both limits hold.
///
/// Where a thousand tips are known to differ little, a quarter of what [`for_tips`](Self::for_tips)
/// gives is enough: with two entries for each tip, nearly all of them go to the latest.
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
                bytes: REQUEST_BYTES_MAX - REQUEST_HEAD_BYTES - ID_BYTES * tip_count,
            };
        }
        let entries = tip_count.saturating_mul(ENTRIES_PER_TIP);
        Self {
            entries: entries.clamp(FEW_TIPS_ENTRIES_MAX, FILTER_ENTRIES_MAX),
            bytes: usize::MAX,
        }
    }

    /// Returns what this budget leaves if the request names so many ids beside its tips.
    pub fn beside(self, ids: usize) -> Self {
        let bytes = self.bytes.saturating_sub(ids.saturating_mul(ID_BYTES));
        Self {
            bytes: bytes.max(FILTER_BYTES_MIN),
            ..self
        }
    }

    /// Returns the budget for a request with many tips of which few differ from the server's: a
    /// quarter of what [`for_tips`](Self::for_tips) gives, with room for
    /// 2,048 entries.
    pub fn small_for_tips(tip_count: usize) -> Self {
        let Self { entries, bytes } = Self::for_tips(tip_count);
        Self {
            entries: (entries / 4).max(SMALL_ENTRIES_MIN).min(entries),
            bytes,
        }
    }

    /// Returns how many entries fit beside parameters of `parameter_bytes`, whatever their
    /// fingerprints turn out to be.
    fn entries_beside(self, parameter_bytes: usize, tries: Tries) -> usize {
        let room_bits = (self.bytes.saturating_sub(parameter_bytes) as u64).saturating_mul(8);
        // The code grows with the number of entries, so the numbers that fit are the low ones.
        let (mut fits, mut beyond) = (0, self.entries.min(FILTER_ENTRIES_MAX) + 1);
        while beyond - fits > 1 {
            let middle = fits.midpoint(beyond);
            if tries.code_for(middle as u32).bits_max() <= room_bits {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        fits
    }
}

/// How many entries that the client lacks the server is expected to try on the filter. Each has
/// the same chance of being taken for a known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// About as many as are in the filter: only sampled ones are tried.
    LikeEntries,
    /// All that the client lacks.
    All,
}

impl Tries {
    /// Least length of a fingerprint where only sampled entries are tried. Filters of so few
    /// entries that fewer bits would suffice are small anyway.
    const BITS_MIN_SAMPLED: u32 = 16;
    /// Least length of a fingerprint where every entry is tried: a false positive in one of two
    /// hundred exchanges in which 10,000 entries were missing.
    const BITS_MIN_ALL: u32 = 21;
    /// How many bits a fingerprint has at least beyond those that count the entries: if as many
    /// foreign entries are tried as there are in the filter, one filter in `2^9 = 512` has a false
    /// positive, however large it is.
    const SAFETY_BITS: u32 = 9;

    /// Where every entry is tried, the client may sample each branch as densely as it likes. What
    /// was written lately is what others lack, so the branch of the `rank`-th latest tip is sampled
    /// this many times more densely than the earliest ones: by a share of the room that falls as
    /// one over the rank (Zipf's law), and that is the larger the less room each tip has. With a
    /// thousand tips and eight entries for each, it comes to a third of the filter.
    fn boost(self, rank: usize, tip_count: usize, room: usize) -> u64 {
        let (rank, tip_count, room) = (rank as u64 + 1, tip_count as u64, room.max(1) as u64);
        match self {
            Self::LikeEntries => 1,
            Self::All => 1 + tip_count * tip_count / (2 * room * rank),
        }
    }

    fn code_for(self, count: u32) -> Code {
        let count_bits = count.max(1).next_power_of_two().ilog2();
        let least = match self {
            Self::LikeEntries => Self::BITS_MIN_SAMPLED,
            Self::All => Self::BITS_MIN_ALL,
        };
        let fingerprint_bits = least.max(Self::SAFETY_BITS + count_bits);
        Code {
            count,
            fingerprint_bits,
        }
    }
}

impl Filter {
    /// Samples the entries in view, with the highest density that keeps the filter within `budget`.
    /// Returns `None` for an empty tree.
    ///
    /// `seed` must be drawn at random for each request. The tips themselves are not in the filter:
    /// the request names them beside it.
    ///
    /// What is sampled near a tip is found by walking down from it, what is sampled below by the
    /// [landmarks](DagView::landmarks): the cost grows with the budget and the number of tips, not
    /// with the history. It reads at most [`FILTER_VISITS_MAX`] entries and leaves out what it would
    /// find beyond.
    ///
    /// # Errors
    /// Those of the view.
    pub fn build<V: DagView + ?Sized>(
        view: &V,
        seed: [u8; 8],
        budget: FilterBudget,
    ) -> Result<Option<Self>, V::Error> {
        let latest_first = view.tips()?.into_iter().rev();
        let tips = latest_first
            .take(FILTER_VISITS_MAX)
            .map(|tip| Ok((tip, view.node(tip)?)))
            .collect::<Result<Vec<_>, _>>()?;
        let heights = heights_of_interest(tips.iter().map(|(_, node)| node.height));
        let Some(highest) = heights.first().copied() else {
            return Ok(None);
        };
        // Where the tips have too many heights to declare, every height is tried.
        let all_declared = tips.iter().all(|(_, node)| heights.contains(&node.height));
        let (tries, declared) = if all_declared {
            (Tries::LikeEntries, heights.as_slice())
        } else {
            (Tries::All, &[highest][..])
        };
        let mut filter = Self {
            seed,
            height_steps: height_steps(declared),
            density: u32::MAX,
            count: FILTER_ENTRIES_MAX as u32,
            fingerprint_bits: 0,
            bits: Vec::new(),
        };
        // The length of the bits takes up to three bytes, of which one is counted already.
        let room = budget.entries_beside(filter.encoded_bytes() + 2, tries);
        let mut sampler = Sampler::new(view, &heights);
        let tip_count = tips.len();
        for (rank, (tip, node)) in tips.into_iter().enumerate() {
            let boost = tries.boost(rank, tip_count, room);
            sampler.start_at(tip, node, boost);
        }
        let (density, ids) = sampler.sample(room)?;
        let code = tries.code_for(ids.len() as u32);
        let mut fingerprints: Vec<u64> = ids.iter().map(|id| code.fingerprint(seed, id)).collect();
        fingerprints.sort_unstable();
        if tries == Tries::LikeEntries {
            filter.density = density;
        }
        filter.count = code.count;
        filter.fingerprint_bits = code.fingerprint_bits as u8;
        filter.bits = encode(code, &fingerprints);
        Ok(Some(filter))
    }
}

/// Chooses heights to declare, given those of the tips from the latest arrival to the first: the
/// highest, and the latest others. Returns them strictly descending.
fn heights_of_interest(latest_first: impl Iterator<Item = u32> + Clone) -> Vec<u32> {
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
///
/// The depth of an entry is measured here from a tip above it, and that of a landmark, whose
/// descendants are unknown, from the nearest of the given heights. Neither is less than the depth
/// that the server sees, so whatever is taken is also tried.
struct Sampler<'a, V: ?Sized> {
    view: &'a V,
    /// Strictly descending.
    heights: &'a [u32],
    seen: HashSet<Arrival>,
    /// What the walk has found.
    found: Vec<Found>,
    ahead: BinaryHeap<Reverse<(u64, Step)>>,
}

/// An entry that the walk came to, by a way that began at a tip `depth` higher up.
struct Found {
    node: Node,
    depth: u32,
    /// How many times more densely than others what lies below that tip is sampled.
    boost: u64,
}

/// What can be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Put this found entry in.
    Take(usize),
    /// Look at the parents of this found entry.
    Descend(usize),
    /// Put the landmarks of this height in, and go on with the next lower height that has as many
    /// trailing zero bits and lies in the same zone, between two of the heights of interest.
    Landmarks { zone: usize, height: u32 },
}

impl<'a, V: DagView + ?Sized> Sampler<'a, V> {
    fn new(view: &'a V, heights: &'a [u32]) -> Self {
        let mut sampler = Self {
            view,
            heights,
            seen: HashSet::new(),
            found: Vec::new(),
            ahead: BinaryHeap::new(),
        };
        for (zone, top) in heights.iter().enumerate() {
            for zeros in LANDMARK_INTERVAL.ilog2()..u32::BITS {
                // The highest odd multiple of the power of two that is not above the zone.
                let multiple = top >> zeros;
                let odd = multiple.checked_sub(u32::from(multiple.is_multiple_of(2)));
                if let Some(odd) = odd {
                    sampler.plan_landmarks(zone, odd << zeros);
                }
            }
        }
        sampler
    }

    /// Lets the walk begin at a tip, which itself is not sampled.
    fn start_at(&mut self, tip: Arrival, node: Node, boost: u64) {
        self.seen.insert(tip);
        self.ahead
            .push(Reverse((0, Step::Descend(self.found.len()))));
        self.found.push(Found {
            node,
            depth: 0,
            boost,
        });
    }

    /// Notes an entry that the walk came to.
    fn find(&mut self, found: Found) {
        let index = self.found.len();
        let Found { node, depth, boost } = &found;
        let needed = |height| density_needed(height, *depth) / boost;
        // The root needs no fingerprint.
        if node.height > 0 {
            let step = Step::Take(index);
            self.ahead.push(Reverse((needed(node.height), step)));
        }
        // Until the density is this high, landmarks alone are sampled from here on downwards.
        let step = Step::Descend(index);
        self.ahead
            .push(Reverse((needed(LANDMARK_INTERVAL / 2), step)));
        self.found.push(found);
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

    /// Returns the `room` entries that need the least density, or all that may be sampled, and the
    /// density with which all of these are.
    ///
    /// Where not all entries of the last density fit, those of the latest tips are in.
    fn sample(mut self, room: usize) -> Result<(u32, Vec<EntryId>), V::Error> {
        let mut density = 0;
        let mut ids = Vec::new();
        let mut is_in: HashSet<EntryId> = self.tip_ids();
        while ids.len() < room
            && let Some(Reverse((needed, step))) = self.ahead.pop()
            && let Ok(needed) = u32::try_from(needed)
        {
            let before = ids.len();
            match step {
                Step::Take(index) => {
                    let id = self.found[index].node.id;
                    ids.extend(is_in.insert(id).then_some(id));
                }
                Step::Descend(index) => self.descend(index)?,
                Step::Landmarks { zone, height } => {
                    let room_left = room - ids.len();
                    // Some of them may be in already.
                    let landmarks = self.view.landmarks(height, room_left + is_in.len())?;
                    let others = landmarks.into_iter().filter(|id| is_in.insert(*id));
                    ids.extend(others.take(room_left));
                    let step = 2_u64 << height.trailing_zeros();
                    if let Some(next) = u64::from(height).checked_sub(step) {
                        self.plan_landmarks(zone, next as u32);
                    }
                }
            }
            // An entry found late, below a merge with an old branch, may need less than those
            // before it.
            if ids.len() > before {
                density = density.max(needed);
            }
        }
        Ok((density, ids))
    }

    /// Returns the ids of what the walk has found: at first, the tips.
    fn tip_ids(&self) -> HashSet<EntryId> {
        self.found.iter().map(|tip| tip.node.id).collect()
    }

    /// Finds the parents of a found entry.
    fn descend(&mut self, index: usize) -> Result<(), V::Error> {
        let child = &mut self.found[index];
        let (tip_height, boost) = (child.node.height + child.depth, child.boost);
        for parent in std::mem::take(&mut child.node.parents) {
            if self.found.len() >= FILTER_VISITS_MAX {
                break;
            }
            if self.seen.insert(parent) {
                let node = self.view.node(parent)?;
                let depth = tip_height - node.height;
                self.find(Found { node, depth, boost });
            }
        }
        Ok(())
    }
}
