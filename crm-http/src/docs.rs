//! The reference pages: Swagger UI at `/docs` and ReDoc at `/redoc`, offline.
//!
//! Scripts and styles come out of the binary, from poem-openapi's embedded copies. The pages load
//! nothing from other hosts, and their content security policy sees to it.

use std::sync::OnceLock;

use bytes::Bytes;
use poem::Response;
use poem::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use poem_openapi::OpenApiService;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SWAGGER_PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API reference</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="docs/swagger-ui.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"#;

const SWAGGER_START: &str = "SwaggerUIBundle({
  dom_id: '#ui', url: 'openapi.json', deepLinking: true, validatorUrl: null,
});
";

const REDOC_PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API reference</title>
<link rel="icon" href="data:,">
</head>
<body style="margin: 0">
<div id="reference"></div>
<script src="redoc/redoc.js"></script>
<script src="redoc/start.js"></script>
</body>
</html>
"#;

const REDOC_START: &str = "Redoc.init('openapi.json', {
  disableSearch: false, nativeScrollbars: true,
  theme: { typography: { fontFamily: 'system-ui, sans-serif',
    headings: { fontFamily: 'system-ui, sans-serif' } } },
}, document.getElementById('reference'));
";

/// The page or asset at `path`, when there is one.
pub(crate) fn page(path: &str) -> Option<Response> {
    let html = "text/html; charset=utf-8";
    let script = "text/javascript; charset=utf-8";
    Some(match path {
        "/docs" => answer(html, Bytes::from_static(SWAGGER_PAGE.as_bytes())),
        "/docs/start.js" => answer(script, Bytes::from_static(SWAGGER_START.as_bytes())),
        "/docs/swagger-ui.js" => answer(script, assets().swagger_script.clone()),
        "/docs/swagger-ui.css" => answer("text/css; charset=utf-8", assets().swagger_style.clone()),
        "/redoc" => answer(html, Bytes::from_static(REDOC_PAGE.as_bytes())),
        "/redoc/start.js" => answer(script, Bytes::from_static(REDOC_START.as_bytes())),
        "/redoc/redoc.js" => answer(script, assets().redoc_script.clone()),
        _ => return None,
    })
}

fn answer(media_type: &str, body: Bytes) -> Response {
    Response::builder()
        .content_type(media_type)
        .header(CONTENT_SECURITY_POLICY, POLICY)
        .header(CACHE_CONTROL, "public, max-age=3600")
        .body(body)
}

struct Assets {
    swagger_script: Bytes,
    swagger_style: Bytes,
    redoc_script: Bytes,
}

/// The embedded files, cut out of the pages that poem-openapi wraps them in.
fn assets() -> &'static Assets {
    static ASSETS: OnceLock<Assets> = OnceLock::new();
    ASSETS.get_or_init(|| {
        let service = OpenApiService::new((), "", "");
        let swagger = service.swagger_ui_html();
        let redoc = service.redoc_html();
        Assets {
            swagger_script: cut(&swagger, "<script charset=\"UTF-8\">", "</script>\n</head>"),
            swagger_style: cut(
                &swagger,
                "<style charset=\"UTF-8\">",
                "</style>\n    <script",
            ),
            redoc_script: cut(&redoc, "<script charset=\"UTF-8\">", "</script>\n  </head>"),
        }
    })
}

/// The text between `start` and `end`; empty when the page looks different, which a test excludes.
fn cut(page: &str, start: &str, end: &str) -> Bytes {
    let inside = page
        .split_once(start)
        .and_then(|(_, rest)| rest.split_once(end));
    Bytes::from(inside.map_or("", |(text, _)| text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_files_are_found_whole() {
        let assets = assets();
        assert!(assets.swagger_script.len() > 1_000_000);
        assert!(assets.swagger_style.len() > 100_000);
        assert!(assets.redoc_script.len() > 1_000_000);
        for script in [&assets.swagger_script, &assets.redoc_script] {
            let text = std::str::from_utf8(script).unwrap();
            assert!(!text.contains("\n</head>"), "the cut ended too late");
        }
    }

    #[tokio::test]
    async fn xc_08_pages_load_nothing_from_another_host() {
        for path in ["/docs", "/redoc", "/docs/start.js", "/redoc/start.js"] {
            let response = page(path).unwrap();
            let policy = response.header(CONTENT_SECURITY_POLICY).unwrap().to_owned();
            assert!(
                policy.starts_with("default-src 'none'") && !policy.contains("http"),
                "{policy}"
            );
            let text = response.into_body().into_string().await.unwrap();
            assert!(!text.contains("//"), "{path} names another host: {text}");
        }
        let style = std::str::from_utf8(&assets().swagger_style).unwrap();
        assert!(!style.contains("url(http") && !style.contains("@import"));
    }

    #[test]
    fn other_paths_are_no_pages() {
        assert!(page("/docs/").is_none() && page("/docs/x.js").is_none() && page("/").is_none());
    }
}
