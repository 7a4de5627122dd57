//! The HTML page in a real browser: it draws, hovers, filters, searches, zooms, selects, executes nothing of the data and
//! logs no error.

use serde_json::json;

use super::browser_driver_tests::Page;
use super::tests::{EMOJIS, figure, scored};
use crate::umap::Nearest;

use super::{Figure, Heatmap, Labels, PlotFormat, render, render_heatmap};

pub(super) fn open(figure: &Figure, fragment: &str) -> Option<Page> {
    Page::open(&render(figure, PlotFormat::Html).unwrap().bytes, fragment)
}

fn opened(fragment: &str) -> Option<Page> {
    open(&figure(3_000, &EMOJIS, 2), fragment)
}

/// Exercises every interaction.
fn exercise(page: &mut Page) {
    assert_eq!(page.text("#status"), "3,000 points");
    for panel in 0..2 {
        assert!(page.painted_pixels(&format!("panels[{panel}].canvas")) > 2_000, "panel {panel} has points");
    }
    hovers(page);
    filters(page);
    searches(page);
    zooms(page);
    let theme = page.eval("document.documentElement.dataset.theme");
    let screen_position = page.middle("byId('theme')");
    page.mouse(screen_position, Some(0));
    assert_ne!(page.eval("document.documentElement.dataset.theme"), theme);
    assert_eq!(page.eval("document.scripts.length"), 2, "no script came out of the data");
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

fn hovers(page: &mut Page) {
    page.eval("showNames = false, redraw(), 0");
    let screen_position = page.screen_position(0, 1234);
    page.mouse(screen_position, None);
    assert_eq!(page.eval("byId('card').hidden"), false);
    let row = page.eval("hovered").as_u64().unwrap();
    let card = page.text("#card");
    assert!(card.contains(&format!("Oración número {row}: <script>alert({row})</script> & «más»")), "{card}");
    assert!(card.contains(&format!("id{row}")), "{card}");
    assert!(page.painted_pixels("panels[1].overlay") > 20, "the same row is marked in the other panel");
    page.mouse((5.0, 5.0), None);
    assert_eq!(page.eval("byId('card').hidden"), true);
    page.eval("showNames = true, redraw(), 0");
}

fn filters(page: &mut Page) {
    let first = page.eval("named().counts[0]").as_u64().unwrap();
    let button = page.middle("document.querySelector('#legend .label')");
    assert_eq!(page.eval("document.querySelector('#legend .label img').naturalWidth > 0"), true, "an emoji is drawn");
    page.mouse(button, Some(0));
    let others = format!("2,{} of 3,000 points (others hidden by “label”)", 1_000 - first);
    assert_eq!(page.text("#status"), others);
    page.mouse(button, Some(0));
    page.mouse(button, Some(8));
    let alone = format!("{first} of 3,000 points (others hidden by “label”)");
    assert_eq!(page.text("#status"), alone, "shift shows this label alone");
    page.mouse(button, Some(8));
    assert_eq!(page.text("#status"), "3,000 points");
}

fn searches(page: &mut Page) {
    page.key("/");
    assert_eq!(page.eval("document.activeElement.id"), "search");
    page.call("Input.insertText", json!({ "text": "NUMERO 29" }));
    page.wait_for_frames();
    let expected = (0..3_000).filter(|row| row.to_string().starts_with("29")).count();
    assert_eq!(page.text("#status"), format!("3,000 points · {expected} match"));
    assert_eq!(page.text("#hit-count"), format!("{expected} matches"));
    assert_eq!(page.eval("document.querySelectorAll('#hits li').length"), expected);
    assert_eq!(page.text("#hits mark"), "número 29", "accents and case are folded");
    let home = page.eval("panels[0].view.scale").as_f64().unwrap();
    page.key("Enter");
    page.wait_until("!panels[0].flight");
    assert!(page.eval("panels[0].view.scale").as_f64().unwrap() > 3.0 * home, "Enter shows the hit from near");
    assert!(page.text("#card").contains("Oración número 29:"));
    assert_eq!(page.text("#card mark"), "número 29");
    page.key("ArrowDown");
    page.wait_until("!panels[0].flight");
    assert!(page.text("#card").contains("Oración número 290:"), "the next hit");
    page.click("byId('hits').children[3]");
    page.wait_until("!panels[0].flight && hovered === 292");
    assert_eq!(page.eval("states[0] === DIM && states[292] === FOUND"), true, "others fade");
    page.click("byId('reset')");
    page.wait_until("!panels[0].flight");
    assert_eq!(page.text("#status"), "3,000 points");
    assert_eq!(page.eval("byId('card').hidden && byId('results').hidden"), true);
}

fn zooms(page: &mut Page) {
    let (x, y) = page.middle("panels[0].overlay");
    let scale = |page: &mut Page| page.eval("panels[0].view.scale").as_f64().unwrap();
    let before = scale(page);
    page.call("Input.dispatchMouseEvent", json!({ "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -400 }));
    page.wait_for_frames();
    assert!(scale(page) > before * 1.3);
    let middle = page.eval("panels[0].view.x").as_f64().unwrap();
    page.drag(&[(x, y), (x + 80.0, y)], 0);
    assert!(
        page.eval("panels[0].view.x").as_f64().unwrap() < middle,
        "dragging to the right moves the view to the left"
    );
    page.eval("panels[0].overlay.dispatchEvent(new MouseEvent('dblclick')), 0");
    page.wait_until("!panels[0].flight");
    assert!((scale(page) / before - 1.0).abs() < 1e-6);
    for (label, expected) in [("Zoom in", 1.8), ("Zoom in", 1.8 * 1.8), ("Zoom out", 1.8), ("Show everything", 1.0)] {
        page.click(&format!("document.querySelector('.zoom [aria-label=\"{label}\"]')"));
        page.wait_until("!panels[0].flight");
        assert!((scale(page) / before / expected - 1.0).abs() < 1e-6, "{label}");
    }
    assert_eq!(page.eval("size"), 1, "zoom is not the size of points");
    page.eval("byId('size').focus()");
    page.key("ArrowRight");
    assert_eq!((page.eval("size"), scale(page)), (json!(1.25), before), "nor the other way round");
}

#[test]
fn a_page_works_in_a_browser() {
    let Some(mut page) = opened("") else { return };
    exercise(&mut page);
}

#[test]
fn a_numeric_column_gets_a_colour_bar_with_round_ticks() {
    let Some(mut page) = open(&scored(), "") else { return };
    assert_eq!(
        page.eval("[...document.querySelectorAll('#bar-row li')].map((tick) => tick.textContent).join()"),
        "0.1,50,100,150,199.9"
    );
    let middle = |page: &mut Page, element: &str| page.middle(&format!("document.querySelector('{element}')")).1;
    let (bar, hundred) = (middle(&mut page, "#bar"), middle(&mut page, "#bar-row li:nth-child(3)"));
    assert!((bar - hundred).abs() < 2.0, "100 is at {hundred}, the middle of the bar at {bar}");
    assert_eq!(page.text("#legend p"), "(none) 40");
    let colours = "byId('bar').style.background + document.querySelector('.missing').style.background";
    let light = page.eval(colours);
    let theme = page.middle("byId('theme')");
    page.mouse(theme, Some(0));
    assert_ne!(page.eval(colours), light, "a dark page has colours that it shows");
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn overlapping_dimmed_points_stay_dim() {
    for fragment in ["", "#plain"] {
        let mut heap = figure(400, &["a"], 1);
        heap.panels[0].points = vec![[1.0, 1.0]; 400];
        let Some(mut page) = open(&heap, fragment) else { return };
        page.eval("showNames = false, setQuery('no such text')");
        page.wait_for_frames();
        let blue = "(() => { const c = panels[0].canvas, d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
                    let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 40 && d[i + 2] > d[i] + 40) n++; return n; })()";
        assert!(page.painted_pixels("panels[0].canvas") > 10);
        assert_eq!(page.eval(blue), 0, "{fragment}: the colour of the label");
    }
}

#[test]
fn points_come_back_after_the_graphics_memory_was_lost() {
    let Some(mut page) = opened("") else { return };
    if page.eval("painter.kind") != "webgl2" {
        return;
    }
    let before = page.painted_pixels("panels[0].canvas");
    page.eval("window.lost = painter.gl.getExtension('WEBGL_lose_context'), lost.loseContext()");
    page.eval("new Promise((done) => setTimeout(done, 50))");
    page.eval("painter.gl.canvas.addEventListener('webglcontextrestored', () => { window.isBack = true; }), lost.restoreContext()");
    page.wait_until("window.isBack");
    let after = page.painted_pixels("panels[0].canvas");
    assert!(after.abs_diff(before) < before / 20, "{before} {after}");
}

#[test]
fn a_screen_of_more_pixels_is_used_in_full() {
    let Some(mut page) = opened("") else { return };
    let width = page.eval("panels[0].canvas.width").as_u64().unwrap();
    for ratio in [2, 3] {
        let (wide, high) = (page.eval("innerWidth"), page.eval("innerHeight"));
        let screen = json!({ "width": wide, "height": high, "deviceScaleFactor": ratio, "mobile": false });
        page.call("Emulation.setDeviceMetricsOverride", screen);
        page.key("0");
        page.wait_until(&format!("Math.abs(panels[0].canvas.width - {ratio} * {width}) < 4"));
    }
    assert!(page.painted_pixels("panels[0].canvas") > 4_000);
}

#[test]
fn pages_of_one_and_of_no_points_work() {
    for rows in [0, 1] {
        let few = figure(rows, &["a"], 1);
        for figure in [Figure { hover: Vec::new(), labels: Labels::None, ..few.clone() }, few] {
            let Some(mut page) = open(&figure, "") else { return };
            page.click("document.querySelector('.zoom button')");
            page.click("byId('reset')");
            page.wait_until("!panels[0].flight");
            assert_eq!(page.text("#status"), if rows == 1 { "1 point" } else { "0 points" });
            assert!(page.errors.is_empty(), "{rows}: {:?}", page.errors);
        }
    }
}

#[test]
fn a_page_works_without_webgl() {
    let Some(mut page) = opened("#plain") else { return };
    assert_eq!(page.eval("document.documentElement.dataset.drawn"), "canvas");
    exercise(&mut page);
}

#[test]
fn keys_move_and_zoom_the_map_and_escape_ends_things() {
    let Some(mut page) = opened("") else { return };
    let home = page.eval("panels[0].view");
    page.eval("panels[0].overlay.focus()");
    page.key("ArrowLeft");
    page.key("ArrowUp");
    let moved = page.eval("panels[0].view");
    assert!(moved["x"].as_f64() < home["x"].as_f64() && moved["y"].as_f64() > home["y"].as_f64());
    page.key("+");
    page.wait_until("!panels[0].flight");
    assert!(page.eval("panels[0].view.scale").as_f64().unwrap() > 1.3 * home["scale"].as_f64().unwrap());
    page.key("0");
    page.wait_until("!panels[0].flight");
    assert_eq!(page.eval("panels[0].view"), home);
    page.key("Enter");
    assert_eq!(page.eval("pinned && !byId('card').hidden"), true, "the point in the middle has its card");
    page.key("Escape");
    assert_eq!(page.eval("pinned || !byId('card').hidden"), false);
    let unnamed = "[...document.querySelectorAll('button, input, select, canvas[tabindex]')].filter((e) => \
        !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).length";
    assert_eq!(page.eval(unnamed), 0, "every control has a name");
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn a_phone_pinches_drags_and_taps() {
    let Some(mut page) = opened("") else { return };
    page.be_a_phone();
    page.eval("panels[0].plot.scrollIntoView(), 0");
    assert_eq!(page.eval("document.documentElement.scrollWidth <= innerWidth"), true, "nothing is beyond the screen");
    let (x, y) = page.middle("panels[0].overlay");
    let home = page.eval("panels[0].view.scale").as_f64().unwrap();
    page.touch("touchStart", &[(x - 30.0, y), (x + 30.0, y)]);
    for step in 1..=6 {
        let apart = 30.0 + 10.0 * f64::from(step);
        page.touch("touchMove", &[(x - apart, y), (x + apart, y)]);
    }
    page.touch("touchEnd", &[]);
    page.wait_for_frames();
    assert!((page.eval("panels[0].view.scale").as_f64().unwrap() / home - 3.0).abs() < 0.1);
    assert_eq!(page.eval("pinned"), false, "a pinch is no tap");
    let middle = page.eval("panels[0].view.x").as_f64().unwrap();
    page.touch("touchStart", &[(x, y)]);
    page.touch("touchMove", &[(x - 60.0, y)]);
    page.touch("touchEnd", &[]);
    assert!(page.eval("panels[0].view.x").as_f64().unwrap() > middle);
    let row = page.eval("gridOf(panels[0]).nearest(panels[0].view.x, panels[0].view.y, 1e9, isSeen)").as_u64().unwrap();
    page.eval(&format!(
        "Object.assign(panels[0].view, {{ x: panels[0].xy[2 * {row}], y: panels[0].xy[2 * {row} + 1] }}), 0"
    ));
    page.touch("touchStart", &[(x + 6.0, y + 6.0)]);
    page.touch("touchEnd", &[]);
    page.wait_for_frames();
    assert_eq!(page.eval("pinned"), true, "a tap beside a point opens its card");
    assert!(page.text("#card").contains("Nearest on this map, model-0"));
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn a_closed_browser_leaves_no_files() {
    let Some(page) = opened("") else { return };
    let dir = page.dir.clone();
    assert!(dir.join("profile").exists());
    drop(page);
    assert!(!dir.exists());
}

#[test]
fn a_click_on_a_neighbour_goes_there() {
    let Some(mut page) = opened("") else { return };
    let position = page.screen_position(0, 1234);
    page.mouse(position, Some(0));
    let row = page.eval("hovered").as_u64().unwrap();
    let nearest = page.eval(&format!(
        "(() => {{ const xy = panels[0].xy, apart = (a) => Math.hypot(xy[2 * a] - xy[2 * {row}], xy[2 * a + 1] - xy[2 * {row} + 1]); \
         return [...Array(n).keys()].filter((a) => a !== {row}).sort((a, b) => apart(a) - apart(b) || a - b).slice(0, 8); }})()"
    ));
    assert_eq!(page.eval("neighbours"), nearest, "the nearest of all points");
    page.click("document.querySelector('#card li button')");
    page.wait_until("!panels[0].flight");
    assert_eq!(page.eval("[hovered, pinned]"), json!([nearest[0], true]));
    let (x, y) = (page.screen_position(0, nearest[0].as_u64().unwrap() as usize), page.middle("panels[0].overlay"));
    assert!((x.0 - y.0).abs() < 2.0 && (x.1 - y.1).abs() < 2.0, "it is in the middle of the map");
    page.click("document.querySelector('#card .close')");
    assert_eq!(page.eval("byId('card').hidden"), true);
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn neighbours_by_vectors_are_those_of_the_panel_in_use() {
    let mut figure = figure(100, &["a", "b"], 2);
    let nearest = |step: u32| Nearest {
        k: 2,
        ids: (0..100).flat_map(|row| [(row + step) % 100, (row + 2 * step) % 100]).collect(),
    };
    figure.panels[1].nearest = Some(nearest(7));
    for panel in &mut figure.panels {
        panel.points[3] = panel.points[2];
    }
    let Some(mut page) = open(&figure, "") else { return };
    let position = page.screen_position(1, 50);
    page.mouse(position, Some(0));
    let row = page.eval("hovered").as_u64().unwrap();
    assert_eq!(page.eval("neighbours"), json!([(row + 7) % 100, (row + 14) % 100]));
    assert!(page.text("#card").contains("Nearest by their vectors, model-1"));
    page.eval("go(2)");
    assert!(page.text("#card").contains("1 more row at the same place"));
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    figure.panels[0].nearest = Some(Nearest { k: 1, ids: vec![100; 100] });
    assert!(render(&figure, PlotFormat::Html).is_err(), "a neighbour that is no row");
}

#[test]
fn points_beyond_the_first_view_are_counted() {
    let mut far = figure(1_000, &["a"], 1);
    far.panels[0].points[7] = [900.0, 900.0];
    let Some(mut page) = open(&far, "") else { return };
    let outside = page.eval("data.panels[0].outside").as_u64().unwrap();
    assert_eq!(page.text("#left-out"), format!("{outside} points lie beyond the first view: zoom out to see them."));
    let inside = "(([x, y]) => x > 0 && y > 0 && x < panels[0].canvas.width && y < panels[0].canvas.height)(placeOf(panels[0], 7))";
    assert_eq!(page.eval(inside), false);
    for _ in 0..12 {
        page.click("document.querySelector('.zoom [aria-label=\"Zoom out\"]')");
        page.wait_until("!panels[0].flight");
    }
    assert_eq!(page.eval(inside), true);
}

#[test]
fn a_heat_map_is_dark_where_that_is_preferred_and_readable_on_a_phone() {
    let names: Vec<String> =
        (0..12).map(|text| format!("Una oración de cierta longitud, la número {text} 🌮")).collect();
    let values = (0..144).map(|at| 1.0 - (at / 12_i32 - at % 12).unsigned_abs() as f32 / 12.0).collect();
    let map = Heatmap { title: "Cosine similarity".into(), subtitle: "12 texts".into(), names, values };
    let Some(mut page) = Page::open(&render_heatmap(&map, PlotFormat::Html).unwrap().bytes, "") else { return };
    let ground = "getComputedStyle(document.querySelector('svg > rect')).fill";
    let letters = "getComputedStyle(document.querySelector('svg text[fill=\"#333333\"]')).fill";
    assert_eq!(page.eval(&format!("[{ground}, {letters}]")), json!(["rgb(255, 255, 255)", "rgb(51, 51, 51)"]));
    assert_eq!(page.eval("document.querySelector('.small').getBoundingClientRect().width"), 1);
    page.prefer_dark();
    assert_eq!(page.eval(&format!("[{ground}, {letters}]")), json!(["rgb(20, 22, 26)", "rgb(236, 236, 236)"]));
    page.be_a_phone();
    assert_eq!(page.eval("document.documentElement.scrollWidth <= innerWidth"), true);
    assert_eq!(page.eval("document.querySelector('.wide').getBoundingClientRect().width"), 0);
    let cell = "(() => { const cell = document.querySelectorAll('tbody td')[5], style = getComputedStyle(cell); \
        return [cell.textContent, parseFloat(style.fontSize) >= 12, cell.clientWidth >= 34, style.backgroundColor !== 'rgba(0, 0, 0, 0)']; })()";
    assert_eq!(page.eval(cell), json!(["0.58", true, true, true]));
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn names_follow_the_zoom_and_come_back_with_their_label() {
    let Some(mut page) = open(&figure(3_000, &["perros", "comida", "fútbol", ""], 1), "") else { return };
    let drawn = |page: &mut Page| {
        page.wait_for_frames();
        page.eval("panels[0].drawnNames")
    };
    let home = drawn(&mut page);
    let firsts = home.as_array().unwrap().clone();
    assert!(firsts.contains(&json!("perros")) && !firsts.contains(&json!("(none)")), "{firsts:?}");
    let perros = "document.querySelectorAll('#legend .label')[named().names.indexOf('perros')]";
    page.click(perros);
    assert!(!drawn(&mut page).as_array().unwrap().contains(&json!("perros")));
    page.click(perros);
    assert_eq!(drawn(&mut page), home);
    let names = "namesInSight(panels[0], 3, named()).length";
    assert!(page.eval(names).as_u64() > page.eval("namesInSight(panels[0], 0, named()).length").as_u64());
    let only = "document.querySelectorAll('#legend .only')[named().names.indexOf('perros')]";
    page.click(only);
    assert_eq!(drawn(&mut page), json!(["perros"]));
    page.click("document.querySelector('#legend .all')");
    assert_eq!(drawn(&mut page), home);
}
