//! How old what a viewer sees is that reads 50 KB/s, while 1000 values of 1 KiB are set in a second.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

use stepcast::Hub;

use crate::calls;
use crate::support::peer::Peer;
use crate::support::slow::{Model, Slow, greedy_proxy};

const PER_SECOND: u32 = 50_000;

pub fn run(time: Duration) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    for (name, window, through_proxy) in
        [("window", true, false), ("proxy", true, true), ("none", false, false)]
    {
        let builder = Hub::builder();
        let hub = calls::hub(if window { builder } else { builder.freshness(Duration::ZERO) });
        let address = hub.local_addr().expect("it listens");
        let to = if through_proxy { greedy_proxy(address) } else { address };
        let peer = Peer::upgrade(TcpStream::connect(to).expect("it listens"), address);
        let mut slow = Slow::new(peer, PER_SECOND);
        let model = Model::start(&hub);
        let mut ages = Vec::new();
        let whole = slow.read_for(time, |message| {
            ages.push(model.age(message.as_text().expect("text")).as_secs_f64() * 1e3);
        });
        assert!(whole, "it was cut");
        ages.sort_unstable_by(f64::total_cmp);
        figures.insert(format!("{name}.p50"), ages[ages.len() / 2]);
        figures.insert(format!("{name}.max"), ages[ages.len() - 1]);
        let share = slow.read as f64 / (slow.read + slow.missed) as f64;
        figures.insert(format!("{name}.share"), share * 100.0);
    }
    figures
}
