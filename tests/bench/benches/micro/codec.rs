//! Messages to types and back.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use bgp::message::capability::{Capability, ForwardingState, GracefulRestart};
use bgp::message::update::LinkLocalForm;
use bgp::message::{HEADER_LENGTH, Open, Outgoing, UpdateCodec};
use bgp::{Asn, Family, HoldTime, NextHop, Prefix, RouterId};
use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use crate::fixture::{attributes, codec, link_local, prefixes};

/// How the prefixes and the next hop of an UPDATE are written.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// The NLRI field and NEXT_HOP of RFC 4271.
    Classic,
    /// IPv4 in MP_REACH_NLRI with a link-local next hop of 16 octets.
    Ipv4Hop16,
    /// The same with the 32 octets that FRR sends.
    Ipv4Hop32,
    /// IPv6 with a global and a link-local next hop.
    Ipv6Hop32,
}

/// A form, and how many prefixes share the attributes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    form: Form,
    prefixes: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Classic => "IPv4, NEXT_HOP",
            Form::Ipv4Hop16 => "IPv4, MP_REACH 16",
            Form::Ipv4Hop32 => "IPv4, MP_REACH 32",
            Form::Ipv6Hop32 => "IPv6, MP_REACH 32",
        };
        write!(f, "{form} x {}", self.prefixes)
    }
}

const SHAPES: [Shape; 5] = [
    Shape { form: Form::Classic, prefixes: 100 },
    Shape { form: Form::Ipv4Hop16, prefixes: 100 },
    Shape { form: Form::Ipv4Hop32, prefixes: 100 },
    Shape { form: Form::Ipv6Hop32, prefixes: 100 },
    Shape { form: Form::Ipv4Hop32, prefixes: 1 },
];

impl Shape {
    fn outgoing(self) -> (UpdateCodec, Outgoing<bgp::message::Attributes>) {
        let (family, form, next_hop) = match self.form {
            Form::Classic => {
                (Family::Ipv4Unicast, LinkLocalForm::Twice, NextHop::Ipv4(Ipv4Addr::new(192, 0, 2, 1)))
            }
            Form::Ipv4Hop16 => (Family::Ipv4Unicast, LinkLocalForm::Once, NextHop::LinkLocal(link_local(1))),
            Form::Ipv4Hop32 => (Family::Ipv4Unicast, LinkLocalForm::Twice, NextHop::LinkLocal(link_local(1))),
            Form::Ipv6Hop32 => {
                let global = "fd00::4".parse().unwrap();
                let next_hop = NextHop::Ipv6WithLinkLocal { global, link_local: link_local(1) };
                (Family::Ipv6Unicast, LinkLocalForm::Twice, next_hop)
            }
        };
        let prefixes: Vec<Prefix> = prefixes(family, self.prefixes);
        (codec(form), Outgoing::Reach { attributes: attributes(1, 1, next_hop), prefixes })
    }

    /// All of it fits into one message.
    fn encoded(self) -> (UpdateCodec, Bytes) {
        let (codec, outgoing) = self.outgoing();
        let mut out = BytesMut::new();
        let encoded = codec.encode(&outgoing, &mut out);
        assert_eq!((encoded.messages, encoded.unsent), (1, 0), "{self}");
        (codec, out.freeze())
    }
}

#[divan::bench(args = SHAPES)]
fn decode_update(bencher: Bencher<'_, '_>, shape: Shape) {
    let (codec, message) = shape.encoded();
    let body = message.slice(HEADER_LENGTH..);
    let read = codec.decode(body.clone()).unwrap();
    assert!(read.faults.is_empty() && read.withdrawn.is_empty(), "{read:?}");
    bencher
        .counter(ItemsCount::new(shape.prefixes))
        .counter(BytesCount::new(message.len()))
        .with_inputs(|| body.clone())
        .bench_values(|body| codec.decode(body));
}

#[divan::bench(args = SHAPES)]
fn encode_update(bencher: Bencher<'_, '_>, shape: Shape) {
    let (codec, outgoing) = shape.outgoing();
    let length = shape.encoded().1.len();
    let mut out = BytesMut::new();
    bencher.counter(ItemsCount::new(shape.prefixes)).counter(BytesCount::new(length)).bench_local(|| {
        out.clear();
        codec.encode(&outgoing, &mut out)
    });
}

/// With the capabilities that the agent sends.
fn open() -> Open {
    let families = [Family::Ipv4Unicast, Family::Ipv6Unicast];
    let mut capabilities: Vec<_> = families.into_iter().map(Capability::multiprotocol).collect();
    capabilities.extend([
        Capability::RouteRefresh,
        Capability::ExtendedNextHop(vec![(Family::Ipv4Unicast.into(), 2)]),
        Capability::ExtendedMessage,
        Capability::FourOctetAs(Asn(4_200_000_001)),
        Capability::EnhancedRouteRefresh,
        Capability::GracefulRestart(GracefulRestart {
            restarting: false,
            notification: true,
            restart_time: Duration::from_secs(30),
            families: families.map(|family| (family.into(), ForwardingState::Preserved)).to_vec(),
        }),
        Capability::Fqdn { hostname: "c1".to_owned(), domain: String::new() },
    ]);
    let hold_time = HoldTime::from_secs(9).unwrap();
    Open { asn: Asn(4_200_000_001), hold_time, router_id: RouterId(Ipv4Addr::new(1, 1, 1, 1)), capabilities }
}

#[divan::bench]
fn decode_open(bencher: Bencher<'_, '_>) {
    let mut out = BytesMut::new();
    open().encode(&mut out);
    let message = out.freeze();
    let body = message.slice(HEADER_LENGTH..);
    assert_eq!(Open::decode(body.clone()).unwrap(), open());
    bencher.counter(BytesCount::new(message.len())).with_inputs(|| body.clone()).bench_values(Open::decode);
}

#[divan::bench]
fn encode_open(bencher: Bencher<'_, '_>) {
    let open = open();
    let mut out = BytesMut::new();
    open.encode(&mut out);
    bencher.counter(BytesCount::new(out.len())).bench_local(|| {
        out.clear();
        open.encode(&mut out);
    });
}
