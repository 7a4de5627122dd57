//! Warnings about a corpus, printed on stderr: before the work, and by the planner during it.

use std::sync::{Arc, Mutex, PoisonError};

use coordinator::corpora::Stored;
use dataset::Notice;

use crate::ui::Ui;

/// A corpus of many files may have one thing to say about each.
const SAID_MAX: usize = 10;

/// Says what was found before the work.
pub(crate) fn show(ui: &Ui, notices: &[Notice]) {
    notices.iter().take(SAID_MAX).for_each(|notice| ui.warn(notice.to_string()));
    if notices.len() > SAID_MAX {
        ui.warn(format!("and {} more like this", notices.len() - SAID_MAX));
    }
}

/// What a planner finds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    waiting: Vec<String>,
    count: usize,
}

impl Heard {
    /// Returns corpora that tell what they find.
    pub(crate) fn corpora(&self) -> Stored {
        let heard = self.clone();
        Stored::telling(move |notice| heard.add(notice))
    }

    /// Returns what was found since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting)
    }

    fn add(&self, notice: &Notice) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.count += 1;
        if said.count <= SAID_MAX {
            said.waiting.push(notice.to_string());
        } else if said.count == SAID_MAX + 1 {
            said.waiting.push("and more like this".to_owned());
        }
    }
}
