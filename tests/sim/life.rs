//! Whether a simulated process runs, is stopped or is gone. Every effect of a process passes its [`Life::gate`]: a
//! process that is stopped waits there, one that is gone never comes back. So `kill -9` and SIGSTOP need no help from the
//! code that they happen to.

use std::sync::Mutex;

use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
    Gone,
}

/// The life of one process.
#[derive(Debug)]
pub(crate) struct Life {
    state: Mutex<State>,
    changed: Notify,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Running), changed: Notify::new() }
    }

    fn become_(&self, next: State) {
        let mut state = self.state.lock().unwrap();
        if *state != State::Gone {
            *state = next;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        self.become_(State::Gone);
    }

    /// SIGSTOP.
    pub(crate) fn stop(&self) {
        self.become_(State::Stopped);
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.become_(State::Running);
    }

    pub(crate) fn is_gone(&self) -> bool {
        *self.state.lock().unwrap() == State::Gone
    }

    /// Lets a running process through.
    pub(crate) async fn gate(&self) {
        loop {
            let changed = self.changed.notified();
            let state = *self.state.lock().unwrap();
            match state {
                State::Running => return,
                State::Stopped => changed.await,
                State::Gone => std::future::pending().await,
            }
        }
    }

    /// Ends when the process is gone.
    pub(crate) async fn gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_gone() {
                return;
            }
            changed.await;
        }
    }
}
