//! Preflight check of all sources by their headers, so that problems are reported at once.

use std::collections::HashSet;

use arrow_schema::{Field, Schema};
use spec::{ReadOptions, Source};

use crate::corpus::PlannedSource;
use crate::corpus::columnar::{self, is_text};
use crate::corpus::dialect::Dialect;
use crate::corpus::formats::{self, Layout};
use crate::corpus::inference::Inference;
use crate::corpus::notice::Notice;
use crate::corpus::object::Object;
use crate::corpus::schema::{Columns, SourceColumns, encode_schema, unify};
use crate::corpus::text_format::ColumnProbe;
use crate::error::DatasetError;

/// Reads only headers and footers (a sample of JSON), and determines the kept columns over all sources.
///
/// # Errors
/// A source is missing, empty without a header, damaged, or in another format or encoding; the text column, id column
/// or a kept column is missing; a kept column collides with an output column, or has two types; an option applies to
/// no source. Each names the source or the option.
pub async fn inspect(sources: &[Source], options: &ReadOptions) -> Result<Vec<PlannedSource>, DatasetError> {
    inspect_with_notices(sources, options).await.map(|(planned, _)| planned)
}

/// As [`inspect`](fn@inspect), and also returns the warnings.
///
/// # Errors
/// As [`inspect`](fn@inspect).
pub async fn inspect_with_notices(
    sources: &[Source],
    options: &ReadOptions,
) -> Result<(Vec<PlannedSource>, Vec<Notice>), DatasetError> {
    formats::check_dialect(sources, options)?;
    let mut columns = Vec::with_capacity(sources.len());
    let mut fingerprints = Vec::with_capacity(sources.len());
    let (mut inference, mut notices) = (Inference::default(), Vec::new());
    for source in sources {
        let object = Object::open(&source.uri).await?;
        let (inference, notices) = (&mut inference, &mut notices);
        columns.push(columns_of(ColumnProbe { object: &object, source, options, inference, notices }).await?);
        object.check().await?;
        fingerprints.push(object.fingerprint().clone());
    }
    let kept = unify(&columns, &inference, options)?;
    let kept_schema = encode_schema(&kept);
    let planned = sources.iter().zip(columns).zip(fingerprints).map(|((source, columns), fingerprint)| {
        let header = match formats::is_delimited(source.format) {
            true => header_of_selection(columns.names(), &kept, options),
            false => Vec::new(),
        };
        PlannedSource { source: source.clone(), fingerprint, header, kept_schema: kept_schema.clone() }
    });
    Ok((planned.collect(), notices))
}

/// Returns the names of the columns of a source, in order; of JSON those of its sample.
///
/// # Errors
/// As [`inspect`](fn@inspect), of one source.
pub async fn column_names(source: &Source, options: &ReadOptions) -> Result<Vec<String>, DatasetError> {
    let object = Object::open(&source.uri).await?;
    let (mut inference, mut notices) = (Inference::default(), Vec::new());
    let (inference, notices) = (&mut inference, &mut notices);
    let columns = columns_of(ColumnProbe { object: &object, source, options, inference, notices }).await?;
    Ok(columns.names())
}

/// Blanks the names of columns that are not read, to keep headers of thousands of columns short. Their positions
/// count, since every record has a field for each.
fn header_of_selection(names: Vec<String>, kept: &Schema, options: &ReadOptions) -> Vec<String> {
    let read: HashSet<&str> = kept.fields().iter().map(|field| field.name().as_str()).collect();
    let is_read = |name: &str| name == options.text_column || read.contains(name);
    names.into_iter().map(|name| if is_read(&name) { name } else { String::new() }).collect()
}

async fn columns_of(probe: ColumnProbe<'_>) -> Result<SourceColumns, DatasetError> {
    let Source { uri, format, .. } = probe.source;
    let dialect = formats::is_delimited(*format).then(|| Dialect::of(*format, probe.options));
    let columns = match formats::layout(*format).0 {
        Layout::Text(text) => text.columns(probe).await?,
        Layout::Columnar(columnar) => {
            let schema = columnar::fields(probe.object, columnar).await?;
            check_text_type(probe.object, schema.field_with_name(&probe.options.text_column).ok())?;
            Columns::Typed(schema.fields().iter().map(|field| field.as_ref().clone()).collect())
        }
    };
    Ok(SourceColumns::new(uri, dialect, columns))
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
