//! Servers that speak TLS.

use std::fs;

use super::place::{Place, refusal};

#[test]
fn two_copies_become_equal_over_https() {
    let place = Place::new();
    let tree = place.line("a", &["new", "shared", "--anyone", "write"]);
    let self_signed = ["--tls-self-signed", "--tls-name", "127.0.0.1"];
    let server = place.serve_with("a", &self_signed);
    let https = server.addresses.iter().find(|it| it.starts_with("https:"));
    let https = https.expect("it speaks TLS").clone();
    let certificate = server.certificate.clone().expect("it signed its own");
    let key = place.path("a").join("tls-key.pem");
    let secret = fs::read(&key).expect("readable");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // Clients are given a copy, and the server may make another certificate with the same key.
    let given = place.path("given.pem");
    fs::copy(&certificate, &given).expect("readable");
    let given = given.to_str().expect("text");

    // Another server's certificate, of the same form, is not this one.
    place.line("x", &["init"]);
    let other = place.serve_with("x", &["--tls-self-signed"]);
    let wrong = other.certificate.clone().expect("it signed its own");
    let ticket = &server.tickets[0];
    let join = ["join", ticket, "--via", "http", "--json", "--tls-ca"];
    let said = refusal(&place.run("b", &[&join[..], &[&wrong]].concat()), 1);
    assert!(said.contains("not signed by a trusted issuer"), "{said}");
    assert!(said.contains("hint: copy the certificate"), "{said}");
    assert!(said.contains("--tls-ca"), "{said}");

    let joined = place.json("b", &[&join[..], &[given]].concat());
    assert_eq!(joined["address"], https.as_str());
    assert_eq!(
        (&joined["transport"], &joined["outcome"]),
        (&"https".into(), &"equal".into())
    );
    place.line("b", &["append", "shared", "from b"]);
    server.stop();

    let server = place.serve_with("a", &["--tls-self-signed"]);
    assert_eq!(fs::read(&key).expect("readable"), secret, "the key stays");
    let https = server.addresses.iter().find(|it| it.starts_with("https:"));
    let at = ["sync", "shared", "--json", "--at", https.expect("TLS")];
    let synced = place.json("b", &[&at[..], &["--tls-ca", given]].concat());
    assert_eq!(
        (&synced["outcome"], &synced["stats"]["sent"]),
        (&"equal".into(), &1.into())
    );
    server.stop();

    // A server carries it out with what the one who asks trusts, and not with what it trusts itself.
    let server = place.serve_with("a", &["--tls-self-signed"]);
    let https = server.addresses.iter().find(|it| it.starts_with("https:"));
    let at = ["sync", "shared", "--json", "--at", https.expect("TLS")];
    let other = place.serve("b");
    refusal(&place.run("b", &at), 1);
    let mut trusts = place.command("b", &[&at[..], &["--tls-ca", "given.pem"]].concat());
    let trusts = trusts.current_dir(place.path("")).output();
    assert!(trusts.expect("it starts").status.success());
    other.stop();
    server.stop();

    // The same files, as an authority's would be given.
    let key = key.to_str().expect("text");
    let server = place.serve_with("a", &["--tls-cert", &certificate, "--tls-key", key]);
    assert_eq!(server.certificate, None);
    let https = server.addresses.iter().find(|it| it.starts_with("https:"));
    let at = ["sync", &tree, "--json", "--at", https.expect("TLS")];
    let synced = place.json("b", &[&at[..], &["--tls-ca", given]].concat());
    assert_eq!(synced["outcome"], "equal");
    server.stop();
    assert_eq!(
        place.lines("a", &["tips", "shared"]),
        place.lines("b", &["tips", "shared"])
    );
}

#[test]
fn certificates_that_make_no_sense_are_refused() {
    let place = Place::new();
    place.line("a", &["init"]);
    for (args, code, expected) in [
        (&["--tls-cert", "x"][..], 2, "--tls-key"),
        (&["--tls-self-signed", "--no-http"], 2, "cannot be used"),
        (&["--tls-name", "x"], 1, "--tls-self-signed"),
        (
            &["--tls-cert", "absent", "--tls-key", "absent"],
            1,
            "absent",
        ),
        (&["--tls-self-signed", "--tls-name", "ä"], 1, "certificate"),
    ] {
        let args = [&["serve", "--loopback"], args].concat();
        let said = refusal(&place.run("a", &args), code);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}
