//! Shares a counter between threads, without an executor.
use std::thread;

use turnlock::{Error, blocking};

pub(crate) fn main() -> Result<(), Error> {
    let locks = blocking::connect("embedded:memory")?;
    let threads = [(); 4].map(|()| {
        let locks = locks.clone();
        thread::spawn(move || -> Result<(), Error> {
            let guard = locks.mutex("counter")?.acquire()?;
            let before = guard.get("count")?.map_or(0, |bytes| bytes.len());
            guard.put("count", "x".repeat(before + 1))?;
            guard.release().map(drop)
        })
    });
    for thread in threads {
        thread.join().expect("no panic")?;
    }
    assert_eq!(locks.get("count")?.as_deref(), Some(&b"xxxx"[..]));
    Ok(())
}
