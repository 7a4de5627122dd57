//! Looks at the headers of all sources before any work: what is wrong with a corpus shall be said in the first second.

use std::collections::HashSet;

use arrow_schema::{DataType, Field, Schema};
use spec::{Format, Keep, ReadOptions, Source};

use crate::corpus::PlannedSource;
use crate::corpus::columnar::{self, is_text};
use crate::corpus::dialect::{self, Dialect};
use crate::corpus::jsonl::Inference;
use crate::corpus::notice::Notice;
use crate::corpus::object::Object;
use crate::corpus::sample::Front;
use crate::corpus::schema::{Columns, SourceColumns, encode_schema, unify, unique_names};
use crate::error::DatasetError;

/// Reads headers and footers (of JSON: a sample) only, and decides the kept columns over all sources.
///
/// # Errors
/// A source is missing, empty without a header, damaged, in another format or another encoding; the text column, id column
/// or a kept column is not there; a kept column collides with an output column, or has two types; an option applies to
/// none of the sources. Each names the source or the option.
pub async fn inspect(sources: &[Source], options: &ReadOptions) -> Result<Vec<PlannedSource>, DatasetError> {
    inspect_with_notices(sources, options).await.map(|(planned, _)| planned)
}

/// As [`inspect`](fn@inspect), and returns the warnings too.
///
/// # Errors
/// As [`inspect`](fn@inspect).
pub async fn inspect_with_notices(
    sources: &[Source],
    options: &ReadOptions,
) -> Result<(Vec<PlannedSource>, Vec<Notice>), DatasetError> {
    dialect::check(sources, options)?;
    let mut columns = Vec::with_capacity(sources.len());
    let mut fingerprints = Vec::with_capacity(sources.len());
    let (mut inference, mut notices) = (Inference::default(), Vec::new());
    for source in sources {
        let object = Object::open(&source.uri).await?;
        columns.push(columns_of(&object, source, options, &mut inference, &mut notices).await?);
        object.check().await?;
        fingerprints.push(object.fingerprint().clone());
    }
    let kept = unify(&columns, &inference, options)?;
    let kept_schema = encode_schema(&kept);
    let planned = sources.iter().zip(columns).zip(fingerprints).map(|((source, columns), fingerprint)| {
        let header = match source.format {
            Format::Csv | Format::Tsv => names_read(columns.names(), &kept, options),
            Format::Jsonl | Format::Parquet | Format::Arrow | Format::Txt => Vec::new(),
        };
        PlannedSource { source: source.clone(), fingerprint, header, kept_schema: kept_schema.clone() }
    });
    Ok((planned.collect(), notices))
}

/// Empties the names of columns that are not read: a header of thousands of columns, of which few are kept, stays short.
/// Their places count, since every record has a field for each.
fn names_read(names: Vec<String>, kept: &Schema, options: &ReadOptions) -> Vec<String> {
    let read: HashSet<&str> = kept.fields().iter().map(|field| field.name().as_str()).collect();
    let is_read = |name: &str| name == options.text_column || read.contains(name);
    names.into_iter().map(|name| if is_read(&name) { name } else { String::new() }).collect()
}

async fn columns_of(
    object: &Object,
    source: &Source,
    options: &ReadOptions,
    inference: &mut Inference,
    notices: &mut Vec<Notice>,
) -> Result<SourceColumns, DatasetError> {
    let utf8 = |name: &str| Field::new(name, DataType::Utf8, true);
    let columns = match source.format {
        Format::Csv | Format::Tsv => {
            let front = Front::read(object, source, options).await?;
            let found = front.header(object, Dialect::of(source.format, options))?;
            let names = unique_names(found.clone());
            let renamed = names.iter().zip(&found).filter(|(name, found)| name != found);
            let renamed: Vec<String> = renamed.map(|(name, _)| name.clone()).collect();
            if !renamed.is_empty() && options.keep == Keep::All {
                notices.push(Notice::ColumnsRenamed { uri: source.uri.clone(), names: renamed });
            }
            // A header that was cut at the wrong character says more than its rows.
            if names.contains(&options.text_column) {
                notices.extend(front.judge(object, source.format, &names, options)?);
            }
            Columns::Typed(names.iter().map(|name| utf8(name)).collect())
        }
        Format::Txt => {
            let front = Front::read(object, source, options).await?;
            notices.extend(front.judge(object, source.format, &[], options)?);
            Columns::Typed(vec![utf8(&options.text_column)])
        }
        Format::Jsonl => {
            let front = Front::read(object, source, options).await?;
            let sample = front.infer(object).await?;
            notices.extend(front.judge(object, source.format, &[], options)?);
            inference.merge(&sample.inference);
            match sample.objects {
                0 => Columns::Unknown,
                _ => Columns::Sampled { keys: sample.inference.keys(), is_complete: sample.is_complete },
            }
        }
        Format::Parquet | Format::Arrow => {
            let schema = columnar::fields(object, source.format).await?;
            check_text_type(object, schema.field_with_name(&options.text_column).ok())?;
            Columns::Typed(schema.fields().iter().map(|field| field.as_ref().clone()).collect())
        }
    };
    Ok(SourceColumns::new(&source.uri, source.format, columns))
}

fn check_text_type(object: &Object, text: Option<&Field>) -> Result<(), DatasetError> {
    match text {
        Some(field) if !is_text(field.data_type()) => {
            let (name, data_type) = (field.name(), field.data_type());
            let problem = format!("its column `{name}` is {data_type}, not text: name another with --text-column");
            Err(DatasetError::bad_input(object.name(), problem))
        }
        _ => Ok(()),
    }
}
