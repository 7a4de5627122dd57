//! The service for clients: submit, show, steer.

use common::error_chain;
use prost::Message;
use proto::JobId;
use proto::convert::id;
use proto::generated as wire;
use proto::generated::jobs_server::Jobs;
use proto::job::{JobSpec, JobStatus, ShardResult};
use proto::limits;
use proto::transport::MESSAGE_BYTES_MAX;
use tonic::{Code, Request, Response, Status};
use tracing::{info, warn};

use super::storage::said;
use super::{Priority, RpcResult, Service, caller_of, missing, refused, sees, status_of};
use crate::access::{Identity, Role};
use crate::context::Context;
use crate::roots::RootError;
use crate::store::{StoreError, Submitted, Winner};

/// A page of `list` ends at so many jobs, or where the next one would not fit.
const PAGE_JOBS_MAX: u32 = 500;
const PAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 64 * 1024;
/// A page of results; each takes some 300 bytes, and 1 KiB with every reason to reject a row.
const PAGE_SHARDS_MAX: u32 = 2_000;

/// What is done to a job by its id alone.
#[derive(Clone, Copy)]
enum Action {
    Get,
    Cancel,
    Pause,
    Resume,
    Retry,
}

#[tonic::async_trait]
impl Jobs for Service {
    async fn submit(&self, request: Request<wire::SubmitRequest>) -> RpcResult<wire::JobStatus> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let job: JobId = id("job_id", &request.job_id).map_err(refused)?;
        let spec = JobSpec::try_from(request.spec.ok_or_else(|| missing("spec"))?).map_err(refused)?;
        check_known(&request.spec_digest, &spec)?;
        limits::check_spec(&spec).map_err(|error| Status::invalid_argument(error.to_string()))?;
        check(&spec)?;
        let context = self.context.clone();
        check_sources(&context, &spec)?;
        let status =
            self.detached(Priority::Other, async move { submit(&context, caller.as_ref(), job, &spec).await }).await?;
        Ok(Response::new((&status).into()))
    }

    async fn get(&self, request: Request<wire::JobRequest>) -> RpcResult<wire::JobStatus> {
        self.act(Action::Get, request).await
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> RpcResult<wire::ListResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let before = match request.before_job_id.as_str() {
            "" => None,
            text => Some(id::<JobId>("before_job_id", text).map_err(refused)?),
        };
        let limit = match request.limit {
            0 => PAGE_JOBS_MAX,
            limit => limit.min(PAGE_JOBS_MAX),
        };
        let context = self.context.clone();
        let wanted = Listed { before, owner: owner_seen(caller), limit, specs: !request.without_specs };
        let page =
            self.detached(Priority::Other, async move { page_of(&context, wanted).await.map_err(status_of) }).await?;
        Ok(Response::new(page))
    }

    async fn cancel(&self, request: Request<wire::JobRequest>) -> RpcResult<wire::JobStatus> {
        self.act(Action::Cancel, request).await
    }

    async fn pause(&self, request: Request<wire::JobRequest>) -> RpcResult<wire::JobStatus> {
        self.act(Action::Pause, request).await
    }

    async fn resume(&self, request: Request<wire::JobRequest>) -> RpcResult<wire::JobStatus> {
        self.act(Action::Resume, request).await
    }

    async fn retry(&self, request: Request<wire::JobRequest>) -> RpcResult<wire::JobStatus> {
        self.act(Action::Retry, request).await
    }

    async fn repair(&self, request: Request<wire::RepairRequest>) -> RpcResult<wire::JobStatus> {
        let caller = caller_of(&request);
        let wire::RepairRequest { job_id, shard_indexes } = request.into_inner();
        let job: JobId = id("job_id", &job_id).map_err(refused)?;
        let context = self.context.clone();
        let status = self
            .detached(Priority::Other, async move {
                show(&context, caller.as_ref(), job).await?;
                repair(&context, job, &shard_indexes).await
            })
            .await?;
        Ok(Response::new((&status).into()))
    }

    async fn results(&self, request: Request<wire::ResultsRequest>) -> RpcResult<wire::ResultsResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let job: JobId = id("job_id", &request.job_id).map_err(refused)?;
        let limit = match request.limit {
            0 => PAGE_SHARDS_MAX,
            limit => limit.min(PAGE_SHARDS_MAX),
        };
        let context = self.context.clone();
        let winners = self
            .detached(Priority::Other, async move {
                show(&context, caller.as_ref(), job).await?;
                context.store.winners(job, request.after_index, limit).await.map_err(status_of)
            })
            .await?;
        let more = winners.len() == limit as usize;
        let shards = winners.into_iter().map(|winner| (&result_of(winner)).into()).collect();
        Ok(Response::new(wire::ResultsResponse { storage_url: self.context.storage.url().to_owned(), shards, more }))
    }
}

impl Service {
    async fn act(&self, action: Action, request: Request<wire::JobRequest>) -> RpcResult<wire::JobStatus> {
        let caller = caller_of(&request);
        let job: JobId = id("job_id", &request.into_inner().job_id).map_err(refused)?;
        let context = self.context.clone();
        let status = self
            .detached(Priority::Other, async move {
                let seen = show(&context, caller.as_ref(), job).await?;
                if let Action::Get = action {
                    return Ok(seen);
                }
                act(&context, action, job).await.map_err(status_of)?;
                show(&context, None, job).await
            })
            .await?;
        Ok(Response::new((&status).into()))
    }
}

fn result_of(winner: Winner) -> ShardResult {
    let Winner { index, slice, output } = winner;
    ShardResult {
        index,
        first_row: slice.first_row,
        key: output.key,
        bytes: output.bytes,
        blake3: output.blake3,
        counts: output.counts,
    }
}

async fn submit(context: &Context, caller: Option<&Identity>, job: JobId, spec: &JobSpec) -> Result<JobStatus, Status> {
    let (store, owner, most) =
        (&context.store, caller.map(|caller| caller.name.as_str()), context.config.jobs_active_max);
    if store.active_jobs(owner).await.map_err(status_of)? >= most
        && store.brief(job).await.map_err(status_of)?.is_none()
    {
        return Err(Status::resource_exhausted(format!(
            "{most} jobs have not ended yet, and no more are taken: wait for one, or cancel one"
        )));
    }
    match store.submit_job_of(job, spec, owner).await.map_err(status_of)? {
        Submitted::Created => {
            info!(job.id = %job, owner, sources = spec.sources.len(), model = spec.model.name, "job submitted");
            context.notices.plan.notify_one();
        }
        Submitted::Existing => {}
    }
    show(context, caller, job).await.map_err(|status| match status.code() {
        // Ids follow from what a job does: two people may want the same.
        Code::NotFound => {
            Status::already_exists("somebody else has submitted this very job: give --again for your own")
        }
        _ => status,
    })
}

async fn repair(context: &Context, job: JobId, shards: &[u64]) -> Result<JobStatus, Status> {
    // Files that are away with their storage are not missing: nothing is thrown away for that.
    context.storage.confirm().await.map_err(|error| said(&error))?;
    if context.store.repair(job, shards).await.map_err(status_of)? {
        info!(job.id = %job, shards = shards.len(), "shards are done again");
        context.notices.plan.notify_one();
    }
    show(context, None, job).await
}

async fn act(context: &Context, action: Action, job: JobId) -> Result<(), StoreError> {
    match action {
        Action::Get => {}
        Action::Cancel => {
            context.store.cancel(job).await?;
            context.notices.sweep.notify_one();
            info!(job.id = %job, "job cancelled by request");
        }
        Action::Pause => {
            context.store.pause(job).await?;
            info!(job.id = %job, "job paused");
        }
        Action::Resume => {
            context.store.resume(job).await?;
            info!(job.id = %job, "job resumed");
        }
        Action::Retry => {
            context.store.retry(job).await?;
            context.notices.plan.notify_one();
            context.notices.finalize.notify_one();
            info!(job.id = %job, "job retried");
        }
    }
    Ok(())
}

/// Returns the status of a job. For those who may not see it, it does not exist.
async fn show(context: &Context, caller: Option<&Identity>, job: JobId) -> Result<JobStatus, Status> {
    let status = context.store.job(job).await.map_err(status_of)?.filter(|status| sees(caller, status.owner.as_ref()));
    status.ok_or_else(|| status_of(StoreError::JobUnknown { job }))
}

/// Refuses a spec of which something was lost on the way here: what this program does not know.
fn check_known(sent_digest: &str, spec: &JobSpec) -> Result<(), Status> {
    if sent_digest.is_empty() || sent_digest == spec.digest() {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "this coordinator is encaje {} and does not know all that the job asks for: upgrade the coordinators, or submit with \
         that release",
        env!("CARGO_PKG_VERSION")
    )))
}

/// Refuses sources that this coordinator does not read.
fn check_sources(context: &Context, spec: &JobSpec) -> Result<(), Status> {
    // Workers open earlier outputs by their own way: what the operator lets jobs read holds for these too.
    let earlier = spec.reuse.iter().filter(|source| !source.retired).map(|source| &source.uri);
    for uri in spec.sources.iter().map(|source| &source.uri).chain(earlier) {
        context.config.roots.check(uri, context.storage.url()).map_err(|error| {
            warn!(error = error_chain(&error), "a source was refused");
            match error {
                // The next check finds it, and submitting again uploads it again.
                RootError::UploadMissing { .. } => Status::unavailable(error_chain(&error)),
                RootError::SourceMissing { .. } => Status::failed_precondition(error.to_string()),
                RootError::NotAllowed { .. } | RootError::Bad(_) | RootError::BadRoot { .. } => {
                    Status::permission_denied(error.to_string())
                }
            }
        })?;
    }
    Ok(())
}

/// What no planner or worker could do anything with. Whether the sources are there is the planner's to find out.
fn check(spec: &JobSpec) -> Result<(), Status> {
    let problem = if spec.sources.is_empty() {
        "the job names no sources"
    } else if spec.read.text_column.is_empty() {
        "the job names no text column"
    } else if spec.model.name.is_empty() {
        "the job names no model"
    } else if spec.model.digest.is_empty() {
        "the job does not pin its model: `model.digest` is empty"
    } else if spec.embed.dimensions == Some(0) {
        "`embed.dimensions` is 0: vectors have at least one"
    } else if spec.embed.max_length == Some(0) {
        "`embed.max_length` is 0: a text has at least one token"
    } else {
        return Ok(());
    };
    Err(Status::invalid_argument(problem))
}

/// Which page of the list is wanted.
struct Listed {
    /// Only jobs submitted before this one.
    before: Option<JobId>,
    /// Only jobs of this owner.
    owner: Option<String>,
    /// At most so many.
    limit: u32,
    /// With the spec of each.
    specs: bool,
}

/// Returns whose jobs alone somebody sees; `None`: everybody's.
fn owner_seen(caller: Option<Identity>) -> Option<String> {
    match caller {
        Some(Identity { role: Role::Submitter, name }) => Some(name),
        Some(Identity { role: Role::Worker | Role::Reader | Role::Admin, .. }) | None => None,
    }
}

/// Returns a page of the list, newest first, as many jobs as fit a message. Specs are read one by one: each may be large.
async fn page_of(context: &Context, wanted: Listed) -> Result<wire::ListResponse, StoreError> {
    let Listed { before, owner, limit, specs } = wanted;
    let briefs = context.store.newest_jobs(before, owner.as_deref(), limit).await?;
    let mut page = wire::ListResponse { jobs: Vec::with_capacity(briefs.len()), more: briefs.len() == limit as usize };
    let mut bytes = 0;
    for brief in briefs {
        let job = match specs {
            false => wire::JobStatus::from(&brief),
            true => match context.store.spec(brief.id).await? {
                Some(spec) => wire::JobStatus::from(&JobStatus { spec, brief }),
                None => continue,
            },
        };
        bytes += job.encoded_len() + 8;
        if bytes > PAGE_BYTES_MAX && !page.jobs.is_empty() {
            page.more = true;
            break;
        }
        page.jobs.push(job);
    }
    Ok(page)
}
