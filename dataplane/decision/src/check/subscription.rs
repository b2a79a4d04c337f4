//! `subscription`: an API key belongs to an active subscription of an accepted plan.

use std::sync::Arc;

use super::{Evidence, Facts, Outcome, unavailable};
use crate::{
    canonical::API_KEY,
    denial::DenialReason,
    lack::Lack,
    refs::ResourceRef,
    remembered::RememberedKey,
    subscription::{ApiKey, State, Subscription},
};

/// `subscription` of a rule.
#[derive(Debug)]
pub struct SubscriptionCheck {
    /// The plans of `plans`, and for each whether it exists.
    pub plans: Box<[AcceptedPlan]>,
}

/// An entry of `plans`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPlan {
    /// The plan, in the policy's namespace.
    pub plan: ResourceRef,
    /// Why subscriptions to it cannot be told, if it is missing or invalid.
    pub lack: Option<Lack>,
}

impl SubscriptionCheck {
    pub(super) fn judge(&self, facts: Facts<'_>) -> Outcome {
        if let Some(remembered) = facts.remembered {
            return match &remembered.key {
                RememberedKey::None => missing(),
                RememberedKey::Unreadable => self.judge_key(None, facts),
                RememberedKey::Key(key) => self.judge_key(Some(key), facts),
            };
        }
        match facts.request.headers().get(&API_KEY) {
            Some(header) => self.judge_key(ApiKey::parse(header.as_bytes()).as_ref(), facts),
            None => missing(),
        }
    }

    fn judge_key(&self, key: Option<&ApiKey<'_>>, facts: Facts<'_>) -> Outcome {
        let found = key.and_then(|key| facts.subscriptions.find(key));
        match found {
            Some(subscription) if self.accepts(subscription) => {
                judge_subscription(subscription, facts)
            }
            _ => self.refuse(key, found),
        }
    }

    fn accepts(&self, subscription: &Subscription) -> bool {
        self.plans
            .iter()
            .any(|accepted| accepted.lack.is_none() && accepted.plan == subscription.plan)
    }

    fn refuse(&self, key: Option<&ApiKey<'_>>, found: Option<&Subscription>) -> Outcome {
        if let Some(AcceptedPlan { plan, lack: Some(lack) }) =
            self.plans.iter().find(|accepted| accepted.lack.is_some())
        {
            return Outcome::Unknown(Box::new(unavailable(plan, lack)));
        }
        unmet(match found {
            // Of one that cannot count the plan is of no interest: it may not even exist.
            Some(Subscription { resource, state: State::Invalid(lack), .. }) => {
                invalid(resource, lack)
            }
            Some(subscription) => DenialReason::PlanNotAccepted {
                subscription: subscription.resource.clone(),
                plan: subscription.plan.clone(),
                accepted: self.plans.iter().map(|accepted| accepted.plan.clone()).collect(),
            },
            None => DenialReason::KeyUnknown { id: key.map(|key| key.public_start().into()) },
        })
    }
}

fn missing() -> Outcome {
    unmet(DenialReason::KeyMissing { header: API_KEY, or_token: false })
}

fn judge_subscription(subscription: &Subscription, facts: Facts<'_>) -> Outcome {
    let resource = || subscription.resource.clone();
    match &subscription.state {
        State::Invalid(lack) => unmet(invalid(&subscription.resource, lack)),
        State::Suspended => unmet(DenialReason::SubscriptionSuspended { subscription: resource() }),
        State::Active { expires: Some(expires) } if *expires <= facts.now => {
            let ago = expires.until(facts.now);
            unmet(DenialReason::SubscriptionExpired { subscription: resource(), ago })
        }
        State::Active { .. } => Outcome::Met(Evidence::Subscription),
    }
}

fn invalid(subscription: &ResourceRef, lack: &Lack) -> DenialReason {
    DenialReason::SubscriptionInvalid {
        subscription: subscription.clone(),
        problem: Arc::clone(&lack.problem),
        remedy: Arc::clone(&lack.remedy),
    }
}

fn unmet(reason: DenialReason) -> Outcome {
    Outcome::Unmet(Box::new(reason))
}
