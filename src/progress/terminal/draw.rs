//! Draws a run in the terminal: bars below, and the log above them.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use console::truncate_str;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::progress::terminal::view::View;

/// The time between two drawings.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A terminal that is drawn on. All bars are one text of `indicatif`'s, so that a drawing is one.
#[derive(Debug)]
pub(crate) struct Terminal<T> {
    term: T,
    bar: ProgressBar,
    view: View,
    drawn: String,
    last: Option<Instant>,
    is_over: bool,
}

impl<T: TermLike + Clone + 'static> Terminal<T> {
    pub(crate) fn new(term: T) -> Self {
        // Without a rate of its own: this is drawn as often as it should be.
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { term, bar, view: View::default(), drawn: String::new(), last: None, is_over: false }
    }

    /// Takes recorded lines, and draws the run. Without lines, time has passed.
    pub(crate) fn take(&mut self, lines: &[u8]) -> std::io::Result<()> {
        for line in lines.split(|byte| *byte == b'\n') {
            self.view.take(line);
        }
        if self.view.end().is_none() {
            let wait = self.last.map(|last| DRAW_EVERY.saturating_sub(last.elapsed()));
            thread::sleep(wait.unwrap_or_default());
        }
        self.last = Some(Instant::now());
        self.draw()
    }

    fn draw(&mut self) -> std::io::Result<()> {
        let width = usize::from(self.term.width());
        // A line is left for the command line.
        let height = usize::from(self.term.height()).saturating_sub(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut bars = self.view.bars(u64::try_from(now.as_millis()).unwrap_or(0), height);
        for bar in &mut bars {
            *bar = truncate_str(bar, width, "…").into_owned();
        }
        let (log, bars) = (self.view.log(), bars.join("\n"));
        if let Some(end) = self.view.end() {
            if !std::mem::replace(&mut self.is_over, true) {
                self.bar.finish_and_clear();
                let end = if end.is_empty() { None } else { Some(end) };
                let lines = log.iter().map(String::as_str).chain(bars.lines()).chain(end);
                lines.into_iter().try_for_each(|line| self.term.write_line(line))?;
                self.term.flush()?;
            }
            return Ok(());
        }
        if bars.is_empty() && self.drawn.is_empty() {
            log.iter().try_for_each(|line| self.term.write_line(line))?;
            return self.term.flush();
        }
        if !log.is_empty() {
            self.bar.println(log.join("\n"));
        }
        if bars != self.drawn {
            self.drawn.clone_from(&bars);
            self.bar.set_message(bars);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn the_log_scrolls_above_the_bars_and_the_last_state_stays() {
        let term = InMemoryTerm::new(8, 30);
        let mut terminal = Terminal::new(term.clone());
        terminal.take(b"{\"at\":1,\"log\":{\"level\":\"info\",\"text\":\"begins\"}}\n").unwrap();
        assert_eq!(term.contents(), "INFO  begins");
        let job = |id: u64, rest: &str| {
            format!(
                "{{\"at\":1,\"job\":{{\"id\":{id},\"title\":\"job {id}\",\"started\":1,{rest}}}}}\n"
            )
        };
        let lines = job(1, r#""status":"working""#) + &job(2, r#""status":"working","parent":1"#);
        terminal.take(lines.as_bytes()).unwrap();
        assert_eq!(term.contents(), "INFO  begins\njob 1  0\n  job 2  0");
        terminal.take(b"{\"at\":1,\"log\":{\"level\":\"warn\",\"text\":\"halved\"}}\n").unwrap();
        assert_eq!(term.contents(), "INFO  begins\nWARN  halved\njob 1  0\n  job 2  0");
        terminal.take(b"{\"at\":1,\"report\":{\"id\":1,\"progress\":41}}\n").unwrap();
        assert_eq!(term.contents(), "INFO  begins\nWARN  halved\njob 1  41\n  job 2  0");
        let long =
            job(1, r#""status":"working","message":"a message that is longer than the line""#);
        terminal.take(long.as_bytes()).unwrap();
        let lines = term.contents();
        assert!(lines.contains("\njob 1  41  a message that is …\n  job 2  0"), "{lines}");
        let ended = job(2, r#""status":"completed","parent":1,"ended":1001,"progress":7"#);
        let ended = ended + "{\"at\":1,\"end\":{\"how\":\"finished\",\"reason\":\"converged\"}}\n";
        terminal.take(ended.as_bytes()).unwrap();
        terminal.take(b"").unwrap();
        drop(terminal);
        term.write_line("$").unwrap();
        let expected = [
            "WARN  halved",
            "job 1  41  a message that is …",
            "  job 2  completed  7 in 1 s",
            "finished: converged",
            "$",
        ];
        assert!(term.contents().ends_with(&expected.join("\n")), "{}", term.contents());
    }

    #[test]
    fn there_are_ten_drawings_a_second_at_most_and_none_if_nothing_changes() {
        let term = InMemoryTerm::new(8, 40);
        let mut terminal = Terminal::new(term.clone());
        let begun = Instant::now();
        for progress in 0..5 {
            let line = format!(
                "{{\"at\":1,\"job\":{{\"id\":1,\"title\":\"a\",\"status\":\"working\",\"started\":1}}}}\n\
                {{\"at\":1,\"report\":{{\"id\":1,\"progress\":{progress}}}}}\n"
            );
            terminal.take(line.as_bytes()).unwrap();
        }
        assert!(begun.elapsed() >= 4 * DRAW_EVERY, "{:?}", begun.elapsed());
        assert!(!term.moves_since_last_check().is_empty());
        terminal.take(b"").unwrap();
        assert_eq!(term.moves_since_last_check(), "");
        // More jobs than lines.
        for id in 1..100 {
            let job = format!(r#"{{"id":{id},"title":"job {id}","status":"working","started":1}}"#);
            terminal.view.take(format!(r#"{{"at":1,"job":{job}}}"#).as_bytes());
        }
        terminal.take(b"").unwrap();
        assert_eq!(term.contents().lines().count(), 7);
        assert!(term.contents().ends_with("… and 93 more"), "{}", term.contents());
    }
}
