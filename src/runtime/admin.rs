//! What an operator looks at: `/metrics` for Prometheus, `/livez` and `/readyz` for probes, `/status`
//! and `/inspect` as JSON. Read-only. The same for every daemon that can be [`Watched`].

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use super::inspect::{INSPECT_PATH, Inspection};

/// A daemon that can be looked at.
#[async_trait]
pub(crate) trait Watched: Send + Sync + 'static {
    /// Whether it is well.
    async fn readiness(&self) -> Readiness;
    /// What it holds; none if it has ended.
    async fn status(&self) -> Option<serde_json::Value>;
    /// What its store holds, by counting it; none if it has no store, or has ended.
    async fn inspect(&self) -> Option<Inspection> {
        None
    }
    /// Brings the metrics up to date.
    async fn publish(&self);
}

/// Whether a daemon is well.
pub(crate) struct Readiness {
    /// The loop that serves still turns.
    pub(crate) lives: bool,
    /// New work is welcome.
    pub(crate) ready: bool,
    /// What was looked at, by name.
    pub(crate) checks: serde_json::Value,
}

#[derive(Clone)]
struct Admin {
    daemon: Arc<dyn Watched>,
    prometheus: PrometheusHandle,
}

/// Begins to collect metrics for the process. To be called before anything is counted.
pub(crate) fn collect() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // A process may hold several daemons in tests; the first collects for all.
    let _ = metrics::set_global_recorder(recorder);
    handle
}

/// Opens the admin port. None if it is the default one and in use.
pub(crate) async fn open(
    address: SocketAddr,
    default: SocketAddr,
) -> std::io::Result<Option<(TcpListener, SocketAddr)>> {
    match TcpListener::bind(address).await {
        Ok(listener) => {
            // The port may have been left to the system to choose.
            let address = listener.local_addr()?;
            tracing::info!(%address, "admin endpoint");
            Ok(Some((listener, address)))
        }
        Err(error) if address == default && error.kind() == ErrorKind::AddrInUse => {
            tracing::warn!(%address, "the default admin port is in use; going on without one");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Serves until the runtime ends.
pub(crate) async fn serve(
    listener: TcpListener,
    daemon: Arc<dyn Watched>,
    prometheus: PrometheusHandle,
) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route(INSPECT_PATH, get(inspect))
        .with_state(Admin { daemon, prometheus });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin endpoint ended");
    }
}

async fn show_metrics(State(admin): State<Admin>) -> impl IntoResponse {
    admin.daemon.publish().await;
    admin.prometheus.run_upkeep();
    let content_type = [("content-type", "text/plain; version=0.0.4")];
    (content_type, admin.prometheus.render())
}

async fn livez(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.daemon.readiness().await.lives {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the worker has ended\n"),
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let Readiness { ready, checks, .. } = admin.daemon.readiness().await;
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(serde_json::json!({ "ready": ready, "checks": checks })))
}

async fn inspect(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.daemon.inspect().await {
        Some(found) => (StatusCode::OK, Json(Some(found))),
        None => (StatusCode::NOT_FOUND, Json(None)),
    }
}

async fn status(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.daemon.status().await {
        Some(shown) => (StatusCode::OK, Json(shown)),
        None => (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::Value::Null)),
    }
}
