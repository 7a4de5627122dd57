//! From what the user types to sources.

use dataset::{Compression, DatasetError, ErrorKind, Format, Source};

use crate::harness::{block_on, path_text};

fn expand(patterns: &[String], format: Option<Format>) -> Result<Vec<Source>, DatasetError> {
    block_on(dataset::expand(patterns, format))
}

fn names(sources: &[Source]) -> Vec<&str> {
    sources.iter().map(|source| source.uri.rsplit('/').next().unwrap()).collect()
}

#[test]
fn paths_globs_and_urls_expand_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["b.csv", "a.csv", "c d.jsonl.gz", "e.TSV.zst", "odd[1].txt", "a\u{f1}o%20.parquet"] {
        std::fs::write(root.join(name), b"").unwrap();
    }
    std::fs::create_dir(root.join("x.csv")).unwrap();
    let pattern = |name: &str| format!("{}/{name}", path_text(root));
    let url = url::Url::from_file_path(root.join("c d.jsonl.gz")).unwrap().to_string();
    let patterns = [url, pattern("*.csv"), pattern("odd[1].txt"), pattern("e.TSV.zst"), pattern("a\u{f1}o%20.parquet")];
    let sources = expand(&patterns, None).unwrap();
    let expected = ["c d.jsonl.gz", "a.csv", "b.csv", "odd[1].txt", "e.TSV.zst", "a\u{f1}o%20.parquet"];
    assert_eq!(names(&sources), expected);
    assert!(sources.iter().all(|source| source.uri.starts_with('/')));
    let kinds: Vec<(Format, Compression)> = sources.iter().map(|source| (source.format, source.compression)).collect();
    assert_eq!(kinds[0], (Format::Jsonl, Compression::Gzip));
    assert_eq!(kinds[1], (Format::Csv, Compression::None));
    assert_eq!(kinds[4], (Format::Tsv, Compression::Zstd));
    assert_eq!(kinds[5], (Format::Parquet, Compression::None));
}

#[test]
fn a_given_format_overrides_the_extension_only() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data.log.gz"), b"").unwrap();
    let patterns = [path_text(&dir.path().join("data.log.gz")).to_owned()];
    let sources = expand(&patterns, Some(Format::Jsonl)).unwrap();
    assert_eq!((sources[0].format, sources[0].compression), (Format::Jsonl, Compression::Gzip));
}

#[test]
fn invalid_sources_are_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let root = path_text(dir.path());
    for name in ["a.xml", "b.parquet.gz", "c"] {
        std::fs::write(dir.path().join(name), b"").unwrap();
    }
    let cases = [
        (format!("{root}/*.tsv"), ErrorKind::BadInput, "no file matches"),
        (format!("{root}/gone.csv"), ErrorKind::NotFound, "gone.csv"),
        (root.to_owned(), ErrorKind::BadInput, "*.csv"),
        (format!("{root}/a.xml"), ErrorKind::BadInput, "--format csv|tsv|jsonl|json|"),
        (format!("{root}/b.parquet.gz"), ErrorKind::BadInput, "decompress"),
        (format!("{root}/c"), ErrorKind::BadInput, "--format"),
        ("ftp://host/a.csv".to_owned(), ErrorKind::BadInput, "`ftp`"),
        ("a\0b.csv".to_owned(), ErrorKind::BadInput, "NUL"),
        (String::new(), ErrorKind::BadInput, "empty"),
    ];
    for (pattern, kind, word) in cases {
        let error = expand(std::slice::from_ref(&pattern), None).unwrap_err();
        assert_eq!(error.kind(), kind, "{pattern}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn the_format_of_a_link_follows_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("blob0123"), b"text\nhola\n").unwrap();
    std::os::unix::fs::symlink(dir.path().join("blob0123"), dir.path().join("data.csv")).unwrap();
    let sources = expand(&[path_text(&dir.path().join("data.csv")).to_owned()], None).unwrap();
    assert_eq!((names(&sources), sources[0].format), (vec!["data.csv"], Format::Csv));
}
