//! EDGE: what can be asked: one table from which the router and the document are checked.

pub(super) mod claims;
pub(super) mod daemon;
pub(super) mod devices;
pub(super) mod kernel;
pub(super) mod publish;
pub(super) mod streams;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    middleware,
    routing::{MethodRouter, delete, get, post, put},
};
use tokio::sync::watch;

use super::{Backend, error::ApiError, gate::Rule, guard, jobs::Jobs};

/// What handlers need.
#[derive(Clone)]
pub(super) struct App {
    pub(super) backend: Backend,
    pub(super) rule: Arc<Rule>,
    pub(super) ending: watch::Receiver<bool>,
    pub(super) jobs: Jobs,
}

impl App {
    pub(super) fn new(
        backend: &Backend,
        rule: Rule,
        ending: watch::Receiver<bool>,
        jobs: Jobs,
    ) -> Self {
        Self { backend: backend.clone(), rule: Arc::new(rule), ending, jobs }
    }

    /// The pool.
    ///
    /// # Errors
    ///
    /// 404 where there is none.
    fn pool(&self) -> Result<&pool::Pool, ApiError> {
        self.backend.pool.as_ref().ok_or_else(no_pool)
    }
}

/// A method, a path, and who answers.
type Route = (&'static str, &'static str, fn() -> MethodRouter<App>);

/// Everything that can be asked.
pub(super) const ROUTES: [Route; 17] = [
    ("get", "/healthz", || get(daemon::healthz)),
    ("get", "/readyz", || get(daemon::readyz)),
    ("get", "/metrics", || get(daemon::metrics)),
    ("get", "/api/v1/openapi.json", || get(daemon::document)),
    ("get", "/api/v1/processes", || get(kernel::processes)),
    ("get", "/api/v1/sockets", || get(kernel::sockets)),
    ("get", "/api/v1/findings", || get(kernel::findings)),
    ("get", "/api/v1/devices", || get(devices::list)),
    ("post", "/api/v1/devices", || post(devices::add)),
    ("delete", "/api/v1/devices/{id}", || delete(devices::remove)),
    ("post", "/api/v1/devices/{id}/reconnect", || post(devices::reconnect)),
    ("post", "/api/v1/devices/{id}/publish", || post(publish::publish)),
    // Not below `devices`, where it would hide a device of this name.
    ("post", "/api/v1/reconnect", || post(devices::reconnect_all)),
    ("put", "/api/v1/claims", || put(claims::put)),
    ("post", "/api/v1/claims/stream", || post(claims::stream)),
    ("get", "/api/v1/events", || get(streams::events)),
    ("get", "/api/v1/messages", || get(streams::messages)),
];

/// All routes, behind the guard.
pub(super) fn router(app: App) -> Router {
    ROUTES
        .into_iter()
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler()))
        .fallback(async || {
            let message = "there is nothing here: /api/v1/openapi.json says what there is";
            ApiError::new(StatusCode::NOT_FOUND, "not-found", message)
        })
        .method_not_allowed_fallback(async || {
            let message = "this is there, but not for this method: see /api/v1/openapi.json";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
        })
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

fn no_pool() -> ApiError {
    let message = "the daemon runs without a pool: add [pool] to its config";
    ApiError::new(StatusCode::NOT_FOUND, "no-pool", message)
}
