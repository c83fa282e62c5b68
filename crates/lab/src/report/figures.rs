//! What stands in the report without any script: what the run was, verdicts, and figures in tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::drawing;
use super::text::{Html, count, ending, length, moment, number};
use crate::experiment::{Experiment, FaultWindow, Holds, Outcome};

/// Violations that are drawn; more are told in a line each.
const DRAWN_MAX: usize = 12;

/// Violations of a checker that are told at all.
const TOLD_MAX: usize = 100;

/// A verdict's sign: the shapes differ, not only their colours.
fn sign(holds: Holds) -> &'static str {
    match holds {
        Holds::True => {
            "<svg class=\"sign true\" viewBox=\"0 0 20 20\" aria-hidden=\"true\"><circle cx=\"10\" cy=\"10\" r=\"9.2\"/><path d=\"M5.8 10.4l2.9 2.9 5.6-6.2\"/></svg>"
        }
        Holds::False => {
            "<svg class=\"sign false\" viewBox=\"0 0 20 20\" aria-hidden=\"true\"><path class=\"ground\" d=\"M6.2 1h7.6L19 6.2v7.6L13.8 19H6.2L1 13.8V6.2z\"/><path d=\"M6.6 6.6l6.8 6.8M13.4 6.6l-6.8 6.8\"/></svg>"
        }
        Holds::Unknown => {
            "<svg class=\"sign unknown\" viewBox=\"0 0 20 20\" aria-hidden=\"true\"><path class=\"ground\" d=\"M10 .6L19.4 10 10 19.4.6 10z\"/><path d=\"M7.6 8a2.4 2.4 0 1 1 3.5 2.1c-.8.4-1.1.8-1.1 1.7M10 14v.4\"/></svg>"
        }
    }
}

/// The run in a sentence.
pub(super) fn summary(experiment: &Experiment) -> String {
    let judgements = &experiment.judgements;
    let of = |holds| judgements.iter().filter(|one| one.holds == holds).count();
    let (wrong, open) = (of(Holds::False), of(Holds::Unknown));
    let all = judgements.len();
    let (holds, words) = match (all, wrong, open) {
        (0, ..) => (Holds::Unknown, "Nothing was judged.".to_owned()),
        (_, 0, 0) => (
            Holds::True,
            match all {
                1 => "The one check holds.".to_owned(),
                _ => format!("All {all} checks hold."),
            },
        ),
        (_, 0, open) => (
            Holds::Unknown,
            format!(
                "Nothing wrong was found, but {open} of {} cannot be told.",
                count(all, "check", "checks")
            ),
        ),
        (_, wrong, open) => {
            let does = if wrong == 1 { "does" } else { "do" };
            let rest = match open {
                0 => String::new(),
                open => format!(", and {open} cannot be told"),
            };
            let checks = count(all, "check", "checks");
            (
                Holds::False,
                format!("{wrong} of {checks} {does} not hold{rest}."),
            )
        }
    };
    format!(
        "<p class=\"summary {holds}\">{}<span>{words}</span></p>",
        sign(holds)
    )
}

/// What the run was, as terms and what they come to.
pub(super) fn facts(experiment: &Experiment) -> String {
    let nodes: usize = experiment
        .regions
        .iter()
        .map(|region| region.nodes.len())
        .sum();
    let took_effect = |fault: &&FaultWindow| fault.effects != Some(0);
    let faults = experiment.faults.len();
    let effective = experiment.faults.iter().filter(took_effect).count();
    let mut facts = vec![
        (
            "Cluster",
            format!(
                "{}, {}",
                count(experiment.regions.len(), "Region", "Regions"),
                count(nodes, "node", "nodes")
            ),
        ),
        (
            "Calls",
            format!(
                "{} by {}",
                number(experiment.calls.len() as u64),
                count(experiment.clients.len(), "client", "clients")
            ),
        ),
        (
            "Faults",
            match faults - effective {
                0 => number(faults as u64),
                none => format!("{}, {none} without effect", number(faults as u64)),
            },
        ),
        ("Length", length(experiment.ended_us)),
    ];
    if faults > 0 {
        let healed = match experiment.healed_at_us {
            Some(at) => format!(
                "{} after the last fault",
                length(at.saturating_sub(experiment.faults_until_us))
            ),
            None => "not by the end of the run".to_owned(),
        };
        facts.push(("Healed", healed));
    }
    let mut html = String::from("<dl class=\"facts\">");
    for (term, value) in facts {
        let _ = write!(html, "<div><dt>{term}</dt><dd>{value}</dd></div>");
    }
    html += "</dl>";
    if !experiment.replay.is_empty() {
        let _ = write!(
            html,
            "\n<p class=\"replay\"><span>Run it again</span><code>{}</code></p>",
            Html(&experiment.replay)
        );
    }
    html
}

/// The verdicts as a table.
pub(super) fn verdicts(experiment: &Experiment) -> String {
    if experiment.judgements.is_empty() {
        return "<p class=\"note\">No checker looked at this run.</p>".to_owned();
    }
    let mut html = String::from(
        "<table class=\"verdicts\"><thead><tr><th scope=\"col\">Verdict</th>\
         <th scope=\"col\">Check</th><th scope=\"col\">What it rests on</th></tr></thead>\n<tbody>\n",
    );
    let mut nth = 1;
    for judgement in &experiment.judgements {
        let holds = judgement.holds;
        let found = judgement.findings.len();
        let about = Html(&judgement.about);
        let link = match found {
            0 => String::new(),
            _ => format!(
                " <a href=\"#violation-{nth}\">{}</a>",
                count(found, "violation", "violations")
            ),
        };
        nth += found;
        let _ = writeln!(
            html,
            "<tr><td class=\"verdict {holds}\">{}<b>{holds}</b></td><th scope=\"row\">{}</th>\
             <td>{about}{link}</td></tr>",
            sign(holds),
            Html(&judgement.checker),
        );
    }
    html + "</tbody></table>"
}

/// What must not be: drawn, as far as a reader would follow.
pub(super) fn violations(experiment: &Experiment) -> String {
    let mut html = String::new();
    let mut first = 1;
    for judgement in &experiment.judgements {
        let found = &judgement.findings;
        let mut told = String::new();
        for (nth, violation) in (first..).zip(found).take(TOLD_MAX) {
            if nth <= DRAWN_MAX || nth == first {
                html += &drawing::violation(experiment, nth, violation);
            } else {
                let what = &violation.finding.what;
                let _ = writeln!(
                    told,
                    "<li id=\"violation-{nth}\" value=\"{nth}\">{}</li>",
                    Html(what)
                );
            }
        }
        if !told.is_empty() {
            let _ = writeln!(
                html,
                "<article class=\"violation\"><h3>More of {}</h3><ol class=\"told\">\n{told}</ol></article>",
                Html(&judgement.checker)
            );
        }
        if let Some(more) = found.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
            let _ = writeln!(
                html,
                "<p class=\"note\">{} more stand in the history.</p>",
                number(more as u64)
            );
        }
        first += found.len();
    }
    if html.is_empty() {
        return html;
    }
    format!("<section id=\"violations\"><h2>What must not be</h2>\n{html}</section>\n")
}

/// Counts and times of an operation's calls.
#[derive(Default)]
struct Figures {
    /// Done, refused, not done, unknown.
    endings: [u64; 4],
    /// How long those that were done took.
    took_us: Vec<u64>,
}

/// A share of the values is at most this: the nearest rank, in percent. They are sorted.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Calls by operation, as a table.
pub(super) fn operations(experiment: &Experiment) -> String {
    let mut by_operation: BTreeMap<&str, Figures> = BTreeMap::new();
    let mut all = Figures::default();
    for call in &experiment.calls {
        let place = match call.outcome {
            Outcome::Done(_) => 0,
            Outcome::Refused { .. } => 1,
            Outcome::NotDone(_) => 2,
            Outcome::Unknown(_) => 3,
        };
        for figures in [&mut all, by_operation.entry(&call.operation).or_default()] {
            figures.endings[place] += 1;
            if let (0, Some(end)) = (place, call.end_us) {
                figures.took_us.push(end.saturating_sub(call.start_us));
            }
        }
    }
    if by_operation.is_empty() {
        return "<p class=\"note\">No calls were made.</p>".to_owned();
    }
    let mut rows: Vec<(&str, Figures)> = by_operation.into_iter().collect();
    rows.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.endings.iter().sum::<u64>()));
    let mut html = String::from(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Calls by operation\">\
         <table class=\"numbers\"><thead><tr><th scope=\"col\">Operation</th><th scope=\"col\">calls</th>",
    );
    for (class, word) in [
        ending(&Outcome::Done(serde_json::Value::Null)),
        ending(&Outcome::Refused {
            error: String::new(),
            message: String::new(),
        }),
        ending(&Outcome::NotDone(String::new())),
        ending(&Outcome::Unknown(String::new())),
    ] {
        let _ = write!(
            html,
            "<th scope=\"col\"><span class=\"end {class}\">{word}</span></th>"
        );
    }
    html += "<th scope=\"col\">p50</th><th scope=\"col\">p99</th><th scope=\"col\">longest</th></tr></thead>\n<tbody>\n";
    let row = |html: &mut String, name: &str, mut figures: Figures| {
        figures.took_us.sort_unstable();
        let took = &figures.took_us;
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td>",
            Html(name),
            number(figures.endings.iter().sum())
        );
        for count in figures.endings {
            let _ = match count {
                0 => write!(html, "<td class=\"zero\">0</td>"),
                count => write!(html, "<td>{}</td>", number(count)),
            };
        }
        for value in [
            percentile(took, 50),
            percentile(took, 99),
            percentile(took, 100),
        ] {
            let _ = write!(html, "<td>{}</td>", value.map_or("–".to_owned(), length));
        }
        html.push_str("</tr>\n");
    };
    let several = rows.len() > 1;
    for (name, figures) in rows {
        row(&mut html, name, figures);
    }
    html += "</tbody>";
    if several {
        html += "<tfoot>";
        row(&mut html, "All", all);
        html += "</tfoot>";
    }
    html + "</table></div>\n<p class=\"note\">Times are of calls that were done.</p>"
}

/// Faults by kind, as a table.
pub(super) fn faults(experiment: &Experiment) -> String {
    #[derive(Default)]
    struct Kind {
        count: u64,
        without: u64,
        effects: Option<u64>,
        lasted_us: u64,
    }
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    for fault in &experiment.faults {
        let kind = kinds.entry(&fault.kind).or_default();
        kind.count += 1;
        kind.without += u64::from(fault.effects == Some(0));
        if let Some(effects) = fault.effects {
            kind.effects = Some(kind.effects.unwrap_or(0).saturating_add(effects));
        }
        let until = fault.until_us.unwrap_or(experiment.ended_us);
        kind.lasted_us = kind
            .lasted_us
            .saturating_add(until.saturating_sub(fault.from_us));
    }
    if kinds.is_empty() {
        return "<p class=\"note\">Nothing was made to go wrong.</p>".to_owned();
    }
    let mut html = String::from(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Faults by kind\">\
         <table class=\"numbers\"><thead><tr><th scope=\"col\">Fault</th><th scope=\"col\">times</th>\
         <th scope=\"col\">effects</th><th scope=\"col\">without effect</th>\
         <th scope=\"col\">lasted in all</th></tr></thead>\n<tbody>\n",
    );
    for (name, kind) in kinds {
        let effects = kind.effects.map_or("not counted".to_owned(), number);
        let class = if kind.without == 0 {
            " class=\"zero\""
        } else {
            ""
        };
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{effects}</td><td{class}>{}</td><td>{}</td></tr>",
            Html(name),
            number(kind.count),
            number(kind.without),
            length(kind.lasted_us),
        );
    }
    html += "</tbody></table></div>";
    if experiment.faults_until_us > 0 {
        let healed = match experiment.healed_at_us {
            Some(at) => format!("all groups had healed at {}.", moment(at)),
            None => "not all groups had healed when the run ended.".to_owned(),
        };
        let _ = write!(
            html,
            "\n<p class=\"note\">The last fault was lifted at {}; {healed}</p>",
            moment(experiment.faults_until_us)
        );
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches percentiles that are off by one, or of nothing.
    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<u64> = (1..=200).collect();
        let of = |percent| percentile(&values, percent).unwrap();
        assert_eq!([of(50), of(99), of(100)], [100, 198, 200]);
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }
}
