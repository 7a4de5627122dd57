//! How vectors were made: [`FileInfo`], and its place in the Parquet footer as `encaje.*` key-values.
//!
//! `encaje.format` is the version of everything else: columns, keys, manifest. A reader refuses a newer one.

use std::path::Path;
use std::str::FromStr;

use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};
use spec::{EmbedSpec, ModelSpec, OutputDtype, Quote, ReadOptions, RowCounts};

use super::error::VectorsError;
use crate::corpus::encoding_name;

/// The version of the output format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Footer key of the format version.
pub const FORMAT_KEY: &str = "encaje.format";
/// Footer key of the counts over the file's rows, as JSON.
pub(super) const TOTALS_KEY: &str = "encaje.totals";
/// Footer key of the corpus's sources, as JSON (merged files only).
pub(super) const SOURCES_KEY: &str = "encaje.sources";
/// Footer key of the rows that are missing between those of the file, as JSON (merged files with holes only).
pub(super) const HOLES_KEY: &str = "encaje.holes";
/// Footer key of the name of the kept column that holds the texts. Apart from [`FileInfo`]: files of before it are of the same
/// job as those with it.
pub(super) const TEXT_COLUMN_KEY: &str = "encaje.text_column";
/// Footer key of the earlier outputs that vectors were taken from, as JSON (merged files only).
pub(super) const REUSE_KEY: &str = "encaje.reuse";
/// Footer key of the BLAKE3 of the manifest that a merged file was made from.
pub(super) const MANIFEST_DIGEST_KEY: &str = "encaje.manifest_blake3";
/// Footer key of the file's own BLAKE3, taken with sixty-four `0` in the place of this value.
pub(super) const SEAL_KEY: &str = "encaje.file_blake3";

/// How the vectors of a file were made. Equal over all files of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Hub id or directory of the model.
    pub model: String,
    /// The pinned commit of a Hub model.
    pub revision: Option<String>,
    /// BLAKE3 over the files that decide the vectors, in hex.
    pub model_digest: String,
    /// The pooling that was applied: `cls`, `mean`, `max` or `last`; with a model's own pooling also
    /// `mean_sqrt_len_tokens`, `weightedmean`, or several joined by `+`.
    pub pooling: String,
    /// Whether vectors have unit L2 norm.
    pub normalized: bool,
    /// Most tokens fed to the model for one text, special ones included; 2147483647 where there is no limit.
    pub max_length: u32,
    /// Number format of the forward pass: `f32`, `f16`, `bf16`, `int8`.
    pub dtype: String,
    /// Number format of the `embedding` column.
    pub output_dtype: OutputDtype,
    /// Text put before every record.
    pub prefix: String,
    /// Name of the model's own prompt that `prefix` is; `None` where it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The similarity that the model is meant for: `cosine`, `dot`, `euclidean` or `manhattan`; `None` where it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<String>,
    /// What separated the fields of csv and tsv, where the job said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// What quoted them, or `none`, where the job said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// The WHATWG name of the encoding of text sources without a byte order mark, where the job said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// Components per vector.
    pub dimensions: u32,
    /// The job.
    pub job_id: String,
    /// BLAKE3 of the job's canonical spec, in hex.
    pub spec_digest: String,
}

/// What only the loaded model knows about how vectors are made: what the job's settings and its own come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The pooling that is done, as [`FileInfo::pooling`] says it.
    pub pooling: String,
    /// Most tokens fed to the model for one text, special ones included; 2147483647 where there is no limit.
    pub max_length: u32,
    /// Components per vector.
    pub dimensions: u32,
}

/// What a file's footer says about its rows, as JSON under `encaje.totals`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTotals {
    /// Row number of the first row, over the whole corpus.
    pub first_row: u64,
    /// Counts.
    #[serde(flatten)]
    pub totals: RowCounts,
}

impl FileTotals {
    /// Tells whether such rows can be: no more rejected, truncated or reused ones than there are, and numbers that fit their column.
    pub(super) fn is_sound(&self) -> bool {
        let end = self.first_row.checked_add(self.totals.rows).and_then(|end| i64::try_from(end).ok());
        let most = self.totals.truncated.max(self.totals.reused);
        end.is_some() && self.totals.rejected().saturating_add(most) <= self.totals.rows
    }
}

/// Refuses numbers of components that no list has.
pub(super) fn check_dimensions(path: &Path, dimensions: u32) -> Result<(), VectorsError> {
    match i32::try_from(dimensions) {
        Ok(_) => Ok(()),
        Err(_) => Err(VectorsError::damaged(path, format!("`encaje.dimensions` is {dimensions}"))),
    }
}

impl FileInfo {
    /// Returns how a job's vectors are made; the ids of the job stay empty. Where no model was loaded (`resolved` is `None`:
    /// a corpus without records has no output files), 0 and `auto` replace what only the model knows.
    pub fn of(model: &ModelSpec, embed: &EmbedSpec, read: &ReadOptions, resolved: Option<Resolved>) -> FileInfo {
        let EmbedSpec {
            pooling,
            normalize,
            max_length,
            prefix,
            dtype,
            output_dtype,
            dimensions,
            batch_tokens: _,
            prompt,
            similarity,
        } = embed;
        let asked = || pooling.map_or_else(|| "auto".to_owned(), |pooling| pooling.to_string());
        FileInfo {
            model: model.name.clone(),
            revision: model.revision.clone(),
            model_digest: model.digest.clone(),
            pooling: resolved.as_ref().map_or_else(asked, |resolved| resolved.pooling.clone()),
            normalized: *normalize,
            max_length: resolved.as_ref().map_or_else(|| max_length.unwrap_or(0), |resolved| resolved.max_length),
            dtype: dtype.to_string(),
            output_dtype: *output_dtype,
            prefix: prefix.clone(),
            prompt: prompt.clone(),
            similarity: similarity.clone(),
            delimiter: read.delimiter.map(String::from),
            quote: read.quote.map(|quote| match quote {
                Quote::None => "none".to_owned(),
                Quote::Char(character) => character.into(),
            }),
            encoding: read.encoding.as_deref().map(|label| encoding_name(label).unwrap_or(label).to_owned()),
            dimensions: resolved.as_ref().map_or_else(|| dimensions.unwrap_or(0), |resolved| resolved.dimensions),
            job_id: String::new(),
            spec_digest: String::new(),
        }
    }

    /// Tells whether a manifest that says this is of a file that says `file`. A manifest that an older release wrote lacks what it
    /// does not know.
    pub(super) fn agrees_with(&self, file: &FileInfo) -> bool {
        let known = |mine: &Option<String>, theirs: &Option<String>| mine.clone().or_else(|| theirs.clone());
        let whole = FileInfo {
            prompt: known(&self.prompt, &file.prompt),
            similarity: known(&self.similarity, &file.similarity),
            delimiter: known(&self.delimiter, &file.delimiter),
            quote: known(&self.quote, &file.quote),
            encoding: known(&self.encoding, &file.encoding),
            ..self.clone()
        };
        whole == *file
    }

    /// Returns the footer key-values, `encaje.format` first. Absent values have no key.
    pub fn to_key_values(&self) -> Vec<KeyValue> {
        let mut pairs = vec![
            (FORMAT_KEY, FORMAT.to_string()),
            ("encaje.model", self.model.clone()),
            ("encaje.model_digest", self.model_digest.clone()),
            ("encaje.pooling", self.pooling.clone()),
            ("encaje.normalized", self.normalized.to_string()),
            ("encaje.max_length", self.max_length.to_string()),
            ("encaje.dtype", self.dtype.clone()),
            ("encaje.output_dtype", self.output_dtype.to_string()),
            ("encaje.prefix", self.prefix.clone()),
            ("encaje.dimensions", self.dimensions.to_string()),
            ("encaje.job_id", self.job_id.clone()),
            ("encaje.spec_digest", self.spec_digest.clone()),
        ];
        let optional = [
            ("encaje.revision", &self.revision),
            ("encaje.prompt", &self.prompt),
            ("encaje.similarity", &self.similarity),
            ("encaje.delimiter", &self.delimiter),
            ("encaje.quote", &self.quote),
            ("encaje.encoding", &self.encoding),
        ];
        pairs.extend(optional.into_iter().filter_map(|(key, value)| value.clone().map(|value| (key, value))));
        pairs.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
    }

    /// Reads the footer key-values of `path`. Refuses a file that is not ours or is of a newer format.
    pub fn from_key_values(path: &Path, pairs: &[KeyValue]) -> Result<FileInfo, VectorsError> {
        let footer = Footer { path, pairs };
        let Some(format) = footer.get(FORMAT_KEY) else {
            let detail = "no `encaje.format` in its footer: it is not an output of encaje";
            return Err(VectorsError::unusable(path, detail));
        };
        check_format(path, format.parse().ok())?;
        let info = FileInfo {
            model: footer.text("encaje.model")?,
            revision: footer.get("encaje.revision").map(str::to_owned),
            model_digest: footer.text("encaje.model_digest")?,
            pooling: footer.text("encaje.pooling")?,
            normalized: footer.parse("encaje.normalized")?,
            max_length: footer.parse("encaje.max_length")?,
            dtype: footer.text("encaje.dtype")?,
            output_dtype: footer.parse("encaje.output_dtype")?,
            prefix: footer.text("encaje.prefix")?,
            prompt: footer.get("encaje.prompt").map(str::to_owned),
            similarity: footer.get("encaje.similarity").map(str::to_owned),
            delimiter: footer.get("encaje.delimiter").map(str::to_owned),
            quote: footer.get("encaje.quote").map(str::to_owned),
            encoding: footer.get("encaje.encoding").map(str::to_owned),
            dimensions: footer.parse("encaje.dimensions")?,
            job_id: footer.text("encaje.job_id")?,
            spec_digest: footer.text("encaje.spec_digest")?,
        };
        if info.dimensions == 0 {
            return Err(VectorsError::damaged(path, "`encaje.dimensions` is 0"));
        }
        check_dimensions(path, info.dimensions)?;
        Ok(info)
    }
}

/// Refuses a missing, unreadable or newer format version, telling the cases apart.
pub(super) fn check_format(path: &Path, format: Option<u64>) -> Result<(), VectorsError> {
    match format {
        Some(version) if version == u64::from(FORMAT) => Ok(()),
        Some(version) if version > u64::from(FORMAT) => Err(VectorsError::unusable(
            path,
            format!("it has format {version}, this program reads up to {FORMAT}: use a newer encaje"),
        )),
        Some(_) | None => Err(VectorsError::damaged(path, "its format version is not a number from 1 on")),
    }
}

/// The key-values of one footer, with errors that name the file and the key.
pub(super) struct Footer<'a> {
    pub(super) path: &'a Path,
    pub(super) pairs: &'a [KeyValue],
}

impl<'a> Footer<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref())
    }

    fn text(&self, key: &str) -> Result<String, VectorsError> {
        let missing = || VectorsError::damaged(self.path, format!("no `{key}` in its footer"));
        self.get(key).map(str::to_owned).ok_or_else(missing)
    }

    fn parse<T: FromStr>(&self, key: &str) -> Result<T, VectorsError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| VectorsError::damaged(self.path, format!("`{key}` in its footer reads `{text}`")))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use spec::ComputeDtype;

    use super::*;

    pub(in crate::vectors) fn info(dimensions: u32) -> FileInfo {
        FileInfo {
            model: "owner/name".into(),
            revision: Some("abc".into()),
            model_digest: "d".repeat(64),
            pooling: "cls".into(),
            normalized: true,
            max_length: 128,
            dtype: "f32".into(),
            output_dtype: OutputDtype::F32,
            prefix: "query: ".into(),
            prompt: None,
            similarity: None,
            delimiter: None,
            quote: None,
            encoding: None,
            dimensions,
            job_id: "job-1".into(),
            spec_digest: "e".repeat(64),
        }
    }

    #[test]
    fn a_manifest_of_an_older_release_lacks_what_it_does_not_know() {
        let file = FileInfo { delimiter: Some(";".into()), ..info(4) };
        assert!(info(4).agrees_with(&file) && file.agrees_with(&file));
        assert!(!file.agrees_with(&info(4)), "a file says all that its writer knows");
        assert!(!FileInfo { delimiter: Some(",".into()), ..info(4) }.agrees_with(&file));
        assert!(!FileInfo { job_id: "job-2".into(), ..info(4) }.agrees_with(&file));
    }

    fn set(pairs: &mut [KeyValue], key: &str, value: &str) {
        pairs.iter_mut().find(|pair| pair.key == key).unwrap().value = Some(value.into());
    }

    #[test]
    fn footer_values_come_back() {
        for name in [None, Some("r".to_owned())] {
            let (prompt, similarity) = (name.clone(), name.clone());
            let written = FileInfo { revision: name, prompt, similarity, prefix: String::new(), ..info(8) };
            let read = FileInfo::from_key_values(Path::new("f"), &written.to_key_values()).unwrap();
            assert_eq!(read, written);
        }
    }

    #[test]
    fn the_dialect_is_in_the_footer_where_the_job_gave_one() {
        let model = ModelSpec { name: "owner/name".into(), revision: None, digest: "d".repeat(64) };
        let embed = EmbedSpec {
            pooling: None,
            normalize: true,
            max_length: None,
            prefix: String::new(),
            dtype: ComputeDtype::F32,
            output_dtype: OutputDtype::F32,
            dimensions: None,
            batch_tokens: None,
            prompt: None,
            similarity: None,
        };
        let keys = |read: &ReadOptions| {
            let info = FileInfo { dimensions: 8, ..FileInfo::of(&model, &embed, read, None) };
            let pairs = info.to_key_values();
            assert_eq!(FileInfo::from_key_values(Path::new("f"), &pairs).unwrap(), info);
            let dialect = ["encaje.delimiter", "encaje.quote", "encaje.encoding"];
            let found = pairs.into_iter().filter(|pair| dialect.contains(&pair.key.as_str()));
            found.filter_map(|pair| pair.value).collect::<Vec<String>>()
        };
        assert!(keys(&ReadOptions::default()).is_empty());
        let encoding = Some("latin1".to_owned());
        let read = ReadOptions { delimiter: Some(';'), quote: Some(Quote::None), encoding, ..ReadOptions::default() };
        assert_eq!(keys(&read), [";", "none", "windows-1252"]);
    }

    #[test]
    fn a_newer_format_is_refused_by_number() {
        let mut pairs = info(8).to_key_values();
        set(&mut pairs, FORMAT_KEY, "2");
        let error = FileInfo::from_key_values(Path::new("f.parquet"), &pairs).unwrap_err().to_string();
        assert!(error.contains("format 2") && error.contains("newer encaje") && error.contains("f.parquet"), "{error}");
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let error = FileInfo::from_key_values(Path::new("f"), &[]).unwrap_err();
        assert!(matches!(error, VectorsError::Unusable { .. }), "{error}");
    }

    #[test]
    fn a_bad_value_names_its_key() {
        for (key, value) in [
            ("encaje.dimensions", "x"),
            ("encaje.dimensions", "0"),
            ("encaje.dimensions", "2147483648"),
            ("encaje.output_dtype", "f64"),
        ] {
            let mut pairs = info(8).to_key_values();
            set(&mut pairs, key, value);
            let error = FileInfo::from_key_values(Path::new("f"), &pairs).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
