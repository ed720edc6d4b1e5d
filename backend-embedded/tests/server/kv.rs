//! KV, Cluster and Maintenance through crate `etcd-client`.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse,
};

use crate::support::Served;

fn texts(kvs: &[etcd_client::KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| kv.key_str().expect("text")).collect()
}

#[tokio::test]
async fn a_key_lives_through_its_revisions() {
    let served = Served::start();
    let mut client = served.client().await;

    let put = client.put("k", "1", None).await.expect("put");
    let first = put.header().expect("a header").revision();
    assert!(put.prev_key().is_none());
    let options = PutOptions::new().with_prev_key();
    let put = client.put("k", "2", Some(options)).await.expect("put");
    assert_eq!(put.header().expect("a header").revision(), first + 1);
    assert_eq!(put.prev_key().expect("the old state").value(), b"1");

    let got = client.get("k", None).await.expect("get");
    let [kv] = got.kvs() else {
        panic!("not one key: {got:?}")
    };
    assert_eq!(
        (
            kv.value(),
            kv.create_revision(),
            kv.mod_revision(),
            kv.version(),
            kv.lease()
        ),
        (&b"2"[..], first, first + 1, 2, 0)
    );
    assert_eq!(got.header().expect("a header").revision(), first + 1);

    let options = DeleteOptions::new().with_prev_key();
    let deleted = client.delete("k", Some(options)).await.expect("delete");
    assert_eq!(
        (deleted.deleted(), deleted.prev_kvs()[0].value()),
        (1, &b"2"[..])
    );
    assert_eq!(deleted.header().expect("a header").revision(), first + 2);
    let again = client.delete("k", None).await.expect("delete");
    assert_eq!(again.deleted(), 0);
    assert_eq!(again.header().expect("a header").revision(), first + 2);

    client.put("k", "3", None).await.expect("put");
    let got = client.get("k", None).await.expect("get");
    assert_eq!(
        (got.kvs()[0].create_revision(), got.kvs()[0].version()),
        (first + 3, 1)
    );
    served.stop().await;
}

#[tokio::test]
async fn headers_name_one_member_of_one_cluster() {
    let served = Served::start();
    let mut client = served.client().await;
    let status = client.status().await.expect("status");
    let header = status.header().expect("a header");
    assert_ne!(header.cluster_id(), 0);
    assert_ne!(header.member_id(), 0);
    assert_eq!(status.leader(), header.member_id());
    assert!(status.version().starts_with("3."), "{}", status.version());
    assert!(!status.is_learner());
    let put = client.put("k", "v", None).await.expect("put");
    let other = put.header().expect("a header");
    assert_eq!(
        (header.cluster_id(), header.member_id(), header.raft_term()),
        (other.cluster_id(), other.member_id(), other.raft_term())
    );
    let list = client.member_list().await.expect("members");
    let [member] = list.members() else {
        panic!("not one member: {list:?}")
    };
    assert_eq!(member.id(), header.member_id());
    assert_eq!(
        member.client_urls(),
        [
            served.endpoint(),
            format!("unix://{}", served.socket.display())
        ]
    );
    served.stop().await;
}

#[tokio::test]
async fn ranges_select_sort_and_limit() {
    let served = Served::start();
    let mut client = served.client().await;
    let mut revisions = Vec::new();
    for (key, value) in [("b", "3"), ("a", "1"), ("c", "2"), ("d", "0"), ("a", "4")] {
        let put = client.put(key, value, None).await.expect("put");
        revisions.push(put.header().expect("a header").revision());
    }
    let mut get =
        async |key: &str, options: GetOptions| client.get(key, Some(options)).await.expect("get");

    let all = get("", GetOptions::new().with_all_keys()).await;
    assert_eq!(texts(all.kvs()), ["a", "b", "c", "d"]);
    let some = get("b", GetOptions::new().with_range("d")).await;
    assert_eq!(texts(some.kvs()), ["b", "c"]);
    let rest = get("b", GetOptions::new().with_from_key()).await;
    assert_eq!(texts(rest.kvs()), ["b", "c", "d"]);
    let none = get("d", GetOptions::new().with_range("b")).await;
    assert_eq!((none.kvs().len(), none.count()), (0, 0));

    let first = get("a", GetOptions::new().with_from_key().with_limit(2)).await;
    assert_eq!(
        (texts(first.kvs()), first.more(), first.count()),
        (vec!["a", "b"], true, 4)
    );
    let count = get("a", GetOptions::new().with_from_key().with_count_only()).await;
    assert_eq!((count.kvs().len(), count.count()), (0, 4));
    let keys = get("a", GetOptions::new().with_keys_only()).await;
    assert_eq!(
        (keys.kvs()[0].value(), keys.kvs()[0].version()),
        (&b""[..], 2)
    );

    for (target, order, expected) in [
        (SortTarget::Key, SortOrder::Descend, ["d", "c", "b", "a"]),
        (SortTarget::Create, SortOrder::Ascend, ["b", "a", "c", "d"]),
        (SortTarget::Mod, SortOrder::Descend, ["a", "d", "c", "b"]),
        (SortTarget::Value, SortOrder::Ascend, ["d", "c", "b", "a"]),
    ] {
        let sorted = get(
            "a",
            GetOptions::new().with_from_key().with_sort(target, order),
        )
        .await;
        assert_eq!(texts(sorted.kvs()), expected, "{target:?} {order:?}");
    }

    let since = GetOptions::new()
        .with_from_key()
        .with_min_mod_revision(revisions[3]);
    assert_eq!(texts(get("a", since).await.kvs()), ["a", "d"]);
    let before = GetOptions::new()
        .with_from_key()
        .with_max_create_revision(revisions[1]);
    assert_eq!(texts(get("a", before).await.kvs()), ["a", "b"]);
    served.stop().await;
}

#[tokio::test]
async fn a_transaction_takes_one_branch_at_one_revision() {
    let served = Served::start();
    let mut client = served.client().await;
    let put = client.put("k", "v", None).await.expect("put");
    let revision = put.header().expect("a header").revision();

    let holding = [
        Compare::version("k", CompareOp::Equal, 1),
        Compare::create_revision("k", CompareOp::Less, revision + 1),
        Compare::mod_revision("k", CompareOp::Greater, revision - 1),
        Compare::value("k", CompareOp::NotEqual, "w"),
        Compare::lease("k", CompareOp::Equal, 0),
        Compare::version("absent", CompareOp::Equal, 0),
        Compare::create_revision("k", CompareOp::Equal, revision).with_prefix(),
    ];
    let nested = Txn::new()
        .when([Compare::value("k", CompareOp::Equal, "no")])
        .or_else([TxnOp::put("b", "2", None)]);
    let txn = Txn::new().when(holding).and_then([
        TxnOp::put("a", "1", None),
        TxnOp::txn(nested),
        TxnOp::get("a", None),
        TxnOp::delete("k", None),
    ]);
    let done = client.txn(txn).await.expect("txn");
    assert!(done.succeeded());
    assert_eq!(done.header().expect("a header").revision(), revision + 1);
    let responses = done.op_responses();
    let [
        TxnOpResponse::Put(_),
        TxnOpResponse::Txn(inner),
        TxnOpResponse::Get(got),
        TxnOpResponse::Delete(deleted),
    ] = responses.as_slice()
    else {
        panic!("other kinds of answers: {responses:?}")
    };
    assert!(!inner.succeeded());
    assert_eq!(got.kvs()[0].mod_revision(), revision + 1);
    assert_eq!(deleted.deleted(), 1);

    for failing in [
        Compare::version("a", CompareOp::NotEqual, 1),
        Compare::value("absent", CompareOp::NotEqual, "v"),
        Compare::create_revision("absent", CompareOp::Greater, 0),
        Compare::lease("a", CompareOp::Greater, 0),
    ] {
        let txn = Txn::new()
            .when([failing.clone()])
            .and_then([TxnOp::put("never", "", None)]);
        let done = client.txn(txn).await.expect("txn");
        assert!(!done.succeeded(), "{failing:?}");
        assert_eq!(done.header().expect("a header").revision(), revision + 1);
    }
    served.stop().await;
}
