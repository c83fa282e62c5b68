//! A request as policies see it.

use std::borrow::Cow;

use crate::question::{PrincipalKind, Question, Values};
use crate::template::Variables;

/// A question with what every statement needs of it worked out once.
pub(crate) struct View<'q> {
    pub(crate) question: &'q Question<'q>,
    /// `service:action` in lower case.
    action: ActionText,
    /// The policy is the resource's, in which some condition keys have no values.
    of_resource: bool,
}

/// Long enough for every action of KMS, so that none is allocated.
const ACTION_BYTES: usize = 64;

enum ActionText {
    Short([u8; ACTION_BYTES], usize),
    Long(String),
}

impl ActionText {
    fn new(service: &str, action: &str) -> Self {
        let length = service.len() + 1 + action.len();
        let mut bytes = [0; ACTION_BYTES];
        if length > ACTION_BYTES {
            return Self::Long(format!("{service}:{action}").to_ascii_lowercase());
        }
        bytes[..service.len()].copy_from_slice(service.as_bytes());
        bytes[service.len()] = b':';
        bytes[service.len() + 1..length].copy_from_slice(action.as_bytes());
        bytes[..length].make_ascii_lowercase();
        Self::Short(bytes, length)
    }
}

impl<'q> View<'q> {
    pub(crate) fn new(question: &'q Question<'q>) -> Self {
        Self {
            question,
            action: ActionText::new(question.service, question.action),
            of_resource: false,
        }
    }

    /// The same request for the policy of the resource.
    pub(crate) fn for_resource(self) -> Self {
        Self {
            of_resource: true,
            ..self
        }
    }

    pub(crate) fn action(&self) -> &str {
        match &self.action {
            ActionText::Short(bytes, length) => {
                std::str::from_utf8(&bytes[..*length]).expect("made of two texts and a colon")
            }
            ActionText::Long(text) => text,
        }
    }

    /// The values of a condition key by its lower-case name.
    pub(crate) fn values(&self, key: &str) -> Option<Values<'_>> {
        let asker = &self.question.asker;
        let is_service = asker.kind == PrincipalKind::Service;
        let one = |value| Some(Values::One(value));
        match key {
            "aws:principalarn" if is_service => None,
            "aws:principalarn" => one(Cow::Borrowed(asker.role_arn.unwrap_or(asker.arn))),
            // A service's account is its own affair.
            "aws:principalaccount" | "kms:calleraccount" if is_service => None,
            "aws:principalaccount" | "kms:calleraccount" => {
                one(Cow::Owned(asker.account.to_string()))
            }
            "aws:userid" => one(Cow::Borrowed(asker.unique_id)),
            "aws:username" => {
                let is_user = asker.kind == PrincipalKind::User;
                let name = is_user.then(|| asker.arn.rsplit('/').next()).flatten()?;
                one(Cow::Borrowed(name))
            }
            "aws:principaltype" => one(Cow::Borrowed(match asker.kind {
                PrincipalKind::Root => "Account",
                PrincipalKind::User => "User",
                PrincipalKind::AssumedRole => "AssumedRole",
                PrincipalKind::FederatedUser => "FederatedUser",
                PrincipalKind::Service => return None,
            })),
            "aws:principalisawsservice" => one(Cow::Borrowed(match is_service {
                true => "true",
                false => "false",
            })),
            "aws:principalservicename" if is_service => one(Cow::Borrowed(asker.arn)),
            "aws:principalservicename" => None,
            // Source: AWS KMS Developer Guide, "AWS KMS condition keys": only in IAM policies.
            "kms:resourcealiases" if self.of_resource => None,
            key if self.of_resource && key.starts_with("aws:resourcetag/") => None,
            key => self.question.context.values(key),
        }
    }
}

impl Variables for View<'_> {
    fn variable(&self, key: &str) -> Option<Cow<'_, str>> {
        match self.values(key)? {
            Values::One(value) => Some(value),
            Values::Many(_) => None,
        }
    }
}
