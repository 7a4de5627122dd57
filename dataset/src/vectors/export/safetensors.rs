//! The header of the safetensors format: one tensor `embeddings`, and how it was made as metadata.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use spec::OutputDtype;

use super::Shape;

/// The array begins at a multiple of this.
const ALIGNMENT: usize = 8;

pub(super) fn begin(sink: &mut impl Write, shape: &Shape<'_>) -> io::Result<()> {
    let kind = match shape.info.output_dtype {
        OutputDtype::F32 => "F32",
        OutputDtype::F16 => "F16",
    };
    // The format allows text only as a value, so the footer's key-values serve as they are.
    let pairs = shape.info.to_key_values().into_iter();
    let metadata: Map<String, Value> = pairs.map(|pair| (pair.key, pair.value.unwrap_or_default().into())).collect();
    let header = json!({
        "__metadata__": metadata,
        "embeddings": {
            "dtype": kind,
            "shape": [shape.rows, shape.info.dimensions],
            "data_offsets": [0, shape.data_bytes()],
        },
    });
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    sink.write_all(&(header.len() as u64).to_le_bytes())?;
    sink.write_all(&header)
}
