//! Re-cut pieces: the uncompressed bytes of one slice of a compressed source, written once to job storage.

use blake3::Hasher;
use bytes::{Bytes, BytesMut};

use crate::corpus::object::Object;
use crate::corpus::stream::TextStream;
use crate::error::{DatasetError, ErrorKind};
use crate::storage::{NewObject, Storage};

/// Size above which a growing piece is streamed to storage.
const BUFFER_BYTES_MAX: usize = 8 << 20;

/// The destination of pieces.
#[derive(Debug, Clone)]
pub(crate) struct Recut {
    pub(crate) storage: Storage,
    pub(crate) prefix: String,
}

/// The bytes of the slice being cut, and perhaps the beginning of the next.
pub(crate) struct Piece {
    recut: Recut,
    key: String,
    buffer: BytesMut,
    upload: Upload,
    hasher: Hasher,
    /// Bytes of this piece already removed from the buffer.
    sent: u64,
}

enum Upload {
    NotBegun,
    Begun(Box<NewObject>),
    /// An earlier run wrote this piece: ours is only compared with it.
    Exists,
}

impl Recut {
    /// Returns the key of the piece that begins at byte `start` of a source's text.
    fn key(&self, source_index: u32, start: u64) -> String {
        let prefix = self.prefix.trim_matches('/');
        let separator = if prefix.is_empty() { "" } else { "/" };
        format!("{prefix}{separator}{source_index:05}-{start:016}")
    }

    /// Begins the piece at byte `start` with the bytes `front`.
    pub(crate) fn begin(&self, source_index: u32, start: u64, front: &[u8]) -> Piece {
        Piece {
            recut: self.clone(),
            key: self.key(source_index, start),
            buffer: BytesMut::from(front),
            upload: Upload::NotBegun,
            hasher: Hasher::new(),
            sent: 0,
        }
    }
}

impl Piece {
    /// Appends bytes. The first `committed` bytes certainly belong to the piece, so they may leave the buffer.
    pub(crate) async fn append(&mut self, bytes: &[u8], committed: u64) -> Result<(), DatasetError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > BUFFER_BYTES_MAX && committed > self.sent {
            let ready = usize::try_from(committed - self.sent).unwrap_or(usize::MAX).min(self.buffer.len());
            self.send(ready).await?;
        }
        Ok(())
    }

    /// Ends the piece after `length` bytes; returns its key and the remaining bytes, which begin the next piece.
    ///
    /// # Errors
    /// `Corrupt` if storage has other bytes under that key.
    pub(crate) async fn finish(mut self, length: u64) -> Result<(String, Bytes), DatasetError> {
        let ready = usize::try_from(length - self.sent).expect("what was not sent is in the buffer");
        let storage = self.recut.storage.clone();
        let rest = if let Upload::NotBegun = self.upload {
            let mut buffer = self.buffer.split().freeze();
            let rest = buffer.split_off(ready);
            self.hasher.update(&buffer);
            match storage.put_new(&self.key, buffer).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.compare(length).await?,
                Err(error) => return Err(error),
            }
            rest
        } else {
            self.send(ready).await?;
            let finished = match std::mem::replace(&mut self.upload, Upload::Exists) {
                Upload::Begun(object) => object.finish().await.map(|_| ()),
                Upload::NotBegun | Upload::Exists => self.compare(length).await,
            };
            match finished {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.compare(length).await?,
                finished => finished?,
            }
            self.buffer.split().freeze()
        };
        Ok((self.key, rest))
    }

    async fn send(&mut self, length: usize) -> Result<(), DatasetError> {
        if let Upload::NotBegun = self.upload {
            self.upload = match self.recut.storage.create_new(&self.key).await {
                Ok(object) => Upload::Begun(Box::new(object)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Upload::Exists,
                Err(error) => return Err(error),
            };
        }
        let bytes = self.buffer.split_to(length);
        self.hasher.update(&bytes);
        self.sent += length as u64;
        match &mut self.upload {
            Upload::Begun(object) => object.write(&bytes).await,
            Upload::NotBegun | Upload::Exists => Ok(()),
        }
    }

    /// Compares the piece with the one in storage.
    async fn compare(&self, length: u64) -> Result<(), DatasetError> {
        let object = Object::open_piece(&self.recut.storage, &self.key).await?;
        let name = object.name().to_owned();
        let mut hasher = Hasher::new();
        if object.size() == length {
            let mut stream = TextStream::plain(object, 0..length);
            while let Some(block) = stream.next_block().await? {
                hasher.update(&block);
            }
            if hasher.finalize() == self.hasher.finalize() {
                return Ok(());
            }
        }
        let problem = "this piece of the corpus was cut before with other bytes: the source has changed since, \
                       or the storage belongs to another job";
        Err(DatasetError::corrupt(name, None, problem))
    }
}
