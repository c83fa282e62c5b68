//! Regions that join a cluster that was made without them.
//!
//! A Region is there once `cluster.json` tells of it, which comes after everything its nodes need;
//! and the other Regions' nodes know it once it is founded. So a crash leaves either nothing that
//! counts, or a Region that the next start founds.

use std::path::Path;

use keyrum_types::{Entropy, NodeId, Region};

use super::{
    DataError, DataFolder, NodeRecord, Record, RegionRecord, Unnamed, data_in_region, io_at,
    newcomers,
};
use crate::cli::NodeName;
use crate::files;
use crate::topology::{Topology, localhost};

/// Puts the Regions that a topology asks for beside those of the record into it, and gives their
/// names.
pub(super) fn prepare(
    root: &Path,
    record: &mut Record,
    topology: &Topology,
    unnamed: Unnamed,
) -> Result<Vec<Region>, DataError> {
    let mut kept = record.clone();
    if unnamed == Unnamed::Refuse {
        // A start that failed before it had a node commits nobody to what it asked for.
        let named = |name: &Region| topology.regions.iter().any(|r| r.name.get_ref() == name);
        let begun = |region: &RegionRecord| region.founded || data_in_region(root, &region.name);
        kept.regions
            .retain(|region| !region.joined || named(&region.name) || begun(region));
    }
    let new = newcomers(root, &kept, topology, unnamed)?;
    for region in &new {
        check_no_data(root, &region.name)?;
    }
    let names = new.iter().map(|region| region.name.clone()).collect();
    kept.regions.extend(new);
    *record = kept;
    Ok(names)
}

/// Data of a Region that the record does not tell of is somebody's, and not ours to use.
fn check_no_data(root: &Path, region: &Region) -> Result<(), DataError> {
    match data_in_region(root, region) {
        true => Err(DataError::UnknownData {
            region: region.clone(),
            folder: root.join(region.as_str()),
        }),
        false => Ok(()),
    }
}

impl DataFolder {
    /// Makes a Region with these nodes, with all that they need to start.
    pub(crate) fn add_region(
        &mut self,
        name: &Region,
        founders: Vec<NodeId>,
        entropy: &dyn Entropy,
    ) -> Result<(), DataError> {
        if self.region(name).is_some() {
            return Err(DataError::RegionExists {
                region: name.clone(),
                held: self.record.describe_now(),
            });
        }
        check_no_data(&self.root, name)?;
        let mut region = RegionRecord::new(name, founders, true);
        for port in region.nodes.iter_mut().flat_map(NodeRecord::ports_mut) {
            *port = self.ports.free(localhost(), entropy)?;
        }
        self.make_domain_keys(std::slice::from_ref(name), entropy)?;
        self.record.regions.push(region);
        self.establish(entropy).inspect_err(|_| {
            self.record.regions.pop();
        })
    }

    /// Draws the domain keys of Regions that have no data yet, where they were not drawn before.
    pub(super) fn make_domain_keys(
        &self,
        regions: &[Region],
        entropy: &dyn Entropy,
    ) -> Result<(), DataError> {
        for region in regions {
            let path = self.domain_key(region);
            if !path.exists() {
                let folder = self.root.join(region.as_str());
                files::private_folder(&folder).map_err(io_at(&folder))?;
                keyrum_crypto::create(&path, entropy)?;
            }
        }
        Ok(())
    }

    /// Whether a Region joined and is not founded yet.
    pub(crate) fn is_joining(&self, region: &Region) -> bool {
        self.region(region).is_some_and(|region| !region.is_known())
    }

    /// Removes a Region that could not be founded, as if it had never been added. None of its nodes
    /// may run.
    pub(crate) fn unmake_region(&mut self, name: &Region) -> Result<(), DataError> {
        assert!(self.is_joining(name), "no other Region knows it");
        let ids = self.region(name).map(|region| region.nodes.clone());
        for node in ids.unwrap_or_default() {
            self.remove_data(&NodeName {
                region: name.clone(),
                id: node.id,
            })?;
        }
        // Cut short here, the next start founds it after all: its secrets are still there.
        self.record.regions.retain(|region| region.name != *name);
        self.save()?;
        let folder = self.root.join(name.as_str());
        files::remove_all(&folder).map_err(io_at(&folder))
    }
}
