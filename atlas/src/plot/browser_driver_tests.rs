//! A page in a headless browser, for tests. `scripts/setup.sh chromium` installs the browser, `ENCAJE_TEST_CHROMIUM`
//! names another. Without one tests print a warning and pass, but not in CI.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
pub(super) struct Page {
    browser: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    next_id: u64,
    /// Console errors, and requests to the network.
    pub(super) errors: Vec<String>,
    loaded: bool,
    /// The page, the browser's profile and its downloads.
    pub(super) dir: PathBuf,
}

impl Page {
    /// Opens a page; `None`, with a warning, without a browser.
    pub(super) fn open(html: &[u8], fragment: &str) -> Option<Page> {
        let Some(program) = browser() else {
            assert!(std::env::var_os("CI").is_none(), "CI must have a browser: sh scripts/setup.sh chromium");
            eprintln!(
                "SKIPPED: no Chromium found; `sh scripts/setup.sh chromium` installs it. THE PAGE IS NOT TESTED."
            );
            return None;
        };
        let dir = tempfile::tempdir().unwrap().keep();
        let file = dir.join("page.html");
        std::fs::write(&file, html).unwrap();
        let mut browser = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 >/dev/null 2>&1"#])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--remote-debugging-pipe", "--enable-unsafe-swiftshader"])
            .args(["--disable-dev-shm-usage", "--window-size=1200,800", "--no-first-run"])
            .arg(format!("--user-data-dir={}", dir.join("profile").display()))
            .env("TMPDIR", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (browser.stdin.take().unwrap(), BufReader::new(browser.stdout.take().unwrap()));
        let (session, errors) = (None, Vec::new());
        let mut page = Page { browser, to, from, session, next_id: 0, errors, loaded: false, dir };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.navigate(fragment);
        Some(page)
    }

    /// Reloads the page with this fragment of its URL.
    pub(super) fn navigate(&mut self, fragment: &str) {
        self.load("about:blank");
        let file = self.dir.join("page.html");
        self.load(&format!("file://{}{fragment}", file.display()));
        self.wait_for_frames();
    }

    fn load(&mut self, url: &str) {
        self.loaded = false;
        self.call("Page.navigate", json!({ "url": url }));
        while !self.loaded {
            let message = self.receive();
            self.record_event(&message);
        }
    }

    pub(super) fn call(&mut self, method: &str, params: Value) -> Value {
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
    pub(super) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until pending frames are drawn.
    pub(super) fn wait_for_frames(&mut self) {
        self.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(() => done(1)))))");
    }

    /// Waits until an expression is true; views and the link follow with a delay.
    pub(super) fn wait_until(&mut self, expression: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.eval(&format!("Boolean({expression})")) != json!(true) {
            assert!(Instant::now() < deadline, "never true: {expression}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait_for_frames();
    }

    /// Clicks the middle of an element.
    pub(super) fn click(&mut self, element: &str) {
        self.eval(&format!("({element}).scrollIntoView({{ block: 'nearest' }}), 0"));
        let position = self.middle(element);
        self.mouse(position, Some(0));
    }

    /// Drags with the left button from the first of these positions through the others.
    pub(super) fn drag(&mut self, path: &[(f64, f64)], modifiers: u32) {
        for (index, (x, y)) in path.iter().enumerate() {
            let kind = if index == 0 { "mousePressed" } else { "mouseMoved" };
            let params = json!({
                "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1, "modifiers": modifiers,
            });
            self.call("Input.dispatchMouseEvent", params);
        }
        let (x, y) = path[path.len() - 1];
        let params = json!({ "type": "mouseReleased", "x": x, "y": y, "button": "left", "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", params);
        self.wait_for_frames();
    }

    /// Presses and releases a key.
    pub(super) fn key(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "ArrowRight" => 39,
            _ => 0,
        };
        let mut params = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code });
        if key.chars().count() == 1 {
            params["text"] = json!(key);
        }
        self.call("Input.dispatchKeyEvent", params);
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }));
        self.wait_for_frames();
    }

    /// Sends a touch event with these fingers.
    pub(super) fn touch(&mut self, kind: &str, fingers: &[(f64, f64)]) {
        let points: Vec<Value> =
            fingers.iter().enumerate().map(|(id, (x, y))| json!({ "x": x, "y": y, "id": id })).collect();
        self.call("Input.dispatchTouchEvent", json!({ "type": kind, "touchPoints": points }));
    }

    /// Prefers dark pages.
    pub(super) fn prefer_dark(&mut self) {
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.call("Emulation.setEmulatedMedia", dark);
        self.wait_for_frames();
    }

    /// Becomes a phone's screen.
    pub(super) fn be_a_phone(&mut self) {
        let screen = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
        self.call("Emulation.setDeviceMetricsOverride", screen);
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": true, "maxTouchPoints": 5 }));
        self.wait_for_frames();
    }

    pub(super) fn text(&mut self, selector: &str) -> String {
        self.eval(&format!("document.querySelector({}).textContent", json!(selector))).as_str().unwrap().to_owned()
    }

    /// Moves the pointer, and clicks if `press` gives modifiers.
    pub(super) fn mouse(&mut self, (x, y): (f64, f64), press: Option<u32>) {
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
    pub(super) fn middle(&mut self, element: &str) -> (f64, f64) {
        let screen_position = self.eval(&format!(
            "(() => {{ const b = ({element}).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        (screen_position[0].as_f64().unwrap(), screen_position[1].as_f64().unwrap())
    }

    /// Returns the screen position of a row's point in a panel.
    pub(super) fn screen_position(&mut self, panel: usize, row: usize) -> (f64, f64) {
        let screen_position = self.eval(&format!(
            "(() => {{ const p = panels[{panel}], b = p.overlay.getBoundingClientRect(); \
             const [x, y] = toScreen(p, p.xy[2 * {row}], p.xy[2 * {row} + 1]); \
             return [b.x + x / devicePixelRatio, b.y + y / devicePixelRatio]; }})()"
        ));
        (screen_position[0].as_f64().unwrap(), screen_position[1].as_f64().unwrap())
    }

    /// Counts the non-empty pixels of a canvas.
    pub(super) fn painted_pixels(&mut self, canvas: &str) -> u64 {
        self.eval(&format!(
            "(() => {{ const c = {canvas}; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
             let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i] > 40) n++; return n; }})()"
        ))
        .as_u64()
        .unwrap()
    }
}

impl Drop for Page {
    /// Ends the browser with its child processes, which write into the profile until they end.
    fn drop(&mut self) {
        const WAIT: Duration = Duration::from_secs(10);
        let deadline = Instant::now() + WAIT;
        self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0").ok();
        while self.browser.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.browser.kill().ok();
        self.browser.wait().ok();
        while std::fs::remove_dir_all(&self.dir).is_err() && self.dir.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
