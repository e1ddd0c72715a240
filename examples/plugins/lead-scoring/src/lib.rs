//! Scores a new contact: `contact.created` wakes it, it reads the contact, adds up what speaks for
//! the lead, and writes the sum into the contact's field `score`.

mod contact;
mod score;

use crm_plugin_sdk::{Event, Record, Result, log, plugin};

use contact::Contact;
use score::score;

fn score_contact(event: Event) -> Result {
    let mut contact = Contact::get(&event.record_id)?;
    let score = score(&contact);
    for reason in &score.reasons {
        log::info(format!("{:+} {}", reason.points, reason.what));
    }
    contact.score = Some(score.points().into());
    // Somebody may have written to the contact since: their version wins over a stale score.
    contact.save()?;
    log::info(format!("scored {} of 100", score.points()));
    Ok(())
}

plugin!(handle = score_contact);
