//! What is read of a database and changes nothing: one query for each, written once for both databases.

use dataset::{ManifestHole, PlannedSource};
use proto::JobId;
use proto::job::{JobBrief, JobSpec, JobState};
use proto::work::SourceTask;
use sqlx::query::Query;
use sqlx::{Database, Encode, Type, query};
use uuid::Uuid;

use super::rows::{self, Fields};
use super::sql::jobs::{self, Pages};
use super::sql::sweep;
use super::types::{Exhausted, Garbage, Page, Planning, StoreFuture, Tally, Tripped, Winner};

/// Which committed shards are listed, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WinnerList {
    /// All, by their index.
    All,
    /// Shards as they were cut, by their index, which is also the order of their rows.
    Whole,
    /// Halves of shards that were split, by their first row.
    Halves,
}

/// The queries of the store.
pub(crate) trait Reads: Send + Sync {
    /// Returns the briefs of jobs, newest first.
    fn briefs(&self, page: Page) -> StoreFuture<'_, Vec<JobBrief>>;
    /// Returns what a job was submitted with, if a program of this revision knows all of it.
    fn spec(&self, job: JobId, revision: u32) -> StoreFuture<'_, Option<JobSpec>>;
    /// Sums over all jobs.
    fn tally(&self) -> StoreFuture<'_, Tally>;
    /// Does nothing but answer.
    fn ping(&self) -> StoreFuture<'_, ()>;
    /// Counts the jobs that have not ended, of one owner or of all.
    fn active(&self, owner: Option<String>) -> StoreFuture<'_, u64>;
    /// Returns a job's state.
    fn job_state(&self, job: JobId) -> StoreFuture<'_, Option<JobState>>;
    /// Returns the jobs in state planning that a program of this revision knows, in the order of submission.
    fn waiting(&self, revision: u32) -> StoreFuture<'_, Vec<JobId>>;
    /// Returns a job in state planning.
    fn planning(&self, job: JobId) -> StoreFuture<'_, Option<Planning>>;
    /// Returns what all shards of a source have in common, of a job that a program of this revision knows.
    fn source_task(&self, job: JobId, source_index: u32, revision: u32) -> StoreFuture<'_, Option<SourceTask>>;
    /// Returns the planned sources, in order.
    fn sources(&self, job: JobId) -> StoreFuture<'_, Vec<PlannedSource>>;
    /// Returns committed shards after a position of the list, an index or a row (-1 for all), in order.
    fn winners(&self, list: WinnerList, job: JobId, after: i64, limit: u32) -> StoreFuture<'_, Vec<Winner>>;
    /// Returns the rows of dead shards after a row (-1 for all), in order.
    fn holes(&self, job: JobId, after_row: i64, limit: u32) -> StoreFuture<'_, Vec<ManifestHole>>;
    /// Returns the jobs that wait for their manifest, and that a program of this revision knows.
    fn finalizable(&self, revision: u32) -> StoreFuture<'_, Vec<JobId>>;
    /// Returns the jobs of which only dead shards are left, without allowing holes, and that a program of this revision
    /// knows.
    fn exhausted(&self, revision: u32) -> StoreFuture<'_, Vec<Exhausted>>;
    /// Returns the active jobs, not paused, of whose last attempts more than `most` failed in the same way.
    fn tripped(&self, attempts: u32, most: u32) -> StoreFuture<'_, Vec<Tripped>>;
    /// Returns garbage whose object is not known to be deleted.
    fn list_garbage(&self, limit: u32) -> StoreFuture<'_, Vec<Garbage>>;
}

/// A statement that reads, with its parameters.
#[derive(Debug)]
pub(super) struct Read {
    statement: &'static str,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
enum Parameter {
    Number(i64),
    Id(Uuid),
    Text(Option<String>),
}

impl Read {
    fn new(statement: &'static str) -> Self {
        Self { statement, parameters: Vec::new() }
    }

    fn number(mut self, number: impl Into<i64>) -> Self {
        self.parameters.push(Parameter::Number(number.into()));
        self
    }

    fn id(mut self, id: Uuid) -> Self {
        self.parameters.push(Parameter::Id(id));
        self
    }

    fn text(mut self, text: Option<String>) -> Self {
        self.parameters.push(Parameter::Text(text));
        self
    }

    /// Returns the statement with its parameters bound.
    pub(super) fn query<DB: Database>(self) -> Query<'static, DB, DB::Arguments>
    where
        i64: Encode<'static, DB> + Type<DB>,
        Uuid: Encode<'static, DB> + Type<DB>,
        Option<String>: Encode<'static, DB> + Type<DB>,
    {
        self.parameters.into_iter().fold(query(self.statement), |query, parameter| match parameter {
            Parameter::Number(number) => query.bind(number),
            Parameter::Id(id) => query.bind(id),
            Parameter::Text(text) => query.bind(text),
        })
    }
}

/// A database that answers statements.
pub(super) trait SqlReader: Send + Sync {
    type Row: Fields + Send + Sync;

    /// The statements that list jobs.
    const PAGES: Pages;

    /// Returns the rows of a statement.
    fn fetch(&self, read: Read) -> StoreFuture<'_, Vec<Self::Row>>;

    /// Returns the time that deadlines are compared with.
    fn read_now_ms(&self) -> StoreFuture<'_, i64>;
}

impl<Db: SqlReader> Reads for Db {
    fn briefs(&self, page: Page) -> StoreFuture<'_, Vec<JobBrief>> {
        Box::pin(async move {
            let now_ms = self.read_now_ms().await?;
            let pages = Db::PAGES;
            let (statements, place) = match &page {
                Page::One(_) => (pages.one, None),
                Page::Active { .. } => (pages.active, None),
                Page::Newest { before, owner, .. } => {
                    let place = match before {
                        None => (i64::MAX, Uuid::max()),
                        Some(before) => match self.fetch(Read::new(jobs::JOB_PLACE).id(before.0)).await?.first() {
                            Some(row) => (row.int("submitted_ms")?, before.0),
                            None => return Ok(Vec::new()),
                        },
                    };
                    (if owner.is_some() { pages.owned } else { pages.newest }, Some(place))
                }
            };
            let found = self.fetch(page_read(statements.briefs, &page, place)).await?;
            let rejects = rows::rejects(&self.fetch(page_read(statements.rejects, &page, place)).await?)?;
            found.iter().map(|row| rows::brief(row, now_ms, &rejects)).collect()
        })
    }

    fn spec(&self, job: JobId, revision: u32) -> StoreFuture<'_, Option<JobSpec>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::JOB_SPEC).id(job.0).number(revision)).await?;
            found.first().map(|row| row.json("spec")).transpose()
        })
    }

    fn tally(&self) -> StoreFuture<'_, Tally> {
        Box::pin(async move {
            let states = self.fetch(Read::new(jobs::JOBS_BY_STATE)).await?;
            let sums = self.fetch(Read::new(jobs::TALLY)).await?;
            rows::tally(sums.first().ok_or(sqlx::Error::RowNotFound)?, &states)
        })
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.fetch(Read::new(jobs::PING)).await?;
            Ok(())
        })
    }

    fn active(&self, owner: Option<String>) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::ACTIVE_JOBS).text(owner)).await?;
            found.first().ok_or(sqlx::Error::RowNotFound)?.count("jobs")
        })
    }

    fn job_state(&self, job: JobId) -> StoreFuture<'_, Option<JobState>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::JOB_STATE).id(job.0)).await?;
            found.first().map(rows::job_state).transpose()
        })
    }

    fn waiting(&self, revision: u32) -> StoreFuture<'_, Vec<JobId>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::JOBS_TO_PLAN).number(revision)).await?;
            found.iter().map(|row| row.id("job_id").map(JobId)).collect()
        })
    }

    fn planning(&self, job: JobId) -> StoreFuture<'_, Option<Planning>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::JOB_TO_PLAN).id(job.0)).await?;
            let Some(row) = found.first() else { return Ok(None) };
            let (mut planning, inspected) = rows::planning(row)?;
            if inspected {
                planning.sources = Some(self.sources(job).await?);
            }
            Ok(Some(planning))
        })
    }

    fn source_task(&self, job: JobId, source_index: u32, revision: u32) -> StoreFuture<'_, Option<SourceTask>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::SOURCE_TASK).id(job.0).number(source_index)).await?;
            found.first().map(|row| rows::source_task_of(row, job, revision)).transpose()
        })
    }

    fn sources(&self, job: JobId) -> StoreFuture<'_, Vec<PlannedSource>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::SOURCES).id(job.0)).await?;
            found.iter().map(rows::planned_source).collect()
        })
    }

    fn winners(&self, list: WinnerList, job: JobId, after: i64, limit: u32) -> StoreFuture<'_, Vec<Winner>> {
        Box::pin(async move {
            let statement = match list {
                WinnerList::All => jobs::WINNERS,
                WinnerList::Whole => jobs::WINNERS_WHOLE,
                WinnerList::Halves => jobs::WINNERS_HALVES,
            };
            let found = self.fetch(Read::new(statement).id(job.0).number(after).number(limit)).await?;
            found.iter().map(rows::winner).collect()
        })
    }

    fn holes(&self, job: JobId, after_row: i64, limit: u32) -> StoreFuture<'_, Vec<ManifestHole>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::HOLES).id(job.0).number(after_row).number(limit)).await?;
            found.iter().map(rows::hole).collect()
        })
    }

    fn finalizable(&self, revision: u32) -> StoreFuture<'_, Vec<JobId>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::JOBS_TO_FINALIZE).number(revision)).await?;
            found.iter().map(|row| row.id("job_id").map(JobId)).collect()
        })
    }

    fn exhausted(&self, revision: u32) -> StoreFuture<'_, Vec<Exhausted>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(jobs::EXHAUSTED_JOBS).number(revision)).await?;
            found.iter().map(rows::exhausted).collect()
        })
    }

    fn tripped(&self, attempts: u32, most: u32) -> StoreFuture<'_, Vec<Tripped>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(sweep::TRIPPED_JOBS).number(attempts).number(most)).await?;
            found.iter().map(rows::tripped).collect()
        })
    }

    fn list_garbage(&self, limit: u32) -> StoreFuture<'_, Vec<Garbage>> {
        Box::pin(async move {
            let found = self.fetch(Read::new(sweep::LIST_GARBAGE).number(limit)).await?;
            found.iter().map(rows::garbage).collect()
        })
    }
}

/// Binds the parameters of a statement that lists jobs; `place` is where the page begins.
fn page_read(statement: &'static str, page: &Page, place: Option<(i64, Uuid)>) -> Read {
    let read = Read::new(statement);
    match page {
        Page::One(job) => read.id(job.0),
        Page::Active { limit } => read.number(*limit),
        Page::Newest { owner, limit, .. } => {
            let (submitted_ms, job) = place.unwrap_or((i64::MAX, Uuid::max()));
            let read = read.number(submitted_ms).id(job).number(*limit);
            if owner.is_some() { read.text(owner.clone()) } else { read }
        }
    }
}
