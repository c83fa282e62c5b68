//! CreateGrant, ListGrants, ListRetirableGrants, RetireGrant and RevokeGrant.

use keyrum_service::{
    CreateGrantInput, GrantEntry, ListGrantsInput, ListRetirableGrantsInput, Page, RequestContext,
    RetireGrantInput, RevokeGrantInput, Service, ServiceError,
};
use keyrum_state::{GrantConstraints, GrantPrincipal};
use keyrum_types::{GrantOperation, UnixMillis};

use super::{NOTHING, end_of_page, page_request};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn create_grant(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let operations = input.texts("Operations").unwrap_or_default();
    let operation = |name: &String| {
        GrantOperation::from_name(name).expect(
            "the validator has seen one of the model's values, and a test that we have each",
        )
    };
    let request = CreateGrantInput {
        key_id: input.required_text("KeyId"),
        grantee: input.text("GranteePrincipal"),
        grantee_service: input.text("GranteeServicePrincipal"),
        retiring: input.text("RetiringPrincipal"),
        retiring_service: input.text("RetiringServicePrincipal"),
        operations: operations.iter().map(operation).collect(),
        constraints: constraints(input),
        name: input.text("Name"),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    };
    let created = service.create_grant(ctx, request).await?;
    let mut answer = ObjectWriter::new();
    answer
        .text("GrantToken", &created.token)
        .text("GrantId", &created.id.to_string());
    Ok(answer.finish())
}

fn constraints(input: &mut Fields<'_>) -> GrantConstraints {
    let given = input.structure("Constraints");
    given.map_or_else(GrantConstraints::default, |mut given| GrantConstraints {
        context_equals: given.map("EncryptionContextEquals"),
        context_subset: given.map("EncryptionContextSubset"),
        source_arn: given.text("SourceArn"),
    })
}

pub(super) async fn list_grants(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ListGrantsInput {
        key_id: input.required_text("KeyId"),
        grant_id: input.text("GrantId"),
        grantee: input.text("GranteePrincipal"),
        grantee_service: input.text("GranteeServicePrincipal"),
        page: page_request(input),
    };
    Ok(show(&service.list_grants(ctx, request).await?))
}

pub(super) async fn list_retirable_grants(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ListRetirableGrantsInput {
        retiring: input.text("RetiringPrincipal"),
        retiring_service: input.text("RetiringServicePrincipal"),
        page: page_request(input),
    };
    Ok(show(&service.list_retirable_grants(ctx, request).await?))
}

pub(super) async fn retire_grant(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = RetireGrantInput {
        token: input.text("GrantToken"),
        key_arn: input.text("KeyId"),
        grant_id: input.text("GrantId"),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    };
    service.retire_grant(ctx, request).await?;
    Ok(NOTHING)
}

pub(super) async fn revoke_grant(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = RevokeGrantInput {
        key_id: input.required_text("KeyId"),
        grant_id: input.required_text("GrantId"),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    };
    service.revoke_grant(ctx, request).await?;
    Ok(NOTHING)
}

fn show(page: &Page<GrantEntry>) -> Vec<u8> {
    let mut answer = ObjectWriter::with_capacity(256 + 512 * page.items.len());
    answer.objects("Grants", &page.items, show_grant);
    end_of_page(&mut answer, page);
    answer.finish()
}

fn show_grant(answer: &mut ObjectWriter, entry: &GrantEntry) {
    let grant = &entry.grant;
    let terms = &grant.terms;
    let aws = |principal: Option<&GrantPrincipal>| match principal {
        Some(GrantPrincipal::Aws(arn)) => Some(arn.clone()),
        Some(GrantPrincipal::Service(_)) | None => None,
    };
    let service = |principal: Option<&GrantPrincipal>| match principal {
        Some(GrantPrincipal::Service(name)) => Some(name.clone()),
        Some(GrantPrincipal::Aws(_)) | None => None,
    };
    let (grantee, retiring) = (Some(&terms.grantee), terms.retiring.as_ref());
    answer
        .text("KeyId", &entry.key_arn)
        .text("GrantId", &grant.id.to_string())
        .text("Name", terms.name.as_deref().unwrap_or_default())
        // Whole seconds, as the real service shows them.
        .time("CreationDate", UnixMillis(grant.created.0 / 1000 * 1000))
        .text_if("GranteePrincipal", aws(grantee).as_deref())
        .text_if("RetiringPrincipal", aws(retiring).as_deref())
        .text("IssuingAccount", &entry.issuer_arn)
        .texts("Operations", terms.operations.iter().map(|o| o.name()));
    let GrantConstraints {
        context_equals,
        context_subset,
        source_arn,
    } = &terms.constraints;
    if terms.constraints != GrantConstraints::default() {
        answer.object("Constraints", |answer| {
            if let Some(context) = context_subset {
                answer.map("EncryptionContextSubset", context);
            }
            if let Some(context) = context_equals {
                answer.map("EncryptionContextEquals", context);
            }
            answer.text_if("SourceArn", source_arn.as_deref());
        });
    }
    answer
        .text_if("GranteeServicePrincipal", service(grantee).as_deref())
        .text_if("RetiringServicePrincipal", service(retiring).as_deref());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyrum_state::{Grant, GrantTerms, KeyRef};
    use keyrum_types::{GrantId, KeyId};

    use super::*;

    /// Catches an entry with other members, or in another order, than the real service's.
    #[test]
    fn entries_are_the_real_ones() {
        let account = "111122223333".parse().unwrap();
        let aws = |name: &str| GrantPrincipal::Aws(format!("arn:aws:iam::111122223333:{name}"));
        let mut grant = Grant {
            key: KeyRef {
                account,
                id: KeyId::single_region([1; 16]),
            },
            id: GrantId([0xa1; 32]),
            issuer: account,
            created: UnixMillis(1_789_212_697_616),
            terms: GrantTerms {
                name: None,
                grantee: aws("role/r"),
                retiring: None,
                operations: vec![GrantOperation::Encrypt, GrantOperation::Decrypt],
                constraints: GrantConstraints::default(),
            },
        };
        let shown = |grant: &Grant| {
            let mut answer = ObjectWriter::new();
            let entry = GrantEntry {
                key_arn: "KEY".to_owned(),
                issuer_arn: "ISSUER".to_owned(),
                grant: Arc::new(grant.clone()),
            };
            answer.objects("Grants", &[entry], show_grant);
            String::from_utf8(answer.finish()).unwrap()
        };
        let id = "a1".repeat(32);
        let plain = format!(
            r#"{{"Grants":[{{"KeyId":"KEY","GrantId":"{id}","Name":"","CreationDate":1789212697.000,"GranteePrincipal":"arn:aws:iam::111122223333:role/r","IssuingAccount":"ISSUER","Operations":["Encrypt","Decrypt"]}}]}}"#
        );
        assert_eq!(shown(&grant), plain);
        grant.terms.name = Some("n".to_owned());
        grant.terms.grantee = GrantPrincipal::Service("sqs.us-east-1.amazonaws.com".to_owned());
        grant.terms.retiring = Some(aws("root"));
        grant.terms.constraints = GrantConstraints {
            context_equals: Some([("a\"".to_owned(), "1".to_owned())].into()),
            context_subset: Some(
                [("b".to_owned(), "2".to_owned()), ("c".into(), "3".into())].into(),
            ),
            source_arn: Some("SOURCE".to_owned()),
        };
        let full = format!(
            r#"{{"Grants":[{{"KeyId":"KEY","GrantId":"{id}","Name":"n","CreationDate":1789212697.000,"RetiringPrincipal":"arn:aws:iam::111122223333:root","IssuingAccount":"ISSUER","Operations":["Encrypt","Decrypt"],"Constraints":{{"EncryptionContextSubset":{{"b":"2","c":"3"}},"EncryptionContextEquals":{{"a\"":"1"}},"SourceArn":"SOURCE"}},"GranteeServicePrincipal":"sqs.us-east-1.amazonaws.com"}}]}}"#
        );
        assert_eq!(shown(&grant), full);
    }
}
