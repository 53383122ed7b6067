//! Why messages are missing, as clients on `stepcast.v1` are told: each hole has its own reason.

use crate::support::lines::V1;
use crate::support::peer::beside;
use serde_json::{Value, json};
use stepcast::{Hub, Limits};
use tokio::runtime::Builder;

/// Gaps and the numbers of messages, up to the last message.
fn read(client: &mut V1, last: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    loop {
        let line = client.any_line();
        lines.push(line.get("gap").cloned().unwrap_or_else(|| line["text"][1].clone()));
        if line["text"][3] == last {
            return lines;
        }
    }
}

/// Sixty messages are sent, and then a burst of which the hub has a hundred. How many of the sixty
/// are kept.
fn kept_beside_a_burst(burst: u64) -> usize {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // For a hundred messages.
    let limits = Limits::default().feed(100 * (80 + 256));
    let builder = Hub::builder().limits(limits).runtime(runtime.handle().clone());
    let hub = runtime.block_on(builder.spawn("127.0.0.1:0")).unwrap();
    let run = hub.feed("run").unwrap();
    let of_run = json!({"feeds": {"run": {}}});
    let of_hub = hub.clone();
    let (mut here, away, seq) = beside(&runtime, move || {
        let [mut here, mut away] = [(); 2].map(|()| V1::connect(&of_hub, &of_run));
        let seq = here.line("feed")["seq"].as_u64().unwrap();
        assert_eq!(away.line("feed")["seq"], seq);
        (here, away.cut(), seq)
    });

    // While this thread pushes, the hub does not run on it.
    (0..59).for_each(|_| run.send("x".repeat(80)).unwrap());
    run.send("sixtieth").unwrap();
    let (mut here, lines) = beside(&runtime, move || {
        let lines = read(&mut here, "sixtieth");
        (here, lines)
    });
    assert_eq!(lines, (seq + 1..=seq + 60).map(|number| json!(number)).collect::<Vec<_>>());
    (1..burst).for_each(|_| run.send("x".repeat(80)).unwrap());
    run.send("last").unwrap();
    let of_hub = hub.clone();
    let (lines, late) = beside(&runtime, move || {
        let lines = read(&mut here, "last");
        let mut back = away.come_back(&of_hub, json!({}), json!({"run": {"seq": seq}}));
        assert_eq!(back.line("feed")["how"], "resumed");
        (lines, read(&mut back, "last"))
    });

    // Who was there had all that the hub had.
    let lost = &lines[0];
    let first = lines[1].as_u64().unwrap();
    assert_eq!((&lost["from"], &lost["to"]), (&json!(seq + 61), &json!(first - 1)));
    assert_eq!(lost["why"], "lost");
    assert_eq!(
        lines[1..],
        (first..=seq + 60 + burst).map(|number| json!(number)).collect::<Vec<_>>()
    );

    // Of the sixty of before, so many are kept for who was away as there is room for.
    let (expired, kept) = (&late[0], late.len() - 1 - lines.len());
    assert_eq!(expired["why"], "expired");
    let begun = expired["to"].as_u64().unwrap() + 1;
    assert_eq!(late[1..=kept], (begun..=seq + 60).map(|number| json!(number)).collect::<Vec<_>>());
    assert_eq!(late[1 + kept..], lines);
    kept
}

#[test]
fn what_the_hub_never_had_is_lost_and_what_was_not_kept_for_a_client_is_expired() {
    assert_eq!([1000, 975].map(kept_beside_a_burst), [0, 25], "two gaps at once, and apart");
}
