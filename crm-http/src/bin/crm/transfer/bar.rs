//! How far an import is, on a line of the terminal that is written over. Where standard error is no
//! terminal there is no such line: what is kept of a script's output says what came of it, not how.

use std::io::{IsTerminal as _, Stderr, Write};

use crm_core::job::Progress;

/// The line, where there is a terminal to write it on.
pub(super) struct Bar<W = Stderr>(Option<W>);

impl Bar {
    /// The line on standard error.
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr();
        Self(terminal.is_terminal().then_some(terminal))
    }
}

impl<W: Write> Bar<W> {
    pub(super) fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let Some(terminal) = &mut self.0 else { return };
        // A terminal that has gone away needs no bar.
        let _ = write!(terminal, "\r{} ", line(progress));
        let _ = terminal.flush();
    }

    /// Leaves the line behind as it is.
    pub(super) fn end(self) {
        if let Some(mut terminal) = self.0 {
            let _ = writeln!(terminal);
        }
    }
}

fn line(progress: Progress) -> String {
    const WIDTH: u64 = 30;
    let total = progress.total_bytes.max(1);
    let read = progress.bytes.min(total);
    let bar = |from, to, mark: &str| (from..to).map(|_| mark).collect::<String>();
    let filled = read * WIDTH / total;
    let refused = match progress.failed {
        0 => String::new(),
        failed => format!(", {failed} refused"),
    };
    format!(
        "[{}{}] {:3} %  {} imported{refused}",
        bar(0, filled, "#"),
        bar(filled, WIDTH, "-"),
        read * 100 / total,
        progress.done
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(bytes: u64, total_bytes: u64, failed: u64) -> Progress {
        Progress {
            done: 7,
            failed,
            bytes,
            total_bytes,
        }
    }

    #[test]
    fn progress_is_written_over_on_a_terminal_and_left_behind_at_the_end() {
        let mut terminal = Vec::new();
        let mut bar = Bar(Some(&mut terminal));
        assert!(bar.is_shown());
        for (bytes, failed) in [(0, 0), (50, 0), (100, 2)] {
            bar.show(progress(bytes, 100, failed));
        }
        bar.end();
        let (half, all) = ("###############", "##############################");
        let none = "------------------------------";
        let lines = format!(
            "\r[{none}]   0 %  7 imported \r[{half}---------------]  50 %  7 imported \
             \r[{all}] 100 %  7 imported, 2 refused \n"
        );
        assert_eq!(String::from_utf8(terminal).unwrap(), lines);
    }

    #[test]
    fn a_file_without_a_length_and_one_that_grew_have_a_bar_too() {
        assert!(line(progress(0, 0, 0)).contains("]   0 %"));
        assert!(line(progress(9, 3, 0)).contains("] 100 %"));
    }

    #[test]
    fn nothing_is_written_where_there_is_no_terminal() {
        let mut bar: Bar<Vec<u8>> = Bar(None);
        bar.show(progress(1, 2, 0));
        assert!(!bar.is_shown());
        bar.end();
    }
}
