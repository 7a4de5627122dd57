//! Runs the tests of the Python package, one of Rust's per file, on the module that Cargo has just built.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testkit::s3::{BUCKET, S3Server};

/// Runs a test for each file of `python/tests`, named as it is.
macro_rules! files {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            pytest(concat!("python/tests/", stringify!($name), ".py"));
        })+

        const FILES: &[&str] = &[$(stringify!($name)),+];
    };
}

files! {
    test_client, test_embed, test_engines, test_files, test_maps, test_model, test_notebook, test_program, test_typing,
    test_urls,
}

#[test]
fn examples_in_docstrings() {
    pytest("python/package/encaje");
}

#[test]
fn every_file_is_run() {
    let files = std::fs::read_dir(root().join("python/tests")).unwrap();
    let mut found: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    found.retain(|name| name.starts_with("test_"));
    found.sort();
    assert_eq!(found, FILES.iter().map(|name| format!("{name}.py")).collect::<Vec<_>>());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The package as it is installed: its files, and the module beside this test.
fn package() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path().join("encaje");
    std::fs::create_dir(&package).unwrap();
    for file in std::fs::read_dir(root().join("python/package/encaje")).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            std::os::unix::fs::symlink(file.path(), package.join(file.file_name())).unwrap();
        }
    }
    let module = std::env::current_exe().unwrap().with_file_name("lib_encaje.so");
    assert!(module.exists(), "Cargo has built no `{}`", module.display());
    std::os::unix::fs::symlink(module, package.join("_encaje.abi3.so")).unwrap();
    dir
}

fn pytest(tests: &str) {
    let python = root().join("build/python/bin/python");
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI must have the packages: sh scripts/setup.sh wheel");
        eprintln!("skipped: no `{}`; sh scripts/setup.sh wheel makes it", python.display());
        return;
    }
    let package = package();
    // The examples are those of the package that is tested, which has the module. No `conftest.py` above it is read.
    let (tests, top) = match tests.strip_prefix("python/package") {
        Some(below) => (package.path().join(below.trim_start_matches('/')), package.path().to_owned()),
        None => (root().join(tests), root().join("python")),
    };
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "-p", "no:cacheprovider", "--confcutdir"]).arg(top);
    command.arg("--config-file").arg(root().join("pyproject.toml")).args(["-p", "conftest"]).arg(tests);
    // One test writes to a bucket.
    let server = S3Server::start();
    command.envs(server.environment()).env("ENCAJE_TEST_BUCKET", format!("s3://{BUCKET}/python"));
    let paths = [package.path().to_owned(), root().join("python/tests")];
    command.env("PYTHONPATH", std::env::join_paths(paths).unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
    let status = command.current_dir(root()).status().unwrap();
    assert!(status.success(), "pytest ended with {status}");
}
