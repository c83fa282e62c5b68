//! What a family session looks at when all is over: its families in every Region, and every
//! ciphertext it ever made.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::family::{Family, FamilySession};
use super::place;
use super::session::PATIENCE;
use crate::experiment::Outcome;

const CHECK: &str = "families-agree";

/// A member as the API shows it.
struct Shown {
    region: usize,
    metadata: Value,
    rotation: Value,
    rotations: Value,
}

impl FamilySession {
    /// Gives up at the first finding.
    pub(super) async fn look(&mut self) {
        for family in 0..self.families.len() {
            let mut members = Vec::new();
            for region in 0..self.regions() {
                let Some(seen) = self.look_until_answered(family, region).await else {
                    return;
                };
                members.extend(seen);
            }
            self.compare(family, &members);
            if !self.book.borrow().findings.is_empty() {
                return;
            }
        }
        for which in 0..self.ciphertexts.len() {
            let family = self.ciphertexts[which].family;
            for region in 0..self.regions() {
                if self.families[family].members[region].usable() == Some(true)
                    && !self.decrypt_until_answered(which, region).await
                {
                    return;
                }
            }
        }
    }

    /// `None`: no answer came in time. `Some(None)`: there is no member.
    async fn look_until_answered(&mut self, family: usize, region: usize) -> Option<Option<Shown>> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.look_once(family, region).await {
                Ok(seen) => return Some(seen),
                Err(Outcome::Refused { .. }) => return None,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
        let region = place::region(region);
        self.find("healed", format_args!("{region} does not answer"));
        None
    }

    async fn look_once(&mut self, family: usize, region: usize) -> Result<Option<Shown>, Outcome> {
        let Some(metadata) = self.look_at(family, region).await? else {
            return Ok(None);
        };
        let input = json!({ "KeyId": self.families[family].id });
        let rotation = self.read(region, "GetKeyRotationStatus", &input).await?;
        let input = json!({
            "KeyId": self.families[family].id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL",
            "Limit": 1000,
        });
        let rotations = self.read(region, "ListKeyRotations", &input).await?;
        Ok(Some(Shown {
            region,
            metadata,
            rotation,
            rotations,
        }))
    }

    async fn read(
        &mut self,
        region: usize,
        operation: &str,
        input: &Value,
    ) -> Result<Value, Outcome> {
        match self.call(region, operation, input).await {
            Outcome::Done(answer) => {
                self.book.borrow_mut().answered += 1;
                Ok(without_arns(answer))
            }
            other => {
                if let Outcome::Refused { error, message } = &other {
                    self.find(CHECK, format_args!("{operation}: {error} {message}"));
                }
                Err(other)
            }
        }
    }

    /// Whether all members tell the same of what is shared.
    fn compare(&self, family: usize, members: &[Shown]) {
        let id = &self.families[family].id;
        let role = |shown: &Shown| {
            shown.metadata["MultiRegionConfiguration"]["MultiRegionKeyType"] == "PRIMARY"
        };
        let primaries = members.iter().filter(|shown| role(shown)).count();
        if !members.is_empty() && primaries != 1 {
            self.find(CHECK, format_args!("{id} shows {primaries} primaries"));
        }
        let shared = |shown: &Shown| {
            let configuration = &shown.metadata["MultiRegionConfiguration"];
            json!({
                "primary": configuration["PrimaryKey"],
                "replicas": configuration["ReplicaKeys"],
                "material": shown.metadata["CurrentKeyMaterialId"],
                "rotations": shown.rotations,
            })
        };
        self.compare_with_acknowledged(family, members);
        for pair in members.windows(2) {
            let [one, other] = pair else { continue };
            let (a, b) = (shared(one), shared(other));
            // Rotation reads off while a member waits to be deleted.
            let waits = |shown: &Shown| shown.metadata["KeyState"] == "PendingDeletion";
            let rotation = waits(one) || waits(other) || one.rotation == other.rotation;
            if a != b || !rotation {
                let (here, there) = (place::region(one.region), place::region(other.region));
                let what = format!(
                    "{id} in {here} is {a} {}, in {there} {b} {}",
                    one.rotation, other.rotation
                );
                self.find(CHECK, what);
            }
        }
    }

    /// Whether what is shared is what was acknowledged, wherever the primary has been.
    fn compare_with_acknowledged(&self, family: usize, members: &[Shown]) {
        let Family {
            id,
            period,
            rotated,
            ..
        } = &self.families[family];
        let usable = |shown: &&Shown| shown.metadata["Enabled"] == true;
        let Some(shown) = members.iter().find(usable) else {
            return;
        };
        let region = place::region(shown.region);
        let seen = shown.rotation["RotationPeriodInDays"].as_u64();
        if let Some(period) = period
            && seen != *period
        {
            let what = format_args!("{id} in {region}: period {seen:?}, must be {period:?}");
            self.find(CHECK, what);
        }
        let on_demand = |rotation: &Value| rotation["RotationType"] == "ON_DEMAND";
        let rotations = shown.rotations["Rotations"].as_array();
        if *rotated && !rotations.is_some_and(|rotations| rotations.iter().any(on_demand)) {
            let what = format_args!("{id} in {region} knows of no rotation on demand");
            self.find(CHECK, what);
        }
    }

    async fn decrypt_until_answered(&mut self, which: usize, region: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.decrypt(which, region).await {
            if Instant::now() > deadline {
                let region = place::region(region);
                self.find("healed", format_args!("{region} does not answer"));
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

/// An answer without the members that differ from Region to Region.
fn without_arns(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("KeyId");
        for value in fields.values_mut() {
            if let Some(items) = value.as_array_mut() {
                let bare = |item: &mut Value| *item = without_arns(item.take());
                items.iter_mut().for_each(bare);
            }
        }
    }
    answer
}
