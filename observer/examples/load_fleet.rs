//! How long a list of devices takes to load, with the template, as the daemon does it.
//!
//! ```sh
//! cargo run --release -p sockwarden-observer --example load_fleet -- devices.csv
//! ```
//!
//! Without a file it makes lists of 100,000 devices in each format and times them five times.

#![forbid(unsafe_code)]

use std::{env, error::Error, path::PathBuf, process, time::Duration};

use observer::{
    clock,
    fleet::{SubscriptionSpec, Template, file},
};

const DEVICES: usize = 100_000;
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args_os().nth(1) {
        Some(path) => report(&PathBuf::from(path)),
        None => made(),
    }
}

fn made() -> Result<(), Box<dyn Error>> {
    let directory = env::temp_dir().join(format!("load-fleet-{}", process::id()));
    std::fs::create_dir(&directory)?;
    let lists = [
        ("devices.csv", "id\n", "device-{}\n"),
        ("devices.jsonl", "", "{\"id\":\"device-{}\"}\n"),
        ("devices.toml", "", "[[device]]\nid = \"device-{}\"\n"),
    ];
    for (name, head, line) in lists {
        let path = directory.join(name);
        let lines: String =
            (0..DEVICES).map(|number| line.replace("{}", &number.to_string())).collect();
        std::fs::write(&path, format!("{head}{lines}"))?;
        report(&path)?;
    }
    Ok(std::fs::remove_dir_all(&directory)?)
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn report(path: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let template = Template {
        client_id: Some("backend-{id}".to_owned()),
        subscriptions: vec![SubscriptionSpec { filter: "devices/{id}/up".to_owned(), qos: 1 }],
        ..Template::default()
    };
    let mut times: Vec<Duration> = Vec::new();
    let mut count = 0;
    for _ in 0..RUNS {
        let began = clock::now();
        let specs = file::load(path, &template)?;
        for spec in &specs {
            template.device(spec)?;
        }
        count = specs.len();
        times.push(clock::now().since(began));
    }
    times.sort_unstable();
    println!(
        "{}: {count} devices in {:?} (median of {RUNS}; {:?} to {:?})",
        path.display(),
        times[RUNS / 2],
        times[0],
        times[RUNS - 1]
    );
    Ok(())
}
