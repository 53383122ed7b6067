//! What passes through the adapters is counted.

use std::io::{BufRead, BufReader, Cursor, Seek, SeekFrom};

use futures_util::{StreamExt, stream};
use stepcast::{Hub, Job, JobStatus, ProgressIterator};

fn job() -> (Hub, Job) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let job = hub.job("work").start();
    (hub, job)
}

#[test]
fn items_are_counted_from_both_ends() {
    let (_hub, job) = job();
    let mut items = (0..10).progress_with(&job);
    assert_eq!(items.len(), 10);
    assert_eq!((items.next(), items.next_back()), (Some(0), Some(9)));
    assert_eq!(job.position(), 2.0);
    assert_eq!(items.count(), 8);
    assert_eq!((job.position(), job.status()), (10.0, JobStatus::Working));
}

#[test]
fn bytes_are_counted_that_are_read_and_written() {
    use std::io::{Read, Write};

    let (_hub, job) = job();
    let mut text = String::new();
    job.wrap_read(&b"12345"[..]).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), job.position()), ("12345", 5.0));
    let mut lines = job.wrap_read(BufReader::new(&b"a\nbc\n"[..]));
    lines.read_line(&mut text).unwrap();
    assert_eq!(job.position(), 7.0);
    job.wrap_write(Vec::new()).write_all(b"123").unwrap();
    assert_eq!(job.position(), 10.0);
    let mut file = job.wrap_read(Cursor::new(vec![0; 100]));
    file.seek(SeekFrom::Start(40)).unwrap();
    assert_eq!(job.position(), 40.0);
}

#[tokio::test]
async fn what_is_asynchronous_is_counted_too() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (_hub, job) = job();
    let mut text = String::new();
    job.wrap_async_read(&b"12345"[..]).read_to_string(&mut text).await.unwrap();
    job.wrap_async_write(Vec::new()).write_all(b"123").await.unwrap();
    assert_eq!(job.position(), 8.0);
    assert_eq!(job.wrap_stream(stream::iter(0..7)).count().await, 7);
    assert_eq!(job.position(), 15.0);
}

#[test]
fn a_tracked_iterator_has_a_job_that_ends_with_it() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut viewer = crate::viewer::Viewer::of(&hub);
    assert_eq!(hub.track("all", 0..10).count(), 10);
    assert_eq!(hub.track("some", 0..10).take(4).count(), 4);
    viewer.until_status("all", "completed");
    viewer.until_status("some", "abandoned");
    assert_eq!(viewer.job("all").unwrap()["total"], 10);
    assert_eq!(viewer.job("some").unwrap()["progress"], 4);
}

#[cfg(feature = "rayon")]
#[test]
fn the_items_of_parallel_iterators_are_counted() {
    use rayon::prelude::*;
    use stepcast::ParallelProgressIterator;

    let (_hub, job) = job();
    let squares: Vec<u64> =
        (0..1000_u64).into_par_iter().progress_with(&job).map(|i| i * i).collect();
    assert_eq!((squares[999], job.position()), (998_001, 1000.0));
    let zipped = (0..1000).into_par_iter().progress_with(&job).zip(0..1000).filter(|(a, b)| a == b);
    assert_eq!((zipped.count(), job.position()), (1000, 2000.0));
    let found = (0..1000).into_par_iter().progress_with(&job).find_any(|i| *i == 5);
    assert!(found.is_some() && job.position() > 2000.0);
}
