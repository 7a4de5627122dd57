//! SIGINT, SIGTERM and SIGUSR1 (which batch systems send before they take a machine back): the first asks a process to stop well, the
//! second one stops it. SIGXFSZ is ignored.

#![cfg_attr(unix, expect(unsafe_code, reason = "the disposition of a signal"))]

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::ui::Ui;

/// How often the parent's process id is checked.
const PARENT_EVERY: Duration = Duration::from_secs(1);

/// Makes a file that exceeds the limit of the process (`ulimit -f`) an error of the write instead of the end of the process.
pub(crate) fn ignore_file_size_signal() {
    #[cfg(unix)]
    // SAFETY: ignoring a signal runs no code of ours, and no other thread has been started yet.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Sends this process SIGTERM once standard input has ended, or its parent has: a process that the parent forked may keep the
/// other end of standard input open.
pub(crate) fn stop_with_stdin() {
    let stop = || {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).ok();
    };
    let watch_stdin = move || {
        let mut ignored = [0; 64];
        while matches!(std::io::stdin().read(&mut ignored), Ok(1..)) {}
        stop();
    };
    let parent = rustix::process::getppid();
    let watch_parent = move || {
        while rustix::process::getppid() == parent {
            std::thread::sleep(PARENT_EVERY);
        }
        stop();
    };
    // Without the threads this outlives its parent, and is stopped as any other process.
    let thread = || std::thread::Builder::new().name("encaje-parent".to_owned());
    thread().spawn(watch_stdin).ok();
    thread().spawn(watch_parent).ok();
}

/// Waits for the first of the signals that ask for an end, from this call on. Call it within a runtime.
pub(crate) fn interrupted() -> impl Future<Output = anyhow::Result<()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::user_defined1()];
        let [interrupt, terminate, user] = kinds.map(signal);
        async move {
            let mut interrupt = interrupt.context("cannot listen for SIGINT")?;
            let mut terminate = terminate.context("cannot listen for SIGTERM")?;
            let mut user = user.context("cannot listen for SIGUSR1")?;
            tokio::select! {
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
                _ = user.recv() => Ok(()),
            }
        }
    }
    #[cfg(not(unix))]
    async {
        tokio::signal::ctrl_c().await.context("cannot listen for ctrl-C")
    }
}

/// Exits at the next interrupt: the next run resumes whatever is cut off.
pub(crate) fn exit_on_interrupt(ui: Ui, last_words: &'static str) {
    let interrupted = interrupted();
    tokio::spawn(async move {
        if interrupted.await.is_ok() {
            ui.note(last_words);
            std::process::exit(Exit::Interrupted as i32);
        }
    });
}

/// Returns a token that the first interrupt cancels, saying `words`; the second one ends the process.
pub(crate) fn stop_on_interrupt(ui: Ui, words: &'static str) -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    let interrupted = interrupted();
    tokio::spawn(async move {
        if interrupted.await.is_ok() {
            ui.note(words);
            exit_on_interrupt(ui, "stopped at once; nothing is lost but the work on unfinished shards");
            token.cancel();
        }
    });
    stop
}
