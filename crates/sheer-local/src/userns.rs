//! Users of a rootless mesh: where the machine gives this user subordinate ids (`/etc/subuid`), the sidecar gets a uid of its own.

use std::{fs, process::Stdio};

use nix::unistd::{User, getgid, getuid};
use sheer_api::names::PROXY_UID;
use tokio::process::Command;

use crate::tools;

/// Ids that are mapped: enough for [`PROXY_UID`] and every usual system user.
const IDS: u32 = 65_536;

/// Maps this user to root and its subordinate ids to 1 and up, in the user namespace of another process. `false` where that
/// cannot be had: the process then maps its own user alone.
pub(crate) async fn map_subordinate_ids(pid: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(getuid()) else {
        return false;
    };
    let ranges = [
        ("newuidmap", "/etc/subuid", getuid().as_raw()),
        ("newgidmap", "/etc/subgid", getgid().as_raw()),
    ];
    for (program, file, own) in ranges {
        let Ok(text) = fs::read_to_string(file) else {
            return false;
        };
        let Some((first, count)) = subordinate_range(&text, &user.name, user.uid.as_raw()) else {
            return false;
        };
        let Some(path) = tools::find(program) else { return false };
        let numbers = [pid, 0, own, 1, 1, first, count.min(IDS - 1)].map(|number| number.to_string());
        let status = Command::new(path)
            .args(numbers)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await;
        if !status.is_ok_and(|status| status.success()) {
            return false;
        }
    }
    true
}

/// The first range of `/etc/subuid` that is this user's and large enough.
fn subordinate_range(text: &str, name: &str, uid: u32) -> Option<(u32, u32)> {
    let uid = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        ((owner == name || owner == uid) && range.1 > PROXY_UID).then_some(range)
    })
}

/// Whether this process is in a user namespace of the mesh: it was started without root.
pub(crate) fn is_rootless() -> bool {
    // The machine's own users are mapped one to one, all of them.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().nth(2) != Some("4294967295"))
}

/// Whether the sidecar's uid exists here: always for the machine's root, else where it was mapped.
pub(crate) fn has_proxy_uid() -> bool {
    let has = |file: &str| fs::read_to_string(file).is_ok_and(|map| maps(&map, PROXY_UID));
    has("/proc/self/uid_map") && has("/proc/self/gid_map")
}

fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        matches!(numbers[..], [first, _, count] if (first..first + count).contains(&u64::from(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_the_user_is_found_by_name_or_number() {
        let text = "ubuntu:100000:65536\nsmall:1:10\n1001:231072:65536\n";
        assert_eq!(subordinate_range(text, "ubuntu", 1000), Some((100_000, 65_536)));
        assert_eq!(subordinate_range(text, "other", 1001), Some((231_072, 65_536)));
        assert_eq!(
            subordinate_range(text, "small", 1002),
            None,
            "too small for the sidecar's uid"
        );
        assert_eq!(subordinate_range(text, "nobody", 65_534), None);
    }

    #[test]
    fn the_map_of_root_and_of_one_user_differ() {
        assert!(maps("         0          0 4294967295\n", 2102));
        assert!(maps("0 1000 1\n1 100000 65535\n", 2102));
        assert!(!maps("0 1000 1\n", 2102));
    }
}
