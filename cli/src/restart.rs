//! `encaje worker --restart`: a process that starts the worker, and starts it again when its device is lost or it dies.
//!
//! The worker's standard input is a pipe from here: it stops when that closes, so it outlives neither a stop nor the death of
//! this process.

use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use common::Backoff;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::signals;
use crate::ui::Ui;
use crate::{cluster, exit::Advice};

/// Pauses before new starts.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };
/// A worker that ran for so long resets the count of failures.
const LASTED: Duration = Duration::from_secs(600);
/// Starts in a row that did not last before this gives up.
const FAILURES_MAX: u32 = 10;

/// What becomes of a worker that ended.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is done, or cannot be helped by a new start: its exit code is ours.
    Exit(Exit),
    /// A new process may do better.
    Restart,
}

/// Decides by how the worker ended. `None` is a death by a signal.
fn next(code: Option<i32>) -> Next {
    match code {
        None => Next::Restart,
        Some(code) if code == Exit::DeviceLost as i32 => Next::Restart,
        // A panic in the main thread.
        Some(101) => Next::Restart,
        Some(code) => Next::Exit(
            [Exit::Done, Exit::Usage, Exit::Incomplete, Exit::Interrupted]
                .into_iter()
                .find(|exit| *exit as i32 == code)
                .unwrap_or(Exit::Failed),
        ),
    }
}

/// How long to wait before start number `failures + 1`; `None` gives up.
fn pause(failures: u32) -> Option<Duration> {
    (failures <= FAILURES_MAX).then(|| BACKOFF.ceiling(failures.saturating_sub(1)))
}

/// Starts this program again with the same arguments, until it ends for good. Returns how it ended.
pub(crate) fn run(ui: &Ui, invocation: &[OsString]) -> anyhow::Result<Exit> {
    cluster::runtime()?.block_on(async {
        let stop = signals::stop_on_interrupt(*ui, "stopping the worker");
        supervise(ui, invocation, &stop).await
    })
}

async fn supervise(ui: &Ui, invocation: &[OsString], stop: &CancellationToken) -> anyhow::Result<Exit> {
    let mut failures = 0;
    loop {
        let started = Instant::now();
        let status = wait(start(invocation)?, stop).await?;
        if let Next::Exit(exit) = next(status.code()) {
            return Ok(exit);
        }
        if stop.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        failures = if started.elapsed() >= LASTED { 1 } else { failures + 1 };
        let Some(pause) = pause(failures) else {
            let what = format!("the worker ended {failures} times soon after its start, last with {status}");
            return Err(Advice::failed(what).hint("`encaje self-test` says whether the device works").into());
        };
        ui.note(format!("the worker ended ({status}); starting it again in {} s", pause.as_secs()));
        tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Interrupted),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn start(invocation: &[OsString]) -> anyhow::Result<Child> {
    let (program, words) = invocation.split_first().context("cannot find this program to start it again")?;
    let mut command = Command::new(program);
    // `--restart` may be set in the environment: this option makes the worker ignore it.
    command.args(words).arg("--stop-with-stdin").stdin(Stdio::piped());
    command.spawn().context("cannot start the worker")
}

/// Waits for the worker to exit; `stop` closes its standard input.
async fn wait(mut child: Child, stop: &CancellationToken) -> anyhow::Result<ExitStatus> {
    let stdin = child.stdin.take();
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    let status = tokio::select! {
        status = &mut ended => status,
        () = stop.cancelled() => {
            drop(stdin);
            ended.await
        }
    };
    status.context("the wait crashed")?.context("cannot wait for the worker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_new_process_may_mend_is_started_again() {
        assert_eq!(next(Some(Exit::DeviceLost as i32)), Next::Restart);
        assert_eq!(next(None), Next::Restart, "killed by a signal");
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Interrupted] {
            assert_eq!(next(Some(exit as i32)), Next::Exit(exit));
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_end() {
        assert_eq!(pause(1), Some(Duration::from_secs(1)));
        assert_eq!(pause(4), Some(Duration::from_secs(8)));
        assert_eq!(pause(FAILURES_MAX), Some(BACKOFF.max));
        assert_eq!(pause(FAILURES_MAX + 1), None);
    }
}
