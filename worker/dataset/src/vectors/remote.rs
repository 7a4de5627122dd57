//! Reading the footer of a vector file in storage, without fetching its rows.

use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;

use super::error::VectorsError;
use super::info::FileInfo;
use crate::{DatasetError, Storage};

/// What is fetched first: the footer of nearly every shard is smaller.
const TAIL_BYTES: u64 = 64 * 1024;
/// A longer footer is taken for damage.
const FOOTER_BYTES_MAX: u64 = 64 << 20;

/// Reads how the vectors under a storage key were made, from the footer alone.
///
/// # Errors
/// `NotFound`, damage, a newer format, or the store fails.
pub async fn read_info(storage: &Storage, key: &str) -> Result<FileInfo, DatasetError> {
    let path = Path::new(key);
    let size = storage.head(key).await?.size;
    let mut tail = TAIL_BYTES.min(size);
    let metadata = loop {
        let bytes = storage.get_range(key, size - tail..size).await?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&bytes, size) {
            Ok(()) => break reader.finish().map_err(VectorsError::decode(path, None))?,
            Err(ParquetError::NeedMoreData(needed)) if tail < needed as u64 && needed as u64 <= FOOTER_BYTES_MAX => {
                tail = (needed as u64).min(size);
            }
            Err(error) => return Err(VectorsError::decode(path, None)(error).into()),
        }
    };
    let pairs = metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
    Ok(FileInfo::from_key_values(path, pairs)?)
}

#[cfg(test)]
mod tests {
    use super::super::info::tests::info;
    use super::super::write::VectorWriter;
    use super::*;
    use arrow_schema::Schema;
    use bytes::Bytes;

    #[tokio::test]
    async fn the_footer_of_a_stored_file_says_how_its_vectors_were_made() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path().join("storage").to_str().unwrap()).unwrap();
        let file = dir.path().join("file.parquet");
        // A long prefix makes the footer longer than the first fetch.
        let written = FileInfo { prefix: "p".repeat(3 * TAIL_BYTES as usize), ..info(8) };
        VectorWriter::create(&file, &Schema::empty(), &written).unwrap().finish().unwrap();
        storage.put_new_file("a/b.parquet", &file).await.unwrap();
        assert_eq!(read_info(&storage, "a/b.parquet").await.unwrap(), written);
        storage.put_new("a/cut.parquet", Bytes::from_static(b"PAR1 nothing else")).await.unwrap();
        assert!(read_info(&storage, "a/cut.parquet").await.is_err());
    }
}
