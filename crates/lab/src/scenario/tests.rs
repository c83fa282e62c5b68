use super::*;

const PROCESSES: Stage = Stage::Processes { power_loss: false };
const WITHOUT_POWER: Stage = Stage::Processes { power_loss: true };

fn parse(text: &str, stage: Stage) -> Result<Scenario, String> {
    let parsed = Scenario::parse(Path::new("s.toml"), text, stage);
    parsed.map_err(|error| error.to_string())
}

/// A scenario with these lines after its first two.
fn with(lines: &str) -> Result<Scenario, String> {
    parse(
        &format!("title = \"t\"\nminutes = 1.0\n{lines}"),
        Stage::Simulation,
    )
}

/// A scenario with one fault, which begins at line 3, and these settings.
fn fault(settings: &str) -> Result<Scenario, String> {
    with(&format!("[[fault]]\nat = \"5s\"\n{settings}"))
}

/// Catches a setting that is read as something else than what the file says.
#[test]
fn a_scenario_is_what_its_file_says() {
    let text = r#"
        title = "A stale read"
        about = "What it shows."
        minutes = 0.5
        [topology]
        regions = ["us-east-1", "eu-west-1"]
        nodes = 5
        snapshot_every = 50
        [random]
        kinds = ["crash", "clock-jump"]
        per_minute = 6
        [[fault]]
        kind = "one-way"
        at = "5s"
        for = "1500ms"
        node = "follower"
        region = "eu-west-1"
        direction = "out"
        clients = true
        [[fault]]
        kind = "sever"
        at = "6s"
        for = "3s"
        when = "primary-moves"
        to = "eu-west-1"
        [[fault]]
        kind = "clock-off"
        at = "7s"
        for = "1s"
        by = "-5s"
        node = 2
        [[workload]]
        kind = "sessions"
        clients = 4
        reads = "lease"
        [[workload]]
        kind = "key-lifecycle"
        reads = "local"
        node = "leader"
        region = "eu-west-1"
        objects = 7
        readers = { clients = 2, reads = "eventual", node = 3 }
        [[expect]]
        checker = "linearizable"
        verdict = "false"
    "#;
    let scenario = parse(text, Stage::Simulation).unwrap();
    assert_eq!(scenario.title, "A stale read");
    assert_eq!(scenario.minutes(), 0.5);
    let topology = &scenario.topology;
    assert_eq!(topology.regions(), ["us-east-1", "eu-west-1"]);
    assert_eq!((topology.nodes(), topology.snapshot_every()), (5, Some(50)));
    let random = scenario.random.as_ref().unwrap();
    assert_eq!(
        random.kinds(Stage::Simulation, topology),
        [FaultKind::Crash, FaultKind::ClockJump]
    );
    assert_eq!(random.per_minute(), 6.0);
    let [one_way, sever, clock] = &scenario.faults().collect::<Vec<_>>()[..] else {
        panic!("{scenario:?}")
    };
    assert_eq!(one_way.kind, FaultKind::OneWay);
    let times = (one_way.at, one_way.lasts);
    assert_eq!(
        times,
        (Duration::from_secs(5), Some(Duration::from_millis(1_500)))
    );
    assert_eq!(one_way.node, Some(NodeChoice::Follower));
    assert_eq!(one_way.direction, Some(Direction::Out));
    assert_eq!(
        (one_way.clients, one_way.region.as_deref()),
        (Some(true), Some("eu-west-1"))
    );
    assert_eq!(sever.when, Some(Await::PrimaryMoves));
    assert_eq!(clock.by, Some(Offset(-5_000)));
    assert_eq!(clock.node, Some(NodeChoice::Number(2)));
    let [sessions, keys] = &scenario.workloads().collect::<Vec<_>>()[..] else {
        panic!("{scenario:?}")
    };
    assert_eq!(
        (sessions.clients, sessions.reads),
        (Some(4), Some(Reading::Lease))
    );
    assert_eq!(sessions.plan(topology), None);
    let plan = keys.plan(topology).unwrap();
    assert_eq!((plan.objects, plan.region), (7, Some(1)));
    assert_eq!(plan.node, crate::workload::NodeChoice::Leader);
    assert_eq!(plan.readers.unwrap().clients, 2);
    assert_eq!(scenario.expectations[0].verdict, ExpectedVerdict::False);

    let least = parse("title = \"t\"", PROCESSES).unwrap();
    assert_eq!((least.minutes(), least.topology.nodes()), (1.0, 3));
    assert_eq!(least.topology.regions().len(), 3);
    assert!(least.random.is_none() && least.faults().next().is_none());
}

/// Catches a mistake that is taken, told of at the wrong line, or told without what would be right.
#[test]
fn mistakes_are_told_with_their_line() {
    for (lines, line, part) in [
        (
            "colour = 1",
            3,
            "unknown field `colour`, expected one of `title`",
        ),
        ("[topology]\nregions = 4", 4, "there are 1 to 3 Regions"),
        (
            "[topology]\nregions = \"three\"",
            4,
            "a number from 1 to 3, or a list of names",
        ),
        (
            "[topology]\nregions = [\"eu-west-1\"]",
            4,
            "these Regions, in this order: us-east-1, eu-west-1, us-west-2",
        ),
        (
            "[topology]\nregions = [\"us-east-1\", \"us-east-1\"]",
            4,
            "named twice",
        ),
        (
            "[topology]\nregions = [\"nowhere\"]",
            4,
            "\"nowhere\" is no name of a Region",
        ),
        ("[topology]\nnodes = 0", 4, "a Region has 1 to 5 nodes"),
        ("[topology]\nnodes = 6", 4, "a Region has 1 to 5 nodes"),
        (
            "[topology]\nsnapshot_every = 0",
            4,
            "snapshot_every is 1 or more",
        ),
        (
            "[random]\nkinds = []\nper_minute = 1",
            4,
            "kinds name at least one",
        ),
        (
            "[random]\nkinds = \"most\"\nper_minute = 1",
            4,
            "kinds are \"all\" or a list of kinds of faults",
        ),
        (
            "[random]\nkinds = [\"ring\"]\nper_minute = 1",
            4,
            "fault ring: it takes 4 nodes in a Region, and the topology has 3",
        ),
        (
            "[random]\nkinds = \"all\"\nper_minute = 0",
            5,
            "more than 0 and at most 600",
        ),
        (
            "[[workload]]\nkind = \"dances\"",
            3,
            "workload dances: there is no such kind; there are key-lifecycle, ",
        ),
        (
            "[[workload]]\nkind = \"sessions\"\nclients = 0",
            3,
            "clients are 1 to 1000",
        ),
        (
            "[[workload]]\nkind = \"lists\"\nobjects = 0",
            3,
            "objects are 1 to 1000",
        ),
        (
            "[[workload]]\nkind = \"sessions\"\nreads = \"local\"",
            3,
            "they read linearizably or by lease",
        ),
        (
            "[[workload]]\nkind = \"sessions\"\nnode = 1",
            3,
            "it takes kind, clients and reads",
        ),
        (
            "[[workload]]\nkind = \"lists\"\nnode = 4",
            3,
            "there is no node 4; each Region has nodes 1 to 3",
        ),
        (
            "[[workload]]\nkind = \"lists\"\nregion = \"x\"",
            3,
            "there is no Region x; the topology has us-east-1, eu-west-1, us-west-2",
        ),
        (
            "[[workload]]\nkind = \"families\"\n[topology]\nregions = 1",
            3,
            "the topology has one",
        ),
        (
            "[[expect]]\nchecker = \"c\"\nverdict = \"maybe\"",
            5,
            "expected one of `true`, `false`, `unknown`",
        ),
    ] {
        let words = with(lines).unwrap_err();
        assert!(
            words.starts_with(&format!("s.toml, line {line}: ")),
            "{lines}: {words}"
        );
        assert!(words.contains(part), "{lines}: {words}");
        assert!(
            words.contains("all-faults.toml explains every setting"),
            "{words}"
        );
    }
    let words = parse("title = \"t\"\nminutes = 0", Stage::Simulation).unwrap_err();
    assert!(words.contains("line 2: "), "{words}");
    let words = parse("title = \"t\"\nminutes = 0.0", Stage::Simulation).unwrap_err();
    assert!(
        words.contains("line 2: minutes are from 0.05 to 1440"),
        "{words}"
    );
    let words = parse("about = \"\"", Stage::Simulation).unwrap_err();
    assert!(words.contains("missing field `title`"), "{words}");
    let missing = Scenario::load(Path::new("no/such.toml"), Stage::Simulation).unwrap_err();
    assert!(
        missing.to_string().contains("name an existing one"),
        "{missing}"
    );
}

/// The same of faults.
#[test]
fn wrong_faults_are_told() {
    for (settings, part) in [
        (
            "kind = \"meteor\"",
            "there is no kind of fault \"meteor\"; there are crash, blackout, ",
        ),
        ("kind = \"crash\"", "fault crash: it needs `for`"),
        (
            "kind = \"crash\"\nfor = \"soon\"",
            "\"soon\" is no time; write 500ms, 10s or 2m",
        ),
        (
            "kind = \"crash\"\nfor = \"2s\"\npercent = 3",
            "fault crash: it takes no `percent`; it takes kind, at, region, for, node, unsynced",
        ),
        ("kind = \"crash\"\nfor = \"55s\"", "faults end before"),
        (
            "kind = \"crash\"\nfor = \"2s\"\nnode = \"any\"",
            "\"leader\", \"follower\" or the number of a node",
        ),
        (
            "kind = \"crash\"\nfor = \"2s\"\nnode = 0",
            "nodes are numbered from 1",
        ),
        (
            "kind = \"crash\"\nfor = \"2s\"\nregion = \"x\"",
            "there is no Region x",
        ),
        (
            "kind = \"crash\"\nfor = \"2s\"\nunsynced = \"eaten\"",
            "expected one of `kept`, `lost`, `torn`",
        ),
        (
            "kind = \"pause\"\nfor = \"2s\"",
            "`stall` holds back all that it sends and gets",
        ),
        (
            "kind = \"one-way\"\nfor = \"2s\"",
            "it needs `direction`, \"in\" or \"out\"",
        ),
        ("kind = \"ring\"\nfor = \"2s\"", "it takes 4 nodes"),
        ("kind = \"lose\"\nfor = \"2s\"", "it needs `percent`"),
        (
            "kind = \"lose\"\nfor = \"2s\"\npercent = 101",
            "percent is 1 to 100",
        ),
        (
            "kind = \"lose\"\nfor = \"2s\"\npercent = 9\nnode = 1\nbetween_regions = true",
            "one of them",
        ),
        ("kind = \"slow\"\nfor = \"2s\"", "it needs `latency`"),
        ("kind = \"clock-off\"\nfor = \"2s\"", "it needs `by`"),
        (
            "kind = \"clock-off\"\nfor = \"2s\"\nby = \"5\"",
            "\"5\" is no offset of a clock",
        ),
        (
            "kind = \"cut-client\"\nfor = \"2s\"\nclient = 4",
            "numbered from 1 to 3",
        ),
        (
            "kind = \"cut-courier\"\nfor = \"2s\"",
            "it needs `to`, the other Region",
        ),
        (
            "kind = \"sever\"\nfor = \"2s\"\nto = \"us-east-1\"",
            "us-east-1 cannot be cut off from itself",
        ),
        ("kind = \"member-added\"\nfor = \"2s\"", "it takes no `for`"),
        ("kind = \"time-passes\"", "it needs `days`"),
    ] {
        let words = fault(settings).unwrap_err();
        assert!(words.contains("s.toml, line "), "{settings}: {words}");
        assert!(words.contains(part), "{settings}: {words}");
    }
    let one = "[topology]\nregions = 1\nnodes = 1\n[[fault]]\nat = \"1s\"\nfor = \"1s\"\n";
    for (settings, part) in [
        (
            "kind = \"isolate\"",
            "it takes 2 nodes in a Region, and the topology has 1",
        ),
        (
            "kind = \"sever\"",
            "it is about Regions, and the topology has one",
        ),
        (
            "kind = \"repeat\"\npercent = 9",
            "a node alone has no links",
        ),
    ] {
        let words = with(&format!("{one}{settings}")).unwrap_err();
        assert!(words.contains(part), "{settings}: {words}");
    }
}

/// Catches a setting that is taken where nothing can come of it, and one that is refused on both
/// stages.
#[test]
fn each_stage_takes_what_it_can_play() {
    for (rest, simulation, processes) in [
        (
            "[[fault]]\nkind = \"pause\"\nat = \"1s\"\nfor = \"1s\"",
            false,
            true,
        ),
        (
            "[[fault]]\nkind = \"clock-off\"\nat = \"1s\"\nfor = \"1s\"\nby = \"1s\"",
            true,
            false,
        ),
        (
            "[[fault]]\nkind = \"sever\"\nat = \"1s\"\nfor = \"1s\"\nwhen = \"family-rotates\"",
            true,
            false,
        ),
        ("[topology]\nregions = [\"ap-south-1\"]", false, true),
        ("[[workload]]\nkind = \"sessions\"", true, false),
        (
            "[[workload]]\nkind = \"grants\"\nreads = \"local\"\nnode = \"leader\"",
            true,
            true,
        ),
    ] {
        let text = format!("title = \"t\"\n{rest}");
        assert_eq!(
            parse(&text, Stage::Simulation).is_ok(),
            simulation,
            "{rest}"
        );
        assert_eq!(parse(&text, PROCESSES).is_ok(), processes, "{rest}");
    }
    for loses in [
        "kind = \"crash\"\nunsynced = \"lost\"",
        "kind = \"blackout\"\nunsynced = \"torn\"",
        "kind = \"lost-writes\"",
        "kind = \"torn-writes\"\nafter_syncs = 2",
    ] {
        let text = format!("title = \"t\"\n[[fault]]\n{loses}\nat = \"1s\"\nfor = \"1s\"");
        assert!(parse(&text, Stage::Simulation).is_ok(), "{loses}");
        assert!(parse(&text, WITHOUT_POWER).is_ok(), "{loses}");
        let words = parse(&text, PROCESSES).unwrap_err();
        assert!(
            words.contains("what a killed process had written"),
            "{words}"
        );
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            assert!(words.contains("--power-loss LIBRARY"), "{words}");
        }
    }
    let all = with("[random]\nkinds = \"all\"\nper_minute = 1").unwrap();
    let random = all.random.as_ref().unwrap();
    let kinds = |stage| random.kinds(stage, &all.topology);
    assert!(!kinds(Stage::Simulation).contains(&FaultKind::Pause));
    assert!(
        !kinds(Stage::Simulation).contains(&FaultKind::Ring),
        "three nodes"
    );
    assert!(kinds(PROCESSES).contains(&FaultKind::Pause));
    assert!(!kinds(PROCESSES).contains(&FaultKind::LostWrites));
    assert!(kinds(WITHOUT_POWER).contains(&FaultKind::LostWrites));
}

/// Catches a file that explains every setting and lacks a kind, or cannot be played itself.
#[test]
fn the_explaining_file_names_every_kind() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../cluster-config/experiments/all-faults.toml"
    );
    let scenario = Scenario::load(Path::new(file), Stage::Simulation).unwrap();
    assert!(!scenario.about.is_empty());
    let text = std::fs::read_to_string(file).unwrap();
    let explained = |name: &str| {
        let line = format!("#   {name}");
        let next = |rest: &str| rest.starts_with([' ', '\n']);
        text.match_indices(&line)
            .any(|(at, _)| next(&text[at + line.len()..]))
    };
    for kind in FaultKind::ALL {
        assert!(explained(kind.name()), "{kind}");
        for setting in kind.settings() {
            assert!(text.contains(&setting.to_string()), "{setting}");
        }
    }
}

/// Catches an experiment that no stage can play, or that expects something of a checker that there is
/// not.
#[test]
fn every_experiment_can_be_played() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../cluster-config/experiments"
    );
    let mut played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let on = |stage| Scenario::parse(&file, &text, stage);
        let scenario = match (on(Stage::Simulation), on(PROCESSES)) {
            (Ok(scenario), _) | (_, Ok(scenario)) => scenario,
            (Err(simulated), Err(processes)) => panic!("{simulated}; {processes}"),
        };
        for expectation in &scenario.expectations {
            let known = crate::judge::by_name(&expectation.checker);
            assert!(known.is_some(), "{}: {expectation:?}", file.display());
        }
        played += 1;
    }
    assert!(played > 12);
}
