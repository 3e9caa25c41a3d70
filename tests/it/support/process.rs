//! A `tidings` process whose output is kept, for servers and for the other commands alike.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long a process may take to start or to end; long, because it is only waited out on failure.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running process and what it has printed so far, both streams together, in lines.
pub struct Process {
    child: Option<Child>,
    output: watch::Receiver<String>,
}

impl Process {
    /// Starts `tidings` in `folder`, with these settings and no others.
    pub fn start(arguments: &[&str], folder: &Path, settings: &[(String, String)]) -> Self {
        let mut command = tidings(folder, settings);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the tidings binary starts");
        let (sender, output) = watch::channel(String::new());
        keep(child.stdout.take().expect("stdout is a pipe"), sender.clone());
        keep(child.stderr.take().expect("stderr is a pipe"), sender);
        Self { child: Some(child), output }
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.output.borrow().clone()
    }

    /// Waits until the output has `text`, and gives all of it.
    pub async fn expect_output(&self, text: &str) -> String {
        let mut output = self.output.clone();
        match timeout(DEADLINE, output.wait_for(|output| output.contains(text))).await {
            Ok(Ok(output)) => output.clone(),
            Ok(Err(_)) => panic!("the process ended without printing {text:?}; it printed:\n{}", self.output()),
            Err(_) => panic!("the process did not print {text:?} in {DEADLINE:?}; it printed:\n{}", self.output()),
        }
    }

    /// The number that the system knows it by.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running process").id()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("the kill command runs");
        assert!(status.success(), "SIG{name} could not be sent to {id}");
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running process");
        let id = child.id().to_string();
        let waiting = tokio::task::spawn_blocking(move || child.wait());
        match timeout(DEADLINE, waiting).await {
            Ok(status) => status.expect("the waiting thread lives").expect("the process is ours to wait for"),
            Err(_) => {
                let _ = Command::new("kill").args(["-s", "KILL", &id]).status();
                panic!("the process did not end in {DEADLINE:?}; it printed:\n{}", self.output());
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the process printed:\n{}---", self.output());
        }
    }
}

/// The command, shielded from the settings and the `tidings.toml` of whoever runs the tests.
pub fn tidings(folder: &Path, settings: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDINGS_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).envs(settings.iter().map(|(name, value)| (name, value)));
    command
}

fn keep(stream: impl Read + Send + 'static, output: watch::Sender<String>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            output.send_modify(|output| output.push_str(&String::from_utf8_lossy(&line)));
            line.clear();
        }
    });
}
