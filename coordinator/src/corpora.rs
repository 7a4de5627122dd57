//! Where corpora come from: how the planner looks at sources and cuts them. In production that is `dataset`.

use std::fmt;
use std::sync::Arc;

use dataset::{Cursor, CutLimits, Cutter, DatasetError, Notice, PlannedSource, ReadOptions, Slice, Source, Storage};
use futures::future::BoxFuture;
use tracing::warn;

/// How a corpus is cut.
pub struct Cutting {
    /// Its sources, as planned.
    pub sources: Vec<PlannedSource>,
    /// How its records are read.
    pub read: ReadOptions,
    /// How large a slice may be.
    pub limits: CutLimits,
    /// Where re-cut input goes, and under which prefix.
    pub storage: Storage,
    /// The prefix of re-cut input.
    pub recut_prefix: String,
    /// Where to begin.
    pub cursor: Cursor,
}

/// Looks at sources and cuts them.
pub trait Corpora: Send + Sync + 'static {
    /// Looks at the headers of sources; see [`dataset::inspect`].
    fn inspect<'a>(
        &'a self,
        sources: &'a [Source],
        read: &'a ReadOptions,
    ) -> BoxFuture<'a, Result<Vec<PlannedSource>, DatasetError>>;

    /// Begins to cut; see [`dataset::Cutter`].
    fn cut(&self, cutting: Cutting) -> BoxFuture<'static, Result<Box<dyn Cut>, DatasetError>>;
}

/// A corpus that is being cut.
pub trait Cut: Send + Sync {
    /// Cuts the next slice; `None` at the end of the corpus.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Slice>, DatasetError>>;
    /// Returns where the next slice begins.
    fn cursor(&self) -> Cursor;
}

/// Is called with warnings about a source.
type OnNotice = Arc<dyn Fn(&Notice) + Send + Sync>;

/// Corpora that are files and objects. Warnings about one are logged, or passed to a callback.
#[derive(Clone, Default)]
pub struct Stored {
    on_notice: Option<OnNotice>,
}

impl Stored {
    /// Tells what is found instead of logging it.
    pub fn telling(on_notice: impl Fn(&Notice) + Send + Sync + 'static) -> Stored {
        Stored { on_notice: Some(Arc::new(on_notice)) }
    }
}

impl fmt::Debug for dyn Corpora {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Corpora")
    }
}

impl Corpora for Stored {
    fn inspect<'a>(
        &'a self,
        sources: &'a [Source],
        read: &'a ReadOptions,
    ) -> BoxFuture<'a, Result<Vec<PlannedSource>, DatasetError>> {
        Box::pin(dataset::inspect(sources, read))
    }

    fn cut(&self, cutting: Cutting) -> BoxFuture<'static, Result<Box<dyn Cut>, DatasetError>> {
        let on_notice = self.on_notice.clone();
        Box::pin(async move {
            let Cutting { sources, read, limits, storage, recut_prefix, cursor } = cutting;
            let cutter = Cutter::new(sources, read, limits, storage, recut_prefix, cursor).await?;
            Ok(Box::new(StoredCut { cutter, on_notice }) as Box<dyn Cut>)
        })
    }
}

/// A stored corpus that is being cut.
struct StoredCut {
    cutter: Cutter,
    on_notice: Option<OnNotice>,
}

impl Cut for StoredCut {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Slice>, DatasetError>> {
        Box::pin(async {
            let next = self.cutter.next().await;
            for notice in self.cutter.take_notices() {
                match &self.on_notice {
                    Some(tell) => tell(&notice),
                    None => warn!(%notice, "a source may be meant otherwise"),
                }
            }
            next
        })
    }

    fn cursor(&self) -> Cursor {
        self.cutter.cursor()
    }
}
