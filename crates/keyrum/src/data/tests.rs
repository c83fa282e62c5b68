//! Tests of the data folder.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Counting;

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = at as u8);
    }
}

fn topology(regions: &[&str], nodes: u64) -> Topology {
    let regions: Vec<Region> = regions.iter().map(|name| name.parse().unwrap()).collect();
    let bind = Ipv4Addr::LOCALHOST.into();
    Topology::uniform(&regions, nodes, 0, bind, "000000000000".parse().unwrap()).unwrap()
}

fn claim(root: &Path, topology: &Topology) -> Result<DataFolder, DataError> {
    DataFolder::claim(root, topology, &mut Ports::new(&Counting), &Counting)
}

/// Catches a restart that gives nodes other ports, so that nobody finds them again.
#[test]
fn ports_are_remembered() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1", "eu-west-1"], 3);
    let first = claim(root.path(), &asked).unwrap();
    let record = first.record().clone();
    drop(first);
    let second = claim(root.path(), &asked).unwrap();
    assert_eq!(*second.record(), record);
    let mut ports: Vec<_> = record
        .regions
        .iter()
        .flat_map(|r| &r.nodes)
        .flat_map(|n| [n.api, n.peer, n.admin])
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!((ports.len(), ports[0] > 0), (18, true));
}

/// Catches a cluster started on another cluster's data, and a message that does not name both.
#[test]
fn other_regions_or_nodes_are_refused() {
    let root = tempfile::tempdir().unwrap();
    drop(claim(root.path(), &topology(&["us-east-1"], 3)).unwrap());
    for (asked, named) in [
        (topology(&["us-east-1"], 1), "us-east-1 (node 1)"),
        (topology(&["eu-west-1"], 3), "eu-west-1 (nodes 1, 2, 3)"),
    ] {
        let text = claim(root.path(), &asked).unwrap_err().to_string();
        assert!(
            text.contains("holds us-east-1 (nodes 1, 2, 3), but "),
            "{text}"
        );
        assert!(text.contains(named) && text.contains("--data"), "{text}");
    }
}

/// Catches two processes that write to one folder.
#[test]
fn a_folder_has_one_user() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1"], 1);
    let first = claim(root.path(), &asked).unwrap();
    let text = claim(root.path(), &asked).unwrap_err().to_string();
    assert!(text.contains("in use by another keyrum process"), "{text}");
    drop(first);
    assert!(claim(root.path(), &asked).is_ok());
}

/// Catches a node id that is used twice, also after its node is gone.
#[test]
fn a_node_id_is_never_used_twice() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = claim(root.path(), &topology(&["us-east-1"], 3)).unwrap();
    let mut ports = Ports::new(&Counting);
    let four: NodeName = "us-east-1/4".parse().unwrap();
    folder.add_node(&four, &mut ports).unwrap();
    assert!(folder.add_node(&four, &mut ports).is_err());
    folder.remove_node(&four).unwrap();
    let text = folder.add_node(&four, &mut ports).unwrap_err().to_string();
    assert!(text.contains("add us-east-1/5 instead"), "{text}");
    drop(folder);
    // Neither the added nor the removed node makes the folder another cluster's.
    assert!(claim(root.path(), &topology(&["us-east-1"], 3)).is_ok());
}

/// Catches a secret that other users of the machine could read.
#[test]
fn secrets_are_private() {
    let root = tempfile::tempdir().unwrap();
    let folder = claim(root.path(), &topology(&["us-east-1"], 1)).unwrap();
    let node = &folder.nodes()[0];
    folder.prepare_node(node, &Counting).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.admin_token(node)), 0o600);
    assert_eq!(mode(&folder.node_folder(node)), 0o700);
    let token = std::fs::read_to_string(folder.admin_token(node)).unwrap();
    folder.prepare_node(node, &Counting).unwrap();
    assert_eq!(
        std::fs::read_to_string(folder.admin_token(node)).unwrap(),
        token
    );
}

/// Catches a node that comes back empty after its store, or what is in it, was removed; one that
/// is refused though it never had data, or after a reset.
#[test]
fn a_store_that_was_there_must_be_there() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = claim(root.path(), &topology(&["us-east-1"], 1)).unwrap();
    let node = folder.nodes()[0].clone();
    let store = folder.store(&node);
    let make_store = || {
        files::private_folder(&store).unwrap();
        std::fs::write(store.join("mark"), "").unwrap();
    };
    assert!(!folder.is_gone(&node), "it never had one");
    make_store();
    assert!(!folder.is_gone(&node), "it was made before nodes noted it");
    files::touch(&folder.started_file(&node)).unwrap();
    files::touch(&folder.started_file(&node)).unwrap();
    assert!(!folder.is_gone(&node), "it is there");
    std::fs::remove_file(store.join("mark")).unwrap();
    assert!(folder.is_gone(&node), "the folder is empty");
    std::fs::remove_dir(&store).unwrap();
    assert!(folder.is_gone(&node), "the folder is gone");

    make_store();
    folder.note_founded().unwrap();
    folder.reset(&Counting).unwrap();
    assert!(!store.exists() && !folder.started_file(&node).exists());
    assert!(!folder.is_gone(&node), "it was reset");

    make_store();
    folder.note_founded().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    assert!(folder.is_gone(&node), "the cluster noted it");
}

/// Catches a Region whose key is drawn again, so that what was wrapped to it cannot be opened; one
/// whose public key is not the pinned one; and an old cluster that never gets one.
#[test]
fn region_keys_are_pinned() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1", "eu-west-1"], 1);
    let here: Region = "us-east-1".parse().unwrap();
    let mut folder = claim(root.path(), &asked).unwrap();
    let path = folder.region_key(&here);
    let made = keyrum_crypto::load_region_key(&path).ok().unwrap().public();
    let pinned = folder.pinned_keys().unwrap();
    assert_eq!(pinned.len(), 2);
    assert_eq!(pinned[&here], made);
    folder.reset(&Counting).unwrap();
    assert_eq!(folder.pinned_keys().unwrap(), pinned);
    drop(folder);

    std::fs::remove_file(&path).unwrap();
    let folder = claim(root.path(), &asked).unwrap();
    assert!(!path.exists(), "a lost key is not drawn again");
    drop(folder);

    let record = root.path().join("cluster.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let old = text.lines().filter(|line| !line.contains("public_key"));
    std::fs::write(&record, old.collect::<Vec<_>>().join("\n")).unwrap();
    let folder = claim(root.path(), &asked).unwrap();
    assert!(path.exists());
    assert_eq!(folder.pinned_keys().unwrap().len(), 2);
}
