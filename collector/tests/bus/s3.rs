//! A lake on what speaks the protocol of S3, as far as a lake needs it.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::HeaderName},
    response::{IntoResponse, Response},
};
use collector::bus::{Bus as _, Mark, nats::Nats};
use tokio::net::TcpListener;

use crate::{daemon::wait, odd::parcel, peer::EACH, servers::Servers, writer::Writer};

/// Entries and their positions, which are different.
const COUNTS: &str = "select count(*) as n, count(distinct position) as positions from events";

/// The objects of all buckets, and how often one was not made because there was one.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<(BTreeMap<String, Bytes>, u64)>>);

type Answer = (StatusCode, [(HeaderName, String); 3], Vec<u8>);

async fn answer(
    State(store): State<Store>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut store = store.0.lock().unwrap();
    let key = uri.path().to_owned();
    if method == Method::PUT {
        if headers.contains_key("if-none-match") && store.0.contains_key(&key) {
            store.1 += 1;
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
        store.0.insert(key, body);
        return found(StatusCode::OK, String::new(), Vec::new()).into_response();
    }
    if uri.query().is_some_and(|query| query.contains("list-type=2")) {
        // Nobody asks for more than the checkpoints, and there are none.
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        return found(StatusCode::OK, String::new(), empty.into()).into_response();
    }
    let Some(body) = store.0.get(&key) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = headers.get("range").and_then(|range| range.to_str().ok());
    match range.map(|range| part(range, body.len())) {
        Some((from, past)) => {
            let range = format!("bytes {from}-{}/{}", past - 1, body.len());
            found(StatusCode::PARTIAL_CONTENT, range, body[from..past].into()).into_response()
        }
        None => found(StatusCode::OK, String::new(), body.to_vec()).into_response(),
    }
}

fn found(status: StatusCode, range: String, body: Vec<u8>) -> Answer {
    let headers = [
        ("etag", "\"x\"".to_owned()),
        ("last-modified", "Thu, 26 Nov 2026 00:00:00 GMT".to_owned()),
        ("content-range", range),
    ];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value));
    (status, headers, body)
}

/// Where a range begins, and where it is over.
fn part(range: &str, length: usize) -> (usize, usize) {
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    match (from.parse(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, length.min(to + 1)),
        (Ok(from), Err(_)) => (from, length),
        (Err(_), last) => (length - last.unwrap(), length),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_store_and_one_who_asks_have_one_lake_on_s3() {
    const BATCHES: u64 = 40;
    let Some(servers) = Servers::start(1) else {
        return;
    };
    let store = Store::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(store.clone());
    tokio::spawn(async { axum::serve(listener, router).await });
    let lake = "s3://bucket/some/prefix";
    let variables = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "nowhere"),
        ("AWS_ACCESS_KEY_ID", "who"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let options = servers.options(lake);
    let start = || Writer::start_with(&options, &variables);
    let mut writers = [start(), start()];
    let bus = Nats::connect(&servers.config(1 << 30)).await.unwrap();
    for number in 1..=BATCHES {
        let batch = parcel(&format!("web{number}"), 1);
        bus.publish(&batch, Mark(0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait("the bus to be empty", async || {
        (bus.waiting().await == Ok(0)).then_some(())
    })
    .await;
    writers.iter_mut().for_each(Writer::stop);
    let said = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["query", "--lake", lake, "-o", "json", COUNTS])
        .envs(variables)
        .output()
        .unwrap();
    let total = BATCHES * EACH;
    let expected = format!("{{\"n\":{total},\"positions\":{total}}}\n");
    assert_eq!(String::from_utf8_lossy(&said.stdout), expected, "{said:?}");
    let (objects, refused) = &*store.0.lock().unwrap();
    assert!(
        objects.keys().all(|key| key.starts_with("/bucket/some/prefix/")),
        "{:?}",
        objects.keys()
    );
    assert!(*refused > 0, "they never met");
}
