//! `sockwarden config`: exit codes, what goes to which stream, and that the example is one.

use harness::TempDir;
use harness::watch::binary;
use std::fs;
use std::process::{Command, Output};

fn config(args: &[&str]) -> Output {
    Command::new(binary()).arg("config").args(args).output().expect("the program can be started")
}

#[track_caller]
fn expect(output: &Output, code: i32, out: &[&str], error: &[&str]) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    for part in out {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
    for part in error {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
    assert_eq!(error.is_empty(), stderr.is_empty(), "{stderr}");
}

#[test]
fn the_example_is_right_and_what_is_shown_of_it_too() {
    let directory = TempDir::new();
    let (first, second) = (directory.join("first.toml"), directory.join("second.toml"));
    fs::write(&first, config(&["example"]).stdout).expect("it can be written");
    let first = first.to_str().expect("UTF-8");
    expect(&config(&["check", "--config", first]), 0, &["first.toml is right"], &[]);
    let shown = config(&["show", "--config", first]);
    expect(&shown, 0, &["broker = \"mqtt://localhost:1883\"", "# default"], &[]);
    fs::write(&second, &shown.stdout).expect("it can be written");
    let again = config(&["show", "--config", second.to_str().expect("UTF-8")]);
    assert_eq!(again.stdout, shown.stdout);
}

#[test]
fn all_mistakes_come_at_once_and_the_exit_code_tells() {
    let directory = TempDir::new();
    let file = directory.join("wrong.toml");
    fs::write(&file, "[watch]\nport = [0]\nborker = 1\nall = maybe\n").expect("it can be written");
    let file = file.to_str().expect("UTF-8");
    let wrong = config(&["check", "--config", file]);
    let said = ["3 mistakes", "wrong.toml:2:9: ", "wrong.toml:3:1: ", "wrong.toml:4:7: ", "^"];
    expect(&wrong, 64, &[], &said);
    assert!(wrong.stdout.is_empty());
    let json = config(&["check", "--json", "--config", file]);
    let summary = "\"ok\":false,\"complaints\":3}";
    expect(&json, 64, &["{\"type\":\"config_complaint\",\"line\":2,", summary], &said);
    expect(&config(&["show", "--config", file]), 64, &[], &said);
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let said = ["/nowhere/config.toml cannot be read", "config example"];
    expect(&config(&["check", "--config", "/nowhere/config.toml"]), 64, &[], &said);
    expect(&config(&["check", "--json", "--config", "/nowhere/config.toml"]), 64, &[], &said);
    expect(&config(&["check", "--config", "/proc"]), 64, &[], &["/proc is no regular file"]);
}
