//! What the transport refuses by itself, told in the common form: a message over the limit keeps the code
//! that gRPC has for it, and gets a reason and advice.

use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::{Code, Status};

use super::status::refusal;

/// Gives a transport's refusal its reason.
pub(super) fn explain(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange && status.details().is_empty() => {
            over_limit(&status).into_http()
        }
        _ => response,
    }
}

/// The refusal of a message over `server.max_message`; the transport's own text has the two sizes.
pub(super) fn over_limit(status: &Status) -> Status {
    let sizes = status.message().trim_start_matches("Error, ");
    let advice = "send a large module by `LoadAgentStream`, or raise `server.max_message`";
    refusal(Code::OutOfRange, &format!("{sizes}; {advice}"))
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn a_message_over_the_limit_gets_a_reason_and_keeps_its_sizes() {
        let plain = Status::out_of_range("Error, decoded message length too large: found 9 bytes");
        let explained = explain(plain.into_http());
        let status = Status::from_header_map(explained.headers()).unwrap();
        assert_eq!(status.code(), Code::OutOfRange);
        assert!(status.message().contains("found 9 bytes; send a large module"), "{status:?}");
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST");
    }

    #[test]
    fn every_other_answer_is_left_as_it_is() {
        let other = explain(Status::unimplemented("no such method").into_http());
        let status = Status::from_header_map(other.headers()).unwrap();
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, "no such method"));
        assert!(Status::from_header_map(explain(Response::new(Body::empty())).headers()).is_none());
    }
}
