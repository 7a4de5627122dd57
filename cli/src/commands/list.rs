//! `encaje list`: the outputs below a directory.

use anyhow::Context;

use crate::args::ListArgs;
use crate::exit::Exit;
use crate::status;
use crate::ui::Ui;

/// Lists outputs.
pub(crate) fn run(ui: &Ui, args: &ListArgs) -> anyhow::Result<Exit> {
    let found = status::outputs_below(&args.parent)
        .with_context(|| format!("cannot read the directory `{}`", args.parent.display()))?;
    if args.json {
        ui.json(&found)?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        ui.note(format!("no output of encaje in `{}`", args.parent.display()));
    }
    let width = found.iter().map(|status| status.out.chars().count()).max().unwrap_or_default();
    for status in &found {
        let (out, state, rows, model) = (&status.out, status.state, status.rows_text(), &status.model);
        ui.data(format!("{out:<width$}  {state:<11}  {rows}  {model}"))?;
    }
    Ok(Exit::Done)
}
