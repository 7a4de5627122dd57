//! Warnings about a corpus: those found before the work, and those that the planner finds during it.

use std::sync::{Arc, Mutex, PoisonError};

use coordinator::corpora::Stored;
use dataset::Notice;

use crate::ui::Ui;

/// Most warnings that are printed: a corpus of many files may have one for each.
const NOTICES_MAX: usize = 10;

/// Prints the warnings found before the work.
pub(crate) fn warn_all(ui: &Ui, notices: &[Notice]) {
    notices.iter().take(NOTICES_MAX).for_each(|notice| ui.warn(notice.to_string()));
    if notices.len() > NOTICES_MAX {
        ui.warn(format!("and {} more like this", notices.len() - NOTICES_MAX));
    }
}

/// Warnings that a planner in this process finds, until they are printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlannerNotices(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<String>,
    count: usize,
}

impl PlannerNotices {
    /// Returns corpora that report their warnings here.
    pub(crate) fn corpora(&self) -> Stored {
        let notices = self.clone();
        Stored::telling(move |notice| notices.add(notice))
    }

    /// Returns the warnings since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting)
    }

    fn add(&self, notice: &Notice) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.count += 1;
        if queue.count <= NOTICES_MAX {
            queue.waiting.push(notice.to_string());
        } else if queue.count == NOTICES_MAX + 1 {
            queue.waiting.push("and more like this".to_owned());
        }
    }
}
