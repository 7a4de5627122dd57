//! The format of `torch.save`: a zip archive of stored entries with a pickle that names one tensor and its storage.
//!
//! Entries: `embeddings/data.pkl`, `embeddings/byteorder`, `embeddings/version`, then `embeddings/data/0`, the array.
//! The array comes last, so that everything before it is small and its size known; its CRC is put in afterwards.
//! Zip64 fields are used throughout for the array, so that it may exceed 4 GiB.

use std::io::{self, Write};

use super::{Shape, Sink};

/// Folder of the entries in the archive: any name will do, but all must share it.
const FOLDER: &str = "embeddings";
/// Storages begin at a multiple of this, so that they can be mapped into memory.
const ALIGNMENT: u64 = 64;
/// 1980-01-01, the first date that zip knows: the same array gives the same bytes.
const DOS_DATE: u16 = 0x21;
const VERSION_NEEDED: u16 = 45;
/// "See the zip64 field".
const IN_ZIP64: u32 = u32::MAX;
/// Offset of the CRC in a local header.
const CRC_OFFSET: u64 = 14;
/// Length of the zip64 field with two sizes in a local header, its own header included.
const LOCAL_ZIP64_BYTES: usize = 20;

/// An entry whose local header is written.
struct Entry {
    name: String,
    crc: u32,
    bytes: u64,
    offset: u64,
}

/// An archive whose array is being written.
pub(super) struct Archive {
    entries: Vec<Entry>,
}

/// Writes all of the archive up to the first byte of the array.
pub(super) fn begin(sink: &mut Sink, shape: &Shape<'_>) -> io::Result<Archive> {
    let mut archive = Archive { entries: Vec::new() };
    for (name, bytes) in [("data.pkl", pickle(shape)), ("byteorder", b"little".to_vec()), ("version", b"3\n".to_vec())]
    {
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        archive.local_header(sink, name, crc.sum(), bytes.len() as u64)?;
        sink.write_all(&bytes)?;
    }
    archive.local_header(sink, "data/0", 0, shape.data_bytes())?;
    Ok(archive)
}

impl Archive {
    fn local_header(&mut self, sink: &mut Sink, name: &str, crc: u32, bytes: u64) -> io::Result<()> {
        let name = format!("{FOLDER}/{name}");
        let offset = sink.position()?;
        let fixed = 30 + name.len() as u64 + LOCAL_ZIP64_BYTES as u64;
        // Padding is an extra field of its own, of at least its header.
        let data = (offset + fixed + 4).next_multiple_of(ALIGNMENT);
        let padding = usize::try_from(data - offset - fixed - 4).expect("padding is below the alignment");
        let mut header = Vec::with_capacity(128);
        header.extend(b"PK\x03\x04");
        header.extend(VERSION_NEEDED.to_le_bytes());
        header.extend([0; 4]); // no flags; stored
        header.extend(0_u16.to_le_bytes());
        header.extend(DOS_DATE.to_le_bytes());
        header.extend(crc.to_le_bytes());
        header.extend(IN_ZIP64.to_le_bytes());
        header.extend(IN_ZIP64.to_le_bytes());
        header.extend(small(name.len()).to_le_bytes());
        header.extend(small(LOCAL_ZIP64_BYTES + 4 + padding).to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(zip64_field(&[bytes, bytes]));
        header.extend(b"FB");
        header.extend(small(padding).to_le_bytes());
        header.extend(std::iter::repeat_n(b'Z', padding));
        self.entries.push(Entry { name, crc, bytes, offset });
        sink.write_all(&header)
    }

    /// Puts in the CRC of the array that was just written, and ends the archive.
    pub(super) fn end(mut self, sink: &mut Sink) -> io::Result<()> {
        let crc = sink.crc.sum();
        let array = self.entries.last_mut().expect("the array is the last entry");
        array.crc = crc;
        sink.overwrite(array.offset + CRC_OFFSET, &crc.to_le_bytes())?;
        let start = sink.position()?;
        let count = self.entries.len() as u64;
        for entry in &self.entries {
            sink.write_all(&central_header(entry))?;
        }
        let end = sink.position()?;
        let mut tail = Vec::new();
        tail.extend(b"PK\x06\x06");
        tail.extend(44_u64.to_le_bytes());
        tail.extend(VERSION_NEEDED.to_le_bytes());
        tail.extend(VERSION_NEEDED.to_le_bytes());
        tail.extend([0; 8]); // this disk; disk of the directory
        for value in [count, count, end - start, start] {
            tail.extend(value.to_le_bytes());
        }
        tail.extend(b"PK\x06\x07");
        tail.extend([0; 4]);
        tail.extend(end.to_le_bytes());
        tail.extend(1_u32.to_le_bytes());
        tail.extend(b"PK\x05\x06");
        tail.extend([0; 4]);
        for _ in 0..2 {
            tail.extend(small(self.entries.len()).to_le_bytes());
        }
        tail.extend(u32::try_from(end - start).unwrap_or(IN_ZIP64).to_le_bytes());
        tail.extend(u32::try_from(start).unwrap_or(IN_ZIP64).to_le_bytes());
        tail.extend([0; 2]);
        sink.write_all(&tail)
    }
}

fn central_header(entry: &Entry) -> Vec<u8> {
    let zip64 = zip64_field(&[entry.bytes, entry.bytes, entry.offset]);
    let mut header = Vec::with_capacity(128);
    header.extend(b"PK\x01\x02");
    header.extend(VERSION_NEEDED.to_le_bytes());
    header.extend(VERSION_NEEDED.to_le_bytes());
    header.extend([0; 4]);
    header.extend(0_u16.to_le_bytes());
    header.extend(DOS_DATE.to_le_bytes());
    header.extend(entry.crc.to_le_bytes());
    header.extend(IN_ZIP64.to_le_bytes());
    header.extend(IN_ZIP64.to_le_bytes());
    header.extend(small(entry.name.len()).to_le_bytes());
    header.extend(small(zip64.len()).to_le_bytes());
    header.extend([0; 10]); // no comment; disk 0; no attributes
    header.extend(IN_ZIP64.to_le_bytes());
    header.extend(entry.name.as_bytes());
    header.extend(zip64);
    header
}

fn zip64_field(values: &[u64]) -> Vec<u8> {
    let mut field = Vec::with_capacity(4 + 8 * values.len());
    field.extend(1_u16.to_le_bytes());
    field.extend(small(8 * values.len()).to_le_bytes());
    values.iter().for_each(|value| field.extend(value.to_le_bytes()));
    field
}

fn small(length: usize) -> u16 {
    u16::try_from(length).expect("names and fields of the archive are short")
}

/// The pickle of a tensor over storage `0`: protocol 2, with nothing that `weights_only` would refuse.
fn pickle(shape: &Shape<'_>) -> Vec<u8> {
    let (storage, rows, width) = (shape.element().torch_storage, shape.rows, u64::from(shape.width()));
    let mut code = b"\x80\x02".to_vec();
    global(&mut code, "torch._utils", "_rebuild_tensor_v2");
    code.push(b'('); // the arguments
    code.push(b'('); // the persistent id
    text(&mut code, "storage");
    global(&mut code, "torch", storage);
    text(&mut code, "0");
    text(&mut code, "cpu");
    integer(&mut code, rows * width);
    code.extend(b"tQ");
    integer(&mut code, 0); // where the tensor begins in the storage
    integer(&mut code, rows);
    integer(&mut code, width);
    code.push(b'\x86');
    integer(&mut code, width); // strides
    integer(&mut code, 1);
    code.push(b'\x86');
    code.push(b'\x89'); // needs no gradient
    global(&mut code, "collections", "OrderedDict");
    code.extend(b")R"); // no hooks
    code.extend(b"tR."); // the end of the arguments; call; stop
    code
}

fn global(code: &mut Vec<u8>, module: &str, name: &str) {
    code.extend(format!("c{module}\n{name}\n").as_bytes());
}

fn text(code: &mut Vec<u8>, text: &str) {
    code.push(b'X');
    code.extend(u32::try_from(text.len()).expect("a word").to_le_bytes());
    code.extend(text.as_bytes());
}

/// A long of eight bytes, and a ninth so that it is never negative.
fn integer(code: &mut Vec<u8>, value: u64) {
    code.extend(b"\x8a\x09");
    code.extend(value.to_le_bytes());
    code.push(0);
}
