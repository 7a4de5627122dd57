//! Which storage the files of the jobs are in.

use sqlx::query;

use super::pool::Pool;
use crate::store::error::StoreError;
use crate::store::rows::Fields;
use crate::store::sql::jobs;

/// Stores an id where one is given and none is stored; returns what is stored then.
pub(super) async fn id(background: &Pool, id: Option<String>) -> Result<Option<String>, StoreError> {
    if let Some(id) = id {
        background.changed(query(jobs::ADOPT_STORAGE).bind(id)).await?;
    }
    background.rows(query(jobs::STORAGE_ID)).await?.first().map(|row| row.text("storage_id")).transpose()
}
