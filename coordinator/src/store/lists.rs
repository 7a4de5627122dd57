//! The status of jobs: one, or page by page without their specs, and the sums over all of them.

use proto::JobId;
use proto::job::{JobBrief, JobSpec, JobStatus};

use super::types::{Page, Tally};
use super::{Result, Store};

impl Store {
    /// Returns the status of a job, to be shown: a spec of a later release comes without what this program does not know. Costs
    /// the same for ten shards and for a million.
    pub async fn job(&self, job: JobId) -> Result<Option<JobStatus>> {
        let Some(brief) = self.brief(job).await? else { return Ok(None) };
        Ok(self.spec(job).await?.map(|spec| JobStatus { spec, brief }))
    }

    /// As [`Store::job`], to act upon: only where this program knows all of the spec.
    pub async fn known_job(&self, job: JobId) -> Result<Option<JobStatus>> {
        let Some(brief) = self.brief(job).await? else { return Ok(None) };
        Ok(self.backend.spec(job, self.revision).await?.map(|spec| JobStatus { spec, brief }))
    }

    /// Returns the status of a job without its spec, which may be large.
    pub async fn brief(&self, job: JobId) -> Result<Option<JobBrief>> {
        Ok(self.briefs(Page::One(job)).await?.pop())
    }

    /// Returns what a job was submitted with, to be shown.
    pub async fn spec(&self, job: JobId) -> Result<Option<JobSpec>> {
        self.backend.spec(job, u32::MAX).await
    }

    /// Counts the jobs that have not ended, of one owner or of all.
    pub async fn active_jobs(&self, owner: Option<&str>) -> Result<u64> {
        self.backend.active(owner.map(str::to_owned)).await
    }

    /// Returns the status of the newest jobs, newest first, at most `limit`: those submitted before the job `before`, of one
    /// owner or of all. None where `before` is unknown.
    pub async fn newest_jobs(&self, before: Option<JobId>, owner: Option<&str>, limit: u32) -> Result<Vec<JobBrief>> {
        self.briefs(Page::Newest { before, owner: owner.map(str::to_owned), limit }).await
    }

    /// Returns the status of jobs that have not ended, newest first, at most `limit`.
    pub async fn unended_jobs(&self, limit: u32) -> Result<Vec<JobBrief>> {
        self.briefs(Page::Active { limit }).await
    }

    /// Returns sums over all jobs, and how many workers are alive.
    pub async fn tally(&self) -> Result<Tally> {
        self.backend.tally().await
    }

    /// Returns the id of the storage that the jobs' files are in, once one is known.
    pub async fn storage_id(&self) -> Result<Option<String>> {
        self.backend.storage_id(None).await
    }

    /// Stores the id of the storage that the jobs' files are in, unless one is known. Returns the one that is known then.
    pub async fn adopt_storage(&self, id: &str) -> Result<String> {
        Ok(self.backend.storage_id(Some(id.to_owned())).await?.unwrap_or_else(|| id.to_owned()))
    }

    /// Asks the database for nothing but an answer.
    pub async fn ping(&self) -> Result<()> {
        self.backend.ping().await
    }

    async fn briefs(&self, page: Page) -> Result<Vec<JobBrief>> {
        Ok(self.backend.briefs(page).await?.into_iter().map(|brief| self.hide_brief_starvation(brief)).collect())
    }

    /// A job without workers is not starved at once: they may be about to come back.
    fn hide_brief_starvation(&self, brief: JobBrief) -> JobBrief {
        let shown_after_ms = self.policy.starved_ms.unsigned_abs();
        JobBrief { starved_ms: if brief.starved_ms < shown_after_ms { 0 } else { brief.starved_ms }, ..brief }
    }
}
