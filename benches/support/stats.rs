//! Medians, percentiles, and runs that are compared in turn.

/// The value below which this share of the values lies; 0 of none.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).round() as usize).copied().unwrap_or(0.0)
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// What a sum of two independent quantities exceeds with probability `1 - share`, by drawing pairs of
/// samples.
pub fn percentile_of_sum(a: &[f64], b: &[f64], share: f64) -> f64 {
    let mut random = fastrand::Rng::with_seed(7);
    let draws = 4 * a.len().max(b.len());
    let draw = |values: &[f64], random: &mut fastrand::Rng| values.get(random.usize(..values.len())).copied();
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    let sums = (0..draws).filter_map(|_| Some(draw(a, &mut random)? + draw(b, &mut random)?));
    percentile(&sums.collect::<Vec<_>>(), share)
}

/// Measurements of two things, taken in turn.
#[derive(Debug, Default)]
pub struct Pairs {
    /// The one that is compared with.
    pub base: Vec<f64>,
    /// The one of interest.
    pub other: Vec<f64>,
}

impl Pairs {
    /// Adds a pair.
    pub fn push(&mut self, base: f64, other: f64) {
        self.base.push(base);
        self.other.push(other);
    }

    /// The ratio within each pair, so that what slows both slows neither.
    pub fn ratios(&self) -> Vec<f64> {
        self.base.iter().zip(&self.other).map(|(base, other)| other / base).collect()
    }
}
