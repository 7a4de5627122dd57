//! Digests of files: hashing while writing, and the seal, a digest of the file within itself.
//!
//! The footer holds the file's own BLAKE3 under `encaje.file_blake3`, taken with sixty-four `0` in the place of the
//! value. So a single merged file can be checked to the last byte without a manifest beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::VectorsError;
use super::info::SEAL_KEY;
use super::place;
use crate::ErrorKind;
use crate::storage::READS_MAX;

/// Placeholder of the seal while the file is hashed.
pub(super) const SEAL_PLACEHOLDER: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Hex digits of a BLAKE3.
const SEAL_LENGTH: usize = 64;
/// What Parquet puts between a key of known length and a value of 64 bytes (Thrift compact: string field, length).
const SEAL_JOINT: [u8; 2] = [0x18, 0x40];
/// Bytes read at a time when a file is hashed.
const HASH_BUFFER_BYTES: usize = 1 << 20;
/// Length of the footer and magic at the end of a Parquet file.
const TRAILER_BYTES: u64 = 8;

/// A file being written from the start to the end that is hashed on the way.
pub(super) struct HashingFile {
    file: File,
    path: PathBuf,
    /// Bytes neither hashed nor written yet: both are fast in large pieces only.
    pending: Vec<u8>,
    hasher: blake3::Hasher,
    written: u64,
    /// State before the first byte of the tail, and where that is.
    tail: Option<(blake3::Hasher, u64)>,
}

/// Size and digest of a finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Size in bytes.
    pub bytes: u64,
    /// In hex.
    pub blake3: String,
}

impl HashingFile {
    /// Creates the file, or empties it.
    pub(super) fn create(path: &Path) -> Result<HashingFile, VectorsError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(VectorsError::io("create", path))?;
        let pending = Vec::with_capacity(HASH_BUFFER_BYTES);
        Ok(HashingFile { file, path: path.to_owned(), pending, hasher: blake3::Hasher::new(), written: 0, tail: None })
    }

    /// Says that everything from here on is the tail: the part that holds the seal and is read once more.
    pub(super) fn begin_tail(&mut self) -> Result<(), VectorsError> {
        self.flush().map_err(VectorsError::io("write", &self.path))?;
        self.tail = Some((self.hasher.clone(), self.written));
        Ok(())
    }

    /// Puts the digest in the place of the placeholder and makes the file durable.
    pub(super) fn seal(mut self) -> Result<Written, VectorsError> {
        self.flush().map_err(VectorsError::io("write", &self.path))?;
        let (mut hasher, start) = self.tail.take().expect("the tail begins before the footer is written");
        let path = self.path;
        let mut tail = Vec::new();
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_to_end(&mut tail));
        read.map_err(VectorsError::io("read back", &path))?;
        let place = find_seal(&tail).expect("the footer was written with a placeholder");
        let digest = self.hasher.finalize().to_hex();
        tail[place..place + SEAL_LENGTH].copy_from_slice(digest.as_bytes());
        let patched = self.file.seek(SeekFrom::Start(start + place as u64));
        let patched = patched.and_then(|_| self.file.write_all(digest.as_bytes())).and_then(|()| self.file.sync_all());
        patched.map_err(VectorsError::io("write", &path))?;
        Ok(Written { bytes: self.written, blake3: hasher.update(&tail).finalize().to_hex().to_string() })
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= HASH_BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.hasher.update(&self.pending);
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// Returns where the value of the seal begins in a footer.
fn find_seal(footer: &[u8]) -> Option<usize> {
    let pattern = [SEAL_KEY.as_bytes(), &SEAL_JOINT].concat();
    let place = footer.windows(pattern.len()).rposition(|window| window == pattern)? + pattern.len();
    (place + SEAL_LENGTH <= footer.len()).then_some(place)
}

/// Reads a file to its end and returns its size and BLAKE3.
///
/// # Errors
/// It cannot be read.
pub fn hash_file(path: &Path) -> Result<Written, VectorsError> {
    hash(&mut place::open(path)?).map_err(VectorsError::io("read", path))
}

pub(super) fn hash(file: &mut File) -> io::Result<Written> {
    let mut hasher = blake3::Hasher::new();
    let bytes = hash_bytes(file, &mut hasher, u64::MAX)?;
    Ok(Written { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

fn hash_bytes(file: &mut impl Read, hasher: &mut blake3::Hasher, limit: u64) -> io::Result<u64> {
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut done = 0;
    while done < limit {
        let want = usize::try_from(limit - done).unwrap_or(usize::MAX).min(buffer.len());
        match file.read(&mut buffer[..want]) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                done += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Opens a file whose size and BLAKE3 are known, and checks them. Bits also flip on the way, so a remote file counts as damaged
/// once several reads find it so.
pub(super) fn open_listed(path: &Path, bytes: u64, blake3: &str) -> Result<File, VectorsError> {
    let mut reads = if place::url_of(path).is_some() { READS_MAX } else { 1 };
    loop {
        reads -= 1;
        match open_listed_once(path, bytes, blake3) {
            Err(VectorsError::Damaged { .. }) if reads > 0 => {}
            opened => return opened,
        }
    }
}

fn open_listed_once(path: &Path, bytes: u64, blake3: &str) -> Result<File, VectorsError> {
    let mut file = match place::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(VectorsError::damaged(path, "it is missing")),
        opened => opened?,
    };
    let found = file.metadata().map_err(VectorsError::io("open", path))?.len();
    if found != bytes {
        return Err(VectorsError::damaged(path, format!("it has {found} bytes, expected {bytes}")));
    }
    let found = hash(&mut file).map_err(VectorsError::io("read", path))?.blake3;
    if found != blake3 {
        return Err(VectorsError::damaged(path, format!("its BLAKE3 is {found}, expected {blake3}")));
    }
    Ok(file)
}

/// Checks a file against the seal in its own footer, without decoding anything. `path` names it in errors.
pub(super) fn check_seal(path: &Path, mut file: &File) -> Result<(), VectorsError> {
    let size = file.metadata().map_err(VectorsError::io("open", path))?.len();
    let footer = read_footer(path, file, size)?;
    let start = size - TRAILER_BYTES - footer.len() as u64;
    let Some(place) = find_seal(&footer) else {
        return Err(VectorsError::damaged(
            path,
            "its footer holds no `encaje.file_blake3`: not an output of encaje, or not any more",
        ));
    };
    let sealed = footer[place..place + SEAL_LENGTH].to_vec();
    let place = start + place as u64;
    let mut hasher = blake3::Hasher::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| hash_bytes(&mut file, &mut hasher, place));
    read.map_err(VectorsError::io("read", path))?;
    hasher.update(SEAL_PLACEHOLDER.as_bytes());
    let read = file.seek(SeekFrom::Start(place + SEAL_LENGTH as u64));
    let read = read.and_then(|_| hash_bytes(&mut file, &mut hasher, u64::MAX));
    read.map_err(VectorsError::io("read", path))?;
    if hasher.finalize().to_hex().as_bytes() == sealed {
        return Ok(());
    }
    Err(VectorsError::damaged(path, "its bytes differ from the BLAKE3 in its footer"))
}

/// Reads the Thrift part of the footer, whose length is at the end of the file.
fn read_footer(path: &Path, mut file: &File, size: u64) -> Result<Vec<u8>, VectorsError> {
    let short = || VectorsError::damaged(path, "it does not end like a Parquet file: cut short, or not Parquet at all");
    let trailer_at = size.checked_sub(TRAILER_BYTES).ok_or_else(short)?;
    let mut trailer = [0; TRAILER_BYTES as usize];
    let read = file.seek(SeekFrom::Start(trailer_at)).and_then(|_| file.read_exact(&mut trailer));
    read.map_err(VectorsError::io("read", path))?;
    if &trailer[4..] != b"PAR1" {
        return Err(short());
    }
    let length = u64::from(u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]));
    let start = trailer_at.checked_sub(length).ok_or_else(short)?;
    let mut footer = vec![0; usize::try_from(length).map_err(|_| short())?];
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut footer));
    read.map_err(VectorsError::io("read", path))?;
    Ok(footer)
}
