//! The rules: each names what speaks for or against a lead, and by how many points of 100.

use crate::contact::Contact;

/// One rule that applied.
#[derive(Debug, PartialEq, Eq)]
pub struct Reason {
    pub points: i32,
    pub what: &'static str,
}

/// The rules that applied to a contact.
#[derive(Debug, Default)]
pub struct Score {
    pub reasons: Vec<Reason>,
}

impl Score {
    /// The sum, within 0 and 100.
    pub fn points(&self) -> i32 {
        self.reasons
            .iter()
            .map(|reason| reason.points)
            .sum::<i32>()
            .clamp(0, 100)
    }

    fn add(&mut self, applies: bool, points: i32, what: &'static str) {
        if applies {
            self.reasons.push(Reason { points, what });
        }
    }
}

const FREE_MAIL: &[&str] = &[
    "aol.com",
    "gmail.com",
    "gmx.de",
    "gmx.net",
    "googlemail.com",
    "hotmail.com",
    "icloud.com",
    "live.com",
    "mail.ru",
    "outlook.com",
    "proton.me",
    "protonmail.com",
    "qq.com",
    "web.de",
    "yahoo.com",
    "yandex.ru",
];
const DECIDERS: &[&str] = &[
    "ceo",
    "cfo",
    "chief",
    "coo",
    "cto",
    "director",
    "founder",
    "head",
    "owner",
    "partner",
    "president",
    "vp",
];
const WARM: &[&str] = &["customer", "hot", "partner", "referral", "vip"];
const COLD: &[&str] = &["bounced", "competitor", "spam", "unsubscribed"];

/// Applies every rule to a contact.
pub fn score(contact: &Contact) -> Score {
    let mut score = Score::default();
    let email = said(&contact.email);
    let domain = email
        .as_deref()
        .and_then(|email| email.rsplit_once('@'))
        .map(|(_, domain)| domain);
    let free = domain.is_some_and(|domain| FREE_MAIL.contains(&domain));
    score.add(
        domain.is_some() && !free,
        30,
        "an address at a domain of their own",
    );
    score.add(free, 10, "an address, though a free one");

    score.add(said(&contact.phone).is_some(), 15, "a telephone number");
    score.add(said(&contact.company).is_some(), 15, "a company");
    let title = said(&contact.job_title);
    let decides = title
        .as_deref()
        .is_some_and(|title| words(title).any(|word| DECIDERS.contains(&word)));
    score.add(decides, 20, "a job title that decides");
    score.add(title.is_some() && !decides, 10, "a job title");

    let tagged = |list: &[&str]| {
        contact
            .tags
            .iter()
            .flatten()
            .any(|tag| list.contains(&lower(tag).as_str()))
    };
    score.add(tagged(WARM), 15, "a warm tag");
    score.add(tagged(COLD), -40, "a cold tag");
    score.add(
        said(&contact.notes).is_some(),
        5,
        "notes: somebody has talked to them",
    );
    score
}

fn said(field: &Option<String>) -> Option<String> {
    field.as_deref().map(lower).filter(|text| !text.is_empty())
}

fn lower(text: &str) -> String {
    text.trim().to_lowercase()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn a_founder_with_every_field_scores_full_marks() {
        let contact = Contact {
            email: text("ada@engines.example"),
            phone: text("+44 20 7946 0000"),
            company: text("Analytical Engines"),
            job_title: text("Co-Founder & CTO"),
            tags: Some(vec!["VIP".to_owned()]),
            notes: text("met at the fair"),
            ..Contact::default()
        };
        assert_eq!(score(&contact).points(), 100);
    }

    #[test]
    fn a_free_address_counts_less_than_one_of_their_own() {
        let at = |email: &str| {
            score(&Contact {
                email: text(email),
                ..Contact::default()
            })
            .points()
        };
        assert_eq!(at("ada@gmail.com"), 10);
        assert_eq!(at("Ada@GMail.com "), 10);
        assert_eq!(at("ada@engines.example"), 30);
    }

    #[test]
    fn an_unknown_contact_scores_nothing_and_a_cold_one_no_less() {
        assert_eq!(score(&Contact::default()).points(), 0);
        let cold = Contact {
            tags: Some(vec!["spam".to_owned()]),
            ..Contact::default()
        };
        assert_eq!(score(&cold).points(), 0);
        assert_eq!(
            score(&cold).reasons,
            [Reason {
                points: -40,
                what: "a cold tag"
            }]
        );
    }

    #[test]
    fn a_heading_word_inside_another_decides_nothing() {
        let title = |title: &str| {
            score(&Contact {
                job_title: text(title),
                ..Contact::default()
            })
            .points()
        };
        assert_eq!(title("Head of Sales"), 20);
        assert_eq!(title("Forehead model"), 10);
    }
}
