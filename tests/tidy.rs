//! House rules that no compiler checks: sizes of files and functions, who may depend on whom, twin migrations, links in
//! documents. Standard library only, so that `make tidy` can compile and run this file by itself in seconds.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Made by a program and checked by a test that makes it again.
const GENERATED: &[&str] = &["proto/src/generated.rs"];

/// The only files that may hold `unsafe` code.
const UNSAFE_FILES: &[&str] = &[
    "kernels/src/attention/avx512.rs",
    "kernels/src/attention/avx512_bf16.rs",
    "kernels/src/attention/mod.rs",
    "kernels/src/attention/query_block.rs",
    "kernels/src/matmul.rs",
    "kernels/src/slab.rs",
    "kernels/src/tile/mod.rs",
    "kernels/src/tile/x86.rs",
    // A setting of the C library's allocator.
    "cli/src/memory.rs",
    // The disposition of a signal.
    "cli/src/signals.rs",
    // A stream of Arrow comes from Python by a pointer.
    "python/src/arrow.rs",
    // Calls of NVIDIA's libraries, and of the kernels compiled for the host.
    "engine/src/cuda/driver.rs",
    "engine/src/cuda/emulated.rs",
    "engine/src/cuda/library.rs",
    "engine/src/cuda/products.rs",
];

/// What a crate must not link, directly or through others: (crate, forbidden names, names ending in `*` are prefixes).
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("spec", &["tokio", "arrow-*", "prost", "engine", "dataset", "proto"]),
    ("common", &["tokio", "arrow-*", "spec", "engine", "dataset", "proto"]),
    ("kernels", &["tokio", "candle-*", "serde", "engine", "dataset", "atlas"]),
    ("atlas", &["tokio", "clap", "indicatif", "candle-*", "tokenizers", "engine", "dataset", "proto"]),
    (
        "engine",
        &["atlas", "tokio", "hyper", "tonic", "ureq", "reqwest", "hf-hub", "object_store", "sqlx*", "dataset", "proto"],
    ),
    ("dataset", &["engine", "proto", "coordinator", "worker", "candle-*", "tokenizers", "sqlx*", "tonic*"]),
    ("proto", &["engine", "coordinator", "worker", "candle-*", "tokenizers", "sqlx*", "hf-hub"]),
    ("coordinator", &["engine", "worker", "candle-*", "tokenizers", "hf-hub"]),
    ("worker", &["coordinator", "sqlx*"]),
    ("encaje", &["openssl", "openssl-sys", "native-tls", "aws-lc-*", "pyo3"]),
    ("encaje-python", &["openssl", "openssl-sys", "native-tls", "aws-lc-*"]),
];

/// Libraries whose settings are arguments: only their tests read the environment.
const WITHOUT_ENVIRONMENT: &[&str] = &["spec/src", "kernels/src", "atlas/src", "dataset/src", "engine/src"];

// ---------------------------------------------------------------- files and functions

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for file in rust_files() {
        let lines = read(&file).lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{} has {lines} lines, more than {FILE_LINES_MAX}: split it by thought", shown(&file)));
        }
    }
    assert_none(&long);
}

#[test]
fn functions_fit_the_screen() {
    let mut long = Vec::new();
    for file in rust_files() {
        for (line, name, length) in functions(&read(&file)) {
            if length > FUNCTION_LINES_MAX {
                long.push(format!("{}:{line} `{name}` has {length} lines of code", shown(&file)));
            }
        }
    }
    assert_none(&long);
}

#[test]
fn long_functions_are_counted_as_clippy_counts() {
    let body = "        step();\n".repeat(80);
    let source = format!("impl Thing {{\n    pub async fn long(&self) {{\n{body}\n        // why\n    }}\n}}\n");
    assert_eq!(functions(&source), vec![(2, "long".to_owned(), 80)]);
}

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<String> = rust_files()
        .iter()
        .filter(|file| {
            let text = read(file);
            !text.starts_with("//!") && !text.starts_with("#![doc = include_str!(")
        })
        .map(|file| format!("{} does not open with `//!`", shown(file)))
        .collect();
    assert_none(&silent);
}

#[test]
fn unsafe_code_stays_where_it_is_listed() {
    // Written in two halves, so that this file does not find itself.
    let marks: Vec<String> =
        ["{", "fn", "impl", "extern", "trait"].map(|what| format!("{}safe {what}", "un")).into_iter().collect();
    let mut found = Vec::new();
    for file in rust_files() {
        let name = shown(&file);
        let has = code_lines(&read(&file)).any(|(_, line)| marks.iter().any(|mark| line.contains(mark.as_str())));
        if has && !UNSAFE_FILES.contains(&name.as_str()) {
            found.push(format!("{name} holds unsafe code and is not in UNSAFE_FILES of tests/tidy.rs"));
        }
    }
    assert_none(&found);
}

#[test]
fn libraries_read_no_environment() {
    let mark = format!("env::{}", "var");
    let mut found = Vec::new();
    for file in rust_files() {
        let name = shown(&file);
        let is_of_tests = ["test", "emulated"].iter().any(|word| name.contains(word));
        if is_of_tests || !WITHOUT_ENVIRONMENT.iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        if code_lines(&read(&file)).any(|(_, line)| line.contains(&mark)) {
            found.push(format!("{name} reads the environment: take the setting as an argument"));
        }
    }
    assert_none(&found);
}

#[test]
fn nothing_is_left_for_later() {
    let words = [format!("FIX{}", "ME"), format!("TO{}", "DO"), format!("XX{}", "X")];
    let phrases = [format!("to{}!(", "do"), format!("unimple{}!(", "mented"), format!("if embed{}", "ded")];
    let mut found = Vec::new();
    for file in text_files() {
        for (number, line) in read(&file).lines().enumerate() {
            for mark in
                words.iter().filter(|word| has_word(line, word)).chain(phrases.iter().filter(|p| line.contains(*p)))
            {
                found.push(format!("{}:{} says `{mark}`", shown(&file), number + 1));
            }
        }
    }
    assert_none(&found);
}

// ---------------------------------------------------------------- dependencies

#[test]
fn dependencies_point_one_way() {
    let mut found = Vec::new();
    for (package, forbidden) in FORBIDDEN {
        let linked = linked_by(package);
        assert!(linked.contains(*package), "`cargo tree` lists the package `{package}` itself");
        for name in &linked {
            if forbidden.iter().any(|rule| rule_matches(rule, name)) {
                found.push(format!("`{package}` links `{name}`: see it with `cargo tree -p {package} -i {name}`"));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn versions_are_declared_in_the_root_alone() {
    let mut found = Vec::new();
    for file in member_manifests() {
        let mut in_dependencies = false;
        for (number, line) in read(&file).lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
            } else if in_dependencies && line.contains('=') && !line.trim_start().starts_with('#') {
                let inherited = line.contains(".workspace = true") || line.contains("workspace = true");
                if !inherited {
                    found.push(format!("{}:{} is not `workspace = true`", shown(&file), number + 1));
                }
            }
        }
    }
    assert_none(&found);
}

#[test]
fn clippy_holds_every_crate_to_the_same_rules() {
    let clippy = read(&root().join("clippy.toml"));
    assert!(
        clippy.contains(&format!("too-many-lines-threshold = {FUNCTION_LINES_MAX}")),
        "clippy.toml agrees on length"
    );
    let manifest = read(&root().join("Cargo.toml"));
    for lint in
        ["unsafe_code = \"deny\"", "too_many_lines = \"warn\"", "unwrap_used = \"warn\"", "missing_docs = \"warn\""]
    {
        assert!(manifest.contains(lint), "Cargo.toml sets {lint}");
    }
    let lax: Vec<String> = member_manifests()
        .iter()
        .filter(|file| !read(file).contains("[lints]\nworkspace = true"))
        .map(|file| format!("{} does not take the workspace's lints", shown(file)))
        .collect();
    assert_none(&lax);
}

// ---------------------------------------------------------------- migrations, CI

#[test]
fn migrations_are_twins() {
    let names = |database: &str| -> BTreeSet<String> {
        let folder = root().join("migrations").join(database);
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{} cannot be listed: {error}", shown(&folder)));
        entries.map(|entry| entry.expect("a listed entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let (sqlite, postgres) = (names("sqlite"), names("postgres"));
    assert!(!sqlite.is_empty(), "there are migrations");
    assert_eq!(sqlite, postgres, "every migration exists for both databases under the same name");
    let numbers: BTreeSet<&str> = sqlite.iter().filter_map(|name| name.split('_').next()).collect();
    assert_eq!(numbers.len(), sqlite.len(), "no two migrations share a number");
}

#[test]
fn ci_runs_the_tests_and_ends_with_their_count() {
    assert!(read(&root().join(".ci/run")).contains("make test"), ".ci/run calls `make test`");
    let makefile = read(&root().join("Makefile"));
    let recipe: Vec<&str> = makefile
        .lines()
        .skip_while(|line| !line.starts_with("test:"))
        .skip(1)
        .take_while(|line| line.starts_with('\t'))
        .collect();
    let last = recipe.last().expect("`make test` has a recipe");
    assert!(last.contains("nextest run --workspace"), "the last thing that `make test` does is nextest, not `{last}`");
}

// ---------------------------------------------------------------- documents

#[test]
fn links_in_documents_lead_to_files() {
    let mut broken = Vec::new();
    for file in files_below(&root(), &["md"]) {
        for (number, line) in read(&file).lines().enumerate() {
            for target in link_targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                let folder = file.parent().expect("a file lies in a folder");
                if !path.is_empty() && !folder.join(path).exists() {
                    broken.push(format!("{}:{} links to `{target}`, which is not there", shown(&file), number + 1));
                }
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn documents_that_are_named_exist() {
    let known: BTreeSet<String> = files_below(&root(), &["md"])
        .iter()
        .map(|file| file.file_name().expect("a file has a name").to_string_lossy().into_owned())
        .collect();
    let mut unknown = Vec::new();
    for file in text_files() {
        for (number, line) in read(&file).lines().enumerate() {
            for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-')) {
                let name = word.trim_end_matches('.');
                let is_document =
                    name.strip_suffix(".md").is_some_and(|stem| stem.chars().all(|c| c.is_ascii_uppercase()));
                if is_document && name.len() > 3 && !known.contains(name) {
                    unknown.push(format!("{}:{} names `{name}`, which no reader can open", shown(&file), number + 1));
                }
            }
            for chapter in ["DESIGN", "RELIABILITY", "ENGINE", "STYLE", "CONTRACTS"] {
                if line.contains(&format!("{chapter} §")) || line.contains(&format!("{chapter} A.")) {
                    unknown.push(format!("{}:{} cites a chapter of `{chapter}`", shown(&file), number + 1));
                }
            }
        }
    }
    assert_none(&unknown);
}

#[test]
fn the_readme_names_targets_and_commands_that_exist() {
    let makefile = read(&root().join("Makefile"));
    let readme = read(&root().join("README.md"));
    let mut missing = Vec::new();
    for code in readme.split(['`', '\n']) {
        let Some(rest) = code.trim().strip_prefix("make ") else { continue };
        for target in rest.split_whitespace().take_while(|word| !word.starts_with('#')) {
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                missing.push(format!("README.md says `make {target}`, which the Makefile lacks"));
            }
        }
    }
    assert!(readme.contains("make demo"), "README.md shows `make demo`");
    assert_none(&missing);
}

#[test]
fn nothing_depends_on_one_machine() {
    let paths = ["work", "root"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for file in text_files() {
        for (number, line) in read(&file).lines().enumerate() {
            for path in paths.iter().filter(|path| starts_a_path(line, path)) {
                found.push(format!("{}:{} names the machine's `{path}`", shown(&file), number + 1));
            }
        }
    }
    assert_none(&found);
}

// ---------------------------------------------------------------- helpers

fn root() -> PathBuf {
    // Compiled by cargo, the manifest is cli/Cargo.toml; compiled by `make tidy`, the root is where it runs.
    match option_env!("CARGO_MANIFEST_DIR") {
        Some(cli) => Path::new(cli).parent().expect("cli/ lies in the workspace").to_path_buf(),
        None => env::current_dir().expect("there is a current folder"),
    }
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{} cannot be read: {error}", shown(file)))
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

fn rust_files() -> Vec<PathBuf> {
    files_below(&root(), &["rs"]).into_iter().filter(|file| !GENERATED.contains(&shown(file).as_str())).collect()
}

fn text_files() -> Vec<PathBuf> {
    let mut files = files_below(&root(), &["rs", "py", "sh", "sql", "proto", "toml", "md", "yaml", "yml"]);
    files.extend([root().join("Makefile"), root().join(".ci/run")]);
    files.retain(|file| !GENERATED.contains(&shown(file).as_str()));
    files
}

/// Returns the files with one of these extensions, sorted, leaving out what tools and builds made.
fn files_below(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    const SKIPPED: [&str; 6] = ["target", "build", ".git", "node_modules", "__pycache__", "testdata"];
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(&next).unwrap_or_else(|error| panic!("{} cannot be listed: {error}", shown(&next)));
        for entry in entries {
            let path = entry.expect("a listed entry").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            let known = path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known));
            if path.is_dir() && !path.is_symlink() && !SKIPPED.contains(&name.as_str()) {
                folders.push(path);
            } else if known && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn member_manifests() -> Vec<PathBuf> {
    let manifests: Vec<PathBuf> = files_below(&root(), &["toml"])
        .into_iter()
        .filter(|file| file.ends_with("Cargo.toml") && *file != root().join("Cargo.toml"))
        .collect();
    assert!(manifests.len() >= 6, "all members are seen");
    manifests
}

/// Returns the names of all packages that end up in a build of `package`, itself among them.
fn linked_by(package: &str) -> BTreeSet<String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--package", package])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn rule_matches(rule: &str, name: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == rule,
    }
}

/// Returns the lines that are neither blank nor comments, counted from 1.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source.lines().enumerate().filter(|(_, line)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with("//")
    })
}

/// Returns (line, name, lines of code in the body) of every function with a body of its own lines. Relies on rustfmt:
/// a function ends at the first `}` that stands exactly under its first letter.
fn functions(source: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let Some(name) = function_name(line.trim_start()) else { continue };
        let opens = |at: &usize| lines[*at].ends_with(['{', ';', '}']);
        let Some(open) = (start..lines.len()).find(opens) else { continue };
        if !lines[open].ends_with('{') {
            continue;
        }
        let close = format!("{indent}}}");
        let Some(end) = (open + 1..lines.len()).find(|&at| lines[at] == close) else { continue };
        let length = code_lines(&lines[open + 1..end].join("\n")).count();
        found.push((start + 1, name, length));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let modifiers = ["pub", "const", "async", "unsafe", "extern", "default"];
    let is_declaration = before.split_whitespace().all(|word| {
        modifiers.contains(&word) || word.starts_with("pub(") || word.ends_with(')') || word.starts_with('"')
    });
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (is_declaration && !name.is_empty()).then_some(name)
}

/// Returns the targets of `[text](target)` in a line that lead to files of the project.
fn link_targets(line: &str) -> Vec<String> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:") && !target.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !inside(before) && !inside(after)
    })
}

/// Tells whether an absolute path that begins with `path` stands in the line, not a longer path that contains it.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "._-/}:".contains(c)))
    })
}
