//! Real servers get an older copy of their data back under a client that goes on.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use lock_core::{Error, ErrorKind, LockName, Locks, LossReason, Raised, Token};
use support::{locks, name, soon};
use testkit::fixtures::zk::{Ensemble, Settings};

const TICK: Duration = Duration::from_millis(500);
const TTL: Duration = Duration::from_secs(3);

async fn try_take(locks: &Locks, name: &LockName) -> Result<Token, Error> {
    let mutex = locks.mutex(name).expect("valid");
    let guard = soon("our turn, or an error", mutex.acquire()).await?;
    let token = guard.token();
    // The next one waits for it, however this ends.
    let _ = guard.release().await;
    Ok(token)
}

async fn take(locks: &Locks, name: &LockName) -> Token {
    let taken = try_take(locks, name).await;
    taken.unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn refusal(locks: &Locks, name: &LockName) -> Error {
    let error = try_take(locks, name).await.expect_err("nothing is given");
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    let text = error.to_string();
    assert!(text.contains("went back to before zxid"), "{text}");
    error
}

/// Returns the offset that an error asks for.
fn offset_in(error: &Error) -> u64 {
    let text = error.to_string();
    let (_, number) = text.rsplit_once("--raise-to ").expect("the remedy");
    number.parse().expect("a number")
}

/// Raises the offset as an operator does, once no session is left.
async fn raise(url: &str, offset: u64) {
    let operator = locks(url, TTL);
    let raised = async {
        while operator.raise_token_offset(offset).await.expect("served") == Raised::InUse {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("no session is left", raised).await;
}

/// Stops all servers, does this with the folder of each, and starts them again.
fn while_stopped(ensemble: &mut Ensemble, work: impl Fn(usize, &Path)) {
    let nodes = 0..ensemble.size();
    nodes.clone().for_each(|node| ensemble.kill(node));
    nodes
        .clone()
        .for_each(|node| work(node, &ensemble.data(node)));
    nodes.clone().for_each(|node| ensemble.spawn(node));
    nodes.for_each(|node| ensemble.wait_serving(node));
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for file in fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

async fn older_servers_give_no_token_until_the_offset_is_above_all_of_them(nodes: usize) {
    let mut ensemble = Ensemble::start(Settings {
        nodes,
        tick: TICK,
        ..Settings::default()
    });
    let backup = tempfile::TempDir::new().expect("a folder");
    let copy_of = |node: usize| backup.path().join(node.to_string());
    let url = ensemble.url();
    let (native, raw) = (name("a"), LockName::raw("/raw/a").expect("valid"));
    take(&locks(&url, TTL), &native).await;
    while_stopped(&mut ensemble, |node, data| copy(data, &copy_of(node)));

    // The leader of three that go back has the same epoch as the one before, but gives the numbers
    // from the first.
    let client = locks(&url, TTL);
    take(&client, &raw).await;
    let mut last = take(&client, &native).await;
    for _ in 0..20 {
        last = take(&client, &native).await;
    }
    let mutex = client.mutex(name("held")).expect("valid");
    let held = soon("our turn", mutex.acquire()).await.expect("acquired");
    while_stopped(&mut ensemble, |node, data| {
        fs::remove_dir_all(data).expect("removed");
        copy(&copy_of(node), data);
    });

    let reason = soon("the loss", held.lost()).await;
    let reasons = [LossReason::Expired, LossReason::SessionGone];
    assert!(reasons.contains(&reason), "{reason}");
    let error = refusal(&client, &native).await;
    assert!(error.to_string().contains(ensemble.address(0)), "{error}");
    refusal(&client, &raw).await;
    let offset = offset_in(&error);
    assert!(offset >= last.0, "{offset} {last:?}");

    raise(&url, offset - 1).await;
    refusal(&client, &native).await;
    raise(&url, offset).await;
    let first = take(&client, &native).await;
    assert!(first.0 > offset, "{first:?} {offset}");
    assert!(take(&client, &native).await > first);
    let error = try_take(&client, &raw).await.expect_err("it has no offset");
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
}

#[tokio::test]
async fn an_older_server_gives_no_token_until_the_offset_is_above_all_of_them() {
    older_servers_give_no_token_until_the_offset_is_above_all_of_them(1).await;
}

#[tokio::test]
async fn an_older_ensemble_gives_no_token_until_the_offset_is_above_all_of_them() {
    older_servers_give_no_token_until_the_offset_is_above_all_of_them(3).await;
}
