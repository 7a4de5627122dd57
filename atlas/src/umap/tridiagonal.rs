//! Eigenvectors for the two largest eigenvalues of a symmetric tridiagonal matrix, as produced by Lanczos iteration.

const BISECTIONS: usize = 100;
const INVERSE_STEPS: usize = 4;

/// Returns the eigenvectors for the two largest eigenvalues: bisection on the Sturm count, then inverse iteration.
pub(super) fn top_two(diagonal: &[f64], off_diagonal: &[f64]) -> [Vec<f64>; 2] {
    let m = diagonal.len();
    let first = inverse_iteration(diagonal, off_diagonal, eigenvalue(diagonal, off_diagonal, 0), &[]);
    if m < 2 {
        return [first, vec![0.0; m]];
    }
    let second = inverse_iteration(diagonal, off_diagonal, eigenvalue(diagonal, off_diagonal, 1), &first);
    [first, second]
}

/// Returns the `rank`-th largest eigenvalue (0 the largest).
fn eigenvalue(diagonal: &[f64], off_diagonal: &[f64], rank: usize) -> f64 {
    let bound =
        diagonal.iter().map(|d| d.abs()).fold(0.0, f64::max) + 2.0 * off_diagonal.iter().copied().fold(0.0, f64::max);
    let (mut low, mut high) = (-bound - 1.0, bound + 1.0);
    for _ in 0..BISECTIONS {
        let middle = (low + high) / 2.0;
        if count_above(diagonal, off_diagonal, middle) > rank { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

fn count_above(diagonal: &[f64], off_diagonal: &[f64], shift: f64) -> usize {
    let mut pivot = 1.0;
    let mut above = 0;
    for (index, value) in diagonal.iter().enumerate() {
        let coupling = if index == 0 { 0.0 } else { off_diagonal[index - 1].powi(2) / pivot };
        pivot = value - shift - coupling;
        if pivot == 0.0 {
            pivot = -f64::EPSILON;
        }
        above += usize::from(pivot > 0.0);
    }
    above
}

/// Solves `(T - λ) v = v` repeatedly from a fixed start, orthogonal to `other`.
fn inverse_iteration(diagonal: &[f64], off_diagonal: &[f64], value: f64, other: &[f64]) -> Vec<f64> {
    let m = diagonal.len();
    let mut vector: Vec<f64> = (0..m).map(|index| 1.0 + 0.1 * (index as f64).sin()).collect();
    let shift = value + 1e-10;
    for _ in 0..INVERSE_STEPS {
        vector = solve_tridiagonal(diagonal, off_diagonal, shift, &vector);
        if !other.is_empty() {
            let along: f64 = vector.iter().zip(other).map(|(v, o)| v * o).sum();
            vector.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
        }
        let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|v| *v /= norm.max(f64::MIN_POSITIVE));
    }
    vector
}

/// Solves `(T - shift) x = right` by Gaussian elimination with partial pivoting.
fn solve_tridiagonal(diagonal: &[f64], off_diagonal: &[f64], shift: f64, right: &[f64]) -> Vec<f64> {
    let m = diagonal.len();
    // Each row holds the pivot column and the two after it.
    let mut rows: Vec<[f64; 3]> = (0..m)
        .map(|i| [diagonal[i] - shift, off_diagonal.get(i).copied().filter(|_| i + 1 < m).unwrap_or(0.0), 0.0])
        .collect();
    let mut x = right.to_vec();
    for i in 0..m.saturating_sub(1) {
        let mut below = [off_diagonal[i], rows[i + 1][0], rows[i + 1][1]];
        if below[0].abs() > rows[i][0].abs() {
            std::mem::swap(&mut rows[i], &mut below);
            x.swap(i, i + 1);
        }
        let factor = if rows[i][0] == 0.0 { 0.0 } else { below[0] / rows[i][0] };
        rows[i + 1] = [below[1] - factor * rows[i][1], below[2] - factor * rows[i][2], 0.0];
        x[i + 1] -= factor * x[i];
    }
    for i in (0..m).rev() {
        let known: f64 = (1..3).filter(|step| i + step < m).map(|step| rows[i][step] * x[i + step]).sum();
        let pivot = if rows[i][0].abs() < 1e-300 { 1e-300 } else { rows[i][0] };
        x[i] = (x[i] - known) / pivot;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::top_two;

    #[test]
    fn eigenvectors_of_a_path_graph_match_the_closed_form() {
        // 0 on the diagonal, 1 beside it: eigenvalue 2·cos(π·j/(m+1)), vector sin(π·j·i/(m+1)).
        let m = 9;
        let found = top_two(&vec![0.0; m], &vec![1.0; m - 1]);
        for (rank, vector) in found.iter().enumerate() {
            let exact = |i: usize| (std::f64::consts::PI * ((rank + 1) * (i + 1)) as f64 / (m + 1) as f64).sin();
            let norm = (0..m).map(|i| exact(i).powi(2)).sum::<f64>().sqrt();
            let cosine: f64 = (0..m).map(|i| vector[i] * exact(i) / norm).sum();
            assert!((cosine.abs() - 1.0).abs() < 1e-9, "{rank}: {cosine}");
        }
    }

    #[test]
    fn a_1x1_matrix_has_a_unit_eigenvector() {
        let [first, second] = top_two(&[0.5], &[]);
        assert_eq!((first[0].abs(), second[0]), (1.0, 0.0));
    }
}
