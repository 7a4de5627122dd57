//! `encaje compare`: which model separates the labels best, in one figure and one table.

use atlas::plot::{self, Figure, Panel};
use atlas::umap::Nearest;
use clap::Args;
use serde::Serialize;

use crate::args::{LabelTypeArg, Place, UmapArgs};
use crate::comparison::{
    self, Compared, Findings, Language, MeasuredSet, Model, NEIGHBORS, ReferenceRows, aligned_lines, sections,
    sentences,
};
use crate::exit::Exit;
use crate::points;
use crate::shared_rows::SharedRows;
use crate::ui::{self, Ui};
use crate::{outfile, umap};

/// Compares models: a plot of each side by side, and how well each separates the values of a column.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje compare beto/ bertin/ mbert/ --label label --out models.html")]
pub(crate) struct CompareArgs {
    /// The outputs to compare, one per model: directories of finished runs over the same corpus, or merged files.
    #[arg(value_name = "DIR|FILE.parquet|URL", required = true, num_args = 2..)]
    pub(crate) targets: Vec<Place>,
    /// The kept column by whose values the models are compared, and the points coloured.
    #[arg(long, value_name = "COLUMN", env = "ENCAJE_COMPARE_LABEL")]
    pub(crate) label: String,
    /// Takes the label column for this. `auto` takes numbers and dates with many different values for a number.
    #[arg(long, value_enum, default_value_t = LabelTypeArg::Auto)]
    pub(crate) label_type: LabelTypeArg,
    /// The picture to write, a panel per model and the table; the extension tells the format. May be given
    /// several times.
    #[arg(long, value_name = "PLOT.html|.png|.svg|.pdf", env = "ENCAJE_COMPARE_OUT")]
    pub(crate) out: Vec<Place>,
    /// Replaces an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) umap: UmapArgs,
    /// Says what the numbers mean in this language.
    #[arg(long, value_enum, default_value_t = Language::En)]
    pub(crate) lang: Language,
    /// Prints everything on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Labels whose accuracy is printed; the page and the JSON have all.
const LABELS_PRINTED: usize = 15;

/// The report.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    /// The first of the pictures.
    out: Option<&'a Place>,
    pictures: &'a [Place],
    label: &'a str,
    labels: Option<usize>,
    /// The share of rows with the most frequent label: the accuracy of always guessing it.
    majority_share: Option<f64>,
    rows: usize,
    /// Rows that lack a vector in one of the sets.
    left_out: u64,
    neighbors: usize,
    seed: u64,
    models: Vec<Model>,
    #[serde(flatten)]
    findings: Findings,
    /// What the numbers say, in the chosen language.
    sentences: Vec<String>,
}

/// Compares.
pub(crate) fn run(ui: &Ui, args: &CompareArgs) -> anyhow::Result<Exit> {
    let files = outfile::check_pictures(&args.out, args.force, outfile::PICTURE_HINT)?;
    let shared = SharedRows::of(&args.targets)?;
    if shared.left_out > 0 {
        ui.note(format!("left out: {} that lack a vector in one of the sets", ui::counted(shared.left_out, "row")));
    }
    let (mut sets, rows) = measure_all(ui, args, shared)?;
    let findings = comparison::find(&mut sets, &rows, args.umap.seed);
    let (mut models, maps): (Vec<_>, Vec<_>) =
        sets.into_iter().map(|set| (set.model, (set.places, set.near.nearest(plot::NEAREST)))).unzip();
    tell_apart(&mut models);
    let compared = Compared {
        label: &args.label,
        models: &models,
        findings: &findings,
        rows: rows.shared.rows.len() as u64,
        left_out: rows.shared.left_out,
    };
    if !files.is_empty() {
        let figure = figure(args, &rows, &compared, maps);
        outfile::write_pictures(ui, &files, |format| plot::render(&figure, format))?;
        args.out.iter().for_each(|out| ui.note(format!("{out}: drawn")));
    }
    if !args.json {
        print(ui, &compared, args.lang)?;
        return Ok(Exit::Done);
    }
    let sentences = sentences(&compared, args.lang);
    ui.json(&Comparison {
        out: args.out.first(),
        pictures: &args.out,
        label: &args.label,
        labels: rows.codes.is_some().then_some(rows.names.len()),
        majority_share: compared.majority_share(),
        rows: rows.shared.rows.len(),
        left_out: rows.shared.left_out,
        neighbors: NEIGHBORS,
        seed: args.umap.seed,
        models,
        findings,
        sentences,
    })?;
    Ok(Exit::Done)
}

/// Measures one set after the other, so that the vectors of only one are in memory.
fn measure_all(ui: &Ui, args: &CompareArgs, shared: SharedRows) -> anyhow::Result<(Vec<MeasuredSet>, ReferenceRows)> {
    let options = umap::options(&args.umap);
    let mut first: Option<ReferenceRows> = None;
    let mut sets = Vec::new();
    for target in &args.targets {
        ui.note(format!("{}:", target.display()));
        let mut points = points::load(ui, target)?;
        let set = comparison::describe_set(target, &points);
        shared.retain_in(&mut points)?;
        let rows = match &first {
            Some(rows) => {
                comparison::same_rows(rows, target, &points)?;
                rows
            }
            None => first.insert(comparison::rows_of((&args.label, args.label_type), target, &points, shared.clone())?),
        };
        sets.push(comparison::measure(ui, set, &points, rows, &options)?);
    }
    Ok((sets, first.expect("the arguments name at least two sets")))
}

/// Distinguishes sets of the same model by as much of their paths as it takes, and one that is named twice by a number.
fn tell_apart(models: &mut [Model]) {
    let tail = |model: &Model, parts: usize| {
        let all: Vec<_> = model.target.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        all[all.len().saturating_sub(parts)..].join("/")
    };
    let longest = models.iter().map(|model| model.target.components().count()).max().unwrap_or(1);
    let names: Vec<String> = (0..models.len())
        .map(|index| {
            let model = &models[index];
            let same: Vec<&Model> = models.iter().filter(|other| other.model == model.model).collect();
            if same.len() < 2 {
                return model.model.clone();
            }
            let is_unique =
                |parts: &usize| same.iter().filter(|other| tail(other, *parts) == tail(model, *parts)).count() < 2;
            let parts = (1..longest).find(is_unique).unwrap_or(longest);
            let place = tail(model, parts);
            match models[..index].iter().filter(|earlier| earlier.target == model.target).count() {
                0 => format!("{} ({place})", model.model),
                earlier => format!("{} ({place}, {})", model.model, earlier + 1),
            }
        })
        .collect();
    models.iter_mut().zip(names).for_each(|(model, name)| model.model = name);
}

fn print(ui: &Ui, compared: &Compared<'_>, language: Language) -> anyhow::Result<()> {
    let say = |lines: Vec<String>| lines.iter().try_for_each(|line| ui.data(line));
    say(aligned_lines(&comparison::table(compared, language)))?;
    ui.data("")?;
    say(sentences(compared, language))?;
    let mut by_label = comparison::by_label(compared, language);
    if by_label.rows.is_empty() {
        return Ok(());
    }
    let more = by_label.rows.len().saturating_sub(LABELS_PRINTED);
    by_label.rows.truncate(LABELS_PRINTED);
    ui.data("")?;
    say(aligned_lines(&by_label))?;
    if more > 0 {
        let more = ui::thousands(more as u64);
        ui.data(language.either(
            format!("(more labels: {more}; all are in the page and in --json)"),
            format!("(más etiquetas: {more}; todas están en la página y en --json)"),
        ))?;
    }
    Ok(())
}

fn figure(
    args: &CompareArgs,
    rows: &ReferenceRows,
    compared: &Compared<'_>,
    maps: Vec<(Vec<[f32; 2]>, Nearest)>,
) -> Figure {
    let either = |english: String, spanish: String| args.lang.either(english, spanish);
    let panels = compared.models.iter().zip(maps).map(|(model, (points, nearest))| {
        let (trust, pooling, dimensions) = (model.trustworthiness, &model.pooling, model.dimensions);
        let accuracy = model.label_accuracy.map_or(String::new(), |e| {
            either(format!("kNN accuracy {:.3} · ", e.value), format!("acierto kNN {:.3} · ", e.value))
        });
        let settings = either(
            format!("trustworthiness {trust:.3} · {pooling} pooling · {dimensions} dimensions"),
            format!("confiabilidad {trust:.3} · pooling {pooling} · {dimensions} dimensiones"),
        );
        Panel { title: model.model.clone(), note: format!("{accuracy}{settings}"), points, nearest: Some(nearest) }
    });
    let (models, label) = (compared.models.len(), &args.label);
    Figure {
        title: either(format!("{models} models by {label}"), format!("{models} modelos por {label}")),
        subtitle: subtitle(args, compared),
        panels: panels.collect(),
        labels: rows.labels.clone(),
        hover: rows.columns.clone(),
        table: Some(comparison::table(compared, args.lang)),
        sections: sections(compared, args.lang),
        ..Figure::default()
    }
}

fn subtitle(args: &CompareArgs, compared: &Compared<'_>) -> String {
    let either = |english: String, spanish: String| args.lang.either(english, spanish);
    let left_out = match compared.left_out {
        0 => String::new(),
        rows => {
            let rows = ui::thousands(rows);
            either(
                format!(" ({rows} that lack a vector in one of the sets left out)"),
                format!(" (sin {rows} que no tienen vector en alguno de los conjuntos)"),
            )
        }
    };
    let majority = compared.majority_share().map_or(String::new(), |share| {
        let share = share * 100.0;
        either(
            format!(" · the largest label has {share:.1} % of the rows; macro: the mean over labels"),
            format!(
                " · la etiqueta más frecuente tiene el {share:.1} % de las filas; macro: la media de las etiquetas"
            ),
        )
    });
    let UmapArgs { neighbors, min_dist, seed, .. } = &args.umap;
    let texts = ui::thousands(compared.rows);
    either(
        format!(
            "{texts} texts{left_out} · UMAP: {neighbors} neighbors, min. distance {min_dist}, seed {seed} · accuracy: \
             majority of the {NEIGHBORS} nearest by cosine, the row itself left out, Wilson interval; other intervals: \
             bootstrap over rows{majority}"
        ),
        format!(
            "{texts} textos{left_out} · UMAP: {neighbors} vecinos, distancia mín. {min_dist}, semilla {seed} · acierto: \
             mayoría de los {NEIGHBORS} más cercanos por coseno, sin la propia fila, intervalo de Wilson; los demás: \
             bootstrap de filas{majority}"
        ),
    )
}
