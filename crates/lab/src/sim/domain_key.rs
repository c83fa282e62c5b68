//! The domain keys in a run: rotated in the middle of everything, old versions destroyed when that is
//! possible, and in the end where they belong.

use keyrum_crypto::DomainKeys as _;
use keyrum_service::Service;
use keyrum_state::{DomainKeyStage, State};

use super::node::Machine;
use super::run::{Run, in_region};
use crate::checks::Finding;

const CHECK: &str = "domain-key";

/// Destroys the oldest version if that is possible, and else makes a new one.
pub(super) async fn turn(service: &Service) -> Result<String, String> {
    let known = service.domain_key().await;
    let known = known.map_err(|error| error.to_string())?;
    let retired = |stage| matches!(stage, DomainKeyStage::Retired { .. });
    if let Some(old) = known.versions.iter().find(|known| retired(known.stage))
        && service.destroy_domain_key(old.version).await.is_ok()
    {
        return Ok(format!("version {} is withdrawn", old.version));
    }
    let made = service.rotate_domain_key().await;
    made.map(|version| format!("version {version} is made"))
        .map_err(|error| error.to_string())
}

impl Run {
    /// Whether every rotation has come to its end: nothing is sealed under an old version, every node
    /// has all versions that are left, and none that was destroyed.
    pub(super) fn domain_keys_rest(&self) -> Result<(), Finding> {
        for machine in &self.machines {
            let life = machine.life.borrow();
            let Some(live) = &life.running else { continue };
            let (region, state) = (machine.place.region, live.group.state());
            let rests = rests(machine, &state);
            rests.map_err(|what| in_region(region, Finding::new(CHECK, what)))?;
        }
        Ok(())
    }

    /// Counts what came to its end.
    pub(super) fn count_domain_keys(&mut self, state: &State) {
        for (_, known) in state.domain_key_versions() {
            match known.stage {
                DomainKeyStage::Retired { .. } => self.figures.domain_keys_rotated += 1,
                DomainKeyStage::Destroyed => {
                    self.figures.domain_keys_rotated += 1;
                    self.figures.domain_keys_destroyed += 1;
                }
                DomainKeyStage::Announced | DomainKeyStage::Active | DomainKeyStage::Withdrawn => {}
            }
        }
    }
}

fn rests(machine: &Machine, state: &State) -> Result<(), String> {
    let seals = state.sealing_version();
    let node = machine.place.node;
    for (version, known) in state.domain_key_versions() {
        let kept = machine.domain_keys.get(version);
        let kept = kept.map_err(|error| error.to_string())?;
        let kept = kept.map(|secret| secret.fingerprint());
        match known.stage {
            DomainKeyStage::Announced | DomainKeyStage::Withdrawn => {
                let (stage, confirmed) = (known.stage.name(), &known.confirmed);
                return Err(format!(
                    "version {version} is {stage}, {confirmed:?} confirmed"
                ));
            }
            DomainKeyStage::Destroyed if kept.is_some() => {
                return Err(format!("node {node} still has version {version}"));
            }
            DomainKeyStage::Active | DomainKeyStage::Retired { .. }
                if kept != Some(known.fingerprint) =>
            {
                return Err(format!("node {node} does not have version {version}"));
            }
            DomainKeyStage::Active | DomainKeyStage::Retired { .. } | DomainKeyStage::Destroyed => {
            }
        }
    }
    let mut old = state.domain_key_versions().map(|(version, _)| version);
    let old = old.find(|version| *version != seals && state.sealings_under(*version) > 0);
    match old {
        Some(version) => Err(format!(
            "there are secrets under version {version}, {seals} seals"
        )),
        None => Ok(()),
    }
}
