//! PURE. The document for programs (OpenAPI 3.1), made from the routes and their types.

mod page;

use std::sync::OnceLock;

use utoipa::OpenApi;

use super::routes::{claims, daemon, devices, kernel, publish, streams};

/// The document as indented JSON, as it stands in `docs/openapi.json`.
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let document = Document::openapi();
        let text = serde_json::to_string_pretty(&document);
        text.expect("invariant: the document has no keys but text") + "\n"
    })
}

/// `docs/api.md`.
pub fn page() -> String {
    page::render(&serde_json::to_value(Document::openapi()).unwrap_or_default())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sockwarden",
        version = "1",
        description = "What the daemon sees of TCP sockets, and the devices of its pool. Reading on \
            loopback TCP and on the Unix socket, writing on the Unix socket only.",
        license(name = "MIT OR Apache-2.0")
    ),
    servers((url = "http://127.0.0.1:9641", description = "For reading; the Unix socket \
        /run/sockwarden/api.sock has the same paths, and takes what changes something")),
    paths(
        daemon::healthz,
        daemon::readyz,
        daemon::metrics,
        daemon::document,
        kernel::processes,
        kernel::sockets,
        kernel::findings,
        devices::list,
        devices::add,
        devices::remove,
        devices::reconnect,
        devices::reconnect_all,
        publish::publish,
        claims::put,
        claims::stream,
        streams::events,
        streams::messages
    )
)]
struct Document;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::routes::ROUTES, document};

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document: serde_json::Value =
            serde_json::from_str(document()).expect("invariant: it is JSON");
        let paths = document["paths"].as_object().expect("invariant: there are paths");
        let told: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("invariant: methods by name");
                methods.keys().map(move |method| (method.as_str(), path.as_str()))
            })
            .collect();
        let routed: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| (*method, *path)).collect();
        assert_eq!(told, routed);
        assert!(document["openapi"].as_str().is_some_and(|it| it.starts_with("3.1")));
    }

    #[test]
    fn no_answer_has_a_password() {
        let document: serde_json::Value =
            serde_json::from_str(document()).expect("invariant: it is JSON");
        let schemas = document["components"]["schemas"].as_object().expect("there are schemas");
        for (name, schema) in schemas {
            let has_password = schema["properties"].get("password").is_some();
            assert_eq!(has_password, name == "DeviceSpec", "{name}");
        }
    }
}
