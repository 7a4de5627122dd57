//! Long work without the lock of Python, which Ctrl-C ends.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// How often signals are checked and progress is reported.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Does `work` on a thread of its own. Meanwhile calls `poll` every tenth of a second; when that fails, or a signal's handler
/// does, calls `stop`, waits for `work` to end and returns that error.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send,
    stop: impl Fn() + Send + Sync,
    mut poll: impl FnMut(Python<'_>) -> PyResult<()> + Send,
) -> PyResult<T> {
    py.detach(|| {
        thread::scope(|scope| {
            let (done, finished) = channel();
            let worker = scope.spawn(move || {
                let result = work();
                done.send(()).ok();
                result
            });
            let mut outcome = Ok(());
            while let Err(RecvTimeoutError::Timeout) = finished.recv_timeout(POLL_EVERY) {
                if outcome.is_ok() {
                    outcome = Python::attach(|py| py.check_signals().and_then(|()| poll(py)));
                    if outcome.is_err() {
                        stop();
                    }
                }
            }
            let result = worker.join();
            outcome.map(|()| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}
