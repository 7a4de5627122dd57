//! The schema of the kept columns: determined before any work, the same in every planned source.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use arrow_ipc::convert::try_schema_from_ipc_buffer;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{DataType, Field, Schema};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use spec::{Keep, ReadOptions};

use crate::corpus::PlannedSource;
use crate::corpus::dialect::Dialect;
use crate::corpus::inference::Inference;
use crate::corpus::types::{common_field, is_string, stored_field};
use crate::error::DatasetError;
use crate::vectors::column_names::OUTPUT_COLUMNS;

/// Field metadata with the reason why a column cannot be read.
pub(crate) const UNREADABLE: &str = "encaje.unreadable";

/// Makes column names unique: repeated ones become `name_2`, `name_3`, …; empty ones `column_N`, N being the position
/// from 1. Names that occur in the file are never given to other columns. Pure.
pub(crate) fn unique_names(names: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().filter(|name| !name.is_empty()).cloned().collect();
    let mut seen: HashSet<String> = HashSet::new();
    let mut next_number: HashMap<String, u64> = HashMap::new();
    let mut unique = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        if !name.is_empty() && seen.insert(name.clone()) {
            unique.push(name);
            continue;
        }
        let base = if name.is_empty() { format!("column_{}", index + 1) } else { name };
        let mut new = base.clone();
        while taken.contains(&new) {
            let number = next_number.entry(base.clone()).or_insert(2);
            new = format!("{base}_{number}");
            *number += 1;
        }
        taken.insert(new.clone());
        unique.push(new);
    }
    unique
}

/// Default name of the column for members of JSON records without a column of their own.
const OVERFLOW_COLUMN: &str = "extra";

/// Field metadata that marks the overflow column.
const OVERFLOW_MARK: &str = "encaje.overflow";

pub(crate) fn is_overflow(field: &Field) -> bool {
    field.metadata().contains_key(OVERFLOW_MARK)
}

/// Returns the schema of the kept columns, which is the same for every source of a corpus.
///
/// # Errors
/// `Corrupt` if `kept_schema` was not written by [`inspect`](fn@crate::corpus::inspect).
pub fn kept_schema_of(source: &PlannedSource) -> Result<Schema, DatasetError> {
    let broken = |problem: String| DatasetError::corrupt(source.source.uri.as_str(), None, problem);
    let bytes = STANDARD
        .decode(&source.kept_schema)
        .map_err(|error| broken(format!("its planned schema is not base64: {error}")))?;
    try_schema_from_ipc_buffer(&bytes).map_err(|error| broken(format!("its planned schema does not decode: {error}")))
}

/// Encodes a schema as base64 of an encapsulated Arrow IPC schema message.
pub(crate) fn encode_schema(schema: &Schema) -> String {
    let mut tracker = DictionaryTracker::new(true);
    let message = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut tracker,
        &IpcWriteOptions::default(),
    );
    let mut bytes = vec![0xff; 4];
    let length = u32::try_from(message.ipc_message.len()).expect("a schema message is far below 4 GiB");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&message.ipc_message);
    STANDARD.encode(bytes)
}

/// The columns of one source.
#[derive(Debug, Clone)]
pub(crate) struct SourceColumns {
    pub(crate) uri: String,
    pub(crate) columns: Columns,
    /// The dialect of its header, if it has one.
    dialect: Option<Dialect>,
    /// Position of each name: a map, for up to a hundred thousand columns.
    places: OnceLock<HashMap<String, usize>>,
}

/// The columns that a source declares.
#[derive(Debug, Clone)]
pub(crate) enum Columns {
    /// Names and types.
    Typed(Vec<Field>),
    /// Keys of sampled JSON objects; their types are inferred over all sources.
    Sampled {
        keys: Vec<String>,
        /// Whether the sample is the whole source.
        is_complete: bool,
    },
    /// JSON lines without records: any column may exist.
    Unknown,
}

impl SourceColumns {
    pub(crate) fn new(uri: &str, dialect: Option<Dialect>, columns: Columns) -> Self {
        Self { uri: uri.to_owned(), columns, dialect, places: OnceLock::new() }
    }

    /// Returns the position of the first column of this name.
    fn place(&self, name: &str) -> Option<usize> {
        let places = || {
            let mut places = HashMap::new();
            for (place, name) in self.names().into_iter().enumerate() {
                places.entry(name).or_insert(place);
            }
            places
        };
        self.places.get_or_init(places).get(name).copied()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        match &self.columns {
            Columns::Typed(fields) => fields.iter().map(|field| field.name().clone()).collect(),
            Columns::Sampled { keys, .. } => keys.clone(),
            Columns::Unknown => Vec::new(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// Returns an error if a column exists but cannot be read.
    fn check_readable(&self, name: &str) -> Result<(), DatasetError> {
        match self.field(name).and_then(|field| field.metadata().get(UNREADABLE)) {
            Some(why) => Err(DatasetError::bad_input(self.uri.as_str(), format!("its column `{name}` {why}"))),
            None => Ok(()),
        }
    }

    fn must_have(&self, name: &str) -> bool {
        !matches!(self.columns, Columns::Unknown) && !self.has(name)
    }

    fn field(&self, name: &str) -> Option<&Field> {
        match &self.columns {
            Columns::Typed(fields) => self.place(name).map(|place| &fields[place]),
            Columns::Sampled { .. } | Columns::Unknown => None,
        }
    }
}

/// Determines the kept columns over all sources, or why the corpus cannot be read with these options. Pure.
pub(crate) fn unify(
    sources: &[SourceColumns],
    inference: &Inference,
    options: &ReadOptions,
) -> Result<Schema, DatasetError> {
    for source in sources {
        check_source(source, options)?;
    }
    let overflow = overflow_name(sources, options);
    let names = kept_names(sources, options, overflow.as_deref())?;
    for name in &names {
        if OUTPUT_COLUMNS.contains(&name.as_str())
            && let Some(source) = sources.iter().find(|source| source.has(name))
        {
            return Err(DatasetError::ColumnCollision { uri: source.uri.clone(), column: name.clone() });
        }
    }
    let field = |name: &String| match &overflow {
        Some(overflow) if overflow == name => {
            let mark = HashMap::from([(OVERFLOW_MARK.to_owned(), "true".to_owned())]);
            Ok(Field::new(name, DataType::Utf8, true).with_metadata(mark))
        }
        Some(_) | None => unify_column(name, sources, inference),
    };
    let fields: Result<Vec<Field>, DatasetError> = names.iter().map(field).collect();
    Ok(Schema::new(fields?))
}

/// Returns the name of the overflow column, if there is one: `--keep` names it, or all columns are kept and a JSON
/// source is larger than its sample, so that later records may have other keys and types.
fn overflow_name(sources: &[SourceColumns], options: &ReadOptions) -> Option<String> {
    let is_free = |name: &str| name != options.text_column && !sources.iter().any(|source| source.has(name));
    let name = if is_free(OVERFLOW_COLUMN) {
        OVERFLOW_COLUMN.to_owned()
    } else {
        let mut names = (2_u64..).map(|number| format!("{OVERFLOW_COLUMN}_{number}"));
        names.find(|name| is_free(name)).expect("more numbers than columns")
    };
    let has_json = sources.iter().any(|source| !matches!(source.columns, Columns::Typed(_)));
    let may_overflow = |source: &SourceColumns| matches!(source.columns, Columns::Sampled { is_complete: false, .. });
    let is_similar = match &options.keep {
        Keep::All => sources.iter().any(may_overflow),
        Keep::None => false,
        Keep::Columns(columns) => has_json && columns.contains(&name),
    };
    is_similar.then_some(name)
}

/// Checks a source: unique names, text column, id column.
fn check_source(source: &SourceColumns, options: &ReadOptions) -> Result<(), DatasetError> {
    let mut seen = HashMap::new();
    let names = source.names();
    if let Some(twice) = names.iter().find(|name| seen.insert(name.as_str(), ()).is_some()) {
        return Err(DatasetError::DuplicateColumn { uri: source.uri.clone(), column: twice.clone() });
    }
    source.check_readable(&options.text_column)?;
    if source.must_have(&options.text_column) {
        return Err(DatasetError::TextColumnMissing {
            uri: source.uri.clone(),
            column: options.text_column.clone(),
            hint: hint(source.dialect, &names, options),
            found: names,
        });
    }
    match &options.id_column {
        Some(id) if source.must_have(id) => Err(DatasetError::ColumnMissing {
            uri: source.uri.clone(),
            column: id.clone(),
            option: "--id-column",
            found: names,
        }),
        _ => Ok(()),
    }
}

/// Guesses why the text column is missing.
fn hint(dialect: Option<Dialect>, names: &[String], options: &ReadOptions) -> String {
    let target = options.text_column.trim().to_lowercase();
    let is_similar = |name: &str| name.trim().trim_matches('"').to_lowercase() == target;
    if let Some(name) = names.iter().find(|name| is_similar(name)) {
        return format!(" (is it `{}`?)", name.escape_debug());
    }
    let Some(dialect) = dialect else { return String::new() };
    let own = char::from(dialect.delimiter);
    let line = names.join(&own.to_string());
    let others = [(';', "semicolons"), ('\t', "tabs"), ('|', "vertical bars"), (',', "commas"), (':', "colons")];
    let mut others = others.into_iter().filter(|(delimiter, _)| *delimiter != own && line.contains(*delimiter));
    let other = match names {
        [_] => others.next(),
        _ => others.find(|(delimiter, _)| line.split(*delimiter).any(is_similar)),
    };
    let Some((delimiter, what)) = other else { return String::new() };
    let remedy = match delimiter {
        '\t' if options.delimiter.is_none() => "--format tsv".to_owned(),
        ',' if options.delimiter.is_none() => "--format csv".to_owned(),
        '\t' => "--delimiter tab".to_owned(),
        other => format!("--delimiter '{other}'"),
    };
    format!("; its header is separated by {what}: add {remedy}")
}

/// Returns the names of the kept columns in output order.
fn kept_names(
    sources: &[SourceColumns],
    options: &ReadOptions,
    overflow: Option<&str>,
) -> Result<Vec<String>, DatasetError> {
    let mut names: Vec<String> = Vec::new();
    let mut known: HashSet<String> = HashSet::new();
    let id = options.id_column.iter().cloned();
    match &options.keep {
        Keep::None => names.extend(id),
        Keep::All => {
            for name in sources.iter().flat_map(SourceColumns::names).chain(id) {
                if known.insert(name.clone()) {
                    names.push(name);
                }
            }
            names.extend(overflow.map(str::to_owned));
        }
        Keep::Columns(columns) => {
            names.extend(id.filter(|id| !columns.contains(id)));
            for column in columns {
                let is_overflow = overflow == Some(column.as_str());
                let is_twice = !known.insert(column.clone());
                check_kept(column, is_twice, if is_overflow { &[] } else { sources })?;
                names.push(column.clone());
            }
        }
    }
    Ok(names)
}

fn check_kept(column: &str, is_twice: bool, sources: &[SourceColumns]) -> Result<(), DatasetError> {
    if is_twice {
        return Err(DatasetError::bad_input(column, "--keep names this column twice"));
    }
    let is_known = sources.iter().any(|source| source.has(column));
    match sources.iter().find(|source| source.must_have(column)) {
        // One source with the column suffices; rows of the others get null.
        Some(source) if !is_known => Err(DatasetError::ColumnMissing {
            uri: source.uri.clone(),
            column: column.to_owned(),
            option: "--keep",
            found: source.names(),
        }),
        _ => Ok(()),
    }
}

/// Returns the type of a column that holds the values of all sources without loss.
fn unify_column(name: &str, sources: &[SourceColumns], inference: &Inference) -> Result<Field, DatasetError> {
    let mut decided: Option<(&SourceColumns, Field)> = None;
    for source in sources {
        let Some(found) = source.field(name) else { continue };
        source.check_readable(name)?;
        let stored = stored_field(found).map_err(|why| not_stored(source, found, &why))?;
        decided = Some(match decided {
            None => (source, stored),
            Some((first, field)) => match common_field(&field, &stored) {
                Some(common) => (first, common),
                None => return Err(conflict(name, (first, field.data_type()), (source, stored.data_type()))),
            },
        });
    }
    let inferred = inference.type_of(name);
    let Some((first, field)) = decided else {
        return Ok(Field::new(name, inferred.unwrap_or(DataType::Utf8), true));
    };
    let is_sampled = |source: &&SourceColumns| matches!(source.columns, Columns::Sampled { .. }) && source.has(name);
    match (inferred, sources.iter().find(is_sampled)) {
        (Some(inferred), Some(sampled)) => {
            with_json(&field, &inferred).ok_or_else(|| conflict(name, (first, field.data_type()), (sampled, &inferred)))
        }
        _ => Ok(field),
    }
}

/// JSON values adapt: they are stored as text if another source has text.
fn with_json(field: &Field, inferred: &DataType) -> Option<Field> {
    if is_string(field.data_type()) {
        return Some(field.clone().with_data_type(DataType::Utf8));
    }
    let common = common_field(field, &Field::new(field.name(), inferred.clone(), true))?;
    matches!(common.data_type(), DataType::Int64 | DataType::Float64 | DataType::Boolean | DataType::Utf8)
        .then_some(common)
}

fn conflict(column: &str, first: (&SourceColumns, &DataType), second: (&SourceColumns, &DataType)) -> DatasetError {
    DatasetError::ColumnTypeConflict {
        column: column.to_owned(),
        first_uri: first.0.uri.clone(),
        first_type: first.1.to_string(),
        second_uri: second.0.uri.clone(),
        second_type: second.1.to_string(),
    }
}

fn not_stored(source: &SourceColumns, found: &Field, why: &str) -> DatasetError {
    let (name, kind) = (found.name(), found.data_type());
    let problem = format!(
        "its column `{name}` is {kind}, which cannot be kept: {why}; leave it out with --keep (a list of the columns to \
         pass through, or `none`), or convert it"
    );
    DatasetError::bad_input(source.uri.as_str(), problem)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
