//! Refusals over HTTP: problem documents (RFC 9457) with the code that frames have.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::{Code, Error};
use crate::store::Fault;

/// An error as the answer to a request.
#[derive(Debug)]
pub struct Problem {
    pub error: Error,
    pub status: StatusCode,
}

/// The body of a refusal.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemBody {
    /// Always `about:blank`: the code says what kind of problem it is.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    /// A sentence a developer can act on.
    detail: String,
    code: Code,
    field: Option<&'static str>,
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, code: Code, message: &'static str) -> Self {
        Self { status, error: Error::new(code, message) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.code {
            Code::InvalidJson | Code::InvalidField | Code::UnknownType => StatusCode::BAD_REQUEST,
            Code::MissingToken | Code::InvalidToken | Code::TokenExpired | Code::SessionRevoked => {
                StatusCode::UNAUTHORIZED
            }
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { error, status }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Error::from(fault).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { error, status } = self;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(ms) = error.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
        }
        let body = ProblemBody {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: error.message.into_owned(),
            code: error.code,
            field: error.field,
            retry_after_ms: error.retry_after_ms,
        };
        (status, headers, Json(body)).into_response()
    }
}

/// A path that names nothing.
pub async fn unknown_path(_: Uri) -> Problem {
    Error::not_found("there is nothing at this path; /api/v1/openapi.json lists what there is").into()
}

/// A path that takes other methods.
pub async fn wrong_method(method: Method) -> Problem {
    let message = format!("this path does not take {method}");
    Problem { status: StatusCode::METHOD_NOT_ALLOWED, error: Error::new(Code::Unsupported, message) }
}
