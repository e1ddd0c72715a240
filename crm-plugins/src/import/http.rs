//! Requests to other systems: every byte out and in counts.

use crm_core::hook::{DoorRequest, DoorResponse};

use super::{Answer, answer};
use crate::bindings::http;
use crate::run::Run;

impl http::Host for Run {
    async fn fetch(&mut self, request: http::Request) -> Answer<http::Response> {
        self.count_call()?;
        self.count_request()?;
        let request = DoorRequest {
            method: request.method,
            url: request.url,
            headers: pairs(request.headers),
            body: request.body.into(),
        };
        let sent = request.method.len() + request.url.len() + size(&request.headers);
        self.count_request_bytes(sent + request.body.len())?;
        let response = match self.door.fetch(request).await {
            Ok(response) => response,
            Err(error) => return Ok(Err(answer(error))),
        };
        self.count_request_bytes(size(&response.headers) + response.body.len())?;
        Ok(Ok(guest_response(response)))
    }
}

fn pairs(headers: Vec<http::Header>) -> Vec<(String, String)> {
    let headers = headers.into_iter();
    headers.map(|header| (header.name, header.value)).collect()
}

fn size(headers: &[(String, String)]) -> usize {
    let lengths = headers.iter().map(|(name, value)| name.len() + value.len());
    lengths.sum()
}

fn guest_response(response: DoorResponse) -> http::Response {
    let headers = response.headers.into_iter();
    http::Response {
        status: response.status,
        headers: headers
            .map(|(name, value)| http::Header { name, value })
            .collect(),
        body: response.body.to_vec(),
    }
}
