//! The checkers on a whole run of all workloads, under faults. One test: only the first run of a
//! process is fixed by its seed.

use keyrum_lab::experiment::Holds;
use keyrum_lab::judge::{self, CHECKERS, export};
use keyrum_lab::sim::{SimOptions, record};
use keyrum_lab::workload::api::Reads;
use keyrum_lab::workload::{Kind, NodeChoice, Readers, Workload};

/// Catches a model that takes for wrong what the product does, a checker that has nothing to judge in a
/// run of all workloads, or that gives up on it, and a history that cannot be exported.
#[test]
fn a_run_of_all_workloads_is_judged() {
    let mut options = SimOptions::new(3);
    options.minutes = 0.5;
    options.workloads = Kind::ALL.map(Workload::new).to_vec();
    for workload in &mut options.workloads {
        workload.readers = Some(Readers {
            clients: 1,
            reads: Reads::Local,
            node: NodeChoice::Follower,
        });
    }
    let (verdict, experiment) = record(options);
    assert!(verdict.passed(), "{verdict}");
    // Whether faults can be counted is not for the clients' calls to show.
    let promised = CHECKERS
        .iter()
        .filter(|checker| checker.promised && checker.name != "exercised");
    for checker in promised {
        let judgement = checker.judge(&experiment);
        assert_eq!(judgement.holds, Holds::True, "{judgement:#?}");
    }
    assert!(judge::all(&experiment).len() >= 8);
    let mut history = Vec::new();
    export::knossos(&experiment, true, &mut history).unwrap();
    export::elle(&experiment, true, &mut history).unwrap();
    let lines = history.split(|byte| *byte == b'\n').count();
    assert!(lines > experiment.calls.len(), "{lines}");
}
