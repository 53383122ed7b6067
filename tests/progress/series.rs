//! Series and fields, as viewers see them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use stepcast::{FieldError, Hub, Job};

use crate::support::lines::V1;
use crate::support::peer::exchange;
use crate::viewer::Viewer;

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

/// A viewer of series, which puts histories and new points together as the browser's client does.
struct Plot {
    client: V1,
    alias: Value,
    series: BTreeMap<u64, Series>,
    /// The sizes of the values and of the messages that came.
    values: Vec<usize>,
    points: Vec<usize>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Series {
    about: Value,
    n: u64,
    x: Vec<Value>,
    y: Vec<Value>,
    least: f64,
    greatest: f64,
    segments: usize,
    nan: Value,
}

impl Plot {
    fn of(hub: &Hub) -> Self {
        let client = V1::connect(hub, &json!({"feeds": {"stepcast/series": {}}}));
        let (values, points) = (Vec::new(), Vec::new());
        Self { client, alias: Value::Null, series: BTreeMap::new(), values, points }
    }

    fn take(&mut self, line: &Value) {
        if let Some(feed) = line.get("feed") {
            self.alias = feed["alias"].clone();
            return;
        }
        let message = &line["json"];
        assert_eq!(message[0], self.alias, "{line}");
        let (kind, content) = message[3].as_object().unwrap().iter().next().unwrap();
        let fixture: Value = serde_json::from_str(include_str!("../protocol/series.json")).unwrap();
        let size = message[3].to_string().len();
        if kind == "points" {
            self.points.push(size);
            for fresh in content.as_array().unwrap() {
                self.append(fresh);
            }
            return;
        }
        assert_eq!(kind, "series");
        let known = fixture["members"]["series"].as_array().unwrap();
        let mut members = content.as_object().unwrap().keys();
        assert!(members.all(|member| known.iter().any(|known| known == member)), "{line}");
        self.values.push(size);
        let mut series =
            Series { least: f64::INFINITY, greatest: f64::NEG_INFINITY, ..Series::default() };
        series.about = content.clone();
        if let Some(n) = content.get("n") {
            series.n = n.as_u64().unwrap();
            let part =
                json!([0, 0, n, content["x"], content["y"], content["lo"], content["hi"], content]);
            series.fill(&part);
        }
        self.series.insert(content["id"].as_u64().unwrap(), series);
    }

    fn append(&mut self, fresh: &Value) {
        let series = self.series.get_mut(&fresh[0].as_u64().unwrap()).unwrap();
        let (from, n) = (fresh[1].as_u64().unwrap(), fresh[2].as_u64().unwrap());
        if n > series.n {
            assert_eq!(from, series.n, "no hole");
            series.n = n;
            series.fill(fresh);
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let line = self.client.any_line();
            assert!(line.get("bye").is_none(), "the hub ended before {what}");
            self.take(&line);
        }
    }

    fn named(&self, name: &str) -> Option<&Series> {
        self.series.values().find(|series| series.about["name"] == name)
    }

    /// Reads until the series of this name has so many points.
    fn until_points(&mut self, name: &str, n: u64) -> Series {
        self.until(name, |plot| plot.named(name).is_some_and(|series| series.n >= n));
        self.named(name).unwrap().clone()
    }
}

impl Series {
    fn fill(&mut self, part: &Value) {
        let column = |place: usize| part[place].as_array().cloned().unwrap_or_default();
        self.x.extend(column(3));
        self.y.extend(column(4));
        for value in column(4).iter().chain(&column(5)).chain(&column(6)) {
            if let Some(value) = value.as_f64() {
                self.least = self.least.min(value);
                self.greatest = self.greatest.max(value);
            }
        }
        self.segments += part[7]["seg"].as_array().map_or(0, Vec::len);
        if let Some(nan) = part[7].get("nan") {
            self.nan = nan.clone();
        }
    }
}

#[test]
fn a_late_viewer_sees_all_of_a_series_in_bounded_memory() {
    let hub = hub();
    let job = hub.job("time loop").start();
    let residual = job.series("residual").unit("1");
    let velocity = job.series("velocity").unit("m/s").lines(["u", "v"]);
    let mut early = Plot::of(&hub);
    let mut pushed = 0_u32;
    let mut push = |count: u32| {
        for _ in 0..count {
            let x = f64::from(pushed);
            residual.push(x, 1000.0 - x / 1000.0);
            velocity.push(x, [x, -x]);
            pushed += 1;
        }
        u64::from(pushed)
    };
    let n = push(2);
    let first = early.until_points("residual", n);
    assert_eq!((first.x, first.y), (vec![json!(0), json!(1)], vec![json!(1000), json!(999.999)]));
    for round in 0..40 {
        let n = push(10_000 + round);
        early.until_points("residual", n);
        early.until_points("velocity", n);
    }
    let n = u64::from(pushed);
    let mut late = Plot::of(&hub);
    let series = late.until_points("residual", n);
    let last = f64::from(pushed - 1);
    assert_eq!((series.greatest, series.n), (1000.0, n));
    assert!((series.least - (1000.0 - last / 1000.0)).abs() < 1e-3);
    assert_eq!(series.x.last().unwrap(), last);
    let about = &series.about;
    assert_eq!((&about["name"], &about["unit"]), (&json!("residual"), &json!("1")));
    let of_two = late.until_points("velocity", n);
    assert_eq!(of_two.about["lines"], json!(["u", "v"]));
    assert_eq!((of_two.least, of_two.greatest), (-last, last));
    // A viewer that is there from the start is given each point once.
    assert_eq!(early.named("residual").unwrap().n, n);
    let announced = early.values.len();
    assert!(announced <= 4, "{announced} values, where each series is announced once");
    assert!(early.points.iter().all(|size| *size < 200), "{:?}", early.points);
}

#[test]
fn values_that_are_not_finite_arrive_as_what_they_are_and_the_first_nan_is_kept() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("time loop").start();
    let energy = job.series("energy");
    for step in 0..500_u32 {
        energy.push(f64::from(step), if step < 413 { 1.0 } else { f64::NAN });
    }
    let is_told = |text: &'static str| {
        move |viewer: &Viewer| viewer.log.iter().any(|line| line["text"] == text)
    };
    viewer.until("the first NaN", is_told("energy: first NaN at 413"));
    energy.push(500.0, f64::INFINITY);
    viewer.until("the first infinity", is_told("energy: first infinity at 500"));
    let series = Plot::of(&hub).until_points("energy", 501);
    assert_eq!(series.nan, json!([[0, 413, 413]]));
    assert_eq!(series.y.last().unwrap(), "Infinity");
    let id = viewer.id("time loop");
    let line = viewer.log.iter().find(|line| line["level"] == "warn").unwrap();
    assert_eq!(line["job"], id);
}

#[test]
fn a_step_that_goes_back_begins_a_segment_and_drops_nothing() {
    let hub = hub();
    let series = hub.series("restarts");
    let mut plot = Plot::of(&hub);
    for x in [10.0, 11.0, 12.0] {
        series.push(x, x);
    }
    let first = plot.until_points("restarts", 3).segments;
    for x in [3.0, 4.0, f64::NAN] {
        series.push(x, x);
    }
    let second = plot.until_points("restarts", 6);
    assert_eq!(second.segments, first + 1);
    assert_eq!((second.n, second.least, second.greatest), (6, 3.0, 12.0));
}

#[test]
fn a_metric_is_a_series_over_the_position_of_its_job() {
    let hub = hub();
    let job = hub.job("training").total(100).start();
    for epoch in 0..3 {
        job.metric("loss", 1.0 / f64::from(1 + epoch));
        job.metric("accuracy", 0.5);
        job.inc(10);
    }
    let mut plot = Plot::of(&hub);
    let loss = plot.until_points("loss", 3);
    assert_eq!(loss.x.last().unwrap(), 20);
    assert_eq!(plot.until_points("accuracy", 3).about["job"], loss.about["job"]);
    // What was measured before the end is told, and stays.
    job.metric("loss", 0.125);
    job.finish();
    let late = Plot::of(&hub).until_points("loss", 4);
    assert_eq!(late.y.last().unwrap(), 0.125);
    let answer =
        exchange(hub.local_addr().unwrap(), b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let state: Value = serde_json::from_str(body).unwrap();
    let loss = state["series"].as_array().unwrap().iter().find(|s| s["name"] == "loss").unwrap();
    assert_eq!((&loss["x"], &loss["y"], &loss["n"]), (&json!(30), &json!([0.125]), &json!(4)));
}

#[test]
fn a_point_of_another_width_is_said_once_and_harms_nothing() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let series = hub.series("velocity");
    series.push(0.0, [1.0, 2.0]);
    for _ in 0..3 {
        series.push(1.0, 1.0);
    }
    hub.series("too wide").push(0.0, [0.0; 17]);
    series.push(2.0, [3.0, 4.0]);
    assert_eq!(Plot::of(&hub).until_points("velocity", 2).y.len(), 4);
    let said = |viewer: &Viewer| viewer.log.iter().filter(|line| line["level"] == "warn").count();
    viewer.until("both warnings", |viewer| said(viewer) == 2);
    assert_eq!(viewer.log[0]["text"], "series velocity: expected 2 values a point, got 1");
    assert_eq!(viewer.log[1]["text"], "series too wide: expected 1 to 16 values a point, got 17");
}

#[test]
fn of_twenty_thousand_series_a_thousand_are_shown_and_the_log_says_so() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let mut plot = Plot::of(&hub);
    let job = hub.job("many").start();
    (0..300).for_each(|n| job.metric(&format!("metric {n}"), 1.0));
    plot.until("those of the job", |plot| plot.series.len() == 256);
    (0..20_000).for_each(|n| hub.series(format!("series {n}")).push(0.0, 1.0));
    let text = "not shown: series beyond 1000, fields beyond 64";
    viewer.until("the warning", |viewer| viewer.log.iter().any(|line| line["text"] == text));
    plot.until("a thousand", |plot| plot.series.len() == 1000);
    // The series of a job that has ended make way.
    job.finish();
    let last = hub.job("last").start();
    viewer.until_status("many", "completed");
    last.series("new").push(0.0, 7.0);
    plot.until_points("new", 1);
}

#[test]
fn a_name_is_one_series_and_pushes_take_what_has_numbers() {
    let hub = hub();
    let job = hub.job("time loop").start();
    job.series("loss").unit("1").push(0.0, 1_u32);
    job.metric("loss", 2.5_f32);
    job.series("loss").push(1.0, 3_u64);
    let velocity = hub.series("velocity");
    velocity.push(0.0, [0.5_f32, 1.5]);
    velocity.push(1.0, &vec![1.0, 2.0]);
    hub.series("velocity").push(2.0, &[1.0_f32, 2.0][..]);
    let mut plot = Plot::of(&hub);
    let loss = plot.until_points("loss", 3);
    assert_eq!((&loss.about["unit"], loss.y.last().unwrap()), (&json!("1"), &json!(3)));
    assert_eq!(plot.until_points("velocity", 3).y.len(), 6);
    assert_eq!(plot.series.len(), 2);
}

#[test]
fn what_is_pushed_while_no_job_is_open_arrives() {
    let hub = hub();
    let load = hub.series("load");
    let mut plot = Plot::of(&hub);
    // The sampler falls asleep in between: a push wakes it.
    for n in 1..=3 {
        load.push(n as f64, n);
        plot.until_points("load", n);
        std::thread::sleep(Duration::from_millis(400));
    }
    drop(load);
}

#[test]
fn threads_push_to_one_series_and_no_point_is_lost() {
    let hub = hub();
    let series = hub.series("cells");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25_000).for_each(|n| series.push(f64::from(n), 1.0)));
        }
    });
    assert_eq!(Plot::of(&hub).until_points("cells", 100_000).n, 100_000);
}

/// A viewer of fields.
fn fields_of(hub: &Hub) -> V1 {
    V1::connect(hub, &json!({"feeds": {"stepcast/fields": {}}}))
}

/// Reads on to a value that is a copy of a field. Returns its key, and the copy.
fn copy(client: &mut V1) -> (String, Vec<u8>) {
    let bytes = client.binary();
    let length = usize::from(u16::from_be_bytes([bytes[21], bytes[22]]));
    let (key, data) = bytes[23..].split_at(length);
    (String::from_utf8(key.to_vec()).unwrap(), data.to_vec())
}

#[test]
fn a_field_is_shown_to_those_who_watch_and_to_those_who_come_after() {
    let hub = hub();
    let job = hub.job("time loop").total(10).start();
    let u = job.add_field("u").unit("mol/l").x(0.0..=2.5);
    let mut viewer = fields_of(&hub);
    let about = loop {
        let line = viewer.any_line();
        if let Some(field) = line["json"][3].get("field") {
            break field.clone();
        }
    };
    assert_eq!((&about["name"], &about["unit"]), (&json!("u"), &json!("mol/l")));
    job.set_position(7);
    let values: Vec<f32> = (0_u8..6).map(f32::from).collect();
    u.set([2, 3], &values).unwrap();
    let (key, data) = copy(&mut viewer);
    assert_eq!(key, "data/1");
    assert_eq!(data[..12], [1, 4, 64, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(data[16..24], about["id"].as_u64().unwrap().to_le_bytes());
    assert_eq!(data[24..32], 7.0_f64.to_le_bytes());
    assert_eq!(data[40..48], 2.5_f64.to_le_bytes());
    assert_eq!(data[64..68], 0.0_f32.to_le_bytes());
    assert_eq!(data[84..], 5.0_f32.to_le_bytes());
    drop(viewer);
    job.finish();
    let (_, late) = copy(&mut fields_of(&hub));
    assert_eq!(late, data);
}

#[test]
fn a_field_of_another_shape_is_an_error_or_a_line_of_the_log() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("time loop").start();
    let field = job.add_field("u");
    let error = field.set([2, 2], &[1.0_f64, 2.0, 3.0]).unwrap_err();
    assert_eq!(error, FieldError::Length { ny: 2, nx: 2, got: 3 });
    assert!(field.set::<f32>([0, 2], &[]).is_err());
    assert!(field.set([1, usize::MAX], &[1.0_f32]).is_err());
    for _ in 0..3 {
        job.field("u", [2, 2], &[1.0_f64, 2.0, 3.0]);
    }
    job.println("after");
    viewer.until("the end", |viewer| viewer.log.iter().any(|line| line["text"] == "after"));
    let text = "field u: expected 2 x 2 values, got 3: the shape is [ny, nx], row by row";
    assert_eq!(viewer.log.iter().filter(|line| line["text"] == text).count(), 1);
}

#[test]
fn a_job_that_nobody_sees_measures_nothing() {
    let job = Job::disabled();
    job.metric("loss", 1.0);
    job.series("residual").push(0.0, 1.0);
    job.field("u", [1, 1], &[1.0_f32]);
    Hub::disabled().series("load").push(0.0, [1.0, 2.0]);
}
