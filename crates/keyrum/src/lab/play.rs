//! `keyrum lab run`: an experiment on processes.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use keyrum_consensus::world::World;
use keyrum_lab::checks::Finding;
use keyrum_lab::experiment::{Experiment, Judgement, RegionOfNodes};
use keyrum_lab::scenario::{Scenario, Stage as On};
use keyrum_lab::workload::api::Api;
use keyrum_lab::workload::recorder::Recorder;
use keyrum_lab::workload::{Phase, Progress, Session, Stage, Workload};
use tokio::time::{Instant, sleep, sleep_until};

use super::inflict::{Agenda, Inflict};
use super::packets::{self, Packets};
use super::processes::Cluster;
use super::program::Program;
use super::watch::{self, Seen};
use super::{judged, logs};
use crate::Failure;
use crate::cli::LabRun;
use crate::run;
use crate::signals::{INTERRUPTED, Signals};

/// How long clients may take for their last calls, the nodes to be of one mind, and clients again for
/// their last looks: a call takes up to 9 s and another 5 s later it is carried out or not.
const REST_LIMIT: Duration = Duration::from_secs(30);
const HEAL_LIMIT: Duration = Duration::from_secs(60);
const LOOK_LIMIT: Duration = Duration::from_secs(90);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a program may go on by itself when the faults are over.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);

/// Plays a scenario. Exits 1 if a checker says what was not expected.
pub(crate) async fn play(args: &LabRun) -> Result<ExitCode, Failure> {
    let power_loss = args.power_loss.as_deref().map(library).transpose()?;
    let scenario = Scenario::load(&args.file, on(power_loss.as_deref()))?;
    // Before anything is started, since it may start the command again.
    let packets = args.packets.then(Packets::open).transpose()?;
    let mut signals = Signals::catch()?;
    let folder = tempfile::Builder::new().prefix("keyrum-lab-").tempdir()?;
    let folder = match &args.keep {
        None => Folder::Gone(folder),
        Some(kept) => {
            let held = |error| format!("--keep {}: {error}", kept.display());
            std::fs::create_dir_all(kept).map_err(held)?;
            if std::fs::read_dir(kept)?.next().is_some() {
                return Err(format!(
                    "--keep {}: it is not empty, and an experiment begins with nothing; name a new folder",
                    kept.display()
                )
                .into());
            }
            Folder::Kept(kept.clone())
        }
    };
    let nodes = scenario.topology.nodes() * scenario.topology.regions().len() as u64;
    run::remark(&format!("{}: starts {nodes} nodes", scenario.title));
    // The library knows files by their paths without symbolic links.
    let root = folder.path().canonicalize()?;
    let played = tokio::select! {
        played = experiment(&scenario, &root, power_loss.as_deref(), args, packets) => {
            Some(played?)
        }
        () = signals.next() => None,
    };
    let Some(experiment) = played else {
        run::remark("interrupted: the cluster is stopped, and nothing is judged");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    // What a file expects is about the clients that it names, and a program is in their place.
    let expected = match args.command.is_empty() {
        true => &scenario.expectations[..],
        false => &[],
    };
    let passed = judged::tell(experiment, expected, &args.outputs)?;
    if let Folder::Kept(kept) = &folder {
        run::remark(&format!("the cluster's data is in {}", kept.display()));
    }
    Ok(ExitCode::from(u8::from(!passed)))
}

fn on(power_loss: Option<&Path>) -> On {
    On::Processes {
        power_loss: power_loss.is_some(),
    }
}

/// The library that takes the nodes' power, as the dynamic loader takes it.
fn library(named: &Path) -> Result<PathBuf, Failure> {
    let trouble = |why: &str| {
        let named = named.display();
        format!("--power-loss {named}: {why}; nothing was started")
    };
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Err(trouble("only Linux with glibc can preload it").into());
    }
    let how = "`cargo build --package keyrum-powerloss` makes target/debug/libkeyrum_powerloss.so";
    let path = named
        .canonicalize()
        .map_err(|error| trouble(&format!("{error}; {how}")))?;
    let known = path
        .file_name()
        .is_some_and(|name| name == "libkeyrum_powerloss.so");
    if !known || !path.is_file() {
        return Err(trouble(&format!("that is not the library; {how}")).into());
    }
    // A loader that cannot find what it is to preload goes on without.
    if path.to_str().is_none_or(|path| path.contains([' ', ':'])) {
        let why =
            "the dynamic loader takes no path with a space or a colon; copy the library elsewhere";
        return Err(trouble(why).into());
    }
    Ok(path)
}

/// Where the cluster's data is.
enum Folder {
    Gone(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Gone(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

async fn experiment(
    scenario: &Scenario,
    folder: &Path,
    power_loss: Option<&Path>,
    args: &LabRun,
    packets: Option<Packets>,
) -> Result<Experiment, Failure> {
    let world = World::real();
    let topology = topology_of(scenario, args.packets);
    let cluster = Cluster::up(folder, &topology, power_loss).await?;
    let began = Instant::now();
    let since = move || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let recorder = Recorder::new(since, &*world.entropy);
    let regions = scenario.topology.regions();
    let directory = cluster.directory(&regions);
    let seen = Seen::default();
    let stage = Stage {
        seed: args.seed,
        directory: directory.clone(),
        recorder: recorder.clone(),
        phase: Rc::new(Cell::new(Phase::Work)),
        leader_of: {
            let (seen, regions) = (seen.clone(), regions.clone());
            Rc::new(move |region| seen.leader(&regions[region]))
        },
    };
    let watching = {
        let unnoted = Api::new(world.network.clone(), directory, Recorder::off(), 0);
        let data = cluster.data.clone();
        watch::watch(
            seen.clone(),
            data,
            recorder.clone(),
            unnoted,
            regions.clone(),
        )
    };
    let (sessions, workers) = clients(scenario, &stage, &world, !args.command.is_empty())?;
    let program = match args.command.is_empty() {
        true => None,
        false => Some(Program::start(&args.command, &world, &cluster, &recorder, &regions).await?),
    };
    let lasts = Duration::from_secs_f64(scenario.minutes() * 60.0);
    let agenda = Agenda::of(scenario, on(power_loss), args.seed, lasts);
    let mut show = Show {
        began,
        lasts,
        seen: seen.clone(),
        stage,
        workers,
        inflict: Inflict::new(
            cluster.data.clone(),
            regions[0].parse()?,
            recorder.clone(),
            seen.clone(),
            packets,
            args.seed,
        ),
        program,
    };
    let shown = tokio::select! {
        biased;
        shown = show.conduct(agenda) => shown?,
        _ = join(join_all(sessions), watching) => Shown::default(),
    };
    let mut experiment = Experiment {
        title: scenario.title.clone(),
        replay: replay(args),
        simulated: false,
        faults: show.inflict.take(),
        faults_until_us: shown.faults_until_us,
        healed_at_us: shown.healed_at_us,
        judgements: shown.judgements(&seen),
        ended_us: recorder.now_us(),
        ..Experiment::default()
    };
    (experiment.clients, experiment.calls) = recorder.take();
    (experiment.leaders, experiment.members) = seen.take();
    let nodes: Vec<_> = (1..=scenario.topology.nodes()).collect();
    let region = |name: &String| RegionOfNodes {
        name: name.clone(),
        nodes: nodes.clone(),
    };
    experiment.regions = regions.iter().map(region).collect();
    experiment.logs = logs::read(&cluster.data).await;
    cluster.stop().await?;
    Ok(experiment)
}

/// The command that plays it again.
fn replay(args: &LabRun) -> String {
    let library = args.power_loss.as_deref();
    let library = library.map(|library| format!(" --power-loss {}", library.display()));
    format!(
        "keyrum lab run {}{}{}",
        args.file.display(),
        if args.packets { " --packets" } else { "" },
        library.unwrap_or_default()
    )
}

/// The clients of a scenario's workloads; without any some of each kind. A program is in their place.
fn clients(
    scenario: &Scenario,
    stage: &Stage,
    world: &World,
    has_program: bool,
) -> Result<(Vec<Session>, Vec<Rc<Progress>>), Failure> {
    if has_program {
        return Ok((Vec::new(), Vec::new()));
    }
    let workloads = match scenario.workloads().next() {
        Some(_) => scenario
            .workloads()
            .filter_map(|workload| workload.plan(&scenario.topology))
            .collect(),
        None => Workload::some_of_each(scenario.topology.regions().len()),
    };
    let all = (1..)
        .zip(&workloads)
        .flat_map(|(number, workload)| workload.sessions(number, stage, |_| world.network.clone()));
    Ok(all.unzip())
}

/// The topology file of a scenario's cluster, whose nodes may have addresses of their own.
fn topology_of(scenario: &Scenario, own_addresses: bool) -> String {
    let topology = &scenario.topology;
    let delay_ms = topology.propagation_delay.as_millis();
    let mut text = format!(
        "port = 0\ncredentials = \"any\"\ntest_clock = true\nreads = \"linearizable\"\n\
         propagation_delay = \"{delay_ms}ms\"\n"
    );
    if let Some(every) = topology.snapshot_every() {
        text += &format!("snapshot_entries = {every}\n");
    }
    for (number, region) in topology.regions().iter().enumerate() {
        let node = |id| match own_addresses {
            true => format!(
                "{{ id = {id}, address = \"{}\" }}",
                packets::address(number, id)
            ),
            false => format!("{{ id = {id} }}"),
        };
        let nodes: Vec<_> = (1..=topology.nodes()).map(node).collect();
        let nodes = nodes.join(", ");
        text += &format!("\n[[region]]\nname = \"{region}\"\nnodes = [{nodes}]\n");
    }
    text
}

/// An experiment on its way.
struct Show {
    began: Instant,
    lasts: Duration,
    seen: Seen,
    stage: Stage,
    workers: Vec<Rc<Progress>>,
    inflict: Inflict,
    program: Option<Program>,
}

/// What came of it, beside what clients saw.
#[derive(Default)]
struct Shown {
    faults_until_us: u64,
    healed_at_us: Option<u64>,
    /// Why the cluster has not healed, or clients do not come to an end.
    unhealed: Option<String>,
    /// How the program ended.
    program: Option<ExitStatus>,
}

impl Show {
    async fn conduct(&mut self, agenda: Agenda) -> Result<Shown, Failure> {
        let mut shown = Shown::default();
        for (at, turn) in agenda.turns() {
            sleep_until(self.began + at).await;
            self.inflict.turn(turn, &agenda).await?;
        }
        sleep_until(self.began + self.lasts).await;
        self.inflict.lift_all().await?;
        shown.faults_until_us = self.stage.recorder.now_us();
        if let Some(program) = &mut self.program {
            shown.program = program.end_within(PROGRAM_LIMIT).await?;
        }
        self.stage.phase.set(Phase::Rest);
        let workers = &self.workers;
        let all = |what: fn(&Progress) -> bool| {
            move || match workers.iter().all(|worker| what(worker)) {
                true => None,
                false => Some("a client's call does not end".to_owned()),
            }
        };
        let rested = wait(REST_LIMIT, all(|worker| worker.rests.get())).await;
        let healed = match (self.inflict.broken(), rested) {
            (Some(broken), _) => Err(broken),
            (None, Ok(())) => wait(HEAL_LIMIT, || self.seen.unrest()).await,
            (None, unrested) => unrested,
        };
        if let Err(why) = healed {
            shown.unhealed = Some(why);
            return Ok(shown);
        }
        shown.healed_at_us = Some(self.stage.recorder.now_us());
        self.stage.phase.set(Phase::Look);
        let looked = wait(LOOK_LIMIT, all(|worker| worker.looked.get())).await;
        shown.unhealed = looked.err();
        Ok(shown)
    }
}

/// Waits until nothing is in the way; gives what is if it stays too long.
async fn wait(limit: Duration, in_the_way: impl Fn() -> Option<String>) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    while let Some(what) = in_the_way() {
        if Instant::now() > deadline {
            return Err(format!("{what}, {} s after it should", limit.as_secs()));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

impl Shown {
    /// What was judged while it ran.
    fn judgements(&self, seen: &Seen) -> Vec<Judgement> {
        let finding = |check: &'static str, what: &String| Finding::new(check, what);
        let unhealed = self.unhealed.iter().map(|why| finding("healed", why));
        let differences = seen.differences();
        let differences = differences.iter().map(|what| finding("digests", what));
        let mut judgements = vec![
            Judgement::of("healed", unhealed.collect()),
            Judgement::of("digests", differences.collect()),
        ];
        if let Some(status) = self.program {
            let failed = (!status.success()).then(|| format!("the program ended with {status}"));
            let failed = failed.iter().map(|what| finding("program", what));
            judgements.push(Judgement::of("program", failed.collect()));
        }
        judgements
    }
}
