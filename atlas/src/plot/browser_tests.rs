//! The HTML page in a real browser: it draws, hovers, filters, searches, zooms, executes nothing of the data and logs
//! no error. `scripts/setup.sh chromium` installs the browser, `ENCAJE_TEST_CHROMIUM` names another. Without one the
//! tests print a warning and pass, but not in CI.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::tests::{EMOJIS, figure, scored};
use super::{PlotFormat, render};

/// Finds a headless browser.
fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("ENCAJE_TEST_CHROMIUM").map(PathBuf::from);
    let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    named.or_else(|| {
        names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|path| path.is_file())
    })
}

/// A page in a browser, controlled by the `DevTools` protocol: JSON messages, NUL-terminated, over two pipes.
struct Page {
    browser: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    next_id: u64,
    /// Console errors, and requests to the network.
    errors: Vec<String>,
    loaded: bool,
    _dir: tempfile::TempDir,
}

impl Page {
    /// Opens a page; `None`, with a warning, without a browser.
    fn open(html: &[u8], fragment: &str) -> Option<Page> {
        let Some(program) = browser() else {
            assert!(std::env::var_os("CI").is_none(), "CI must have a browser: sh scripts/setup.sh chromium");
            eprintln!(
                "SKIPPED: no Chromium found; `sh scripts/setup.sh chromium` installs it. THE PAGE IS NOT TESTED."
            );
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("page.html");
        std::fs::write(&file, html).unwrap();
        let mut browser = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 >/dev/null 2>&1"#])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--remote-debugging-pipe", "--enable-unsafe-swiftshader"])
            .args(["--disable-dev-shm-usage", "--window-size=1200,800", "--no-first-run"])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (browser.stdin.take().unwrap(), BufReader::new(browser.stdout.take().unwrap()));
        let (session, errors) = (None, Vec::new());
        let mut page = Page { browser, to, from, session, next_id: 0, errors, loaded: false, _dir: dir };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.loaded = false;
        page.call("Page.navigate", json!({ "url": format!("file://{}{fragment}", file.display()) }));
        while !page.loaded {
            let message = page.receive();
            page.record_event(&message);
        }
        page.wait_for_frames();
        Some(page)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let mut message = json!({ "id": self.next_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.receive();
            if answer["id"] == json!(self.next_id) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.record_event(&answer);
        }
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert!(bytes.pop().is_some(), "the browser went away");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Records an event that is an error.
    fn record_event(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => self.loaded = true,
            "Runtime.exceptionThrown" => self.errors.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if params["type"] == "error" || params["type"] == "warning" => {
                self.errors.push(params["args"].to_string());
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string());
            }
            "Page.javascriptDialogOpening" => self.errors.push(format!("a dialog: {params}")),
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("file:") && !url.starts_with("data:") {
                    self.errors.push(format!("requested {url}"));
                }
            }
            _ => {}
        }
    }

    /// Evaluates an expression in the page, awaiting promises.
    fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until pending frames are drawn.
    fn wait_for_frames(&mut self) {
        self.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(() => done(1)))))");
    }

    fn text(&mut self, selector: &str) -> String {
        self.eval(&format!("document.querySelector({}).textContent", json!(selector))).as_str().unwrap().to_owned()
    }

    /// Moves the pointer, and clicks if `press` gives modifiers.
    fn mouse(&mut self, (x, y): (f64, f64), press: Option<u32>) {
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
        for kind in ["mousePressed", "mouseReleased"].into_iter().filter(|_| press.is_some()) {
            let params = json!({
                "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1, "modifiers": press.unwrap_or(0),
            });
            self.call("Input.dispatchMouseEvent", params);
        }
        self.wait_for_frames();
    }

    /// Returns the centre of an element.
    fn middle(&mut self, element: &str) -> (f64, f64) {
        let screen_position = self.eval(&format!(
            "(() => {{ const b = ({element}).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        (screen_position[0].as_f64().unwrap(), screen_position[1].as_f64().unwrap())
    }

    /// Returns the screen position of a row's point in a panel.
    fn screen_position(&mut self, panel: usize, row: usize) -> (f64, f64) {
        let screen_position = self.eval(&format!(
            "(() => {{ const p = panels[{panel}], b = p.overlay.getBoundingClientRect(); \
             const [x, y] = toScreen(p, p.xy[2 * {row}], p.xy[2 * {row} + 1]); \
             return [b.x + x / devicePixelRatio, b.y + y / devicePixelRatio]; }})()"
        ));
        (screen_position[0].as_f64().unwrap(), screen_position[1].as_f64().unwrap())
    }

    /// Counts the non-empty pixels of a canvas.
    fn painted_pixels(&mut self, canvas: &str) -> u64 {
        self.eval(&format!(
            "(() => {{ const c = {canvas}; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
             let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i] > 40) n++; return n; }})()"
        ))
        .as_u64()
        .unwrap()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.browser.kill().ok();
        self.browser.wait().ok();
    }
}

fn opened(fragment: &str) -> Option<Page> {
    Page::open(&render(&figure(3_000, &EMOJIS, 2), PlotFormat::Html).unwrap().bytes, fragment)
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
    let first = page.eval("names.counts[0]").as_u64().unwrap();
    let button = page.middle("document.querySelector('#legend button')");
    assert_eq!(page.eval("document.querySelector('#legend button img').naturalWidth > 0"), true, "an emoji is drawn");
    page.mouse(button, Some(0));
    assert_eq!(page.text("#status"), format!("2,{} of 3,000 points", 1_000 - first));
    page.mouse(button, Some(0));
    page.mouse(button, Some(8));
    assert_eq!(page.text("#status"), format!("{first} of 3,000 points"), "shift shows this label alone");
    page.mouse(button, Some(8));
    assert_eq!(page.text("#status"), "3,000 points");
}

fn searches(page: &mut Page) {
    page.eval("byId('search').focus()");
    page.call("Input.insertText", json!({ "text": "NÚMERO 29" }));
    page.wait_for_frames();
    let expected = (0..3_000).filter(|row| row.to_string().starts_with("29")).count();
    assert_eq!(page.text("#status"), format!("{expected} of 3,000 points match"));
    let screen_position = page.screen_position(0, 2950);
    page.mouse(screen_position, None);
    assert_eq!(page.text("#card mark"), "número 29");
    let reset = page.middle("byId('reset')");
    page.mouse(reset, Some(0));
    assert_eq!(page.text("#status"), "3,000 points");
}

fn zooms(page: &mut Page) {
    let (x, y) = page.middle("panels[0].overlay");
    let before = page.eval("panels[0].view.scale").as_f64().unwrap();
    page.call("Input.dispatchMouseEvent", json!({ "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -400 }));
    page.wait_for_frames();
    assert!(page.eval("panels[0].view.scale").as_f64().unwrap() > before * 1.3);
    let middle = page.eval("panels[0].view.x").as_f64().unwrap();
    let press =
        |kind: &str, x: f64| json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
    page.call("Input.dispatchMouseEvent", press("mousePressed", x));
    page.call("Input.dispatchMouseEvent", press("mouseMoved", x + 80.0));
    page.call("Input.dispatchMouseEvent", press("mouseReleased", x + 80.0));
    assert!(
        page.eval("panels[0].view.x").as_f64().unwrap() < middle,
        "dragging to the right moves the view to the left"
    );
    page.eval("panels[0].overlay.dispatchEvent(new MouseEvent('dblclick')), 0");
    page.wait_for_frames();
    assert!((page.eval("panels[0].view.scale").as_f64().unwrap() / before - 1.0).abs() < 1e-6);
}

#[test]
fn a_page_works_in_a_browser() {
    let Some(mut page) = opened("") else { return };
    exercise(&mut page);
}

#[test]
fn a_numeric_column_gets_a_colour_bar_with_round_ticks() {
    let Some(mut page) = Page::open(&render(&scored(), PlotFormat::Html).unwrap().bytes, "") else { return };
    assert_eq!(
        page.eval("[...document.querySelectorAll('#bar-row li')].map((tick) => tick.textContent).join()"),
        "50,100,150"
    );
    let middle = |page: &mut Page, element: &str| page.middle(&format!("document.querySelector('{element}')")).1;
    let (bar, hundred) = (middle(&mut page, "#bar"), middle(&mut page, "#bar-row li:nth-child(2)"));
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
        let Some(mut page) = Page::open(&render(&heap, PlotFormat::Html).unwrap().bytes, fragment) else { return };
        page.eval("showNames = false, query = 'no such text', applyStates()");
        page.wait_for_frames();
        let blue = "(() => { const c = panels[0].canvas, d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
                    let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 40 && d[i + 2] > d[i] + 40) n++; return n; })()";
        assert!(page.painted_pixels("panels[0].canvas") > 10);
        assert_eq!(page.eval(blue), 0, "{fragment}: the colour of the label");
    }
}

#[test]
fn a_page_works_without_webgl() {
    let Some(mut page) = opened("#plain") else { return };
    assert_eq!(page.eval("document.documentElement.dataset.drawn"), "canvas");
    exercise(&mut page);
}
