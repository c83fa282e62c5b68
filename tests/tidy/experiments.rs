//! Every experiment has a page.

use std::collections::BTreeSet;

use crate::tree;

const LAB: &str = "docs/lab.md";

/// Explains every setting, and is no experiment.
const EXPLAINED: &str = "all-faults";

/// Catches an experiment that nobody is told of, and a page without an experiment.
#[test]
fn every_experiment_has_a_page() {
    let names = |folder: &str, end: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(tree::root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter_map(|name| name.strip_suffix(end).map(str::to_owned))
            .collect()
    };
    let mut experiments = names("cluster-config/experiments", ".toml");
    assert!(experiments.remove(EXPLAINED) && experiments.len() >= 12);
    assert_eq!(experiments, names("docs/experiments", ".md"));
    let read = |name: &str| std::fs::read_to_string(tree::root().join(name)).unwrap();
    let lab = read(LAB);
    for name in experiments {
        let link = format!("[{name}](experiments/{name}.md)");
        assert!(lab.contains(&link), "{LAB} lacks {link}");
        let page = read(&format!("docs/experiments/{name}.md"));
        let command = format!("cluster-config/experiments/{name}.toml");
        assert!(
            page.contains(&command),
            "the page of {name} does not say how to run it"
        );
    }
}
