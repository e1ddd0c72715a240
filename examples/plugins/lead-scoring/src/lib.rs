//! Scores a new contact: `contact.created` wakes it, it reads the contact, adds up what speaks for
//! the lead, and writes the sum into the contact's field `score`.

mod score;

use crm_plugin_sdk::{Event, Plugin, Result, Value, json, log, plugin, records};

use score::{Contact, score};

struct LeadScoring;

impl Plugin for LeadScoring {
    fn handle(event: Event) -> Result {
        let contact: Contact = records::get(&event.module, &event.record_id)?;
        let score = score(&contact);
        for reason in &score.reasons {
            log::info(format!("{:+} {}", reason.points, reason.what));
        }
        let scored = json!({ "score": score.points() });
        // Somebody may have written to the contact since: their version wins over a stale score.
        records::update_version::<Value>(
            &event.module,
            &event.record_id,
            contact.version,
            &scored,
        )?;
        log::info(format!("scored {} of 100", score.points()));
        Ok(())
    }
}

plugin!(LeadScoring);
