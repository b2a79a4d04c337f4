//! Requests that no upstream answers: refused by a policy, or served by nobody.

use std::sync::Arc;

use decision::{
    code::Code,
    denial::Denial,
    refs::{FieldRef, RouteName},
};

/// Why a request got an answer of ours instead of the upstream's.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It was judged and refused.
    Denied(Box<Denial>),
    /// Nobody serves it.
    Unserved(Unserved),
}

/// A request that no policy refused and no upstream answered.
#[derive(Debug)]
pub(crate) struct Unserved {
    pub(crate) code: Code,
    pub(crate) route: Option<Arc<RouteName>>,
    /// The field to look at, if the configuration is to blame.
    pub(crate) field: Option<FieldRef>,
    /// What was observed, for the operator: one sentence without a final period.
    pub(crate) observed: Box<str>,
    /// What to do, if more is known than the code says.
    pub(crate) remedy: Option<Box<str>>,
}

impl Unserved {
    /// One that no field is to blame for, with the remedy of its code.
    pub(crate) fn new(
        code: Code,
        route: Option<Arc<RouteName>>,
        observed: impl Into<Box<str>>,
    ) -> Self {
        Self { code, route, field: None, observed: observed.into(), remedy: None }
    }

    pub(crate) fn remedy(&self) -> String {
        self.remedy.as_deref().unwrap_or(self.code.remedy()).to_owned()
    }
}

impl Refused {
    /// The catalogue's code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Denied(denial) => denial.code(),
            Self::Unserved(unserved) => unserved.code,
        }
    }

    /// Whether the rest of the connection cannot be trusted to begin with a request, or begins with
    /// one that belongs elsewhere or would meet the same bug of ours, too.
    pub(crate) fn ends_connection(&self) -> bool {
        let codes = [
            Code::RequestMalformed,
            Code::EncodingNotSupported,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::MisdirectedRequest,
            Code::JudgementFailed,
        ];
        codes.contains(&self.code())
    }
}
