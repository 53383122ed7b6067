//! The README says how many lines of each program are there for Stepcast.

use std::fs;
use std::path::Path;

/// The words of a line that is there for Stepcast: its names, the programs' handles, and the places
/// where a crate lets a program look on.
const WORDS: &str = "stepcast hub job cancelled progress_with watch batches rate \
                     observe observermode add_observer solout";

fn names_stepcast(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| WORDS.split(' ').any(|ours| word.eq_ignore_ascii_case(ours)))
}

/// Counts the lines of a program, and those of them that are there for Stepcast. Comments and empty
/// lines do not count.
fn count(program: &str) -> (usize, usize) {
    let lines: Vec<&str> = program
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim_end())
        .filter(|line| !line.is_empty())
        .collect();
    let mut is_ours: Vec<bool> = lines.iter().map(|line| names_stepcast(line)).collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    for begin in (0..lines.len()).rev().filter(|line| lines[*line].ends_with('{')) {
        let same = |line: &usize| indent(lines[*line]) == indent(lines[begin]);
        let Some(end) = (begin + 1..lines.len()).find(same) else { continue };
        // All lines of a type count that is made for Stepcast, and of a block of lines that count.
        let is_item = ["struct", "impl"].iter().any(|item| lines[begin].starts_with(item));
        let is_whole = is_ours[begin + 1..end].iter().all(|line| *line);
        if is_whole || (is_item && is_ours[begin]) {
            is_ours[begin..=end].fill(true);
        }
    }
    (lines.len(), is_ours.iter().filter(|line| **line).count())
}

#[test]
fn the_readme_counts_the_lines_that_are_there_for_stepcast() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(here.join("README.md")).unwrap();
    let mut rows: Vec<&str> = readme.lines().filter(|line| line.contains("(src/bin/")).collect();
    let mut wrong = Vec::new();
    for file in fs::read_dir(here.join("src/bin")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (all, ours) = count(&fs::read_to_string(&path).unwrap());
        let (begins, ends) = (format!("(src/bin/{name})"), format!("| {all} | {ours} |"));
        match rows.iter().position(|row| row.contains(&begins) && row.ends_with(&ends)) {
            Some(row) => drop(rows.remove(row)),
            None => wrong.push(format!("{name}: {ends}")),
        }
    }
    assert!(wrong.is_empty() && rows.is_empty(), "expected {wrong:#?}, got {rows:#?}");
}

#[test]
fn lines_are_counted() {
    let program = r#"
//! A program.
use stepcast::Hub;

struct Watch {
    last: f64,
}

fn main() {
    let hub = Hub::disabled(); // nobody watches
    if hub.job("a") {
        hub.job("b");
    }
    for step in 0..10 {
        hub.job("c");
        compute(step);
    }
}
"#;
    assert_eq!(count(program), (14, 9));
}
