//! Where corpora come from: how the planner looks at sources and cuts them. In production that is `dataset`.

use std::fmt;

use dataset::{Cursor, CutLimits, Cutter, DatasetError, PlannedSource, ReadOptions, Slice, Source, Storage};
use futures::future::BoxFuture;

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

/// Corpora that are files and objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored;

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
        Box::pin(async move {
            let Cutting { sources, read, limits, storage, recut_prefix, cursor } = cutting;
            let cutter = Cutter::new(sources, read, limits, storage, recut_prefix, cursor).await?;
            Ok(Box::new(cutter) as Box<dyn Cut>)
        })
    }
}

impl Cut for Cutter {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Slice>, DatasetError>> {
        Box::pin(Cutter::next(self))
    }

    fn cursor(&self) -> Cursor {
        Cutter::cursor(self)
    }
}
