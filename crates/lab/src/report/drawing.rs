//! A violation drawn: the few calls that show it, a row each in their clients' lanes, over one
//! stretch of time with the faults behind it.
//!
//! Places are percentages, so a drawing fits a phone as well as a sheet of paper, without script.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::text::{Html, count, ending, length, moment, number, seen, shortened, words};
use crate::experiment::{Call, Experiment, FaultWindow, Outcome, Violation};

/// Calls that are drawn; more would not be read.
const CALLS_MAX: usize = 40;

/// Faults that get a row of their own; others are shaded without one.
const FAULTS_MAX: usize = 6;

/// With more calls, lines at their ends would hide the bars.
const LINES_MAX: usize = 12;

/// Characters of what a call asked or saw that are shown; the rest is behind a word to be opened.
const TEXT_MAX: usize = 300;

/// Characters that are there at all.
const WHOLE_MAX: usize = 4000;

/// The least share of the width, in percent, that a bar or a gap has before time is stretched.
const SHARE_MIN: f64 = 1.5;

/// A violation for a reader: what must not be, and the drawing.
pub(super) fn violation(experiment: &Experiment, number: usize, violation: &Violation) -> String {
    let finding = &violation.finding;
    let mut html = format!(
        "<article class=\"violation\" id=\"violation-{number}\">\n<h3><span class=\"nth\">{number}</span> \
         {check}</h3>\n<p class=\"finding\">{what}</p>\n",
        check = Html(&finding.check),
        what = Html(&finding.what),
    );
    let mut calls: Vec<(usize, &Call)> = (violation.calls.iter())
        .filter_map(|&at| Some((at, experiment.calls.get(at)?)))
        .collect();
    calls.sort_by_key(|(at, call)| (call.start_us, *at));
    let all = calls.len();
    calls.truncate(CALLS_MAX);
    if calls.is_empty() {
        html += "<p class=\"note\">No call shows it by itself.</p>\n</article>\n";
        return html;
    }
    if all > calls.len() {
        let _ = writeln!(
            html,
            "<p class=\"note\">The first {} of {} that show it.</p>",
            calls.len(),
            count(all, "call", "calls")
        );
    }
    draw(&mut html, experiment, &calls);
    html += "</article>\n";
    html
}

/// Where points of time are, in percent of the width.
struct Scale {
    /// Points of time with their places, both ascending.
    marks: Vec<(u64, f64)>,
    stretched: bool,
}

impl Scale {
    fn of(calls: &[(usize, &Call)]) -> Self {
        let points: BTreeSet<u64> = (calls.iter())
            .flat_map(|(_, call)| [Some(call.start_us), call.end_us])
            .flatten()
            .collect();
        let points: Vec<u64> = points.into_iter().collect();
        let gaps: Vec<f64> = (points.windows(2))
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let whole: f64 = gaps.iter().sum();
        let stretched = gaps.iter().any(|gap| gap / whole * 100.0 < SHARE_MIN);
        // The order of things is what shows a violation, so no gap may vanish beside a long one.
        let shares: Vec<f64> = match stretched {
            true => gaps.iter().map(|gap| 1.0 + (1.0 + gap).log10()).collect(),
            false => gaps,
        };
        let whole: f64 = shares.iter().sum::<f64>().max(1.0);
        // Room before the first and after the last.
        let mut place = 2.0;
        let mut marks = vec![(points[0], place)];
        for (point, share) in points[1..].iter().zip(shares) {
            place += share / whole * 90.0;
            marks.push((*point, place));
        }
        Self { marks, stretched }
    }

    fn first(&self) -> u64 {
        self.marks[0].0
    }

    fn last(&self) -> u64 {
        self.marks[self.marks.len() - 1].0
    }

    fn place(&self, us: u64) -> f64 {
        match self.marks.binary_search_by_key(&us, |mark| mark.0) {
            Ok(at) => self.marks[at].1,
            Err(0) => 0.0,
            Err(at) if at == self.marks.len() => 100.0,
            Err(at) => {
                let ((from, left), (until, right)) = (self.marks[at - 1], self.marks[at]);
                left + (right - left) * (us - from) as f64 / (until - from) as f64
            }
        }
    }
}

fn draw(html: &mut String, experiment: &Experiment, calls: &[(usize, &Call)]) {
    let scale = Scale::of(calls);
    let faults: Vec<&FaultWindow> = (experiment.faults.iter())
        .filter(|fault| {
            let until = fault.until_us.unwrap_or(u64::MAX);
            fault.from_us <= scale.last() && until >= scale.first()
        })
        .collect();
    let behind = behind(&scale, &faults, calls);
    html.push_str("<div class=\"drawing\">\n");
    if !faults.is_empty() {
        html.push_str("<section class=\"lane faults\"><h4>Faults meanwhile</h4><ul>\n");
        for fault in faults.iter().take(FAULTS_MAX) {
            fault_row(html, &scale, fault);
        }
        html.push_str("</ul>");
        if let Some(more) = faults
            .len()
            .checked_sub(FAULTS_MAX)
            .filter(|more| *more > 0)
        {
            let _ = write!(html, "<p class=\"note\">and {more} more</p>");
        }
        html.push_str("</section>\n");
    }
    // Clients in the order of their first calls.
    let mut clients: Vec<usize> = Vec::new();
    for (_, call) in calls {
        if !clients.contains(&call.client) {
            clients.push(call.client);
        }
    }
    for client in clients {
        let name = experiment.clients.get(client);
        let name = name.map_or_else(|| format!("client {client}"), Clone::clone);
        let _ = writeln!(html, "<section class=\"lane\"><h4>{}</h4><ol>", Html(&name));
        for (nth, (at, call)) in calls.iter().enumerate() {
            if call.client == client {
                call_row(html, &scale, &behind, nth + 1, *at, call);
            }
        }
        html.push_str("</ol></section>\n");
    }
    let note = match scale.stretched {
        true => "The order is exact; time is stretched where much happened.",
        false => "Time is to scale.",
    };
    let _ = writeln!(
        html,
        "<p class=\"axis\"><span>{note}</span><span>{}</span><span>{}</span></p>\n</div>",
        moment(scale.first()),
        moment(scale.last()),
    );
}

/// What stands behind every call's bar: faults, and lines where calls begin and end.
fn behind(scale: &Scale, faults: &[&FaultWindow], calls: &[(usize, &Call)]) -> String {
    let mut svg = String::new();
    for fault in faults {
        let (left, width) = extent(scale, fault);
        let _ = write!(
            svg,
            "<rect class=\"shade\" x=\"{left:.2}%\" width=\"{width:.2}%\" height=\"100%\"/>"
        );
    }
    if calls.len() <= LINES_MAX {
        for (_, x) in &scale.marks {
            let _ = write!(
                svg,
                "<line x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"100%\"/>"
            );
        }
    }
    svg
}

fn extent(scale: &Scale, fault: &FaultWindow) -> (f64, f64) {
    let left = scale.place(fault.from_us);
    let right = fault.until_us.map_or(100.0, |until| scale.place(until));
    (left, (right - left).max(0.0))
}

fn fault_row(html: &mut String, scale: &Scale, fault: &FaultWindow) {
    let (left, width) = extent(scale, fault);
    let until = fault.until_us.map_or("the end".to_owned(), moment);
    let _ = writeln!(
        html,
        "<li><div class=\"words\"><p><b>{kind}</b> {what}</p><p class=\"when\">{from} to {until}</p></div>\
         <svg class=\"strip\" aria-hidden=\"true\"><rect class=\"window\" x=\"{left:.2}%\" y=\"8\" \
         width=\"{width:.2}%\" height=\"10\"/></svg></li>",
        kind = Html(&fault.kind),
        what = Html(&fault.what),
        from = moment(fault.from_us),
    );
}

fn call_row(html: &mut String, scale: &Scale, behind: &str, nth: usize, at: usize, call: &Call) {
    let (class, word) = ending(&call.outcome);
    let place = match call.node {
        Some(node) => format!("{}/{node}", call.region),
        None => call.region.clone(),
    };
    let caller = call.caller.as_deref();
    let caller = caller.map_or(String::new(), |caller| format!(", as {caller}"));
    let reads = call
        .reads
        .as_deref()
        .map_or(String::new(), |reads| format!(", {reads}"));
    let _ = write!(
        html,
        "<li><div class=\"words\"><p><span class=\"nth\">{nth}</span> <b>{operation}</b> \
         <span class=\"end {class}\">{word}</span></p>",
        operation = Html(&call.operation),
    );
    for (label, text) in [("asked", words(&call.input)), ("saw", seen(&call.outcome))] {
        if !text.is_empty() {
            let short = shortened(&text, TEXT_MAX);
            let _ = write!(
                html,
                "<p class=\"value\"><i>{label}</i>{}</p>",
                Html(&short)
            );
            if short.len() < text.len() {
                let whole = shortened(&text, WHOLE_MAX);
                let whole = Html(&whole);
                let _ = write!(
                    html,
                    "<details><summary>all of it</summary><p>{whole}</p></details>"
                );
            }
        }
    }
    let took = match call.end_us {
        Some(end) => format!("took {}", length(end.saturating_sub(call.start_us))),
        None => "never ended".to_owned(),
    };
    let _ = write!(
        html,
        "<p class=\"when\">{start}, {took}; {place}{reads}{caller}; \
         <a href=\"#time\" data-call=\"{at}\">call {number}</a></p></div>",
        start = moment(call.start_us),
        place = Html(&place),
        reads = Html(&reads),
        caller = Html(&caller),
        number = number(at as u64),
    );
    let left = scale.place(call.start_us);
    let known = call.end_us.map(|end| scale.place(end.max(call.start_us)));
    let open = known.is_none() || matches!(call.outcome, Outcome::Unknown(_));
    let right = known.unwrap_or(100.0);
    let width = right - left;
    let _ = write!(
        html,
        "<svg class=\"strip\" aria-hidden=\"true\">{behind}<rect class=\"bar {class}\" x=\"{left:.2}%\" \
         y=\"9\" width=\"{width:.2}%\" height=\"14\"/>"
    );
    if open && known.is_some() {
        // It may take effect at any time after its client gave up.
        let rest = 100.0 - right;
        let _ = write!(
            html,
            "<rect class=\"tail {class}\" x=\"{right:.2}%\" y=\"9\" width=\"{rest:.2}%\" height=\"14\"/>"
        );
    }
    if open {
        html.push_str("<text x=\"100%\" y=\"21\" dx=\"-13\">?</text>");
    }
    html.push_str("</svg></li>\n");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn call(start_us: u64, end_us: Option<u64>) -> Call {
        Call {
            client: 0,
            start_us,
            end_us,
            region: "us-east-1".to_owned(),
            node: None,
            operation: "DescribeKey".to_owned(),
            caller: None,
            reads: None,
            input: Value::Null,
            outcome: Outcome::Done(Value::Null),
        }
    }

    /// Catches a drawing whose order is not that of the calls, or where a call is too short to be seen
    /// because a pause beside it was long.
    #[test]
    fn order_is_kept_and_nothing_vanishes() {
        let calls = [
            call(1_000_000, Some(1_000_900)),
            call(1_000_500, Some(31_000_000)),
            call(31_000_001, Some(31_000_002)),
            call(31_000_002, None),
        ];
        let calls: Vec<_> = calls.iter().enumerate().collect();
        let scale = Scale::of(&calls);
        assert!(scale.stretched);
        let places: Vec<f64> = scale.marks.iter().map(|mark| mark.1).collect();
        assert!(
            places.windows(2).all(|pair| pair[1] - pair[0] > SHARE_MIN),
            "{places:?}"
        );
        assert!(
            (places[0], places[5]) == (2.0, 92.0) || places[5] - 92.0 < 1e-9,
            "{places:?}"
        );
        assert_eq!((scale.place(0), scale.place(u64::MAX)), (0.0, 100.0));
        let between = scale.place(15_000_000);
        assert!(places[2] < between && between < places[3]);
    }

    /// Catches a division by the nothing that one instant takes.
    #[test]
    fn an_instant_can_be_drawn() {
        let calls = [call(5, Some(5))];
        let scale = Scale::of(&calls.iter().enumerate().collect::<Vec<_>>());
        assert_eq!(
            (scale.place(4), scale.place(5), scale.place(6)),
            (0.0, 2.0, 100.0)
        );
        let calls = [call(5, Some(9))];
        let scale = Scale::of(&calls.iter().enumerate().collect::<Vec<_>>());
        assert!(!scale.stretched);
        assert_eq!(
            (scale.place(5), scale.place(7), scale.place(9)),
            (2.0, 47.0, 92.0)
        );
    }
}
