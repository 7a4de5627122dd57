//! Reads tensors of a `pytorch_model.bin`: a pickle that lists them, with their numbers in the same zip archive or,
//! before PyTorch 1.6, in sequence.
//!
//! A stored tensor is a view of numbers: offset, shape, strides. Tensors may be transposed, sliced, repeated and share
//! numbers; they are read in the order of their shape. The pickle is parsed as data ([`unpickler`]) and executes
//! nothing.

mod unpickler;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use self::unpickler::{Id, Node, Objects};
use super::sniff;
use crate::LoadError;

/// The magic number of checkpoints before PyTorch 1.6.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Maximum nesting of the functions that construct a tensor.
const CALLS_MAX: usize = 8;

pub(super) struct PickleFile {
    path: PathBuf,
    /// Every tensor, or why it cannot be read.
    tensors: HashMap<String, Result<View, String>>,
    storages: HashMap<String, Place>,
    big_endian: bool,
}

/// A tensor as a view of stored numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    storage: String,
    dtype: Number,
    /// In elements, like the strides.
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

/// The byte range of stored numbers in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    length: u64,
}

/// The type of a stored number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    F64,
    F32,
    F16,
    Bf16,
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Number::F64 => 8,
            Number::F32 => 4,
            Number::F16 | Number::Bf16 => 2,
        }
    }

    fn of_storage(class: &str) -> Result<Number, String> {
        match class {
            "torch.DoubleStorage" => Ok(Number::F64),
            "torch.FloatStorage" => Ok(Number::F32),
            "torch.HalfStorage" => Ok(Number::F16),
            "torch.BFloat16Storage" => Ok(Number::Bf16),
            other => Err(format!("stored as `{other}`, but only f64, f32, f16 and bf16 are read")),
        }
    }
}

impl PickleFile {
    pub(super) fn open(path: &Path) -> Result<PickleFile, LoadError> {
        let invalid = |problem: String| LoadError::Invalid {
            path: path.into(),
            problem: format!("not a PyTorch checkpoint: {problem}"),
        };
        let read_error = |source| LoadError::Read { path: path.into(), source };
        let mut file = BufReader::new(File::open(path).map_err(read_error)?);
        let mut head = Vec::new();
        file.by_ref().take(32).read_to_end(&mut head).map_err(read_error)?;
        file.rewind().map_err(read_error)?;
        let opened = match head.first() {
            _ if head.starts_with(b"PK") => open_zip(file),
            Some(0x80) => open_sequence(file),
            _ => return Err(invalid(sniff(&head).into())),
        };
        let Opened { objects, root, storages, big_endian } = opened.map_err(invalid)?;
        let tensors = tensors(&objects, root);
        if tensors.is_empty() {
            return Err(invalid("it lists no tensors".into()));
        }
        Ok(PickleFile { path: path.into(), tensors, storages, big_endian })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.tensors.keys().cloned()
    }

    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        let view = self.tensors[name].as_ref().map_err(String::clone)?;
        Ok(view.shape.iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect())
    }

    /// Reads one tensor as f32, in the order of its shape.
    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>, String> {
        self.numbers(self.tensors[name].as_ref().map_err(String::clone)?)
    }

    fn numbers(&self, view: &View) -> Result<Vec<f32>, String> {
        let outside = || "it extends beyond its stored numbers: the file is truncated or damaged".to_owned();
        let Some(span) = view.span().ok_or_else(outside)? else { return Ok(Vec::new()) };
        let place = self.storages.get(&view.storage).ok_or_else(outside)?;
        let size = view.dtype.bytes() as u64;
        let end = view.offset.checked_add(span).and_then(|end| end.checked_mul(size)).ok_or_else(outside)?;
        if end > place.length {
            return Err(outside());
        }
        let stored = self.stored(place.start + view.offset * size, span as usize, view.dtype)?;
        if view.is_in_order() { Ok(stored) } else { view.gather(&stored) }
    }

    /// Reads `count` consecutive numbers of the file as f32.
    fn stored(&self, start: u64, count: usize, dtype: Number) -> Result<Vec<f32>, String> {
        let read_into = |bytes: &mut [u8]| {
            let read = File::open(&self.path).and_then(|mut file| {
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(bytes)
            });
            read.map_err(|error| error.to_string())
        };
        if dtype == Number::F32 && !self.big_endian && cfg!(target_endian = "little") {
            // The common case, and a large one: read without another copy.
            let mut numbers = vec![0.0_f32; count];
            read_into(bytemuck::cast_slice_mut(&mut numbers))?;
            return Ok(numbers);
        }
        let mut bytes = vec![0; count * dtype.bytes()];
        read_into(&mut bytes)?;
        if self.big_endian {
            bytes.chunks_exact_mut(dtype.bytes()).for_each(<[u8]>::reverse);
        }
        Ok(match dtype {
            Number::F64 => bytes.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number) as f32).collect(),
            Number::F32 => bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect(),
            Number::F16 => bytes.as_chunks().0.iter().map(|number| f16::from_le_bytes(*number).to_f32()).collect(),
            Number::Bf16 => bytes.as_chunks().0.iter().map(|number| bf16::from_le_bytes(*number).to_f32()).collect(),
        })
    }
}

impl View {
    /// Returns the count of stored numbers from the first to the last element, `Some(None)` for an empty tensor,
    /// `None` on overflow.
    fn span(&self) -> Option<Option<u64>> {
        if self.shape.contains(&0) {
            return Some(None);
        }
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(0_u64, |last, (size, stride)| last.checked_add((size - 1).checked_mul(*stride)?))?;
        last.checked_add(1).map(Some)
    }

    /// Returns whether the elements are contiguous in the order of the shape.
    fn is_in_order(&self) -> bool {
        let mut expected = 1_u64;
        self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
            let in_order = *size == 1 || *stride == expected;
            expected = expected.saturating_mul(*size);
            in_order
        })
    }

    /// Returns the elements in the order of the shape. `stored` begins with the first.
    fn gather(&self, stored: &[f32]) -> Result<Vec<f32>, String> {
        let count = self.shape.iter().try_fold(1_u64, |count, size| count.checked_mul(*size));
        let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        let (mut index, mut at) = (vec![0; self.shape.len()], 0_u64);
        // Not preallocated: a shape may repeat a few stored numbers without bound.
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(count).map_err(|error| error.to_string())?;
        for _ in 0..count {
            numbers.push(stored[at as usize]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
        Ok(numbers)
    }
}

/// The parts of a checkpoint, in either format.
struct Opened {
    objects: Objects,
    root: Id,
    storages: HashMap<String, Place>,
    big_endian: bool,
}

/// Opens a zip archive: the list in `NAME/data.pkl`, numbers in `NAME/data/KEY`, their byte order in `NAME/byteorder`.
fn open_zip(mut file: BufReader<File>) -> Result<Opened, String> {
    let damaged = |error: zip::result::ZipError| error.to_string();
    let mut archive = zip::ZipArchive::new(&mut file).map_err(damaged)?;
    let names: Vec<String> = archive.file_names_raw().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let mut records = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        let record = archive.by_index_raw(index).map_err(damaged)?;
        if record.compression() != zip::CompressionMethod::Stored {
            return Err(format!("its `{name}` is compressed, which PyTorch's own files never are"));
        }
        let start = record.data_start().ok_or("its directory is damaged")?;
        records.insert(name.as_str(), Place { start, length: record.size() });
    }
    let list = names.iter().filter(|name| name.ends_with("/data.pkl")).min_by_key(|name| name.len());
    let root = list.and_then(|name| name.strip_suffix("data.pkl")).ok_or("it has no `data.pkl`")?;
    drop(archive);
    let mut record = |name: &str| -> Result<Option<Vec<u8>>, String> {
        let Some(place) = records.get(format!("{root}{name}").as_str()) else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(place.start));
        read.and_then(|_| file.by_ref().take(place.length).read_to_end(&mut bytes))
            .map_err(|error| error.to_string())?;
        Ok(Some(bytes))
    };
    let big_endian = match record("byteorder")?.as_deref() {
        None | Some(b"little") => false,
        Some(b"big") => true,
        Some(_) => return Err("its `byteorder` is neither `little` nor `big`".into()),
    };
    let list = record("data.pkl")?.unwrap_or_default();
    let (objects, list) = unpickler::read(&mut list.as_slice())?;
    let data = format!("{root}data/");
    let storages =
        records.iter().filter_map(|(name, place)| Some((name.strip_prefix(&data)?.to_owned(), *place))).collect();
    Ok(Opened { objects, root: list, storages, big_endian })
}

/// Opens a checkpoint from before PyTorch 1.6: pickles of magic number, version, system info, list, and storage keys;
/// then for each key the count and its numbers, always little-endian.
fn open_sequence(mut file: BufReader<File>) -> Result<Opened, String> {
    let (objects, magic) = unpickler::read(&mut file)?;
    if *objects.get(magic) != Node::LargeInt(MAGIC.to_vec()) {
        return Err("it is a pickle, but not one of weights".into());
    }
    for _ in ["version", "machine"] {
        unpickler::read(&mut file)?;
    }
    let (objects, root) = unpickler::read(&mut file)?;
    let (keys, list) = unpickler::read(&mut file)?;
    let Node::List(list) = keys.get(list) else { return Err("it has no list of what is stored".into()) };
    let sizes = storage_sizes(&objects);
    let mut storages = HashMap::new();
    for key in list {
        let key = keys.text(*key).ok_or("a name in its list of what is stored is no text")?;
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(|_| "the file is truncated".to_owned())?;
        let size = *sizes.get(key).ok_or("it stores numbers of no tensor")?;
        let length = u64::from_le_bytes(count).checked_mul(size).ok_or("the file is damaged")?;
        let start = file.stream_position().map_err(|error| error.to_string())?;
        let end = start.checked_add(length).ok_or("the file is damaged")?;
        storages.insert(key.to_owned(), Place { start, length });
        file.seek(SeekFrom::Start(end)).map_err(|error| error.to_string())?;
    }
    let end = file.stream_position().and_then(|end| Ok((end, file.get_ref().metadata()?.len())));
    match end {
        Ok((end, length)) if end <= length => Ok(Opened { objects, root, storages, big_endian: false }),
        _ => Err("the file is truncated".into()),
    }
}

/// Returns the bytes per number of each storage.
fn storage_sizes(objects: &Objects) -> HashMap<String, u64> {
    let mut sizes = HashMap::new();
    for id in objects.ids() {
        let Node::Persistent(storage) = objects.get(id) else { continue };
        let [_, class, key, ..] = objects.tuple(*storage) else { continue };
        let (Some(class), Some(key)) = (objects.global(*class), objects.text(*key)) else { continue };
        let size = match class.trim_start_matches("torch.") {
            "ByteStorage" | "CharStorage" | "BoolStorage" => 1,
            "ShortStorage" | "HalfStorage" | "BFloat16Storage" => 2,
            "LongStorage" | "DoubleStorage" | "ComplexFloatStorage" => 8,
            "ComplexDoubleStorage" => 16,
            _ => 4,
        };
        sizes.insert(key.to_owned(), size);
    }
    sizes
}

/// Returns the tensors of a list, which some checkpoints wrap: `{"state_dict": …}`.
fn tensors(objects: &Objects, root: Id) -> HashMap<String, Result<View, String>> {
    let found = tensors_of(objects, root);
    match objects.value(root, "state_dict") {
        Some(inner) if found.is_empty() => tensors_of(objects, inner),
        _ => found,
    }
}

fn tensors_of(objects: &Objects, dict: Id) -> HashMap<String, Result<View, String>> {
    let Node::Dict(entries) = objects.get(dict) else { return HashMap::new() };
    let named = entries.iter().filter_map(|(name, value)| Some((objects.text(*name)?, *value)));
    // Some checkpoints also hold numbers and strings; only the result of a call can be a tensor.
    let made = named.filter(|(_, value)| matches!(objects.get(*value), Node::Call(..)));
    made.map(|(name, value)| (name.to_owned(), view(objects, value, CALLS_MAX))).collect()
}

/// Determines the view of a tensor from the calls that would construct it in Python.
fn view(objects: &Objects, id: Id, calls_left: usize) -> Result<View, String> {
    let unknown = |name: &str| format!("made by `{name}`, which is not known to make a plain tensor");
    let Some((name, arguments)) = objects.call(id) else { return Err("it is not a tensor".into()) };
    if calls_left == 0 {
        return Err(unknown(name));
    }
    match (name, arguments) {
        ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [data, ..]) => {
            view(objects, *data, calls_left - 1)
        }
        (
            "torch._tensor._rebuild_from_type_v2" | "torch.tensor._rebuild_from_type_v2",
            [function, _, arguments, ..],
        ) => match objects.global(*function) {
            Some(name) => plain_view(objects, name, objects.tuple(*arguments)),
            None => Err(unknown(name)),
        },
        _ => plain_view(objects, name, arguments),
    }
}

fn plain_view(objects: &Objects, name: &str, arguments: &[Id]) -> Result<View, String> {
    let damaged = || "its place among the stored numbers is damaged".to_owned();
    let (
        "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
        [storage, offset, shape, strides, rest @ ..],
    ) = (name, arguments)
    else {
        return Err(format!("made by `{name}`, which is not known to make a plain tensor"));
    };
    // Gradients, hooks, and then flags such as "negated".
    if let Some(Node::Dict(marks)) = rest.get(2).map(|marks| objects.get(*marks))
        && !marks.is_empty()
    {
        return Err("it is stored as a view that changes its numbers".into());
    }
    let Node::Persistent(storage) = objects.get(*storage) else { return Err(damaged()) };
    let (class, key, view_of) = match objects.tuple(*storage) {
        [_, class, key, _, _] => (*class, *key, None),
        [_, class, key, _, _, view_of, ..] => (*class, *key, Some(*view_of)),
        _ => return Err(damaged()),
    };
    let dtype = Number::of_storage(objects.global(class).ok_or_else(damaged)?)?;
    // Before PyTorch 0.4 a storage could be a slice of another.
    let part = view_of.map(|part| objects.tuple(part)).unwrap_or_default();
    let part = part.get(1).map_or(Some(0), |offset| objects.size(*offset)).ok_or_else(damaged)?;
    let view = View {
        storage: objects.text(key).ok_or_else(damaged)?.to_owned(),
        dtype,
        offset: objects.size(*offset).and_then(|offset| offset.checked_add(part)).ok_or_else(damaged)?,
        shape: objects.sizes(*shape).ok_or_else(damaged)?,
        strides: objects.sizes(*strides).ok_or_else(damaged)?,
    };
    if view.shape.len() != view.strides.len() {
        return Err(damaged());
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewed(offset: u64, shape: &[u64], strides: &[u64]) -> View {
        View { storage: "0".into(), dtype: Number::F32, offset, shape: shape.into(), strides: strides.into() }
    }

    #[test]
    fn elements_come_in_the_order_of_the_shape() {
        let stored: Vec<f32> = (0..12_u8).map(f32::from).collect();
        assert_eq!(viewed(0, &[3, 2], &[1, 3]).gather(&stored).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], "transposed");
        assert_eq!(viewed(0, &[2, 2], &[6, 2]).gather(&stored).unwrap(), [0.0, 2.0, 6.0, 8.0], "cut out");
        assert_eq!(viewed(0, &[2, 3], &[0, 1]).gather(&stored).unwrap(), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0], "repeated");
        assert_eq!(viewed(0, &[], &[]).gather(&stored).unwrap(), [0.0], "a single number");
    }

    #[test]
    fn contiguity_of_a_view_follows_from_its_strides() {
        assert!(viewed(0, &[3, 2], &[2, 1]).is_in_order() && viewed(0, &[1, 5], &[99, 1]).is_in_order());
        assert!(!viewed(0, &[3, 2], &[1, 3]).is_in_order() && !viewed(0, &[2], &[0]).is_in_order());
        assert_eq!(viewed(7, &[3, 2], &[1, 3]).span(), Some(Some(6)));
        assert_eq!(viewed(0, &[2, 0], &[9, 9]).span(), Some(None));
        assert_eq!(viewed(0, &[u64::MAX, 3], &[u64::MAX, 1]).span(), None);
    }
}
