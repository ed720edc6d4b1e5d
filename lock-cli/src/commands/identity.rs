//! Finds the user's name as others in a queue see it.

use std::fs;

use rustix::process::geteuid;

/// The file that lists the users of a machine.
const USERS: &str = "/etc/passwd";
/// The longest name that is passed on, in characters.
const MAX_CHARS: usize = 256;

/// Returns the name of the effective user: from this machine's list of users, or else from the
/// environment, or else the number. The environment comes second because after `su` it may still
/// name the user who called it.
///
/// Directory services are not used: one that does not reply would block every lock.
pub fn user_name() -> String {
    let number = geteuid().as_raw();
    let listed = fs::read(USERS)
        .ok()
        .and_then(|users| find_user(&String::from_utf8_lossy(&users), number).map(str::to_owned));
    listed
        .or_else(|| {
            ["USER", "LOGNAME"]
                .iter()
                .find_map(|name| read_variable(name))
        })
        .unwrap_or_else(|| format!("uid:{number}"))
}

fn read_variable(variable: &str) -> Option<String> {
    let text = std::env::var_os(variable)?;
    let name: String = text.to_string_lossy().chars().take(MAX_CHARS).collect();
    Some(name).filter(|name| !name.is_empty())
}

fn find_user(users: &str, number: u32) -> Option<&str> {
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
        let users = "root:x:0:0:root:/root:/bin/sh\n\n+::::::\n\
                     toor:x:0:0::/:\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(find_user(users, 0), Some("root"));
        assert_eq!(find_user(users, 1000), Some("ann"));
        assert_eq!(find_user(users, 7), None);
    }
}
