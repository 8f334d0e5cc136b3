//! Which heights are sampled: the rule on which both sides agree.

/// How many units of density make `c = 1`.
pub(super) const DENSITY_UNIT: u32 = 16;

/// Declared heights and a density, which together determine the sample.
#[derive(Debug, Clone)]
pub(super) struct Sampling {
    /// Strictly descending.
    heights: Vec<u32>,
    density: u32,
}

impl Sampling {
    pub(super) fn new(heights: Vec<u32>, density: u32) -> Self {
        Self { heights, density }
    }

    /// Tells whether the entries of this height are sampled.
    pub(super) fn includes(&self, height: u32) -> bool {
        depth(&self.heights, height)
            .is_some_and(|depth| density_needed(height, depth) <= u64::from(self.density))
    }
}

/// Returns the distance from `height` up to the nearest of the `declared` heights (descending), or
/// `None` above them all.
pub(super) fn depth(declared: &[u32], height: u32) -> Option<u32> {
    let at_or_above = declared.partition_point(|declared| *declared >= height);
    let nearest = declared[..at_or_above].last()?;
    Some(nearest - height)
}

/// Returns the least density, in sixteenths, with which entries at this height and depth are
/// sampled: the least with `depth <= density / 16 * 2^(trailing zero bits of height)`.
pub(super) fn density_needed(height: u32, depth: u32) -> u64 {
    let reach = 1_u64 << height.trailing_zeros();
    (u64::from(depth) * u64::from(DENSITY_UNIT)).div_ceil(reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as the module says it: a stride that doubles as the depth doubles.
    fn sampled_by_stride(height: u32, depth: u32, c: u32) -> bool {
        let mut stride = 1;
        while depth > c * stride {
            stride *= 2;
        }
        height.is_multiple_of(stride)
    }

    #[test]
    fn the_rule_is_a_stride_that_doubles_as_the_depth_doubles() {
        let top = 10_007;
        for c in [1, 2, 3, 17, 100] {
            let sampling = Sampling::new(vec![top], c * DENSITY_UNIT);
            for height in 1..=top {
                assert_eq!(
                    sampling.includes(height),
                    sampled_by_stride(height, top - height, c),
                    "height {height}, c {c}"
                );
            }
        }
    }

    #[test]
    fn more_density_never_leaves_out_a_height() {
        for height in 1..500 {
            let needed = density_needed(height, 500 - height);
            for density in 0..8_100 {
                let sampling = Sampling::new(vec![500], density);
                assert_eq!(sampling.includes(height), u64::from(density) >= needed);
            }
        }
    }

    #[test]
    fn each_declared_height_begins_a_dense_zone() {
        let sampling = Sampling::new(vec![1_001, 501], DENSITY_UNIT);
        assert!(!sampling.includes(1_002), "nothing above the highest");
        assert!(sampling.includes(1_001) && sampling.includes(1_000));
        assert!(!sampling.includes(999));
        assert!(!sampling.includes(503) && sampling.includes(501));
    }

    #[test]
    fn extreme_heights_do_not_overflow() {
        let all = Sampling::new(vec![u32::MAX], u32::MAX);
        assert!(all.includes(u32::MAX) && all.includes(1 << 31) && all.includes(0));
        assert_eq!(
            density_needed(1, u32::MAX - 1),
            16 * (u64::from(u32::MAX) - 1)
        );
    }
}
