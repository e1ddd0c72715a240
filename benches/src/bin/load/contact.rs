//! Contacts to fill a database with, and a small generator of random numbers.

const FIRST: [&str; 16] = [
    "Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Ken", "Dennis", "Radia",
    "Leslie", "Tony", "Margaret", "John", "Shafi", "Niklaus",
];
const LAST: [&str; 25] = [
    "Lovelace",
    "Hopper",
    "Turing",
    "Dijkstra",
    "Liskov",
    "Knuth",
    "Allen",
    "Thompson",
    "Ritchie",
    "Perlman",
    "Lamport",
    "Hoare",
    "Hamilton",
    "Backus",
    "Goldwasser",
    "Wirth",
    "Meyer",
    "Fischer",
    "Weber",
    "Keller",
    "Huber",
    "Schmid",
    "Steiner",
    "Brunner",
    "Baumann",
];
/// Distinct parts of companies' names: what a search looks for, found in every 400th contact.
const COMPANIES: u64 = 400;

/// The wire form of the contact with this number; every number has an e-mail address of its own.
/// Its owner is whoever makes it, unless given.
pub(crate) fn body(serial: u64, owner: Option<&str>) -> String {
    let pick = |names: &[&'static str]| names[(scattered(serial) as usize) % names.len()];
    let (first, last) = (pick(&FIRST), pick(&LAST));
    let company = company(scattered(serial));
    let owner = owner.map_or_else(String::new, |id| format!(r#""owner_id":"{id}","#));
    format!(
        r#"{{{owner}"name":"{first} {last}","email":"{first}.{last}.{serial}@example.com","phone":"+41 44 {:07}","company":"{company}","job_title":"Engineer","tags":["load","no-{}"],"status":"active"}}"#,
        serial % 10_000_000,
        serial % 10,
    )
}

/// What to search for: it is in the middle of some contacts' company.
pub(crate) fn search(random: &mut Random) -> String {
    company(random.next())[1..].to_lowercase()
}

fn company(number: u64) -> String {
    format!("Works{:03}", number % COMPANIES)
}

/// A number without visible relation to its neighbours' (the finalizer of SplitMix64).
fn scattered(serial: u64) -> u64 {
    let mut z = serial.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(scattered(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scattered(self.0)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[(self.next() % from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_contacts_by_the_middle_of_their_company() {
        let wanted = search(&mut Random::new(1));
        let matches =
            (0..4_000).filter(|serial| body(*serial, None).to_lowercase().contains(&wanted));
        assert!((3..30).contains(&matches.count()), "{wanted}");
    }

    #[test]
    fn contacts_are_json() {
        let contact: serde_json::Value = serde_json::from_str(&body(7, Some("x"))).unwrap();
        assert!(
            contact["email"]
                .as_str()
                .unwrap()
                .ends_with(".7@example.com")
        );
    }
}
