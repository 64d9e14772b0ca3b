//! Networks within networks. The kernel finds the smallest that holds an address, and nothing else: so each must hold for as long as
//! any that it lies in.

use super::Destination;

/// Until when each entry has to hold, given until when each was asked for. Quadratic: there are
/// [`ENDS_MAX`](sensor_common::verdict::ENDS_MAX) at most.
pub(super) fn effective(asked: &[(Destination, u64)]) -> Vec<u64> {
    let latest = |end: Destination| {
        let covering = asked.iter().filter(move |(other, _)| other.covers(end));
        covering.map(|(_, until)| *until).max().unwrap_or(0)
    };
    asked.iter().map(|(end, _)| latest(*end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_as_long_as_those_around_it() {
        let end = |text: &str| Destination::all(text.parse().unwrap());
        let asked = [
            (end("10.0.0.0/8"), 50),
            (end("10.1.0.0/16"), 20),
            (end("10.1.1.0/24"), 70),
            (end("10.1.1.1/32"), 10),
            (end("192.0.2.0/24"), 5),
        ];
        assert_eq!(effective(&asked), [50, 50, 70, 70, 5]);
    }
}
