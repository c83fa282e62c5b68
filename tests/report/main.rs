//! The report of an experiment: as a command writes it, and as a browser shows it.
//!
//! `KEYRUM_SCREENSHOTS=FOLDER` keeps what the browser shows; `docs/lab-report.png` is made so.

mod browser;
mod sample;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use keyrum_lab::checks::Finding;
use keyrum_lab::experiment::{Experiment, Outcome};
use keyrum_lab::report;
use keyrum_tests::keyrum;
use serde_json::Value;

use self::browser::Browser;

/// Widths of a window on a desk and of a phone, in CSS pixels.
const DESK: u32 = 1280;
const PHONE: u32 = 390;

/// The most that the report of the sample may take.
const BYTES_MAX: usize = 3_000_000;

fn write(folder: &Path, experiment: &Experiment) -> PathBuf {
    let file = folder.join("report.html");
    std::fs::write(&file, report::html(experiment)).unwrap();
    file
}

fn keep(name: &str, picture: &[u8]) {
    if let Some(folder) = std::env::var_os("KEYRUM_SCREENSHOTS") {
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }
}

/// How many pixels of a canvas are painted.
fn painted(browser: &mut Browser, canvas: &str) -> u64 {
    let expression = format!(
        "(() => {{ const c = document.querySelector('{canvas}'); const p = c.getContext('2d')\
         .getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < p.length; i += 4) \
         if (p[i]) n++; return n; }})()"
    );
    browser.value(&expression).as_u64().unwrap()
}

fn no_overflow(browser: &mut Browser, width: u32) {
    let wide = browser.value("document.documentElement.scrollWidth");
    assert_eq!(wide, width, "the page is wider than its window");
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let value = browser.value(&format!("document.querySelector('{selector}').textContent"));
    value.as_str().unwrap().to_owned()
}

/// Catches a report that is too large, that a browser complains about, that asks for something else, or
/// whose drawings stay empty; on a desk and on a phone, light and dark.
#[test]
fn a_browser_shows_ten_thousand_calls() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), &sample::experiment());
    let bytes = file.metadata().unwrap().len();
    println!("report of {} calls: {bytes} bytes", sample::CALLS);
    assert!(bytes < BYTES_MAX as u64, "{bytes}");
    let Some(mut browser) = Browser::start("a_browser_shows_ten_thousand_calls") else {
        return;
    };
    for (name, width, height, dark) in [
        ("desk-light", DESK, 900, false),
        ("desk-dark", DESK, 900, true),
        ("phone-light", PHONE, 844, false),
        ("phone-dark", PHONE, 844, true),
    ] {
        browser.shape(width, height, dark);
        browser.open(&file);
        browser.settle();
        let drawn = browser.value("document.documentElement.dataset.drawnMs");
        println!(
            "{name}: drawn {} ms after it began to load",
            drawn.as_str().unwrap()
        );
        no_overflow(&mut browser, width);
        for panel in [
            "#overview",
            "#panel-faults canvas",
            "#calls",
            "#panel-rate canvas",
            "#panel-latency canvas",
            "#panel-leaders canvas",
            "#panel-families canvas",
        ] {
            let pixels = painted(&mut browser, panel);
            assert!(pixels > 2000, "{name}: {panel} has {pixels} pixels");
        }
        let picture = browser.picture(true);
        keep(name, &picture);
        let complaints = browser.complaints();
        assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    }
}

/// Catches a timeline that a mouse or a keyboard cannot move in, and a call that is not told when it is
/// pointed at or chosen.
#[test]
fn the_timeline_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), &sample::experiment());
    let Some(mut browser) = Browser::start("the_timeline_can_be_used") else {
        return;
    };
    browser.shape(DESK, 900, false);
    browser.open(&file);
    assert_eq!(text(&mut browser, "#range"), "0 to 62.000 s");
    // From a violation to its call.
    let cited = browser.value("document.querySelector('a[data-call]').dataset.call");
    let cited: usize = cited.as_str().unwrap().parse().unwrap();
    browser.value("document.querySelector('a[data-call]').click()");
    browser.settle();
    let told = text(&mut browser, "#call");
    let call = &sample::experiment().calls[cited];
    assert!(told.contains(&call.operation), "{told}");
    let seconds = format!("Began{}.", call.start_us / 1_000_000);
    assert!(told.contains(&seconds), "{told}");
    let near = text(&mut browser, "#range");
    assert_ne!(near, "0 to 62.000 s");
    keep("desk-call", &browser.picture(false));
    // By keyboard: the next call of the same client, then the whole run again.
    browser.press("ArrowRight");
    let next = text(&mut browser, "#call");
    assert_ne!(next, told);
    browser.press("ArrowLeft");
    assert_eq!(text(&mut browser, "#call"), told);
    browser.press("0");
    assert_eq!(text(&mut browser, "#range"), "0 to 62.000 s");
    browser.press("Escape");
    assert_eq!(text(&mut browser, "#call"), "");
    // By mouse: a stretch on the bar, a fault pointed at.
    let place = |browser: &mut Browser, selector: &str| {
        let scrolled =
            format!("document.querySelector('{selector}').scrollIntoView({{block: 'center'}})");
        browser.value(&scrolled);
        let place = format!(
            "(() => {{ const b = document.querySelector('{selector}').getBoundingClientRect(); \
             return [b.left, b.top, b.width, b.height]; }})()"
        );
        let place = browser.value(&place);
        let number = |at: usize| place[at].as_f64().unwrap();
        (number(0), number(1), number(2), number(3))
    };
    let (left, top, width, _) = place(&mut browser, "#overview");
    let (from, until) = (left + width * 0.4, left + width * 0.6);
    browser.mouse("mousePressed", from, top + 15.0);
    browser.mouse("mouseMoved", (from + until) / 2.0, top + 15.0);
    browser.mouse("mouseMoved", until, top + 15.0);
    browser.mouse("mouseReleased", until, top + 15.0);
    browser.settle();
    let chosen = text(&mut browser, "#range");
    assert!(chosen.contains('('), "{chosen}");
    let (left, top, width, height) = place(&mut browser, "#calls");
    let found = (0..200).any(|nth| {
        let x = left + width * (0.2 + 0.0035 * f64::from(nth));
        browser.ask(
            "Input.dispatchMouseEvent",
            serde_json::json!({
            "type": "mouseMoved", "x": x, "y": top + height / 2.0, "button": "none", "buttons": 0}),
        );
        browser.value("!document.getElementById('tip').hidden") == true
    });
    assert!(found, "no call is told when it is pointed at");
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Catches text of an experiment that a browser takes for markup, and numbers that break the script.
#[test]
fn hostile_text_stays_text() {
    const HOSTILE: &str =
        "</script><script>window.broken=1</script><img src=x onerror='window.broken=1'>\u{2028}";
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = sample::experiment();
    let hostile = |text: &mut String| HOSTILE.clone_into(text);
    hostile(&mut experiment.title);
    hostile(&mut experiment.replay);
    experiment.clients.iter_mut().for_each(hostile);
    for call in &mut experiment.calls {
        hostile(&mut call.operation);
        hostile(&mut call.region);
        call.input = serde_json::json!({ HOSTILE: HOSTILE });
        call.outcome = Outcome::Refused {
            error: HOSTILE.to_owned(),
            message: HOSTILE.to_owned(),
        };
    }
    for fault in &mut experiment.faults {
        fault.kind = HOSTILE.into();
        hostile(&mut fault.what);
    }
    for seen in &mut experiment.members {
        hostile(&mut seen.key);
        seen.state = Some(HOSTILE.into());
    }
    for judgement in &mut experiment.judgements {
        judgement.checker = HOSTILE.into();
        for violation in &mut judgement.findings {
            violation.finding = Finding::new(HOSTILE, HOSTILE);
        }
    }
    experiment.calls[3].client = 77;
    experiment.calls[4].end_us = Some(0);
    experiment.calls[5].end_us = None;
    experiment.faults[0].until_us = None;
    let file = write(folder.path(), &experiment);
    let Some(mut browser) = Browser::start("hostile_text_stays_text") else {
        return;
    };
    browser.shape(PHONE, 844, false);
    browser.open(&file);
    browser.value("document.getElementById('calls').focus()");
    browser.press("v");
    assert!(text(&mut browser, "#call").contains(HOSTILE));
    assert_eq!(
        browser.value("window.broken === undefined && document.images.length === 0"),
        true
    );
    assert_eq!(text(&mut browser, "h1"), HOSTILE.trim());
    no_overflow(&mut browser, PHONE);
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Catches a run without calls, faults or verdicts that is not shown, and a report that says nothing to
/// a browser without script.
#[test]
fn nothing_is_shown_as_nothing_and_verdicts_need_no_script() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = sample::experiment();
    let file = write(folder.path(), &experiment);
    let Some(mut browser) =
        Browser::start("nothing_is_shown_as_nothing_and_verdicts_need_no_script")
    else {
        return;
    };
    browser.shape(PHONE, 844, false);
    browser.ask(
        "Emulation.setScriptExecutionDisabled",
        serde_json::json!({"value": true}),
    );
    browser.open(&file);
    keep("phone-without-script", &browser.picture(true));
    browser.ask(
        "Emulation.setScriptExecutionDisabled",
        serde_json::json!({"value": false}),
    );
    let shown = text(&mut browser, ".verdicts");
    assert!(
        shown.contains("false") && shown.contains("linearizable"),
        "{shown}"
    );
    let lanes = browser.value("document.querySelectorAll('.drawing .bar').length");
    assert!(lanes.as_u64() > Some(5), "{lanes}");
    assert_eq!(
        browser.value("document.getElementById('bar').offsetHeight"),
        0
    );
    // One node, nothing done.
    experiment = Experiment {
        regions: vec![keyrum_lab::experiment::RegionOfNodes {
            name: "us-east-1".to_owned(),
            nodes: vec![1],
        }],
        ..Experiment::default()
    };
    let file = write(folder.path(), &experiment);
    browser.shape(DESK, 900, false);
    browser.open(&file);
    assert!(
        !browser
            .value("document.documentElement.dataset.drawnMs")
            .is_null()
    );
    keep("desk-nothing", &browser.picture(true));
    for (selector, words) in [
        (".summary", "Nothing was judged."),
        ("#panel-calls .none", "No calls were made."),
        ("#panel-faults .none", "Nothing was made to go wrong."),
    ] {
        assert_eq!(text(&mut browser, selector), words);
    }
    assert_eq!(
        browser.value("document.querySelector('#panel-calls .none').offsetHeight > 0"),
        true
    );
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn run(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(keyrum());
    command
        .args(["lab", "report"])
        .args(arguments)
        .current_dir(folder);
    command.output().unwrap()
}

/// Catches a command that writes the page elsewhere than it says, that replaces the history with it, or
/// whose refusals do not say what to do.
#[test]
fn the_command_writes_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut experiment = sample::experiment();
    experiment.calls.truncate(50);
    experiment.judgements.clear();
    let history = serde_json::to_string(&experiment).unwrap();
    std::fs::write(at("run.json"), &history).unwrap();
    let page = report::html(&experiment);
    // Twice: the second replaces the first.
    for _ in 0..2 {
        let output = run(&["run.json"], folder.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "run.html\n");
        assert_eq!(std::fs::read_to_string(at("run.html")).unwrap(), page);
    }
    let output = run(&["run.json", "--out", "other.htm"], folder.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_to_string(at("other.htm")).unwrap(), page);
    let output = run(&["run.json", "--out", "-"], folder.path());
    assert_eq!(String::from_utf8_lossy(&output.stdout), page);
    std::fs::write(at("bad.json"), "{\"title\": 1}").unwrap();
    for (arguments, part) in [
        (&["none.json"][..], "none.json cannot be read"),
        (
            &["bad.json"],
            "bad.json is not an experiment's history in JSON: invalid type",
        ),
        (
            &["run.json", "--out", "run.json"],
            "name another file with --out",
        ),
        (
            &["run.json", "--out", "no/folder.html"],
            "no/folder.html cannot be written",
        ),
    ] {
        let output = run(arguments, folder.path());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains(part), "{arguments:?}: {words}");
    }
    let kept: Value =
        serde_json::from_str(&std::fs::read_to_string(at("run.json")).unwrap()).unwrap();
    assert_eq!(kept, serde_json::from_str::<Value>(&history).unwrap());
    let mut left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["bad.json", "other.htm", "run.html", "run.json"]);
}
