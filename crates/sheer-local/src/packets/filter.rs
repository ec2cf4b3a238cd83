//! Which packets are kept: the part of pcap's filter language that a mesh needs.
//!
//! ```text
//! filter  = term { "or" term }
//! term    = factor { "and" factor }
//! factor  = "not" factor | "(" filter ")" | "tcp" | "udp" | "icmp"
//!         | [ "src" | "dst" ] "host" ADDRESS | [ "src" | "dst" ] "net" CIDR | [ "src" | "dst" ] "port" NUMBER
//! ```

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::dissect::{ICMP, Packet, TCP, UDP};

/// A filter. Keeps packets that are neither IPv4 nor IPv6 only where it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(Option<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Protocol(&'static [u8]),
    Net(Side, IpNet),
    Port(Side, u16),
    Not(Box<Rule>),
    And(Box<Rule>, Box<Rule>),
    Or(Box<Rule>, Box<Rule>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Either,
    Source,
    Destination,
}

/// Deeper nesting than this is no filter that a person wrote.
const DEEPEST: usize = 64;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "filter, at {at:?}: {why}; write it as `port 4143 and not host 10.77.0.2` (tcp, udp, icmp, [src|dst] host|net|port, and, or, not, parentheses)"
)]
pub struct FilterError {
    at: String,
    why: &'static str,
}

impl Filter {
    /// Whether a packet is kept.
    pub fn keeps(&self, packet: Option<&Packet<'_>>) -> bool {
        match (&self.0, packet) {
            (None, _) => true,
            (Some(rule), Some(packet)) => rule.matches(packet),
            (Some(_), None) => false,
        }
    }
}

impl Rule {
    fn matches(&self, packet: &Packet<'_>) -> bool {
        match self {
            Self::Protocol(numbers) => numbers.contains(&packet.protocol),
            Self::Net(side, net) => side.either(
                || net.contains(&canonical(packet.source)),
                || net.contains(&canonical(packet.destination)),
            ),
            Self::Port(side, port) => packet
                .ports
                .is_some_and(|(from, to)| side.either(|| from == *port, || to == *port)),
            Self::Not(rule) => !rule.matches(packet),
            Self::And(a, b) => a.matches(packet) && b.matches(packet),
            Self::Or(a, b) => a.matches(packet) || b.matches(packet),
        }
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Side {
    fn either(self, source: impl FnOnce() -> bool, destination: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Either => source() || destination(),
            Self::Source => source(),
            Self::Destination => destination(),
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        if words.is_empty() {
            return Ok(Self(None));
        }
        let mut parser = Parser { words: &words, at: 0 };
        let rule = parser.any(0)?;
        match parser.peek() {
            None => Ok(Self(Some(rule))),
            Some(_) => Err(parser.wrong("expected `and` or `or`")),
        }
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn takes(&mut self, words: &[&str]) -> bool {
        let taken = self.peek().is_some_and(|word| words.contains(&word));
        self.at += usize::from(taken);
        taken
    }

    fn wrong(&self, why: &'static str) -> FilterError {
        FilterError {
            at: self.peek().unwrap_or("the end").to_owned(),
            why,
        }
    }

    fn any(&mut self, depth: usize) -> Result<Rule, FilterError> {
        let mut rule = self.all(depth)?;
        while self.takes(&["or", "||"]) {
            rule = Rule::Or(Box::new(rule), Box::new(self.all(depth)?));
        }
        Ok(rule)
    }

    fn all(&mut self, depth: usize) -> Result<Rule, FilterError> {
        let mut rule = self.one(depth)?;
        while self.takes(&["and", "&&"]) {
            rule = Rule::And(Box::new(rule), Box::new(self.one(depth)?));
        }
        Ok(rule)
    }

    fn one(&mut self, depth: usize) -> Result<Rule, FilterError> {
        if depth > DEEPEST {
            return Err(self.wrong("nested too deeply"));
        }
        if self.takes(&["not", "!"]) {
            return Ok(Rule::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.takes(&["("]) {
            let rule = self.any(depth + 1)?;
            return if self.takes(&[")"]) {
                Ok(rule)
            } else {
                Err(self.wrong("expected `)`"))
            };
        }
        let side = match self.peek() {
            Some("src") => Side::Source,
            Some("dst") => Side::Destination,
            _ => Side::Either,
        };
        self.at += usize::from(side != Side::Either);
        let primitive = self.peek();
        match primitive {
            Some("tcp") if side == Side::Either => self.protocol(&[TCP]),
            Some("udp") if side == Side::Either => self.protocol(&[UDP]),
            Some("icmp") if side == Side::Either => self.protocol(&ICMP),
            Some("host") => self.argument("expected an address", |text| {
                Some(Rule::Net(side, IpNet::from(canonical(text.parse().ok()?))))
            }),
            Some("net") => self.argument("expected a network, as 10.77.0.0/16", |text| {
                Some(Rule::Net(side, text.parse().ok()?))
            }),
            Some("port") => self.argument("expected a port, 1 to 65535", |text| {
                Some(Rule::Port(side, text.parse().ok().filter(|port| *port > 0)?))
            }),
            _ => Err(self.wrong("expected what to keep")),
        }
    }

    fn protocol(&mut self, numbers: &'static [u8]) -> Result<Rule, FilterError> {
        self.at += 1;
        Ok(Rule::Protocol(numbers))
    }

    /// The word after a keyword.
    fn argument(&mut self, why: &'static str, rule: impl FnOnce(&str) -> Option<Rule>) -> Result<Rule, FilterError> {
        self.at += 1;
        let found = self.peek().and_then(rule).ok_or_else(|| self.wrong(why))?;
        self.next();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::dissect::{dissect, tests::tcp_packet};

    fn keeps(filter: &str) -> bool {
        let bytes = tcp_packet(("10.77.0.2", 40_000), ("10.77.0.3", 4143), 0x18, b"x");
        filter.parse::<Filter>().expect(filter).keeps(dissect(&bytes).as_ref())
    }

    #[test]
    fn each_word_of_the_language() {
        let (yes, no) = (
            [
                "",
                "tcp",
                "port 4143",
                "dst port 4143",
                "src port 40000",
                "host 10.77.0.2",
                "src host 10.77.0.2",
                "net 10.77.0.0/16",
                "not udp",
                "! udp && tcp",
                "udp or tcp",
                "(udp or tcp) and port 4143",
                "not (host 10.77.0.9 or port 80)",
                "udp and udp or tcp",
                "host ::ffff:10.77.0.2",
            ],
            [
                "udp",
                "icmp",
                "src port 4143",
                "dst host 10.77.0.2",
                "net 10.78.0.0/16",
                "not tcp",
                "tcp and not port 4143",
                "udp and tcp or udp",
            ],
        );
        for filter in yes {
            assert!(keeps(filter), "{filter}");
        }
        for filter in no {
            assert!(!keeps(filter), "{filter}");
        }
        assert!(!"tcp".parse::<Filter>().expect("a filter").keeps(None));
    }

    #[test]
    fn mistakes_say_where_and_what_was_expected() {
        let error = |text: &str| {
            let said = text.parse::<Filter>().expect_err(text).to_string();
            said.split(';').next().expect("a sentence").to_owned()
        };
        assert_eq!(error("port http"), r#"filter, at "http": expected a port, 1 to 65535"#);
        assert_eq!(error("tcp port 80"), r#"filter, at "port": expected `and` or `or`"#);
        assert_eq!(error("(tcp"), r#"filter, at "the end": expected `)`"#);
        assert_eq!(error("host"), r#"filter, at "the end": expected an address"#);
        assert_eq!(error("src tcp"), r#"filter, at "tcp": expected what to keep"#);
        assert!(error(&"not ".repeat(1000)).contains("deeply"));
    }
}
