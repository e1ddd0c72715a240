//! The page of the sandbox's promises names tests that there are.

use super::proof;

const PAGE: &str = include_str!("sandbox.md");

#[test]
fn every_promise_of_the_sandbox_has_tests_that_exist() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter(|line| *line != "| Promise | Proof |");
    let rows = rows.map(|line| {
        let cells = line.trim_matches(['|', ' ']).split_once(" | ");
        cells.unwrap_or_else(|| panic!("{line} is no promise with its proof"))
    });
    let mut promises = 0;
    for row in rows {
        promises += 1;
        assert!(proof::found([row]) > 0, "{} is not proved", row.0);
    }
    assert!(promises > 40, "{promises}");
}
