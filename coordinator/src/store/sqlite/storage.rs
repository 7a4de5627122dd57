//! Which storage the files of the jobs are in.

use sqlx::query_scalar;
use sqlx::sqlite::SqliteConnection;

use crate::store::error::StoreError;
use crate::store::sql::jobs;

/// Stores an id where one is given and none is stored; returns what is stored then.
pub(super) async fn id(db: &mut SqliteConnection, id: Option<String>) -> Result<Option<String>, StoreError> {
    if let Some(id) = id {
        sqlx::query(jobs::ADOPT_STORAGE).bind(id).execute(&mut *db).await?;
    }
    Ok(query_scalar(jobs::STORAGE_ID).fetch_optional(db).await?)
}
