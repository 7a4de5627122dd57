//! Writes a manifest file by file, for those who must not hold a million of them: the bytes of [`Manifest::to_bytes`].
//!
//! [`Manifest::to_bytes`]: super::Manifest::to_bytes

use serde::Serialize;
use spec::RowCounts;

use super::error::VectorsError;
use super::info::{FORMAT, FileInfo};
use super::manifest_entries::{Chain, ManifestFile, ManifestHole, ManifestReuse, ManifestSource};
use super::manifest_seal::seal;
use crate::DatasetError;

/// What a manifest came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSeal {
    /// BLAKE3 of its bytes.
    pub blake3: blake3::Hash,
    /// Size in bytes.
    pub bytes: u64,
    /// Files that it lists.
    pub files: u64,
    /// Sums over them.
    pub totals: RowCounts,
    /// Rows that are in none of them.
    pub missing: u64,
}

/// A manifest being written. Its bytes are [taken](ManifestWriter::take) by the caller whenever they are enough to
/// write, so that it holds one file and what was not taken. Names are the caller's to keep apart.
#[derive(Debug)]
pub struct ManifestWriter {
    pending: Vec<u8>,
    hasher: Box<blake3::Hasher>,
    taken: u64,
    files: u64,
    chain: Chain,
    /// Rows of the holes that are listed.
    listed: u64,
}

impl ManifestWriter {
    /// Begins the manifest of the job that `info` names.
    pub fn new(info: &FileInfo) -> ManifestWriter {
        let (pending, chain) = (Vec::new(), Chain::default());
        let mut writer = ManifestWriter { pending, hasher: Box::default(), taken: 0, files: 0, chain, listed: 0 };
        writer.text("{\n  \"format\": ");
        writer.value(&FORMAT, "");
        writer.text(",\n  \"job_id\": ");
        writer.value(&info.job_id, "");
        writer.text(",\n  \"spec_digest\": ");
        writer.value(&info.spec_digest, "");
        writer.text(",\n  \"info\": ");
        writer.value(info, "  ");
        writer.text(",\n  \"files\": [");
        writer
    }

    /// Adds the next file, in input order.
    ///
    /// # Errors
    /// Its rows do not follow on those before, or it contradicts itself.
    pub fn add(&mut self, file: &ManifestFile) -> Result<(), DatasetError> {
        refuse(self.chain.add(file))?;
        self.text(if self.files == 0 { "\n    " } else { ",\n    " });
        self.value(file, "    ");
        self.files += 1;
        Ok(())
    }

    /// Passes over the rows of a hole, which are in the next file's place: before [`ManifestWriter::add_hole`], since holes
    /// are listed after all files.
    ///
    /// # Errors
    /// Its rows do not follow on those before.
    pub fn skip(&mut self, hole: &ManifestHole) -> Result<(), DatasetError> {
        Ok(refuse(self.chain.skip(hole))?)
    }

    /// Lists a hole, once all files are added.
    pub fn add_hole(&mut self, hole: &ManifestHole) {
        if self.listed == 0 {
            self.end_files();
            self.text(",\n  \"holes\": [\n    ");
        } else {
            self.text(",\n    ");
        }
        self.value(hole, "    ");
        self.listed += hole.rows;
    }

    fn end_files(&mut self) {
        self.text(if self.files == 0 { "]" } else { "\n  ]" });
    }

    /// Returns how many bytes wait to be taken.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Returns the bytes since they were taken last.
    pub fn take(&mut self) -> Vec<u8> {
        self.hasher.update(&self.pending);
        self.taken += self.pending.len() as u64;
        std::mem::take(&mut self.pending)
    }

    /// Ends the manifest with the sources that the files were made of, and the earlier outputs that vectors may have been
    /// taken from. Returns the bytes that were not taken.
    ///
    /// # Errors
    /// The sources do not have the rows of the files and holes, or other holes were listed than passed over.
    pub fn finish(
        mut self,
        sources: &[ManifestSource],
        reuse: &[ManifestReuse],
    ) -> Result<(Vec<u8>, ManifestSeal), DatasetError> {
        refuse(self.chain.check_sources(sources))?;
        let missing = self.chain.missing();
        if self.listed != missing {
            refuse(vec![format!("holes of {} rows are listed, {missing} are missing", self.listed)])?;
        }
        match missing {
            0 => self.end_files(),
            _ => self.text("\n  ]"),
        }
        self.text(",\n  \"sources\": ");
        self.value(&sources, "  ");
        if !reuse.is_empty() {
            self.text(",\n  \"reuse\": ");
            self.value(&reuse, "  ");
        }
        self.text(",\n  \"totals\": ");
        let totals = self.chain.totals().clone();
        self.value(&totals, "  ");
        let mut rest = self.take();
        let seal = seal(&self.hasher.finalize());
        self.text(&seal);
        rest.extend(self.take());
        let blake3 = self.hasher.finalize();
        Ok((rest, ManifestSeal { blake3, bytes: self.taken, files: self.files, totals, missing }))
    }

    fn text(&mut self, text: &str) {
        self.pending.extend_from_slice(text.as_bytes());
    }

    /// Appends a value as JSON; its lines but the first are indented.
    fn value(&mut self, value: &impl Serialize, indent: &str) {
        let json = serde_json::to_string_pretty(value).expect("a manifest has string keys and no failing values");
        let mut lines = json.split('\n');
        self.text(lines.next().unwrap_or_default());
        for line in lines {
            self.text("\n");
            self.text(indent);
            self.text(line);
        }
    }
}

fn refuse(problems: Vec<String>) -> Result<(), VectorsError> {
    match problems.into_iter().next() {
        None => Ok(()),
        Some(problem) => Err(VectorsError::bad_rows(format!("the manifest would not hold: {problem}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Manifest;
    use super::super::info::tests::info;
    use super::*;
    use spec::RejectReason;

    fn file(index: u64) -> ManifestFile {
        ManifestFile {
            name: format!("p-{index}"),
            first_row: index * 3,
            rows: 3,
            bytes: 10,
            blake3: "0".repeat(64),
            rejects: if index.is_multiple_of(2) { BTreeMap::new() } else { [(RejectReason::NullText, 1)].into() },
            truncated: 0,
            tokens: 7,
            reused: index % 2,
        }
    }

    fn source(rows: u64) -> ManifestSource {
        ManifestSource { uri: "/a \"b\"\n.csv".into(), size: 3, etag: None, rows }
    }

    #[test]
    fn piece_by_piece_it_is_the_same_manifest() {
        for count in [0, 1, 2, 5] {
            let files: Vec<_> = (0..count).map(file).collect();
            let reuse = ManifestReuse { uri: "/old".into(), blake3: "1".repeat(64), text_column: "text".into() };
            let reuse = vec![reuse; usize::from(count > 1)];
            let whole =
                Manifest::new(info(4), vec![source(count * 3)], files.clone()).unwrap().with_reuse(reuse.clone());
            let mut writer = ManifestWriter::new(&info(4));
            let mut bytes = Vec::new();
            for file in &files {
                writer.add(file).unwrap();
                if writer.pending() > 500 {
                    bytes.extend(writer.take());
                }
            }
            let (rest, seal) = writer.finish(&whole.sources, &reuse).unwrap();
            bytes.extend(rest);
            assert_eq!(String::from_utf8(bytes).unwrap(), String::from_utf8(whole.to_bytes()).unwrap());
            assert_eq!((seal.blake3.to_string(), seal.bytes), (whole.digest(), whole.to_bytes().len() as u64));
            assert_eq!((seal.files, seal.totals), (count, whole.totals));
        }
    }

    #[test]
    fn with_holes_it_is_the_same_manifest_too() {
        let hole = |first_row| ManifestHole { source: 0, first_row, rows: 3, reason: "a \"b\"\n".into() };
        for (files, holes) in [(vec![file(1), file(2)], vec![hole(0), hole(9)]), (vec![], vec![hole(0)])] {
            let rows = 3 * (files.len() + holes.len()) as u64;
            let whole = Manifest::with_holes(info(4), vec![source(rows)], files.clone(), holes.clone()).unwrap();
            let mut writer = ManifestWriter::new(&info(4));
            writer.skip(&holes[0]).unwrap();
            files.iter().for_each(|file| writer.add(file).unwrap());
            holes[1..].iter().for_each(|hole| writer.skip(hole).unwrap());
            holes.iter().for_each(|hole| writer.add_hole(hole));
            let (bytes, seal) = writer.finish(&whole.sources, &[]).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), String::from_utf8(whole.to_bytes()).unwrap());
            assert_eq!((seal.blake3.to_string(), seal.missing), (whole.digest(), whole.missing()));
        }
        let mut writer = ManifestWriter::new(&info(4));
        writer.skip(&hole(0)).unwrap();
        assert!(writer.finish(&[source(3)], &[]).is_err(), "it is not listed");
    }

    #[test]
    fn a_hole_and_a_wrong_sum_are_refused_at_once() {
        let mut writer = ManifestWriter::new(&info(4));
        writer.add(&file(0)).unwrap();
        let error = writer.add(&file(2)).unwrap_err().to_string();
        assert!(error.contains("`p-2` begins at row 6, expected 3"), "{error}");
        let writer = ManifestWriter::new(&info(4));
        assert!(writer.finish(&[source(1)], &[]).is_err());
    }
}
