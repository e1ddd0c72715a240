//! The HTTP front end of the library.
mod cors;
mod docs;
mod json;
mod problem;
mod request_id;
mod security_headers;
pub mod server;
