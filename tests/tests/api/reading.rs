//! What can be read, and whether it is what the document promises.

use observer::life::watchdog::Loop;
use observer::model::MonoTime;
use serde_json::Value;

use super::daemon::{Daemon, HOSTILE, PASSWORD, ROWS};

/// Whether `value` has all that `schema` demands, and nothing that it does not know.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let path = name.trim_start_matches('#');
        return check(
            document,
            document.pointer(path).expect("a reference leads somewhere"),
            value,
            at,
        );
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().for_each(|part| check(document, part, value, at));
    }
    if let Some(kinds) = schema["oneOf"].as_array() {
        assert!(!kinds.is_empty());
        return;
    }
    let allowed = |kind: &str| match &schema["type"] {
        Value::String(it) => it == kind,
        Value::Array(all) => all.iter().any(|it| it == kind),
        _ => true,
    };
    let fits = match value {
        Value::Null => allowed("null"),
        Value::Bool(_) => allowed("boolean"),
        Value::Number(_) => allowed("integer") || allowed("number"),
        Value::String(_) => allowed("string"),
        Value::Array(_) => allowed("array"),
        Value::Object(_) => allowed("object"),
    };
    assert!(fits, "{at}: {value} is no {}", schema["type"]);
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("names are text");
            assert!(fields.contains_key(name), "{at}: {name} is missing in {value}");
        }
        for (name, schema) in properties {
            if let Some(field) = fields.get(name) {
                check(document, schema, field, &format!("{at}.{name}"));
            }
        }
    }
    for (number, row) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], row, &format!("{at}[{number}]"));
    }
}

#[test]
fn every_answer_is_as_the_document_says() {
    let daemon = Daemon::start();
    daemon.add("d1");
    let document = daemon.tcp.get("/api/v1/openapi.json").json();
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().expect("there are paths") {
        let get = &methods["get"];
        let schema = &get["responses"]["200"]["content"]["application/json"]["schema"];
        if schema.is_null() || path.ends_with("openapi.json") {
            continue;
        }
        for place in [&daemon.tcp, &daemon.unix] {
            let answer = place.get(path);
            assert!(answer.status == 200 || answer.status == 503, "{path}: {}", answer.text());
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            check(&document, schema, &answer.json(), path);
        }
        let error = daemon.tcp.get(&format!("{path}?nonsense=1"));
        if path.starts_with("/api/") {
            assert_eq!(error.status, 400, "{path}");
            let schema = &document["components"]["schemas"]["ErrorBody"];
            check(&document, schema, &error.json(), path);
        }
        checked += 1;
    }
    assert_eq!(checked, 6, "two of health, four lists");
}

#[test]
fn a_history_comes_where_it_is_asked_for() {
    let daemon = Daemon::start();
    let document = daemon.tcp.get("/api/v1/openapi.json").json();
    let schema = &document["components"]["schemas"]["FindingPage"];
    for (query, has_history) in [("", false), ("?explain=false", false), ("?explain=true", true)] {
        let path = format!("/api/v1/findings{query}");
        let page = daemon.tcp.get(&path).json();
        check(&document, schema, &page, &path);
        let findings = page["findings"].as_array().expect("a list");
        assert!(!findings.is_empty());
        for finding in findings {
            assert_eq!(finding["history"].is_array(), has_history, "{finding:#}");
            assert_eq!(finding["unit"], HOSTILE);
        }
    }
    assert_eq!(daemon.tcp.get("/api/v1/findings?explain=yes").status, 400);
}

#[test]
fn health_says_what_is_missing() {
    let daemon = Daemon::start();
    assert_eq!(daemon.tcp.get("/healthz").status, 200);
    let answer = daemon.tcp.get("/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reasons"].as_array().map(Vec::len), Some(2));
    daemon.health.attached(observer::probe::Layers::A);
    daemon.health.snapshot_taken();
    daemon.health.privileges("no capabilities");
    let answer = daemon.tcp.get("/readyz");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["privileges"], "no capabilities");
    // At the boot of this host.
    daemon.beats.beat(Loop::Pool, MonoTime::from_nanos(1));
    assert_eq!(daemon.tcp.get("/healthz").status, 503);
}

#[test]
fn metrics_are_text() {
    let daemon = Daemon::start();
    let answer = daemon.tcp.get("/metrics");
    assert_eq!((answer.status, answer.text()), (200, "sockwarden_up 1\n".to_owned()));
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

fn collect(daemon: &Daemon, list: &str, key: &str, query: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let answer = daemon.tcp.get(&format!("/api/v1/{list}?{query}{after}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        rows.extend(page[list].as_array().expect("a list").iter().map(|row| row[key].clone()));
        match &page["next"] {
            Value::Null => return rows,
            next => {
                after = format!("&after={}", next.to_string().trim_matches('"'));
                assert_eq!(next, rows.last().expect("a page that goes on has rows"));
            }
        }
    }
}

#[test]
fn pages_have_every_row_once() {
    let daemon = Daemon::start();
    for name in ["b", "a", "c"] {
        daemon.add(name);
    }
    let all: Vec<Value> = (1..=ROWS).map(Value::from).collect();
    let pids: Vec<Value> = [400, 450, 500].map(Value::from).into();
    let ids: Vec<Value> = ["a", "b", "c"].map(Value::from).into();
    for limit in [1, 2, 3, 5, 24, 25, 26, 1_000] {
        let limit = format!("limit={limit}");
        assert_eq!(collect(&daemon, "findings", "id", &limit), all);
        assert_eq!(collect(&daemon, "sockets", "cookie", &limit), all);
        assert_eq!(collect(&daemon, "processes", "pid", &limit), pids);
        assert_eq!(collect(&daemon, "devices", "id", &limit), ids);
    }
}

#[test]
fn filters_choose() {
    let daemon = Daemon::start();
    let count = |path: &str, list: &str| {
        daemon.tcp.get(path).json()[list].as_array().map(Vec::len).unwrap_or(usize::MAX)
    };
    let cases = [
        ("findings?kind=overlap", "findings", 5),
        ("findings?kind=overlap&pid=400", "findings", 0),
        ("findings?pid=400", "findings", 20),
        ("findings?kind=ghost", "findings", 0),
        ("findings?pid=500&limit=2", "findings", 2),
        ("sockets?state=close_wait", "sockets", 5),
        ("sockets?port=1883", "sockets", 25),
        ("sockets?port=1", "sockets", 0),
        ("sockets?pid=1", "sockets", 0),
        ("devices?state=online", "devices", 0),
    ];
    for (path, list, expected) in cases {
        assert_eq!(count(&format!("/api/v1/{path}"), list), expected, "{path}");
    }
    let wrong = [
        ("findings?kind=zombie", "kind"),
        ("findings?limit=0", "limit"),
        ("findings?limit=10001", "limit"),
        ("sockets?state=OPEN", "state"),
        ("devices?state=gone", "state"),
        ("events?types=news", "types"),
    ];
    for (path, field) in wrong {
        let answer = daemon.tcp.get(&format!("/api/v1/{path}"));
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.json()["error"]["field"], field, "{path}");
    }
    for path in ["findings?knd=x", "sockets?port=65536", "findings?pid=1&pid=2", "messages?x"] {
        let answer = daemon.tcp.get(&format!("/api/v1/{path}"));
        assert_eq!((answer.status, &*answer.code()), (400, "invalid-query"), "{path}");
    }
}

#[test]
fn what_is_not_there_is_said_in_json() {
    let daemon = Daemon::start();
    for (method, path, status, code) in [
        ("GET", "/", 404, "not-found"),
        ("GET", "/api/v2/findings", 404, "not-found"),
        ("GET", "/api/v1/../../etc/passwd", 404, "not-found"),
        ("GET", "/api/v1/devices/a/publish", 405, "method"),
        ("DELETE", "/api/v1/devices", 405, "method"),
        ("POST", "/healthz", 405, "method"),
    ] {
        let answer = daemon.unix.request(method, path, &[], None);
        assert_eq!((answer.status, &*answer.code()), (status, code), "{method} {path}");
    }
}

#[test]
fn names_from_outside_are_faithful_and_harmless() {
    let daemon = Daemon::start();
    let answer = daemon.tcp.get("/api/v1/findings?kind=overlap&limit=1");
    let text = answer.text();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    let finding = &answer.json()["findings"][0];
    assert_eq!(finding["device"], HOSTILE);
    assert_eq!(finding["message"], format!("{HOSTILE} holds it"));
    assert_eq!(finding["severity"], "critical");
    assert_eq!((&finding["generation"], &finding["overlap_us"]), (&3.into(), &17.into()));
    assert!(finding["age_ms"].as_u64() > Some(1_000), "the age is that of now: {finding}");
    for path in ["/api/v1/processes", "/api/v1/sockets"] {
        assert!(!daemon.tcp.get(path).text().contains(['\u{1b}', '\u{202e}']), "{path}");
    }
}

#[test]
fn passwords_are_seen_nowhere() {
    let daemon = Daemon::start();
    let mut events = daemon.unix.follow("/api/v1/events", "");
    let body = format!("{{\"id\":\"d\",\"username\":\"u\",\"password\":\"{PASSWORD}\"}}");
    let mut said = vec![daemon.unix.post("/api/v1/devices", &body).text()];
    said.push(daemon.unix.post("/api/v1/devices", &body).text());
    said.push(daemon.unix.post("/api/v1/devices", &body.replace("\"u\"", "7")).text());
    said.push(daemon.unix.post("/api/v1/devices", &body.replace("\"id\":\"d\",", "")).text());
    said.push(daemon.unix.get("/api/v1/devices").text());
    said.push(daemon.unix.get("/metrics").text());
    events.set_patience(std::time::Duration::from_millis(500));
    said.push(String::from_utf8_lossy(&events.rest()).into_owned());
    assert!(said.iter().all(|text| !text.is_empty() && !text.contains(PASSWORD)), "{said:?}");
}
