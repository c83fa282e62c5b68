//! What a run came to.

use std::collections::BTreeSet;
use std::fmt;

use keyrum_types::NodeId;
use serde::{Deserialize, Serialize};

use super::NODES;
use crate::checks::Finding;
use crate::checks::exercised::Figures;

/// What a run came to. Its `Display` is the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The run's seed.
    pub seed: u64,
    /// Its length, in simulated minutes.
    pub minutes: f64,
    /// How many Regions it had.
    pub regions: usize,
    /// How many nodes each Region began with.
    pub nodes: NodeId,
    /// The file that said what was to happen, if one did.
    pub scenario: Option<String>,
    /// The faults that a seed plans, by number.
    pub plan: Vec<String>,
    /// Which of them came; all if `None`.
    pub faults: Option<BTreeSet<usize>>,
    /// What must not be. Empty: the run passed.
    pub findings: Vec<Finding>,
    /// What the run went through.
    pub figures: Figures,
    /// Lines in the trace, and their checksum.
    pub trace: (u64, u64),
    /// Simulated time from the end of the faults until all groups had healed, in milliseconds.
    pub healed_after_ms: Option<u64>,
    /// Simulated time in all, in milliseconds.
    pub simulated_ms: u64,
}

/// Most findings that the report shows.
const SHOWN_MAX: usize = 12;

impl Verdict {
    /// Whether nothing was found.
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// 0 if nothing was found, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.passed())
    }

    /// The command that runs this again.
    pub fn replay(&self) -> String {
        let (seed, minutes) = (self.seed, self.minutes);
        let mut command = match &self.scenario {
            Some(file) => {
                format!("keyrum lab sim --seed {seed} --scenario {file} --minutes {minutes}")
            }
            None => {
                let regions = self.regions;
                format!("keyrum lab sim --seed {seed} --regions {regions} --minutes {minutes}")
            }
        };
        if self.scenario.is_none() && self.nodes != NODES {
            command += &format!(" --nodes {}", self.nodes);
        }
        if let Some(faults) = &self.faults {
            command += &format!(" --faults {}", faults_in_words(faults));
        }
        command
    }
}

/// Numbers of faults as the command line takes them.
pub fn faults_in_words(faults: &BTreeSet<usize>) -> String {
    match faults.is_empty() {
        true => "none".to_owned(),
        false => faults
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(","),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.passed() { "passed" } else { "FAILED" };
        writeln!(f, "seed {}: {outcome}", self.seed)?;
        for finding in self.findings.iter().take(SHOWN_MAX) {
            writeln!(f, "  {finding}")?;
        }
        if let Some(more) = self
            .findings
            .len()
            .checked_sub(SHOWN_MAX)
            .filter(|more| *more > 0)
        {
            writeln!(f, "  and {more} more")?;
        }
        if let Some(faults) = &self.faults {
            writeln!(
                f,
                "  of {} faults in the plan {} came",
                self.plan.len(),
                faults.len()
            )?;
            for (number, planned) in self.plan.iter().enumerate() {
                if faults.contains(&number) {
                    writeln!(f, "    #{number} {planned}")?;
                }
            }
        }
        tell(&self.figures, self.regions, f)?;
        let healed = match self.healed_after_ms {
            Some(ms) => format!("healed after {ms} ms"),
            None => "not healed".to_owned(),
        };
        writeln!(
            f,
            "  replicas: {} digests compared, last log index {}, {healed}",
            self.figures.digests_compared, self.figures.last_index
        )?;
        writeln!(
            f,
            "  trace: {} lines, checksum {:016x}; {}.{:03} s simulated",
            self.trace.0,
            self.trace.1,
            self.simulated_ms / 1000,
            self.simulated_ms % 1000,
        )?;
        if !self.passed() {
            writeln!(f, "  again: {}", self.replay())?;
        }
        Ok(())
    }
}

/// What one run, or several together, went through.
pub(super) fn tell(figures: &Figures, regions: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let in_vain = |kind: &str, count: &u64| {
        let effective = figures.took_effect.get(kind).copied().unwrap_or(0);
        match *count - effective.min(*count) {
            0 => String::new(),
            vain => format!(" ({vain} in vain)"),
        }
    };
    let faults: Vec<_> = figures
        .faults
        .iter()
        .map(|(kind, count)| format!("{count} {kind}{}", in_vain(kind, count)))
        .collect();
    writeln!(f, "  faults: {}", faults.join(", "))?;
    writeln!(
        f,
        "  effect: {} crashes, {} restarts, {} leader changes; {} segments sent, {} lost, {} held; \
         {} unsynced writes lost, {} torn",
        figures.crashes,
        figures.restarts,
        figures.leader_changes,
        figures.segments,
        figures.lost,
        figures.held,
        figures.writes_lost,
        figures.writes_torn,
    )?;
    writeln!(
        f,
        "  calls: {}, of these {} mutations acknowledged, {} reads answered, {} not done, {} unknown; \
         {} ciphertexts decrypted, {} calls forbidden by a policy",
        figures.calls,
        figures.acknowledged,
        figures.answered,
        figures.not_done,
        figures.unknown,
        figures.decrypted,
        figures.forbidden,
    )?;
    if regions > 1 {
        tell_of_families(figures, f)?;
    }
    writeln!(
        f,
        "  domain keys: {} versions rotated away, {} of them destroyed",
        figures.domain_keys_rotated, figures.domain_keys_destroyed
    )
}

fn tell_of_families(figures: &Figures, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "  families: {} replicas, {} of them again after a deletion; {} moves, {} refused; {} \
         rotations, {} of them due; {} members deleted; {} ciphertexts decrypted in another Region",
        figures.replicas,
        figures.replicas_again,
        figures.moves,
        figures.moves_refused,
        figures.family_rotations,
        figures.due_rotations,
        figures.members_deleted,
        figures.crossed,
    )?;
    writeln!(
        f,
        "  between Regions: {} messages, {} segments lost; cuts held up {} moves and {} \
         rotations; {} cuts of the logs looked at",
        figures.messages,
        figures.lost_between,
        figures.moves_held,
        figures.rotations_held,
        figures.cuts,
    )
}
