//! An acquire and a release by one client, on each backend that was compiled in, also of a lock that
//! its process keeps.

use benches::servers::{self, Server};
use criterion::Criterion;
use load::runtime;
use turnlock::Sticky;

fn main() {
    servers::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = runtime().expect("the operating system gives threads");
    for name in servers::names() {
        let server = Server::start(name);
        let target = server.target();
        let mut group = criterion.benchmark_group(name);
        let locks = target.session().expect("valid options");
        let lock = locks.mutex("a").expect("a valid name");
        group.bench_function("acquire and release", |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let guard = lock.acquire().await.expect("the server serves");
                guard.release().await.expect("an answer")
            });
        });
        let kept = locks.mutex("kept").expect("a valid name");
        let kept = kept.sticky(Sticky::default()).expect("in bounds");
        group.bench_function("acquire and release, sticky", |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let guard = kept.acquire().await.expect("the server serves");
                guard.release().await.expect("an answer")
            });
        });
        let stats = kept.sticky_stats();
        println!("{} hits, {} places", stats.hits, stats.placed);
        let rwlock = locks.rwlock("b").expect("a valid name");
        let reader = runtime.block_on(rwlock.read());
        group.bench_function("try_write of what is held", |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let busy = rwlock.try_write().await.expect("the server serves");
                assert!(busy.is_none());
            });
        });
        drop(reader);
        group.finish();
        runtime.block_on(target.part()).expect("the sessions end");
    }
    // What no lock of this process can do without.
    let floor = tokio::sync::Mutex::new(());
    criterion.bench_function("tokio's mutex", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || drop(floor.lock().await));
    });
    criterion.final_summary();
}
