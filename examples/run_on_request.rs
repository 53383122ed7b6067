//! A browser starts a run over HTTP, and sees only that run.
//!
//!     cargo run --release --example run_on_request
//!
//! The page connects to the hub and gets its id. It sends the id with `POST /run`, in the header
//! `Stepcast-Client`. The HTTP server is the program's own (axum here), on another port than the
//! hub's.

use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Html;
use axum::routing::{get, post};
use stepcast::{Client, ClientId, Hub};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let listener = TcpListener::bind(args.next().as_deref().unwrap_or("127.0.0.1:8003")).await?;
    let hub = Hub::spawn(args.next().as_deref().unwrap_or("127.0.0.1:8002")).await?;
    println!("start a run at http://{}/", listener.local_addr()?);

    let port = hub.local_addr().map_or(0, |address| address.port());
    let page = include_str!("run_on_request.html").replace("{{port}}", &port.to_string());
    let app = Router::new()
        .route("/", get(|| async { Html(page) }))
        .route("/run", post(start_run))
        .with_state(hub);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn start_run(
    State(hub): State<Hub>,
    headers: HeaderMap,
) -> Result<&'static str, (StatusCode, String)> {
    let id = headers.get("stepcast-client").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let id: ClientId = id.parse().map_err(|e| (StatusCode::BAD_REQUEST, format!("{e}")))?;
    let client = hub
        .client(id)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("no client {id} is connected")))?;
    // The run has a thread of its own: a computation would block the threads that serve requests.
    thread::spawn(move || run(&client));
    Ok("started")
}

/// Computes the heat in a plate with one warm edge, by Jacobi iteration until it converges.
fn run(client: &Client) {
    const SIDE: usize = 96;
    let id = client.id();
    let mut plate = vec![[0.0f64; SIDE]; SIDE];
    plate[0] = [1.0; SIDE];
    let mut next = plate.clone();
    for iteration in 1.. {
        let mut change = 0.0f64;
        for y in 1..SIDE - 1 {
            for x in 1..SIDE - 1 {
                let around = plate[y - 1][x] + plate[y + 1][x] + plate[y][x - 1] + plate[y][x + 1];
                next[y][x] = around / 4.0;
                change = change.max((next[y][x] - plate[y][x]).abs());
            }
        }
        std::mem::swap(&mut plate, &mut next);
        // `Err` if the browser has left: the run goes on.
        if iteration % 1000 == 0 {
            let _ = client.send(format!("run of {id}: iteration {iteration}, change {change:.1e}"));
        }
        if change < 1e-9 {
            let centre = plate[SIDE / 2][SIDE / 2];
            let _ = client.send(format!("run of {id}: done, {centre:.4} in the centre"));
            return;
        }
    }
}
