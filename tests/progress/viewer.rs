//! A viewer of the run, which keeps what it is told as the browser's client does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};
use stepcast::Hub;

use crate::support::lines::V1;
use crate::support::wire::PATIENCE;

pub(crate) struct Viewer {
    pub(crate) client: V1,
    pub(crate) run: Value,
    pub(crate) jobs: BTreeMap<u64, Value>,
    pub(crate) reports: BTreeMap<u64, Value>,
    pub(crate) parameters: BTreeMap<u64, Value>,
    pub(crate) log: Vec<Value>,
    pub(crate) errors: Vec<Value>,
    /// Every state that a job was seen in, one after the other.
    pub(crate) path: Vec<(u64, String)>,
    pub(crate) bye: Option<Value>,
    slots: BTreeMap<u64, u64>,
    alias: Value,
}

impl Viewer {
    pub(crate) fn of(hub: &Hub) -> Self {
        Self::at(hub.local_addr().unwrap())
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        let client = V1::connect_to(address, &json!({"feeds": {"stepcast/run": {}}}));
        Self {
            client,
            run: Value::Null,
            jobs: BTreeMap::new(),
            reports: BTreeMap::new(),
            parameters: BTreeMap::new(),
            log: Vec::new(),
            errors: Vec::new(),
            path: Vec::new(),
            bye: None,
            slots: BTreeMap::new(),
            alias: Value::Null,
        }
    }

    fn take(&mut self, line: &Value) {
        if let Some(feed) = line.get("feed") {
            self.alias = feed["alias"].clone();
        } else if let Some(error) = line.get("error") {
            self.errors.push(error.clone());
        } else if let Some(bye) = line.get("bye") {
            self.bye = Some(bye.clone());
        } else if let Some(removed) = line.get("removed") {
            self.remove(removed[3].as_str().unwrap());
        } else {
            self.take_message(&line["json"]);
        }
    }

    fn take_message(&mut self, message: &Value) {
        assert_eq!(message[0], self.alias, "{message}");
        let (kind, content) = message[3].as_object().unwrap().iter().next().unwrap();
        // The fixture lists what the browser's client is told to expect.
        let fixture: Value = serde_json::from_str(include_str!("../protocol/run.json")).unwrap();
        let known = fixture["members"][kind].as_array().unwrap();
        let mut members = content.as_object().unwrap().keys();
        assert!(members.all(|member| known.iter().any(|known| known == member)), "{message}");
        let (content, id) = (content.clone(), content["id"].as_u64());
        match kind.as_str() {
            "run" => self.run = content,
            "log" => self.log.push(content),
            "job" => {
                let (id, status) = (id.unwrap(), content["status"].as_str().unwrap().to_owned());
                if self.path.last() != Some(&(id, status.clone())) {
                    self.path.push((id, status));
                }
                let mut content = content;
                let slot = content.as_object_mut().unwrap().remove("slot").unwrap();
                let before = self.slots.insert(slot.as_u64().unwrap(), id);
                if let Some(before) = before.filter(|before| *before != id) {
                    self.jobs.remove(&before);
                }
                self.jobs.insert(id, content);
            }
            "report" => drop(self.reports.insert(id.unwrap(), content)),
            "parameter" => drop(self.parameters.insert(id.unwrap(), content)),
            _ => panic!("{message}"),
        }
    }

    fn remove(&mut self, key: &str) {
        let (kind, id) = key.split_once('/').unwrap();
        let id = id.parse().unwrap();
        assert_eq!(kind, "parameter", "{key}");
        self.parameters.remove(&id);
    }

    /// Reads until this holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            assert!(self.bye.is_none(), "the hub ended before {what}");
            assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
            let line = self.client.any_line();
            self.take(&line);
        }
    }

    /// Reads until the hub has said goodbye.
    pub(crate) fn until_bye(&mut self) {
        while self.bye.is_none() {
            let line = self.client.any_line();
            self.take(&line);
        }
    }

    /// The job of this title.
    pub(crate) fn job(&self, title: &str) -> Option<&Value> {
        self.jobs.values().find(|job| job["title"] == title)
    }

    pub(crate) fn id(&self, title: &str) -> u64 {
        self.job(title).unwrap()["id"].as_u64().unwrap()
    }

    /// Reads until the job of this title is in this state.
    pub(crate) fn until_status(&mut self, title: &str, status: &str) {
        self.until(status, |viewer| viewer.job(title).is_some_and(|job| job["status"] == status));
    }

    pub(crate) fn command(&mut self, command: &Value) {
        let line = json!({"json": command, "to": self.alias});
        self.client.say(&line);
    }
}
