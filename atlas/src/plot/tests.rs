//! Realistic figures in every format. `ENCAJE_PLOTS=DIR` keeps the files for inspection.

use resvg::tiny_skia::Pixmap;

use super::*;

/// Deterministic pseudo-random numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Returns a roughly normal number around 0.
    fn bell(&mut self) -> f32 {
        (0..6).map(|_| self.next()).sum::<f32>() - 3.0
    }
}

pub(super) const EMOJIS: [&str; 24] = [
    "🐶",
    "🍲",
    "😂",
    "❤️",
    "🇲🇽",
    "👩‍👩‍👧‍👦",
    "👍🏽",
    "1️⃣",
    "🎉",
    "🔥",
    "⚽",
    "🏖️",
    "🎸",
    "☕",
    "🌮",
    "💤",
    "📚",
    "🚗",
    "✈️",
    "🌧️",
    "💼",
    "🏥",
    "🎂",
    "🗳️",
];

/// Clusters on a ring, one per name.
pub(super) fn figure(rows: usize, names: &[&str], panels: usize) -> Figure {
    let mut noise = Noise(7);
    let values: Vec<Option<String>> =
        (0..rows).map(|row| Some(names[(row * 7 + row / 13) % names.len()].to_owned())).collect();
    let panels = (0..panels)
        .map(|panel| {
            let points = values.iter().map(|value| {
                let name = names.iter().position(|name| Some(*name) == value.as_deref()).unwrap();
                let angle = name as f32 * 2.4 + panel as f32;
                let reach = 2.0 + (name as f32).sqrt() * 2.2;
                [angle.cos() * reach + noise.bell(), angle.sin() * reach + noise.bell()]
            });
            Panel {
                title: format!("model-{panel}"),
                note: "kNN accuracy 0.81".into(),
                points: points.collect(),
                nearest: None,
            }
        })
        .collect();
    let text = |row| format!("Oración número {row}: <script>alert({row})</script> & «más» texto, niño 😀");
    Figure {
        title: "tweets.csv by label".into(),
        subtitle: format!(
            "{rows} rows, 3 rejected rows left out; UMAP of 15 neighbours, minimal distance 0.1, seed 42"
        ),
        panels,
        labels: Labels::of_column("label", &values),
        hover: vec![
            HoverColumn { name: "text".into(), values: (0..rows).map(text).collect() },
            HoverColumn { name: "id".into(), values: (0..rows).map(|row| row.to_string()).collect() },
            HoverColumn { name: "label".into(), values: values.into_iter().map(Option::unwrap).collect() },
        ],
        ..Figure::default()
    }
}

fn keep(name: &str, bytes: &[u8]) {
    if let Some(dir) = std::env::var_os("ENCAJE_PLOTS") {
        std::fs::write(std::path::Path::new(&dir).join(name), bytes).unwrap();
    }
}

/// Renders as PNG and decodes the pixels.
fn pixels(name: &str, figure: &Figure) -> Pixmap {
    let png = render(figure, PlotFormat::Png).unwrap().bytes;
    keep(&format!("{name}.png"), &png);
    keep(&format!("{name}.svg"), &render(figure, PlotFormat::Svg).unwrap().bytes);
    keep(&format!("{name}.html"), &render(figure, PlotFormat::Html).unwrap().bytes);
    Pixmap::decode_png(&png).unwrap()
}

fn count(pixels: &Pixmap, colour: [u8; 3]) -> usize {
    pixels.pixels().iter().filter(|p| [p.red(), p.green(), p.blue()] == colour).count()
}

/// Counts pixels in which blue exceeds red as in the palette's first colour at partial opacity.
fn count_blue(pixels: &Pixmap) -> usize {
    pixels.pixels().iter().filter(|p| p.blue().saturating_sub(p.red()) > 120).count()
}

#[test]
fn emoji_labels_are_rendered() {
    let pixels = pixels("emojis", &figure(3_000, &EMOJIS, 1));
    // The red of the flag of Mexico, and the yellow of faces: no point has these colours.
    assert!(count(&pixels, [0xCE, 0x11, 0x26]) > 20, "a flag");
    assert!(count(&pixels, [0xFF, 0xCC, 0x4D]) > 100, "a face");
}

#[test]
fn text_is_rendered_without_system_fonts() {
    let empty = figure(1, &["ñandú"], 1);
    let bare = Figure { title: String::new(), ..empty.clone() };
    let ink = |figure: &Figure| count(&pixels("letters", figure), [0x1a, 0x1a, 0x1a]);
    assert!(ink(&empty) > ink(&bare) + 500, "a title in dark ink");
}

#[test]
fn several_panels_and_a_table_are_rendered() {
    let mut compared =
        figure(2_000, &["perros", "comida", "fútbol", "política y otras cosas muy largas de nombrar"], 4);
    compared.layout.width = Some(1_200.0);
    compared.table = Some(Table {
        columns: ["model", "dimensions", "kNN accuracy", "silhouette"].map(str::to_owned).to_vec(),
        rows: (0..4)
            .map(|row| vec![format!("model-{row}"), "384".into(), "0.812 (0.801–0.823)".into(), "0.12".into()])
            .collect(),
    });
    let found = pixels("compare", &compared);
    assert_eq!(found.width(), 2_400);
    assert!(count_blue(&found) > 1_000);
}

#[test]
fn a_table_of_many_columns_is_written_smaller_and_not_cut() {
    let mut compared = figure(50, &["a"], 2);
    compared.layout.width = Some(900.0);
    let columns = (0..13).map(|column| format!("column number {column}")).collect::<Vec<_>>();
    compared.table = Some(Table { rows: vec![vec!["0.812 (0.801 to 0.823)".to_owned(); 13]], columns });
    let svg = String::from_utf8(render(&compared, PlotFormat::Svg).unwrap().bytes).unwrap();
    let number = |text: &str| text.split('"').next().unwrap().parse::<f32>().unwrap();
    let page: f32 = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let last = svg.rsplit("<text ").next().unwrap();
    let (x, size) = (number(last.split("x=\"").nth(1).unwrap()), number(last.split("font-size=\"").nth(1).unwrap()));
    assert!(last.contains("0.823)") && size < 12.0 && x + 9.0 * size < page, "{x} {size} {page}");
}

/// Numbers from 0.1 to 199.9, with every fiftieth missing.
pub(super) fn scored() -> Figure {
    let values: Vec<Option<String>> =
        (0..2_000).map(|row| (row % 50 > 0).then(|| format!("{}", f64::from(row) / 10.0))).collect();
    let labels = Labels::of_column("score", &values);
    assert!(matches!(labels, Labels::Continuous { .. }));
    Figure { labels, ..figure(2_000, &["a", "b", "c"], 1) }
}

#[test]
fn a_numeric_label_gets_a_colour_bar() {
    let found = pixels("numbers", &scored());
    assert!(count(&found, [0xCF, 0xCF, 0xCF]) > 50, "points without a number are grey");
}

#[test]
fn characters_without_a_font_are_reported() {
    // A private-use character: a font that has it would draw a logo.
    let labelled = figure(200, &["\u{10FFFD} nadie", "\u{202E}abc", "e\u{301}"], 1);
    let picture = render(&labelled, PlotFormat::Png).unwrap();
    assert_eq!(picture.missing_chars, "\u{10FFFD}");
    let replaced = svg::draw(&labelled).replace('\u{10FFFD}', "\u{FFFD}");
    assert!(
        picture.bytes == png::paint(&tree::read(&replaced, None).unwrap().0, 192.0).unwrap(),
        "it is replaced by U+FFFD"
    );
}

#[test]
fn figures_with_64_and_with_no_labels_are_rendered() {
    let names: Vec<String> = (0..64).map(|name| format!("etiqueta {name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    pixels("many", &figure(6_000, &names, 1));
    let plain = Figure { labels: Labels::None, hover: Vec::new(), ..figure(500, &["a"], 1) };
    assert!(count_blue(&pixels("plain", &plain)) > 100);
}

#[test]
fn figures_with_one_and_with_no_points_are_rendered() {
    for rows in [0, 1] {
        let figure = figure(rows, &["a"], 1);
        for format in [PlotFormat::Html, PlotFormat::Svg, PlotFormat::Png] {
            assert!(!render(&figure, format).unwrap().bytes.is_empty());
        }
    }
}

#[test]
fn a_pdf_has_vectors_and_text_of_embedded_fonts() {
    let mut figure = figure(600, &["perro & «gato»", "🐶", "zorro"], 1);
    figure.title = "¿Qué? título".into();
    let pdf = render(&figure, PlotFormat::Pdf).unwrap().bytes;
    keep("figure.pdf", &pdf);
    assert_eq!(pdf, render(&figure, PlotFormat::Pdf).unwrap().bytes, "the same bytes each time");
    let text = String::from_utf8_lossy(&pdf);
    assert!(text.starts_with("%PDF-1."));
    for font in ["ENCAJE+DejaVuSans", "ENCAJE+DejaVuSansBold"] {
        assert!(text.contains(&format!("/BaseFont /{font}")), "{font}");
    }
    assert!(text.contains("/ToUnicode") && !text.contains("/Image"), "letters can be copied, nothing is pixels");
}

#[test]
fn a_page_has_the_size_that_is_asked_for() {
    let mut figure = figure(50, &["a", "b"], 1);
    figure.layout = Layout { width: Some(680.0), height: Some(480.0), dpi: 300.0, ..Layout::default() };
    let drawn = render(&figure, PlotFormat::Png).unwrap().bytes;
    let pixels = Pixmap::decode_png(&drawn).unwrap();
    assert_eq!((pixels.width(), pixels.height()), (2_125, 1_500));
    assert_eq!(&drawn[37..50], b"pHYs\0\0\x2e\x23\0\0\x2e\x23\x01", "11,811 pixels per metre");
    let pdf = render(&figure, PlotFormat::Pdf).unwrap().bytes;
    assert!(String::from_utf8_lossy(&pdf).contains("/MediaBox [0 0 510 360]"));
}

#[test]
fn letters_come_from_a_font_file() {
    assert!(is_font(font::BOLD) && !is_font(b"no font"));
    let mut figure = figure(10, &["a"], 1);
    figure.layout.font = Some(font::BOLD.into());
    assert!(render(&figure, PlotFormat::Pdf).is_ok());
}

#[test]
fn every_label_is_named_among_the_points_or_beside_them() {
    let names: Vec<String> = (0..25).map(|name| format!("Thema {}{name}", name % 3)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut mixed = figure(5_000, &names, 1);
    mixed.panels[0].title.clear();
    let mut noise = Noise(5);
    mixed.panels[0].points = (0..5_000).map(|_| [noise.bell(), noise.bell()]).collect();
    mixed.panels[0].points[7] = [90.0, 90.0];
    let svg = String::from_utf8(render(&mixed, PlotFormat::Svg).unwrap().bytes).unwrap();
    for name in &names {
        let (short, whole) = (name.trim_start_matches("Thema "), name);
        assert!(svg.contains(&format!(">…{short}</text>")) && svg.contains(&format!(">{whole}</text>")), "{name}");
    }
    assert!(svg.contains("farther out: see the mark"));
}

#[test]
fn inconsistent_parts_are_refused() {
    let mut figure = figure(5, &["a", "b"], 2);
    figure.panels[1].points.pop();
    assert!(render(&figure, PlotFormat::Svg).unwrap_err().to_string().contains("model-1"));
    figure.panels[1].points.push([f32::NAN, 0.0]);
    assert!(render(&figure, PlotFormat::Svg).is_err());
}

#[test]
fn legend_counts_do_not_overlap_names() {
    let svg = String::from_utf8(
        render(&figure(3_000, &["\u{7}\u{7}\u{7}\u{7}\u{7}\u{7}", "b"], 1), PlotFormat::Svg).unwrap().bytes,
    );
    let svg = svg.unwrap();
    // The legend comes last: its names in letters of 13, its counts in letters of 11.
    let left_of = |part: &str| -> f32 {
        let line = svg.lines().rfind(|line| line.starts_with("<text") && line.contains(part)).unwrap();
        line.split('"').nth(1).unwrap().parse().unwrap()
    };
    let (name, count) = (left_of(">\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}<"), left_of("font-size=\"11\""));
    assert!(name + 6.0 * font::width("\u{FFFD}", 13.0, font::Weight::Regular) + 5.0 < count, "{name} {count}");
}

#[test]
fn svg_with_hostile_text_is_well_formed() {
    let evil = "</text><script>alert(1)</script>\u{0}\u{1b}]]>&\"'";
    let mut figure = figure(10, &["a"], 1);
    figure.title = evil.into();
    figure.labels = Labels::of_column(evil, &vec![Some(evil.to_owned()); 10]);
    let svg = String::from_utf8(render(&figure, PlotFormat::Svg).unwrap().bytes).unwrap();
    assert!(!svg.contains("<script"));
    assert!(resvg::usvg::Tree::from_str(&svg, &resvg::usvg::Options::default()).is_ok());
}

#[test]
fn a_heatmap_is_rendered() {
    let names =
        ["Por fin el calor está bajando", "Hoy vamos a comer unos tacos 🌮", "Me la pasé cocinando", "Tengo examen"];
    let mut noise = Noise(3);
    let values = (0..16).map(|at| if at % 5 == 0 { 1.0 } else { 0.3 + noise.next() * 0.5 }).collect();
    let map = Heatmap {
        title: "Cosine similarity".into(),
        subtitle: "4 texts, all-MiniLM-L6-v2".into(),
        names: names.map(str::to_owned).to_vec(),
        values,
    };
    let png = render_heatmap(&map, PlotFormat::Png).unwrap().bytes;
    keep("heatmap.png", &png);
    assert!(count(&Pixmap::decode_png(&png).unwrap(), [0xfd, 0xe7, 0x25]) > 4_000, "the diagonal");
}
