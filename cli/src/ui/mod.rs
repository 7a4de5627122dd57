//! What people and scripts see.

mod eta;
mod logging;
mod progress;
mod streams;
mod text;
mod transfer;

pub(crate) use logging::start_logging;
pub(crate) use progress::{Amount, Progress, Reading};
pub(crate) use streams::{MessageFormat, Ui};
pub(crate) use text::{counted, duration, one_line, reused, rows_so_far, size, speed, thousands};
pub(crate) use transfer::Transfer;
