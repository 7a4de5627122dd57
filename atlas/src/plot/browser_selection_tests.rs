//! The page in a real browser: selections, their table and download, colours and filters by column, the address, hostile
//! texts.

use serde_json::json;

use super::browser_driver_tests::Page;
use super::browser_tests::open;
use super::tests::figure;
use super::{Figure, HoverColumn, Labels, html, page_data};

/// Points on a square of 10 by 10, with columns of every kind.
fn square() -> Figure {
    let column = |name: &str, value: fn(usize) -> String| HoverColumn {
        name: name.into(),
        values: (0..100).map(value).collect(),
    };
    let labels: Vec<Option<String>> = (0..100).map(|row| Some(["a", "b"][row % 2].to_owned())).collect();
    let mut square = figure(100, &["a", "b"], 1);
    square.title = "square".into();
    square.panels[0].points = (0..100).map(|row| [(row % 10) as f32, (row / 10) as f32]).collect();
    square.labels = Labels::of_column("label", &labels);
    square.hover = vec![
        column("text", |row| match row {
            0 => "=HYPERLINK(\"http://example.com\")".into(),
            1 => "dos\nlíneas, \"comillas\"".into(),
            2 => "@usuario;=1+1 ;-)".into(),
            _ => format!("texto {row}"),
        }),
        column("label", |row| ["a", "b"][row % 2].into()),
        column("score", |row| format!("{}", 1.5 - 1.5 * (row as f64 + 1.0))),
        column("day", |row| format!("2024-03-{:02}", 1 + row % 25)),
        column("kind", |row| ["red", "green", "blue"][row % 3].into()),
        column("row", |row| row.to_string()),
    ];
    square
}

/// Selects the rows of the square whose column and line are below these.
fn select_corner(page: &mut Page, (columns, lines): (usize, usize)) {
    let (x, y) = (page.screen_position(0, 0), page.screen_position(0, 11));
    let (dx, dy) = (y.0 - x.0, y.1 - x.1);
    let end = (x.0 + dx * (columns as f64 - 0.5), x.1 + dy * (lines as f64 - 0.5));
    page.drag(&[(x.0 - dx * 0.2, x.1 - dy * 0.2), (x.0, x.1), end], 0);
}

#[test]
fn a_box_and_a_lasso_select_rows_for_a_table_and_a_download() {
    let Some(mut page) = open(&square(), "") else { return };
    page.click("document.querySelector('#modes [value=box]')");
    select_corner(&mut page, (3, 2));
    assert_eq!(page.text("#status"), "100 points · 6 selected");
    assert_eq!(page.text("#tray-title"), "6 rows selected");
    let rows = "[...document.querySelectorAll('#rows tbody tr:not(.space)')].map((line) => line.lastElementChild.textContent).join()";
    assert_eq!(page.eval(rows), "0,1,2,10,11,12");
    assert_eq!(page.eval("states[0] === SHOWN && states[99] === DIM"), true, "the others fade");
    page.click("document.querySelectorAll('#rows th button')[2]");
    assert_eq!(page.eval(rows), "12,11,10,2,1,0", "scores are numbers below zero");
    page.click("document.querySelectorAll('#rows th button')[2]");
    assert_eq!(page.eval(rows), "0,1,2,10,11,12");
    page.click("document.querySelectorAll('#rows tbody tr:not(.space)')[4]");
    page.wait_until("!panels[0].flight");
    assert_eq!(page.eval("hovered"), 11, "a click on a row goes to its point");
    page.key("Escape");
    let file = downloaded(&mut page);
    assert_eq!(file.lines().next().unwrap(), "\u{feff}text,label,score,day,kind,row");
    assert!(file.contains("\r\n\"'=HYPERLINK(\"\"http://example.com\"\")\",a,0,2024-03-01,red,0\r\n"), "{file}");
    assert!(file.contains("\r\n\"dos\nlíneas, \"\"comillas\"\"\",b,-1.5,2024-03-02,green,1\r\n"), "{file}");
    assert!(file.contains("\r\n'@usuario;'=1+1 ;-),a,-3,2024-03-03,blue,2\r\n"), "{file}");
    page.click("byId('safe')");
    assert!(downloaded(&mut page).contains("\r\n@usuario;=1+1 ;-),a,-3,"), "without apostrophes if so asked");
    page.eval("panels[0].overlay.focus()");
    page.key("Escape");
    assert_eq!(page.text("#status"), "100 points");
    assert_eq!(page.eval("byId('tray').hidden"), true);
    page.click("document.querySelector('.zoom [aria-label=\"Show everything\"]')");
    page.wait_until("!panels[0].flight");
    lassoes(&mut page);
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

fn lassoes(page: &mut Page) {
    page.click("document.querySelector('#modes [value=lasso]')");
    // A triangle around the rows 44, 45, 46 and 55.
    let corners = [33usize, 37, 75, 33].map(|row| page.screen_position(0, row));
    let path: Vec<(f64, f64)> = corners
        .windows(2)
        .flat_map(|pair| {
            let (from, to) = (pair[0], pair[1]);
            (0..8).map(move |step| {
                let part = f64::from(step) / 8.0;
                (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part + 1.0)
            })
        })
        .collect();
    page.drag(&path, 0);
    let selected = page.eval("[...selection].flatMap((is, row) => is ? [row] : []).join()");
    let selected = selected.as_str().unwrap().to_owned();
    assert!(
        selected.contains("44,45,46")
            && selected.contains("55")
            && !selected.contains("43,")
            && !selected.contains("47"),
        "{selected}"
    );
}

/// Downloads the table and returns the file.
fn downloaded(page: &mut Page) -> String {
    let dir = page.dir.join("downloads");
    std::fs::remove_dir_all(&dir).ok();
    page.call("Page.setDownloadBehavior", json!({ "behavior": "allow", "downloadPath": dir }));
    page.click("byId('download')");
    let file = dir.join("square.csv");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !file.exists() {
        assert!(std::time::Instant::now() < deadline, "no file was downloaded");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn another_column_gives_colours_and_filters() {
    let Some(mut page) = open(&square(), "") else { return };
    let options = "[...byId('colour').options].map((option) => option.textContent).join()";
    assert_eq!(page.eval(options), "one colour,label,score,day,kind");
    page.eval("byId('colour').focus()");
    page.call("Input.insertText", json!({ "text": "" }));
    page.eval("byId('colour').value = '3', byId('colour').dispatchEvent(new Event('change')), 0");
    page.wait_for_frames();
    assert_eq!(page.eval("colouring.column"), "kind");
    assert!(page.text("#legend").contains("green"));
    page.click("document.querySelectorAll('#legend .label')[0]");
    assert_eq!(page.text("#status"), "66 of 100 points (others hidden by “kind”)");
    page.click("document.querySelector('#legend .all')");
    page.click("document.querySelector('#filters summary')");
    page.wait_for_frames();
    let bins = page.eval("document.querySelectorAll('#filters details[open] rect').length").as_u64();
    assert_eq!(bins, Some(48));
    let edges = page.eval("(() => { const b = document.querySelector('#filters svg').getBoundingClientRect(); return [b.left, b.right, b.top + 9]; })()");
    let edge = |at: usize| edges[at].as_f64().unwrap();
    let at = |share: f64| (edge(0) + (edge(1) - edge(0)) * share, edge(2));
    page.drag(&[at(0.5), at(0.7), at(1.05)], 0);
    let status = page.text("#status");
    assert!(
        status.starts_with("50 of 100 points (others hidden by “score”)") || status.starts_with("49 of"),
        "{status}"
    );
    assert!(page.text("#filters summary").contains("– 0"), "{}", page.text("#filters summary"));
    page.mouse(at(0.3), Some(0));
    assert_eq!(page.text("#status"), "100 points", "a click ends the filter");
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn the_address_restores_what_is_seen() {
    let Some(mut page) = open(&square(), "") else { return };
    page.click("document.querySelectorAll('#legend .label')[0]");
    page.eval("setColouring(1), colourings[1].setRange(0.5, 1), 0");
    page.click("byId('search')");
    page.call("Input.insertText", json!({ "text": "texto 1" }));
    page.key("Enter");
    page.wait_until("!panels[0].flight && location.hash.includes('point') && location.hash.includes('view')");
    let seen =
        "[colouring.column, query, hovered, pinned, panels[0].view, colourings[0].hidden.size, [...states].join('')]";
    let (before, address) = (page.eval(seen), page.eval("location.hash"));
    page.navigate(address.as_str().unwrap());
    page.wait_until("!isRestoring");
    let after = page.eval(seen);
    for part in [0, 1, 2, 3, 5, 6] {
        assert_eq!(after[part], before[part]);
    }
    let close = |key: &str| (after[4][key].as_f64().unwrap() - before[4][key].as_f64().unwrap()).abs() < 1e-3;
    assert!(close("x") && close("y") && close("scale"), "{before} {after}");
    assert_eq!(page.eval("link()"), address.as_str().unwrap()[1..]);
    for hostile in [
        "#point=1e9&view=NaN,1,2&hidden=9:1;0:77;0:x&colour=99&range=0:1,2;1:9,1",
        "#%00&search=%3Cimg%20src=x%20onerror=alert(1)%3E",
    ] {
        page.navigate(hostile);
        page.wait_until("!isRestoring");
        assert_eq!(page.eval("document.images.length"), 0);
    }
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn hostile_texts_are_harmless_everywhere() {
    let evil = "</script><img src=x onerror=alert(1)>\u{202E}\u{2066}\n\t\u{0}{{script}}<!--";
    let mut figure = square();
    for column in &mut figure.hover {
        column.name = format!("{evil} {}", column.name);
        for (row, value) in column.values.iter_mut().enumerate() {
            *value = format!("{evil}{}", row % 7);
        }
    }
    figure.hover[0].values[5] = format!("aguja {}", "<b>ñ</b>\u{202E}".repeat(12_500));
    figure.labels = Labels::of_column(evil, &figure.hover[1].values.iter().cloned().map(Some).collect::<Vec<_>>());
    let Some(mut page) = open(&figure, "") else { return };
    page.click("document.querySelector('#legend .label')");
    page.click("document.querySelector('#legend .label')");
    page.click("byId('table')");
    page.click("document.querySelectorAll('#rows th button')[1]");
    page.click("byId('search')");
    page.call("Input.insertText", json!({ "text": "onerror" }));
    page.key("Enter");
    page.wait_until("!panels[0].flight");
    assert_eq!(page.text("#card mark"), "onerror");
    page.eval("byId('search').value = '', setQuery('')");
    page.call("Input.insertText", json!({ "text": "AGUJA" }));
    page.key("Enter");
    page.wait_until("!panels[0].flight && hovered === 5");
    assert!(page.text("#card").chars().count() > 100_000);
    let shown = page.eval("document.body.innerText.replace(/[^\\u202a-\\u202e\\u2066-\\u2069]/g, '').length");
    assert_eq!(shown, 0, "nothing changes the direction of the text around it");
    assert_eq!(
        page.eval("document.scripts.length + document.images.length + document.querySelectorAll('b').length"),
        2
    );
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn a_table_of_200_000_rows_has_few_elements() {
    let mut large = figure(200_000, &["a", "b", "c"], 1);
    large.hover.truncate(2);
    let Some(mut page) = open(&large, "") else { return };
    let opacity = |page: &mut Page, count: u32| {
        page.eval(&format!("opacityOf(panels[0], radiusOf(panels[0]), {count})")).as_f64().unwrap()
    };
    assert!(opacity(&mut page, 200_000) < 0.5, "points shine through where they lie on each other");
    assert!(opacity(&mut page, 2_000) > 0.7, "but not the few that are drawn while the view moves");
    page.click("byId('table')");
    page.wait_for_frames();
    let lines = "document.querySelectorAll('#rows tr').length";
    assert!(page.eval(lines).as_u64().unwrap() < 100);
    page.eval("byId('rows').focus()");
    page.key("End");
    page.wait_for_frames();
    assert!(page.text("#rows tr.active").contains("199999"), "{}", page.text("#rows tr.active"));
    page.click("document.querySelectorAll('#rows th button')[1]");
    page.click("document.querySelectorAll('#rows th button')[1]");
    page.key("Home");
    assert!(page.text("#tray-title").contains("200,000 rows"));
    assert!(page.eval(lines).as_u64().unwrap() < 100);
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn the_list_of_matches_leaves_the_map_of_a_phone_free() {
    let Some(mut page) = open(&square(), "") else { return };
    page.be_a_phone();
    page.click("byId('search')");
    page.call("Input.insertText", json!({ "text": "texto" }));
    page.wait_for_frames();
    assert_eq!(page.eval("byId('results').hidden"), false);
    let hit = page.middle("byId('hits').children[1]");
    page.touch("touchStart", &[hit]);
    page.touch("touchEnd", &[]);
    page.wait_until("!panels[0].flight && pinned");
    assert_eq!(page.eval("[byId('results').hidden, query]"), json!([true, "texto"]));
    page.click("document.querySelector('#card .close')");
    page.click("byId('search')");
    assert_eq!(page.eval("byId('results').hidden"), false, "the search box shows it again");
    page.click("document.querySelector('h1')");
    assert_eq!(page.eval("byId('results').hidden"), true, "and a tap elsewhere hides it");
    page.click("byId('table')");
    let top = "(id) => document.querySelector(id).getBoundingClientRect().top";
    assert_eq!(
        page.eval(&format!("({top})('#panels') < ({top})('#tray') && ({top})('#tray') < ({top})('aside')")),
        true
    );
    assert_eq!(page.eval("document.documentElement.scrollWidth <= innerWidth"), true);
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn a_page_without_room_for_its_texts_says_so_and_works() {
    let mut square = square();
    square.hover[0].values.iter_mut().for_each(|text| text.push_str(&"x".repeat(80)));
    let html = html::page_with(&square, &page_data::data_within(&square, 4_000));
    let Some(mut page) = Page::open(html.as_bytes(), "") else { return };
    let said = "So that browsers can open this file: column “text” is left out.";
    assert!(page.text("#left-out").ends_with(said), "{}", page.text("#left-out"));
    assert_eq!(page.eval("byId('search').hidden"), true);
    let position = page.screen_position(0, 44);
    page.mouse(position, Some(0));
    assert!(page.text("#card dl").starts_with("labela"), "{}", page.text("#card dl"));
    page.click("byId('table')");
    assert_eq!(page.text("#rows th"), "label");
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}
