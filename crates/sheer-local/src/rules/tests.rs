//! The rules as text, as an operator sees them with `nft list ruleset`.

use super::*;

fn ports(ranges: &[(u16, u16)]) -> Vec<RangeInclusive<u16>> {
    ranges.iter().map(|(first, last)| *first..=*last).collect()
}

#[test]
fn everything_but_the_sidecar_is_redirected() {
    let plain = Redirection {
        exemption: Exemption::Uid,
        skip_inbound: vec![],
        skip_outbound: vec![],
        skip_subnets: vec![],
    };
    insta::assert_snapshot!(redirection(&plain), @r"
    table inet sheer {
      chain inbound {
        type nat hook prerouting priority dstnat; policy accept;
        meta l4proto != tcp return
        iif lo return
        tcp dport { 4143, 4190-4191 } return
        meta l4proto tcp redirect to :4143
      }
      chain outbound {
        type nat hook output priority -100; policy accept;
        meta l4proto != tcp return
        meta skuid 2102 return
        oif lo return
        ip daddr 10.77.0.1/32 return
        ip6 daddr fd77::1/128 return
        meta l4proto tcp redirect to :4140
      }
    }
    ");
}

#[test]
fn skip_lists_are_honoured_in_both_families() {
    let skipping = Redirection {
        exemption: Exemption::Mark,
        skip_inbound: ports(&[(9000, 9010), (9005, 9020), (22, 22)]),
        skip_outbound: ports(&[(3306, 3306), (65_535, 65_535), (1, 65_535)]),
        skip_subnets: ["192.168.0.0/24", "192.168.1.0/24", "fd00::/8"]
            .iter()
            .map(|net| net.parse().expect("network"))
            .collect(),
    };
    insta::assert_snapshot!(redirection(&skipping), @r"
    table inet sheer {
      chain inbound {
        type nat hook prerouting priority dstnat; policy accept;
        meta l4proto != tcp return
        iif lo return
        tcp dport { 22, 4143, 4190-4191, 9000-9020 } return
        ip saddr 192.168.0.0/23 return
        ip6 saddr fd00::/8 return
        meta l4proto tcp redirect to :4143
      }
      chain outbound {
        type nat hook output priority -100; policy accept;
        meta l4proto != tcp return
        meta mark 0x53484545 return
        oif lo return
        ip daddr 10.77.0.1/32 return
        ip6 daddr fd77::1/128 return
        ip daddr 192.168.0.0/23 return
        ip6 daddr fd00::/8 return
        tcp dport { 1-65535 } return
        meta l4proto tcp redirect to :4140
      }
    }
    ");
}

#[test]
fn virtual_addresses_become_endpoints_or_refuse() {
    let rule = |address: &str, endpoints: &[&str]| ServiceRule {
        address: address.parse().expect("address"),
        port: 80,
        endpoints: endpoints
            .iter()
            .map(|endpoint| endpoint.parse().expect("endpoint"))
            .collect(),
    };
    let rules = [
        rule("10.78.0.5", &["10.77.0.2:8080", "10.77.0.3:8080"]),
        rule("fd78::5", &["[fd77::2]:8080", "[fd77::3]:8080"]),
        rule("10.78.0.6", &["10.77.0.4:9090"]),
        rule("fd78::6", &["[fd77::4]:9090"]),
        rule("10.78.0.7", &[]),
        rule("fd78::7", &[]),
    ];
    insta::assert_snapshot!(services(&rules), @r"
    table inet sheer_services {
      chain untracked_out { type filter hook output priority raw; policy accept; }
      chain untracked_in { type filter hook prerouting priority raw; policy accept; }
      chain translate { type nat hook output priority -90; policy accept; }
      chain refuse { type filter hook output priority 0; policy accept; }
    }
    flush table inet sheer_services
    table inet sheer_services {
      chain untracked_out {
        udp dport 53 notrack
      }
      chain untracked_in {
        udp sport 53 notrack
      }
      chain translate {
        ip daddr 10.78.0.5 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.77.0.2 . 8080, 1 : 10.77.0.3 . 8080 }
        ip6 daddr fd78::5 tcp dport 80 dnat ip6 to numgen random mod 2 map { 0 : fd77::2 . 8080, 1 : fd77::3 . 8080 }
        ip daddr 10.78.0.6 tcp dport 80 dnat ip to 10.77.0.4:9090
        ip6 daddr fd78::6 tcp dport 80 dnat ip6 to [fd77::4]:9090
      }
      chain refuse {
        ip daddr 10.78.0.7 tcp dport 80 reject with tcp reset
        ip6 daddr fd78::7 tcp dport 80 reject with tcp reset
      }
    }
    ");
}
