//! Tests of value conversion.

use arrow_array::types::Int32Type;
use arrow_array::{
    Date64Array, Decimal128Array, Float64Array, Int32Array, ListArray, StringArray, TimestampSecondArray, UInt64Array,
};
use arrow_schema::Field;

use super::*;

fn converted(column: impl Array + 'static, to: &DataType) -> Converted {
    let column: ArrayRef = Arc::new(column);
    let converted = convert(&column, to).unwrap();
    assert_eq!(converted.column.data_type(), to);
    assert_eq!(converted.column.len(), column.len());
    converted
}

fn shown(column: &ArrayRef) -> Vec<Option<String>> {
    let text = arrow_cast::cast(column, &DataType::Utf8).unwrap();
    text.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn instants_that_overflow_finer_units_are_lost() {
    let seconds = TimestampSecondArray::from(vec![Some(1), None, Some(i64::MAX / 10), Some(-1)]);
    let converted = converted(seconds, &DataType::Timestamp(TimeUnit::Millisecond, None));
    assert_eq!(converted.lost, [2]);
    let values: Vec<_> =
        converted.column.as_primitive::<arrow_array::types::TimestampMillisecondType>().iter().collect();
    assert_eq!(values, [Some(1_000), None, None, Some(-1_000)]);
}

#[test]
fn integers_inexact_as_float_are_lost() {
    let numbers = UInt64Array::from(vec![1 << 53, (1 << 53) + 1, u64::MAX, 0]);
    let converted = converted(numbers, &DataType::Float64);
    assert_eq!(converted.lost, [1, 2]);
    assert_eq!(converted.column.as_ref(), &Float64Array::from(vec![Some(2f64.powi(53)), None, None, Some(0.0)]));
    let numbers = Int64Array::from(vec![i64::MAX, i64::MIN, -(1 << 53)]);
    assert_eq!(convert(&(Arc::new(numbers) as ArrayRef), &DataType::Float64).unwrap().lost, [0]);
}

#[test]
fn a_lost_value_in_a_list_only_affects_its_row() {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1)]),
        Some(vec![Some(2), Some(i64::MAX)]),
        None,
        Some(vec![]),
    ]);
    assert_eq!(list.data_type(), &DataType::List(item));
    let floats = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
    let whole: ArrayRef = Arc::new(list);
    let converted = convert(&whole, &floats).unwrap();
    assert_eq!(converted.lost, [1]);
    assert!(converted.column.is_null(1) && converted.column.is_null(2) && converted.column.is_valid(3));
    // The elements of other slices do not count.
    assert!(convert(&whole.slice(2, 2), &floats).unwrap().lost.is_empty());
}

#[test]
fn dates_in_milliseconds_round_down_to_the_day() {
    let days = Date64Array::from(vec![Some(0), Some(DAY_MS + 1), Some(-1), None]);
    let converted = converted(days, &DataType::Date32);
    assert!(converted.lost.is_empty());
    let values: Vec<_> = converted.column.as_primitive::<Date32Type>().iter().collect();
    assert_eq!(values, [Some(0), Some(1), Some(-1), None]);
}

#[test]
fn decimals_with_too_many_digits_are_lost() {
    let hundreds = Decimal128Array::from(vec![Some(99_999), Some(100_000), None]);
    for (scale, to) in [(-2, DataType::Decimal128(7, 0)), (2, DataType::Decimal128(5, 2))] {
        let column = hundreds.clone().with_precision_and_scale(38, scale).unwrap();
        let narrow = column.into_data().into_builder().data_type(DataType::Decimal128(5, scale));
        // Arrow's own builders check the digits; files may violate them.
        let column = arrow_array::make_array(narrow.build().unwrap());
        let converted = convert(&column, &to).unwrap();
        assert_eq!(converted.lost, [1], "{to}");
        assert_eq!(converted.column.null_count(), 2);
        let list = DataType::List(Arc::new(Field::new("item", to, true)));
        let offsets = OffsetBuffer::from_lengths([1, 2]);
        let item = Arc::new(Field::new("item", column.data_type().clone(), true));
        let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, column, None));
        assert_eq!(convert(&lists, &list).unwrap().lost, [1]);
    }
}

#[test]
fn fields_of_a_struct_are_found_by_name_and_missing_ones_are_null() {
    let column = StructArray::from(vec![(
        Arc::new(Field::new("b", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![7, 8])) as ArrayRef,
    )]);
    let target: Fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int64, true)].into();
    let converted = converted(column, &DataType::Struct(target));
    let found = converted.column.as_struct();
    assert_eq!(found.column(0).null_count(), 2);
    assert_eq!(shown(found.column(1)), [Some("7".to_owned()), Some("8".to_owned())]);
}

#[test]
fn dictionaries_and_runs_become_their_values() {
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a")]));
    let narrow = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let wide = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let dictionary = arrow_cast::cast(&words, &narrow).unwrap();
    for to in [&wide, &DataType::Utf8] {
        let converted = convert(&dictionary, to).unwrap();
        assert_eq!(shown(&converted.column), shown(&words), "{to}");
        assert!(converted.lost.is_empty());
    }
    let values = StringArray::from(vec![Some("a"), None]);
    let runs = arrow_array::RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &values).unwrap();
    let runs: ArrayRef = Arc::new(runs);
    let converted = convert(&runs.slice(1, 2), &DataType::Utf8).unwrap();
    assert_eq!(shown(&converted.column), [Some("a".to_owned()), None]);
}
