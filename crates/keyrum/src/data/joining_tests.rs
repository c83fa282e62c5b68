//! Tests of Regions that join.

use super::tests::{Counting, claim, topology, used_folder};
use super::*;

fn strictly(root: &Path, topology: &Topology) -> Result<DataFolder, DataError> {
    DataFolder::claim(root, topology, Unnamed::Refuse, &Counting)
}

fn names(folder: &DataFolder) -> Vec<&str> {
    let regions = folder.record().regions.iter();
    regions.map(|region| region.name.as_str()).collect()
}

fn region(name: &str) -> Region {
    name.parse().unwrap()
}

/// Catches a Region that others know before it is founded, or not then; one that has no secrets of
/// its own; and one that changes what is pinned for the others.
#[test]
fn a_region_is_known_once_it_is_founded() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1", "eu-west-1"], 1);
    drop(used_folder(root.path(), &asked));
    let mut folder = claim(root.path(), &asked).unwrap();
    folder.note_founded().unwrap();
    let (east, new) = (region("us-east-1"), region("us-west-2"));
    let pinned = folder.pinned_keys(&east).unwrap();
    folder.add_region(&new, vec![1, 2], &Counting).unwrap();
    let again = folder.add_region(&new, vec![1], &Counting);
    assert!(matches!(again, Err(DataError::RegionExists { .. })));

    // As another process sees it.
    let seen = DataFolder::look(root.path()).unwrap();
    assert!(!seen.neighbours(&east).contains_key(&new));
    assert_eq!(seen.pinned_keys(&east).unwrap(), pinned);
    assert_eq!(seen.neighbours(&new).len(), 2);
    assert_eq!(seen.pinned_keys(&new).unwrap().len(), 3);
    keyrum_crypto::DomainKeyFile::opened_by(&seen.domain_key(&new)).unwrap();
    for node in seen.nodes() {
        assert!(seen.admin_token(&node).exists(), "{node}");
    }
    folder.note_founded().unwrap();
    let seen = DataFolder::look(root.path()).unwrap();
    assert_eq!(seen.neighbours(&east)[&new].len(), 2);
    assert_eq!(seen.pinned_keys(&east).unwrap().len(), 3);
    drop(folder);

    // The first topology goes on, where it may.
    assert_eq!(names(&claim(root.path(), &asked).unwrap()).len(), 3);
    let refused = strictly(root.path(), &asked).unwrap_err().to_string();
    assert!(refused.contains("us-west-2"), "{refused}");
    let all = topology(&["us-east-1", "us-west-2", "eu-west-1"], 1);
    let other_nodes = strictly(root.path(), &all);
    assert!(matches!(other_nodes, Err(DataError::OtherCluster { .. })));
}

/// Catches a Region that cannot be taken back, or that a taking back cut short leaves without its
/// secrets.
#[test]
fn a_region_that_is_not_founded_can_be_taken_back() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1"], 1);
    let mut folder = claim(root.path(), &asked).unwrap();
    folder.note_founded().unwrap();
    let before = folder.record().clone();
    let new = region("us-west-2");
    folder.add_region(&new, vec![1], &Counting).unwrap();
    let node: NodeName = "us-west-2/1".parse().unwrap();
    std::fs::create_dir_all(folder.store(&node)).unwrap();
    // Cut short after the nodes' data.
    folder.remove_data(&node).unwrap();
    drop(folder);
    let mut folder = claim(root.path(), &asked).unwrap();
    keyrum_crypto::DomainKeyFile::opened_by(&folder.domain_key(&new)).unwrap();
    assert!(folder.is_joining(&new) && folder.admin_token(&node).exists());
    folder.unmake_region(&new).unwrap();
    assert_eq!(*folder.record(), before);
    assert!(!root.path().join("us-west-2").exists());
}

/// Catches a topology with a Region more that is refused, that changes the order of the others or
/// takes their data along, and a failed start that commits the folder to it.
#[test]
fn a_topology_may_name_one_region_more() {
    let root = tempfile::tempdir().unwrap();
    let two = topology(&["us-east-1", "eu-west-1"], 1);
    drop(used_folder(root.path(), &two));
    let more = topology(&["us-east-1", "us-west-2", "eu-west-1"], 1);
    let folder = strictly(root.path(), &more).unwrap();
    assert_eq!(names(&folder), ["us-east-1", "eu-west-1", "us-west-2"]);
    keyrum_crypto::DomainKeyFile::opened_by(&folder.domain_key(&region("us-west-2"))).unwrap();
    drop(folder);
    // No node of it ever ran: it is as if it had not been asked for.
    let folder = strictly(root.path(), &two).unwrap();
    assert_eq!(names(&folder).len(), 2);
    drop(folder);
    let first = topology(&["us-west-2", "us-east-1", "eu-west-1"], 1);
    let refused = strictly(root.path(), &first).unwrap_err().to_string();
    assert!(refused.contains("in this order"), "{refused}");

    let data = root.path().join("us-west-2/node-1");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("started"), "").unwrap();
    for claimed in [strictly(root.path(), &more), claim(root.path(), &more)] {
        assert!(matches!(claimed, Err(DataError::UnknownData { .. })));
    }
}
