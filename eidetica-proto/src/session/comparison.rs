//! How a sync asks: which tips and which sample of its entries a request carries.

use eidetica_dag::{EntryId, EntryView, TreeId};

use crate::filter::{Filter, FilterBudget};
use crate::message::{Request, Sample, SyncTree};
use crate::outgoing::listed_tips;
use crate::tips::{EndTips, TIPS_CHECKED_MAX, TIPS_LISTED_MAX, TipDigest, TipSet, TipSketch};

/// Makes the requests of one sync that compare the trees.
pub(super) struct Comparison {
    tree: TreeId,
    seed: [u8; 8],
    sampling: Sampling,
    /// The tips that the last request sketched, in the order of the sketch.
    sketched: Vec<EntryId>,
}

/// How well a request samples the entries below the tips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sampling {
    /// Not at all: the trees are probably equal.
    None,
    /// For trees that differ in few of their tips.
    Small,
    /// As well as it gets.
    Full,
}

impl Comparison {
    pub(super) fn new(tree: TreeId, filter_at_once: bool, seed: [u8; 8]) -> Self {
        Self {
            tree,
            seed,
            sampling: match filter_at_once {
                true => Sampling::Small,
                false => Sampling::None,
            },
            sketched: Vec::new(),
        }
    }

    /// Makes the next request.
    pub(super) fn request<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
        wants: Vec<EntryId>,
    ) -> Result<Request, V::Error> {
        let (tips, sample) = self.name_tips(view, wants.len())?;
        // Another request, another seed: a false positive does not repeat.
        self.seed = u64::from_le_bytes(self.seed).wrapping_add(1).to_le_bytes();
        Ok(Request::SyncTree(SyncTree {
            tree: self.tree,
            tips,
            sample,
            wants,
        }))
    }

    /// Samples better from here on, as the peer wishes. Returns `false` if the sample was as good
    /// as it gets.
    pub(super) fn sample_better(&mut self) -> bool {
        self.sampling = match self.sampling {
            Sampling::None => Sampling::Small,
            Sampling::Small => Sampling::Full,
            Sampling::Full => return false,
        };
        true
    }

    /// Samples from here on, because the trees differ.
    pub(super) fn sample(&mut self) {
        self.sampling = self.sampling.max(Sampling::Small);
    }

    /// Returns the peer's tips, ascending, as the answer to the last request names them.
    pub(super) fn resolve(&self, tips: EndTips) -> Vec<EntryId> {
        tips.resolve(&self.sketched)
    }

    /// Chooses how the request names the tips and samples the entries below them, beside the ids that
    /// it names otherwise.
    fn name_tips<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
        ids: usize,
    ) -> Result<(TipSet, Sample), V::Error> {
        let digest = TipDigest::of_view(view)?;
        let tips = listed_tips(view)?;
        let count = tips.len();
        if self.sampling == Sampling::None {
            let tips = match count <= TIPS_CHECKED_MAX {
                true => TipSet::Listed(tips),
                false => TipSet::Digest(digest),
            };
            return Ok((tips, Sample::None));
        }
        let full = FilterBudget::for_tips(count).beside(ids);
        let small = FilterBudget::small_for_tips(count).beside(ids);
        if small == full {
            self.sampling = Sampling::Full;
        }
        let budget = match self.sampling {
            Sampling::Full => full,
            Sampling::None | Sampling::Small => small,
        };
        // An empty tree has no filter: no tips ask for everything.
        let sample = match Filter::build(view, self.seed, budget)? {
            None => Sample::None,
            Some(filter) if self.sampling == Sampling::Full => Sample::Full(filter),
            Some(filter) => Sample::Small(filter),
        };
        if count <= TIPS_LISTED_MAX {
            return Ok((TipSet::Listed(tips), sample));
        }
        let (sketch, sketched) = TipSketch::new(digest, &tips, self.seed);
        self.sketched = sketched;
        Ok((TipSet::Sketch(sketch), sample))
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::dag_of;
    use eidetica_dag::testing::shapes::build_with;

    use super::*;
    use crate::message::RequestHeader;

    /// The most for up to eight tips.
    const REQUEST_BYTES_MAX: usize = 700;

    #[test]
    fn a_request_with_few_tips_keeps_its_size_beside_other_ids() {
        // A line that ends in a fan, so that no budget takes everything.
        let line = 3_000;
        for tip_count in 1..=8 {
            let mut parents: Vec<Vec<u32>> = vec![vec![]];
            parents.extend((0..line).map(|n| vec![n]));
            parents.extend((0..tip_count).map(|_| vec![line]));
            let entries = build_with(&parents, |n| n % 2, |n| n.to_le_bytes().to_vec().into());
            let ids: Vec<EntryId> = entries.iter().map(|it| it.get().id()).take(9).collect();
            let dag = dag_of(entries);
            // With more, the least size of a filter would exceed it.
            for wants in 0..=(12 - tip_count as usize).min(9) {
                let mut comparison = Comparison::new(dag.tree(), true, *b"a seed!!");
                let Ok(request) = comparison.request(&dag, ids[..wants].to_vec());
                let Request::SyncTree(SyncTree { sample, .. }) = &request else {
                    panic!("{request:?}");
                };
                assert!(matches!(sample, Sample::Full(_)), "{sample:?}");
                let bytes = RequestHeader::new(request).encode().len();
                assert!(bytes <= REQUEST_BYTES_MAX, "{bytes} with {tip_count} tips");
                // The budget is used as far as a filter's steps allow.
                assert!(
                    bytes >= REQUEST_BYTES_MAX - 100,
                    "{bytes} with {tip_count} tips"
                );
            }
        }
    }
}
