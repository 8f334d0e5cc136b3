//! Servers behind proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::place::{Place, lines, refusal};

/// What a proxy does with a request that is too large for it.
#[derive(Clone, Copy)]
enum TooLarge {
    Answer413,
    Cut,
}

/// A proxy that takes bodies up to a limit and speaks HTTP/1.0 to the server. It counts the requests that
/// it has let through. It ends with the test.
fn proxy(server: u16, limit: usize, too_large: TooLarge) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let passed = Arc::<AtomicUsize>::default();
    let count = passed.clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let count = count.clone();
            thread::spawn(move || pass(client, server, limit, too_large, &count));
        }
    });
    (port, passed)
}

fn pass(
    client: TcpStream,
    server: u16,
    limit: usize,
    too_large: TooLarge,
    count: &AtomicUsize,
) -> Option<()> {
    let mut from = BufReader::new(client.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut body = Vec::new();
    let mut client = client;
    loop {
        let mut size = String::new();
        from.read_line(&mut size).ok()?;
        let size = u64::from_str_radix(size.trim_end(), 16).ok()?;
        (&mut from).take(size).read_to_end(&mut body).ok()?;
        from.read_line(&mut String::new()).ok()?;
        if body.len() > limit {
            if let TooLarge::Answer413 = too_large {
                let head =
                    "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close";
                write!(client, "{head}\r\n\r\n").ok()?;
                client.shutdown(Shutdown::Write).ok()?;
                client.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
                let _is_gone = std::io::copy(&mut from, &mut std::io::sink());
            }
            return None;
        }
        if size == 0 {
            break;
        }
    }
    let mut to = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).ok()?;
    let mut lines = head.iter();
    write!(to, "{}\r\n", lines.next()?.replace("HTTP/1.1", "HTTP/1.0")).ok()?;
    for line in lines.filter(|it| !it.to_ascii_lowercase().starts_with("transfer-encoding")) {
        write!(to, "{line}\r\n").ok()?;
    }
    write!(
        to,
        "content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .ok()?;
    to.write_all(&body).ok()?;
    std::io::copy(&mut to, &mut client).ok()?;
    count.fetch_add(1, Ordering::Relaxed);
    Some(())
}

fn port(address: &str) -> u16 {
    let (_, port) = address.rsplit_once(':').expect("a port");
    port.parse().expect("a number")
}

/// Two megabytes get through a proxy that takes a quarter of one at once.
fn entries_get_through(too_large: TooLarge) {
    let place = Place::new();
    place.line("a", &["new", "notes", "--anyone", "write"]);
    let server = place.serve_with("a", &["--no-iroh"]);
    let (proxy, passed) = proxy(port(server.address("http")), 256 << 10, too_large);
    let ticket = &server.tickets[0];
    let (rest, _) = ticket.rsplit_once(':').expect("a port");
    place.line("b", &["join", &format!("{rest}:{proxy}")]);
    let mut state = 1_u64;
    let mut input = Vec::new();
    for _ in 0..2_000 {
        let line = (0..1_000).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b'!' + (state >> 33) as u8 % 90
        });
        input.extend(line);
        input.push(b'\n');
    }
    assert_eq!(
        lines(&place.run_with("b", &["append", "notes", "--lines"], &input)).len(),
        2_000
    );
    let before = passed.load(Ordering::Relaxed);
    let synced = place.json("b", &["sync", "notes", "--json"]);
    assert_eq!(synced["outcome"], "equal");
    assert_eq!(synced["stats"]["peer_stored"], 2_000);
    assert!(passed.load(Ordering::Relaxed) - before >= 8);
    assert_eq!(
        place.lines("a", &["tips", "notes"]),
        place.lines("b", &["tips", "notes"])
    );
    // The limit is remembered: another megabyte needs no request that is too large.
    lines(&place.run_with(
        "b",
        &["append", "notes", "--lines"],
        &input[..input.len() / 2],
    ));
    assert_eq!(
        place.json("b", &["sync", "notes", "--json"])["outcome"],
        "equal"
    );
    server.stop();
}

#[test]
fn a_push_is_split_where_a_proxy_answers_413() {
    entries_get_through(TooLarge::Answer413);
}

#[test]
fn a_push_is_split_where_a_proxy_cuts_it() {
    entries_get_through(TooLarge::Cut);
}

#[test]
fn tickets_and_invites_name_the_advertised_address() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes", "--anyone", "read"]);
    let url = "http://sync.example.org/team/";
    let server = place.serve_with("a", &["--no-iroh", "--advertise", url]);
    assert_eq!(server.addresses, ["http:sync.example.org:80/team"]);
    let ticket = place.line("a", &["ticket", "notes"]);
    let invite = place.line("a", &["invite", "notes"]);
    for ticket in [&server.tickets[0], &ticket, &invite] {
        assert!(
            ticket.contains("at=http:sync.example.org:80/team"),
            "{ticket}"
        );
    }
    server.stop();
    // A path leads through to the server.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    let bind = free.expect("a free port").to_string();
    let url = format!("http://{bind}/team");
    let server = place.serve_with("a", &["--no-iroh", "--http", &bind, "--advertise", &url]);
    assert_eq!(place.line("b", &["join", &server.tickets[0]]), tree);
    lines(&place.run("b", &["sync", "notes", "--at", &url]));
    let said = refusal(
        &place.run("b", &["sync", "notes", "--at", &format!("{url}s")]),
        1,
    );
    assert!(said.contains("404"), "{said}");
    server.stop();
    refusal(
        &place.run("a", &["serve", "--advertise", "http://h/?query"]),
        2,
    );
}

#[test]
fn a_server_answers_to_its_own_names_only() {
    let place = Place::new();
    place.line("a", &["new", "notes", "--anyone", "read"]);
    let server = place.serve_with("a", &["--no-iroh", "--allow-host", "sync.lan"]);
    let port = port(server.address("http"));
    let status = |hosts: &[&str]| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        let hosts: String = hosts.iter().map(|it| format!("Host: {it}\r\n")).collect();
        let head = "GET /eidetica/v2/trees HTTP/1.1\r\nConnection: close";
        write!(stream, "{head}\r\n{hosts}\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer[9..12].to_owned()
    };
    for host in ["127.0.0.1", "localhost:80", "[::1]:1", "SYNC.lan"] {
        assert_eq!(status(&[host]), "200", "{host}");
    }
    for host in ["evil.example", "sync.lan.evil.example", "x"] {
        assert_eq!(status(&[host]), "421", "{host}");
    }
    assert_eq!(status(&[]), "400");
    assert_eq!(status(&["localhost", "localhost"]), "400");
    server.stop();
}
