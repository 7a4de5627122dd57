//! The values of a kept column as text. Every type has a text form, so that no column prevents a plot.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, FieldRef};

/// Instants are shown in UTC: their zone's rules would take a database of all zones.
const UTC: &str = "+00:00";

/// Returns the values as text; `None` for a null.
pub(crate) fn to_strings(column: &ArrayRef) -> Vec<Option<String>> {
    let shown = in_utc(column.data_type());
    let column = if shown == *column.data_type() {
        Arc::clone(column)
    } else {
        cast(column, &shown).unwrap_or_else(|_| Arc::clone(column))
    };
    let nulls = column.logical_nulls();
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    let options = FormatOptions::default().with_display_error(true);
    let formatter = ArrayFormatter::try_new(&column, &options);
    let spell = |row: usize| match &formatter {
        Ok(formatter) => match formatter.value(row).try_to_string() {
            Ok(text) => text,
            // A date or time beyond the calendar: its count of units.
            Err(_) => count(&column.slice(row, 1)).unwrap_or_else(|| formatter.value(row).to_string()),
        },
        Err(_) => format!("({})", column.data_type()),
    };
    (0..column.len()).map(|row| (!is_null(row)).then(|| spell(row))).collect()
}

fn count(value: &ArrayRef) -> Option<String> {
    let whole = cast(value, &DataType::Int64).or_else(|_| cast(value, &DataType::Int32)).ok()?;
    let formatter = ArrayFormatter::try_new(&whole, &FormatOptions::default())
        .map(|formatter| formatter.value(0).try_to_string().ok());
    formatter.ok().flatten()
}

/// Returns the type with the zone of every instant in it replaced, also within lists, structs and maps.
fn in_utc(data_type: &DataType) -> DataType {
    let inner =
        |field: &FieldRef| -> FieldRef { Arc::new(Field::clone(field).with_data_type(in_utc(field.data_type()))) };
    match data_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(UTC.into())),
        DataType::List(item) => DataType::List(inner(item)),
        DataType::LargeList(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(inner(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        DataType::Dictionary(keys, value) => DataType::Dictionary(keys.clone(), Box::new(in_utc(value))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Date32Array, FixedSizeListArray, TimestampMicrosecondArray, new_null_array};

    use super::*;

    #[test]
    fn instants_of_any_zone_are_spelled_in_utc() {
        let instants = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_000), None]);
        for zone in ["UTC", "Europe/Madrid", "Nowhere/Known", "+05:30"] {
            let column: ArrayRef = Arc::new(instants.clone().with_timezone(zone));
            assert_eq!(to_strings(&column), [Some("2023-11-14T22:13:20Z".to_owned()), None], "{zone}");
        }
    }

    #[test]
    fn instants_within_lists_are_spelled_too() {
        let instants = TimestampMicrosecondArray::from(vec![0]).with_timezone("America/Lima");
        let item = Arc::new(Field::new("item", instants.data_type().clone(), true));
        let list = FixedSizeListArray::new(item, 1, Arc::new(instants), None);
        let column: ArrayRef = Arc::new(list);
        assert_eq!(to_strings(&column), [Some("[1970-01-01T00:00:00Z]".to_owned())]);
    }

    #[test]
    fn a_date_beyond_the_calendar_is_its_count() {
        let column: ArrayRef = Arc::new(Date32Array::from(vec![0, i32::MAX]));
        assert_eq!(to_strings(&column), [Some("1970-01-01".to_owned()), Some(i32::MAX.to_string())]);
    }

    #[test]
    fn a_column_of_nulls_has_no_values() {
        assert_eq!(to_strings(&new_null_array(&DataType::Null, 2)), [None, None]);
    }
}
