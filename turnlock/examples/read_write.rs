//! Lets many readers or one writer in, in the order of their arrival.
use turnlock::Error;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Error> {
    let locks = turnlock::connect("embedded:memory")?;
    let config = locks.rwlock("service/config")?;

    let (one, other) = (config.read().await?, config.read().await?);
    assert!(config.try_write().await?.is_none());
    println!("{:?} and {:?} read together", one.token(), other.token());
    drop((one, other));

    let writer = config.write().await?;
    writer.put("service/config", "workers = 4").await?;
    println!(
        "{:?} wrote alone: {:?}",
        writer.token(),
        writer.release().await?
    );
    Ok(())
}
