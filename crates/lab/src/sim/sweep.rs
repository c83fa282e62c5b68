//! What many runs came to, one a seed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::verdict::{Verdict, tell};
use crate::checks::exercised::Figures;
use crate::scenario::FaultKind;

/// What many runs came to that differ in nothing but their seeds. Its `Display` is the report.
#[derive(Debug, Clone, Default)]
pub struct Sweep {
    regions: usize,
    passed: u64,
    failed: Vec<u64>,
    /// Seeds whose runs gave no verdict.
    broken: Vec<u64>,
    simulated_ms: u64,
    longest_healing_ms: u64,
    figures: Figures,
    /// How long it all took.
    pub wall: Duration,
}

impl Sweep {
    /// Notes a run. Gives the line to print if it failed: what it found first, and how to run it
    /// again.
    pub fn note(&mut self, verdict: &Verdict) -> Option<String> {
        self.regions = self.regions.max(verdict.regions);
        self.simulated_ms += verdict.simulated_ms;
        let healed = verdict.healed_after_ms.unwrap_or(0);
        self.longest_healing_ms = self.longest_healing_ms.max(healed);
        self.figures = sum(&self.figures, &verdict.figures);
        let Some((first, more)) = verdict.findings.split_first() else {
            self.passed += 1;
            return None;
        };
        self.failed.push(verdict.seed);
        let more = match more.len() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let (seed, again) = (verdict.seed, verdict.replay());
        Some(format!("seed {seed} FAILED: {first}{more}; again: {again}"))
    }

    /// Notes a run that ended without a verdict.
    pub fn note_broken(&mut self, seed: u64) {
        self.broken.push(seed);
    }

    /// What faults came to.
    pub fn table(&self) -> FaultTable {
        FaultTable::of(&self.figures)
    }

    /// What all came to, as data.
    pub fn json(&self) -> Value {
        json!({
            "seeds": self.runs(),
            "passed": self.passed,
            "failed": self.failed,
            "broken": self.broken,
            "simulated_ms": self.simulated_ms,
            "wall_ms": u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX),
            "longest_healing_ms": self.longest_healing_ms,
            "figures": self.figures,
        })
    }

    /// How many runs were noted.
    pub fn runs(&self) -> u64 {
        self.passed + (self.failed.len() + self.broken.len()) as u64
    }

    /// 0 if there were runs and all passed, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.passed == 0 || self.passed < self.runs())
    }
}

/// What faults came to, kind by kind. Its `Display` is for a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultTable {
    /// What was struck, the kind, how often one began, how often one took effect, and how many effects
    /// they had.
    rows: Vec<(&'static str, String, u64, u64, u64)>,
}

/// What the columns are called.
const COLUMNS: [&str; 5] = ["component", "fault", "began", "took effect", "effects"];

impl FaultTable {
    fn of(figures: &Figures) -> Self {
        let row = |(kind, began): (&Cow<'static, str>, &u64)| {
            let of = |counts: &BTreeMap<_, u64>| counts.get(kind).copied().unwrap_or(0);
            let (took_effect, effects) = (of(&figures.took_effect), of(&figures.effects));
            let known = FaultKind::ALL
                .into_iter()
                .find(|known| known.name() == kind);
            let component = known.map_or("", FaultKind::component);
            (component, kind.to_string(), *began, took_effect, effects)
        };
        let mut rows: Vec<_> = figures.faults.iter().map(row).collect();
        rows.sort();
        Self { rows }
    }

    /// For a document.
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |\n", COLUMNS.join(" | "));
        text += "|---|---|---:|---:|---:|\n";
        for (component, kind, began, took_effect, effects) in &self.rows {
            text += &format!("| {component} | {kind} | {began} | {took_effect} | {effects} |\n");
        }
        text
    }
}

impl fmt::Display for FaultTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [component, fault, began, took_effect, effects] = COLUMNS;
        writeln!(
            f,
            "  {component:<12}{fault:<18}{began:>8}{took_effect:>13}{effects:>10}"
        )?;
        for (component, kind, began, took_effect, effects) in &self.rows {
            writeln!(
                f,
                "  {component:<12}{kind:<18}{began:>8}{took_effect:>13}{effects:>10}"
            )?;
        }
        Ok(())
    }
}

/// Counts are added, by their names.
fn sum(one: &Figures, other: &Figures) -> Figures {
    let value = |figures| serde_json::to_value(figures).expect("figures are plain numbers");
    let mut all = value(one);
    add(&mut all, &value(other));
    serde_json::from_value(all).expect("they still are")
}

fn add(to: &mut Value, more: &Value) {
    match (to, more) {
        (Value::Object(to), Value::Object(more)) => {
            for (name, more) in more {
                add(to.entry(name.as_str()).or_insert(Value::from(0)), more);
            }
        }
        (to, more) => *to = (to.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0)).into(),
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = match self.failed.len() {
            0 => "none failed".to_owned(),
            failed => format!("{failed} FAILED {}", list(&self.failed)),
        };
        let broken = match self.broken.len() {
            0 => String::new(),
            broken => format!(", {broken} ended without a verdict {}", list(&self.broken)),
        };
        let (runs, passed) = (self.runs(), self.passed);
        writeln!(f, "{runs} seeds: {passed} passed, {failed}{broken}")?;
        let (minutes, wall) = (self.simulated_ms as f64 / 60_000.0, self.wall.as_secs_f64());
        writeln!(
            f,
            "  time: {minutes:.1} simulated minutes in {wall:.1} s: {:.1} of them a minute; healed \
             after {} ms at most",
            minutes / (wall / 60.0),
            self.longest_healing_ms,
        )?;
        tell(&self.figures, self.regions, f)?;
        let digests = self.figures.digests_compared;
        writeln!(f, "  replicas: {digests} digests compared")
    }
}

/// The first seeds of some.
fn list(seeds: &[u64]) -> String {
    const SHOWN_MAX: usize = 12;
    let mut seeds = seeds.to_vec();
    seeds.sort_unstable();
    let shown: Vec<_> = seeds.iter().take(SHOWN_MAX).map(u64::to_string).collect();
    let more = match seeds.len() > SHOWN_MAX {
        true => ", ...",
        false => "",
    };
    format!("({}{more})", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Finding;

    fn verdict(seed: u64, findings: &[&'static str]) -> Verdict {
        let mut figures = Figures {
            calls: 10,
            ..Figures::default()
        };
        figures.faults.insert("isolate".into(), seed);
        figures.took_effect.insert("isolate".into(), seed - 2);
        figures.effects.insert("isolate".into(), 100);
        Verdict {
            seed,
            minutes: 0.5,
            regions: 1,
            nodes: 3,
            scenario: None,
            plan: vec!["a cut".to_owned()],
            faults: None,
            findings: findings
                .iter()
                .map(|check| Finding::new(*check, "wrong"))
                .collect(),
            figures,
            trace: (1, u64::MAX),
            healed_after_ms: Some(seed),
            simulated_ms: 30_000,
        }
    }

    /// Catches a failure that is not told, is told without the way to see it again, or does not
    /// count; and sums that lack something.
    #[test]
    fn failures_are_told_and_counts_added() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.exit_code(), 1, "nothing ran, and so nothing passed");
        assert_eq!(sweep.note(&verdict(4, &[])), None);
        assert_eq!(sweep.exit_code(), 0);
        let line = sweep.note(&verdict(5, &["a", "b"])).unwrap();
        assert_eq!(
            line,
            "seed 5 FAILED: a: wrong (and 1 more); again: keyrum lab sim --seed 5 --regions 1 \
             --minutes 0.5"
        );
        sweep.note_broken(6);
        assert_eq!((sweep.runs(), sweep.exit_code()), (3, 1));
        let text = sweep.to_string();
        for part in [
            "3 seeds: 1 passed, 1 FAILED (5), 1 ended without a verdict (6)",
            "1.0 simulated minutes",
            "healed after 5 ms",
            "faults: 9 isolate (4 in vain)",
            "calls: 20,",
        ] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    }

    /// Catches a table that counts what only began as if it had taken effect, or that Markdown does not
    /// take for one.
    #[test]
    fn faults_are_counted_by_kind() {
        let mut sweep = Sweep::default();
        sweep.note(&verdict(4, &[]));
        sweep.note(&verdict(5, &[]));
        let table = sweep.table();
        assert_eq!(
            table.markdown(),
            "| component | fault | began | took effect | effects |\n|---|---|---:|---:|---:|\n\
             | consensus | isolate | 9 | 5 | 200 |\n"
        );
        let text = table.to_string();
        let last: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["consensus", "isolate", "9", "5", "200"]);
        assert_eq!(sweep.json()["figures"]["effects"]["isolate"], 200);
    }

    /// Catches a verdict that another process reads otherwise than it was written.
    #[test]
    fn verdicts_cross_processes() {
        let verdict = verdict(7, &["a"]);
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
    }
}
