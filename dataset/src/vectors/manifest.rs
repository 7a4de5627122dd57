//! The list of winning output files of a job, as deterministic JSON: sorted, no times, versioned.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spec::RowCounts;

use super::error::VectorsError;
use super::info::{FORMAT, FileInfo, check_dimensions, check_format};
use super::layout::MANIFEST_NAME;
use super::manifest_entries::{Chain, ManifestFile, ManifestHole, ManifestReuse, ManifestSource, missing_in};
use super::manifest_seal::{Outline, SealedReader, write_sealed};
use super::place;
use crate::DatasetError;

/// Said of a URL under which there is no manifest.
const NO_MANIFEST: &str = "there is no `manifest.json` here: give the folder of a finished run; one that is not finished is \
                           resumed by running it again";

/// What a finished job made: exactly the winning files, in input order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, [`FORMAT`].
    pub format: u32,
    /// The job.
    pub job_id: String,
    /// BLAKE3 of the job's canonical spec, in hex.
    pub spec_digest: String,
    /// How the vectors were made.
    pub info: FileInfo,
    /// The output, in input order.
    pub files: Vec<ManifestFile>,
    /// What is missing between them, in input order. Only jobs that were allowed to may have holes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<ManifestHole>,
    /// The corpus, in the order given. After the files, since who writes them one by one knows its rows only then.
    pub sources: Vec<ManifestSource>,
    /// The earlier outputs that vectors may have been taken from, in the order in which texts were looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reuse: Vec<ManifestReuse>,
    /// Sums over `files`.
    pub totals: RowCounts,
}

/// What every format has.
/// A manifest as parsed.
pub(super) struct Sealed {
    manifest: Manifest,
    pub(super) has_its_checksum: bool,
}

impl Manifest {
    /// Makes the manifest of these files: sorts them by first row, sums them up, and checks that they cover rows
    /// 0..N once each.
    pub fn new(
        info: FileInfo,
        sources: Vec<ManifestSource>,
        files: Vec<ManifestFile>,
    ) -> Result<Manifest, DatasetError> {
        Self::with_holes(info, sources, files, Vec::new())
    }

    /// As [`Manifest::new`], of files that cover rows 0..N together with the holes, which are in order.
    pub fn with_holes(
        info: FileInfo,
        sources: Vec<ManifestSource>,
        files: Vec<ManifestFile>,
        holes: Vec<ManifestHole>,
    ) -> Result<Manifest, DatasetError> {
        let mut files = files;
        files.sort_by(|a, b| (a.first_row, &a.name).cmp(&(b.first_row, &b.name)));
        let mut totals = RowCounts::default();
        files.iter().for_each(|file| totals.add(&file.totals()));
        let manifest = Manifest {
            format: FORMAT,
            job_id: info.job_id.clone(),
            spec_digest: info.spec_digest.clone(),
            info,
            files,
            holes,
            sources,
            reuse: Vec::new(),
            totals,
        };
        match manifest.problems().into_iter().next() {
            None => Ok(manifest),
            Some(problem) => Err(VectorsError::bad_rows(format!("the manifest would not hold: {problem}")).into()),
        }
    }

    /// Adds the earlier outputs that vectors may have been taken from.
    pub fn with_reuse(self, reuse: Vec<ManifestReuse>) -> Manifest {
        Manifest { reuse, ..self }
    }

    /// Returns the bytes of the file: the same for the same manifest.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes).expect("memory takes everything");
        bytes
    }

    /// Writes [`Manifest::to_bytes`] without holding them.
    ///
    /// # Errors
    /// `out` fails.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        write_sealed(out, |out| Ok(serde_json::to_writer_pretty(out, self)?))
    }

    /// Returns the BLAKE3 of [`Manifest::to_bytes`], in hex.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.write_to(&mut hasher).expect("a digest takes everything");
        hasher.finalize().to_hex().to_string()
    }

    /// Reads a manifest; `path` names it in errors. Does not check that it holds: see [`Manifest::problems`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, DatasetError> {
        Manifest::checked_format(path, Manifest::read_sealed(bytes), || serde_json::from_slice(bytes))
    }

    /// Reads a manifest from a file without holding its bytes.
    pub fn read(path: &Path) -> Result<Manifest, DatasetError> {
        let open = || File::open(path).map_err(VectorsError::io("read", path));
        let read = Manifest::read_sealed(open()?);
        if let Err(error) = &read
            && let Some(kind) = error.io_error_kind()
        {
            return Err(VectorsError::io("read", path)(kind.into()).into());
        }
        let again = BufReader::new(open()?);
        Manifest::checked_format(path, read, || serde_json::from_reader(again))
    }

    /// Parses a manifest and compares its bytes with its checksum.
    pub(super) fn read_sealed(bytes: impl Read) -> serde_json::Result<Sealed> {
        let mut reader = SealedReader::new(bytes);
        let manifest = serde_json::from_reader(BufReader::new(&mut reader))?;
        Ok(Sealed { manifest, has_its_checksum: reader.has_its_checksum() })
    }

    /// Tells a manifest of another format, which need not look like one of ours, and one of before the checksum from a
    /// damaged one. `outline` reads it once more.
    pub(super) fn checked_format(
        path: &Path,
        read: serde_json::Result<Sealed>,
        outline: impl FnOnce() -> serde_json::Result<Outline>,
    ) -> Result<Manifest, DatasetError> {
        let wrong = |error: serde_json::Error| VectorsError::damaged(path, format!("not a manifest: {error}"));
        match read {
            Ok(Sealed { manifest, has_its_checksum }) => {
                check_format(path, Some(manifest.format.into()))?;
                check_dimensions(path, manifest.info.dimensions)?;
                if !has_its_checksum && !outline().map_err(wrong)?.is_of_before_the_checksum() {
                    return Err(VectorsError::damaged(path, "its bytes do not have the checksum at its end").into());
                }
                Ok(manifest)
            }
            Err(error) => {
                check_format(path, Some(outline().map_err(wrong)?.format))?;
                Err(wrong(error).into())
            }
        }
    }

    /// Reads `dir/manifest.json`. Without one the job is unfinished, and the error says so.
    pub fn load(dir: &Path) -> Result<Manifest, DatasetError> {
        let path = dir.join(MANIFEST_NAME);
        if let Some(url) = place::url_of(dir) {
            let bytes = place::read_small(&path)?.ok_or_else(|| DatasetError::bad_input(url, NO_MANIFEST))?;
            return Manifest::parse(&path, &bytes);
        }
        match path.try_exists() {
            Ok(false) if dir.is_dir() => Err(VectorsError::Unfinished { dir: dir.to_owned() }.into()),
            Ok(_) | Err(_) if !dir.is_dir() => {
                let found = if dir.exists() { "it is a file" } else { "it does not exist" };
                let detail = format!("{found}; give the directory of a finished run, with its `manifest.json`");
                Err(VectorsError::unusable(dir, detail).into())
            }
            Ok(_) | Err(_) => Manifest::read(&path),
        }
    }

    /// Reads `dir/manifest.json` and refuses one that does not hold.
    pub fn load_checked(dir: &Path) -> Result<Manifest, DatasetError> {
        let manifest = Manifest::load(dir)?;
        match manifest.problems().into_iter().next() {
            None => Ok(manifest),
            Some(problem) => Err(VectorsError::damaged(&dir.join(MANIFEST_NAME), problem).into()),
        }
    }

    /// Returns the path of a listed file in the manifest's folder.
    pub fn path_of(dir: &Path, file: &ManifestFile) -> PathBuf {
        dir.join(&file.name)
    }

    /// Returns the number of rows that are in no file.
    pub fn missing(&self) -> u64 {
        missing_in(&self.holes)
    }

    /// Returns what the manifest contradicts in itself: row chain, sums, names, identities. Empty when it holds.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.job_id != self.info.job_id || self.spec_digest != self.info.spec_digest {
            problems.push("`job_id` or `spec_digest` differ from those in `info`".to_owned());
        }
        let mut chain = Chain::default();
        let mut holes = self.holes.iter().peekable();
        for file in &self.files {
            while let Some(hole) = holes.next_if(|hole| hole.first_row < file.first_row) {
                problems.extend(chain.skip(hole));
            }
            problems.extend(chain.add(file));
        }
        problems.extend(holes.flat_map(|hole| chain.skip(hole)));
        if let Some(hole) = self.holes.iter().find(|hole| hole.source as usize >= self.sources.len()) {
            problems.push(format!("the hole at row {} is of a source that is not listed", hole.first_row));
        }
        if chain.totals() != &self.totals {
            problems.push("`totals` are not the sums over `files`".to_owned());
        }
        let mut names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            problems.push(format!("file `{}` is listed twice", pair[0]));
        }
        problems.extend(chain.check_sources(&self.sources));
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spec::RejectReason;

    use super::super::info::tests::info;
    use super::*;

    fn file(name: &str, first_row: u64, rows: u64) -> ManifestFile {
        ManifestFile {
            name: name.into(),
            first_row,
            rows,
            bytes: 10,
            blake3: "0".repeat(64),
            rejects: BTreeMap::from([(RejectReason::NullText, 1), (RejectReason::EmptyText, 1)]),
            truncated: 0,
            tokens: 7,
            reused: 0,
        }
    }

    fn source(rows: u64) -> ManifestSource {
        ManifestSource { uri: "/a.csv".into(), size: 3, etag: None, rows }
    }

    fn hole(first_row: u64, rows: u64) -> ManifestHole {
        ManifestHole { source: 0, first_row, rows, reason: "it broke".into() }
    }

    fn manifest() -> Manifest {
        Manifest::new(info(4), vec![source(5)], vec![file("b", 2, 3), file("a", 0, 2)]).unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_order_of_files_and_come_back() {
        let other = Manifest::new(info(4), vec![source(5)], vec![file("a", 0, 2), file("b", 2, 3)]).unwrap();
        assert_eq!(manifest().to_bytes(), other.to_bytes());
        let read = Manifest::parse(Path::new("m"), &manifest().to_bytes()).unwrap();
        assert_eq!(read, manifest());
        assert_eq!(read.totals.rows, 5);
        assert_eq!(read.totals.rejected(), 4);
    }

    #[test]
    fn every_byte_is_covered_by_a_check() {
        let bytes = manifest().to_bytes();
        for at in 0..bytes.len() {
            for flip in [1, 2, 0x20, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                assert!(Manifest::parse(Path::new("m"), &damaged).is_err(), "byte {at} ^ {flip}");
            }
        }
        for end in 0..bytes.len() {
            assert!(Manifest::parse(Path::new("m"), &bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], b"\n"].concat();
        assert!(Manifest::parse(Path::new("m"), &longer).is_err());
    }

    #[test]
    fn a_manifest_of_before_the_checksum_is_read() {
        let unsealed = serde_json::to_vec(&manifest()).unwrap();
        assert_eq!(Manifest::parse(Path::new("m"), &unsealed).unwrap(), manifest());
    }

    #[test]
    fn a_hole_an_overlap_and_a_wrong_sum_are_refused() {
        for files in [
            vec![file("a", 0, 2), file("b", 3, 2)],
            vec![file("a", 0, 3), file("b", 2, 2)],
            vec![file("a", 0, 2), file("a", 2, 3)],
            vec![file("a", 0, 2), file("../b", 2, 3)],
            vec![file("a", 0, 2), file("b", 2, 4)],
        ] {
            assert!(Manifest::new(info(4), vec![source(5)], files.clone()).is_err(), "{files:?}");
        }
        for holes in [vec![], vec![hole(2, 2)], vec![hole(2, 1), hole(3, 1)], vec![hole(5, 1)], vec![hole(2, 0)]] {
            let files = vec![file("a", 0, 2), file("b", 3, 2)];
            assert!(Manifest::with_holes(info(4), vec![source(5)], files, holes.clone()).is_err(), "{holes:?}");
        }
        let mut wrong = manifest();
        wrong.totals.tokens += 1;
        assert_eq!(wrong.problems().len(), 1);
    }

    #[test]
    fn holes_that_are_listed_stand_for_their_rows_and_come_back() {
        let (files, holes) = (vec![file("a", 1, 2), file("b", 4, 2)], vec![hole(0, 1), hole(3, 1), hole(6, 3)]);
        let manifest = Manifest::with_holes(info(4), vec![source(9)], files, holes).unwrap();
        assert_eq!((manifest.totals.rows, manifest.missing()), (4, 5));
        assert_eq!(Manifest::parse(Path::new("m"), &manifest.to_bytes()).unwrap(), manifest);
        let mut lost = manifest.clone();
        lost.holes.remove(1);
        assert!(lost.problems()[0].contains("`b` begins at row 4, expected 3"), "{:?}", lost.problems());
        let elsewhere = Manifest { sources: vec![], ..manifest };
        assert!(elsewhere.problems().iter().any(|problem| problem.contains("not listed")));
    }

    #[test]
    fn a_newer_or_broken_manifest_is_refused_clearly() {
        let newer = String::from_utf8(manifest().to_bytes()).unwrap().replacen("\"format\": 1", "\"format\": 9", 1);
        let error = Manifest::parse(Path::new("m.json"), newer.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("format 9") && error.contains("m.json"), "{error}");
        let cut = &manifest().to_bytes()[..100];
        let error = Manifest::parse(Path::new("m.json"), cut).unwrap_err().to_string();
        assert!(error.contains("m.json") && error.contains("damaged"), "{error}");
    }

    #[test]
    fn a_folder_without_a_manifest_is_unfinished() {
        let dir = tempfile::tempdir().unwrap();
        let error = Manifest::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("not finished"), "{error}");
    }
}
