//! The disk of a coordinator that has a planted bug: it answers as a program with that bug would have taken the answer.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use coordinator::store::memory::planted::{self, Bug};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::Instant;

use crate::disk::SimDisk;
use crate::hostile::is_manifest;
use crate::world::some_time;

/// A coordinator's disk, with the planted bug of this thread if that is one of the coordinator's use of its storage.
#[derive(Debug, Clone)]
pub(crate) struct PlantedDisk(pub(crate) SimDisk);

impl fmt::Display for PlantedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn written() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: Default::default() }
}

impl PlantedDisk {
    async fn put_manifest(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if planted::is(Bug::SucceedBeforeManifest) {
            let (disk, location) = (self.0.clone(), location.clone());
            tokio::spawn(async move {
                some_time(5, 5_000).await;
                disk.put_opts(&location, payload, options).await.ok();
            });
            return Ok(written());
        }
        if planted::is(Bug::ManifestWithTime) {
            let time = Instant::now().duration_since(self.0.world.begin).as_millis().to_string();
            let payload = payload.into_iter().chain([Bytes::from(time)]).collect();
            return self.0.put_opts(location, payload, options).await;
        }
        match self.0.put_opts(location, payload, options).await {
            Err(error) if planted::is(Bug::ManifestErrorIgnored) && !matches!(error, Error::AlreadyExists { .. }) => {
                Ok(written())
            }
            put => put,
        }
    }

    /// An output that a worker reported, as if it were there.
    fn reported(&self, location: &Path) -> Option<GetResult> {
        let size = self.0.world.reported_bytes(location.as_ref())?;
        let location = location.clone();
        let meta = ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None };
        Some(result(meta, Bytes::new()))
    }
}

fn result(meta: ObjectMeta, bytes: Bytes) -> GetResult {
    GetResult {
        range: 0..meta.size,
        payload: GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed()),
        meta,
        attributes: Default::default(),
        extensions: Default::default(),
    }
}

#[async_trait]
impl ObjectStore for PlantedDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if is_manifest(location) {
            return self.put_manifest(location, payload, options).await;
        }
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if planted::is(Bug::StorageUnconfirmed) && location.as_ref() == dataset::STORAGE_ID_KEY {
            return self.0.world.disk.get_opts(location, options).await;
        }
        let head = options.head;
        let found = self.0.get_opts(location, options).await;
        if planted::is(Bug::CommitUnchecked) && head && found.is_err() {
            return self.reported(location).map_or(found, Ok);
        }
        if planted::is(Bug::ManifestExistsIsFailure) && !head && is_manifest(location) {
            let meta = found?.meta;
            return Ok(result(meta, Bytes::from_static(b"another manifest")));
        }
        found
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if !planted::is(Bug::GarbageFailureIgnored) {
            return self.0.delete_stream(locations);
        }
        let disk = self.0.clone();
        locations
            .and_then(move |location| {
                let deleted = disk.delete_stream(stream::once(std::future::ready(Ok(location.clone()))).boxed());
                async move {
                    deleted.collect::<Vec<_>>().await;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
