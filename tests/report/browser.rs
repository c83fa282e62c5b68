//! Chromium without a window, told what to do over a pipe (the DevTools protocol: JSON, each message
//! ended by a zero byte). No port, no network, and it ends with its test.
#![expect(
    clippy::disallowed_methods,
    reason = "a browser is a process that speaks over pipes: a thread reads, and nothing is simulated"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_tests::wait;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::{Value, json};

/// Names of the program, most wanted first.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Set to `required`, a test fails where there is no browser, instead of saying that it was left out.
const NEED: &str = "KEYRUM_BROWSER";

/// A running browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    /// Events that came while an answer was awaited.
    events: Vec<Value>,
    session: Option<String>,
    last_id: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None`, said aloud, where there is none.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let found = NAMES.into_iter().find(|name| {
            let known = Command::new(name)
                .arg("--version")
                .stderr(Stdio::null())
                .output();
            known.is_ok_and(|output| output.status.success())
        });
        let Some(name) = found else {
            assert!(
                std::env::var_os(NEED).is_none_or(|need| need != "required"),
                "{test}: {NEED}=required, but there is no chromium; `make browser` installs it"
            );
            // Not by a macro, whose words the test runner would keep to itself.
            let line =
                format!("{test}: SKIPPED, there is no chromium here; `make browser` installs it\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The protocol's ends are file descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null",
                name,
            ])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut browser = Self {
            to: child.stdin.take().unwrap(),
            from: listen(child.stdout.take().unwrap()),
            child,
            events: Vec::new(),
            session: None,
            last_id: 0,
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Makes the page as wide and high, in its own pixels, on paper or dark.
    pub(crate) fn shape(&mut self, width: u32, height: u32, dark: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", features);
    }

    /// Opens a file and waits until it is loaded.
    pub(crate) fn open(&mut self, file: &Path) {
        self.events.clear();
        self.ask(
            "Page.navigate",
            json!({"url": format!("file://{}", file.display())}),
        );
        while !(self.events.iter()).any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.next();
            self.events.push(event);
        }
    }

    /// What an expression comes to in the page; a promise is awaited.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let what = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.ask("Runtime.evaluate", what);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Lets the page paint what it was told.
    pub(crate) fn settle(&mut self) {
        let twice = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))";
        assert_eq!(self.value(twice), 1);
    }

    /// Presses a key and lets it go.
    pub(crate) fn press(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.ask("Input.dispatchKeyEvent", json!({"type": kind, "key": key}));
        }
        self.settle();
    }

    /// The mouse, in the page's pixels: `mouseMoved`, `mousePressed` or `mouseReleased`.
    pub(crate) fn mouse(&mut self, kind: &str, x: f64, y: f64) {
        let pressed = u8::from(kind != "mouseReleased");
        let button = if kind == "mouseMoved" && pressed == 0 {
            "none"
        } else {
            "left"
        };
        let event = json!({"type": kind, "x": x, "y": y, "button": button, "buttons": pressed, "clickCount": 1});
        self.ask("Input.dispatchMouseEvent", event);
    }

    /// What the page shows, as PNG; all of it, or what its window shows.
    pub(crate) fn picture(&mut self, whole: bool) -> Vec<u8> {
        let taken = self.ask(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": whole}),
        );
        STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

    /// What went wrong in the page since it was opened: errors, refused content, and whatever it
    /// asked a network for.
    pub(crate) fn complaints(&mut self) -> Vec<Value> {
        // All that came before this answer has come.
        self.value("1");
        let wrong = |event: &&Value| match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => ["error", "warning", "assert"]
                .iter()
                .any(|kind| event["params"]["type"] == *kind),
            "Log.entryAdded" => event["params"]["entry"]["level"] != "verbose",
            "Network.requestWillBeSent" => {
                let url = event["params"]["request"]["url"]
                    .as_str()
                    .unwrap_or_default();
                !url.starts_with("file:") || event["params"]["type"] != "Document"
            }
            _ => false,
        };
        self.events.iter().filter(wrong).cloned().collect()
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let mut message = self.next();
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    fn next(&mut self) -> Value {
        match self.from.recv_timeout(wait::LONG * 2) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("the browser says nothing"),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the browser has ended: {:?}", self.child.wait())
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It has children; they are in its group.
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        // Its profile is written to until the last of them is gone.
        let deadline = Instant::now() + wait::SHORT;
        while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn listen(out: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut out = BufReader::new(out);
        let mut bytes = Vec::new();
        while out.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
            bytes.pop();
            let message = serde_json::from_slice(&bytes).expect("the browser speaks JSON");
            if sender.send(message).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    receiver
}
