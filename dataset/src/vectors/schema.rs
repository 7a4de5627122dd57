//! The Arrow schema of the output, and the kept columns inside it.
//!
//! Order: `row`, the kept input columns, `embedding`, `n_tokens`, `truncated`, `error`.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use parquet::arrow::ArrowSchemaConverter;
use spec::OutputDtype;

use super::error::VectorsError;
use super::info::{FileInfo, component_type};
use crate::DatasetError;

/// Column of the 0-based position in the corpus.
pub const ROW: &str = "row";
/// Column of the vectors.
pub const EMBEDDING: &str = "embedding";
/// Column of the number of tokens fed to the model.
pub const N_TOKENS: &str = "n_tokens";
/// Column that tells whether the text was cut to the maximum length.
pub const TRUNCATED: &str = "truncated";
/// Column of the reason code of a rejected row.
pub const ERROR: &str = "error";
/// The columns of ours: a kept input column must have another name.
pub const RESERVED: [&str; 5] = [ROW, EMBEDDING, N_TOKENS, TRUNCATED, ERROR];

/// Columns of ours that stand after the kept ones.
const TAIL: usize = 4;

/// Returns the kept columns that an input with this schema would collide on, in its order. Case matters, as in Arrow.
pub fn collisions(kept: &Schema) -> Vec<&str> {
    kept.fields().iter().map(|field| field.name().as_str()).filter(|name| RESERVED.contains(name)).collect()
}

/// Checks that kept columns can be stored at all, before any work: names that collide, types that Parquet lacks.
pub fn check_kept(kept: &Schema) -> Result<(), DatasetError> {
    Ok(check_columns(kept)?)
}

/// Returns the schema of the output for these kept columns. Schema metadata of the input is dropped: it describes
/// another file (such as its pandas index). A name that is ours, or that stands twice, is an error.
pub(super) fn output_schema(kept: &Schema, info: &FileInfo) -> Result<SchemaRef, VectorsError> {
    check_columns(kept)?;
    let mut fields = vec![Arc::new(Field::new(ROW, DataType::Int64, false))];
    fields.extend(kept.fields().iter().cloned());
    fields.push(Arc::new(Field::new(EMBEDDING, embedding_type(info.output_dtype, info.dimensions), true)));
    fields.push(Arc::new(Field::new(N_TOKENS, DataType::Int32, false)));
    fields.push(Arc::new(Field::new(TRUNCATED, DataType::Boolean, false)));
    fields.push(Arc::new(Field::new(ERROR, DataType::Utf8, true)));
    Ok(Arc::new(Schema::new(fields)))
}

fn check_columns(kept: &Schema) -> Result<(), VectorsError> {
    if let Some(name) = collisions(kept).first() {
        let detail =
            format!("input column `{name}` has the name of an output column; rename it or leave it out of --keep");
        return Err(VectorsError::bad_rows(detail));
    }
    for (index, field) in kept.fields().iter().enumerate() {
        if kept.fields()[..index].iter().any(|earlier| earlier.name() == field.name()) {
            let detail = format!("input column `{}` stands twice; rename one or leave it out of --keep", field.name());
            return Err(VectorsError::bad_rows(detail));
        }
        if let Err(why) = check_type(field) {
            let (name, kind) = (field.name(), field.data_type());
            let detail =
                format!("column `{name}` ({kind}) cannot be stored in Parquet; leave it out with --keep: {why}");
            return Err(VectorsError::bad_rows(detail));
        }
    }
    Ok(())
}

/// The converter panics on unions, also inside other types.
fn check_type(field: &FieldRef) -> Result<(), String> {
    let alone = Schema::new(vec![Arc::clone(field)]);
    if alone.flattened_fields().iter().any(|inner| matches!(inner.data_type(), DataType::Union(..))) {
        return Err("Parquet has no unions".to_owned());
    }
    ArrowSchemaConverter::new().convert(&alone).map(|_| ()).map_err(|error| error.to_string())
}

/// Returns the Arrow type of the `embedding` column.
pub fn embedding_type(dtype: OutputDtype, dimensions: u32) -> DataType {
    let length = i32::try_from(dimensions).expect("dimensions of a model fit 31 bits");
    DataType::FixedSizeList(Arc::new(component_field(dtype)), length)
}

/// Returns the field of one component. Never null: a rejected row has a null list, not a list of nulls.
pub(super) fn component_field(dtype: OutputDtype) -> Field {
    Field::new("element", component_type(dtype), false)
}

/// Returns the kept columns of an output schema, after checking that ours stand where they must with the right types.
pub(super) fn kept_schema(path: &Path, schema: &Schema, info: &FileInfo) -> Result<Schema, VectorsError> {
    let fields = schema.fields();
    let kept: Fields = match fields.len().checked_sub(1 + TAIL) {
        Some(count) => fields.iter().skip(1).take(count).cloned().collect(),
        None => Fields::empty(),
    };
    let kept = Schema::new(kept);
    let expected = output_schema(&kept, info)
        .map_err(|error| VectorsError::damaged(path, format!("its schema is wrong: {error}")))?;
    if expected.fields() != schema.fields() {
        let detail = match expected.fields().iter().zip(fields).find(|(expected, found)| expected != found) {
            Some((expected, found)) => {
                format!("its schema is wrong: expected {}, found {}", show(expected), show(found))
            }
            None => {
                format!("its schema is wrong: expected {} columns, found {}", expected.fields().len(), fields.len())
            }
        };
        return Err(VectorsError::damaged(path, detail));
    }
    Ok(kept)
}

fn show(field: &Field) -> String {
    let null = if field.is_nullable() { "nullable" } else { "not null" };
    format!("`{}` {} {null}", field.name(), field.data_type())
}

#[cfg(test)]
mod tests {
    use arrow_schema::{UnionFields, UnionMode};

    use super::super::info::tests::info;
    use super::*;

    fn kept(names: &[&str]) -> Schema {
        Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>())
    }

    #[test]
    fn kept_columns_stand_between_ours_and_come_back() {
        let schema = output_schema(&kept(&["text", "label"]), &info(4)).unwrap();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["row", "text", "label", "embedding", "n_tokens", "truncated", "error"]);
        assert_eq!(kept_schema(Path::new("f"), &schema, &info(4)).unwrap(), kept(&["text", "label"]));
    }

    #[test]
    fn a_collision_names_the_column() {
        for name in RESERVED {
            let error = output_schema(&kept(&["text", name]), &info(4)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
        let error = output_schema(&kept(&["a", "a"]), &info(4)).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
    }

    #[test]
    fn a_foreign_schema_is_damaged_and_says_where() {
        let other = output_schema(&kept(&["text"]), &info(5)).unwrap();
        let error = kept_schema(Path::new("f"), &other, &info(4)).unwrap_err().to_string();
        assert!(error.contains("embedding"), "{error}");
        assert!(kept_schema(Path::new("f"), &kept(&["row"]), &info(4)).is_err());
    }

    #[test]
    fn a_type_that_parquet_lacks_is_refused_by_column() {
        let schema =
            Schema::new(vec![Field::new("odd", DataType::Union(UnionFields::empty(), UnionMode::Dense), true)]);
        let error = check_kept(&schema).unwrap_err().to_string();
        assert!(error.contains("`odd`") && error.contains("--keep"), "{error}");
        check_kept(&kept(&["text"])).unwrap();
        assert!(check_kept(&kept(&["row"])).is_err());
    }
}
