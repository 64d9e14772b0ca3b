//! Types of the kernel's contract as the numbers that they have there. A number that this version does not know is refused.

/// A module for `serde(with = …)`: from a type to a number and back.
macro_rules! as_number {
    ($(#[$doc:meta])* $module:ident, $kind:ty, $number:ty, $to:expr, $from:expr, $unknown:literal) => {
        $(#[$doc])*
        pub(crate) mod $module {
            use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &$kind, serializer: S) -> Result<S::Ok, S::Error> {
                let to: fn(&$kind) -> $number = $to;
                serde::Serialize::serialize(&to(value), serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$kind, D::Error> {
                let from: fn($number) -> Option<$kind> = $from;
                from(<$number>::deserialize(deserializer)?).ok_or_else(|| D::Error::custom($unknown))
            }
        }
    };
}

use sensor_common::{
    Signal,
    credential::{Cred, Moment},
    record::FlowEnd,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::capture::calls::Call;

as_number!(
    /// A signal.
    signal, Signal, u16, |signal| *signal as u16, Signal::from_number, "a signal that this version does not know"
);
as_number!(
    /// A row of the table of calls.
    call, &'static Call, u32, |call| call.number, Call::of, "a call that this version does not know"
);
as_number!(
    /// A row of the table of calls, or none.
    optional_call, Option<&'static Call>, Option<u32>,
    |call| call.map(|call| call.number),
    |number| match number {
        None => Some(None),
        Some(number) => Call::of(number).map(Some),
    },
    "a call that this version does not know"
);
as_number!(
    /// Why a flow of datagrams is reported.
    flow_end, FlowEnd, u32, |end| *end as u32, FlowEnd::from_number, "a reason that this version does not know"
);
as_number!(
    /// When credentials were looked at.
    moment, Moment, u32, |moment| *moment as u32,
    |number| [Moment::Call, Moment::Exec, Moment::Fork, Moment::Exit]
        .into_iter()
        .find(|moment| *moment as u32 == number),
    "a moment that this version does not know"
);
as_number!(
    /// Credentials, as the bytes of the record.
    cred, Cred, Vec<u8>, |cred| cred.as_bytes().to_vec(),
    |bytes| Cred::read_from_bytes(&bytes).ok(),
    "credentials of another length"
);
