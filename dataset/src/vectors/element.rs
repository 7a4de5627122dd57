//! Output types: how the vectors of each are stored in Arrow, Parquet and exports, and how 32-bit floats become them.
//!
//! To add one: a variant of [`OutputDtype`], its [`Element`], and its arms in [`encode`] and [`Vectors`].

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int8Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int8Array, RecordBatch, UInt8Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::basic::Encoding;
use spec::OutputDtype;

use super::column_names::{EMBEDDING, EMBEDDING_SCALE};
use super::info::FileInfo;
use super::read::Projection;

/// The largest magnitude of an `int8` element; -128 is not used, so that a vector and its negative have the same magnitudes.
const INT8_MAX: f32 = 127.0;

/// What is fixed about the elements of an output type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    /// Dimensions that one element holds.
    pub(super) dimensions: u32,
    /// Size in bytes.
    pub(super) bytes: usize,
    /// Whether each vector has a factor of its own in the column `embedding_scale`.
    pub(super) is_scaled: bool,
    /// Encoding in Parquet; `None` for a dictionary, which packs the at most 256 values of a byte into 8 bits.
    pub(super) encoding: Option<Encoding>,
    /// What `NumPy`'s header calls it.
    pub(super) npy: &'static str,
    /// What the header of safetensors calls it.
    pub(super) safetensors: &'static str,
    /// The class of `PyTorch`'s storage of it.
    pub(super) torch_storage: &'static str,
}

impl Element {
    /// Returns what is fixed about an output type.
    pub(super) const fn of(dtype: OutputDtype) -> Element {
        // Every field of every type, so that a new type cannot inherit the names of another.
        match dtype {
            OutputDtype::F32 => Element {
                dimensions: 1,
                bytes: 4,
                is_scaled: false,
                encoding: Some(Encoding::BYTE_STREAM_SPLIT),
                npy: "<f4",
                safetensors: "F32",
                torch_storage: "FloatStorage",
            },
            OutputDtype::F16 => Element {
                dimensions: 1,
                bytes: 2,
                is_scaled: false,
                // DuckDB (2.0) does not read BYTE_STREAM_SPLIT of 16-bit floats.
                encoding: Some(Encoding::PLAIN),
                npy: "<f2",
                safetensors: "F16",
                torch_storage: "HalfStorage",
            },
            OutputDtype::Int8 => Element {
                dimensions: 1,
                bytes: 1,
                is_scaled: true,
                encoding: None,
                npy: "|i1",
                safetensors: "I8",
                torch_storage: "CharStorage",
            },
            OutputDtype::Binary => Element {
                dimensions: 8,
                bytes: 1,
                is_scaled: false,
                encoding: None,
                npy: "|u1",
                safetensors: "U8",
                torch_storage: "ByteStorage",
            },
        }
    }

    /// Returns how many elements a vector of so many dimensions has.
    pub(super) const fn per_vector(&self, dimensions: u32) -> u32 {
        dimensions.div_ceil(self.dimensions)
    }

    /// Returns the size of a vector, in bytes, its scale not counted.
    pub(super) const fn vector_bytes(&self, dimensions: u32) -> usize {
        self.per_vector(dimensions) as usize * self.bytes
    }
}

/// Returns the field of one element. Never null: a rejected row has a null list, not a list of nulls.
pub(super) fn element_field(dtype: OutputDtype) -> Field {
    let data_type = match dtype {
        OutputDtype::F32 => DataType::Float32,
        OutputDtype::F16 => DataType::Float16,
        OutputDtype::Int8 => DataType::Int8,
        OutputDtype::Binary => DataType::UInt8,
    };
    Field::new("element", data_type, false)
}

/// Returns the Arrow type of the `embedding` column.
pub(super) fn embedding_type(dtype: OutputDtype, dimensions: u32) -> DataType {
    DataType::FixedSizeList(Arc::new(element_field(dtype)), list_length(dtype, dimensions))
}

fn list_length(dtype: OutputDtype, dimensions: u32) -> i32 {
    i32::try_from(Element::of(dtype).per_vector(dimensions)).expect("dimensions of a model fit 31 bits")
}

/// The columns of vectors in an output type.
pub(super) struct Encoded {
    pub(super) embedding: FixedSizeListArray,
    /// The column `embedding_scale`, in the types that have one.
    pub(super) scale: Option<Float32Array>,
}

/// Turns finite vectors (row-major; zeros at null rows) into an output type, or returns the index of the first row whose vector
/// does not fit.
pub(super) fn encode(
    dtype: OutputDtype,
    dimensions: u32,
    vectors: Vec<f32>,
    nulls: Option<NullBuffer>,
) -> Result<Encoded, usize> {
    let width = dimensions as usize;
    let mut scale = None;
    let values: ArrayRef = match dtype {
        OutputDtype::F32 => Arc::new(Float32Array::from(vectors)),
        OutputDtype::F16 => {
            let mut halves = vec![f16::ZERO; vectors.len()];
            halves.convert_from_f32_slice(&vectors);
            if let Some(place) = halves.iter().position(|value| !value.is_finite()) {
                return Err(place / width);
            }
            Arc::new(Float16Array::from(halves))
        }
        OutputDtype::Int8 => {
            let mut elements = Vec::with_capacity(vectors.len());
            let scales: Vec<f32> = vectors.chunks_exact(width).map(|vector| quantize(vector, &mut elements)).collect();
            scale = Some(Float32Array::new(scales.into(), nulls.clone()));
            Arc::new(Int8Array::from(elements))
        }
        OutputDtype::Binary => {
            let rows = vectors.chunks_exact(width);
            Arc::new(rows.flat_map(|vector| vector.chunks(8).map(pack_signs)).collect::<UInt8Array>())
        }
    };
    let field = Arc::new(element_field(dtype));
    let embedding = FixedSizeListArray::new(field, list_length(dtype, dimensions), values, nulls);
    Ok(Encoded { embedding, scale })
}

/// Appends the elements of a vector, and returns the factor that turns them back into it.
fn quantize(vector: &[f32], elements: &mut Vec<i8>) -> f32 {
    let magnitude = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = magnitude / INT8_MAX;
    if scale == 0.0 {
        elements.extend(std::iter::repeat_n(0, vector.len()));
    } else {
        // A subnormal scale is rounded so far that a quotient may exceed the range.
        let rounded = vector.iter().map(|value| (value / scale).round_ties_even());
        elements.extend(rounded.map(|value| value.clamp(-INT8_MAX, INT8_MAX) as i8));
    }
    scale
}

/// Packs up to eight signs into a byte, the first one into its highest bit: 1 for a positive number, as `numpy.packbits(x > 0)`.
fn pack_signs(values: &[f32]) -> u8 {
    values.iter().enumerate().fold(0, |byte, (place, value)| byte | (u8::from(*value > 0.0) << (7 - place)))
}

/// Tells whether vectors of one type can be converted to another. Those of a quantized type cannot: the output would not show
/// that its numbers were rounded before.
pub(super) const fn converts(from: OutputDtype, to: OutputDtype) -> bool {
    use OutputDtype::{Binary, F16, F32, Int8};
    match (from, to) {
        (F32 | F16, F32 | F16 | Int8 | Binary) | (Int8, Int8) | (Binary, Binary) => true,
        (Int8, F32 | F16 | Binary) | (Binary, F32 | F16 | Int8) => false,
    }
}

/// The elements of all vectors of a batch, row-major; those of null vectors are undefined.
#[derive(Clone, Copy)]
enum Elements<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    /// With the scale of each vector.
    Int8(&'a [i8], &'a Float32Array),
    Binary(&'a [u8]),
}

/// The vectors of a batch that the reader has checked.
pub struct Vectors<'a> {
    list: &'a FixedSizeListArray,
    elements: Elements<'a>,
    dimensions: usize,
    /// What a set or unset bit of a binary vector stands for, but for the sign.
    bit: f32,
}

const CHECKED: &str = "the reader checked the columns and their types";

impl<'a> Vectors<'a> {
    /// Returns the columns that a batch must have at least.
    pub fn projection(info: &FileInfo) -> Projection {
        let scale = Element::of(info.output_dtype).is_scaled.then(|| EMBEDDING_SCALE.to_owned());
        Projection::Columns([EMBEDDING.to_owned()].into_iter().chain(scale).collect())
    }

    /// Returns the vectors of a batch of a file that was made so, with the columns of [`projection`](Vectors::projection).
    pub fn of(batch: &'a RecordBatch, info: &FileInfo) -> Vectors<'a> {
        let list = batch.column_by_name(EMBEDDING).expect(CHECKED).as_fixed_size_list();
        let width = usize::try_from(list.value_length()).expect(CHECKED);
        let range = list.offset() * width..(list.offset() + list.len()) * width;
        let values = list.values();
        let elements = match info.output_dtype {
            OutputDtype::F32 => Elements::F32(&values.as_primitive::<Float32Type>().values()[range]),
            OutputDtype::F16 => Elements::F16(&values.as_primitive::<Float16Type>().values()[range]),
            OutputDtype::Int8 => {
                let scales = batch.column_by_name(EMBEDDING_SCALE).expect(CHECKED).as_primitive::<Float32Type>();
                Elements::Int8(&values.as_primitive::<Int8Type>().values()[range], scales)
            }
            OutputDtype::Binary => Elements::Binary(&values.as_primitive::<UInt8Type>().values()[range]),
        };
        let dimensions = info.dimensions as usize;
        let bit = if info.normalized { 1.0 / (dimensions as f32).sqrt() } else { 1.0 };
        Vectors { list, elements, dimensions, bit }
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Tells whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Tells whether a row has a vector.
    pub fn has(&self, row: usize) -> bool {
        self.list.is_valid(row)
    }

    /// Returns the nulls of the column.
    pub(super) fn nulls(&self) -> Option<&NullBuffer> {
        self.list.nulls()
    }

    /// Appends the vector of a row as floats, as far as its type holds them: `int8` times its scale; for `binary` the signs as
    /// 1 and -1, made unit length where vectors are.
    pub fn append(&self, row: usize, floats: &mut Vec<f32>) {
        let range = row * self.dimensions..(row + 1) * self.dimensions;
        match self.elements {
            Elements::F32(values) => floats.extend_from_slice(&values[range]),
            Elements::F16(values) => floats.extend(values[range].iter().map(|value| value.to_f32())),
            Elements::Int8(values, scales) => {
                let scale = scales.value(row);
                floats.extend(values[range].iter().map(|value| f32::from(*value) * scale));
            }
            Elements::Binary(bytes) => {
                let bytes = &bytes[row * self.dimensions.div_ceil(8)..];
                floats.extend((0..self.dimensions).map(|place| {
                    let is_set = bytes[place / 8] & (0x80 >> (place % 8)) != 0;
                    if is_set { self.bit } else { -self.bit }
                }));
            }
        }
    }

    /// Appends the elements of a row as little-endian bytes.
    pub(super) fn append_bytes(&self, row: usize, bytes: &mut Vec<u8>) {
        let width = self.list.value_length().unsigned_abs() as usize;
        let range = row * width..(row + 1) * width;
        match self.elements {
            Elements::F32(values) => extend(bytes, values[range].iter().map(|value| value.to_le_bytes())),
            Elements::F16(values) => extend(bytes, values[range].iter().map(|value| value.to_le_bytes())),
            Elements::Int8(values, _) => extend(bytes, values[range].iter().map(|value| value.to_le_bytes())),
            Elements::Binary(values) => bytes.extend_from_slice(&values[range]),
        }
    }

    /// Returns the scale of a row; `None` where its type has none, or the row no vector.
    pub(super) fn scale(&self, row: usize) -> Option<f32> {
        match self.elements {
            Elements::Int8(_, scales) if scales.is_valid(row) => Some(scales.value(row)),
            Elements::Int8(..) | Elements::F32(_) | Elements::F16(_) | Elements::Binary(_) => None,
        }
    }

    /// Says what is wrong with how a row is stored, if something is: a scale that is missing, superfluous or no scale; an
    /// element -128; a bit beyond the last dimension.
    pub(super) fn storage_problem(&self, row: usize) -> Option<String> {
        let width = self.list.value_length().unsigned_abs() as usize;
        match self.elements {
            Elements::F32(_) | Elements::F16(_) => None,
            Elements::Int8(values, scales) => {
                if scales.is_valid(row) != self.has(row) {
                    return Some("it has a vector without a scale, or a scale without a vector".to_owned());
                }
                let scale = scales.value(row);
                if self.has(row) && (!scale.is_finite() || scale < 0.0) {
                    return Some(format!("its scale is {scale}"));
                }
                let is_out = self.has(row) && values[row * width..][..width].contains(&i8::MIN);
                is_out.then(|| "an element of its vector is -128".to_owned())
            }
            Elements::Binary(values) => {
                let unused = width * 8 - self.dimensions;
                let last = values.get((row + 1) * width - 1).copied().unwrap_or_default();
                let is_set = self.has(row) && u16::from(last) & ((1 << unused) - 1) != 0;
                is_set.then(|| "a bit beyond its last dimension is set".to_owned())
            }
        }
    }

    /// Returns how far the length of a row's vector may be from that of the vector that was stored, by rounding to its type alone.
    pub(super) fn rounding(&self, row: usize) -> f64 {
        let half_step = self.scale(row).map_or(0.0, |scale| f64::from(scale) / 2.0);
        half_step * (self.dimensions as f64).sqrt()
    }
}

/// Appends numbers at a known place each, which compiles to a plain copy.
fn extend<const N: usize>(bytes: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = [u8; N]>) {
    let start = bytes.len();
    bytes.resize(start + numbers.len() * N, 0);
    for (place, number) in bytes[start..].chunks_exact_mut(N).zip(numbers) {
        place.copy_from_slice(&number);
    }
}

/// Returns the bytes of an export's row that has no vector: NaN, or zeros in types that have no NaN.
pub(super) fn missing_bytes(dtype: OutputDtype, dimensions: u32) -> Vec<u8> {
    match dtype {
        OutputDtype::F32 => f32::NAN.to_le_bytes().repeat(dimensions as usize),
        OutputDtype::F16 => f16::NAN.to_le_bytes().repeat(dimensions as usize),
        OutputDtype::Int8 | OutputDtype::Binary => vec![0; Element::of(dtype).vector_bytes(dimensions)],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::info::tests::info;
    use super::super::schema::output_schema;
    use super::super::testing::{chunk, kept_schema};
    use super::super::{VectorChunk, batch};
    use super::*;

    /// The vectors of a chunk, stored and read again.
    fn stored(info: &FileInfo, chunk: VectorChunk) -> RecordBatch {
        let schema = output_schema(&kept_schema(), info).unwrap();
        batch::encode_chunk(&schema, info, chunk).unwrap()
    }

    fn floats(vectors: &Vectors<'_>, row: usize) -> Vec<f32> {
        let mut floats = Vec::new();
        vectors.append(row, &mut floats);
        floats
    }

    #[test]
    fn int8_is_the_nearest_of_255_steps_to_the_largest_magnitude() {
        let mut elements = Vec::new();
        assert_eq!(quantize(&[0.5, -1.0, 0.0, 0.003], &mut elements), 1.0 / 127.0);
        // 0.5 is 63.5 steps: a tie goes to the even one, as in IEEE 754.
        assert_eq!(elements, [64, -127, 0, 0]);
        elements.clear();
        assert_eq!(quantize(&[0.0, -0.0], &mut elements), 0.0);
        assert_eq!(elements, [0, 0]);
        elements.clear();
        let tiny = f32::from_bits(100);
        assert!(quantize(&[tiny, -tiny], &mut elements) > 0.0);
        assert_eq!(elements, [100, -100]);
    }

    #[test]
    fn bits_are_packed_as_numpy_does() {
        assert_eq!(pack_signs(&[0.1, -0.1, 0.0, 3.0, -1.0, 1.0, 1.0, 1.0]), 0b1001_0111);
        assert_eq!(pack_signs(&[1.0, 1.0, -1.0]), 0b1100_0000);
    }

    #[test]
    fn each_type_has_the_size_that_it_says() {
        let sizes = OutputDtype::ALL.iter().map(|dtype| Element::of(*dtype).vector_bytes(20));
        assert_eq!(sizes.collect::<Vec<_>>(), [80, 40, 20, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_read_is_as_near_as_its_type_allows(
            dimensions in 1u32..50,
            output_dtype in proptest::sample::select(OutputDtype::ALL),
            normalized in any::<bool>(),
            row in 0u64..500,
        ) {
            let info = FileInfo { output_dtype, normalized, ..info(dimensions) };
            let made = chunk(&info, row, 9);
            let batch = stored(&info, made.clone());
            let vectors = Vectors::of(&batch, &info);
            for index in 0..9 {
                prop_assert_eq!(vectors.storage_problem(index), None);
                prop_assert_eq!(vectors.has(index), made.status[index].error.is_none());
                if !vectors.has(index) {
                    continue;
                }
                let expected = &made.vectors[index * dimensions as usize..][..dimensions as usize];
                let found = floats(&vectors, index);
                prop_assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    match output_dtype {
                        OutputDtype::F32 => prop_assert_eq!(found, expected),
                        OutputDtype::F16 => prop_assert_eq!(*found, f16::from_f32(*expected).to_f32()),
                        OutputDtype::Int8 => {
                            let scale = vectors.scale(index).unwrap();
                            prop_assert!((found - expected).abs() <= scale * 0.5001, "{found} for {expected}");
                        }
                        OutputDtype::Binary => prop_assert_eq!(*found > 0.0, *expected > 0.0),
                    }
                }
                let norm = batch::norm(found.iter().map(|value| f64::from(*value)));
                let tolerance = batch::NORM_TOLERANCE + vectors.rounding(index);
                prop_assert!(!normalized || (norm - 1.0).abs() <= tolerance, "norm {norm}");
            }
        }
    }
}
