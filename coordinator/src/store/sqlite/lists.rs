//! How jobs stand, page by page, without their specs.

use proto::job::JobBrief;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqlitePool};
use sqlx::{query, query_scalar};
use uuid::Uuid;

use crate::store::backend::Page;
use crate::store::error::StoreError;
use crate::store::rows;
use crate::store::sql::jobs::{JOB_PLACE, PAGES};

type Result<T> = std::result::Result<T, StoreError>;
type Statement<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

pub(super) async fn briefs(readers: &SqlitePool, page: Page, now_ms: i64) -> Result<Vec<JobBrief>> {
    let (statements, place) = match &page {
        Page::One(_) => (PAGES.one, None),
        Page::Active { .. } => (PAGES.active, None),
        Page::Newest { before, owner, .. } => {
            let place = match before {
                None => (i64::MAX, Uuid::max()),
                Some(before) => match query_scalar(JOB_PLACE).bind(before.0).fetch_optional(readers).await? {
                    Some(submitted_ms) => (submitted_ms, before.0),
                    None => return Ok(Vec::new()),
                },
            };
            (if owner.is_some() { PAGES.owned } else { PAGES.newest }, Some(place))
        }
    };
    let found = bound(query(statements.briefs), &page, place).fetch_all(readers).await?;
    let rejects = bound(query(statements.rejects), &page, place).fetch_all(readers).await?;
    let rejects = rows::rejects(&rejects)?;
    found.iter().map(|row| rows::brief(row, now_ms, &rejects)).collect()
}

fn bound<'q>(statement: Statement<'q>, page: &Page, place: Option<(i64, Uuid)>) -> Statement<'q> {
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
