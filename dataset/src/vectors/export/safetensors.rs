//! The header of the safetensors format: the tensor `embeddings`, how it was made as metadata; and before it the tensor `scales`,
//! where vectors have them: floats need their alignment, and bytes have none.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::Shape;

/// The first array begins at a multiple of this.
const ALIGNMENT: usize = 8;

pub(super) fn begin(sink: &mut impl Write, shape: &Shape<'_>) -> io::Result<()> {
    // The format allows text only as a value, so the footer's key-values serve as they are.
    let pairs = shape.info.to_key_values().into_iter();
    let metadata: Map<String, Value> = pairs.map(|pair| (pair.key, pair.value.unwrap_or_default().into())).collect();
    let scales = shape.scales_bytes();
    let mut header = json!({
        "__metadata__": metadata,
        "embeddings": {
            "dtype": shape.element().safetensors,
            "shape": [shape.rows, shape.width()],
            "data_offsets": [scales, scales + shape.data_bytes()],
        },
    });
    if shape.element().is_scaled {
        header["scales"] = json!({ "dtype": "F32", "shape": [shape.rows], "data_offsets": [0, scales] });
    }
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    sink.write_all(&(header.len() as u64).to_le_bytes())?;
    sink.write_all(&header)
}
