//! Attachments: uploads, what is known of one, and downloads by signed links.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use schemars::JsonSchema;

use super::body::{Id, UrlPath};
use super::caller::UserCaller;
use super::idempotency::{Idempotency, answer};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::app::App;
use crate::chat::attachments::Download;
use crate::error::{Code, Error, Result};
use crate::files::{RangeAnswer, content_disposition, content_type_header, is_inline_safe, parse_range};
use crate::protocol::Attachment;

/// Most bytes of what a form holds besides the file.
const OTHER_BYTES_MAX: usize = 64 * 1024;
/// How long the rest of a refused upload is read, so that a client that still sends hears why.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The form of an upload.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct UploadForm {
    /// The file, with its name.
    #[schemars(extend("format" = "binary"))]
    file: String,
}

pub fn routes() -> Vec<Route> {
    let one = "/api/v1/attachments/{id}";
    let file = "/api/v1/attachments/{id}/{filename}";
    vec![
        Route::new(Method::POST, "/api/v1/attachments", Access::User, "Uploads a file for a message to come.", insert)
            .takes_form::<UploadForm>()
            .answers::<Attachment>(201),
        Route::new(Method::GET, one, Access::User, "An attachment, with fresh links.", find).answers::<Attachment>(200),
        Route::new(Method::GET, file, Access::Nobody, "Downloads a file by the link of its attachment.", download)
            .query(&[
                ("variant", "`original` or `thumbnail`, as in the link."),
                ("expires", "As in the link."),
                ("signature", "As in the link."),
            ])
            .answers_file(200)
            .answers_file(206)
            .answers_empty(304),
    ]
}

async fn insert(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    idempotency: Idempotency,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Problem> {
    let mut form = form.map_err(|_| Error::new(Code::Unsupported, "send the file as `multipart/form-data`"))?;
    let mut others = OTHER_BYTES_MAX;
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        if field.name() == Some("file") {
            let filename = field.file_name().map(str::to_owned);
            let received = app.attachments.receive(filename.as_deref(), (&mut field).map(chunk)).await;
            if received.is_err() {
                drain(field).await;
            }
            let upload = received?;
            let key = idempotency.key(caller.id(), &format!("{}\n{}", upload.filename(), upload.digest()));
            let once = app.attachments.keep(caller.id(), upload, key).await?;
            return Ok(answer(once, StatusCode::CREATED, |attachment| attachment));
        }
        while let Some(bytes) = field.chunk().await.map_err(broken)? {
            others = others
                .checked_sub(bytes.len())
                .ok_or_else(|| Error::new(Code::TooLarge, "the form holds too much besides the field `file`"))?;
        }
    }
    Err(Error::field("file", "send the file as the field `file` of the form").into())
}

fn chunk(bytes: Result<bytes::Bytes, MultipartError>) -> Result<bytes::Bytes> {
    bytes.map_err(broken)
}

fn broken(_: MultipartError) -> Error {
    Error::field("file", "the form is malformed or broke off")
}

async fn drain(mut field: Field<'_>) {
    let rest = async { while let Some(Ok(_)) = field.next().await {} };
    let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
}

async fn find(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<Json<Attachment>, Problem> {
    Ok(Json(app.attachments.find(id, caller.id()).await?))
}

async fn download(
    State(app): State<Arc<App>>,
    UrlPath((Id(id), _)): UrlPath<(Id, String)>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let download = app.attachments.open(id, &query.unwrap_or_default()).await?;
    let max_age = (download.expires_at_ms - app.clock.now_ms()).max(0) / 1000;
    let about = [(header::ETAG, download.etag.clone()), (header::CACHE_CONTROL, format!("private, max-age={max_age}"))];
    if is_known(&headers, &download.etag) {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    let (status, range) = match range_of(&method, &headers, &download) {
        RangeAnswer::Whole => (StatusCode::OK, 0..download.size),
        RangeAnswer::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        RangeAnswer::Unsatisfiable => return Ok(beyond_the_end(download.size)),
    };
    let (length, content_range) =
        (range.end - range.start, format!("bytes {}-{}/{}", range.start, range.end.max(1) - 1, download.size));
    // Whoever asks for the head alone needs no file opened.
    let body = if method == Method::HEAD { Body::empty() } else { Body::from_stream(download.read(range).await?) };
    let mut response = (status, about, safety(&download), body).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::try_from(content_range)
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// What keeps a browser from taking a stranger's file for a page of this server.
fn safety(download: &Download) -> [(HeaderName, String); 5] {
    let inline = is_inline_safe(&download.content_type);
    [
        (header::CONTENT_TYPE, content_type_header(&download.content_type).to_owned()),
        (header::CONTENT_DISPOSITION, content_disposition(inline, &download.filename)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ]
}

/// Whether the client has the file already.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The part that is asked for. With `If-Range` it counts only where the client has a part of this very file.
fn range_of(method: &Method, headers: &HeaderMap, download: &Download) -> RangeAnswer {
    let is_same = headers.get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == download.etag.as_bytes());
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    match range.filter(|_| is_same && *method == Method::GET) {
        Some(range) => parse_range(range, download.size),
        None => RangeAnswer::Whole,
    }
}

fn beyond_the_end(size: u64) -> Response {
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::InvalidField, "the range lies beyond the end");
    ([(header::CONTENT_RANGE, format!("bytes */{size}"))], problem).into_response()
}
