//! One run: starts the processes, lets users and faults at them, then ends the faults and sees that all comes to an end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::rng;
use coordinator::store::memory::Memory;
use coordinator::{Config, Policy, Store};
use dataset::Storage;
use proto::job::{JobBrief, JobState};
use proto::{JobId, JobsClient, RpcErrorKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::WorkerConfig;

use crate::clock::SimClock;
use crate::corpus::{Missing, Numbers, SHARD_ROWS, SimJob, is_text};
use crate::disk::SimDisk;
use crate::fault::{Faults, happens};
use crate::gate::SimGate;
use crate::host::SimHost;
use crate::hostile::{Order, Strike};
use crate::life::Life;
use crate::network::Network;
use crate::outage::{Outage, Outages};
use crate::planted::PlantedDisk;
use crate::world::{Happening, Node, World, some_time};
use crate::{Outcome, check};

/// Faults last for so long, in simulated time.
const STORMY_MS: u64 = 300_000;
/// Once they are over, everything must have ended within so long.
const CALM: Duration = Duration::from_secs(1_800);
/// The longest that a message takes which was sent while there were faults.
const IN_FLIGHT: Duration = Duration::from_secs(240);
/// How often the end is looked for.
const LOOK: Duration = Duration::from_secs(15);

/// Workers where many may die at once, at least.
const WORKERS_MANY: usize = 6;

/// A short-tempered policy: what takes hours in production takes minutes here. Where power may fail and
/// little else does, the breaker looks back on as few attempts as one failure of it ends.
pub(crate) fn policy(short_breaker: bool) -> Policy {
    let (breaker_attempts, breaker_percent) = if short_breaker { (6, 50) } else { (50, 20) };
    Policy {
        garbage_grace_ms: 600_000,
        stall_floor_ms: 240_000,
        // A worker that was stopped makes the mean long, and the job must end within `CALM` all the same.
        stall_factor: 3,
        failures_max: 2,
        workers_lost_max: 2,
        backoff_max_ms: 30_000,
        breaker_attempts,
        breaker_percent,
        ..Policy::default()
    }
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64) -> Outcome {
    common::rng::seed(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(simulate(seed));
    // What is left of dead processes goes before the next seed comes.
    drop(runtime);
    outcome
}

async fn simulate(seed: u64) -> Outcome {
    let begin = Instant::now();
    let (happen, mut happenings) = mpsc::unbounded_channel();
    let faults = Faults::draw();
    let outages = Outages::draw(seed, &faults);
    let policy = policy(outages.short_breaker);
    let memory = Memory::new(Arc::new(SimClock::new(begin, 0)), &policy, rng::uuid_v7);
    let event_every_ms = faults.event_every_ms;
    let world = World::new(begin, memory, faults, outages, happen);
    let coordinators = 1 + usize::try_from(rng::below(2)).unwrap();
    let few = usize::try_from(rng::below(3)).unwrap();
    let workers = if world.outages.power_fails { WORKERS_MANY + few } else { 2 + few };
    let network = Network::new(Arc::clone(&world), coordinators);
    let mut cluster = Cluster { world: Arc::clone(&world), network, processes: BTreeMap::new() };
    for number in 0..coordinators {
        cluster.start(Node::Coordinator(number));
    }
    for number in 0..workers {
        cluster.start(Node::Worker(number));
    }
    let user = JobsClient::new(cluster.network.connect(Node::User, &Arc::new(Life::new())));
    let orders = Orders::new(1 + rng::below(2));
    if world.faults().poison {
        let SimJob { id, rows, .. } = orders.jobs[0];
        world.poison(id, rng::below(rows));
    }
    tokio::spawn(orders.clone().submit(user.clone()));
    let storm_ends = begin + Duration::from_millis(STORMY_MS);
    let mut next_outage = std::pin::pin!(world.outages.next());
    while Instant::now() < storm_ends && world.memory.violations().is_empty() {
        tokio::select! {
            biased;
            Some(happening) = happenings.recv() => cluster.react(happening, &orders, &user),
            outage = &mut next_outage => {
                cluster.suffer(outage, &orders);
                next_outage.set(world.outages.next());
            }
            () = some_time(event_every_ms / 4, event_every_ms) => {
                if happens(world.faults().flip) {
                    world.flip().await;
                } else if !world.gentle {
                    cluster.event(&orders, &user);
                }
                check::look(&world, &orders.jobs);
                check::files(&world, &orders.jobs).await;
            }
        }
    }
    if !world.memory.violations().is_empty() {
        return Outcome { trace: world.trace(), problems: world.memory.violations() };
    }
    world.calm();
    cluster.mend();
    let mut problems = Vec::new();
    if !cluster.look_until(&mut happenings, &orders, &user, CALM, async || orders.all_ended(&world, &user).await).await
    {
        let (told, stuck) = (orders.told(&user).await, check::unfinished(&world, &orders.jobs));
        problems.push(format!("I9: not all jobs have ended after {CALM:?} without faults: {told}{stuck}"));
    }
    // What was under way when the faults ended may still arrive, and a repair among it restarts a job.
    cluster.look_until(&mut happenings, &orders, &user, IN_FLIGHT, async || false).await;
    let cleared = async || orders.all_ended(&world, &user).await && check::is_cleared(&world, &orders.jobs);
    cluster.look_until(&mut happenings, &orders, &user, CALM, cleared).await;
    problems.extend(world.memory.violations());
    problems.extend(world.problems());
    problems.extend(check::idle_workers(&world, workers));
    problems.extend(check::all(&world, &orders.jobs, &user, problems.is_empty()).await);
    Outcome { trace: world.trace(), problems }
}

/// What a process is while it lives.
struct Process {
    life: Arc<Life>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// The processes.
struct Cluster {
    world: Arc<World>,
    network: Arc<Network>,
    processes: BTreeMap<Node, Process>,
}

impl Cluster {
    fn start(&mut self, node: Node) {
        self.world.note(format_args!("{node} starts"));
        let (life, shutdown) = (Arc::new(Life::new()), CancellationToken::new());
        let (world, network) = (Arc::clone(&self.world), Arc::clone(&self.network));
        let task = match node {
            Node::Coordinator(number) => {
                tokio::spawn(coordinate(world, network, number, Arc::clone(&life), shutdown.clone()))
            }
            Node::Worker(number) => tokio::spawn(work(world, network, number, Arc::clone(&life), shutdown.clone())),
            Node::User => return,
        };
        self.processes.insert(node, Process { life, shutdown, task });
    }

    /// A process that has died is started again by its supervisor.
    fn restart_soon(&mut self, node: Node) {
        let Some(process) = self.processes.remove(&node) else { return };
        process.life.kill();
        process.task.abort();
        if let Node::Coordinator(number) = node {
            self.network.close(number);
        }
        let (life, shutdown) = (Arc::new(Life::new()), CancellationToken::new());
        let (world, network) = (Arc::clone(&self.world), Arc::clone(&self.network));
        let (theirs, token) = (Arc::clone(&life), shutdown.clone());
        let task = tokio::spawn(async move {
            some_time(500, 90_000).await;
            world.note(format_args!("{node} starts again"));
            match node {
                Node::Coordinator(number) => coordinate(world, network, number, theirs, token).await,
                Node::Worker(number) => work(world, network, number, theirs, token).await,
                Node::User => {}
            }
        });
        self.processes.insert(node, Process { life, shutdown, task });
    }

    /// Something happens to a process, the network or a job.
    fn event(&mut self, orders: &Orders, user: &JobsClient) {
        let nodes: Vec<Node> = self.processes.keys().copied().collect();
        let pick = |nodes: &[Node]| nodes[usize::try_from(rng::below(nodes.len() as u64)).unwrap()];
        let node = pick(&nodes);
        let process = &self.processes[&node];
        match rng::below(12) {
            0 => {
                process.life.kill();
                self.world.dies(node);
            }
            1 | 2 => self.stop(node, 200_000),
            3 => {
                self.world.note(format_args!("{node} is told to end"));
                process.shutdown.cancel();
            }
            4 | 5 => {
                let other = pick(&nodes);
                self.world.cut(node, other);
                if rng::below(2) == 0 {
                    self.world.cut(other, node);
                }
            }
            6 => self.world.heal(),
            7..=10 => orders.give(user, Order::draw()),
            _ => {}
        }
    }

    /// Many parts are struck at once, or one for a while.
    fn suffer(&self, outage: Outage, orders: &Orders) {
        match outage {
            Outage::Refusal(refusal) => self.world.refuse(refusal),
            Outage::PowerLoss { spared, coordinators } => {
                self.world.note(format_args!("power fails; {spared} workers go on"));
                let workers = self.processes.iter().filter(|(node, _)| matches!(node, Node::Worker(_))).skip(spared);
                let all =
                    self.processes.iter().filter(|(node, _)| coordinators && matches!(node, Node::Coordinator(_)));
                for (node, process) in workers.chain(all).filter(|(_, process)| !process.life.is_gone()) {
                    process.life.kill();
                    self.world.dies(*node);
                }
            }
            // Whoever puts a new database over a storage that is not mounted has taken another one.
            Outage::Swap(duration) if check::any_winner(&self.world, &orders.jobs) => self.world.swap(duration),
            Outage::Swap(_) => {}
            Outage::Change(duration) => {
                let text = orders.jobs.iter().find(|job| is_text(job.rows));
                if let Some(job) = text {
                    self.world.change(job.id, duration);
                }
            }
        }
    }

    /// Starts again who died, and lets happen what strikes.
    fn react(&mut self, happening: Happening, orders: &Orders, user: &JobsClient) {
        match happening {
            Happening::Died(node) => self.restart_soon(node),
            Happening::Struck(_, Strike::Order(order)) => orders.give(user, order),
            Happening::Struck(node, Strike::Stop) => self.stop(node, 30_000),
            Happening::Struck(node, Strike::Kill) => {
                if let Some(process) = self.processes.get(&node).filter(|process| !process.life.is_gone()) {
                    process.life.kill();
                    self.world.dies(node);
                }
            }
        }
    }

    /// SIGSTOP, and SIGCONT after so long at most.
    fn stop(&self, node: Node, most_ms: u64) {
        let Some(process) = self.processes.get(&node) else { return };
        self.world.note(format_args!("{node} is stopped"));
        process.life.stop();
        let (life, world) = (Arc::clone(&process.life), Arc::clone(&self.world));
        tokio::spawn(async move {
            some_time(1_000, most_ms).await;
            world.note(format_args!("{node} goes on"));
            life.go_on();
        });
    }

    /// Watches over the processes until `is_over`, or for so long. Returns whether it is.
    async fn look_until(
        &mut self,
        happenings: &mut mpsc::UnboundedReceiver<Happening>,
        orders: &Orders,
        user: &JobsClient,
        most: Duration,
        is_over: impl AsyncFn() -> bool,
    ) -> bool {
        let end = Instant::now() + most;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                Some(happening) = happenings.recv() => self.react(happening, orders, user),
                () = tokio::time::sleep_until(end) => return false,
                _ = looks.tick() => {
                    check::look(&self.world, &orders.jobs);
                    if is_over().await {
                        return true;
                    }
                }
            }
        }
    }

    /// Resumes every process that is stopped.
    fn mend(&mut self) {
        self.processes.values().for_each(|process| process.life.go_on());
    }
}

/// A coordinator process, until it is shut down; then its end is recorded.
async fn coordinate(
    world: Arc<World>,
    network: Arc<Network>,
    number: usize,
    life: Arc<Life>,
    shutdown: CancellationToken,
) {
    let node = Node::Coordinator(number);
    // No two machines agree on the time, and somebody may have set it meanwhile.
    let wrong_by_ms = i64::try_from(rng::below(7_200_001)).unwrap() - 3_600_000;
    let clock = Arc::new(SimClock::new(world.begin, wrong_by_ms));
    let policy = policy(world.outages.short_breaker);
    let store = loop {
        let gate = SimGate { world: Arc::clone(&world), life: Arc::clone(&life), node };
        match Store::in_memory(&world.memory, Arc::new(gate), clock.clone(), policy.clone()).await {
            Ok(store) => break store,
            Err(_) => some_time(500, 5_000).await,
        }
    };
    let config = Config {
        clock,
        corpora: Arc::new(Numbers),
        roots: coordinator::Roots::anywhere(),
        plan_page: 3,
        plan_pause: Duration::from_secs(2),
        poll: Duration::from_secs(8),
        sweep: Duration::from_secs(10),
        idle: Duration::from_secs(15),
        ..Config::default()
    };
    let disk = SimDisk { world: Arc::clone(&world), life: Arc::clone(&life), node };
    let storage = Storage::from_store(Arc::new(PlantedDisk(disk)), "sim://storage");
    let storage = loop {
        match coordinator::claim_storage(&store, storage.clone()).await {
            Ok(storage) => break storage,
            // Its supervisor starts it again.
            Err(error) if error.passes() || world.outages.hit_storage() => some_time(500, 5_000).await,
            Err(error) => return world.violated(format!("{node} does not start: {error}")),
        }
    };
    let (theirs, door) = (Arc::clone(&life), Arc::clone(&network));
    let ended = coordinator::run_on(config, store, storage, shutdown, |routes, stop| async move {
        door.listen(number, routes, theirs);
        stop.cancelled().await;
        door.close(number);
        Ok(())
    });
    ended.await.unwrap();
    life.kill();
    world.dies(node);
}

/// A worker process, until it is shut down; then its end is recorded.
async fn work(world: Arc<World>, network: Arc<Network>, number: usize, life: Arc<Life>, shutdown: CancellationToken) {
    let node = Node::Worker(number);
    let mut config = WorkerConfig::new(node.to_string(), "unused");
    // Where a row kills, and nothing else, it is in company if it can be.
    config.lease_count = if world.gentle { 2 } else { 1 + u32::try_from(rng::below(2)).unwrap() };
    let host = SimHost { world: Arc::clone(&world), life: Arc::clone(&life), node };
    let wire = network.connect(node, &life);
    let ended = worker::serve(config, wire, Arc::new(host), shutdown).await;
    world
        .note(format_args!("{node} ended: {}", ended.as_ref().map_or_else(ToString::to_string, |_| "well".to_owned())));
    life.kill();
    world.dies(node);
}

/// What users want.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) jobs: Vec<SimJob>,
}

impl Orders {
    fn new(count: u64) -> Self {
        let job = |number: u64| {
            let shards = 1 + rng::below(7);
            let rows = SHARD_ROWS * shards + rng::below(2);
            // Small jobs among them: of those, all shards may be lost.
            let missing = match shards % 3 {
                0 => Missing::Refused,
                1 => Missing::Allowed,
                _ => Missing::Fetched,
            };
            SimJob { id: JobId(Uuid::from_u64_pair(0x0190_0000_0000_7000, number)), rows, missing }
        };
        Self { jobs: (0..count).map(job).collect() }
    }

    /// Submits every job until it is heard.
    async fn submit(self, user: JobsClient) {
        for job in &self.jobs {
            while let Err(error) = user.submit(job.id, &job.spec()).await {
                assert!(error.is_retryable(), "{error}");
                some_time(100, 20_000).await;
            }
        }
    }

    /// A user wants something of one of the jobs, and does not insist.
    fn give(&self, user: &JobsClient, order: Order) {
        let job = self.jobs[usize::try_from(rng::below(self.jobs.len() as u64)).unwrap()].id;
        let (user, shard) = (user.clone(), rng::below(9));
        tokio::spawn(async move {
            let answer = match order {
                Order::Cancel => user.cancel(job).await,
                Order::Pause => user.pause(job).await,
                Order::Resume => user.resume(job).await,
                Order::Retry => user.retry(job).await,
                Order::Repair => user.repair(job, &[shard]).await,
            };
            drop(answer);
        });
    }

    /// Whether every job has succeeded, with files as listed, or is cancelled. A user resumes what is paused, retries
    /// what has failed, repairs what is damaged, and may ask for what is missing.
    async fn all_ended(&self, world: &World, user: &JobsClient) -> bool {
        let mut ended = true;
        check::files(world, &self.jobs).await;
        for job in &self.jobs {
            match user.get(job.id).await.map(|status| status.brief) {
                Ok(JobBrief { state: JobState::Cancelled, .. }) => continue,
                Ok(status @ JobBrief { state: JobState::Succeeded, .. }) => {
                    let damaged = check::damaged(world, &status).await;
                    if !damaged.is_empty() {
                        world.note(format_args!("shards {damaged:?} are damaged"));
                        user.repair(job.id, &damaged).await.ok();
                    } else if status.rows_missing() > 0 && job.missing == Missing::Fetched {
                        world.note(format_args!("{} rows are missing", status.rows_missing()));
                        user.retry(job.id).await.ok();
                    } else {
                        continue;
                    }
                }
                Ok(JobBrief { state: JobState::Failed, reason, .. }) => {
                    let reason = reason.unwrap_or_default();
                    if reason.contains("BLAKE3") && !world.names_flipped(&reason) {
                        world.violated(format!("job {} failed of a file that is whole: {reason}", job.id));
                    }
                    // The manifest needs a file that is damaged; the reason names it.
                    let named = check::shard_of(&reason).filter(|_| reason.contains("manifest"));
                    if let Some(shard) = named {
                        user.repair(job.id, &[shard]).await.ok();
                    } else {
                        user.retry(job.id).await.ok();
                    }
                }
                Ok(JobBrief { paused: true, .. }) => drop(user.resume(job.id).await),
                Err(error) if error.kind == RpcErrorKind::NotFound => {
                    user.submit(job.id, &job.spec()).await.ok();
                }
                Ok(_) | Err(_) => {}
            }
            ended = false;
        }
        ended
    }

    async fn told(&self, user: &JobsClient) -> String {
        let mut told = String::new();
        for job in &self.jobs {
            let line = match user.get(job.id).await.map(|status| status.brief) {
                Ok(JobBrief { state, paused, reason, shards, .. }) => {
                    format!("{state:?} {paused} {reason:?} {shards:?}")
                }
                Err(error) => error.to_string(),
            };
            told.push_str(&line);
            told.push_str("; ");
        }
        told
    }
}
