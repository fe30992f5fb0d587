use std::fmt::Write as _;

use proptest::{collection, option, prelude::*};

use super::{Format, load, parse};
use crate::fleet::{
    Complaints, DeviceSpec, Secret, SubscriptionSpec, Template, WillSpec, scratch::Scratch,
};

const FORMATS: [Format; 3] = [Format::Csv, Format::JsonLines, Format::Toml];

fn read(format: Format, text: &str) -> Result<Vec<DeviceSpec>, Complaints> {
    parse(format, text.as_bytes(), &Template::default())
}

fn complaints(format: Format, text: &str) -> String {
    read(format, text).expect_err("invariant: the list is wrong").to_string()
}

/// A device that says everything.
fn whole() -> DeviceSpec {
    let subscription = |filter: &str, qos| SubscriptionSpec { filter: filter.into(), qos };
    DeviceSpec {
        id: "press-17".into(),
        client_id: Some("backend-press-17".into()),
        username: Some("press".into()),
        password: Some(Secret("geheim".into())),
        keep_alive_s: Some(30),
        priority: Some("high".into()),
        will: Some(WillSpec {
            topic: "press-17/state".into(),
            payload: "{\"gone\": true}".into(),
            qos: 1,
            retain: true,
        }),
        subscriptions: Some(vec![subscription("press-17/#", 1), subscription("user@site", 0)]),
    }
}

#[test]
fn the_ending_tells_the_format() {
    let cases = [
        ("a.toml", Some(Format::Toml)),
        ("a.b.csv", Some(Format::Csv)),
        ("/x/a.jsonl", Some(Format::JsonLines)),
        ("a.json", None),
        ("csv", None),
        (".csv", None),
    ];
    for (path, format) in cases {
        assert_eq!(Format::of(path.as_ref()), format, "{path}");
    }
}

#[test]
fn every_format_can_say_everything() {
    let csv = "id,client_id,username,password,keep_alive_s,priority,subscriptions,will_topic,\
        will_payload,will_qos,will_retain\n\
        press-17,backend-press-17,press,geheim,30,high,press-17/#@1;user@site@0,\
        press-17/state,\"{\"\"gone\"\": true}\",1,true\n\
        plain,,,,,,,,,,\n";
    let json = r#"
        {"id":"press-17","client_id":"backend-press-17","username":"press","password":"geheim","keep_alive_s":30,"priority":"high","will":{"topic":"press-17/state","payload":"{\"gone\": true}","qos":1,"retain":true},"subscriptions":[{"filter":"press-17/#","qos":1},{"filter":"user@site"}]}

        {"id":"plain"}"#;
    let toml = r#"
        [[device]]
        id = "press-17"
        client_id = "backend-press-17"
        username = "press"
        password = "geheim"
        keep_alive_s = 30
        priority = "high"
        subscriptions = [{ filter = "press-17/#", qos = 1 }, { filter = "user@site" }]
        [device.will]
        topic = "press-17/state"
        payload = '{"gone": true}'
        qos = 1
        retain = true

        [[device]]
        id = "plain"
    "#;
    let plain = DeviceSpec { id: "plain".into(), ..DeviceSpec::default() };
    for (format, text) in FORMATS.into_iter().zip([csv, json, toml]) {
        assert_eq!(read(format, text), Ok(vec![whole(), plain.clone()]), "{format:?}");
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(read(format, &windows), Ok(vec![whole(), plain.clone()]), "{format:?}");
    }
}

#[test]
fn an_empty_list_has_no_devices() {
    let empty = [(Format::Csv, "id\n"), (Format::JsonLines, "\n\n"), (Format::Toml, "# none\n")];
    for (format, text) in empty {
        assert_eq!(read(format, text), Ok(Vec::new()), "{format:?}");
    }
    assert_eq!(
        complaints(Format::Csv, ""),
        "line 1: there is no column \"id\": the first row names the columns"
    );
}

#[test]
fn a_complaint_says_where_and_what_is_allowed() {
    let cases = [
        (
            Format::Csv,
            "id,colour\na,red",
            "line 1: unknown column \"colour\", known: id, client_id",
        ),
        (Format::Csv, "id,id\na,a", "line 1: column \"id\" is there twice"),
        (Format::Csv, "client_id\na", "line 1: there is no column \"id\""),
        (Format::Csv, "id\n\na\nb,c", "line 4: the row has 2 cells, the header 1"),
        (Format::Csv, "id,username\na,", ""),
        (Format::Csv, "id,username\n,u", "line 2: the device has no id"),
        (
            Format::Csv,
            "id,keep_alive_s\na,soon",
            "line 2: invalid keep_alive_s: given \"soon\", allowed: whole",
        ),
        (Format::Csv, "id,keep_alive_s\na,65536", "given \"65536\", allowed: whole seconds from 0"),
        (
            Format::Csv,
            "id,priority\na,urgent",
            "line 2: device \"a\": invalid priority: given \"urgent\", allowed: low, normal or high",
        ),
        (
            Format::Csv,
            "id,subscriptions\na,t",
            "line 2: invalid subscriptions: given \"t\", allowed: filter@qos",
        ),
        (
            Format::Csv,
            "id,subscriptions\na,t@0;u@9",
            "line 2: device \"a\": invalid qos: given 9, allowed: 0, 1 or 2",
        ),
        (Format::Csv, "id,subscriptions\na,t@x", "given \"x\", allowed: 0, 1 or 2"),
        (Format::Csv, "id,will_qos\na,1", "line 2: a will needs a will_topic"),
        (Format::Csv, "id,will_payload\na,1", "line 2: a will needs a will_topic"),
        (Format::Csv, "id,will_retain\na,false", "line 2: a will needs a will_topic"),
        (Format::Csv, "id,will_topic,will_retain\na,t,1", "given \"1\", allowed: true or false"),
        (Format::Csv, "id,will_topic\na,t/#", "line 2: device \"a\": invalid topic: given"),
        (
            Format::Csv,
            "id,password\na,geheim",
            "line 2: device \"a\": invalid password: given one without a user name",
        ),
        (Format::JsonLines, "\n{\"id\":\"a\"}\n[\"b\"]", "line 3: this is no JSON object"),
        (Format::JsonLines, "{\"id\":\"a\"", "line 1: EOF while parsing an object (column 9)"),
        (
            Format::JsonLines,
            "{\"id\":\"a\",\"colour\":1}",
            "line 1: unknown field `colour`, expected one of `id`, `client_id`",
        ),
        (Format::JsonLines, "{\"id\":5}", "line 1: invalid type: integer `5`, expected a string"),
        (Format::JsonLines, "{\"username\":\"u\"}", "line 1: the device has no id"),
        (
            Format::JsonLines,
            "{\"id\":\"a\",\"will\":7}",
            "expected a will: an object or a table with topic",
        ),
        (
            Format::JsonLines,
            "{\"id\":\"a\",\"subscriptions\":[{\"filter\":\"a/#/b\"}]}",
            "line 1: device \"a\": invalid topic filter: given \"a/#/b\", allowed: `+` alone",
        ),
        (
            Format::JsonLines,
            "{\"id\":\"a\",\"subscriptions\":[{\"filter\":\"a\",\"qos\":3}]}",
            "invalid qos: given 3, allowed: 0, 1 or 2",
        ),
        (
            Format::Toml,
            "[[device]]\nid = 'a'\ncolour = 1",
            "line 3: unknown field `colour`, expected one of `id`",
        ),
        (
            Format::Toml,
            "[[device]]\nid = 'a'\n[[devices]]\nid = 'b'",
            "line 3: unknown key \"devices\": write a [[device]] table",
        ),
        (Format::Toml, "device = 1", "line 1: unknown key \"device\": write a [[device]] table"),
        (Format::Toml, "device = [1]", "line 1: this is no device: write a [[device]] table"),
        (Format::Toml, "[[device]]\nid = 'a'\n\n[[device]]\nid = ", "line 5: "),
        (Format::Toml, "\n\n[[device]]\nusername = 'a'", "line 3: the device has no id"),
        (
            Format::Toml,
            "[[device]]\nid = 'a'\nkeep_alive_s = -1",
            "line 3: invalid keep_alive_s: given -1, allowed: whole",
        ),
    ];
    for (format, text, expected) in cases {
        match read(format, text) {
            Ok(_) => assert_eq!(expected, "", "{text}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{text}: {error}");
            }
        }
    }
}

#[test]
fn one_id_or_client_id_for_two_devices_names_both_lines() {
    let lists = [
        (Format::Csv, "id,client_id\na,x\nb,\na,y\nc,x\nd,b"),
        (
            Format::JsonLines,
            "\n{\"id\":\"a\",\"client_id\":\"x\"}\n{\"id\":\"b\"}\n{\"id\":\"a\"}\n\
            {\"id\":\"c\",\"client_id\":\"x\"}\n{\"id\":\"d\",\"client_id\":\"b\"}",
        ),
    ];
    for (format, text) in lists {
        let expected = "line 4: device \"a\" stands in line 2 already\n\
            line 5: device \"c\": client id \"x\" is that of \"a\" in line 2: the broker keeps one \
            session per client id\n\
            line 6: device \"d\": client id \"b\" is that of \"b\" in line 3: the broker keeps one \
            session per client id";
        assert_eq!(complaints(format, text), expected);
    }
}

#[test]
fn client_ids_are_compared_as_the_template_makes_them() {
    let template = Template { client_id: Some("x-{id}".into()), ..Template::default() };
    let list = "id,client_id\na,\nb,x-a";
    let error = parse(Format::Csv, list.as_bytes(), &template).expect_err("invariant: a clash");
    assert!(error.to_string().starts_with("line 3: device \"b\": client id \"x-a\""), "{error}");
    let fixed = Template { client_id: Some("x".into()), ..Template::default() };
    let error = parse(Format::Csv, b"id\na\nb", &fixed).expect_err("invariant: a clash");
    assert!(error.to_string().starts_with("line 3: device \"b\": client id \"x\""), "{error}");
}

#[test]
fn everything_is_said_at_once_and_the_rest_counted() {
    let list = format!("{{\"id\":\"\"}}\n{}", "nonsense\n".repeat(30));
    let text = complaints(Format::JsonLines, &list);
    assert!(text.ends_with("\nand 11 more"), "{text}");
    assert_eq!(text.lines().count(), 21);
}

#[test]
fn no_complaint_shows_a_password() {
    let lists = [
        (Format::Csv, "id,password,priority\na,geheim,urgent\nb,geheim\n"),
        (
            Format::JsonLines,
            "{\"id\":\"a\",\"password\":\"geheim\",\"priority\":\"urgent\"}\n{\"id\":\"b\",\"password\":\"geheim}\n",
        ),
        (Format::Toml, "[[device]]\nid = 'a'\npassword = 'geheim'\npriority = 'urgent'"),
        (Format::Toml, "[[device]]\nid = 'a'\npassword = 'geheim"),
        (Format::Toml, "[[device]]\nid = 'a'\npassword = geheim"),
    ];
    for (format, text) in lists {
        let complaints = complaints(format, text);
        assert!(!complaints.contains("geheim"), "{complaints}");
    }
}

#[test]
fn what_is_no_text_is_refused_with_its_line() {
    for format in FORMATS {
        let error = parse(format, b"\n\n\xff", &Template::default());
        let error = error.expect_err("invariant: no UTF-8").to_string();
        assert_eq!(error, "line 3: this is no UTF-8", "{format:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let template = Template::default();
    let cases = [
        ("/nowhere/fleet.csv", "the fleet's file /nowhere/fleet.csv: No such file"),
        ("/nowhere/fleet", "its ending tells no format: use .toml, .csv or .jsonl"),
        ("/dev/null.csv", "No such file"),
    ];
    for (path, expected) in cases {
        let error = load(path.as_ref(), &template).expect_err("invariant: no file").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let scratch = Scratch::new();
    let path = scratch.join("fleet.csv");
    std::fs::create_dir(&path).expect("a directory can be made");
    let error = load(&path, &template).expect_err("invariant: a directory").to_string();
    assert!(error.ends_with("this is no regular file"), "{error}");
    let path = scratch.join("long.csv");
    let long = std::fs::File::create(&path).expect("a file can be made");
    long.set_len((256 << 20) + 1).expect("a hole needs no disk");
    let error = load(&path, &template).expect_err("invariant: too long").to_string();
    assert!(error.ends_with("it is longer than 256 MiB, the most that is read"), "{error}");
}

/// Text that CSV can have too: no empty cell, which says nothing there.
fn text() -> impl Strategy<Value = String> {
    "[^\0+#;@]{1,12}"
}

fn device() -> impl Strategy<Value = DeviceSpec> {
    let priority = prop_oneof![Just("low"), Just("normal"), Just("high")];
    let qos = 0u8..3;
    let will = (text(), option::of(text()), qos.clone(), any::<bool>()).prop_map(
        |(topic, payload, qos, retain)| WillSpec {
            topic,
            payload: payload.unwrap_or_default(),
            qos,
            retain,
        },
    );
    let subscription = (text(), qos).prop_map(|(filter, qos)| SubscriptionSpec { filter, qos });
    let credentials = option::of((text(), option::of(text())));
    (
        (option::of(text()), credentials, option::of(any::<u16>()), option::of(priority)),
        (option::of(will), option::of(collection::vec(subscription, 1..4))),
    )
        .prop_map(
            |((client_id, credentials, keep_alive_s, priority), (will, subscriptions))| {
                let (username, password) = credentials.unzip();
                DeviceSpec {
                    id: String::new(),
                    client_id,
                    username,
                    password: password.flatten().map(Secret),
                    keep_alive_s,
                    priority: priority.map(str::to_owned),
                    will,
                    subscriptions,
                }
            },
        )
}

/// Devices with ids and client ids of their own.
fn devices() -> impl Strategy<Value = Vec<DeviceSpec>> {
    collection::vec((device(), text()), 0..8).prop_map(|mut devices| {
        for (index, (device, name)) in devices.iter_mut().enumerate() {
            device.id = format!("{index}{name}");
            device.client_id = device.client_id.take().map(|text| format!("c{index}{text}"));
        }
        devices.into_iter().map(|(device, _)| device).collect()
    })
}

fn write(format: Format, devices: &[DeviceSpec]) -> String {
    match format {
        Format::Csv => write_csv(devices),
        Format::JsonLines => {
            let line = |device| serde_json::to_string(device).expect("invariant: a device is JSON");
            devices.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Format::Toml => write_toml(devices),
    }
}

fn write_csv(devices: &[DeviceSpec]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(super::csv::COLUMNS.map(|(name, _)| name))
        .expect("invariant: a vector takes all");
    for device in devices {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let will = device.will.as_ref();
        let subscriptions = device.subscriptions.iter().flatten();
        let subscriptions: Vec<String> =
            subscriptions.map(|it| format!("{}@{}", it.filter, it.qos)).collect();
        let row = [
            device.id.clone(),
            text(&device.client_id),
            text(&device.username),
            device.password.as_ref().map_or_else(String::new, |it| it.0.clone()),
            device.keep_alive_s.map_or_else(String::new, |it| it.to_string()),
            text(&device.priority),
            subscriptions.join(";"),
            will.map_or_else(String::new, |it| it.topic.clone()),
            will.map_or_else(String::new, |it| it.payload.clone()),
            will.map_or_else(String::new, |it| it.qos.to_string()),
            will.map_or_else(String::new, |it| it.retain.to_string()),
        ];
        writer.write_record(row).expect("invariant: rows are equally long");
    }
    let bytes = writer.into_inner().expect("invariant: a vector takes all");
    String::from_utf8(bytes).expect("invariant: texts went in")
}

fn write_toml(devices: &[DeviceSpec]) -> String {
    let mut toml = String::new();
    for device in devices {
        toml.push_str("[[device]]\n");
        let json = serde_json::to_value(device).expect("invariant: a device is JSON");
        for (key, value) in json.as_object().expect("invariant: a device is an object") {
            if !value.is_null() {
                writeln!(toml, "{key} = {}", toml_value(value)).expect("invariant: a text");
            }
        }
    }
    toml
}

fn toml_value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => {
            let escaped = text.chars().map(|c| format!("\\U{:08x}", u32::from(c)));
            format!("\"{}\"", escaped.collect::<String>())
        }
        serde_json::Value::Array(values) => {
            format!("[{}]", values.iter().map(toml_value).collect::<Vec<_>>().join(","))
        }
        serde_json::Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}={}", toml_value(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// Pieces of lists, so that chance gets behind the first character.
fn rubbish() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "id",
        ",",
        "\n",
        "\"",
        "{",
        "}",
        "[",
        "]",
        "[[device]]",
        "=",
        ":",
        "\"id\"",
        "\"a\"",
        "'",
        "1",
        "-1",
        "subscriptions",
        "a@1",
        ";",
        "will",
        ".",
        "will_topic",
        "\r\n",
        "\u{feff}",
        "null",
        "password",
        "#",
        "\u{202e}",
        "1e999",
        "nan",
        "1979-05-27",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => collection::vec(any::<u8>(), 0..4),
    ];
    collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(devices in devices()) {
        for format in FORMATS {
            let text = write(format, &devices);
            prop_assert_eq!(read(format, &text), Ok(devices.clone()), "{:?}: {}", format, text);
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop_oneof![rubbish(), collection::vec(any::<u8>(), 0..200)]) {
        for format in FORMATS {
            if let Err(complaints) = parse(format, &bytes, &Template::default()) {
                let shown = complaints.to_string();
                prop_assert!(!shown.is_empty());
                prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
                for complaint in complaints.iter() {
                    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
                    prop_assert!(complaint.line.is_none_or(|line| (1..=lines).contains(&line)));
                }
            }
        }
    }
}
