//! The codec beside other crates' codecs, in one run: `cargo run --release -p peers-codec` in
//! `benches/peers`. Options: `--rounds N` (31), `--only WORK` (what has this in its
//! name), `--size BYTES`, `--who NAME` (one contestant, for a profiler), `--smoke` (one
//! short round: correctness only).
//!
//! *Decode* is a server's: masked frames, copied from an image of the wire into each crate's own
//! receive buffer in reads of at most 64 KiB, and each turned into the owned message that the crate
//! gives its users, text validated. *Encode* is a server's too: messages that exist, turned into
//! unmasked frames in each crate's own buffer, which is emptied at 64 KiB into a writer that takes
//! everything. No kernel: every read and write is ready at once. Those *in a task* are read by a task of a runtime, the others
//! by a plain loop. Those that are *owned* give a message away, of which another holder stays: a count of references goes up
//! and down for each. Both are compared among themselves.
//!
//! Before it is timed, each contestant's messages (or frames) are compared with what was meant,
//! byte by byte; while it is timed, the bytes are counted and the count is compared. The contestants take turns
//! within each round, each round begins with another one, and what is told is the median of the
//! rounds, with the range that the middle half of them falls into.

mod contest;
mod decode;
mod encode;
mod floor;
mod wire;

use contest::{Options, contest};
use wire::Kind;

const SIZES: [usize; 6] = [16, 125, 1024, 16 * 1024, 64 * 1024, 1024 * 1024];

fn main() {
    let options = Options::from_arguments();
    let mut verdicts = Vec::new();
    for kind in [Kind::Ascii, Kind::Chinese, Kind::Binary] {
        if options.wants(&format!("decode {kind}")) {
            let of = |size| decode::contestants(kind, size);
            verdicts.extend(contest(&format!("decode {kind}"), &SIZES, of, &options));
        }
    }
    for kind in [Kind::Ascii, Kind::Binary] {
        if options.wants(&format!("encode {kind}")) {
            let of = |size| encode::contestants(kind, size);
            verdicts.extend(contest(&format!("encode {kind}"), &SIZES, of, &options));
        }
    }
    println!("\n## stepcast's best beside the others' best\n");
    println!("| | | ns | ns | ratio | bar |\n|---|---|---|---|--:|---|");
    for verdict in verdicts {
        println!("{verdict}");
    }
}
