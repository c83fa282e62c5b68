//! The table at the end of a run.

use crate::machine::Machine;

/// How a figure compares with its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// There is no target.
    Reference,
}

impl Verdict {
    /// Met or missed.
    pub(crate) fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// Group size and durability.
    pub(crate) group: &'static str,
    pub(crate) target: &'static str,
    /// What was measured, with what it is compared with.
    pub(crate) figure: String,
    /// The figure as a part of the target's scale.
    pub(crate) ratio: String,
    pub(crate) verdict: Verdict,
}

/// What a run found.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    details: Vec<String>,
    failed: bool,
}

impl Report {
    /// Adds a line to the table.
    pub(crate) fn row(&mut self, row: &Row) {
        let verdict = match row.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Reference => "reference",
        };
        self.line(format!(
            "| {} | {} | {} | {} | {} | {verdict} |",
            row.what, row.group, row.target, row.figure, row.ratio
        ));
    }

    /// Adds a line for what could not be measured.
    pub(crate) fn skipped(&mut self, what: &str, why: &str) {
        self.line(format!("| {what} | | | {why} | | **skipped** |"));
    }

    /// Adds a line for a part that broke off.
    pub(crate) fn failed(&mut self, part: &str, why: &str) {
        self.failed = true;
        let why = why.replace('\n', " ").replace('|', "/");
        self.line(format!("| {part} | | | {why} | | **failed** |"));
    }

    /// Whether a part broke off.
    pub(crate) fn any_failed(&self) -> bool {
        self.failed
    }

    /// Adds a sentence below the table.
    pub(crate) fn detail(&mut self, text: String) {
        eprintln!("   {text}");
        self.details.push(text);
    }

    fn line(&mut self, line: String) {
        eprintln!("{line}");
        self.rows.push(line);
    }

    /// All of it.
    pub(crate) fn markdown(&self, machine: &Machine) -> String {
        let mut text = format!(
            "# Results\n\n{machine}\n\n| what | group | target | figure | ratio | verdict |\n\
             |---|---|---|---|---|---|\n"
        );
        for row in &self.rows {
            text.push_str(row);
            text.push('\n');
        }
        if !self.details.is_empty() {
            text.push_str("\nDetails:\n\n");
        }
        for detail in &self.details {
            text.push_str(&format!("- {detail}\n"));
        }
        text
    }
}
