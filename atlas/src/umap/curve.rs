//! The low-dimensional similarity `1 / (1 + a·d^(2b))`: a and b fitted to `min_dist` and `spread`.

const SAMPLES: usize = 300;
const STEPS_MAX: usize = 200;

/// Fits a and b by Levenberg-Marquardt; `umap_.find_ab_params`.
pub(super) fn fit(spread: f32, min_dist: f32) -> (f32, f32) {
    let (spread, min_dist) = (f64::from(spread), f64::from(min_dist));
    let samples: Vec<(f64, f64)> = (1..SAMPLES)
        .map(|step| 3.0 * spread * step as f64 / (SAMPLES - 1) as f64)
        .map(|x| (x, if x < min_dist { 1.0 } else { (-(x - min_dist) / spread).exp() }))
        .collect();
    let error =
        |a: f64, b: f64| -> f64 { samples.iter().map(|&(x, y)| (1.0 / (1.0 + a * x.powf(2.0 * b)) - y).powi(2)).sum() };
    let (mut a, mut b, mut damping) = (1.0, 1.0, 1e-3);
    for _ in 0..STEPS_MAX {
        let (mut haa, mut hab, mut hbb, mut ga, mut gb) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(x, y) in &samples {
            let power = x.powf(2.0 * b);
            let value = 1.0 / (1.0 + a * power);
            let (da, db) = (-value * value * power, -value * value * a * power * 2.0 * x.ln());
            haa += da * da;
            hab += da * db;
            hbb += db * db;
            ga += da * (value - y);
            gb += db * (value - y);
        }
        let (daa, dbb) = (haa * (1.0 + damping), hbb * (1.0 + damping));
        let determinant = daa * dbb - hab * hab;
        let (step_a, step_b) = ((dbb * ga - hab * gb) / determinant, (daa * gb - hab * ga) / determinant);
        if error(a - step_a, b - step_b) < error(a, b) {
            (a, b, damping) = (a - step_a, b - step_b, damping * 0.3);
            if step_a.abs() + step_b.abs() < 1e-12 {
                break;
            }
        } else {
            damping *= 10.0;
        }
    }
    (a as f32, b as f32)
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn default_curve_parameters_match_umap_learn() {
        let (a, b) = fit(1.0, 0.1);
        assert!((a - 1.576_943_5).abs() < 1e-3 && (b - 0.895_060_9).abs() < 1e-3, "{a} {b}");
    }
}
