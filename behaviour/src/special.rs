//! The functions of probability that the models need: logarithm of gamma, χ² from below, negative binomial from above.
//!
//! M. Abramowitz, I. A. Stegun: *Handbook of Mathematical Functions*, 1964: 6.1.41 for ln Γ, 6.5.29 and 6.5.31 for the incomplete gamma
//! function, 26.1.20 for the negative binomial distribution. Errors are below 1e-9, relative; terms that matter less are left out.

const TERMS: usize = 500;
const PRECISION: f64 = 1e-12;

/// ln Γ(x) for x > 0.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    // Stirling's series is exact enough from 8 on; below, Γ(x) = Γ(x + n) / (x (x + 1) … (x + n − 1)).
    let (mut x, mut product) = (x, 1.0);
    while x < 8.0 {
        product *= x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0
        - inverse
            * (1.0 / 360.0 - inverse * (1.0 / 1_260.0 - inverse * (1.0 / 1_680.0 - inverse / 1_188.0))))
        / x;
    let half_ln_two_pi = 0.918_938_533_204_672_8;
    (x - 0.5) * x.ln() - x + half_ln_two_pi + series - product.ln()
}

/// The chance that a χ² variable of `degrees` of freedom is at most `x`.
pub(crate) fn chi_squared_below(degrees: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let (a, x) = (degrees / 2.0, x / 2.0);
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for n in 1..TERMS {
            term *= x / (a + n as f64);
            sum += term;
            if term < sum * PRECISION {
                break;
            }
        }
        return (front * sum).min(1.0);
    }
    // Lentz's way through the continued fraction of the rest.
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for n in 1..TERMS {
        let n = n as f64;
        b += 2.0;
        let numerator = n * (a - n);
        d = 1.0 / (b + numerator * d);
        c = b + numerator / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() < PRECISION {
            break;
        }
    }
    (1.0 - front * fraction).clamp(0.0, 1.0)
}

/// ln of the chance of at least `count` events, where `seen` events in `exposures` intervals are all that is known of their rate: the
/// negative binomial distribution of shape `seen` and mean `seen / exposures`. For numbers above 0.
pub(crate) fn ln_at_least(count: f64, seen: f64, exposures: f64) -> f64 {
    if count <= 0.0 {
        return 0.0;
    }
    let ln_success = -(1.0 + exposures).ln();
    let ln_failure = (exposures / (1.0 + exposures)).ln();
    let ln_of =
        |k: f64| ln_gamma(seen + k) - ln_gamma(seen) - ln_gamma(k + 1.0) + k * ln_success + seen * ln_failure;
    let mean = seen / exposures;
    if count > mean {
        return ln_of(count) + sum_from(count, seen, ln_success.exp()).ln();
    }
    // Below the mean the tail is what the head leaves.
    let (mut head, mut k) = (0.0, count - 1.0);
    while k >= 0.0 {
        let part = ln_of(k).exp();
        head += part;
        if part < head * PRECISION {
            break;
        }
        k -= 1.0;
    }
    (1.0 - head).max(f64::MIN_POSITIVE).ln()
}

/// The terms from the `count`-th on, as multiples of that one.
fn sum_from(count: f64, seen: f64, success: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, count);
    // Above the mean each is smaller than the one before; far above, by much.
    for _ in 0..20 * TERMS {
        term *= (seen + k) / (k + 1.0) * success;
        sum += term;
        k += 1.0;
        if term < sum * PRECISION {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_of_whole_numbers_is_a_factorial_and_of_a_half_the_root_of_pi() {
        for (x, value) in [
            (1.0, 1.0_f64),
            (5.0, 24.0),
            (11.0, 3_628_800.0),
            (0.5, 1.772_453_850_905_516),
        ] {
            assert!((ln_gamma(x) - value.ln()).abs() < 1e-10, "{x}");
        }
    }

    /// Tabulated quantiles of χ².
    #[test]
    fn chi_squared_as_in_the_tables() {
        for (degrees, x, below) in [
            (1.0, 3.841_459, 0.95),
            (10.0, 3.940_299, 0.05),
            (10.0, 18.307_038, 0.95),
            (30.0, 14.953_457, 0.01),
            (30.0, 50.892_181, 0.99),
        ] {
            assert!(
                (chi_squared_below(degrees, x) - below).abs() < 1e-6,
                "{degrees} {x}"
            );
        }
        assert_eq!(chi_squared_below(3.0, 0.0), 0.0);
        assert_eq!(chi_squared_below(3.0, 1e6), 1.0);
    }

    /// With shape 1 it is geometric: P(K ≥ k) = (1 / (1 + exposures))^k.
    #[test]
    fn of_one_event_the_next_number_is_geometric() {
        for (count, exposures) in [(1.0, 3.0), (4.0, 0.1), (40.0, 10.0), (7.0, 1.0)] {
            let expected = -count * (1.0_f64 + exposures).ln();
            let found = ln_at_least(count, 1.0, exposures);
            assert!(
                (found - expected).abs() < 1e-8 * expected.abs().max(1.0),
                "{found} {expected}"
            );
        }
        assert_eq!(ln_at_least(0.0, 5.0, 5.0), 0.0);
        assert!(ln_at_least(3.0, 1_000.0, 10.0) > -1e-9);
    }
}
