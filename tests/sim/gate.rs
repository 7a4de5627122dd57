//! What is between a coordinator and its database: waiting, errors before and after the effect, and death at each
//! step. The steps are the crash points: `insert_shards` (planning), `lease`, `commit`, `begin_finalize` and `finish`,
//! `mark_garbage` and `garbage_deleted`, `expire` and `reap` (in the middle of a sweep), and every other.

use std::sync::Arc;

use coordinator::StoreError;
use coordinator::store::memory::Gate;
use futures::future::BoxFuture;

use crate::fault::happens;
use crate::hostile::lingers_ms;
use crate::life::Life;
use crate::world::{Node, World, some_time};

/// The database as one coordinator process sees it.
pub(crate) struct SimGate {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) node: Node,
}

impl SimGate {
    async fn pass(&self, step: &'static str, when: &'static str, fails: f64) -> Result<(), StoreError> {
        self.life.gate().await;
        let faults = self.world.faults();
        some_time(0, 3).await;
        if happens(faults.delay * 0.2) {
            some_time(1_000, 90_000).await;
        }
        self.life.gate().await;
        if happens(faults.crash_at_store) {
            self.world.note(format_args!("{} at {when} {step}", self.node));
            self.life.kill();
            self.world.dies(self.node);
            self.life.gate().await;
        }
        if happens(fails) {
            self.world.note(format_args!("{}: database fails {when} {step}", self.node));
            return Err(StoreError::Closed);
        }
        Ok(())
    }
}

impl Gate for SimGate {
    fn enter<'a>(&'a self, step: &'static str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.world.moment(self.node, step, false);
            if let Some(refusal) = self.world.refusal().filter(|found| self.world.outages.strikes(found, step)) {
                self.world.note(format_args!("{}: database refuses {step}: {refusal}", self.node));
                return Err(refusal.error());
            }
            some_time(0, lingers_ms(&self.world.faults(), step, false)).await;
            self.pass(step, "before", self.world.faults().store_before).await
        })
    }

    fn leave<'a>(&'a self, step: &'static str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.world.note(format_args!("{}: {step}", self.node));
            self.world.moment(self.node, step, true);
            some_time(0, lingers_ms(&self.world.faults(), step, true)).await;
            self.pass(step, "after", self.world.faults().store_after).await
        })
    }
}
