//! Control of a running server over HTTP, for tests in other languages and for `curl`.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

use super::{Control, Misbehaviour};

/// What `/move` takes.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = r#"neither {"keys": ["a", "b"], "to": 1} nor {"rotate": 1}"#
)]
enum Move {
    Keys { keys: Vec<String>, to: usize },
    Rotate { rotate: usize },
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, control: Control) {
    let router = Router::new()
        .route("/status", get(status))
        .route("/misbehave", post(misbehave))
        .route("/forget", post(forget))
        .route("/move", post(move_keys))
        .with_state(control);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin endpoint ended");
    }
}

async fn status(State(control): State<Control>) -> Response {
    Json(control.status()).into_response()
}

async fn misbehave(State(control): State<Control>, body: Bytes) -> Response {
    let changed = parse::<Misbehaviour>(&body)
        .and_then(|settings| control.misbehave(settings).map_err(|error| error.to_string()));
    answer(changed, &control)
}

async fn forget(State(control): State<Control>) -> Response {
    control.forget();
    answer(Ok(()), &control)
}

async fn move_keys(State(control): State<Control>, body: Bytes) -> Response {
    let moved = parse(&body).and_then(|what| match what {
        Move::Keys { keys, to } => control.move_keys(&keys, to).map_err(|error| error.to_string()),
        Move::Rotate { rotate } => {
            control.rotate(rotate);
            Ok(())
        }
    });
    answer(moved, &control)
}

/// Reads a body as JSON whatever it is said to be, so that `curl --data` is enough.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// How the server is after a change, or why there was none.
fn answer(changed: Result<(), String>, control: &Control) -> Response {
    match changed {
        Ok(()) => Json(control.status()).into_response(),
        Err(why) => {
            (StatusCode::BAD_REQUEST, Json(serde_json::json!({ "error": why }))).into_response()
        }
    }
}
