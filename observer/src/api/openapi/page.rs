//! PURE. `docs/api.md`: the document for people.

use std::fmt::Write as _;

use serde_json::Value;

/// What no route says by itself.
const INTRODUCTION: &str = "# HTTP API\n\n\
Generated from `observer/src/api` by `cargo xtask tidy --fix`; do not edit.\n\
For programs: [openapi.json](openapi.json), which the daemon serves at `/api/v1/openapi.json`.\n\
The commands `sockwarden leaks`, `devices`, `reconnect` and `publish` are clients of this API.\n\n\
## Two doors\n\n\
| door | who | what |\n|---|---|---|\n\
| `listen`, `127.0.0.1:9641` | every user of the host | reading |\n\
| `socket`, `/run/sockwarden/api.sock` | root, the daemon's own user, the group `group` | reading and writing |\n\n\
```sh\n\
curl http://127.0.0.1:9641/api/v1/findings\n\
curl --unix-socket /run/sockwarden/api.sock -X POST http://localhost/api/v1/devices/press-17/reconnect\n\
```\n\n\
The socket has the mode 0660: the kernel lets in its owner and its group, by their supplementary groups too.\n\
The daemon checks once more, so that a mode which somebody widened opens nothing: the user and the effective group of `SO_PEERCRED`, and the supplementary groups in `/proc/PID/status`.\n\
Each request that changes something is logged with uid, gid, pid, method, path and status.\n\n\
TCP takes only requests whose `Host` is an address or `localhost`, and no door takes a change with an `Origin`: no web page gets in, whatever its name resolves to.\n\n\
## Rules\n\n\
- An answer that is no success is `{\"error\":{\"code\",\"message\"}}`, with `field` where one field is wrong. `code` is for programs and keeps its meaning; `message` says who must do what. Only where the server closed a connection that was no HTTP, the body is empty.\n\
- A parameter or field that is not known is an error.\n\
- Lists come by pages: `limit` rows (1 to 10,000; 1,000 unless given), and `next`, which is what to give as `after` for the next page, or null.\n\
- Findings and sockets are those of [json.md](json.md). Fields may be added; those that are there keep their names and meaning.\n\
- Texts from outside (names of processes, devices, topics) are faithful; control characters and marks that reorder text come as `\\uXXXX`.\n\
- Passwords are taken, and shown nowhere.\n\
- A change that was begun is ended, also when the client hangs up.\n\n\
## Limits\n\n\
| what | how much | beyond |\n|---|---|---|\n\
| connections, each door | `max_connections` | 503 `too-many-connections`, then closed |\n\
| head of a request | 64 KiB, 64 headers; `request_timeout`, which is also the longest pause between two requests | 431, or closed |\n\
| body of a request; a line of a stream of claims | `max_body`; `request_timeout`, which a stream of claims has not | 413, 408 |\n\
| an answer that the daemon owes | `request_timeout`; 300 s with `wait=true` | 504 |\n\
| a client that does not take what it asked for | 4 KiB in 30 s | closed |\n\
| a reader of a stream that falls behind | `stream_buffer` entries | an entry `gap` |\n\n\
## Streams\n\n\
`/api/v1/events` and `/api/v1/messages` begin with what happens from then on, and end with the daemon.\n\
With `Accept: text/event-stream` they are server-sent events: `event` is the type, `id` counts the entries of this stream from 1 (nothing can be had again by it), `data` is the JSON, and a comment comes every 15 s.\n\
Otherwise they are lines of JSON (`application/x-ndjson`). Each has its `type`: `finding`, `loss`, `pool`, `message` or `gap`.\n\
`{\"type\":\"gap\",\"lost\":N}` says that this reader was too slow for N entries, those that it had filtered out among them.\n";

/// The page, made from `document`.
pub(super) fn render(document: &Value) -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Routes\n\n| method | path | what |\n|---|---|---|\n");
    let routes = || {
        let paths = document["paths"].as_object().into_iter().flatten();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, route)| (method.to_uppercase(), path, route))
        })
    };
    for (method, path, route) in routes() {
        line(&mut page, format_args!("| {method} | `{path}` | {} |", what(route)));
    }
    for (method, path, route) in routes() {
        line(&mut page, format_args!("\n### {method} {path}\n\n{}\n", what(route)));
        if let Some(parameters) = route["parameters"].as_array() {
            page.push_str("| parameter | meaning |\n|---|---|\n");
            for parameter in parameters {
                let (name, meaning) = (text(&parameter["name"]), text(&parameter["description"]));
                line(&mut page, format_args!("| `{name}` | {meaning} |"));
            }
            page.push('\n');
        }
        let body = &route["requestBody"]["content"]["application/json"]["schema"];
        if let Some(body) = name_of(body) {
            line(&mut page, format_args!("Takes `{body}`:\n"));
            fields(&mut page, &document["components"]["schemas"][body]);
        }
        page.push_str("| status | body | meaning |\n|---|---|---|\n");
        for (status, answer) in route["responses"].as_object().into_iter().flatten() {
            let schema = &answer["content"]["application/json"]["schema"];
            let body = name_of(schema).map(|name| format!("`{name}`")).unwrap_or_default();
            let meaning = text(&answer["description"]);
            line(&mut page, format_args!("| {status} | {body} | {meaning} |"));
        }
    }
    page.push_str("\n## Bodies\n");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        line(&mut page, format_args!("\n### {name}\n\n{}\n", text(&schema["description"])));
        let parts = schema["oneOf"].as_array().or(schema["allOf"].as_array());
        match parts {
            None => fields(&mut page, schema),
            Some(parts) => {
                for part in parts {
                    variant(&mut page, part);
                }
            }
        }
    }
    // Tables end with an empty line, and headings begin with one.
    page.truncate(page.trim_end().len());
    page.replace("\n\n\n", "\n\n") + "\n"
}

/// One of several schemas that stand together.
fn variant(page: &mut String, part: &Value) {
    let inner = part["allOf"].as_array().map_or(std::slice::from_ref(part), Vec::as_slice);
    if !text(&part["description"]).is_empty() {
        line(page, format_args!("{}\n", text(&part["description"])));
    }
    for part in inner {
        match name_of(part) {
            Some(name) => line(page, format_args!("The fields of `{name}`, and:\n")),
            None => fields(page, part),
        }
    }
}

fn fields(page: &mut String, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    page.push_str("| field | type | meaning |\n|---|---|---|\n");
    for (name, field) in properties {
        let meaning = text(&field["description"]);
        line(page, format_args!("| `{name}` | {} | {meaning} |", kind(field)));
    }
    page.push('\n');
}

/// The type of a field for people.
fn kind(field: &Value) -> String {
    if let Some(name) = name_of(field) {
        return format!("`{name}`");
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<_> = values.iter().map(|value| format!("`{}`", text(value))).collect();
        return values.join(" or ");
    }
    let kinds: Vec<&str> = match &field["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => {
            let parts = field["oneOf"].as_array().into_iter().flatten();
            return parts.map(kind).collect::<Vec<_>>().join(" or ");
        }
    };
    let items = name_of(&field["items"]).map(|name| format!(" of `{name}`")).unwrap_or_default();
    kinds.join(" or ") + &items
}

fn name_of(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn what(route: &Value) -> String {
    let (short, long) = (text(&route["summary"]), text(&route["description"]));
    if long.is_empty() { short } else { format!("{short} {long}") }
}

/// A text in one line, safe in a table.
fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn line(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("invariant: a string takes everything");
}
