//! `encaje tokenize`: what the model is fed for a text.

use std::io::{self, BufRead};

use anyhow::Context;
use clap::Args;
use engine::TextEncoder;
use serde::Serialize;

use crate::args::{ModelArgs, PromptArgs};
use crate::exit::Exit;
use crate::ui::Ui;
use crate::{model, prompt};

/// Shows how a model's tokenizer cuts texts.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// The texts; none reads one text per line from stdin.
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Cuts texts to this many tokens, special ones included. The default is what the model can take.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_length: Option<u32>,
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    /// Prints one JSON object per text on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One text, as tokens.
#[derive(Debug, Serialize)]
struct Tokenized<'a> {
    text: &'a str,
    tokens: Vec<TokenReport>,
    /// 1 for each token: there is no padding that the model must not see.
    attention_mask: Vec<u8>,
    /// The decoded text, without special tokens.
    decoded: String,
    n_tokens: usize,
    truncated: bool,
}

/// One token. `start` and `end` are bytes of the text that the model sees, prefix included.
#[derive(Debug, Serialize)]
struct TokenReport {
    id: u32,
    token: String,
    special: bool,
    start: usize,
    end: usize,
}

/// Prints the tokens of each text.
pub(crate) fn run(ui: &Ui, args: &TokenizeArgs) -> anyhow::Result<Exit> {
    let model = model::open(ui, &args.model.model, &args.model.hub, None)?;
    let max_length = args.max_length.map(|tokens| tokens as usize);
    let applied = prompt::resolve(&model.summary.prompts, &args.prompt)?;
    if let Some(name) = &applied.name {
        ui.note(format!("prompt: `{name}` puts {:?} before every text", applied.text));
    }
    let encoder = TextEncoder::load(&model.dir, max_length, &applied.text)?;
    if args.texts.is_empty() {
        for (index, line) in io::stdin().lock().lines().enumerate() {
            let line = line.with_context(|| format!("cannot read line {} of stdin", index + 1))?;
            print(ui, args, &encoder, &line)?;
        }
    }
    for text in &args.texts {
        print(ui, args, &encoder, text)?;
    }
    Ok(Exit::Done)
}

fn print(ui: &Ui, args: &TokenizeArgs, encoder: &TextEncoder, text: &str) -> anyhow::Result<()> {
    let tokenized = tokenize(encoder, text)?;
    if args.json {
        return ui.json(&tokenized);
    }
    let cut = if tokenized.truncated { ", truncated" } else { "" };
    let words: Vec<&str> = tokenized.tokens.iter().map(|token| token.token.as_str()).collect();
    let ids: Vec<String> = tokenized.tokens.iter().map(|token| token.id.to_string()).collect();
    ui.data(format!("text    {text}"))?;
    ui.data(format!("tokens  {} ({}{cut})", words.join(" "), tokenized.n_tokens))?;
    ui.data(format!("ids     {}", ids.join(" ")))?;
    let special: Vec<&str> = tokenized.tokens.iter().map(|token| if token.special { "1" } else { "0" }).collect();
    ui.data(format!("special {}", special.join(" ")))?;
    let mask: Vec<String> = tokenized.attention_mask.iter().map(u8::to_string).collect();
    ui.data(format!("mask    {}", mask.join(" ")))?;
    ui.data(format!("decoded {}", tokenized.decoded))
}

fn tokenize<'a>(encoder: &TextEncoder, text: &'a str) -> anyhow::Result<Tokenized<'a>> {
    let encoded = encoder.encode(text)?;
    let decoded = encoder.decode(&encoded.ids)?;
    let tokens = encoder.explain(text)?.into_iter().map(|token| TokenReport {
        id: token.id,
        token: token.text,
        special: token.special,
        start: token.start,
        end: token.end,
    });
    let n_tokens = encoded.ids.len();
    let attention_mask = vec![1; n_tokens];
    Ok(Tokenized { text, tokens: tokens.collect(), attention_mask, decoded, n_tokens, truncated: encoded.truncated })
}
