//! GetKeyLastUsage.

use keyrum_service::{GetKeyLastUsageOutput, RequestContext, Service, ServiceError};

use super::key_input;
use crate::fields::Fields;
use crate::http::RequestUid;
use crate::json::ObjectWriter;

pub(super) async fn get_key_last_usage(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Result<Vec<u8>, ServiceError> {
    let usage = service.get_key_last_usage(ctx, key_input(input)).await?;
    Ok(show(&usage))
}

fn show(usage: &GetKeyLastUsageOutput) -> Vec<u8> {
    let mut answer = ObjectWriter::new();
    answer.text("KeyId", &usage.key_arn);
    answer.object("KeyLastUsage", |answer| {
        if let Some(last) = usage.last {
            answer
                .text("Operation", last.operation.name())
                .time("Timestamp", last.at)
                .text(
                    "KmsRequestId",
                    &RequestUid::from_bytes(last.request).to_string(),
                );
        }
    });
    answer
        .time("TrackingStartDate", usage.created)
        .time("KeyCreationDate", usage.created);
    answer.finish()
}

#[cfg(test)]
mod tests {
    use keyrum_state::LastUse;
    use keyrum_types::{CryptographicOperation, UnixMillis};

    use super::*;

    /// Catches members of other names or types than the model's, and an unused key whose answer
    /// has no `KeyLastUsage` at all.
    #[test]
    fn an_answer_is_the_models() {
        let mut usage = GetKeyLastUsageOutput {
            key_arn: "ARN".to_owned(),
            last: None,
            created: UnixMillis(1_789_212_697_000),
        };
        let shown = |usage: &_| String::from_utf8(show(usage)).unwrap();
        let dates = r#""TrackingStartDate":1789212697.000,"KeyCreationDate":1789212697.000}"#;
        assert_eq!(
            shown(&usage),
            format!(r#"{{"KeyId":"ARN","KeyLastUsage":{{}},{dates}"#)
        );
        usage.last = Some(LastUse {
            at: UnixMillis(1_789_212_698_500),
            operation: CryptographicOperation::ReEncrypt,
            request: [0xab; 16],
        });
        let last = r#"{"Operation":"ReEncrypt","Timestamp":1789212698.500,"KmsRequestId":"abababab-abab-abab-abab-abababababab"}"#;
        assert_eq!(
            shown(&usage),
            format!(r#"{{"KeyId":"ARN","KeyLastUsage":{last},{dates}"#)
        );
    }
}
