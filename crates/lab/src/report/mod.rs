//! An experiment as a page: one HTML file that needs nothing beside it, verdicts first.
//!
//! What a reader must not miss (verdicts, violations drawn, figures) is HTML made here and is there
//! without script. What happened over time is drawn by the page's script from columns of numbers.
//! The page may fetch nothing and run nothing but its own style and script, which it names by their
//! hashes: text of the experiment can neither.

mod columns;
mod drawing;
mod figures;
#[cfg(test)]
mod tests;
mod text;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use self::text::{Html, in_script};
use crate::experiment::Experiment;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The report of an experiment: a whole HTML file.
pub fn html(experiment: &Experiment) -> String {
    let columns = columns::columns(experiment);
    let data = serde_json::to_string(&columns).expect("columns are plain data");
    let title = match experiment.title.trim() {
        "" => "An experiment",
        title => title,
    };
    let empty = |nothing: bool| if nothing { "panel empty" } else { "panel" };
    let parts = [
        ("policy", policy()),
        ("style", STYLE.to_owned()),
        ("script", SCRIPT.to_owned()),
        ("title", Html(title).to_string()),
        (
            "kind",
            match experiment.simulated {
                true => "simulated run",
                false => "run on processes",
            }
            .to_owned(),
        ),
        ("summary", figures::summary(experiment)),
        ("facts", figures::facts(experiment)),
        ("verdicts", figures::verdicts(experiment)),
        ("violations", figures::violations(experiment)),
        (
            "faults_panel",
            empty(experiment.faults.is_empty()).to_owned(),
        ),
        ("calls_panel", empty(experiment.calls.is_empty()).to_owned()),
        (
            "leaders_panel",
            empty(experiment.leaders.is_empty()).to_owned(),
        ),
        (
            "families_panel",
            empty(experiment.members.is_empty()).to_owned(),
        ),
        ("operations", figures::operations(experiment)),
        ("faults", figures::faults(experiment)),
        ("data", in_script(&data)),
    ];
    fill(PAGE, &parts)
}

/// What the page may do, as its Content-Security-Policy.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT),
    )
}

/// Puts parts in the places of their names, `{{name}}`. What is put in is not looked at again.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(parts.iter().map(|(_, part)| part.len()).sum());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("a name in the template ends");
        let part = parts.iter().find(|(known, _)| *known == name);
        page.push_str(before);
        page.push_str(&part.expect("the template names parts that there are").1);
        rest = after;
    }
    page.push_str(rest);
    page
}
