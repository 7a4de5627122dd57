//! A nasty CSV file against what Python's csv module reads from it (`testdata/csv/make.py`).

use dataset::RejectReason;

use crate::harness::Corpus;

#[test]
fn an_unusual_csv_reads_as_in_python() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/csv");
    let bytes = std::fs::read(format!("{folder}/nasty.csv")).unwrap();
    let golden = std::fs::read(format!("{folder}/nasty.json")).unwrap();
    let golden: Vec<Vec<String>> = serde_json::from_slice(&golden).unwrap();
    for limits in [(1, 1), (3, 1000), (1000, 1 << 20)] {
        let outcome = Corpus::of("nasty.csv", &bytes).limits(limits.0, limits.1).read();
        assert_eq!(outcome.planned[0].header, golden[0]);
        assert_eq!(outcome.rows.len(), golden.len() - 1);
        for (row, expected) in outcome.rows.iter().zip(&golden[1..]) {
            let fields: Vec<Option<String>> = (0..3).map(|index| expected.get(index).cloned()).collect();
            assert_eq!(row.kept, fields);
            let text = match expected.len() {
                3 if expected[1].trim().is_empty() => Err(RejectReason::EmptyText),
                3 => Ok(expected[1].clone()),
                _ => Err(RejectReason::MalformedRecord),
            };
            assert_eq!(row.text, text, "row {}", row.row);
        }
    }
}
