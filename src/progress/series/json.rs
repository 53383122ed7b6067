//! Series as JSON: a tick's new points and a run's history.
//!
//! # New points
//!
//! [`write_fresh`] writes one array per series and tick:
//!
//! ```text
//! [s, from, n, x, y]                  single points
//! [s, from, n, x, y, lo, hi]          buckets of min, max, last
//! [s, from, n, x, y, lo, hi, more]    either, and what is rare (lo and hi are 0 for single points)
//! ```
//!
//! | part | meaning |
//! |---|---|
//! | `s` | the series' id |
//! | `from` | the number of the first point: a reader that has fewer points misses some |
//! | `n` | the number after the last point: a reader that has a history up to `n` skips it |
//! | `x` | the x of each bucket's last point |
//! | `y` | the last value, row by row: line `l` of bucket `i` is `y[i * lines + l]` |
//! | `lo`, `hi` | the least and greatest finite value, laid out as `y`; `null`: as in `y` |
//! | `more` | an object; each member may be absent |
//!
//! | member of `more` | meaning |
//! |---|---|
//! | `seg` | `[[i, x], ..]`: bucket `i` begins a segment at `x` (x went back) |
//! | `mix` | `[i, ..]`: bucket `i` holds points of more than one segment |
//! | `odd` | `[[i, l, marks], ..]`: what line `l` of bucket `i` holds; see below |
//! | `badx` | `[i, ..]`: bucket `i` holds a point whose x was not finite |
//! | `nan`, `inf` | `[[l, x, number], ..]`: each line's first NaN, first infinity |
//!
//! `marks` adds up 1 for NaN, 2 for Infinity, 4 for -Infinity; `odd` leaves a bucket out when its
//! `y` says as much. `nan` and `inf` are written in the tick in which one is new. For a point
//! whose x is not finite, the x before it stands in.
//!
//! ```text
//! [3,4711,4712,[4711],[0.25]]
//! [3,4712,104712,[104711],[0.21],[0.2],[0.3125]]
//! [3,10,12,[10,0],["NaN",1],0,0,{"seg":[[1,0]],"nan":[[0,10,10]]}]
//! ```
//!
//! # History
//!
//! [`write_history`] writes members of an object: the same columns over the whole run, the members
//! of `more` beside them. `lo` and `hi` are absent when every bucket is a single point. `seg` begins
//! with bucket 0 and its first x. `nan` and `inf` are absent when there is none.
//!
//! ```text
//! "n":6,"x":[1,3,5],"y":[4,5,"NaN"],"lo":[3,null,7],"hi":[null,6,7],
//! "seg":[[0,0]],"nan":[[0,5,5]]
//! ```
//!
//! # Numbers
//!
//! JSON has no NaN and no infinity: they are the strings `"NaN"`, `"Infinity"`, `"-Infinity"`.
//! Integers below 1e15 are exact. Other y have 7 significant digits, the precision of an f32;
//! other x have 13, enough for milliseconds since 1970. `lo` and `hi` round as `y` does, so
//! `lo <= y <= hi` holds in the text too.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::progress::series::buckets::{Buckets, mark_of};
use crate::progress::series::points::{First, Firsts, SeriesReader};

const Y_DIGITS: usize = 7;
const X_DIGITS: usize = 13;

/// Appends what the reader's last successful drain returned.
pub(crate) fn write_fresh(id: u64, reader: &SeriesReader, out: &mut String) {
    let fresh = reader.fresh();
    let _ = write!(out, "[{id},{},{},", fresh.from, fresh.to);
    let buckets = &fresh.buckets;
    xs(out, buckets);
    out.push(',');
    ys(out, buckets);
    let single = all_single(buckets);
    if !single {
        out.push(',');
        lows(out, buckets);
        out.push(',');
        highs(out, buckets);
    }
    let end = out.len();
    out.push_str(if single { ",0,0,{" } else { ",{" });
    let start = out.len();
    more(out, buckets, false);
    if fresh.firsts_changed {
        firsts(out, reader.firsts());
    }
    if out.len() == start {
        out.truncate(end);
    } else {
        out.pop(); // the comma after the last member
        out.push('}');
    }
    out.push(']');
}

/// Appends the run up to the last drain.
pub(crate) fn write_history(reader: &SeriesReader, out: &mut String) {
    let buckets = reader.history();
    let _ = write!(out, "\"n\":{},\"x\":", reader.count());
    xs(out, buckets);
    out.push_str(",\"y\":");
    ys(out, buckets);
    if !all_single(buckets) {
        out.push_str(",\"lo\":");
        lows(out, buckets);
        out.push_str(",\"hi\":");
        highs(out, buckets);
    }
    out.push(',');
    more(out, buckets, true);
    firsts(out, reader.firsts());
    out.pop(); // the comma after the last member
}

/// Appends the number of points, and the x and the values of the last.
pub(crate) fn write_last(reader: &SeriesReader, out: &mut String) {
    let _ = write!(out, "\"n\":{}", reader.count());
    let Some((span, stats)) = reader.history().iter().next_back() else { return };
    out.push_str(",\"x\":");
    number(out, span.last, X_DIGITS);
    out.push_str(",\"y\":");
    list(out, stats.iter(), |out, stat| number(out, stat.last, Y_DIGITS));
}

fn all_single(buckets: &Buckets) -> bool {
    buckets.iter().all(|(span, _)| span.count == 1)
}

fn xs(out: &mut String, buckets: &Buckets) {
    list(out, buckets.iter(), |out, (span, _)| number(out, span.last, X_DIGITS));
}

fn ys(out: &mut String, buckets: &Buckets) {
    let stats = buckets.iter().flat_map(|(_, stats)| stats);
    list(out, stats, |out, stat| number(out, stat.last, Y_DIGITS));
}

fn lows(out: &mut String, buckets: &Buckets) {
    let stats = buckets.iter().flat_map(|(_, stats)| stats);
    list(out, stats, |out, stat| bound(out, stat.min, stat.last));
}

fn highs(out: &mut String, buckets: &Buckets) {
    let stats = buckets.iter().flat_map(|(_, stats)| stats);
    list(out, stats, |out, stat| bound(out, stat.max, stat.last));
}

/// A min or a max is not finite only where there is none; then `y` is not finite either.
#[expect(clippy::float_cmp, reason = "the same value, not a close one")]
fn bound(out: &mut String, bound: f64, last: f64) {
    if bound.is_finite() && bound != last {
        number(out, bound, Y_DIGITS);
    } else {
        out.push_str("null");
    }
}

fn list<T>(out: &mut String, items: impl Iterator<Item = T>, mut one: impl FnMut(&mut String, T)) {
    out.push('[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        one(out, item);
    }
    out.push(']');
}

/// A member with a list, only when the list has an item; a comma follows it.
fn member<T>(
    out: &mut String,
    name: &str,
    items: impl Iterator<Item = T>,
    one: impl FnMut(&mut String, T),
) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        let _ = write!(out, "\"{name}\":");
        list(out, items, one);
        out.push(',');
    }
}

fn more(out: &mut String, buckets: &Buckets, start: bool) {
    let spans = || buckets.iter().map(|(span, _)| span).enumerate();
    let restarts = spans().filter(|(i, span)| span.restart || start && *i == 0);
    member(out, "seg", restarts, |out, (i, span)| {
        let _ = write!(out, "[{i},");
        number(out, span.first, X_DIGITS);
        out.push(']');
    });
    let index = |out: &mut String, i: usize| {
        let _ = write!(out, "{i}");
    };
    member(out, "mix", spans().filter(|(_, span)| span.mixed).map(|(i, _)| i), index);
    let odd = buckets.iter().enumerate().flat_map(|(i, (_, stats))| {
        let odd = stats.iter().enumerate().filter(|(_, stat)| stat.marks != mark_of(stat.last));
        odd.map(move |(line, stat)| (i, line, stat.marks))
    });
    member(out, "odd", odd, |out, (i, line, marks)| {
        let _ = write!(out, "[{i},{line},{marks}]");
    });
    member(out, "badx", spans().filter(|(_, span)| span.bad_x).map(|(i, _)| i), index);
}

fn firsts(out: &mut String, lines: &[Firsts]) {
    let mut kind = |name, of: fn(&Firsts) -> Option<First>| {
        let found = lines.iter().enumerate().filter_map(|(line, firsts)| Some((line, of(firsts)?)));
        member(out, name, found, |out, (line, first)| {
            let _ = write!(out, "[{line},");
            number(out, first.x, X_DIGITS);
            let _ = write!(out, ",{}]", first.number);
        });
    };
    kind("nan", |firsts| firsts.nan);
    kind("inf", |firsts| firsts.infinity);
}

/// Appends the shortest JSON number for `v` rounded to so many significant digits. Integers
/// below 1e15 are not rounded.
#[expect(clippy::float_cmp, reason = "asks whether the value is an integer")]
fn number(out: &mut String, v: f64, digits: usize) {
    if !v.is_finite() {
        let name = match v {
            _ if v.is_nan() => "\"NaN\"",
            _ if v > 0.0 => "\"Infinity\"",
            _ => "\"-Infinity\"",
        };
        return out.push_str(name);
    }
    if v == v.trunc() && v.abs() < 1e15 {
        let _ = write!(out, "{}", v + 0.0); // turns -0 into 0
        return;
    }
    // d.ddddde-3, at most 13 digits and a three-digit exponent: 32 bytes hold it.
    let mut buffer = [0; 32];
    let mut rest = &mut buffer[..];
    let _ = write!(rest, "{:.*e}", digits - 1, v.abs());
    let unused = rest.len();
    let text = std::str::from_utf8(&buffer[..buffer.len() - unused]).unwrap_or("0e0");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    let (head, tail) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift: i32 = exponent.parse().unwrap_or(0);
    let places = usize::try_from(shift.unsigned_abs()).unwrap_or(0);
    let scientific = mantissa.len() + 1 + exponent.len();
    if v < 0.0 {
        out.push('-');
    }
    let zeros = |out: &mut String, n: usize| out.extend(std::iter::repeat_n('0', n));
    if shift < 0 && places + 2 + tail.len() <= scientific {
        out.push_str("0.");
        zeros(out, places - 1);
        out.push_str(head);
        out.push_str(tail);
    } else if shift >= 0 && places < tail.len() {
        out.push_str(head);
        out.push_str(&tail[..places]);
        out.push('.');
        out.push_str(&tail[places..]);
    } else if shift >= 0 && places < scientific {
        out.push_str(head);
        out.push_str(tail);
        zeros(out, places - tail.len());
    } else {
        let _ = write!(out, "{mantissa}e{exponent}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::primitives::process::Process;
    use crate::progress::series::points::{SeriesWriter, TickLimit};

    fn pair(lines: usize) -> (SeriesWriter, SeriesReader) {
        crate::progress::series::points::pair(lines, &Process::current())
    }

    fn text(v: f64, digits: usize) -> String {
        let mut out = String::new();
        number(&mut out, v, digits);
        out
    }

    #[test]
    fn numbers_are_short() {
        for (v, short) in [
            (0.0, "0"),
            (-0.0, "0"),
            (5.0, "5"),
            (-12.5, "-12.5"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.3333333"),
            (0.001_234_567_8, "0.001234568"),
            (1e-5, "1e-5"),
            (0.01, "0.01"),
            (1.25e-30, "1.25e-30"),
            (1e300, "1e300"),
            (-1.5e15, "-1.5e15"),
            (16_777_217.0, "16777217"),
            (1_234_567_890.5, "1234568000"),
            (288.123_456, "288.1235"),
            (1_234_567.4, "1234567"),
            (9.999_999_96, "10"),
            (f64::MIN_POSITIVE, "2.225074e-308"),
            (5e-324, "4.940656e-324"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(text(v, 7), short);
        }
        assert_eq!(text(1_732_752_000.123, 13), "1732752000.123");
        assert_eq!(text(-1e-300 / 3.0, 13), "-3.333333333333e-301");
    }

    #[test]
    fn numbers_read_back_within_half_a_digit_and_none_is_longer_than_stds() {
        let mut bits = 0x1234_5678_9ABC_DEF1_u64;
        for round in 0..100_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let v = match round % 3 {
                0 => f64::from_bits(bits),
                1 => (bits % 1_000_000_007) as f64 / 1e6 - 300.0,
                _ => (bits % 1_000_003) as f64 * 1e-9,
            };
            if v.is_finite() {
                let text = text(v, 7);
                let back: f64 = text.parse().unwrap();
                assert!((back - v).abs() <= v.abs() * 5.001e-7 + 1e-323, "{v:e} as {text}");
                let std = format!("{v}").len().min(format!("{v:e}").len());
                assert!(text.len() <= std, "{v:e} as {text}");
            }
        }
    }

    fn written(fresh: bool, reader: &SeriesReader) -> String {
        let mut out = String::new();
        if fresh {
            write_fresh(3, reader, &mut out);
        } else {
            write_history(reader, &mut out);
        }
        out
    }

    #[test]
    fn fresh_points_are_written_as_stated() {
        let (series, mut reader) = pair(1);
        let mut tick = |points: &[(f64, f64)]| {
            for &(x, y) in points {
                assert!(series.push(x, &[y]));
            }
            reader.drain(TickLimit { points: 4, buckets: 1 }).unwrap();
            written(true, &reader)
        };
        assert_eq!(tick(&[(0.0, 0.25)]), "[3,0,1,[0],[0.25]]");
        assert_eq!(tick(&[(1.0, 0.5), (2.0, 7.0)]), "[3,1,3,[1,2],[0.5,7]]");
        let many: Vec<_> = (3..9_i32).map(|n| (f64::from(n), f64::from((n - 5).abs()))).collect();
        assert_eq!(tick(&many), "[3,3,9,[8],[3],[0],[null]]");
        let nan = [(9.0, f64::NAN), (0.0, 1.0)];
        assert_eq!(tick(&nan), r#"[3,9,11,[9,0],["NaN",1],0,0,{"seg":[[1,0]],"nan":[[0,9,9]]}]"#);
        let odd: Vec<_> = (1..7)
            .map(|n| (f64::from(n), if n == 3 { f64::INFINITY } else { 2.0 }))
            .chain([(f64::NAN, f64::NAN)])
            .collect();
        assert_eq!(
            tick(&odd),
            concat!(
                r#"[3,11,18,[6],["NaN"],[2],[2],"#,
                r#"{"odd":[[0,0,3]],"badx":[0],"nan":[[0,9,9]],"inf":[[0,3,13]]}]"#
            )
        );
        let none = [(7.0, f64::NAN); 5];
        assert_eq!(tick(&none), r#"[3,18,23,[7],["NaN"],[null],[null]]"#);
        let saw: Vec<_> = (0..20).map(|n| (-f64::from(n), 1.0)).collect();
        assert_eq!(
            tick(&saw),
            concat!(
                r#"[3,23,43,[0,-1,-2,-19],[1,1,1,1],[null,null,null,null],[null,null,null,null],"#,
                r#"{"seg":[[0,0],[1,-1],[2,-2],[3,-3]],"mix":[3]}]"#
            )
        );
    }

    #[test]
    fn a_history_is_written_as_stated() {
        let (series, mut reader) = pair(2);
        reader.drain(TickLimit::default());
        assert_eq!(written(false, &reader), r#""n":0,"x":[],"y":[]"#);
        for (x, y) in [(0.5, 1.0), (1.0, 2.0), (0.0, f64::NEG_INFINITY)] {
            assert!(series.push(x, &[y, 0.1]));
        }
        reader.drain(TickLimit::default()).unwrap();
        assert_eq!(
            written(false, &reader),
            concat!(
                r#""n":3,"x":[0.5,1,0],"y":[1,0.1,2,0.1,"-Infinity",0.1],"#,
                r#""seg":[[0,0.5],[2,0]],"inf":[[0,0,2]]"#
            )
        );
        for n in 0..10_000 {
            assert!(series.push(f64::from(n), &[f64::from(n % 7), 0.5]));
        }
        assert!(series.push(1_732_752_000.123, &[288.123_456, 0.5]));
        reader.drain(TickLimit::default()).unwrap();
        let text = written(false, &reader);
        assert!(text.contains(r#",1732752000.123],"y":["#) && text.contains(",288.1235,0.5]"));
        assert!(text.contains(r#""lo":[null,null,"#) && text.contains(r#""hi":["#));
    }

    #[test]
    fn three_series_at_10_hz_take_less_than_3_kb_per_second() {
        for per_tick in [1, 2, 3, 5, 100, 10_000] {
            let mut series: Vec<_> = (0..3).map(|_| pair(1)).collect();
            let (mut step, mut bytes, mut worst) = (1_000_000.0_f64, 0, 0);
            for _ in 0..100 {
                for _ in 0..per_tick {
                    step += 1.0;
                    for (i, (push, _)) in series.iter().enumerate() {
                        let y = (step * 0.001 + i as f64).sin() / 3.0;
                        assert!(push.push(step, &[y]));
                    }
                }
                let mut out = String::new();
                for (id, (_, reader)) in series.iter_mut().enumerate() {
                    reader.drain(TickLimit::default()).unwrap();
                    write_fresh(id as u64 + 1, reader, &mut out);
                    out.push(',');
                }
                bytes += out.len();
                worst = worst.max(out.len());
            }
            // The tick's envelope and the job's report take 35 and at most 60 bytes more.
            let per_second = bytes / 10 + 10 * (35 + 60);
            assert!(per_second < 3000, "{per_tick} pushes a tick: {per_second} B/s, {worst}");
            println!("{per_tick} pushes a tick: {per_second} B/s, worst tick {worst}");
        }
    }
}
