//! A store in memory whose reads a test counts or changes.

use std::fmt;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// How a store is read.
pub(crate) trait Reads: fmt::Debug + Send + Sync + 'static {
    fn get(
        &self,
        inner: &InMemory,
        path: &StorePath,
        options: GetOptions,
    ) -> impl Future<Output = Result<GetResult>> + Send;
}

#[derive(Debug, Default)]
pub(crate) struct Watched<R> {
    inner: InMemory,
    pub(crate) reads: R,
}

impl<R> fmt::Display for Watched<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

#[async_trait::async_trait]
impl<R: Reads> ObjectStore for Watched<R> {
    async fn put_opts(&self, path: &StorePath, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, data, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &StorePath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.reads.get(&self.inner, path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
