//! The table of the ASVS is whole, and names tests that there are.

use super::proof;

const TABLE: &str = include_str!("asvs.md");

/// How many requirements of levels 1 and 2 each section of ASVS 5.0.0 has, by the numbers they bear
/// in it: those of level 3 are left out.
const SECTIONS: &[(&str, &[u32])] = &[
    ("V6.1", &[1, 2, 3]),
    ("V6.2", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("V6.3", &[1, 2, 3, 4]),
    ("V6.4", &[1, 2, 3, 4]),
    ("V6.5", &[1, 2, 3, 4, 5]),
    ("V6.6", &[1, 2, 3]),
    ("V6.8", &[1, 2, 3, 4]),
    ("V7.1", &[1, 2, 3]),
    ("V7.2", &[1, 2, 3, 4]),
    ("V7.3", &[1, 2]),
    ("V7.4", &[1, 2, 3, 4, 5]),
    ("V7.5", &[1, 2]),
    ("V7.6", &[1, 2]),
    ("V8.1", &[1, 2]),
    ("V8.2", &[1, 2, 3]),
    ("V8.3", &[1]),
    ("V8.4", &[1]),
    ("V9.1", &[1, 2, 3]),
    ("V9.2", &[1, 2, 3, 4]),
    ("V10.1", &[1, 2]),
    ("V10.2", &[1, 2]),
    ("V10.3", &[1, 2, 3, 4]),
    ("V10.4", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ("V10.5", &[1, 2, 3, 4, 5]),
    ("V10.6", &[1, 2]),
    ("V10.7", &[1, 2, 3]),
];

/// Requirement and proof of each row.
fn rows() -> Vec<(&'static str, &'static str)> {
    let cells = TABLE.lines().filter_map(|line| {
        let mut cells = line
            .strip_prefix("| V")?
            .trim_end_matches(" |")
            .split(" | ");
        let (name, proof) = (cells.next()?, cells.nth(2)?);
        // With the letter that was taken off.
        let start = line.find(name)?.checked_sub(1)?;
        Some((line.get(start..start + name.len() + 1)?, proof))
    });
    cells.collect()
}

#[test]
fn every_requirement_of_levels_1_and_2_has_its_row() {
    let wanted = SECTIONS.iter().flat_map(|(section, numbers)| {
        numbers
            .iter()
            .map(move |number| format!("{section}.{number}"))
    });
    let wanted: Vec<String> = wanted.collect();
    let found: Vec<&str> = rows().into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, wanted);
}

#[test]
fn every_row_has_a_proof_or_a_reason_and_every_named_test_exists() {
    for (name, proof) in rows() {
        assert!(proof.len() > 8, "{name} says nothing");
    }
    proof::found(rows());
}
