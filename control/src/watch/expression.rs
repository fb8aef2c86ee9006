//! Match expressions: `host 10.1.2.3 and (tcp port 443 or drop)` becomes the program that workers run.

use std::net::IpAddr;

use dataplane::header::ethernet;
use dataplane::verdict::{DropReason, PuntReason};
use dataplane::watch::{Op, Program, Side, Term};
use ipnetwork::IpNetwork;

use crate::config::suggest;

/// Longest expression, in bytes.
pub const MAX_LEN: usize = 4096;
/// Deepest nesting of parentheses and `not`.
const MAX_NESTING: usize = 32;

/// The words that begin a term, for error messages.
const TERMS: &str = "host, net, src, dst, port, vlan, svlan, cvlan, tcp, udp, sctp, icmp, icmp6, arp, ip, ip6, drop, \
                     punt, reason, `not` or `(`";

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    text: String,
    /// In characters from the start of the expression.
    at: usize,
    /// In characters.
    len: usize,
    why: String,
}

impl std::fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let marks = "^".repeat(self.len.max(1));
        write!(f, "{}\n  {line}\n  {:at$}{marks}", self.why, "", at = self.at)
    }
}

impl std::error::Error for ExpressionError {}

/// Reads an expression. An empty one matches all packets.
///
/// # Errors
/// What is wrong, with its place.
pub fn parse(text: &str) -> Result<Program, ExpressionError> {
    if text.len() > MAX_LEN {
        let text: String = text.chars().take(60).chain("…".chars()).collect();
        let why = format!("the expression is longer than {MAX_LEN} bytes");
        return Err(ExpressionError { at: 0, len: text.chars().count(), text, why });
    }
    let tokens = tokens(text);
    let mut parser = Parser { text, tokens: &tokens, at: 0, nesting: 0, ops: Vec::new() };
    if !tokens.is_empty() {
        parser.either()?;
        if let Some(token) = parser.peek() {
            let why = match token.text {
                ")" => "there is no `(` for this".to_string(),
                other => format!("expected `and` or `or`, found `{other}`"),
            };
            return Err(parser.error(Some(token), why));
        }
    }
    Program::new(&parser.ops).map_err(|error| ExpressionError {
        text: text.to_string(),
        at: 0,
        len: text.chars().count(),
        why: format!("the expression is {error}"),
    })
}

/// A word, or one of `( ) ! && ||`.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    /// In characters.
    at: usize,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut at = 0;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| !c.is_whitespace() && !"()!&|".contains(c);
        let len = match first {
            _ if rest.starts_with("&&") || rest.starts_with("||") => 2,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (text, after) = rest.split_at(len);
        if !first.is_whitespace() {
            tokens.push(Token { text, at });
        }
        at += text.chars().count();
        rest = after;
    }
    tokens
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token<'a>],
    at: usize,
    nesting: usize,
    ops: Vec<Op>,
}

type Parsed<T> = Result<T, ExpressionError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
    }

    fn accept(&mut self, words: &[&str]) -> bool {
        let is = self.peek().is_some_and(|token| words.contains(&token.text));
        self.at += usize::from(is);
        is
    }

    /// An error at a token, or at the end.
    fn error(&self, token: Option<Token<'a>>, why: String) -> ExpressionError {
        let (at, len) = match token {
            Some(token) => (token.at, token.text.chars().count()),
            None => (self.text.trim_end().chars().count(), 1),
        };
        ExpressionError { text: self.text.to_string(), at, len, why }
    }

    /// That `what` should be here.
    fn expected<T>(&self, what: &str, token: Option<Token<'a>>) -> Parsed<T> {
        let why = match token {
            Some(found) => format!("expected {what}, found `{}`", found.text),
            None => format!("expected {what} at the end"),
        };
        Err(self.error(token, why))
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.error(self.peek(), format!("nested deeper than {MAX_NESTING}")));
        }
        let parsed = parse(self)?;
        self.nesting -= 1;
        Ok(parsed)
    }

    fn either(&mut self) -> Parsed<()> {
        self.both()?;
        while self.accept(&["or", "||"]) {
            self.both()?;
            self.ops.push(Op::Or);
        }
        Ok(())
    }

    /// Terms side by side, such as `tcp port 80`, are meant all.
    fn both(&mut self) -> Parsed<()> {
        self.negated()?;
        loop {
            let begins = |token: Token| token.text == "(" || token.text == "!" || is_term(token.text);
            if !self.accept(&["and", "&&"]) && !self.peek().is_some_and(begins) {
                return Ok(());
            }
            self.negated()?;
            self.ops.push(Op::And);
        }
    }

    fn negated(&mut self) -> Parsed<()> {
        if self.accept(&["not", "!"]) {
            self.deeper(Self::negated)?;
            self.ops.push(Op::Not);
            return Ok(());
        }
        let open = self.peek();
        if self.accept(&["("]) {
            self.deeper(Self::either)?;
            if !self.accept(&[")"]) {
                return match self.peek() {
                    None => Err(self.error(open, "this `(` is not closed".into())),
                    found => self.expected("`and`, `or` or `)`", found),
                };
            }
            return Ok(());
        }
        self.term()
    }

    fn ask(&mut self, term: Term) {
        self.ops.push(Op::Ask(term));
    }

    fn term(&mut self) -> Parsed<()> {
        let Some(token) = self.take() else { return self.expected(TERMS, None) };
        if let Some(term) = simple(token.text) {
            self.ask(term);
            return Ok(());
        }
        match token.text {
            "host" => self.host(Side::Either),
            "net" => self.net(Side::Either),
            "port" => self.port(Side::Either),
            "src" => self.side(Side::Source),
            "dst" => self.side(Side::Destination),
            "vlan" => self.vlan(),
            "svlan" => self.vid().map(|vid| self.ask(Term::Outer(vid))),
            "cvlan" => self.vid().map(|vid| self.ask(Term::Inner(vid))),
            "reason" => self.reason(),
            "icmp" => {
                self.of(ethernet::IPV4, 1);
                Ok(())
            }
            "icmp6" => {
                self.of(ethernet::IPV6, 58);
                Ok(())
            }
            _ => self.expected(TERMS, Some(token)),
        }
    }

    /// A protocol of one IP version.
    fn of(&mut self, ethertype: u16, protocol: u8) {
        self.ask(Term::Ethertype(ethertype));
        self.ask(Term::Protocol(protocol));
        self.ops.push(Op::And);
    }

    fn side(&mut self, side: Side) -> Parsed<()> {
        let what = "`host`, `net`, `port`, an address or a prefix";
        let Some(token) = self.take() else { return self.expected(what, None) };
        match token.text {
            "host" => self.host(side),
            "net" => self.net(side),
            "port" => self.port(side),
            text => match text.parse::<IpAddr>() {
                Ok(address) => {
                    self.prefix(side, address.into());
                    Ok(())
                }
                Err(_) if text.contains('/') => self.read_net(side, token),
                Err(_) => self.expected(what, Some(token)),
            },
        }
    }

    fn host(&mut self, side: Side) -> Parsed<()> {
        let token = self.take();
        match token.map(|token| token.text.parse::<IpAddr>()) {
            Some(Ok(address)) => {
                self.prefix(side, address.into());
                Ok(())
            }
            _ => self.expected("an IPv4 or IPv6 address", token),
        }
    }

    fn net(&mut self, side: Side) -> Parsed<()> {
        match self.take() {
            Some(token) if token.text.contains('/') => self.read_net(side, token),
            other => self.expected("a prefix such as 10.0.0.0/8", other),
        }
    }

    fn read_net(&mut self, side: Side, token: Token<'a>) -> Parsed<()> {
        let Ok(prefix) = token.text.parse::<IpNetwork>() else {
            return self.expected("a prefix such as 10.0.0.0/8 or 2001:db8::/32", Some(token));
        };
        if prefix.network() != prefix.ip() {
            let why = format!(
                "{prefix} has bits behind its length; did you mean {}/{}?",
                prefix.network(),
                prefix.prefix()
            );
            return Err(self.error(Some(token), why));
        }
        self.prefix(side, prefix);
        Ok(())
    }

    fn prefix(&mut self, side: Side, prefix: IpNetwork) {
        self.ask(match prefix {
            IpNetwork::V4(v4) => Term::Net4 { side, prefix: v4.ip().into(), mask: v4.mask().into() },
            IpNetwork::V6(v6) => Term::Net6 { side, prefix: v6.ip().into(), mask: v6.mask().into() },
        });
    }

    fn port(&mut self, side: Side) -> Parsed<()> {
        let token = self.take();
        let range = token.and_then(|token| {
            let (first, last) = token.text.split_once('-').unwrap_or((token.text, token.text));
            Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)
        });
        match range {
            Some((first, last)) => {
                self.ask(Term::Port { side, first, last });
                Ok(())
            }
            None => self.expected("a port, or a range such as 5000-5010", token),
        }
    }

    fn vlan(&mut self) -> Parsed<()> {
        let is_number = |token: Token| token.text.starts_with(|c: char| c.is_ascii_digit());
        if !self.peek().is_some_and(is_number) {
            self.ask(Term::Tagged);
            return Ok(());
        }
        let outer = self.vid()?;
        self.ask(Term::Vlan(outer));
        if self.peek().is_some_and(is_number) {
            let inner = self.vid()?;
            self.ask(Term::Inner(inner));
            self.ops.push(Op::And);
        }
        Ok(())
    }

    fn vid(&mut self) -> Parsed<u16> {
        let token = self.take();
        match token.map(|token| token.text.parse::<u16>()) {
            Some(Ok(vid @ 1..=4094)) => Ok(vid),
            _ => self.expected("a VLAN id, 1 to 4094", token),
        }
    }

    fn reason(&mut self) -> Parsed<()> {
        let Some(token) = self.take() else { return self.expected("the name of a reason", None) };
        let drop = DropReason::ALL.iter().find(|reason| reason.name() == token.text);
        let punt = PuntReason::ALL.iter().find(|reason| reason.name() == token.text);
        match (drop, punt) {
            (Some(drop), Some(punt)) => {
                self.ask(Term::DroppedFor(*drop));
                self.ask(Term::PuntedFor(*punt));
                self.ops.push(Op::Or);
            }
            (Some(drop), None) => self.ask(Term::DroppedFor(*drop)),
            (None, Some(punt)) => self.ask(Term::PuntedFor(*punt)),
            (None, None) => {
                let drops = DropReason::ALL.iter().map(|reason| reason.name());
                let known = drops.chain(PuntReason::ALL.iter().map(|reason| reason.name()));
                let hint = suggest::hint(token.text, known);
                return Err(self.error(Some(token), format!("there is no reason `{}`{hint}", token.text)));
            }
        }
        Ok(())
    }
}

/// A term of one word.
fn simple(word: &str) -> Option<Term> {
    Some(match word {
        "tcp" => Term::Protocol(6),
        "udp" => Term::Protocol(17),
        "sctp" => Term::Protocol(132),
        "arp" => Term::Ethertype(ethernet::ARP),
        "ip" => Term::Ethertype(ethernet::IPV4),
        "ip6" => Term::Ethertype(ethernet::IPV6),
        "drop" => Term::Dropped,
        "punt" => Term::Punted,
        _ => return None,
    })
}

/// Whether a term begins with this word.
fn is_term(word: &str) -> bool {
    const LONGER: [&str; 12] =
        ["not", "host", "net", "port", "src", "dst", "icmp", "icmp6", "vlan", "svlan", "cvlan", "reason"];
    simple(word).is_some() || LONGER.contains(&word)
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
