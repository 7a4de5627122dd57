//! `--reuse`: earlier outputs, opened and compared with the job before any work.

use std::fs;
use std::path::Path;

use dataset::vectors::{REUSE_ROWS_MAX, place};
use dataset::{EarlierOutput, FileInfo};
use spec::ReuseSource;

use crate::args::JobArgs;
use crate::exit::Advice;
use crate::outdir;
use crate::ui::{self, Ui};

/// Opens the earlier outputs that the arguments name. Refuses what is no finished output, did not keep its texts, or was made
/// otherwise than `job` makes vectors.
pub(crate) fn open(ui: &Ui, args: &JobArgs, job: &FileInfo) -> anyhow::Result<Vec<ReuseSource>> {
    let mut sources: Vec<ReuseSource> = Vec::new();
    let mut vectors = 0_u64;
    for given in &args.reuse.reuse {
        let refused = || Advice::usage(format!("--reuse {given}"));
        let path = Path::new(given);
        let uri = match fs::canonicalize(path) {
            Ok(whole) if place::url_of(path).is_none() => outdir::absolute_text(&whole)?,
            Ok(_) | Err(_) => given.clone(),
        };
        let opened = place::check_readable(path).and_then(|()| EarlierOutput::open(&uri, &args.corpus.text_column));
        let opened = opened.and_then(|earlier| {
            earlier.check(job)?;
            Ok((earlier.vectors()?, earlier.source().clone()))
        });
        let (count, source) = opened.map_err(|error| anyhow::Error::from(error).context(refused()))?;
        if !sources.contains(&source) {
            vectors = vectors.saturating_add(count);
            sources.push(source);
        }
    }
    if vectors > REUSE_ROWS_MAX {
        let (found, most) = (ui::thousands(vectors), ui::thousands(REUSE_ROWS_MAX));
        let what = format!("--reuse: the earlier outputs have {found} vectors, at most {most} are possible");
        return Err(Advice::usage(what).hint("name fewer outputs, or those that have most of the texts").into());
    }
    if !sources.is_empty() {
        let outputs = ui::counted(sources.len() as u64, "earlier output");
        ui.note(format!("--reuse: {} vectors of {outputs}", ui::thousands(vectors)));
    }
    Ok(sources)
}

/// Tells whether an earlier output is on a file system, so that another machine may not have it.
pub(crate) fn is_local(source: &ReuseSource) -> bool {
    place::url_of(Path::new(&source.uri)).is_none()
}
