//! The output type of each kept column, and the common type over several sources. Pure.
//!
//! The output is Parquet for any reader. Types whose meaning only the Arrow schema in the footer preserves (seconds,
//! dates in milliseconds), or that make other readers fail, are converted without loss, or refused. FORMAT.md has the
//! table; `convert` the conversions.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::extension::{EXTENSION_TYPE_METADATA_KEY, EXTENSION_TYPE_NAME_KEY};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

/// Field metadata with column numbers of a particular parquet file.
const PARQUET_FIELD_ID: &str = "PARQUET:field_id";

/// Maximum digits of decimals in Polars and DuckDB.
const DIGITS_MAX: u8 = 38;

/// The default zone of instants.
const UTC: &str = "UTC";

/// Why a type cannot be kept, as the end of a sentence that begins with the column.
pub(crate) type Refusal = String;

/// Returns the output field: nullable, since a rejected row or another source may lack a value.
pub(crate) fn stored_field(field: &Field) -> Result<Field, Refusal> {
    let kept = match field.data_type() {
        // With the key type that pyarrow reads; other files may have other dictionaries.
        DataType::Dictionary(_, value) => match stored_type(value)? {
            kind @ (DataType::Utf8 | DataType::LargeUtf8) => string_dictionary(kind),
            kind => kind,
        },
        other => stored_type(other)?,
    };
    Ok(with_metadata_of(Field::new(field.name(), kept, true), field))
}

/// Returns the output type.
fn stored_type(found: &DataType) -> Result<DataType, Refusal> {
    Ok(match found {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Time32(TimeUnit::Millisecond)
        | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond)
        | DataType::Duration(_)
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::Utf8
        | DataType::LargeUtf8 => found.clone(),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) => DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(_) => DataType::Time64(TimeUnit::Nanosecond),
        DataType::Timestamp(unit, zone) => {
            let unit = if *unit == TimeUnit::Second { TimeUnit::Millisecond } else { *unit };
            DataType::Timestamp(unit, zone.as_deref().and_then(stored_zone).map(Arc::from))
        }
        DataType::BinaryView => DataType::Binary,
        DataType::Utf8View => DataType::Utf8,
        DataType::FixedSizeBinary(length) if *length > 0 => found.clone(),
        DataType::FixedSizeBinary(_) => return Err("Parquet has no values of no bytes".to_owned()),
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale)
        | DataType::Decimal256(digits, scale) => stored_decimal(found, *digits, *scale)?,
        DataType::Dictionary(_, value) => stored_type(value)?,
        DataType::RunEndEncoded(_, values) => stored_type(values.data_type())?,
        DataType::List(item) | DataType::ListView(item) => DataType::List(inner(item)?),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(inner(item)?),
        DataType::FixedSizeList(item, length) if *length > 0 => DataType::FixedSizeList(inner(item)?, *length),
        DataType::FixedSizeList(..) => return Err("Parquet has no lists of no elements".to_owned()),
        DataType::Struct(fields) if fields.is_empty() => return Err("Parquet has no structs without fields".to_owned()),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Result<Fields, _>>()?),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries)?, *sorted),
        DataType::Interval(_) => return Err("Parquet has no intervals that other programs read".to_owned()),
        DataType::Union(..) => return Err("Parquet has no unions".to_owned()),
    })
}

fn inner(field: &FieldRef) -> Result<FieldRef, Refusal> {
    let kept = Field::new(field.name(), stored_type(field.data_type())?, field.is_nullable());
    Ok(Arc::new(with_metadata_of(kept, field)))
}

/// Converts a zone that is a fixed offset to UTC, since Polars fails on it.
fn stored_zone(zone: &str) -> Option<&str> {
    let is_offset = zone.starts_with(['+', '-']);
    match zone {
        "" => None,
        "Z" | "utc" | "Etc/UTC" | "Etc/Zulu" | "Zulu" => Some(UTC),
        _ if is_offset => Some(UTC),
        other => Some(other),
    }
}

fn stored_decimal(found: &DataType, digits: u8, scale: i8) -> Result<DataType, Refusal> {
    // Parquet requires 0 <= scale <= digits.
    let more = u16::from(digits) + u16::from(scale.min(0).unsigned_abs());
    let needed = more.max(u16::from(scale.max(0).unsigned_abs()));
    match u8::try_from(needed) {
        Ok(needed) if needed == digits && scale >= 0 && digits <= DIGITS_MAX => Ok(match found {
            DataType::Decimal256(..) => DataType::Decimal128(digits, scale),
            other => other.clone(),
        }),
        Ok(needed) if needed <= DIGITS_MAX => Ok(DataType::Decimal128(needed, scale.max(0))),
        Ok(_) | Err(_) => Err(format!("Polars and DuckDB read no decimals of more than {DIGITS_MAX} digits")),
    }
}

fn string_dictionary(value: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(value))
}

/// Copies the metadata that still applies. An extension type is dropped if its storage type changed.
fn with_metadata_of(kept: Field, found: &Field) -> Field {
    let mut metadata = found.metadata().clone();
    metadata.remove(PARQUET_FIELD_ID);
    let same = kept.data_type() == found.data_type() || (is_string(kept.data_type()) && is_string(found.data_type()));
    if !same {
        metadata.remove(EXTENSION_TYPE_NAME_KEY);
        metadata.remove(EXTENSION_TYPE_METADATA_KEY);
    }
    kept.with_metadata(metadata)
}

/// Returns whether a column of this type holds strings.
pub(crate) fn is_string(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_string(value),
        DataType::RunEndEncoded(_, values) => is_string(values.data_type()),
        _ => false,
    }
}

/// Returns a field that holds the values of both without loss; `None` if the types have different meanings. The name
/// is the first's.
pub(crate) fn common_field(one: &Field, other: &Field) -> Option<Field> {
    let kind = common_type(one.data_type(), other.data_type())?;
    let metadata = match (one.data_type(), other.data_type()) {
        (DataType::Null, _) => other.metadata().clone(),
        (_, DataType::Null) => one.metadata().clone(),
        _ => one
            .metadata()
            .iter()
            .filter(|(key, value)| other.metadata().get(key) == Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    };
    let common = Field::new(one.name(), kind, one.is_nullable() || other.is_nullable());
    let storage = if *one.data_type() == DataType::Null { other } else { one };
    Some(with_metadata_of(common, &storage.clone().with_metadata(metadata)))
}

/// Returns a type that holds the values of both.
fn common_type(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, Date32, Duration, FixedSizeBinary, FixedSizeList, LargeBinary, LargeList, LargeUtf8, List, Map, Null,
        Struct, Time32, Time64, Timestamp, Utf8,
    };
    match (one, other) {
        (one, other) if one == other => Some(one.clone()),
        (Null, kind) | (kind, Null) => Some(kind.clone()),
        (DataType::Dictionary(..), DataType::Dictionary(..)) => Some(string_dictionary(Utf8)),
        (one, other) if is_string(one) && is_string(other) => Some(Utf8),
        (Binary | LargeBinary | FixedSizeBinary(_), Binary | LargeBinary | FixedSizeBinary(_)) => Some(Binary),
        (Timestamp(one, zone), Timestamp(other, same)) if zone == same => {
            Some(Timestamp(finer(*one, *other), zone.clone()))
        }
        (Duration(one), Duration(other)) => Some(Duration(finer(*one, *other))),
        (Time32(one) | Time64(one), Time32(other) | Time64(other)) => Some(Time64(finer(*one, *other))),
        (List(one) | LargeList(one), List(other) | LargeList(other) | FixedSizeList(other, _))
        | (FixedSizeList(one, _), List(other) | LargeList(other)) => Some(List(Arc::new(common_field(one, other)?))),
        (FixedSizeList(one, length), FixedSizeList(other, same)) => {
            let item = Arc::new(common_field(one, other)?);
            Some(if length == same { FixedSizeList(item, *length) } else { List(item) })
        }
        (Map(one, sorted), Map(other, also)) => Some(Map(common_entries(one, other)?, *sorted && *also)),
        (Struct(one), Struct(other)) => common_fields(one, other).map(Struct),
        (LargeUtf8 | Date32, _) | (_, LargeUtf8 | Date32) => None,
        (one, other) => common_number(one, other),
    }
}

/// Returns the fields of both structs by name; those missing in one are null there.
fn common_fields(one: &Fields, other: &Fields) -> Option<Fields> {
    let names_once = |fields: &Fields| {
        let count = fields.iter().map(|field| field.name()).collect::<HashSet<_>>().len();
        count == fields.len()
    };
    if !names_once(one) || !names_once(other) {
        return None;
    }
    let optional = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let mut fields = Vec::new();
    for field in one {
        fields.push(match other.find(field.name()) {
            Some((_, same)) => Arc::new(common_field(field, same)?),
            None => optional(field),
        });
    }
    fields.extend(other.iter().filter(|field| one.find(field.name()).is_none()).map(optional));
    Some(fields.into())
}

/// Combines entries by position, since writers name keys and values differently.
fn common_entries(one: &FieldRef, other: &FieldRef) -> Option<FieldRef> {
    let (DataType::Struct(mine), DataType::Struct(theirs)) = (one.data_type(), other.data_type()) else { return None };
    let entries = mine.iter().zip(theirs).map(|(mine, theirs)| common_field(mine, theirs));
    let entries = DataType::Struct(entries.collect::<Option<Fields>>()?);
    Some(Arc::new(one.as_ref().clone().with_data_type(entries)))
}

fn finer(one: TimeUnit, other: TimeUnit) -> TimeUnit {
    one.max(other)
}

fn common_number(one: &DataType, other: &DataType) -> Option<DataType> {
    match (Number::of(one)?, Number::of(other)?) {
        (Number::Int { bits: one, signed }, Number::Int { bits: other, signed: same }) if signed == same => {
            Some(integer(one.max(other), signed))
        }
        (Number::Int { bits, signed }, Number::Int { bits: other, .. }) => {
            let (with_sign, without) = if signed { (bits, other) } else { (other, bits) };
            let bits = with_sign.max(without * 2);
            (bits <= 64).then(|| integer(bits, true))
        }
        (Number::Float { bits: one }, Number::Float { bits: other }) => Some(float(one.max(other))),
        (Number::Int { bits: int, .. }, Number::Float { bits: float_bits })
        | (Number::Float { bits: float_bits }, Number::Int { bits: int, .. }) => {
            // The smallest float whose fraction holds all such integers; of 64-bit integers each value is checked.
            let exact = match int {
                8 => 16,
                16 => 32,
                _ => 64,
            };
            Some(float(float_bits.max(exact)))
        }
        (Number::Decimal { .. }, Number::Float { .. }) | (Number::Float { .. }, Number::Decimal { .. }) => None,
        (one, other) => {
            let ((one, one_scale), (other, other_scale)) = (one.as_decimal()?, other.as_decimal()?);
            let scale = one_scale.max(other_scale);
            let digits = (one - one_scale).max(other - other_scale) + scale;
            (digits <= DIGITS_MAX).then(|| DataType::Decimal128(digits, i8::try_from(scale).unwrap_or(i8::MAX)))
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Int { bits: u8, signed: bool },
    Float { bits: u8 },
    Decimal { digits: u8, scale: u8 },
}

impl Number {
    fn of(data_type: &DataType) -> Option<Number> {
        Some(match data_type {
            DataType::Int8 => Number::Int { bits: 8, signed: true },
            DataType::Int16 => Number::Int { bits: 16, signed: true },
            DataType::Int32 => Number::Int { bits: 32, signed: true },
            DataType::Int64 => Number::Int { bits: 64, signed: true },
            DataType::UInt8 => Number::Int { bits: 8, signed: false },
            DataType::UInt16 => Number::Int { bits: 16, signed: false },
            DataType::UInt32 => Number::Int { bits: 32, signed: false },
            DataType::UInt64 => Number::Int { bits: 64, signed: false },
            DataType::Float16 => Number::Float { bits: 16 },
            DataType::Float32 => Number::Float { bits: 32 },
            DataType::Float64 => Number::Float { bits: 64 },
            DataType::Decimal32(digits, scale)
            | DataType::Decimal64(digits, scale)
            | DataType::Decimal128(digits, scale) => {
                Number::Decimal { digits: *digits, scale: u8::try_from(*scale).ok()? }
            }
            _ => return None,
        })
    }

    /// Returns digits and scale of a decimal that holds all of these numbers.
    fn as_decimal(self) -> Option<(u8, u8)> {
        match self {
            Number::Decimal { digits, scale } => Some((digits, scale)),
            Number::Float { .. } => None,
            Number::Int { bits, .. } => Some((
                match bits {
                    8 => 3,
                    16 => 5,
                    32 => 10,
                    _ => 20,
                },
                0,
            )),
        }
    }
}

fn integer(bits: u8, signed: bool) -> DataType {
    match (bits, signed) {
        (8, true) => DataType::Int8,
        (16, true) => DataType::Int16,
        (32, true) => DataType::Int32,
        (_, true) => DataType::Int64,
        (8, false) => DataType::UInt8,
        (16, false) => DataType::UInt16,
        (32, false) => DataType::UInt32,
        (_, false) => DataType::UInt64,
    }
}

fn float(bits: u8) -> DataType {
    match bits {
        16 => DataType::Float16,
        32 => DataType::Float32,
        _ => DataType::Float64,
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
