//! Answers with the headers that every answer has.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::error::ApiError;

const AMZ_JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const CACHE: HeaderValue = HeaderValue::from_static("no-cache, no-store, must-revalidate, private");
const EXPIRES: HeaderValue = HeaderValue::from_static("0");
const PRAGMA: HeaderValue = HeaderValue::from_static("no-cache");

/// Says that a request that failed may have taken effect nevertheless.
const OUTCOME: HeaderName = HeaderName::from_static("x-keyrum-outcome");

/// A success of the KMS API.
pub(crate) fn json_answer(body: Vec<u8>) -> Response<Full<Bytes>> {
    plain_answer(200, AMZ_JSON, body)
}

/// An error of the KMS API.
pub(crate) fn error_answer(error: &ApiError) -> Response<Full<Bytes>> {
    let mut response = plain_answer(error.status, AMZ_JSON, error.body());
    if error.outcome_unknown {
        response
            .headers_mut()
            .insert(OUTCOME, HeaderValue::from_static("unknown"));
    }
    response
}

/// Any answer. A status outside 100 to 999 becomes 500.
pub(crate) fn plain_answer(status: u16, kind: HeaderValue, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, CACHE);
    headers.insert(header::EXPIRES, EXPIRES);
    headers.insert(header::PRAGMA, PRAGMA);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}
