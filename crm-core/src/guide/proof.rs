//! The tests that pages name, as `file::test`: they are there.

use std::collections::BTreeMap;
use std::path::Path;

/// Looks for every test that these rows name, each a promise and its proof; answers how many.
pub(super) fn found<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut sources, mut found) = (BTreeMap::<String, String>::new(), 0);
    for (name, proof) in rows {
        for quoted in proof.split('`').skip(1).step_by(2) {
            let Some((file, test)) = quoted
                .split_once("::")
                .filter(|(file, _)| file.ends_with(".rs"))
            else {
                continue;
            };
            let source = sources.entry(file.to_owned()).or_insert_with(|| {
                std::fs::read_to_string(root.join(file))
                    .unwrap_or_else(|_| panic!("{name}: no {file}"))
            });
            assert!(
                source.contains(&format!("fn {test}(")),
                "{name}: {file} has no test {test}"
            );
            found += 1;
        }
    }
    found
}
