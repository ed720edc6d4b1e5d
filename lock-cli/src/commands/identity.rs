//! Who we are to others in a queue.

use std::fs;

use rustix::process::geteuid;

/// Where the users of a machine are listed.
const USERS: &str = "/etc/passwd";
/// An owner is not kept longer than this.
const LONGEST: usize = 256;

/// The name of the user that we act as: from this machine's list of users, or else from the
/// environment, which may still tell of who called `su`; or else the number.
///
/// Directory services are not asked: one that does not answer would hold up every lock.
pub fn user() -> String {
    let number = geteuid().as_raw();
    let listed = fs::read(USERS)
        .ok()
        .and_then(|users| named(&String::from_utf8_lossy(&users), number).map(str::to_owned));
    listed
        .or_else(|| ["USER", "LOGNAME"].iter().find_map(|name| told(name)))
        .unwrap_or_else(|| format!("uid:{number}"))
}

fn told(variable: &str) -> Option<String> {
    let text = std::env::var_os(variable)?;
    let name: String = text.to_string_lossy().chars().take(LONGEST).collect();
    Some(name).filter(|name| !name.is_empty())
}

fn named(users: &str, number: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(number) && !name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_first_name_of_its_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\n+::::::\ntoor:x:0:0::/:\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(named(users, 0), Some("root"));
        assert_eq!(named(users, 1000), Some("ann"));
        assert_eq!(named(users, 7), None);
    }
}
