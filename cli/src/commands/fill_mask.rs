//! `encaje fill-mask`: which tokens a model expects at a mask.

use std::io::{self, BufRead};

use anyhow::Context;
use clap::Args;
use engine::{FillError, Filled, MaskFiller};
use serde_json::{Value, json};

use crate::args::ModelArgs;
use crate::exit::{Advice, Exit};
use crate::model;
use crate::ui::Ui;

/// Shows which tokens a model expects where a text has a mask.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje fill-mask --model dccuchile/bert-base-spanish-wwm-cased \
                        'Hoy vamos a comer unos [MASK].'")]
pub(crate) struct FillMaskArgs {
    /// The texts, each with `[MASK]` or `<mask>` where a token is to be guessed; none reads one text per line from stdin.
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Shows this many tokens per mask, the most probable first.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) top: u32,
    /// Prints a JSON array per text on stdout, as the `fill-mask` pipeline of transformers gives it.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Fills the masks of each text.
pub(crate) fn run(ui: &Ui, args: &FillMaskArgs) -> anyhow::Result<Exit> {
    let model = model::open(ui, &args.model.model, &args.model.hub, None)?;
    let filler = MaskFiller::load(&model.dir)
        .with_context(|| Advice::failed(format!("model `{}` cannot fill masks", args.model.model)))?;
    if args.texts.is_empty() {
        for (index, line) in io::stdin().lock().lines().enumerate() {
            let line = line.with_context(|| format!("cannot read line {} of stdin", index + 1))?;
            print(ui, args, &filler, &line)?;
        }
    }
    for text in &args.texts {
        print(ui, args, &filler, text)?;
    }
    Ok(Exit::Done)
}

fn print(ui: &Ui, args: &FillMaskArgs, filler: &MaskFiller, text: &str) -> anyhow::Result<()> {
    let filled = filler.fill(text, args.top as usize).map_err(|error| advise(text, error))?;
    if args.json {
        return ui.json(&pipeline(&filled));
    }
    ui.data(text)?;
    for (mask, tokens) in filled.iter().enumerate() {
        if filled.len() > 1 {
            ui.data(format!("  mask {}", mask + 1))?;
        }
        for Filled { score, token_str, sequence, .. } in tokens {
            // Of a text with several masks, a sequence shows one filled and the rest open: the token says it all.
            let shown = if filled.len() > 1 { "" } else { sequence.as_str() };
            ui.data(format!("  {score:.4}  {:<16} {shown}", token_str.trim()).trim_end())?;
        }
    }
    Ok(())
}

/// Shapes the answer as the pipeline does: a list, or a list of lists where a text has several masks.
fn pipeline(filled: &[Vec<Filled>]) -> Value {
    let list = |tokens: &Vec<Filled>| -> Value {
        let one = |filled: &Filled| {
            json!({
                "score": filled.score, "token": filled.token, "token_str": filled.token_str, "sequence": filled.sequence,
            })
        };
        tokens.iter().map(one).collect()
    };
    match filled {
        [one] => list(one),
        many => many.iter().map(list).collect(),
    }
}

fn advise(text: &str, error: FillError) -> anyhow::Error {
    let shown: String = text.chars().take(60).collect();
    match error {
        FillError::NoMask { .. } => Advice::usage(format!("`{shown}`: {error}")).into(),
        error => anyhow::Error::from(error).context(format!("`{shown}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mask_gives_a_list_and_several_give_lists() {
        let filled = Filled { score: 0.5, token: 7, token_str: "tacos".into(), sequence: "unos tacos".into() };
        let one = json!({ "score": 0.5, "token": 7, "token_str": "tacos", "sequence": "unos tacos" });
        assert_eq!(pipeline(&[vec![filled.clone()]]), json!([one]));
        assert_eq!(pipeline(&[vec![filled.clone()], vec![filled]]), json!([[one], [one]]));
    }
}
