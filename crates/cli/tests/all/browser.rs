//! A real Chromium without a screen, driven by WebDriver (W3C) through its own driver. The protocol is JSON over HTTP, and a
//! dozen of its commands are all that is needed here.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Longest wait for the page; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);
const WIDTH: u32 = 1280;
const HEIGHT: u32 = 900;
/// How WebDriver names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
pub const ENTER: &str = "\u{e007}";
pub const TAB: &str = "\u{e004}";

/// A browser with one window; ended when dropped.
pub struct Browser {
    driver: Child,
    session: String,
    /// Where it puts its files, some of which outlive it.
    _files: tempfile::TempDir,
}

impl Browser {
    /// # Panics
    /// Where there is no Chromium: these tests are not left out.
    pub fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "`chromedriver` cannot be started ({error}); `cargo xtask test` installs Chromium and its driver as \
                     root, Debian has them as `chromium` and `chromium-driver`"
                )
            });
        let port =
            BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok).find_map(|line| {
                let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
                Some(port.trim_end_matches('.').to_owned())
            });
        let address = format!("http://127.0.0.1:{}/session", port.expect("the driver says where it listens"));
        let arguments = [
            "--headless=new",
            // The pages are ours, and root has no other way.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            // Whatever a browser likes to ask of whom: this machine is all that there is.
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
            &format!("--window-size={WIDTH},{HEIGHT}"),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let mut browser = Self { driver, session: address, _files: files };
        // On a machine that is busy, a browser is sometimes too late for its driver.
        let session = (0..2).find_map(|_| browser.try_post("", &wanted).ok());
        let session = session.unwrap_or_else(|| browser.post("", &wanted));
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser.show_at(WIDTH);
        browser
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.try_post(command, body).unwrap_or_else(|problem| panic!("`{command}`: {problem}"))
    }

    fn try_post(&self, command: &str, body: &Value) -> Result<Value, Value> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let request = ureq::Agent::new_with_config(config).post(format!("{}{command}", self.session));
        let mut response = request.send_json(body).unwrap();
        let is_success = response.status().is_success();
        let mut value = response.body_mut().with_config().limit(64 << 20).read_json::<Value>().unwrap();
        if is_success { Ok(value["value"].take()) } else { Err(value["value"].take()) }
    }

    pub fn open(&self, address: &str) {
        self.post("/url", &json!({ "url": address }));
    }

    /// Calls a function of the page with this body.
    pub fn run(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// The value of an expression.
    pub fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression};"))
    }

    /// The text that is shown of the first element that fits.
    pub fn text(&self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({})?.innerText", json!(selector)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression holds, and answers its value.
    pub fn wait(&self, expression: &str) -> Value {
        let since = Instant::now();
        loop {
            let value = self.value(expression);
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            if since.elapsed() > PATIENCE {
                self.photograph("failed");
                let (text, log) = (self.text("body"), self.log());
                panic!("`{expression}` did not come about; the page says:\n{text}\nand its console {log:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the first element that fits shows that text, whatever else.
    pub fn wait_for(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.wait(&format!("document.querySelector({selector})?.innerText.includes({text})"));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks where a person would, which fails where something else lies there.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into an element.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses a key, wherever the focus is.
    pub fn press(&self, key: &str) {
        let strokes = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.post("/actions", &json!({ "actions": [keyboard] }));
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// As a window that wide shows it.
    pub fn show_at(&self, width: u32) {
        let size = json!({ "width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// As somebody wants it who prefers `light` or `dark`, and movement or none.
    pub fn prefer(&self, scheme: &str, motion: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": motion },
        ]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Puts a picture of the whole page into `target/screenshots`.
    pub fn photograph(&self, name: &str) {
        let size =
            self.value("[document.documentElement.clientWidth, document.documentElement.scrollHeight]");
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let wanted = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let taken =
            self.post("/goog/cdp/execute", &json!({ "cmd": "Page.captureScreenshot", "params": wanted }));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let picture = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }

    /// What the browser's console has said since it was last asked: violations of the policy among it.
    pub fn log(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to close, it ends the browser; killed, it would leave it behind.
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
