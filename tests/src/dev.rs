//! `keyrum dev`, for tests.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{Ready, binary, wait};

/// A `keyrum dev` that ends with its guard.
#[derive(Debug)]
pub struct Dev {
    /// Where it is.
    pub ready: Ready,
    child: Child,
    folder: TempDir,
}

impl Dev {
    /// Starts it on a free port with more arguments, such as `--ephemeral`, and waits until it is
    /// ready.
    pub async fn start(args: &[&str]) -> Self {
        Self::start_with(&[], args).await
    }

    /// The same, with more environment.
    pub async fn start_with(envs: &[(String, String)], args: &[&str]) -> Self {
        let mut command = Command::new(binary::keyrum());
        command.envs(envs.iter().cloned());
        Self::launch(command, args).await
    }

    /// The same, where no file may become larger than that, in units of 512 bytes: what is written
    /// beyond fails.
    pub async fn start_with_small_files(limit: u32, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        // The signal would end the program before it sees the error.
        let script = format!(r#"trap '' XFSZ; ulimit -f {limit}; exec "$@""#);
        shell.args(["-c", &script, "sh"]).arg(binary::keyrum());
        Self::launch(shell, args).await
    }

    async fn launch(mut command: Command, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ready_file = folder.path().join("ready.json");
        let output = std::fs::File::create(folder.path().join("output")).expect("an output file");
        command
            .args(["dev", "--port", "0", "--ready-file"])
            .arg(&ready_file)
            .args(args);
        command.stdin(Stdio::piped());
        command
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output);
        let mut child = command.spawn().expect("the program can be started");
        let ready = read_ready(&ready_file, &mut child, &folder.path().join("output")).await;
        Self {
            ready,
            child,
            folder,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.ready.nodes().next().map_or(0, |node| node.pid)
    }

    /// Its process, to wait for.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Nothing to do about an error: the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("keyrum dev printed:\n{}", self.output());
        }
    }
}

/// Reads the ready file once it is there; panics if the process ends first.
pub(crate) async fn read_ready(file: &Path, child: &mut Child, output: &Path) -> Ready {
    let look = async || {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            let printed = std::fs::read_to_string(output).unwrap_or_default();
            panic!("it ended before it was ready ({status}); it printed:\n{printed}");
        }
        std::fs::read(file).ok()
    };
    let line = wait::until("ready file", wait::LONG, look).await;
    serde_json::from_slice(&line).expect("the ready file is JSON")
}

/// One `keyrum dev --ephemeral` of two Regions for all tests of this process that keep to an
/// account of their own. It stops when the process ends, however that happens.
pub async fn shared_dev() -> &'static Ready {
    static DEV: OnceCell<Dev> = OnceCell::const_new();
    let start = async || {
        // A static is never dropped. So a shell stands between: it waits for the end of its
        // standard input, which comes when this process ends, and then stops the program.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            r#""$@" </dev/null & read -r _; kill $!; wait $!"#,
            "sh",
        ]);
        shell.arg(binary::keyrum());
        Dev::launch(shell, &["--ephemeral"]).await
    };
    &DEV.get_or_init(start).await.ready
}
