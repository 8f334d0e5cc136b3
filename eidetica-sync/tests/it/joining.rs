//! Joining a private tree: by request, by invite, and being refused.

use std::time::Duration;

use crate::common::{assert_equal, at, node, texts, write};
use eidetica_dag::{Role, Subject, TreeId};
use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::joining::{INVITES_PER_TREE_MAX, REQUESTS_PER_TREE_MAX};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_proto::{ErrorCode, SyncFault, Ticket};
use eidetica_sync::{Event, InviteTerms, JoinOptions, Joined, Node, SyncError, TreeError};
use futures::StreamExt;

async fn private_tree(admin: &Node) -> TreeId {
    let tree = admin
        .create_tree("private", vec![])
        .await
        .expect("well formed");
    write(admin, tree, "one").await;
    tree
}

fn wants(role: Role, note: &str) -> JoinOptions {
    JoinOptions {
        role: Some(role),
        note: note.into(),
    }
}

async fn joins(node: &Node, ticket: &Ticket) -> Joined {
    let joined = node.join(ticket, JoinOptions::default()).await;
    joined.expect("the peer answers")
}

async fn invite(node: &Node, tree: TreeId, role: Role, uses: u32) -> Ticket {
    let terms = InviteTerms {
        role,
        valid_for: Duration::from_secs(3_600),
        uses,
    };
    node.invite(tree, terms).await.expect("an admin")
}

fn refusal(error: &SyncError) -> ErrorCode {
    match error {
        SyncError::Peer {
            source: SyncFault::Refused(error),
            ..
        } => error.code,
        other => panic!("not a refusal: {other}"),
    }
}

#[tokio::test]
async fn an_approved_request_lets_its_joiner_in() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    let mut events = a.events();
    let options = wants(Role::Write, "Bob's laptop");
    for _ in 0..2 {
        let joined = b.join(&ticket, options.clone()).await.expect("a answers");
        assert_eq!(joined, Joined::Pending);
    }
    let requests = a.join_requests(Some(tree)).await.expect("in memory");
    assert_eq!(requests.len(), 1, "the second request is the first one");
    let request = &requests[0];
    assert_eq!((request.tree, request.key), (tree, b.key()));
    assert_eq!(request.waiting.note, "Bob's laptop");
    let told = loop {
        if let Event::JoinRequested { tree, key, role } = events.next().await.expect("alive") {
            break (tree, key, role);
        }
    };
    assert_eq!(told, (tree, b.key(), Role::Write));

    let role = a.approve(tree, b.key(), None).await.expect("a is admin");
    assert_eq!(role, Role::Write);
    assert_eq!(a.join_requests(None).await.expect("in memory"), []);
    let joined = b.join(&ticket, options).await.expect("a answers");
    assert!(matches!(joined, Joined::Synced(_)), "{joined:?}");
    write(&b, tree, "two").await;
    b.sync(tree, at("a")).await.expect("b may write");
    assert_equal(&a, &b, tree).await;
}

#[tokio::test(start_paused = true)]
async fn approval_reaches_a_joiner_that_waits() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    let waiting = tokio::spawn({
        let (b, ticket) = (b.clone(), ticket.clone());
        async move { b.join_and_wait(&ticket, JoinOptions::default()).await }
    });
    let mut events = a.events();
    loop {
        if let Event::JoinRequested { .. } = events.next().await.expect("alive") {
            break;
        }
    }
    // The admin takes a day, and b asks twice a minute.
    tokio::time::advance(Duration::from_secs(86_400)).await;
    assert!(!waiting.is_finished());
    a.approve(tree, b.key(), None).await.expect("a is admin");
    let joined = waiting.await.expect("it does not panic").expect("let in");
    assert!(matches!(joined, Joined::Synced(_)), "{joined:?}");
    assert_equal(&a, &b, tree).await;
}

#[tokio::test(start_paused = true)]
async fn approval_reaches_a_joiner_that_follows() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    assert_eq!(joins(&b, &ticket).await, Joined::Pending);
    let mut events = b.events();
    b.follow(tree, &ticket).await.expect("b runs");
    let waits = |node: &Node| {
        let followed = node.followed(tree, a.key()).and_then(|it| it.status());
        matches!(
            followed.map(|it| it.state),
            Some(LaneStatus::WaitingForAccess)
        )
    };
    while !waits(&b) {
        events.next().await.expect("alive");
    }
    // A wait of any length is no failure: the watch tells when it is over.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let approved = tokio::time::Instant::now();
    a.approve(tree, b.key(), None).await.expect("a is admin");
    while !matches!(
        events.next().await.expect("alive"),
        Event::SyncEnded { result: Ok(_), .. }
    ) {}
    assert!(
        approved.elapsed() < Duration::from_millis(10),
        "{:?}",
        approved.elapsed()
    );
    assert_equal(&a, &b, tree).await;
}

/// A joiner may ask any peer of the tree: the approval is an entry, and travels like one.
#[tokio::test]
async fn approval_reaches_a_joiner_through_others() {
    let network = MemoryNetwork::new();
    let (admin, server, joiner) = (
        node(&network, "admin").await,
        node(&network, "server").await,
        node(&network, "joiner").await,
    );
    let tree = private_tree(&admin).await;
    admin
        .grant(tree, Subject::Key(server.key()), Role::Read)
        .await
        .expect("admin");
    server.sync(tree, at("admin")).await.expect("it may read");
    let ticket = server.ticket(tree).await;
    assert_eq!(joins(&joiner, &ticket).await, Joined::Pending);
    let error = server.approve(tree, joiner.key(), None).await;
    assert!(matches!(error, Err(TreeError::Refused(_))), "{error:?}");
    let requests = server.join_requests(None).await.expect("in memory");
    assert_eq!(requests.len(), 1, "what failed changes nothing");
    admin
        .grant(tree, Subject::Key(joiner.key()), Role::Read)
        .await
        .expect("admin");
    server.sync(tree, at("admin")).await.expect("it may read");
    assert!(matches!(joins(&joiner, &ticket).await, Joined::Synced(_)));
    assert_equal(&admin, &joiner, tree).await;
}

#[tokio::test]
async fn a_rejected_requester_learns_of_it() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    assert_eq!(joins(&b, &ticket).await, Joined::Pending);
    a.reject(tree, b.key()).await.expect("it is there");
    assert_eq!(joins(&b, &ticket).await, Joined::Rejected);
    let requests = a.join_requests(Some(tree)).await.expect("in memory");
    assert!(requests[0].waiting.rejected);
    // An admin may change their mind.
    a.approve(tree, b.key(), None).await.expect("it is there");
    assert!(matches!(joins(&b, &ticket).await, Joined::Synced(_)));
    let rejected = a.reject(tree, a.key()).await;
    assert!(matches!(rejected, Err(TreeError::NoSuchRequest(_))));
}

#[tokio::test]
async fn a_request_never_grants_admin_by_default() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    let asked = b.join(&ticket, wants(Role::Admin, "")).await;
    assert_eq!(asked.expect("a answers"), Joined::Pending);
    let role = a.approve(tree, b.key(), None).await.expect("a is admin");
    assert_eq!(role, Role::Write);
}

#[tokio::test(start_paused = true)]
async fn a_lower_role_than_requested_is_enough_to_join() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    let options = wants(Role::Write, "");
    let asked = b.join(&ticket, options.clone()).await.expect("a answers");
    assert_eq!(asked, Joined::Pending);
    let role = a.approve(tree, b.key(), Some(Role::Read)).await;
    assert_eq!(role.expect("a is admin"), Role::Read);
    let joined = b.join_and_wait(&ticket, options).await.expect("let in");
    assert!(matches!(joined, Joined::Synced(_)), "{joined:?}");
}

#[tokio::test]
async fn approval_takes_no_role_away() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    assert_eq!(joins(&b, &ticket).await, Joined::Pending);
    let subject = Subject::Key(b.key());
    a.grant(tree, subject, Role::Write).await.expect("admin");
    let role = a.approve(tree, b.key(), None).await.expect("it asked");
    assert_eq!(role, Role::Write);
    assert!(
        a.access(tree)
            .await
            .expect("in memory")
            .contains(&(subject, Role::Write))
    );
}

/// A key that was let in by name and revoked cannot use an invite that it kept.
#[tokio::test]
async fn a_revoked_key_cannot_use_an_old_invite() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = invite(&a, tree, Role::Write, 5).await;
    let subject = Subject::Key(b.key());
    a.grant(tree, subject, Role::Write).await.expect("admin");
    // It has the role, so it uses nothing up.
    assert!(matches!(joins(&b, &ticket).await, Joined::Synced(_)));
    a.revoke(tree, subject).await.expect("admin");
    let error = b.join(&ticket, JoinOptions::default()).await;
    assert_eq!(refusal(&error.expect_err("revoked")), ErrorCode::NotFound);
    let open = a.invites(tree).await.expect("in memory");
    assert_eq!(open[0].terms.uses_left, 5, "others may still use it");
}

/// A writer leaves very many tips from before a grant; a revocation on top of some of them has to
/// count all the same.
#[tokio::test]
async fn many_tips_hide_no_grant_from_a_revocation() {
    use eidetica_dag::{Body, Entry, PARENTS_MAX, SecretKey, VerifiedEntry};
    let network = MemoryNetwork::new();
    let a = node(&network, "a").await;
    let [flooder, friend] = [8, 9].map(|byte| SecretKey::from_bytes(&[byte; 32]));
    let tree = private_tree(&a).await;
    let grant = |key: &SecretKey| (Subject::Key(key.public()), Role::Write);
    let (subject, role) = grant(&flooder);
    let base = a.grant(tree, subject, role).await.expect("admin");
    let base = a.entry(tree, base).await.expect("in memory").expect("here");
    let tips = (0..2 * PARENTS_MAX).map(|n| {
        let entry = Entry {
            tree: Some(tree),
            parents: vec![base.id()],
            height: base.entry().height + 1,
            timestamp_ms: 0,
            author: flooder.public(),
            body: Body::Data(n.to_string().into()),
        };
        VerifiedEntry::sign(entry, &flooder).expect("well formed")
    });
    a.insert(tree, tips.collect()).await.expect("it may write");
    // A chain beside them, at the end of which a friend is let in.
    let mut last = base;
    for n in 0..10 {
        let entry = Entry {
            tree: Some(tree),
            parents: vec![last.id()],
            height: last.entry().height + 1,
            timestamp_ms: 0,
            author: a.key(),
            body: match n {
                9 => Body::Access(vec![eidetica_dag::AccessChange::grant(
                    grant(&friend).0,
                    Role::Write,
                )]),
                n => Body::Data(format!("chain {n}").into()),
            },
        };
        let entry = VerifiedEntry::sign(entry, &crate::common::secret("a")).expect("well formed");
        last = entry.get().clone();
        a.insert(tree, vec![entry]).await.expect("a is admin");
    }
    a.revoke(tree, grant(&friend).0).await.expect("admin");
    let access = a.access(tree).await.expect("in memory");
    assert!(!access.contains(&grant(&friend)), "{access:?}");
}

#[tokio::test]
async fn an_invite_lets_in_at_once_and_once() {
    let network = MemoryNetwork::new();
    let (a, b, c) = (
        node(&network, "a").await,
        node(&network, "b").await,
        node(&network, "c").await,
    );
    let tree = private_tree(&a).await;
    let ticket = invite(&a, tree, Role::Write, 1).await;
    let ticket: Ticket = ticket.to_string().parse().expect("it is read back");
    for _ in 0..2 {
        assert!(matches!(joins(&b, &ticket).await, Joined::Synced(_)));
    }
    write(&b, tree, "two").await;
    b.sync(tree, at("a")).await.expect("b may write");
    assert_equal(&a, &b, tree).await;
    assert_eq!(a.invites(tree).await.expect("in memory"), []);
    let error = c.join(&ticket, JoinOptions::default()).await;
    let error = error.expect_err("it is used up");
    assert_eq!(refusal(&error), ErrorCode::NotFound);
    assert_eq!(c.trees().await.expect("in memory"), []);
}

#[tokio::test]
async fn a_revoked_key_stays_out() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = invite(&a, tree, Role::Write, 5).await;
    joins(&b, &ticket).await;
    a.revoke(tree, Subject::Key(b.key())).await.expect("admin");
    write(&a, tree, "for others").await;
    let error = b.sync(tree, at("a")).await.expect_err("revoked");
    assert_eq!(refusal(&error), ErrorCode::NotFound);
    let error = b.join(&ticket, JoinOptions::default()).await;
    let error = error.expect_err("its invite was for once");
    assert_eq!(refusal(&error), ErrorCode::NotFound);
    // b keeps what it had. What it writes now, a takes only by asking for it: b may not know yet.
    assert_eq!(texts(&b, tree).await, ["one"]);
    write(&b, tree, "into the void").await;
    b.sync(tree, at("a")).await.expect_err("revoked");
    a.sync(tree, at("b")).await.expect("a may ask b");
    assert_eq!(texts(&b, tree).await.len(), 2, "b is sent nothing");
}

#[tokio::test]
async fn a_withdrawn_invite_is_worth_nothing() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    let ticket = invite(&a, tree, Role::Read, 1).await;
    let open = a.invites(tree).await.expect("in memory");
    assert_eq!((open.len(), open[0].terms.uses_left), (1, 1));
    a.withdraw_invite(tree, open[0].invite)
        .await
        .expect("in memory");
    let error = b.join(&ticket, JoinOptions::default()).await;
    assert_eq!(refusal(&error.expect_err("withdrawn")), ErrorCode::NotFound);
}

#[tokio::test]
async fn only_admins_invite() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    joins(&b, &invite(&a, tree, Role::Write, 1).await).await;
    let terms = InviteTerms {
        role: Role::Read,
        valid_for: Duration::from_secs(60),
        uses: 1,
    };
    let made = b.invite(tree, terms).await;
    assert!(matches!(made, Err(TreeError::NotAdmin(_))), "{made:?}");
    let absent = TreeId::from_root(eidetica_dag::EntryId::from_bytes([3; 32]));
    let made = a.invite(absent, terms).await;
    assert!(matches!(made, Err(TreeError::NoSuchTree(_))), "{made:?}");
}

/// An admin who has lost the role can no longer let anybody in by its old invites.
#[tokio::test]
async fn an_invite_needs_its_maker_to_be_admin() {
    let network = MemoryNetwork::new();
    let (a, b, c) = (
        node(&network, "a").await,
        node(&network, "b").await,
        node(&network, "c").await,
    );
    let tree = private_tree(&a).await;
    joins(&b, &invite(&a, tree, Role::Admin, 1).await).await;
    let ticket = invite(&b, tree, Role::Read, 1).await;
    a.grant(tree, Subject::Key(b.key()), Role::Write)
        .await
        .expect("admin");
    b.sync(tree, at("a")).await.expect("b may read");
    let error = c.join(&ticket, JoinOptions::default()).await;
    assert_eq!(
        refusal(&error.expect_err("b is no admin")),
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn requests_and_invites_are_bounded() {
    let network = MemoryNetwork::new();
    let a = node(&network, "a").await;
    let tree = private_tree(&a).await;
    let ticket = a.ticket(tree).await;
    for n in 0..=REQUESTS_PER_TREE_MAX {
        let joiner = node(&network, &format!("joiner-{n}")).await;
        // All come from one network, so none has to give way to another.
        match joiner.join(&ticket, JoinOptions::default()).await {
            Ok(joined) => assert!(n < REQUESTS_PER_TREE_MAX && joined == Joined::Pending),
            Err(error) => {
                assert_eq!(n, REQUESTS_PER_TREE_MAX, "{error}");
                assert_eq!(refusal(&error), ErrorCode::Busy);
            }
        }
        joiner.shutdown().await.expect("nothing is left running");
    }
    let requests = a.join_requests(None).await.expect("in memory");
    assert_eq!(requests.len(), REQUESTS_PER_TREE_MAX);
    let rejected = a.reject_all(tree).await.expect("in memory");
    assert_eq!(rejected, REQUESTS_PER_TREE_MAX);
    let joiner = node(&network, "after").await;
    assert_eq!(joins(&joiner, &ticket).await, Joined::Pending);
    let terms = InviteTerms {
        role: Role::Read,
        valid_for: Duration::from_secs(60),
        uses: 1,
    };
    let with_invite = a.invite(tree, terms).await.expect("there is room");
    for _ in 1..INVITES_PER_TREE_MAX {
        a.invite(tree, terms).await.expect("there is room");
    }
    let one_more = a.invite(tree, terms).await;
    assert!(matches!(one_more, Err(TreeError::TooManyInvites(_))));
    // Those who waited are not pushed out, and a joiner with an invite needs no room.
    let late = node(&network, "late").await;
    assert!(matches!(
        joins(&late, &with_invite).await,
        Joined::Synced(_)
    ));
}

#[tokio::test]
async fn an_open_tree_needs_no_request() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = crate::common::tree(&a, &["one"]).await;
    assert!(matches!(
        joins(&b, &a.ticket(tree).await).await,
        Joined::Synced(_)
    ));
    assert_eq!(a.join_requests(None).await.expect("in memory"), []);
}
