//! A writer whose lines go into the run's log.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use crate::progress::base::Base;
use crate::progress::log::{Level, TEXT_MAX};

/// The bytes of a line that are kept: enough that a line that is too long is seen to be.
const KEPT: usize = TEXT_MAX + 1;

/// Writes lines into the run's log: [`Hub::log_writer`](crate::Hub::log_writer) and
/// [`Job::log_writer`](crate::Job::log_writer) make one.
///
/// Each line of the text is a line of the log. The last line may lack its newline; the log gets it
/// when the writer is dropped, and not by `flush`. A line above 16 KiB is cut off and ends with `…`.
/// Bytes that are no UTF-8 become `�`. Colours, which are ANSI escape sequences, stay.
///
/// Writing never fails and never waits. A writer keeps neither its hub running nor its job open, so
/// it may stand in a `static`. A clone begins with an empty line: a logger that asks for a writer
/// for each line gets a clone.
///
/// ```
/// use std::io::Write;
///
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let mut log = hub.log_writer(stepcast::Level::Info);
/// writeln!(log, "residual {:e}", 1e-7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The text of `tracing`'s formatter, whose `MakeWriter` may be a closure (the feature
/// `tracing-layer` also keeps the level and the job of an event):
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let log = hub.log_writer(stepcast::Level::Info);
/// let subscriber = tracing_subscriber::fmt().with_writer(move || log.clone()).finish();
/// tracing::subscriber::with_default(subscriber, || tracing::info!("restart written"));
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
pub struct LogWriter {
    base: Option<Arc<Base>>,
    job: Option<u64>,
    level: Level,
    /// The beginning of a line that has not ended.
    begun: Vec<u8>,
}

impl LogWriter {
    pub(crate) fn new(base: Option<&Arc<Base>>, job: Option<u64>, level: Level) -> Self {
        Self { base: base.map(Arc::clone), job, level, begun: Vec::new() }
    }

    /// Adds to the line that has begun, as far as there is room.
    fn add(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        // In a child of `fork` the line is the parent's.
        if let Some(base) = self.base.as_ref().filter(|base| !base.process.is_another()) {
            let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
            let text = String::from_utf8_lossy(line).into_owned();
            base.log(self.level, self.job, text.into());
        }
        self.begun.clear();
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut left = bytes;
        while let Some(end) = memchr::memchr(b'\n', left) {
            self.add(&left[..end]);
            self.end_line();
            left = &left[end + 1..];
        }
        self.add(left);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Clone for LogWriter {
    fn clone(&self) -> Self {
        Self::new(self.base.as_ref(), self.job, self.level)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if !self.begun.is_empty() {
            self.end_line();
        }
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = f.debug_struct("LogWriter");
        writer.field("level", &self.level).field("job", &self.job).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut LogWriter)) -> Vec<String> {
        let base = Base::new(|| ());
        write(&mut LogWriter::new(Some(&base), Some(7), Level::Warn));
        let (lines, _) = base.take_log();
        assert!(lines.iter().all(|line| (line.level, line.job) == (Level::Warn, Some(7))));
        lines.into_iter().map(|line| line.text.into_owned()).collect()
    }

    #[test]
    fn lines_of_the_text_are_lines_of_the_log_however_they_are_written() {
        let lines = ["one", "", "\u{1b}[31mtwo\u{1b}[0m ö", "three"];
        let text = lines.join("\n");
        for size in [1, 2, 7, 1000] {
            let log = written(|log| {
                text.as_bytes().chunks(size).for_each(|part| log.write_all(part).unwrap());
                log.flush().unwrap();
            });
            assert_eq!(log, lines, "in parts of {size} bytes");
        }
        assert_eq!(written(|log| log.write_all(b"dos\r\n\xff\n").unwrap()), ["dos", "\u{fffd}"]);
        assert!(written(|log| log.write_all(b"").unwrap()).is_empty());
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let part = "ö".repeat(1000);
        let log = written(|log| {
            for _ in 0..1000 {
                log.write_all(part.as_bytes()).unwrap();
                assert!(log.begun.len() <= KEPT);
            }
            log.write_all(b"\nnext").unwrap();
        });
        assert_eq!(log[1], "next");
        assert!((TEXT_MAX - 8..=TEXT_MAX).contains(&log[0].len()), "{}", log[0].len());
        assert!(log[0].ends_with("ö…"));
    }

    #[test]
    fn a_clone_has_a_line_of_its_own() {
        let log = written(|log| {
            log.write_all(b"begun, ").unwrap();
            writeln!(log.clone(), "between").unwrap();
            log.write_all(b"ended").unwrap();
        });
        assert_eq!(log, ["between", "begun, ended"]);
    }
}
