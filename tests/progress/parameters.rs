//! What viewers can move.

use std::time::Instant;

use serde_json::{Value, json};
use stepcast::Hub;

use crate::support::peer::until;
use crate::viewer::Viewer;

#[test]
fn a_viewer_moves_a_number_and_everyone_sees_who_did() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let (mut viewer, mut other) = (Viewer::of(&hub), Viewer::of(&hub));
    let f = hub.parameter("feed rate", 0.04).range(0.0..=0.1).step(0.001).unit("1/s");
    viewer.until("the parameter", |viewer| {
        viewer.parameters.values().any(|parameter| parameter["unit"] == "1/s")
    });
    let (&id, shown) = viewer.parameters.iter().next().unwrap();
    assert_eq!((&shown["name"], &shown["kind"]), (&json!("feed rate"), &json!("number")));
    assert_eq!(
        (&shown["min"], &shown["max"], &shown["step"]),
        (&json!(0), &json!(0.1), &json!(0.001))
    );
    viewer.command(&json!({"set": {"id": id, "value": 0.05}}));
    let by = json!(viewer.client.id.to_string());
    for viewer in [&mut viewer, &mut other] {
        viewer.until("the value", |viewer| {
            viewer.parameters.get(&id).is_some_and(|parameter| parameter["value"] == 0.05)
        });
        assert_eq!(viewer.parameters[&id]["by"], by);
        viewer.until("the log", |viewer| !viewer.log.is_empty());
        let said = format!("feed rate: 0.04 -> 0.05, by {}", by.as_str().unwrap());
        assert_eq!(viewer.log[0]["text"], said);
    }
    assert_eq!(f.get(), 0.05);
    for wrong in [json!(0.2), json!(-1e-9), json!("0.05"), json!(true), Value::Null, json!([1])] {
        viewer.command(&json!({"set": {"id": id, "value": wrong}}));
        viewer.until("a refusal", |viewer| !viewer.errors.is_empty());
        let error = viewer.errors.pop().unwrap();
        assert_eq!(error["code"], "invalid", "{wrong}");
        assert!(error["reason"].as_str().unwrap().starts_with("expected a number"), "{error}");
    }
    assert_eq!(f.get(), 0.05);
    f.set(0.06);
    viewer.until("the program's value", |viewer| viewer.parameters[&id]["value"] == 0.06);
    assert_eq!(viewer.parameters[&id].get("by"), None);
    drop(f);
    viewer.until("its end", |viewer| viewer.parameters.is_empty());
    viewer.command(&json!({"set": {"id": id, "value": 0.05}}));
    viewer.until("a refusal", |viewer| !viewer.errors.is_empty());
    assert_eq!(viewer.errors[0]["code"], "unknown");
}

#[test]
fn a_switch_a_choice_and_a_button_are_moved() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut viewer = Viewer::of(&hub);
    let limiter = hub.parameter("limiter", true);
    let scheme = hub.choice("scheme", ["euler", "rk4"]);
    let checkpoint = hub.button("write a checkpoint");
    viewer.until("all", |viewer| viewer.parameters.len() == 3);
    let ids: Vec<u64> = viewer.parameters.keys().copied().collect();
    assert_eq!(viewer.parameters[&ids[1]]["names"], json!(["euler", "rk4"]));
    assert!(!checkpoint.pressed());
    for (id, value) in [(ids[0], json!(false)), (ids[1], json!("rk4")), (ids[2], json!(true))] {
        viewer.command(&json!({"set": {"id": id, "value": value}}));
    }
    until("all values", || !limiter.get() && scheme.get() == 1);
    until("the press", || checkpoint.pressed());
    assert!(!checkpoint.pressed(), "one press is seen once");
    viewer.command(&json!({"set": {"id": ids[1], "value": "rk5"}}));
    viewer.until("a refusal", |viewer| !viewer.errors.is_empty());
    assert_eq!(viewer.errors[0]["reason"], "expected one of euler, rk4");
}

#[test]
fn parameters_beyond_the_bound_are_read_and_not_shown() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let many: Vec<_> = (0..300).map(|i| hub.parameter(format!("p{i}"), f64::from(i))).collect();
    let mut viewer = Viewer::of(&hub);
    viewer.until("those within", |viewer| viewer.parameters.len() == 256);
    assert_eq!(many[299].get(), 299.0);
    let id = *viewer.parameters.keys().next().unwrap();
    let mut many = many;
    drop(many.remove(0));
    let is_next = |viewer: &Viewer| viewer.parameters.values().any(|p| p["name"] == "p256");
    viewer.until("the next one", |viewer| {
        is_next(viewer) && !viewer.parameters.contains_key(&id) && viewer.parameters.len() == 256
    });
    many[255].set(-1.0);
    viewer.until("its change", |viewer| viewer.parameters.values().any(|p| p["value"] == -1));
}

#[test]
fn a_viewer_that_moves_a_parameter_without_pause_writes_a_line_a_second() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let (mut viewer, mut other) = (Viewer::of(&hub), Viewer::of(&hub));
    let f = hub.parameter("feed rate", 0.0);
    let button = hub.button("write a checkpoint");
    let started = Instant::now();
    viewer.until("both", |viewer| viewer.parameters.len() == 2);
    let [f_id, button_id] = *viewer.parameters.keys().copied().collect::<Vec<_>>() else {
        panic!()
    };
    other.until("both", |other| other.parameters.len() == 2);
    for value in 1..=15 {
        viewer.command(&json!({"set": {"id": button_id, "value": true}}));
        viewer.command(&json!({"set": {"id": f_id, "value": value}}));
        viewer.until("a sample", |viewer| viewer.parameters[&f_id]["value"] == value);
    }
    assert_eq!(f.get(), 15.0);
    until("a press", || button.pressed());
    other.command(&json!({"set": {"id": f_id, "value": 101}}));
    let (by, last) = (other.client.id, "-> 101, by ");
    let has_last = |viewer: &Viewer| {
        viewer.log.iter().any(|line| line["text"].as_str().unwrap().contains(last))
    };
    viewer.until("the last line", has_last);
    let most = 2 * (2 + usize::try_from(started.elapsed().as_secs()).unwrap());
    assert!(viewer.log.len() <= most, "{} lines of {most}", viewer.log.len());
    let texts: Vec<&str> = viewer.log.iter().map(|line| line["text"].as_str().unwrap()).collect();
    let moves: Vec<_> = texts.iter().filter(|text| text.starts_with("feed rate: ")).collect();
    assert!(moves[0].starts_with("feed rate: 0 -> "), "{texts:?}");
    assert!(moves.last().unwrap().contains(&format!("-> 101, by {by}")), "{texts:?}");
    hub.finish("done");
    let count = |text: &&&str| -> u64 {
        let words: Vec<&str> = text.split(' ').collect();
        match text.strip_prefix("write a checkpoint: pressed ") {
            None => 0,
            Some(rest) if rest.starts_with("by") => 1,
            Some(_) => words[4].parse().unwrap(),
        }
    };
    let pressed = |viewer: &Viewer| {
        let texts: Vec<&str> = viewer.log.iter().map(|l| l["text"].as_str().unwrap()).collect();
        texts.iter().map(|text| count(&text)).sum::<u64>()
    };
    viewer.until("all presses", |viewer| pressed(viewer) == 15);
}

#[test]
fn a_value_that_a_viewer_set_before_there_was_a_range_is_brought_into_it() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut viewer = Viewer::of(&hub);
    let feed = hub.parameter("feed rate", 0.04);
    viewer.until("the parameter", |viewer| viewer.parameters.len() == 1);
    let id = *viewer.parameters.keys().next().unwrap();
    viewer.command(&json!({"set": {"id": id, "value": 7.5}}));
    until("the value", || feed.get() == 7.5);
    let feed = feed.range(0.0..=0.1);
    assert_eq!(feed.get(), 0.1);
    viewer.until("the range", |viewer| {
        let shown = &viewer.parameters[&id];
        shown["max"] == 0.1 && shown["value"] == 0.1
    });
}
