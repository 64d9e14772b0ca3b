//! What a consumer wants: a filter, an expression, or both.

use sensor_proto::v1::{Entry, Filter, SubscribeRequest};
use tonic::Status;

use super::expression::Expression;
use crate::store::Position;

/// What a consumer wants, found valid.
#[derive(Debug)]
pub(super) struct Wanted {
    filter: Filter,
    expression: Option<Expression>,
}

impl Wanted {
    /// What a request asks for, and from where on.
    pub(super) fn of(request: SubscribeRequest) -> Result<(Self, Option<Position>), Status> {
        let filter = request.filter.unwrap_or_default();
        filter
            .validate()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let expression = match request.expression.as_str() {
            "" => None,
            text => {
                Some(Expression::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))?)
            }
        };
        Ok((Self { filter, expression }, request.after.map(Position)))
    }

    /// Whether an entry with this signal can be wanted: what can be told at once.
    pub(super) fn may_pass(&self, signal: &str) -> bool {
        self.filter.may_pass(signal)
    }

    /// Whether this entry is wanted.
    pub(super) fn matches(&self, entry: &Entry) -> bool {
        self.filter.matches(entry)
            && self
                .expression
                .as_ref()
                .is_none_or(|expression| expression.matches(entry))
    }
}
