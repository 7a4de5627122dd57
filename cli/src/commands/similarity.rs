//! `encaje similarity`: how near texts are to each other, as numbers and as a heat map.

use atlas::plot::{self, Heatmap};
use clap::Args;
use dataset::{Keep, ReadOptions};
use engine::{EmbedTextsError, Embedder, EngineOptions};
use serde::Serialize;
use spec::{Format, Pooling};

use crate::args::{Auto, DialectArgs, ModelArgs, OWN_POOLING, Place, PromptArgs, auto_or};
use crate::exit::{Advice, Exit};
use crate::ui::{self, Ui};
use crate::{corpus_texts, model, outfile, pins, prompt};

/// Shows how near texts are to each other: the cosine of each pair, and a heat map.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  encaje similarity 'Tengo un perro.' 'Mi gato duerme.' --model MODEL --out similarity.png"
)]
pub(crate) struct SimilarityArgs {
    /// The texts to compare with each other.
    #[arg(value_name = "TEXT", required_unless_present = "from")]
    pub(crate) texts: Vec<String>,
    /// Takes the texts from this file, glob, URL or `-` for stdin instead.
    #[arg(long, value_name = "FILE", conflicts_with = "texts", env = "ENCAJE_SIMILARITY_FROM")]
    pub(crate) from: Option<String>,
    /// Takes so many rows of the file, from its top.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "from", value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) rows: u32,
    /// Reads the file as this format, whatever its extension.
    #[arg(long, value_enum, value_name = "FORMAT", requires = "from")]
    pub(crate) format: Option<Format>,
    /// Names the column of the file that holds the text.
    #[arg(long, value_name = "NAME", default_value = "text", requires = "from")]
    pub(crate) text_column: String,
    #[command(flatten)]
    pub(crate) dialect: DialectArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Decides how token vectors become one vector. `auto` is the model's own pooling, or `cls` where it names none.
    #[arg(long, default_value = "auto", value_parser = auto_or::<Pooling>(OWN_POOLING))]
    pub(crate) pooling: Auto<Pooling>,
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    /// Draws a heat map into this file; the extension says what it is. May be given several times.
    #[arg(long, value_name = "PLOT.html|.png|.svg|.pdf", env = "ENCAJE_SIMILARITY_OUT")]
    pub(crate) out: Vec<Place>,
    /// Replaces an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    /// Prints texts and matrix on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Columns of text before the numbers.
const NAME_WIDTH: usize = 40;
/// More texts than this make lines that no terminal shows.
const TABLE_MAX: usize = 30;

/// Texts and the cosine of each pair.
#[derive(Debug, Serialize)]
struct Similarity<'a> {
    model: &'a str,
    texts: &'a [String],
    /// Row by row.
    cosine: Vec<&'a [f32]>,
}

/// Compares.
pub(crate) fn run(ui: &Ui, args: &SimilarityArgs) -> anyhow::Result<Exit> {
    let files = outfile::check_pictures(&args.out, args.force, outfile::PICTURE_HINT)?;
    let texts = texts(ui, args)?;
    let model = model::open(ui, &args.model.model, &args.model.hub, None)?;
    let applied = prompt::resolve(&model.summary.prompts, &args.prompt)?;
    if let Some(name) = &applied.name {
        ui.note(format!("prompt: `{name}` puts {:?} before every text", applied.text));
    }
    let all = model.dimensions(args.pooling.0)? as usize;
    let dimensions = model.summary.truncate_dim.filter(|kept| *kept < all);
    let options = EngineOptions { pooling: args.pooling.0, dimensions, ..EngineOptions::default() };
    let embedder = Embedder::load(&model.dir, &options, None, &applied.text)?;
    let vectors = embed(ui, &embedder, &texts)?;
    let engine = embedder.engine();
    let values = cosines(&vectors, engine.dimensions());
    if !files.is_empty() {
        let name = model::short_name(&model.name);
        let map = Heatmap {
            title: "Cosine similarity".to_owned(),
            subtitle: format!("{} · {name} · {} pooling", ui::counted(texts.len() as u64, "text"), engine.pooling()),
            names: texts.clone(),
            values: values.clone(),
        };
        outfile::write_pictures(ui, &files, |format| plot::render_heatmap(&map, format))?;
        args.out.iter().for_each(|out| ui.note(format!("{out}: drawn")));
    }
    if args.json {
        let cosine = values.chunks_exact(texts.len()).collect();
        ui.json(&Similarity { model: &model.name, texts: &texts, cosine })?;
    } else {
        table(&texts, &values).iter().try_for_each(|line| ui.data(line))?;
    }
    Ok(Exit::Done)
}

/// Returns the texts of the command line, or of the file.
fn texts(ui: &Ui, args: &SimilarityArgs) -> anyhow::Result<Vec<String>> {
    let Some(from) = &args.from else {
        return match args.texts.iter().position(|text| text.trim().is_empty()) {
            Some(index) => Err(Advice::usage(format!("text {} is empty", index + 1)).into()),
            None => Ok(args.texts.clone()),
        };
    };
    let read = args.dialect.over(ReadOptions {
        text_column: args.text_column.clone(),
        keep: Keep::None,
        ..ReadOptions::default()
    });
    pins::refuse_offline(std::slice::from_ref(from), args.model.hub.offline)?;
    let rows = corpus_texts::first(ui, from, args.format, &read, args.rows as usize)?;
    let asked = rows.len();
    let texts: Vec<String> = rows.into_iter().flatten().collect();
    if texts.is_empty() {
        return Err(Advice::failed(format!("`{from}` has no text in its first {asked} rows")).into());
    }
    if texts.len() < asked {
        ui.note(format!("left out: {} without a text", ui::counted((asked - texts.len()) as u64, "row")));
    }
    Ok(texts)
}

/// Returns the unit vectors of the texts, in their order.
fn embed(ui: &Ui, embedder: &Embedder, texts: &[String]) -> anyhow::Result<Vec<f32>> {
    let found = embedder.embed_texts(texts).map_err(|error| match error {
        EmbedTextsError::Encode { index, source } => {
            anyhow::Error::new(source).context(format!("text {} cannot be tokenized", index + 1))
        }
        error @ (EmbedTextsError::Embed(_) | EmbedTextsError::Stopped) => error.into(),
    })?;
    for index in found.truncated {
        ui.note(format!("text {} was cut to {} tokens", index + 1, embedder.encoder().max_length()));
    }
    Ok(found.vectors)
}

/// Returns the inner product of every pair of unit vectors, row-major.
fn cosines(vectors: &[f32], width: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = vectors.chunks_exact(width).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b).clamp(-1.0, 1.0) as f32)).collect()
}

/// Formats the matrix: names on the left, numbered columns.
fn table(texts: &[String], values: &[f32]) -> Vec<String> {
    let name = |text: &String| ui::one_line(text, NAME_WIDTH);
    let shown = texts.len().min(TABLE_MAX);
    let width = texts.iter().map(|text| name(text).chars().count()).max().unwrap_or(0);
    let head: String = (1..=shown).map(|column| format!("{column:>7}")).collect();
    let mut lines = vec![format!("{:>4} {:<width$}{head}", "", "")];
    for (row, (text, values)) in texts.iter().zip(values.chunks_exact(texts.len())).enumerate() {
        let numbers: String = values.iter().take(shown).map(|value| format!("{value:>7.3}")).collect();
        lines.push(format!("{:>4} {:<width$}{numbers}", row + 1, name(text)));
    }
    if shown < texts.len() {
        lines.push(format!("({} more columns: --json has them all)", texts.len() - shown));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_aligned() {
        let texts = ["uno".to_owned(), "dos\ntres".to_owned()];
        let lines = table(&texts, &[1.0, 0.25, 0.25, 1.0]);
        assert_eq!(
            lines,
            ["                   1      2", "   1 uno       1.000  0.250", "   2 dos tres  0.250  1.000"]
        );
    }

    #[test]
    fn cosines_are_those_of_each_pair() {
        assert_eq!(cosines(&[1.0, 0.0, 0.6, 0.8], 2), [1.0, 0.6, 0.6, 1.0]);
    }
}
