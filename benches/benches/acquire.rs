//! An acquire and a release by one client, on each backend that was compiled in, beside the bare
//! requests.

use benches::servers::{self, Server};
use criterion::Criterion;
use load::runtime;

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
    criterion.final_summary();
}
