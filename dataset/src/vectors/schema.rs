//! The Arrow schema of the output, and the kept columns inside it.
//!
//! Order: `row`, the kept input columns, `embedding`, `embedding_scale` (where the output type has it), `n_tokens`, `truncated`,
//! `error`.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;

use super::column_names::{EMBEDDING, EMBEDDING_SCALE, ERROR, N_TOKENS, ROW, TRUNCATED};
use super::element::{Element, embedding_type};
use super::error::VectorsError;
use super::info::FileInfo;

/// The columns of ours in a file, around the kept ones.
struct OurColumns {
    before: Vec<FieldRef>,
    after: Vec<FieldRef>,
}

impl OurColumns {
    fn of(info: &FileInfo) -> OurColumns {
        let field = |name, data_type, nullable| Arc::new(Field::new(name, data_type, nullable));
        let embedding = field(EMBEDDING, embedding_type(info.output_dtype, info.dimensions), true);
        let scale = Element::of(info.output_dtype).is_scaled.then(|| field(EMBEDDING_SCALE, DataType::Float32, true));
        let status = [
            field(N_TOKENS, DataType::Int32, false),
            field(TRUNCATED, DataType::Boolean, false),
            field(ERROR, DataType::Utf8, true),
        ];
        let before = vec![field(ROW, DataType::Int64, false)];
        OurColumns { before, after: [embedding].into_iter().chain(scale).chain(status).collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.before.iter().chain(&self.after).any(|field| field.name() == name)
    }
}

/// Returns the schema of the output for these kept columns. Schema metadata of the input is dropped: it describes
/// another file (such as its pandas index). A name that is ours, or that occurs twice, is an error.
pub(super) fn output_schema(kept: &Schema, info: &FileInfo) -> Result<SchemaRef, VectorsError> {
    let ours = OurColumns::of(info);
    check_columns(kept, &ours)?;
    let kept = kept.fields().iter().cloned();
    let fields: Fields = ours.before.into_iter().chain(kept).chain(ours.after).collect();
    Ok(Arc::new(Schema::new(fields)))
}

fn check_columns(kept: &Schema, ours: &OurColumns) -> Result<(), VectorsError> {
    if let Some(field) = kept.fields().iter().find(|field| ours.has(field.name())) {
        let name = field.name();
        let detail =
            format!("input column `{name}` has the name of an output column; rename it or leave it out of --keep");
        return Err(VectorsError::bad_rows(detail));
    }
    for (index, field) in kept.fields().iter().enumerate() {
        if kept.fields()[..index].iter().any(|earlier| earlier.name() == field.name()) {
            let detail = format!("input column `{}` occurs twice; rename one or leave it out of --keep", field.name());
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

/// Returns the kept columns of an output schema, after checking the places and types of ours.
pub(super) fn kept_schema(path: &Path, schema: &Schema, info: &FileInfo) -> Result<Schema, VectorsError> {
    let fields = schema.fields();
    let ours = OurColumns::of(info);
    let kept: Fields = fields.iter().filter(|field| !ours.has(field.name())).cloned().collect();
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
    use spec::OutputDtype;

    use super::super::column_names::OUTPUT_COLUMNS;
    use super::super::info::tests::info;
    use super::*;

    fn kept(names: &[&str]) -> Schema {
        Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>())
    }

    #[test]
    fn kept_columns_come_between_ours_and_are_found_again() {
        let schema = output_schema(&kept(&["text", "embedding_scale"]), &info(4)).unwrap();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["row", "text", "embedding_scale", "embedding", "n_tokens", "truncated", "error"]);
        assert_eq!(kept_schema(Path::new("f"), &schema, &info(4)).unwrap(), kept(&["text", "embedding_scale"]));
        let scaled = FileInfo { output_dtype: OutputDtype::Int8, ..info(4) };
        let schema = output_schema(&kept(&["text"]), &scaled).unwrap();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["row", "text", "embedding", "embedding_scale", "n_tokens", "truncated", "error"]);
        assert_eq!(kept_schema(Path::new("f"), &schema, &scaled).unwrap(), kept(&["text"]));
    }

    #[test]
    fn a_collision_names_the_column() {
        let scaled = FileInfo { output_dtype: OutputDtype::Int8, ..info(4) };
        for name in OUTPUT_COLUMNS {
            let error = output_schema(&kept(&["text", name]), &scaled).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
        let error = output_schema(&kept(&["a", "a"]), &info(4)).unwrap_err().to_string();
        assert!(error.contains("occurs twice"), "{error}");
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
        let error = output_schema(&schema, &info(4)).unwrap_err().to_string();
        assert!(error.contains("`odd`") && error.contains("--keep"), "{error}");
    }
}
