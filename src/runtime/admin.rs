//! What an operator looks at: `/metrics` for Prometheus, `/livez` and `/readyz` for probes, `/status`
//! as JSON. Read-only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use super::counters;
use super::worker::Handle;
use crate::storage::Storage;

#[derive(Clone)]
struct Admin {
    worker: Handle,
    store: Arc<dyn Storage>,
    prometheus: PrometheusHandle,
    about: serde_json::Value,
}

/// Begins to collect metrics for the process. To be called before anything is counted.
pub(super) fn collect() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // A process may hold several sidecars in tests; the first collects for all.
    let _ = metrics::set_global_recorder(recorder);
    handle
}

/// Serves until the runtime ends. `about` is shown in `/status`.
pub(super) async fn serve(
    listener: TcpListener,
    worker: Handle,
    store: Arc<dyn Storage>,
    prometheus: PrometheusHandle,
    about: serde_json::Value,
) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(Admin { worker, store, prometheus, about });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin endpoint ended");
    }
}

/// Opens the admin port.
pub(super) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn show_metrics(State(admin): State<Admin>) -> impl IntoResponse {
    if let Some((node, sockets)) = admin.worker.status().await {
        counters::publish(&node, &sockets);
    }
    counters::publish_store(&admin.store.counters());
    admin.prometheus.run_upkeep();
    let content_type = [("content-type", "text/plain; version=0.0.4")];
    (content_type, admin.prometheus.render())
}

/// Whether the loop that serves requests still turns.
async fn livez(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.worker.status().await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the worker has ended\n"),
    }
}

/// Whether new transactions are welcome.
async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let (ready, worker) = match admin.worker.status().await {
        Some((node, _)) if !node.draining => (true, "ok"),
        Some(_) => (false, "draining"),
        None => (false, "ended"),
    };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // The commit log was read and the sockets were bound before this endpoint opened.
    let checks = serde_json::json!({
        "ready": ready,
        "checks": { "log_loaded": "ok", "ipc_sockets": "ok", "worker": worker },
    });
    (code, Json(checks))
}

async fn status(State(admin): State<Admin>) -> impl IntoResponse {
    let Some((node, sockets)) = admin.worker.status().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::Value::Null));
    };
    let store: BTreeMap<_, _> = admin.store.counters().into_iter().collect();
    let shown = serde_json::json!({
        "sidecar": admin.about, "node": node, "sockets": sockets, "store": store
    });
    (StatusCode::OK, Json(shown))
}
