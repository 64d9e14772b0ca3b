//! Several views of one thing, each with its p-value and its share of the budget for false alarms.
//!
//! The weighted Bonferroni rule: the smallest *p / share*, where the shares add up to one. Whatever depends on whatever, something
//! normal falls below *p* with a probability of at most *p* (C. R. Genovese, K. Roeder, L. Wasserman: *False discovery control with p-value
//! weighting*, Biometrika 93, 2006). A view that sees nothing costs the others no more than its share, which a sum of scores
//! does not promise.

/// The p-value of all views together, at most 1, and which of them decided. Views of no share are not heard; if none is, it
/// is 1.
#[must_use]
pub fn fuse(views: &[(f64, f64)]) -> (f64, Option<usize>) {
    let shares: f64 = views.iter().map(|&(_, share)| share.max(0.0)).sum();
    let heard = views
        .iter()
        .enumerate()
        .filter(|&(_, &(p, share))| share > 0.0 && !p.is_nan());
    let smallest = heard
        .map(|(view, &(p, share))| (p * shares / share, view))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    match smallest {
        Some((p, view)) => (p.min(1.0), Some(view)),
        None => (1.0, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_view_that_is_the_most_surprised_for_its_share_decides() {
        assert_eq!(fuse(&[(0.01, 0.5), (0.004, 0.25), (0.5, 0.25)]), (0.016, Some(1)));
        assert_eq!(fuse(&[(0.9, 0.5), (0.8, 0.5)]), (1.0, Some(1)));
        assert_eq!(fuse(&[(0.0, 0.0), (0.2, 1.0)]), (0.2, Some(1)));
        assert_eq!(fuse(&[(f64::NAN, 1.0)]), (1.0, None));
        assert_eq!(fuse(&[]), (1.0, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// With independent views the share below p is 1 − ∏ (1 − p · share), which is what a grid of their p-values gives.
        #[test]
        fn something_normal_is_not_flagged_more_often_than_promised(share in 0.05_f64..0.95, p in 0.01_f64..0.5) {
            let grid = 100;
            let mut flagged = 0;
            for a in 0..grid {
                for b in 0..grid {
                    let at = |view: i32| (f64::from(view) + 0.5) / f64::from(grid);
                    flagged += u32::from(fuse(&[(at(a), share), (at(b), 1.0 - share)]).0 <= p);
                }
            }
            prop_assert!(f64::from(flagged) / f64::from(grid * grid) <= p + 0.02);
        }
    }
}
