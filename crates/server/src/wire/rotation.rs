//! EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus, RotateKeyOnDemand and
//! ListKeyRotations.

use keyrum_service::{
    EnableKeyRotationInput, Expiration, GetKeyRotationStatusOutput, IncludeKeyMaterial,
    KeyMaterialState, ListKeyRotationsInput, RequestContext, RotationEntry, Service, ServiceError,
};
use keyrum_types::RotationDays;

use super::{NOTHING, end_of_page, key_input, page_request};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn enable_key_rotation(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = EnableKeyRotationInput {
        key_id: input.required_text("KeyId"),
        period: input
            .integer("RotationPeriodInDays")
            .and_then(|days| RotationDays::new(days).ok()),
    };
    service.enable_key_rotation(ctx, request).await?;
    Ok(NOTHING)
}

pub(super) async fn disable_key_rotation(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    service.disable_key_rotation(ctx, key_input(input)).await?;
    Ok(NOTHING)
}

pub(super) async fn rotate_key_on_demand(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let rotated = service.rotate_key_on_demand(ctx, key_input(input)).await?;
    let mut answer = ObjectWriter::new();
    answer.text("KeyId", &rotated.key_arn);
    Ok(answer.finish())
}

pub(super) async fn get_key_rotation_status(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let status = service
        .get_key_rotation_status(ctx, key_input(input))
        .await?;
    Ok(show_status(&status))
}

fn show_status(status: &GetKeyRotationStatusOutput) -> Vec<u8> {
    let mut answer = ObjectWriter::new();
    answer
        .boolean("KeyRotationEnabled", status.automatic.is_some())
        .text("KeyId", &status.key_arn);
    if let Some(automatic) = &status.automatic {
        answer
            .number("RotationPeriodInDays", automatic.period.days().into())
            .time("NextRotationDate", automatic.next);
    }
    answer.time_if("OnDemandRotationStartDate", status.on_demand_started);
    answer.finish()
}

pub(super) async fn list_key_rotations(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let include = |name: String| match name.as_str() {
        "ROTATIONS_ONLY" => Some(IncludeKeyMaterial::RotationsOnly),
        "ALL_KEY_MATERIAL" => Some(IncludeKeyMaterial::All),
        _ => None,
    };
    let request = ListKeyRotationsInput {
        key_id: input.required_text("KeyId"),
        include: input.text("IncludeKeyMaterial").and_then(include),
        page: page_request(input),
    };
    let page = service.list_key_rotations(ctx, request).await?;
    let mut answer = ObjectWriter::with_capacity(256 + 320 * page.items.len());
    answer.objects("Rotations", &page.items, show_rotation);
    end_of_page(&mut answer, &page);
    Ok(answer.finish())
}

fn show_rotation(answer: &mut ObjectWriter, entry: &RotationEntry) {
    answer
        .text("KeyId", &entry.key_arn)
        .text("KeyMaterialId", &entry.material.to_string());
    let import = entry.import.as_ref();
    let expiration = import.and_then(|import| import.expiration);
    if let Some(import) = import {
        answer
            .text_if("KeyMaterialDescription", import.description.as_deref())
            .text(
                "ImportState",
                match expiration {
                    Some(_) => "IMPORTED",
                    None => "PENDING_IMPORT",
                },
            );
    }
    answer
        .text(
            "KeyMaterialState",
            match entry.state {
                KeyMaterialState::Current => "CURRENT",
                KeyMaterialState::NonCurrent => "NON_CURRENT",
                KeyMaterialState::PendingRotation => "PENDING_ROTATION",
                KeyMaterialState::PendingImportAndRotation => {
                    "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
                }
            },
        )
        .text_if(
            "ExpirationModel",
            expiration.map(|expiration| expiration.model().name()),
        )
        .time_if("ValidTo", expiration.and_then(Expiration::date));
    if let Some((at, kind)) = entry.rotation {
        answer
            .time("RotationDate", at)
            .text("RotationType", kind.name());
    }
}

#[cfg(test)]
mod tests {
    use keyrum_service::ImportEntry;
    use keyrum_state::AutomaticRotation;
    use keyrum_types::{MaterialId, RotationKind, UnixMillis};

    use super::*;

    const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    /// Catches a status with other members, or in another order, than the real service's.
    #[test]
    fn a_status_is_the_real_one() {
        let mut status = GetKeyRotationStatusOutput {
            key_arn: ARN.to_owned(),
            automatic: None,
            on_demand_started: None,
        };
        let shown = |status: &_| String::from_utf8(show_status(status)).unwrap();
        let off = format!(r#"{{"KeyRotationEnabled":false,"KeyId":"{ARN}"}}"#);
        assert_eq!(shown(&status), off);
        status.automatic = Some(AutomaticRotation {
            period: RotationDays::DEFAULT,
            next: UnixMillis(1_820_748_697_616),
        });
        let on = format!(
            r#"{{"KeyRotationEnabled":true,"KeyId":"{ARN}","RotationPeriodInDays":365,"NextRotationDate":1820748697.616"#
        );
        assert_eq!(shown(&status), format!("{on}}}"));
        status.on_demand_started = Some(UnixMillis(1_789_212_697_616));
        let running = format!(r#"{on},"OnDemandRotationStartDate":1789212697.616}}"#);
        assert_eq!(shown(&status), running);
    }

    /// Catches the same for the entries of a list.
    #[test]
    fn entries_are_the_real_ones() {
        let entry = |byte, state, rotation| RotationEntry {
            key_arn: ARN.to_owned(),
            material: MaterialId([byte; 32]),
            state,
            rotation,
            import: None,
        };
        let entries = [
            entry(0xa1, KeyMaterialState::NonCurrent, None),
            entry(
                0xb2,
                KeyMaterialState::Current,
                Some((UnixMillis(1_789_212_697_616), RotationKind::OnDemand)),
            ),
            entry(0xc3, KeyMaterialState::PendingRotation, None),
        ];
        let imported = |description: Option<&str>, expiration| {
            Some(ImportEntry {
                description: description.map(str::to_owned),
                expiration,
            })
        };
        let mut entries = entries.to_vec();
        entries.push(RotationEntry {
            import: imported(Some("first material"), None),
            ..entry(0xd4, KeyMaterialState::NonCurrent, None)
        });
        entries.push(RotationEntry {
            import: imported(None, Some(Expiration::At(UnixMillis(1_789_299_097_616)))),
            ..entry(0xe5, KeyMaterialState::PendingRotation, None)
        });
        let mut answer = ObjectWriter::new();
        answer.objects("Rotations", &entries, show_rotation);
        let id = |byte: &str| byte.repeat(32);
        let expected = format!(
            r#"{{"Rotations":[{{"KeyId":"{ARN}","KeyMaterialId":"{}","KeyMaterialState":"NON_CURRENT"}},{{"KeyId":"{ARN}","KeyMaterialId":"{}","KeyMaterialState":"CURRENT","RotationDate":1789212697.616,"RotationType":"ON_DEMAND"}},{{"KeyId":"{ARN}","KeyMaterialId":"{}","KeyMaterialState":"PENDING_ROTATION"}},{{"KeyId":"{ARN}","KeyMaterialId":"{}","KeyMaterialDescription":"first material","ImportState":"PENDING_IMPORT","KeyMaterialState":"NON_CURRENT"}},{{"KeyId":"{ARN}","KeyMaterialId":"{}","ImportState":"IMPORTED","KeyMaterialState":"PENDING_ROTATION","ExpirationModel":"KEY_MATERIAL_EXPIRES","ValidTo":1789299097.616}}]}}"#,
            id("a1"),
            id("b2"),
            id("c3"),
            id("d4"),
            id("e5"),
        );
        assert_eq!(String::from_utf8(answer.finish()).unwrap(), expected);
    }
}
