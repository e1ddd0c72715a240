//! The known name that a mistyped one most likely meant.

/// The closest of `known` to `typed`, when it is at most two slips (one in a short name) away.
pub(super) fn suggestion<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = typed.chars().count();
    let slips = match length {
        0..=2 => return None,
        3..=5 => 1,
        // No declared name is as long as this.
        65.. => return None,
        _ => 2,
    };
    known
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_none() {
        let known = ["email", "name", "job_title", "score"];
        let meant = |typed| suggestion(typed, known.into_iter());
        assert_eq!(meant("emial"), Some("email"));
        assert_eq!(meant("e_mail"), Some("email"));
        assert_eq!(meant("jobTitle"), Some("job_title"));
        assert_eq!(meant("nmae"), Some("name"));
        assert_eq!(meant("xyz"), None);
        assert_eq!(meant("no"), None);
        assert_eq!(meant(""), None);
    }
}
