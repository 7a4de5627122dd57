//! Corpora that can be read only once: stdin, pipes and devices. The planner looks twice and shards are read at any time,
//! so what comes out of a stream is saved in a file that is named by its content: the same bytes again are the same source.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use spec::Format;
use tempfile::TempDir;

use crate::exit::Advice;
use crate::outdir::{STATE_DIR, is_work_dir};
use crate::permissions;
use crate::ui::{self, Ui};

/// The name of stdin among corpora.
const STDIN: &str = "-";
/// Folders whose files are streams of the process, even where they lead to a file on disk.
const STREAM_FOLDERS: [&str; 2] = ["/dev/fd/", "/proc/"];
/// The stream is read in pieces of so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// So many digits of the digest are enough to tell streams apart.
const DIGEST_DIGITS: usize = 32;
/// What files are called until they are complete.
const UNFINISHED: &str = "unfinished-";

/// Corpora of which each can be read any number of times.
#[derive(Debug)]
pub(crate) struct Corpora {
    /// The patterns as typed, with the path of a file in the place of each stream.
    pub(crate) patterns: Vec<String>,
    streams: Vec<SavedStream>,
    keep_files: bool,
    /// Where the files of streams are that are needed for one command only.
    _folder: Option<TempDir>,
}

/// A stream that was written to a file.
#[derive(Debug)]
struct SavedStream {
    path: PathBuf,
    /// BLAKE3 of its bytes, in hex.
    digest: String,
    /// It was not there before.
    is_new: bool,
}

/// Where the bytes of a stream come from.
enum Stream {
    Stdin,
    Path(PathBuf),
}

impl Corpora {
    /// Reads the streams among `patterns` to their ends, into files in `folder`; touches nothing where there are none.
    ///
    /// # Errors
    /// A stream whose format is not known; stdin twice; a stream cannot be read, or its file not be written.
    pub(crate) fn save_streams(
        ui: &Ui,
        patterns: &[String],
        format: Option<Format>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let streams: Vec<Option<Stream>> = patterns.iter().map(|pattern| stream_of(pattern)).collect();
        if streams.iter().flatten().filter(|stream| matches!(stream, Stream::Stdin)).count() > 1 {
            return Err(Advice::usage("the corpus names stdin twice, but it can be read only once").into());
        }
        // All are checked before any is read.
        let extensions = streams
            .iter()
            .zip(patterns)
            .map(|(stream, pattern)| if stream.is_some() { extension_of(pattern, format).map(Some) } else { Ok(None) });
        let extensions = extensions.collect::<Result<Vec<_>, _>>()?;
        let mut corpora = Self { patterns: patterns.to_vec(), streams: Vec::new(), keep_files: false, _folder: None };
        for (index, (stream, extension)) in streams.into_iter().zip(extensions).enumerate() {
            let (Some(stream), Some(extension)) = (stream, extension) else { continue };
            let saved = save(ui, &stream, &extension, folder)?;
            let path = saved.path.to_str().map(str::to_owned);
            corpora.streams.push(saved);
            corpora.patterns[index] =
                path.with_context(|| format!("the path of `{}` is not UTF-8", folder.display()))?;
        }
        Ok(corpora)
    }

    /// As [`Corpora::save_streams`], in a temporary folder that is gone with the result.
    pub(crate) fn save_streams_temporarily(
        ui: &Ui,
        patterns: &[String],
        format: Option<Format>,
    ) -> anyhow::Result<Self> {
        if patterns.iter().all(|pattern| stream_of(pattern).is_none()) {
            return Self::save_streams(ui, patterns, format, Path::new(""));
        }
        let folder = tempfile::Builder::new().prefix("encaje-").tempdir().context("cannot make a temporary folder")?;
        let mut corpora = Self::save_streams(ui, patterns, format, folder.path())?;
        corpora._folder = Some(folder);
        Ok(corpora)
    }

    /// Whether a stream is among them.
    pub(crate) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Returns the digest of the stream that was written to a file, if one was.
    pub(crate) fn digest_of(&self, uri: &str) -> Option<&str> {
        self.streams.iter().find(|saved| saved.path == Path::new(uri)).map(|saved| saved.digest.as_str())
    }

    /// Leaves the files where they are: a job needs them.
    pub(crate) fn keep_files(&mut self) {
        self.keep_files = true;
    }
}

impl Drop for Corpora {
    fn drop(&mut self) {
        if self.keep_files {
            return;
        }
        for saved in self.streams.iter().filter(|saved| saved.is_new) {
            // Best effort: what is left is a copy that nothing refers to. Folders are removed only if empty.
            drop(fs::remove_file(&saved.path));
            let Some(folder) = saved.path.parent() else { continue };
            drop(fs::remove_dir(folder));
            let is_state = |folder: &&Path| folder.ends_with(STATE_DIR) || is_work_dir(folder);
            if let Some(state) = folder.parent().filter(is_state) {
                drop(fs::remove_dir(state));
            }
        }
    }
}

/// Removes the files in `folder` that none of the sources is.
pub(crate) fn remove_unused<'a>(folder: &Path, sources: impl Iterator<Item = &'a str> + Clone) {
    // Sources are absolute paths, the folder may have been given as a relative one.
    let Ok(entries) = fs::canonicalize(folder).and_then(fs::read_dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if !sources.clone().any(|source| Path::new(source) == path) {
            // Best effort, as it only saves space.
            drop(fs::remove_file(path));
        }
    }
}

/// Returns the stream that a pattern names. A missing file is none: `expand` reports it.
fn stream_of(pattern: &str) -> Option<Stream> {
    if pattern == STDIN || pattern == "/dev/stdin" {
        return Some(Stream::Stdin);
    }
    let path = Path::new(pattern.strip_prefix("file://").unwrap_or(pattern));
    let kind = fs::metadata(path).ok()?.file_type();
    let is_in_stream_folder = STREAM_FOLDERS.iter().any(|folder| path.starts_with(folder));
    let is_stream = !kind.is_dir() && (!kind.is_file() || is_in_stream_folder);
    is_stream.then(|| Stream::Path(path.to_owned()))
}

/// Returns the extension that tells the format of a stream.
fn extension_of(pattern: &str, format: Option<Format>) -> Result<String, Advice> {
    if let Some(format) = format {
        return Ok(format.to_string());
    }
    let name = Path::new(pattern).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let extension = Path::new(stem).extension().and_then(|extension| extension.to_str());
    extension.map(str::to_owned).ok_or_else(|| {
        let example = "for example --format csv";
        Advice::usage(format!("`{pattern}` has no name that tells its format: say it with --format, {example}"))
    })
}

/// Writes a stream to a file named by its content.
fn save(ui: &Ui, stream: &Stream, extension: &str, folder: &Path) -> anyhow::Result<SavedStream> {
    let (name, mut input): (String, Box<dyn Read>) = match stream {
        Stream::Stdin => {
            if io::stdin().is_terminal() {
                ui.note("reading the corpus from stdin: end it with ctrl-D");
            }
            ("stdin".to_owned(), Box::new(io::stdin().lock()))
        }
        Stream::Path(path) => {
            let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            (path.display().to_string(), Box::new(file))
        }
    };
    // The output directory itself has the modes of any file of the user's.
    if let Some(out) = folder.parent().and_then(Path::parent) {
        fs::create_dir_all(out).with_context(|| format!("cannot make the directory `{}`", out.display()))?;
    }
    permissions::create_private_dir_all(folder)
        .with_context(|| format!("cannot make the directory `{}`", folder.display()))?;
    let folder = fs::canonicalize(folder).with_context(|| format!("cannot find `{}`", folder.display()))?;
    let unfinished = folder.join(format!("{UNFINISHED}{}", std::process::id()));
    let written = write(&name, &mut *input, &unfinished);
    let (digest, suffix, bytes) = written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    let kind = if matches!(stream, Stream::Stdin) { "stdin" } else { "pipe" };
    let path = folder.join(format!("{kind}-{}.{extension}{suffix}", &digest[..DIGEST_DIGITS]));
    // A file that is there holds the same bytes, and a job may know it by its time of change.
    let is_new = fs::metadata(&path).map_or(true, |found| found.len() != bytes);
    let placed = if is_new { fs::rename(&unfinished, &path) } else { fs::remove_file(&unfinished) };
    placed.with_context(|| format!("cannot write `{}`", path.display()))?;
    ui.note(format!("read {} bytes from {name}", ui::thousands(bytes)));
    Ok(SavedStream { path, digest, is_new })
}

/// Copies a stream to a file. Returns its digest, the suffix that names its compression, and its size.
fn write(name: &str, input: &mut dyn Read, path: &Path) -> anyhow::Result<(String, &'static str, u64)> {
    let cannot = || format!("cannot write `{}`, which keeps what {name} gives", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut output = options.open(path).with_context(cannot)?;
    let (mut hasher, mut piece, mut front, mut bytes) = (blake3::Hasher::new(), vec![0; PIECE_BYTES], Vec::new(), 0);
    loop {
        let read = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
        };
        front.extend(piece[..read].iter().take(4_usize.saturating_sub(front.len())));
        hasher.update(&piece[..read]);
        output.write_all(&piece[..read]).with_context(cannot)?;
        bytes += read as u64;
    }
    output.sync_all().with_context(cannot)?;
    let suffix = match front.as_slice() {
        [0x1f, 0x8b, ..] => ".gz",
        [0x28, 0xb5, 0x2f, 0xfd] => ".zst",
        _ => "",
    };
    Ok((hasher.finalize().to_hex().to_string(), suffix, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Ui {
        Ui::silent()
    }

    fn words(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
    }

    #[test]
    fn files_and_globs_are_no_streams_and_nothing_is_made_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("input");
        std::fs::write(dir.path().join("a.csv"), "text\n").unwrap();
        let patterns = words(&[dir.path().join("a.csv").to_str().unwrap(), "*.csv", "s3://b/a.csv", "gone.csv"]);
        let corpora = Corpora::save_streams(&quiet(), &patterns, None, &folder).unwrap();
        assert_eq!(corpora.patterns, patterns);
        assert!(!corpora.has_streams() && !folder.exists());
    }

    #[test]
    fn a_stream_without_a_format_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |patterns: &[&str], format| {
            let error = Corpora::save_streams(&quiet(), &words(patterns), format, &dir.path().join("input"));
            error.unwrap_err().to_string()
        };
        assert!(refused(&["-"], None).contains("--format"));
        assert!(refused(&["-", "/dev/stdin"], Some(Format::Csv)).contains("twice"));
        assert!(!dir.path().join("input").exists());
    }

    /// A named pipe that gives these bytes, once.
    #[cfg(unix)]
    fn pipe(dir: &Path, name: &str, bytes: &'static [u8]) -> PathBuf {
        let path = dir.join(name);
        if !path.exists() {
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        }
        let target = path.clone();
        std::thread::spawn(move || std::fs::write(target, bytes).unwrap());
        path
    }

    #[cfg(unix)]
    #[test]
    fn the_same_bytes_again_are_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("input");
        let read = |bytes| {
            let pipe = pipe(dir.path(), "a.csv", bytes);
            Corpora::save_streams(&quiet(), &words(&[pipe.to_str().unwrap()]), None, &folder).unwrap()
        };
        let mut first = read(b"text\nhola\n");
        first.keep_files();
        let path = PathBuf::from(&first.patterns[0]);
        assert!(path.extension().is_some_and(|extension| extension == "csv"));
        let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
        drop(first);
        let again = read(b"text\nhola\n");
        assert_eq!(PathBuf::from(&again.patterns[0]), path);
        drop(again);
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), changed);
        // Another stream that comes to nothing leaves nothing.
        let other = read(b"\x1f\x8bnot really");
        assert!(other.patterns[0].ends_with(".csv.gz") && other.digest_of(&other.patterns[0]).is_some());
        drop(other);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        remove_unused(&folder, std::iter::empty());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
