//! `encaje status`: how the job in an output directory stands.

use crate::args::StatusArgs;
use crate::exit::{Advice, Exit};
use crate::status::{OutState, OutStatus};
use crate::ui::{self, Ui};

/// Shows one output.
pub(crate) fn run(ui: &Ui, args: &StatusArgs) -> anyhow::Result<Exit> {
    let Some(status) = OutStatus::of(&args.out)? else {
        let what = format!("`{}` is no output of encaje, finished or not", args.out.display());
        return Err(Advice::failed(what).hint("see what is below a directory: encaje list DIR").into());
    };
    if args.json {
        ui.json(&status)?;
        return Ok(Exit::Done);
    }
    let mut lines = vec![
        ("output", status.out.clone()),
        ("state", state_text(&status)),
        ("model", status.model.clone()),
        ("rows", status.rows_text()),
        ("rejected", ui::count(status.rejected)),
        ("truncated", ui::count(status.truncated)),
        ("tokens", ui::count(status.tokens)),
    ];
    if let Some(shards) = status.shards {
        let (committed, running, pending) = (shards.committed, shards.running, shards.pending);
        lines.push(("shards", format!("{committed} done, {running} running, {pending} waiting, {} dead", shards.dead)));
    }
    lines.push(("job", status.job.clone()));
    for (name, value) in lines {
        ui.data(format!("{name:<11}{value}"))?;
    }
    Ok(Exit::Done)
}

fn state_text(status: &OutStatus) -> String {
    match (status.state, &status.reason) {
        (OutState::Interrupted, _) => "interrupted (run again to resume)".to_owned(),
        (OutState::Failed, Some(reason)) => format!("failed: {reason}"),
        (state, _) => state.to_string(),
    }
}
