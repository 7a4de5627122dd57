//! How jobs stand, page by page, without their specs; and what the planner reads of a job.

use dataset::PlannedSource;
use proto::JobId;
use proto::job::JobBrief;
use sqlx::query;
use uuid::Uuid;

use super::Statement;
use super::pool::Pool;
use crate::store::backend::Page;
use crate::store::error::StoreError;
use crate::store::rows::{self, Fields};
use crate::store::sql::jobs::{self, JOB_PLACE, PG_PAGES};
use crate::store::types::{Planning, Tally};

type Result<T> = std::result::Result<T, StoreError>;

pub(super) async fn briefs(desk: &Pool, page: Page, now_ms: i64) -> Result<Vec<JobBrief>> {
    let (statements, place) = match &page {
        Page::One(_) => (PG_PAGES.one, None),
        Page::Active { .. } => (PG_PAGES.active, None),
        Page::Newest { before, owner, .. } => {
            let place = match before {
                None => (i64::MAX, Uuid::max()),
                Some(before) => match desk.rows(query(JOB_PLACE).bind(before.0)).await?.first() {
                    Some(row) => (row.int("submitted_ms")?, before.0),
                    None => return Ok(Vec::new()),
                },
            };
            (if owner.is_some() { PG_PAGES.owned } else { PG_PAGES.newest }, Some(place))
        }
    };
    let found = desk.rows(bound(query(statements.briefs), &page, place)).await?;
    let rejects = desk.rows(bound(query(statements.rejects), &page, place)).await?;
    let rejects = rows::rejects(&rejects)?;
    found.iter().map(|row| rows::brief(row, now_ms, &rejects)).collect()
}

fn bound(statement: Statement, page: &Page, place: Option<(i64, Uuid)>) -> Statement {
    match page {
        Page::One(job) => statement.bind(job.0),
        Page::Active { limit } => statement.bind(i64::from(*limit)),
        Page::Newest { owner, limit, .. } => {
            let (submitted_ms, job) = place.unwrap_or((i64::MAX, Uuid::max()));
            let statement = statement.bind(submitted_ms).bind(job).bind(i64::from(*limit));
            match owner {
                Some(owner) => statement.bind(owner.clone()),
                None => statement,
            }
        }
    }
}

pub(super) async fn tally(desk: &Pool) -> Result<Tally> {
    let states = desk.rows(query(jobs::JOBS_BY_STATE)).await?;
    let sums = desk.rows(query(jobs::TALLY)).await?;
    rows::tally(sums.first().ok_or(sqlx::Error::RowNotFound)?, &states)
}

pub(super) async fn planning(desk: &Pool, job: JobId) -> Result<Option<Planning>> {
    let found = desk.rows(query(jobs::JOB_TO_PLAN).bind(job.0)).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let (mut planning, inspected) = rows::planning(row)?;
    if inspected {
        planning.sources = Some(sources(desk, job).await?);
    }
    Ok(Some(planning))
}

pub(super) async fn sources(desk: &Pool, job: JobId) -> Result<Vec<PlannedSource>> {
    desk.rows(query(jobs::SOURCES).bind(job.0)).await?.iter().map(rows::planned_source).collect()
}
