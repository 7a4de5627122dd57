//! The output opens in other people's programs: pyarrow, DuckDB, NumPy. The checks are in `readers.py`.

use std::path::Path;
use std::process::Command;

use dataset::{ExportFormat, OutputDtype};

use crate::harness::TestEnv;
use crate::harness::corpora::{self, sentences};

#[test]
fn other_programs_read_the_output() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("build/venv/bin/python");
    assert!(python.is_file(), "`{}` is missing: run `make setup`", python.display());
    let env = TestEnv::new();
    let mut csv = corpora::csv(&sentences(200));
    csv.push_str("200,,🌮\n");
    env.write("a.csv", csv);
    env.run_ok("a.csv", "one.parquet", &["--shard-rows", "64"]);
    let mut targets = vec![env.path("one.parquet")];
    for dtype in OutputDtype::ALL.iter().map(ToString::to_string) {
        env.run_ok("a.csv", &dtype, &["--shard-rows", "64", "--output-dtype", &dtype]);
        targets.push(env.path(&dtype));
        for format in ExportFormat::ALL {
            let (format, out) = (format.to_string(), format!("{dtype}.{format}"));
            env.encaje(["export", &dtype, "--format", &format, "--out", &out]).expect_code(0);
            targets.push(env.path(&out));
        }
    }
    let output = Command::new(python).arg(root.join("tests/readers.py")).args(targets).output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
