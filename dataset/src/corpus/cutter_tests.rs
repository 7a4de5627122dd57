//! Tests that cutting and reading have bounded reads, by counting the requested bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};
use spec::{Compression, Format};

use super::*;
use crate::corpus::RECORD_BYTES_MAX;
use crate::corpus::feed::{Record, RecordFeed};
use crate::corpus::stream::BLOCK_BYTES;
use crate::corpus::text_format::Splitter;
use crate::storage::watched::{Reads, Watched};

/// Records the largest and the total number of bytes requested.
#[derive(Debug, Default)]
struct Counting {
    largest: AtomicU64,
    total: AtomicU64,
}

impl Reads for Counting {
    async fn get(&self, inner: &InMemory, path: &StorePath, options: GetOptions) -> object_store::Result<GetResult> {
        let length = match (&options.range, options.head) {
            (_, true) => 0,
            (Some(GetRange::Bounded(range)), _) => range.end - range.start,
            _ => u64::MAX,
        };
        self.largest.fetch_max(length, Ordering::Relaxed);
        self.total.fetch_add(length, Ordering::Relaxed);
        inner.get_opts(path, options).await
    }
}

fn splitter_of(format: Format) -> Splitter {
    formats::text_format(format).unwrap().splitter(Dialect::of_format(format))
}

async fn counted(text: Vec<u8>) -> (Arc<Watched<Counting>>, Object) {
    let store = Arc::new(Watched::<Counting>::default());
    let path = StorePath::from("corpus");
    store.put(&path, text.into()).await.unwrap();
    let object = Object::open_in(Arc::clone(&store) as Arc<dyn ObjectStore>, path, "corpus".to_owned()).await.unwrap();
    (store, object)
}

#[tokio::test]
async fn cutting_requests_each_byte_once_in_blocks() {
    let mut text = b"id,text\n".to_vec();
    while text.len() < 5 << 20 {
        text.extend_from_slice(format!("{},\"una frase, con \"\"comillas\"\"\ny otra\"\n", text.len()).as_bytes());
    }
    let size = text.len() as u64;
    let (store, object) = counted(text).await;
    let limits = CutLimits { rows_max: 1000, bytes_max: 1 << 30 };
    let stream = TextStream::open(object, Compression::None, None, 0).await.unwrap();
    let mut cut = TextCut::open(stream, true, splitter_of(Format::Csv), limits, None).await.unwrap();
    let (mut slices, mut end) = (0, 8);
    while let Some(slice) = cut.next().await.unwrap() {
        assert_eq!(slice.start, end);
        end = slice.end;
        slices += 1;
    }
    assert_eq!(end, size);
    assert!(slices > 50);
    assert!(store.reads.largest.load(Ordering::Relaxed) <= BLOCK_BYTES as u64);
    assert_eq!(store.reads.total.load(Ordering::Relaxed), size);
}

#[tokio::test]
async fn an_oversized_record_is_skipped_in_bounded_memory() {
    let limit = usize::try_from(RECORD_BYTES_MAX).unwrap();
    let mut text = b"antes\n".to_vec();
    text.resize(text.len() + limit + 100, b'x');
    text.extend_from_slice(b"\ndespues\n");
    let size = text.len() as u64;
    let (store, object) = counted(text).await;
    let mut feed = RecordFeed::new(TextStream::plain(object, 0..size), splitter_of(Format::Txt));
    assert_eq!(feed.next().await.unwrap(), Some(Record::Whole(b"antes\n")));
    assert_eq!(feed.next().await.unwrap(), Some(Record::TooLarge));
    assert_eq!(feed.next().await.unwrap(), Some(Record::Whole(b"despues\n")));
    assert_eq!(feed.next().await.unwrap(), None);
    assert!(feed.memory() <= 2 * limit, "{}", feed.memory());
    assert!(store.reads.largest.load(Ordering::Relaxed) <= BLOCK_BYTES as u64);
}

#[tokio::test]
async fn endless_blank_lines_are_not_a_record() {
    let mut text = vec![b'\n'; usize::try_from(RECORD_BYTES_MAX).unwrap() + 100];
    text.extend_from_slice(b"a,b\n");
    let size = text.len() as u64;
    let (_, object) = counted(text).await;
    let mut feed = RecordFeed::new(TextStream::plain(object, 0..size), splitter_of(Format::Csv));
    assert!(matches!(feed.next().await.unwrap(), Some(Record::Whole(record)) if record.ends_with(b"\na,b\n")));
    assert!(feed.memory() <= 4 * BLOCK_BYTES);
    assert_eq!(feed.next().await.unwrap(), None);
}

#[tokio::test]
async fn zero_limits_and_cursors_beyond_the_corpus_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(dir.path().to_str().unwrap()).unwrap();
    let options = ReadOptions::default();
    let new = |rows_max, source_index| {
        let limits = CutLimits { rows_max, bytes_max: 1 };
        let cursor = Cursor { source_index, position: 0, next_row: 0 };
        Cutter::new(Vec::new(), options.clone(), limits, storage.clone(), String::new(), cursor)
    };
    assert!(new(0, 0).await.is_err());
    assert!(new(1, 1).await.is_err());
    assert_eq!(new(1, 0).await.unwrap().next().await.unwrap(), None);
}
