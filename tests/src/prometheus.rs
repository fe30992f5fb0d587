//! Prometheus and its promtool: what judges metrics, and what scrapes them. Written for 2.42,
//! Debian 12's.

use crate::TempDir;
use crate::logged;
use crate::wait;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// How long a start or the first scrape of a target may take. Prometheus waits some seconds before
/// it takes up new targets (about 9 s in all), and longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `promtool check metrics` complains of, a line each; none for a text without fault.
///
/// Panics when it is no text of metrics at all, with what promtool says.
#[track_caller]
pub fn complaints(metrics: &str) -> Vec<String> {
    let end = promtool(&["check", "metrics"], metrics);
    let said = String::from_utf8_lossy(&end.stderr).into_owned();
    match end.status.code() {
        Some(0) => assert!(said.is_empty(), "promtool is content and says {said}"),
        // Readable, but against the conventions.
        Some(3) => {}
        _ => panic!("promtool cannot read it: {said}"),
    }
    said.lines().map(str::to_owned).collect()
}

/// Panics unless promtool understands each expression of PromQL.
#[track_caller]
pub fn check_expressions(expressions: &[&str]) {
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(index, expression)| {
            serde_json::json!({ "record": format!("rule:{index}"), "expr": expression })
        })
        .collect();
    let directory = TempDir::new();
    let file = directory.join("rules.yml");
    // JSON is YAML too.
    let text = serde_json::json!({ "groups": [{ "name": "all", "rules": rules }] }).to_string();
    fs::write(&file, text).expect("it is our directory");
    let end = promtool(&["check", "rules", &file.display().to_string()], "");
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
}

/// A running Prometheus that scrapes each second, gone when dropped.
#[derive(Debug)]
pub struct Prometheus {
    directory: TempDir,
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// One that scrapes `/metrics` of `targets`, on a port of the kernel's choice.
    #[track_caller]
    pub fn start(targets: &[SocketAddr]) -> Self {
        let directory = TempDir::new();
        let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
        // JSON is YAML too.
        let config = serde_json::json!({
            "global": { "scrape_interval": "1s" },
            "scrape_configs": [{ "job_name": "test", "static_configs": [{ "targets": targets }] }],
        });
        fs::write(directory.join("config.yml"), config.to_string()).expect("it is our directory");
        let (child, address) = spawn(&directory);
        Self { directory, child, address }
    }

    /// Where its own pages and its API are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The one value of an expression of PromQL, or `None` if it has none at the moment.
    ///
    /// Panics when there are more, or when the expression is wrong.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Option<f64> {
        let answer = self.ask(expression);
        let answer = answer.as_array().expect("an answer is a list");
        // A vector has an object for each value, a scalar is a time and a value.
        let pair = match answer.as_slice() {
            [] => return None,
            [one] => &one["value"],
            [_, Value::String(_)] => &Value::Array(answer.clone()),
            many => panic!("{expression} has {} values", many.len()),
        };
        let value = pair[1].as_str().and_then(|value| value.parse().ok());
        Some(value.unwrap_or_else(|| panic!("{expression} gives {pair}")))
    }

    /// How many values an expression of PromQL has at the moment.
    ///
    /// Panics when the expression is wrong.
    #[track_caller]
    pub fn count(&self, expression: &str) -> usize {
        self.ask(expression).as_array().map_or(0, Vec::len)
    }

    /// Waits until the last scrape of a target was a success.
    #[track_caller]
    pub fn await_up(&self, target: SocketAddr) {
        let up = format!("up{{instance=\"{target}\"}}");
        wait::within(PATIENCE, "a scrape", || match self.query(&up) {
            Some(1.0) => Ok(()),
            other => Err(format!("{up} is {other:?}")),
        });
    }

    /// Waits until an expression has this value.
    #[track_caller]
    pub fn await_value(&self, expression: &str, value: f64) {
        wait::within(PATIENCE, expression, || match self.query(expression) {
            Some(found) if found == value => Ok(()),
            other => Err(format!("it is {other:?} and not {value}")),
        });
    }

    /// Ends it without any chance to finish what it writes.
    pub fn kill(&mut self) {
        // Fails when it has ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }

    /// Starts it again with what it had stored, after [`Prometheus::kill`]. Its port is another one.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        (self.child, self.address) = spawn(&self.directory);
    }

    #[track_caller]
    fn ask(&self, expression: &str) -> Value {
        let server = format!("http://{}", self.address);
        let end = promtool(&["query", "instant", "--format=json", &server, expression], "");
        assert!(end.status.success(), "{expression}: {}", String::from_utf8_lossy(&end.stderr));
        serde_json::from_slice(&end.stdout).expect("it was told to answer in JSON")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts it and waits until it answers.
#[track_caller]
fn spawn(directory: &TempDir) -> (Child, SocketAddr) {
    let option = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let (child, log) = logged::spawn("prometheus", |command| {
        command
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(option("config.file", directory.join("config.yml")))
            .arg(option("storage.tsdb.path", directory.join("data")));
    });
    let address = wait::within(PATIENCE, "Prometheus (`cargo xtask setup` installs it)", || {
        let said = log.read();
        let ready = said.contains("Server is ready to receive web requests");
        ready.then(|| listening(&said)).flatten().ok_or(said)
    });
    (child, address)
}

/// The address in the line that says where it listens.
fn listening(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("msg=\"Listening on\""))?;
    line.rsplit_once("address=")?.1.trim().parse().ok()
}

#[track_caller]
fn promtool(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: `cargo xtask setup` installs it");
    let mut pipe = child.stdin.take().expect("invariant: stdin is a pipe");
    // It reads all before it says anything, or ends early, which its exit code tells.
    let _written = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    child.wait_with_output().expect("it was started")
}
