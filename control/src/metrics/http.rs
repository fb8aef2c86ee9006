//! The little of HTTP/1.1 (RFC 9112) that a scraper needs: one request, one response, and the connection ends.

use super::exposition::CONTENT_TYPE;

/// Longest request head, in bytes.
pub const LONGEST: usize = 8 << 10;
/// Most header fields of a request.
const FIELDS: usize = 64;
/// Where the metrics are.
const PATH: &str = "/metrics";

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The metrics; `head`: only what stands before them.
    Metrics {
        /// Whether the request was HEAD.
        head: bool,
    },
    /// That there is nothing.
    Refusal(Refusal),
}

/// Why there are no metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This is not HTTP, or too long.
    BadRequest,
    /// Something else was asked for.
    NotFound,
    /// Something else was to be done with them.
    NotAllowed,
    /// The control thread does not answer.
    Unavailable,
}

/// What is due for what was received so far; `None`: the rest of it.
pub fn answer(received: &[u8]) -> Option<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let bad = Some(Answer::Refusal(Refusal::BadRequest));
    match request.parse(received) {
        Ok(httparse::Status::Complete(length)) if length <= LONGEST => {}
        Ok(httparse::Status::Partial) if received.len() < LONGEST => return None,
        _ => return bad,
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return bad;
    };
    let hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count();
    if hosts > 1 || (hosts == 0 && minor > 0) {
        return bad;
    }
    if path(target) != PATH {
        return Some(Answer::Refusal(Refusal::NotFound));
    }
    Some(match method {
        "GET" => Answer::Metrics { head: false },
        "HEAD" => Answer::Metrics { head: true },
        _ => Answer::Refusal(Refusal::NotAllowed),
    })
}

/// The path of a target in origin or absolute form (RFC 9112, section 3.2).
fn path(target: &str) -> &str {
    let origin = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    origin.split('?').next().unwrap_or_default()
}

/// A whole response with the metrics.
pub fn metrics(text: &str) -> Vec<u8> {
    let mut response = metrics_head(text.len());
    response.extend_from_slice(text.as_bytes());
    response
}

/// What stands before metrics of so many bytes.
pub fn metrics_head(length: usize) -> Vec<u8> {
    head("200 OK", CONTENT_TYPE, "", length)
}

/// A whole response without.
pub fn refusal(refusal: Refusal) -> Vec<u8> {
    let (status, more, text) = match refusal {
        Refusal::BadRequest => ("400 Bad Request", "", "this is no request that is understood here\n"),
        Refusal::NotFound => ("404 Not Found", "", "there is only /metrics here\n"),
        Refusal::NotAllowed => {
            ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "only GET and HEAD are possible\n")
        }
        Refusal::Unavailable => {
            ("503 Service Unavailable", "", "the control thread does not answer, or turnpike is stopping\n")
        }
    };
    let mut response = head(status, "text/plain; charset=utf-8", more, text.len());
    response.extend_from_slice(text.as_bytes());
    response
}

fn head(status: &str, kind: &str, more: &str, length: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(request: &str) -> Option<Answer> {
        answer(request.as_bytes())
    }

    #[test]
    fn what_is_asked_for_is_answered() {
        let get = Some(Answer::Metrics { head: false });
        assert_eq!(of("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), get);
        assert_eq!(of("GET /metrics?name=x HTTP/1.1\r\nhost: a\r\nAccept: */*\r\n\r\n"), get);
        assert_eq!(of("GET http://a:9477/metrics HTTP/1.1\r\nHost: a\r\n\r\n"), get);
        assert_eq!(of("GET /metrics HTTP/1.0\r\n\r\n"), get);
        assert_eq!(of("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\n"), get);
        assert_eq!(of("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Answer::Metrics { head: true }));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let refused = |refusal| Some(Answer::Refusal(refusal));
        for request in [
            "GET /metrics HTTP/1.1\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /metrics\r\n\r\n",
            "GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n",
            "\u{0}\u{1}\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        ] {
            assert_eq!(of(request), refused(Refusal::BadRequest), "{request:?}");
        }
        for target in ["/", "/metrics/", "/metric", "http://a", "*", "//metrics", "/../metrics"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(of(&request), refused(Refusal::NotFound), "{request:?}");
        }
        assert_eq!(of("POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), refused(Refusal::NotAllowed));
        assert_eq!(of("POST /else HTTP/1.1\r\nHost: a\r\n\r\n"), refused(Refusal::NotFound));
    }

    #[test]
    fn no_more_is_awaited_than_a_request_may_have() {
        assert_eq!(of("GET /metrics HTTP/1.1\r\nHost: a\r\n"), None);
        let long = |length: usize| format!("GET /metrics HTTP/1.1\r\nHost: {}", "a".repeat(length));
        assert_eq!(of(&long(LONGEST - 100)), None);
        assert_eq!(of(&long(LONGEST)), Some(Answer::Refusal(Refusal::BadRequest)));
        let whole = long(LONGEST) + "\r\n\r\n";
        assert_eq!(of(&whole), Some(Answer::Refusal(Refusal::BadRequest)));
        let many = "a: b\r\n".repeat(FIELDS + 1);
        let many = format!("GET /metrics HTTP/1.1\r\n{many}\r\n");
        assert_eq!(of(&many), Some(Answer::Refusal(Refusal::BadRequest)));
    }

    #[test]
    fn a_response_to_head_has_the_length_and_no_text() {
        let get = String::from_utf8(metrics("a 1\n")).unwrap();
        let (before, text) = get.split_at(get.find("\r\n\r\n").unwrap() + 4);
        assert_eq!(text, "a 1\n");
        assert!(before.starts_with("HTTP/1.1 200 OK\r\n") && before.contains("\r\nContent-Length: 4\r\n"));
        assert_eq!(String::from_utf8(metrics_head(4)).unwrap(), before);
        let refused = String::from_utf8(refusal(Refusal::NotAllowed)).unwrap();
        assert!(refused.contains("\r\nAllow: GET, HEAD\r\n"));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered_in_the_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            start in prop_oneof![Just(""), Just("GET /metrics HTTP/1.1\r\nHost: "), Just("HEAD http://")],
        ) {
            let mut received = start.as_bytes().to_vec();
            received.extend(&bytes);
            let early = answer(&received);
            received.resize(LONGEST, b'\n');
            let late = answer(&received);
            prop_assert!(late.is_some());
            // More bytes change no answer.
            prop_assert!(early.is_none() || early == late);
        }
    }
}
