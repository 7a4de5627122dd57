//! Reading from storage what describes vectors: the footer of a file, without its rows, and the manifest of a job,
//! without holding its text.

use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::Path;

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use tokio::sync::mpsc;

use super::error::VectorsError;
use super::info::FileInfo;
use super::manifest::Manifest;
use crate::storage::READS_MAX;
use crate::{DatasetError, ErrorKind, Storage};

/// What is fetched first: the footer of nearly every shard is smaller.
const TAIL_BYTES: u64 = 64 * 1024;
/// A longer footer is taken for damage.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// A manifest is fetched in pieces of this size, of which two wait at most.
const PIECE_BYTES: u64 = 4 << 20;
const PIECES_WAITING: usize = 2;

/// Reads how the vectors under a storage key were made, and checks that the file has this BLAKE3: damage in its footer would be
/// copied to the whole output. Bits also flip on the way, so the file counts as damaged once several reads find it so.
///
/// # Errors
/// `NotFound`, damage, a newer format, or the store fails.
pub async fn read_info(storage: &Storage, key: &str, blake3: &str) -> Result<FileInfo, DatasetError> {
    for _ in 1..READS_MAX {
        match read_info_once(storage, key, blake3).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            read => return read,
        }
    }
    read_info_once(storage, key, blake3).await
}

async fn read_info_once(storage: &Storage, key: &str, blake3: &str) -> Result<FileInfo, DatasetError> {
    let path = Path::new(key);
    let size = storage.head(key).await?.size;
    let (metadata, footer) = parse_footer(path, size, |range| storage.get_range(key, range)).await?;
    let mut hasher = blake3::Hasher::new();
    let (mut at, end) = (0, size - footer.len() as u64);
    while at < end {
        let piece = storage.get_range(key, at..end.min(at + PIECE_BYTES)).await?;
        at += piece.len().max(1) as u64;
        hasher.update(&piece);
    }
    if hasher.update(&footer).finalize().to_hex().as_str() != blake3 {
        return Err(VectorsError::damaged(path, "its BLAKE3 is not the one that was reported").into());
    }
    let pairs = metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
    Ok(FileInfo::from_key_values(path, pairs)?)
}

/// Parses the footer of a Parquet file of this size, which `read` reads. Returns it with the last bytes of the file, in which
/// it is.
pub(super) async fn parse_footer<R: Future<Output = Result<Bytes, DatasetError>>>(
    path: &Path,
    size: u64,
    read: impl Fn(Range<u64>) -> R,
) -> Result<(ParquetMetaData, Bytes), DatasetError> {
    let mut tail = TAIL_BYTES.min(size);
    loop {
        let bytes = read(size - tail..size).await?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&bytes, size) {
            Ok(()) => return Ok((reader.finish().map_err(VectorsError::decode(path, None))?, bytes)),
            Err(ParquetError::NeedMoreData(needed)) if tail < needed as u64 && needed as u64 <= FOOTER_BYTES_MAX => {
                tail = (needed as u64).min(size);
            }
            Err(error) => return Err(VectorsError::decode(path, None)(error).into()),
        }
    }
}

/// Reads the manifest under a storage key. Does not check that it holds: see [`Manifest::problems`].
///
/// # Errors
/// `NotFound`, damage, a newer format, or the store fails.
pub async fn read_manifest(storage: &Storage, key: &str) -> Result<Manifest, DatasetError> {
    let read = parse(storage, key, Manifest::read_sealed).await?;
    let outline = match &read {
        Ok(sealed) if sealed.has_its_checksum => None,
        Ok(_) | Err(_) => Some(parse(storage, key, |pieces| serde_json::from_reader(BufReader::new(pieces))).await?),
    };
    Manifest::checked_format(Path::new(key), read, || outline.expect("read unless the checksum is right"))
}

/// Parses an object while it is fetched.
async fn parse<T: Send + 'static>(
    storage: &Storage,
    key: &str,
    parser: impl FnOnce(Pieces) -> serde_json::Result<T> + Send + 'static,
) -> Result<serde_json::Result<T>, DatasetError> {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let pieces = Pieces { receiver, piece: Bytes::new() };
    let parsing = tokio::task::spawn_blocking(move || parser(pieces));
    let (mut at, size) = (0, storage.head(key).await?.size);
    while at < size {
        let piece = storage.get_range(key, at..size.min(at + PIECE_BYTES)).await?;
        at += piece.len() as u64;
        // Who does not listen any more has found what is wrong.
        if piece.is_empty() || sender.send(piece).await.is_err() {
            break;
        }
    }
    drop(sender);
    parsing.await.map_err(|crash| DatasetError::Io { object: key.to_owned(), source: Box::new(crash) })
}

/// Bytes as they come.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece = self.receiver.blocking_recv().unwrap_or_default();
        }
        let taken = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;

    use arrow_schema::Schema;
    use futures::StreamExt;
    use object_store::memory::InMemory;
    use object_store::path::Path as StorePath;
    use object_store::{GetOptions, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt};

    use super::super::info::tests::info;
    use super::super::write::VectorWriter;
    use super::*;
    use crate::storage::watched::{Reads, Watched};

    #[tokio::test]
    async fn the_footer_of_a_stored_file_says_how_its_vectors_were_made() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path().join("storage").to_str().unwrap()).unwrap();
        let file = dir.path().join("file.parquet");
        // A long prefix makes the footer longer than the first fetch.
        let written = FileInfo { prefix: "p".repeat(3 * TAIL_BYTES as usize), ..info(8) };
        let blake3 = VectorWriter::create(&file, &Schema::empty(), &written).unwrap().finish().unwrap().blake3;
        storage.put_new_file("a/b.parquet", &file).await.unwrap();
        assert_eq!(read_info(&storage, "a/b.parquet", &blake3).await.unwrap(), written);
        // Nothing but the digest can know of a bit in a name.
        let mut bytes = std::fs::read(&file).unwrap();
        let at = bytes.windows(2).rposition(|pair| pair == b"pp").unwrap();
        bytes[at] ^= 1;
        storage.put_new("a/flipped.parquet", bytes.into()).await.unwrap();
        let error = read_info(&storage, "a/flipped.parquet", &blake3).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("a/flipped.parquet"), "{error}");
        storage.put_new("a/cut.parquet", Bytes::from_static(b"PAR1 nothing else")).await.unwrap();
        assert!(read_info(&storage, "a/cut.parquet", &blake3).await.is_err());
    }

    /// Flips a bit of the next reads.
    #[derive(Debug, Default)]
    struct Misreading {
        left: AtomicU32,
    }

    impl Reads for Misreading {
        async fn get(
            &self,
            inner: &InMemory,
            path: &StorePath,
            options: GetOptions,
        ) -> object_store::Result<GetResult> {
            let is_flipped = !options.head && self.left.try_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
            let found = inner.get_opts(path, options).await?;
            if !is_flipped {
                return Ok(found);
            }
            let GetResult { meta, range, attributes, extensions, .. } = found;
            let mut bytes = inner.get_range(path, range.clone()).await?.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            let payload = GetResultPayload::Stream(futures::stream::iter([Ok(bytes.into())]).boxed());
            Ok(GetResult { payload, meta, range, attributes, extensions })
        }
    }

    #[tokio::test]
    async fn a_file_is_damaged_only_if_every_read_finds_it_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file.parquet");
        let summary = VectorWriter::create(&file, &Schema::empty(), &info(8)).unwrap().finish().unwrap();
        let store = Arc::new(Watched::<Misreading>::default());
        let storage = Storage::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>, "memory");
        storage.put_new("a.parquet", std::fs::read(&file).unwrap().into()).await.unwrap();
        for (misreads, is_read) in [(READS_MAX - 1, true), (READS_MAX, false)] {
            store.reads.left.store(misreads, SeqCst);
            let read = read_info(&storage, "a.parquet", &summary.blake3).await;
            assert_eq!(read.is_ok(), is_read, "{misreads} misreads: {read:?}");
            assert_eq!(store.reads.left.load(SeqCst), 0);
        }
    }

    #[tokio::test]
    async fn a_manifest_is_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path().to_str().unwrap()).unwrap();
        // Longer than a piece.
        let written = FileInfo { prefix: "p".repeat(PIECE_BYTES as usize + 100_000), ..info(8) };
        let manifest = Manifest::new(written, Vec::new(), Vec::new()).unwrap();
        storage.put_new("m.json", manifest.to_bytes().into()).await.unwrap();
        assert_eq!(read_manifest(&storage, "m.json").await.unwrap(), manifest);
        for (key, text, expected) in
            [("cut.json", &manifest.to_bytes()[..4_200_000], "damaged"), ("new.json", br#"{"format": 7}"#, "format 7")]
        {
            storage.put_new(key, Bytes::copy_from_slice(text)).await.unwrap();
            let error = read_manifest(&storage, key).await.unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(key), "{error}");
        }
    }
}
