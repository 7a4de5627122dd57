//! Lossless conversion of columns to another type. Values that do not fit become null and are reported. Pure.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, DecimalType, Int64Type,
    UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, GenericListArray, Int64Array, MapArray, OffsetSizeTrait,
    PrimitiveArray, StructArray, new_null_array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_cast::cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields, TimeUnit};
use arrow_select::nullif::nullif;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub(crate) struct Converted {
    pub(crate) column: ArrayRef,
    /// Rows with a value that did not fit and is now null.
    pub(crate) lost: Vec<usize>,
}

/// Converts a column between types that [`types`](crate::corpus::types) pairs. Fails for other pairs, and for arrays
/// that contradict their type.
pub(crate) fn convert(column: &ArrayRef, to: &DataType) -> Result<Converted, ArrowError> {
    if column.data_type() == to && !has_decimals(to) {
        return Ok(Converted { column: Arc::clone(column), lost: Vec::new() });
    }
    let whole = values(column, to)?;
    if !whole.lost {
        return Ok(Converted { column: whole.array, lost: Vec::new() });
    }
    let mut lost = Vec::new();
    for row in 0..column.len() {
        if column.is_valid(row) && values(&column.slice(row, 1), to)?.lost {
            lost.push(row);
        }
    }
    let mask: BooleanArray = (0..column.len()).map(|row| Some(lost.binary_search(&row).is_ok())).collect();
    Ok(Converted { column: nullif(&whole.array, &mask)?, lost })
}

struct Values {
    array: ArrayRef,
    /// Whether some became null.
    lost: bool,
}

impl Values {
    /// Compares the null counts of leaf arrays.
    fn of(before: &dyn Array, after: ArrayRef) -> Values {
        Values { lost: after.logical_null_count() > before.logical_null_count(), array: after }
    }
}

fn values(from: &ArrayRef, to: &DataType) -> Result<Values, ArrowError> {
    let same = |array: ArrayRef| Values { array, lost: false };
    match (from.data_type(), to) {
        (one, other) if one == other && !has_decimals(one) => Ok(same(Arc::clone(from))),
        (DataType::Null, _) => Ok(same(new_null_array(to, from.len()))),
        (DataType::Dictionary(_, value), DataType::Dictionary(_, kind)) if value == kind => Ok(same(cast(from, to)?)),
        (DataType::Dictionary(_, value), _) => values(&cast(from, value)?, to),
        (DataType::RunEndEncoded(_, value), _) => values(&cast(from, value.data_type())?, to),
        (_, DataType::Dictionary(_, kind)) => {
            let plain = values(from, kind)?;
            Ok(Values { array: cast(&plain.array, to)?, lost: plain.lost })
        }
        (_, kind) if kind.is_decimal() => Ok(Values::of(from, within_digits(&cast(from, to)?))),
        (DataType::Date64, DataType::Date32) => {
            let days = |ms: i64| i32::try_from(ms.div_euclid(DAY_MS)).ok();
            Ok(Values::of(from, Arc::new(from.as_primitive::<Date64Type>().unary_opt::<_, Date32Type>(days))))
        }
        (one, other) if tick_of(one).is_some() && tick_of(other).is_some() => ticks(from, to),
        (one, other) if one.is_integer() && other.is_floating() => floats(from, to),
        (DataType::Struct(_), DataType::Struct(fields)) => structs(from.as_struct(), fields),
        (DataType::Map(..), DataType::Map(entries, sorted)) => maps(from.as_map(), entries, *sorted),
        (one, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) if is_list(one) => {
            lists(from, to, item)
        }
        _ => Ok(Values::of(from, cast(from, to)?)),
    }
}

/// Casts by arrow's cast, which turns values that do not fit into null.
fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: true, ..CastOptions::default() })
}

fn has_decimals(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_decimals(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_decimals(field.data_type())),
        other => other.is_decimal(),
    }
}

/// Nulls decimals with more digits than their type, which Arrow does not check and Parquet would store wrongly.
fn within_digits(decimals: &ArrayRef) -> ArrayRef {
    fn checked<T: DecimalType>(decimals: &ArrayRef, digits: u8) -> ArrayRef {
        let kept = decimals.as_primitive::<T>().null_if_overflow_precision(digits);
        Arc::new(kept.with_data_type(decimals.data_type().clone()))
    }
    match decimals.data_type() {
        DataType::Decimal32(digits, _) => checked::<Decimal32Type>(decimals, *digits),
        DataType::Decimal64(digits, _) => checked::<Decimal64Type>(decimals, *digits),
        DataType::Decimal128(digits, _) => checked::<Decimal128Type>(decimals, *digits),
        _ => Arc::clone(decimals),
    }
}

/// Converts integers to floats, losing those that do not round-trip.
fn floats(from: &ArrayRef, to: &DataType) -> Result<Values, ArrowError> {
    let floats = cast(from, to)?;
    let widest = if from.data_type().is_signed_integer() { DataType::Int64 } else { DataType::UInt64 };
    let (before, after) = (cast(from, &widest)?, cast(&floats, &widest)?);
    let differs: BooleanArray = match widest {
        DataType::Int64 => differing(before.as_primitive::<Int64Type>(), after.as_primitive()),
        _ => differing(before.as_primitive::<UInt64Type>(), after.as_primitive()),
    };
    Ok(Values { lost: differs.true_count() > 0, array: nullif(&floats, &differs)? })
}

fn differing<T: ArrowPrimitiveType>(before: &PrimitiveArray<T>, after: &PrimitiveArray<T>) -> BooleanArray {
    before.iter().zip(after).map(|(before, after)| Some(before.is_some() && before != after)).collect()
}

/// Returns the units per second of a temporal type.
fn tick_of(data_type: &DataType) -> Option<i64> {
    let (DataType::Timestamp(unit, _) | DataType::Duration(unit) | DataType::Time32(unit) | DataType::Time64(unit)) =
        data_type
    else {
        return None;
    };
    Some(match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    })
}

/// Converts temporal values to finer units; instants may also change their display zone.
fn ticks(from: &ArrayRef, to: &DataType) -> Result<Values, ArrowError> {
    let (Some(before), Some(after)) = (tick_of(from.data_type()), tick_of(to)) else {
        return Err(ArrowError::CastError("not a time".to_owned()));
    };
    let narrow = |data_type: &DataType| matches!(data_type, DataType::Time32(_));
    let counts = match from.data_type() {
        kind if narrow(kind) => cast(&cast(from, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(from, &DataType::Int64)?,
    };
    let factor = after / before;
    let counts: Int64Array = counts.as_primitive::<Int64Type>().unary_opt(|count| count.checked_mul(factor));
    let counts: ArrayRef = Arc::new(counts);
    let counts = if narrow(to) { cast(&counts, &DataType::Int32)? } else { counts };
    Ok(Values::of(from, cast(&counts, to)?))
}

fn structs(from: &StructArray, fields: &Fields) -> Result<Values, ArrowError> {
    let mut lost = false;
    let mut columns = Vec::with_capacity(fields.len());
    for (place, field) in fields.iter().enumerate() {
        // By position first, since names may be repeated.
        let same_place = from.fields().get(place).filter(|found| found.name() == field.name()).map(|_| place);
        let found = same_place.or_else(|| from.fields().find(field.name()).map(|(index, _)| index));
        columns.push(match found {
            None => new_null_array(field.data_type(), from.len()),
            Some(index) => {
                let column = values(from.column(index), field.data_type())?;
                lost |= column.lost;
                column.array
            }
        });
    }
    let array = StructArray::try_new_with_length(fields.clone(), columns, from.nulls().cloned(), from.len())?;
    Ok(Values { array: Arc::new(array), lost })
}

fn maps(from: &MapArray, entries: &FieldRef, sorted: bool) -> Result<Values, ArrowError> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::CastError("a map without entries".to_owned()));
    };
    let whole: ArrayRef = Arc::new(from.entries().clone());
    let (offsets, found) = trimmed(from.offsets(), &whole);
    let found = found.as_struct();
    let mut lost = false;
    let mut columns = Vec::with_capacity(fields.len());
    for (column, field) in found.columns().iter().zip(fields) {
        let column = values(column, field.data_type())?;
        lost |= column.lost;
        columns.push(column.array);
    }
    let inner = StructArray::try_new_with_length(fields.clone(), columns, found.nulls().cloned(), found.len())?;
    let array = MapArray::try_new(Arc::clone(entries), offsets, inner, from.nulls().cloned(), sorted)?;
    Ok(Values { array: Arc::new(array), lost })
}

/// Returns offsets and elements restricted to the lists: a sliced array still has all elements.
fn trimmed<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, elements: &ArrayRef) -> (OffsetBuffer<O>, ArrayRef) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let shifted: Vec<O> = offsets.iter().map(|offset| *offset - first).collect();
    let elements = elements.slice(first.as_usize(), (last - first).as_usize());
    (OffsetBuffer::new(ScalarBuffer::from(shifted)), elements)
}

fn is_list(data_type: &DataType) -> bool {
    use DataType::{FixedSizeList, LargeList, LargeListView, List, ListView};
    matches!(data_type, List(_) | LargeList(_) | ListView(_) | LargeListView(_) | FixedSizeList(..))
}

/// Converts the list layout, then the elements.
fn lists(from: &ArrayRef, to: &DataType, item: &FieldRef) -> Result<Values, ArrowError> {
    let (DataType::List(before)
    | DataType::LargeList(before)
    | DataType::ListView(before)
    | DataType::LargeListView(before)
    | DataType::FixedSizeList(before, _)) = from.data_type()
    else {
        return Err(ArrowError::CastError("not a list".to_owned()));
    };
    let layout = match to {
        DataType::LargeList(_) => DataType::LargeList(Arc::clone(before)),
        DataType::FixedSizeList(_, length) => DataType::FixedSizeList(Arc::clone(before), *length),
        _ => DataType::List(Arc::clone(before)),
    };
    let from = cast(from, &layout)?;
    match to {
        DataType::LargeList(_) => list::<i64>(from.as_list(), item),
        DataType::FixedSizeList(_, length) => {
            let list = from.as_fixed_size_list();
            let inner = values(list.values(), item.data_type())?;
            let nulls = list.nulls().cloned();
            let array =
                FixedSizeListArray::try_new_with_length(Arc::clone(item), *length, inner.array, nulls, list.len())?;
            Ok(Values { array: Arc::new(array), lost: inner.lost })
        }
        _ => list::<i32>(from.as_list(), item),
    }
}

fn list<O: OffsetSizeTrait>(list: &GenericListArray<O>, item: &FieldRef) -> Result<Values, ArrowError> {
    let (offsets, elements) = trimmed(list.offsets(), list.values());
    let inner = values(&elements, item.data_type())?;
    let array = GenericListArray::try_new(Arc::clone(item), offsets, inner.array, list.nulls().cloned())?;
    Ok(Values { array: Arc::new(array), lost: inner.lost })
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
