//! A coordinator that follows a script: grants the shards it is given, keeps a diary of every call, and misbehaves on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use prost::Message;
use proto::generated as wire;
use proto::generated::work_server::{Work, WorkServer};
use proto::work::{Directive, FailureClass, Grant, Granted, Leased, LightGrant, Output, Progress, Session, SourceTask};
use proto::{Epoch, SessionId, ShardId, transport};
use tokio::sync::Notify;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

/// What the worker said, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    SessionOpened,
    Leased(u64, u32),
    HeartbeatReply(u64, u32),
    Committed(u64, u32),
    Failed(u64, FailureClass, String),
    Released(u64, u32),
    SessionClosed,
}

/// Which bad day to have. Each happens to shard 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Obliging,
    /// Its first lease is revoked by heartbeat, and is not committed whatever happens.
    RevokeFirstLease,
    /// The session dies at the first heartbeat that names it, and nothing is committed in it.
    LoseFirstSession,
    /// The answer to its first commit is lost.
    LoseCommitReply,
    /// Its first lease is answered with an error after it was granted.
    LoseLeaseReply,
    /// Its first grant is one that no version of the program can read.
    GrantNonsense,
    /// The answer with its first grant is larger than a message.
    AnswerTooLarge,
    /// The answer with its first grant is that the coordinator failed.
    AnswerInternal,
    /// Every grant leaves out what its source has in common with others.
    GrantLightly,
}

#[derive(Default)]
struct State {
    session: Option<SessionId>,
    sessions: u32,
    pending: VecDeque<Grant>,
    leased: BTreeMap<(u64, u32), Grant>,
    answered: BTreeMap<String, Vec<Grant>>,
    outputs: BTreeMap<u64, Output>,
    commit_calls: u32,
    lease_replies_lost: u32,
    task_calls: u32,
    events: Vec<Event>,
}

/// The scripted coordinator.
#[derive(Clone)]
pub(crate) struct Fake {
    script: Script,
    storage_url: String,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Fake {
    /// Serves `grants`, in this order, over an in-process connection.
    pub(crate) fn start(script: Script, storage_url: &str, grants: Vec<Grant>) -> (Self, Channel) {
        let state = State { pending: grants.into(), ..State::default() };
        let fake = Self {
            script,
            storage_url: storage_url.to_owned(),
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(Notify::new()),
        };
        let (channel, incoming) = transport::in_process();
        let server = Server::builder().add_service(WorkServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        (fake, channel)
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    pub(crate) fn outputs(&self) -> BTreeMap<u64, Output> {
        self.lock().outputs.clone()
    }

    pub(crate) fn commit_calls(&self) -> u32 {
        self.lock().commit_calls
    }

    pub(crate) fn task_calls(&self) -> u32 {
        self.lock().task_calls
    }

    /// Waits until the diary satisfies `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&[Event]) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(&self.lock().events) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn note(&self, state: &mut State, event: Event) {
        state.events.push(event);
        self.changed.notify_waiters();
    }

    fn check_session(state: &State, id: &str) -> Result<(), Status> {
        if state.session.is_some_and(|session| session.to_string() == id) {
            return Ok(());
        }
        Err(Status::not_found("unknown session"))
    }
}

fn lease_of(lease: Option<wire::LeaseRef>) -> (u64, u32) {
    let (ShardId { index, .. }, Epoch(epoch)) = lease.unwrap().try_into().unwrap();
    (index, epoch)
}

#[tonic::async_trait]
impl Work for Fake {
    async fn open_session(
        &self,
        _request: Request<wire::OpenSessionRequest>,
    ) -> Result<Response<wire::OpenSessionResponse>, Status> {
        let mut state = self.lock();
        let id = SessionId::generate();
        state.session = Some(id);
        state.sessions += 1;
        self.note(&mut state, Event::SessionOpened);
        let session = Session { id, ttl_ms: 60_000, heartbeat_ms: 2, storage_url: self.storage_url.clone() };
        Ok(Response::new((&session).into()))
    }

    async fn lease(&self, request: Request<wire::LeaseRequest>) -> Result<Response<wire::LeaseResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        Self::check_session(&state, &request.session_id)?;
        let grants = match state.answered.get(&request.request_id) {
            Some(grants) => grants.clone(),
            None => {
                let count = state.pending.len().min(request.max as usize);
                let grants: Vec<Grant> = state.pending.drain(..count).collect();
                for grant in &grants {
                    state.leased.insert((grant.shard.index, grant.epoch.0), grant.clone());
                    self.note(&mut state, Event::Leased(grant.shard.index, grant.epoch.0));
                }
                state.answered.insert(request.request_id, grants.clone());
                grants
            }
        };
        if self.script == Script::LoseLeaseReply && state.lease_replies_lost == 0 {
            state.lease_replies_lost += 1;
            return Err(Status::unavailable("the answer is lost"));
        }
        let has_first = grants.iter().any(|grant| (grant.shard.index, grant.epoch.0) == (0, 1));
        let light = self.script == Script::GrantLightly;
        let grants = grants.into_iter().map(|grant| if light { lightened(grant) } else { grant.into() }).collect();
        let mut answer = wire::LeaseResponse::from(&Leased { grants, retry_after_ms: 5 });
        match self.script {
            Script::GrantNonsense if has_first => answer.grants[0].on_bad_row = 77,
            Script::AnswerTooLarge | Script::AnswerInternal if has_first => {
                // As its heartbeats do not report them, the coordinator takes the leases back.
                for (_, grant) in std::mem::take(&mut state.leased) {
                    state.pending.push_back(again(grant));
                }
                if self.script == Script::AnswerInternal {
                    return Err(Status::internal("the database says no"));
                }
                answer.grants[0].output_key = "x".repeat(5 << 20);
            }
            _ => {}
        }
        Ok(Response::new(answer))
    }

    async fn get_source_task(
        &self,
        request: Request<wire::SourceTaskRequest>,
    ) -> Result<Response<wire::SourceTaskPiece>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        Self::check_session(&state, &request.session_id)?;
        state.task_calls += 1;
        let grant = state.leased.values().next().ok_or_else(|| Status::not_found("nothing is leased"))?;
        let Grant { read, source, model, embed, on_bad_row, reuse, .. } = grant.clone();
        let task = wire::SourceTask::from(&SourceTask { read, source, model, embed, on_bad_row, reuse });
        let (bytes, start) = (task.encode_to_vec(), usize::try_from(request.start).unwrap());
        // Small pieces, so that there are several.
        let data = bytes[start..bytes.len().min(start + 64)].to_vec();
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        Ok(Response::new(wire::SourceTaskPiece { data, size_bytes: bytes.len() as u64, blake3 }))
    }

    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        let lost = wire::HeartbeatResponse { session_lost: true, directives: Vec::new() };
        if Self::check_session(&state, &request.session_id).is_err() {
            return Ok(Response::new(lost));
        }
        let mut directives = Vec::new();
        for progress in request.progress {
            let Progress { shard, epoch, .. } = progress.try_into().unwrap();
            let key = (shard.index, epoch.0);
            self.note(&mut state, Event::HeartbeatReply(key.0, key.1));
            if self.script == Script::LoseFirstSession && state.sessions == 1 {
                state.session = None;
                for (_, grant) in std::mem::take(&mut state.leased) {
                    state.pending.push_back(again(grant));
                }
                return Ok(Response::new(lost));
            }
            let revoked = self.script == Script::RevokeFirstLease && key == (0, 1);
            if let Some(grant) = revoked.then(|| state.leased.remove(&key)).flatten() {
                state.pending.push_back(again(grant));
            }
            directives.push(if state.leased.contains_key(&key) { Directive::Continue } else { Directive::Stop });
        }
        let beat = proto::work::HeartbeatReply { directives, session_lost: false };
        Ok(Response::new((&beat).into()))
    }

    async fn commit(&self, request: Request<wire::CommitRequest>) -> Result<Response<wire::CommitResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        Self::check_session(&state, &request.session_id)?;
        state.commit_calls += 1;
        let key = lease_of(request.lease);
        let held_back = match self.script {
            Script::RevokeFirstLease => key == (0, 1) && state.leased.contains_key(&key),
            Script::LoseFirstSession => state.sessions == 1,
            Script::Obliging
            | Script::LoseCommitReply
            | Script::LoseLeaseReply
            | Script::GrantNonsense
            | Script::AnswerTooLarge
            | Script::AnswerInternal
            | Script::GrantLightly => false,
        };
        if held_back {
            return Err(Status::unavailable("not yet"));
        }
        let output: Output = request.output.unwrap().try_into().unwrap();
        let outcome = if state.leased.remove(&key).is_some() {
            state.outputs.insert(key.0, output);
            self.note(&mut state, Event::Committed(key.0, key.1));
            wire::CommitOutcome::Committed
        } else if state.outputs.get(&key.0) == Some(&output) {
            wire::CommitOutcome::Committed
        } else {
            wire::CommitOutcome::Stale
        };
        if self.script == Script::LoseCommitReply && state.commit_calls == 1 {
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(wire::CommitResponse { outcome: outcome.into() }))
    }

    async fn fail(&self, request: Request<wire::FailRequest>) -> Result<Response<wire::FailResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        let (index, epoch) = lease_of(request.lease);
        state.leased.remove(&(index, epoch));
        let class = proto::convert::failure_class(request.class);
        self.note(&mut state, Event::Failed(index, class, request.message));
        Ok(Response::new(wire::FailResponse::default()))
    }

    async fn release(&self, request: Request<wire::ReleaseRequest>) -> Result<Response<wire::ReleaseResponse>, Status> {
        let (index, epoch) = lease_of(request.into_inner().lease);
        let mut state = self.lock();
        state.leased.remove(&(index, epoch));
        self.note(&mut state, Event::Released(index, epoch));
        Ok(Response::new(wire::ReleaseResponse::default()))
    }

    async fn close_session(
        &self,
        _request: Request<wire::CloseSessionRequest>,
    ) -> Result<Response<wire::CloseSessionResponse>, Status> {
        let mut state = self.lock();
        state.session = None;
        self.note(&mut state, Event::SessionClosed);
        Ok(Response::new(wire::CloseSessionResponse::default()))
    }
}

/// A grant without what its source has in common with others.
fn lightened(grant: Grant) -> Granted {
    let Grant { shard, epoch, spec_digest, slice, output_key, window, is_poison, .. } = grant;
    Granted::Light(LightGrant { shard, epoch, spec_digest, slice, output_key, window, is_poison })
}

/// The same shard under its next epoch.
fn again(grant: Grant) -> Grant {
    let epoch = Epoch(grant.epoch.0 + 1);
    let output_key = crate::rig::output_key(grant.shard.index, epoch);
    Grant { epoch, output_key, ..grant }
}
