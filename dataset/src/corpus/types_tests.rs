//! Tests of the type table.

use super::*;

fn stored(kind: DataType) -> Result<DataType, Refusal> {
    stored_field(&Field::new("c", kind, false)).map(|field| field.data_type().clone())
}

fn list(kind: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", kind, true)))
}

fn dictionary(keys: DataType, value: DataType) -> DataType {
    DataType::Dictionary(Box::new(keys), Box::new(value))
}

fn zoned(unit: TimeUnit, zone: &str) -> DataType {
    DataType::Timestamp(unit, Some(zone.into()))
}

#[test]
fn types_unknown_to_parquet_are_converted() {
    let runs = |value| {
        let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
        DataType::RunEndEncoded(ends, Arc::new(Field::new("values", value, true)))
    };
    let cases = [
        (DataType::Timestamp(TimeUnit::Second, None), DataType::Timestamp(TimeUnit::Millisecond, None)),
        (zoned(TimeUnit::Second, "Europe/Madrid"), zoned(TimeUnit::Millisecond, "Europe/Madrid")),
        (zoned(TimeUnit::Nanosecond, "+05:30"), zoned(TimeUnit::Nanosecond, "UTC")),
        (zoned(TimeUnit::Nanosecond, ""), DataType::Timestamp(TimeUnit::Nanosecond, None)),
        (DataType::Time32(TimeUnit::Second), DataType::Time32(TimeUnit::Millisecond)),
        (DataType::Date64, DataType::Date32),
        (DataType::Decimal256(38, 5), DataType::Decimal128(38, 5)),
        (DataType::Decimal128(5, -2), DataType::Decimal128(7, 0)),
        (DataType::Decimal32(3, 5), DataType::Decimal128(5, 5)),
        (DataType::Utf8View, DataType::Utf8),
        (dictionary(DataType::Int8, DataType::Utf8View), dictionary(DataType::Int32, DataType::Utf8)),
        (dictionary(DataType::Int8, DataType::Null), DataType::Null),
        (dictionary(DataType::Int8, DataType::Date64), DataType::Date32),
        (runs(dictionary(DataType::Int8, DataType::Utf8)), DataType::Utf8),
        (list(runs(DataType::Time32(TimeUnit::Second))), list(DataType::Time32(TimeUnit::Millisecond))),
        (list(dictionary(DataType::Int8, DataType::Utf8)), list(DataType::Utf8)),
    ];
    for (found, target) in cases {
        assert_eq!(stored(found.clone()), Ok(target.clone()), "{found}");
        assert_eq!(stored(target.clone()), Ok(target), "what is stored is stored as it is");
    }
}

#[test]
fn unsupported_types_are_refused_at_any_depth() {
    let union = DataType::Union(arrow_schema::UnionFields::empty(), arrow_schema::UnionMode::Dense);
    let refused = [
        DataType::Interval(arrow_schema::IntervalUnit::MonthDayNano),
        union.clone(),
        list(union),
        DataType::Struct(Fields::empty()),
        DataType::FixedSizeBinary(0),
        DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Int8, true)), 0),
        DataType::Decimal256(39, 0),
        DataType::Decimal128(38, -1),
    ];
    for kind in refused {
        assert!(stored(kind.clone()).is_err(), "{kind}");
    }
}

#[test]
fn an_extension_type_is_dropped_with_its_storage_type() {
    let extension = |kind| {
        let metadata = [(EXTENSION_TYPE_NAME_KEY, "a.b"), (PARQUET_FIELD_ID, "7"), ("own", "x")];
        Field::new("c", kind, true).with_metadata(metadata)
    };
    let kept = |kind| {
        let mut keys: Vec<String> = stored_field(&extension(kind)).unwrap().metadata().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(kept(DataType::Int8), [EXTENSION_TYPE_NAME_KEY, "own"]);
    assert_eq!(kept(DataType::Utf8View), [EXTENSION_TYPE_NAME_KEY, "own"]);
    assert_eq!(kept(DataType::Date64), ["own"]);
}

fn common(one: DataType, other: DataType) -> Option<DataType> {
    let field = |kind| Field::new("c", kind, true);
    let (there, back) =
        (common_field(&field(one.clone()), &field(other.clone())), common_field(&field(other), &field(one)));
    let types = [there, back].map(|field| field.map(|field| field.data_type().clone()));
    assert_eq!(types[0].is_some(), types[1].is_some());
    types[0].clone()
}

#[test]
fn compatible_types_have_a_common_type() {
    use DataType::{
        Boolean, Float16, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Null, UInt8, UInt16, UInt32, UInt64,
        Utf8,
    };
    let struct_of = |names: &[&str]| DataType::Struct(names.iter().map(|name| Field::new(*name, Int8, true)).collect());
    let cases = [
        (Utf8, LargeUtf8, Utf8),
        (Utf8, dictionary(Int32, Utf8), Utf8),
        (dictionary(Int32, LargeUtf8), dictionary(Int32, Utf8), dictionary(Int32, Utf8)),
        (Null, list(Utf8), list(Utf8)),
        (list(Null), list(Utf8), list(Utf8)),
        (Int8, Int64, Int64),
        (UInt8, UInt32, UInt32),
        (UInt8, Int8, Int16),
        (UInt32, Int8, Int64),
        (UInt16, Int64, Int64),
        (Int8, Float16, Float16),
        (Int16, Float16, Float32),
        (Int32, Float32, Float64),
        (Int64, Float32, Float64),
        (UInt64, Float64, Float64),
        (Float16, Float64, Float64),
        (DataType::Decimal128(5, 2), DataType::Decimal64(10, 4), DataType::Decimal128(10, 4)),
        (DataType::Decimal128(5, 2), Int32, DataType::Decimal128(12, 2)),
        (zoned(TimeUnit::Millisecond, "UTC"), zoned(TimeUnit::Nanosecond, "UTC"), zoned(TimeUnit::Nanosecond, "UTC")),
        (
            DataType::Time32(TimeUnit::Millisecond),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Time64(TimeUnit::Microsecond),
        ),
        (
            DataType::Duration(TimeUnit::Second),
            DataType::Duration(TimeUnit::Microsecond),
            DataType::Duration(TimeUnit::Microsecond),
        ),
        (DataType::Binary, DataType::FixedSizeBinary(4), DataType::Binary),
        (list(Int8), DataType::FixedSizeList(Arc::new(Field::new("item", Int64, true)), 3), list(Int64)),
        (struct_of(&["a", "b"]), struct_of(&["b", "c"]), struct_of(&["a", "b", "c"])),
    ];
    for (one, other, target) in cases {
        assert_eq!(common(one.clone(), other.clone()), Some(target), "{one} and {other}");
    }
    let refused = [
        (Int64, UInt64),
        (Int64, Utf8),
        (Boolean, Int8),
        (Utf8, DataType::Binary),
        (DataType::Date32, DataType::Timestamp(TimeUnit::Millisecond, None)),
        (zoned(TimeUnit::Millisecond, "UTC"), DataType::Timestamp(TimeUnit::Millisecond, None)),
        (zoned(TimeUnit::Millisecond, "UTC"), zoned(TimeUnit::Millisecond, "Europe/Madrid")),
        (DataType::Decimal128(38, 0), DataType::Decimal128(38, 10)),
        (DataType::Decimal128(5, 2), Float64),
        (list(Int8), Int8),
        (list(Int8), list(Utf8)),
    ];
    for (one, other) in refused {
        assert_eq!(common(one.clone(), other.clone()), None, "{one} and {other}");
    }
}
