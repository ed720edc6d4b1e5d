//! Takes a lock on the coordinator of a URL: `TURNLOCK_BACKEND=etcd://HOST cargo run --features
//! etcd --example choose_backend`.
use turnlock::{Error, Release, registry::SCHEMES};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Error> {
    for scheme in SCHEMES.iter().filter(|scheme| scheme.is_compiled_in()) {
        println!("{:<42} {}", scheme.form, scheme.about);
    }
    let url = std::env::var("TURNLOCK_BACKEND").unwrap_or("embedded:memory".into());
    let locks = turnlock::connect(&url)?;
    let guard = locks.mutex("nightly")?.acquire().await?;
    println!("token {} of {}", guard.token(), guard.name());
    assert_eq!(guard.release().await?, Release::Released);
    locks.close().await
}
