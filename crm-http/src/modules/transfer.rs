//! Import and export of a module's records. A file is passed on as it arrives, in either direction:
//! none is ever held whole.

use std::time::Duration;

use crm_core::id::JobId;
use crm_core::record::{Answered, Query};
use crm_core::transfer::{Export, Format, ImportOptions};
use crm_core::{Create, Error, FieldError, Read};
use futures::StreamExt as _;
use poem::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use poem::http::uri::{PathAndQuery, Uri};
use poem::http::{HeaderValue, Method, StatusCode};
use poem::{Body, Request, Response};

use super::write::told;
use super::{Handler, body, query};
use crate::edge::HttpOptions;
use crate::json::{interrupted, require, too_large};
use crate::problem::Problem;
use crate::resource::{job_reply, unreadable_query};

/// What an import is sent as; the format is a parameter, so that any of these will do.
pub(crate) const MEDIA_TYPES: [&str; 6] = [
    "application/json",
    "application/octet-stream",
    "application/x-ndjson",
    "text/csv",
    "text/plain",
    "text/vcard",
];

/// How long an import's file may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60 * 60);

/// How long a request may take: that of a file is as long as the file, and no piece of it may keep
/// the server waiting beyond the usual deadline.
pub(crate) fn deadline(options: &HttpOptions, request: &Request) -> Duration {
    let file = request.method() == Method::POST && request.uri().path().ends_with("/import");
    if file {
        options.deadline.max(ARRIVAL)
    } else {
        options.deadline
    }
}

impl Handler<'_> {
    pub(super) async fn import(&self, mut request: Request) -> Result<Response, Problem> {
        self.scope.permit::<Create>(self.name())?;
        let options = import_options(&request)?;
        require(
            request.headers(),
            |essence| MEDIA_TYPES.contains(&essence.to_ascii_lowercase().as_str()),
            "text/csv, application/x-ndjson, application/json, text/vcard or \
             application/octet-stream",
        )?;
        let mut once = self.once(&request, &[])?;
        let app = &self.exchange.app;
        let limit = app.options.import_limit;
        let announced = request.header("content-length").map(str::parse::<u64>);
        if announced.is_some_and(|length| length.is_ok_and(|length| length > limit)) {
            return Err(too_large(limit));
        }
        let transfer = app.crm.transfer();
        let mut upload = transfer.import(&self.scope, self.name(), options).await?;
        let mut pieces = request.take_body().into_bytes_stream();
        let outcome = loop {
            let piece = match tokio::time::timeout(app.options.deadline, pieces.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(None) => break Ok(()),
                Ok(Some(Err(_))) | Err(_) => break Err(interrupted()),
            };
            if upload.received() + piece.len() as u64 > limit {
                break Err(too_large(limit));
            }
            if let Some(once) = &mut once {
                once.push(&piece);
            }
            if let Err(error) = upload.push(&piece).await {
                break Err(error.into());
            }
        };
        if let Err(problem) = outcome {
            upload.abandon().await?;
            return Err(problem);
        }
        let answered = match once {
            Some(once) => upload.finish_once(once).await?,
            None => Answered::Now(upload.finish().await?),
        };
        told(answered, |id| self.accepted(id)).await
    }

    /// The answer to a file that came: its job, as it is now.
    async fn accepted(&self, id: JobId) -> Result<Response, Problem> {
        let app = &self.exchange.app;
        let job = app.crm.jobs().get(&self.scope, id).await?;
        let location = format!("{}/api/v1/jobs/{id}", app.options.public_url);
        let mut response = body(StatusCode::ACCEPTED, &job_reply(job))?;
        if let Ok(location) = HeaderValue::from_str(&location) {
            response
                .headers_mut()
                .insert(poem::http::header::LOCATION, location);
        }
        Ok(response)
    }

    pub(super) async fn export(&self, request: &Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        let (format, query) = self.export_query(request)?;
        let transfer = self.exchange.app.crm.transfer();
        let mut export = transfer.export(permit, query, format)?;
        // Whatever is wrong with the query shows in the first page, while there still is a status.
        let first = export.next().await?;
        let rest = futures::stream::unfold(export, next_piece);
        let file = futures::stream::iter(first.map(Ok)).chain(rest);
        let (media_type, extension) = match format {
            Format::Csv => ("text/csv; charset=utf-8", "csv"),
            Format::Ndjson => ("application/x-ndjson", "ndjson"),
            Format::Json | Format::Vcard => ("application/json", "json"),
        };
        let name = format!("attachment; filename=\"{}.{extension}\"", self.name());
        Ok(Response::builder()
            .header(CONTENT_TYPE, media_type)
            .header(CONTENT_DISPOSITION, name)
            .body(Body::from_bytes_stream(file)))
    }

    /// The format, and the rest of the query string as that of a list.
    fn export_query(&self, request: &Request) -> Result<(Format, Query), Problem> {
        let parameters: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
        let mut format = Format::Csv;
        let mut refused = Vec::new();
        for (name, text) in &parameters {
            match name.as_str() {
                "format" => match Format::of_export(text) {
                    Ok(parsed) => format = parsed,
                    Err(error) => refused.push(error),
                },
                name if query::OF_PAGES.contains(&name) => refused.push(unknown_parameter(name)),
                _ => {}
            }
        }
        if !refused.is_empty() {
            return Err(Error::Invalid(refused).into());
        }
        let raw = request.uri().query().unwrap_or_default().split('&');
        let kept: Vec<&str> = raw.filter(|pair| !pair.starts_with("format=")).collect();
        let uri = format!("/?{}", kept.join("&"));
        let uri = PathAndQuery::try_from(uri).map_err(|_| unreadable_query())?;
        let list = Request::builder().uri(Uri::from(uri)).finish();
        let (query, _) = query::parse(&self.scope, &self.module, &list)?;
        Ok((format, query))
    }
}

async fn next_piece(mut export: Export) -> Option<(Result<String, std::io::Error>, Export)> {
    match export.next().await {
        Ok(piece) => piece.map(|piece| (Ok(piece), export)),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an export ended early"
            );
            // The connection breaks off, so that nobody takes half a file for the whole.
            Some((Err(std::io::Error::other("the export failed")), export))
        }
    }
}

fn unknown_parameter(name: &str) -> FieldError {
    FieldError::new(
        name,
        "unknown_parameter",
        "This operation has no such parameter.",
    )
}

fn import_options(request: &Request) -> Result<ImportOptions, Problem> {
    let parameters: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
    let mut options = ImportOptions::new(Format::Csv);
    let (mut refused, mut seen) = (Vec::new(), Vec::new());
    for (name, text) in &parameters {
        if seen.contains(&name) {
            refused.push(FieldError::new(
                name,
                "repeated",
                "Give this parameter once.",
            ));
            continue;
        }
        seen.push(name);
        refused.extend(apply(&mut options, name, text).err());
    }
    if !seen.iter().any(|name| *name == "format") {
        let message = "must be one of: csv ndjson json vcard";
        refused.push(FieldError::new("format", "required", message));
    }
    match refused.is_empty() {
        true => Ok(options),
        false => Err(Error::Invalid(refused).into()),
    }
}

fn apply(options: &mut ImportOptions, name: &str, text: &str) -> Result<(), FieldError> {
    match name {
        "format" => options.format = text.parse()?,
        "mode" => options.mode = text.parse()?,
        "key" => options.key = Some(text.to_owned()),
        "on_error" => options.on_error = text.parse()?,
        "mapping" => options.mapping = Some(text.parse()?),
        "dry_run" => {
            let invalid = |_| FieldError::new(name, "invalid", "This must be true or false.");
            options.dry_run = text.parse().map_err(invalid)?;
        }
        _ => return Err(unknown_parameter(name)),
    }
    Ok(())
}
