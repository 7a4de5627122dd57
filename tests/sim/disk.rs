//! The object store as one process sees it: one memory beneath, and between them waiting, errors before and after the
//! effect, conflicts that are none, and the death of the process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::fault::happens;
use crate::hostile::put_fails;
use crate::life::Life;
use crate::world::{Node, World, some_time};

/// The disk of one process.
#[derive(Clone)]
pub(crate) struct SimDisk {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) node: Node,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk of {}", self.node)
    }
}

impl fmt::Display for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk of {}", self.node)
    }
}

fn broken(what: &str) -> Error {
    Error::Generic { store: "sim", source: format!("the store fails {what}").into() }
}

impl SimDisk {
    async fn pass(&self, step: &str, path: &Path, when: &'static str, fails: f64) -> Result<()> {
        self.life.gate().await;
        let faults = self.world.faults();
        some_time(1, 20).await;
        if happens(faults.delay * 0.3) {
            some_time(1_000, 100_000).await;
        }
        self.life.gate().await;
        if happens(faults.crash_at_disk) {
            self.world.note(format_args!("{} at {when} {step}", self.node));
            self.life.kill();
            self.world.dies(self.node);
            self.life.gate().await;
        }
        if happens(fails) {
            self.world.note(format_args!("{}: disk fails {when} {step} {path}", self.node));
            return Err(broken(when));
        }
        Ok(())
    }

    async fn before(&self, step: &str, path: &Path) -> Result<()> {
        self.pass(step, path, "before", self.world.faults().disk_before).await
    }

    /// Flips a bit of what is read, not of what is stored.
    async fn misread(&self, path: &Path, found: GetResult) -> Result<GetResult> {
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let (attributes, extensions) = (found.attributes.clone(), found.extensions.clone());
        let mut bytes = found.bytes().await?.to_vec();
        if !bytes.is_empty() {
            let at = self.world.outages.flip(&mut bytes);
            self.world.note(format_args!("{}: byte {at} of {path} flips on the way", self.node));
        }
        let payload = GetResultPayload::Stream(stream::once(async { Ok(Bytes::from(bytes)) }).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn after(&self, step: &str, path: &Path) -> Result<()> {
        self.world.note(format_args!("{}: {step} {path}", self.node));
        self.world.moment(self.node, step, true);
        self.pass(step, path, "after", self.world.faults().disk_after).await
    }
}

#[async_trait]
impl ObjectStore for SimDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.pass("put", location, "before", put_fails(&self.world.faults(), location)).await?;
        if happens(self.world.faults().disk_conflict) {
            self.world.note(format_args!("{}: conflict at {location}", self.node));
            return Err(Error::AlreadyExists { path: location.to_string(), source: "conflict".into() });
        }
        let put = self.world.storage().put_opts(location, payload, options).await;
        self.after("put", location).await?;
        put
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(broken("at writing in parts: the simulation has none"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before("get", location).await?;
        let head = options.head;
        let found = self.world.storage().get_opts(location, options).await?;
        if head || !self.world.outages.flips_output(self.node) {
            Ok(found)
        } else {
            self.misread(location, found).await
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.before("get", location).await?;
        self.world.storage().get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let disk = self.clone();
        locations
            .then(move |location| {
                let disk = disk.clone();
                async move {
                    let location = location?;
                    disk.pass("delete", &location, "before", disk.world.faults().delete_before).await?;
                    let deleted = disk.world.storage().delete(&location).await;
                    disk.after("delete", &location).await?;
                    deleted.map(|()| location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.world.storage().list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.world.storage().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.before("copy", to).await?;
        self.world.storage().copy_opts(from, to, options).await
    }
}
