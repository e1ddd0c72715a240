//! Cursors of lists that are in the order of their ids. Clients give them back as they are.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crm_core::Error;
use uuid::Uuid;

/// The place behind this id.
pub(crate) fn write(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// The id that a page begins behind.
///
/// # Errors
/// [`Error::Invalid`] on `cursor`.
pub(crate) fn read(cursor: Option<String>) -> Result<Option<Uuid>, Error> {
    let Some(text) = cursor else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    match Uuid::from_slice(&bytes) {
        Ok(id) => Ok(Some(id)),
        Err(_) => {
            let message = "this is no cursor of this list; begin again without one";
            Err(Error::invalid("cursor", "invalid_cursor", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_no_other_text_is_one() {
        let id = Uuid::from_u128(0x0195_c6b1_7c1e_7d31_9a55_2f6f_1f0f_5f10);
        assert_eq!(read(Some(write(id))).unwrap(), Some(id));
        assert_eq!(read(None).unwrap(), None);
        for text in ["", "x", &id.to_string(), "AAAA", "ä"] {
            let refused = read(Some(text.to_owned())).unwrap_err();
            assert_eq!(refused.code(), "validation_failed", "{text}");
        }
    }
}
